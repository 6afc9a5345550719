"""YuNet's files, out of the package and as OpenCV publishes them, become one network for any batch and size."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from faceembed.engine.models import yunet
from faceembed.engine.models.import_file import import_aligner, import_model
from faceembed.engine.models.oneshot import OUTPUTS, REFINED, REFINED_SIDE, STRIDES
from faceembed.engine.models.packages import ACCURATE, package_file
from faceembed.engine.models.pull import pull
from faceembed.engine.models.refiner import FACES
from faceembed.engine.models.registry import info, resolve
from faceembed.engine.runtimes.base import RuntimeChoice
from faceembed.engine.runtimes.sessions import open_session
from faceembed.errors import ModelError

PUBLISHED = Path(__file__).resolve().parents[3].parent / "shared" / "models"
SIDES = (64, 96)


@pytest.fixture(scope="module")
def packaged() -> Path:
    return package_file(yunet.PACKAGE, yunet._FILE, extra=ACCURATE)


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return np.random.default_rng(1).uniform(0, 255, (1, 3, *SIDES)).astype(np.float32)


def published(year: str) -> Path:
    path = PUBLISHED / f"face_detection_yunet_{year}.onnx"
    if not path.is_file():
        pytest.skip(f"{path} is not here")
    return path


def by_definition(path: Path, pixels: np.ndarray) -> list[np.ndarray]:
    """What ONNX says that a file as published gives, in the form of ours: scores as logits, a grid a stride."""
    proto = onnx.load(path)
    (given,) = [value for value in proto.graph.input if value.name == "input"]
    for place, side in ((2, SIDES[0]), (3, SIDES[1])):  # nothing in it needs 640
        given.type.tensor_type.shape.dim[place].dim_value = side
    names = [f"{part}_{stride}" for stride in STRIDES for part in yunet.PARTS]
    answers = dict(zip(names, ReferenceEvaluator(proto).run(names, {"input": pixels}), strict=True))
    levels = []
    for stride in STRIDES:
        columns = []
        for part in yunet.PARTS:
            rows = answers[f"{part}_{stride}"][0].astype(np.float64)
            columns.append(np.log(rows / (1 - rows)) if part in ("cls", "obj") else rows)
        grid = np.concatenate(columns, 1).reshape(SIDES[0] // stride, SIDES[1] // stride, -1)
        levels.append(grid.transpose(2, 0, 1)[None])
    return levels


def run(data: bytes, pixels: np.ndarray) -> list[np.ndarray]:
    import onnxruntime

    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    faces = np.zeros((1, 3, REFINED_SIDE, REFINED_SIDE), np.float32)
    return list(session.run(list(OUTPUTS), {"input": pixels, FACES: faces}))


def test_the_package_s_file_computes_what_onnx_says_of_it(packaged: Path, pixels: np.ndarray) -> None:
    """Its weights are whole numbers in blocks, which ONNX Runtime refuses."""
    for mine, wanted in zip(run(yunet.rewrite(packaged), pixels), by_definition(packaged, pixels), strict=True):
        assert mine.shape == wanted.shape
        np.testing.assert_allclose(mine, wanted, atol=2e-3)


@pytest.mark.parametrize("year", ["2023mar", "2026may"])
def test_published_files_compute_what_onnx_says_of_them(year: str, pixels: np.ndarray) -> None:
    path = published(year)
    for mine, wanted in zip(run(yunet.rewrite(path), pixels), by_definition(path, pixels), strict=True):
        np.testing.assert_allclose(mine, wanted, atol=2e-3)


def test_both_published_files_are_one_network() -> None:
    """Fixed at 640 or not: the same graph, but for its names."""
    first, second = (onnx.load_from_string(yunet.rewrite(published(year))) for year in ("2023mar", "2026may"))
    for proto in (first, second):
        assert [dim.dim_param for dim in proto.graph.input[0].type.tensor_type.shape.dim][::2] == ["N", "H"]
    assert [node.op_type for node in first.graph.node] == [node.op_type for node in second.graph.node]


def test_its_refiner_is_the_built_in_aligner_s() -> None:
    """Each file takes its own kind of pixels; shown the same picture, both say the same."""
    choice = RuntimeChoice("onnxruntime", "cpu", "fp32", "a test")
    crops = np.random.default_rng(2).integers(0, 256, (3, REFINED_SIDE, REFINED_SIDE, 3), dtype=np.uint8)
    answers = [
        open_session(resolve(name, task="aligner"), choice, outputs=(REFINED,), threads=1).run(crops)[0]
        for name in ("yunet", "faceembed-align")
    ]
    np.testing.assert_allclose(answers[0], answers[1], atol=1e-4)
    assert np.abs(answers[0]).max() > 0.1


def test_heads_of_another_form_are_put_side_by_side(packaged: Path, pixels: np.ndarray, tmp_path: Path) -> None:
    """A step between convolution and flattening: what is joined in one step elsewhere stays as it is, and says the same."""
    proto = onnx.load(packaged)
    nodes = list(proto.graph.node)
    place = next(index for index, node in enumerate(nodes) if node.op_type == "Transpose")
    nodes.insert(place, onnx.helper.make_node("Relu", [nodes[place].input[0]], ["not negative"]))
    nodes[place + 1].input[0] = "not negative"
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    onnx.save(proto, tmp_path / "other.onnx")
    joined, other = (run(yunet.rewrite(path), pixels) for path in (packaged, tmp_path / "other.onnx"))
    joined[0][:, 0] = np.maximum(joined[0][:, 0], 0)
    for one, two in zip(joined, other, strict=True):
        np.testing.assert_allclose(one, two, atol=1e-4)


def test_any_batch_and_size(packaged: Path, pixels: np.ndarray) -> None:
    data = yunet.rewrite(packaged)
    alone = run(data, pixels)
    batch = run(data, np.concatenate([pixels * 0.5, pixels, pixels[:, :, ::-1]]))
    for one, many in zip(alone, batch, strict=True):
        np.testing.assert_allclose(many[1:2], one, atol=1e-3)
    assert [level.shape for level in run(data, np.zeros((2, 3, 32, 160), np.float32))] == [
        (2, yunet.CHANNELS, 32 // stride, 160 // stride) for stride in STRIDES
    ]


@pytest.mark.usefixtures("model_home")
@pytest.mark.parametrize("year", ["2023mar", "2026may"])
def test_a_published_file_brought_by_hand_is_ready(year: str) -> None:
    name = f"yunet-{year}"
    assert pull(name, file=published(year)).state == "ready"
    spec = resolve(name, task="aligner").spec
    assert (spec.decoder, spec.colour, spec.min_score) == ("yunet", "bgr", yunet.SPEC.min_score)


@pytest.mark.usefixtures("model_home")
def test_a_yunet_of_ones_own(packaged: Path) -> None:
    model = import_aligner(packaged, arch="yunet", name="mine")
    assert resolve("mine", task="aligner") == model and info("mine").state == "ready"
    with pytest.raises(ModelError, match="already"):
        import_aligner(packaged, arch="yunet", name="mine")
    for known in ("yunet", "yunet-2026may"):
        with pytest.raises(ModelError, match="known model"):
            import_aligner(packaged, arch="yunet", name=known)


@pytest.mark.usefixtures("model_home")
def test_what_is_no_yunet_and_what_is_no_encoder(packaged: Path, tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("no model")
    with pytest.raises(ModelError, match=r"text\.onnx is a text file"):
        import_aligner(tmp_path / "text.onnx", arch="yunet", name="mine")
    with pytest.raises(ModelError, match="it has no output 'cls_8'"):
        import_aligner(resolve("dlib-resnet", task="encoder").path, arch="yunet", name="mine")
    mtcnn = resolve("mtcnn", task="aligner").path
    with pytest.raises(ModelError, match=re.escape("is not YuNet: it has 3 inputs")):
        import_aligner(mtcnn, arch="yunet", name="mine")
    with pytest.raises(ModelError, match="is YuNet, an aligner; import it with --arch yunet"):
        import_model(packaged, name="mine", colour="bgr", mean=(0, 0, 0), scale=1)
    with pytest.raises(ModelError, match=r"computes with whole numbers .*float32 file"):
        import_aligner(published("2023mar_int8"), arch="yunet", name="mine")
