"""SCRFD and RetinaFace, rewritten, beside what their own files and networks answer."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

from faceembed.engine.detect.anchored import decode_retinaface, decode_scrfd
from faceembed.engine.detect.detections import Detections
from faceembed.engine.detect.kinds import open_detector
from faceembed.engine.models import retinaface, scrfd
from faceembed.engine.models.graph import GraphWriter
from faceembed.engine.models.import_file import import_aligner
from faceembed.engine.models.oneshot import OUTPUTS, REFINED, STRIDES
from faceembed.engine.models.registry import resolve
from faceembed.engine.models.spec import Model, ModelSpec
from faceembed.engine.runtimes.base import RuntimeChoice
from faceembed.engine.runtimes.sessions import open_session
from faceembed.errors import ModelError

CHECKPOINT = Path(__file__).resolve().parents[3].parent / "shared" / "models" / "retinaface_mobilenet0.25_Final.pth"
RUNTIMES = ("openvino", "onnxruntime")


def answers(data: bytes, spec: ModelSpec, runtime: str, canvas: NDArray[np.uint8], folder: Path) -> Any:
    path = folder / "model.onnx"
    path.write_bytes(data)
    choice = RuntimeChoice(runtime, "cpu", "fp32", "a test")
    return open_session(Model(spec, path), choice, outputs=OUTPUTS, threads=1).run(canvas)


def assert_same(found: Detections, boxes: Any, points: Any, scores: Any) -> None:
    """Each anchor's answer has its twin, whatever the order."""
    assert len(found) == len(scores) > 0
    mine, theirs = (np.lexsort(np.round(values[:, :2].T, 1)) for values in (found.boxes, boxes))
    for row, (a, b) in enumerate(zip(mine, theirs, strict=True)):
        near = (
            int(np.abs(found.boxes - boxes[b]).max(1).argmin()) if np.abs(found.boxes[a] - boxes[b]).max() > 0.01 else a
        )
        np.testing.assert_allclose(found.boxes[near], boxes[b], atol=0.01, err_msg=str(row))
        np.testing.assert_allclose(found.landmarks[near], points[b], atol=0.01)
        assert found.scores[near] == pytest.approx(scores[b], abs=1e-4)


# --- SCRFD: a made file in the form of InsightFace's ------------------------------------------------------------------


def scrfd_file(path: Path, *, fixed: bool = False, points: bool = True, batched: bool = True, strides: int = 3) -> Path:
    """A small network with random weights that ends, and enlarges its pyramid, as theirs does."""
    rng = np.random.default_rng(1)
    writer = GraphWriter("theirs")

    def conv(x: str, given: int, out: int, *, stride: int = 1, side: int = 3) -> str:
        weight = rng.normal(0, (2 / (given * side * side)) ** 0.5, (out, given, side, side))
        return writer.conv(x, weight, rng.normal(0, 0.1, out), stride=stride, pad=side // 2)

    size = (96, 128)
    x = writer.input("input.1", [1, 3, *(size if fixed else ("?", "?"))])
    maps = []
    for width, given in ((8, 3), (12, 8), (16, 12), (16, 16), (16, 16)):
        x = writer.node("Relu", [conv(x, given, width, stride=2)])
        maps.append(x)
    levels = maps[-3:]
    for index in (1, 0):
        if fixed:
            sides = writer.constant(np.array([1, 16, *(side // STRIDES[index] for side in size)], np.int64))
        else:
            sides = writer.node("Shape", [levels[index]])
        larger = writer.node(
            "Resize",
            [levels[index + 1], "", "", sides],
            mode="nearest",
            coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        )
        levels[index] = writer.node("Add", [levels[index], larger])
    ends: dict[int, list[str]] = {1: [], 4: [], 10: []}
    for x in levels[:strides]:
        for count, names in ends.items():
            said = conv(x, 16, 2 * count)
            said = writer.node("Mul", [said, writer.constant(np.float32([1.5]))]) if count == 4 else said
            said = writer.node("Transpose", [said], perm=[0, 2, 3, 1])
            shape = [1, -1, count] if batched else [-1, count]
            said = writer.node("Reshape", [said, writer.constant(np.array(shape, np.int64))])
            names.append(writer.node("Sigmoid", [said]) if count == 1 else said)
    for count, names in ends.items():
        for number, name in enumerate(names if points or count != 10 else []):
            writer.output(name, str(1000 + 20 * number + count), [1, "?", count] if batched else ["?", count])
    path.write_bytes(writer.serialise())
    return path


def theirs(path: Path, photo: NDArray[np.uint8], least: float) -> tuple[Any, Any, Any]:
    """insightface model_zoo/scrfd.py, `forward`."""
    session = onnxruntime.InferenceSession(path.read_bytes())
    pixels = ((photo.astype(np.float32) - 127.5) / 128).transpose(2, 0, 1)[None]
    said = [out.reshape(-1, out.shape[-1]) for out in session.run(None, {session.get_inputs()[0].name: pixels})]
    boxes, points, scores = [], [], []
    for level, stride in enumerate(STRIDES):
        rows, columns = photo.shape[0] // stride, photo.shape[1] // stride
        centres = np.stack(np.mgrid[:rows, :columns][::-1], -1).astype(np.float32) * stride
        centres = np.stack([centres.reshape(-1, 2)] * 2, 1).reshape(-1, 2)
        score, side, way = (said[level + 3 * group] for group in range(3))
        sure = score[:, 0] >= least
        boxes.append(np.concatenate([centres - side[:, :2] * stride, centres + side[:, 2:] * stride], 1)[sure])
        points.append((centres[:, None] + way.reshape(-1, 5, 2) * stride)[sure])
        scores.append(score[sure, 0])
    return np.concatenate(boxes), np.concatenate(points), np.concatenate(scores)


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("options", [{}, {"fixed": True}, {"batched": False}], ids=str)
def test_scrfd_answers_as_its_file_does(tmp_path: Path, options: dict[str, bool], runtime: str) -> None:
    path = scrfd_file(tmp_path / "theirs.onnx", **options)
    photo = np.random.default_rng(2).integers(0, 256, (96, 128, 3), np.uint8)
    levels = answers(scrfd.rewrite(path), scrfd.SPEC, runtime, photo[None], tmp_path)
    boxes, points, scores = theirs(path, photo, 0.5)
    assert_same(decode_scrfd(levels, 0.5), boxes, points, scores)


def test_scrfd_takes_any_batch_and_size(tmp_path: Path) -> None:
    data = scrfd.rewrite(scrfd_file(tmp_path / "theirs.onnx", fixed=True))
    canvases = np.random.default_rng(3).integers(0, 256, (3, 64, 160, 3), np.uint8)
    together = answers(data, scrfd.SPEC, "onnxruntime", canvases, tmp_path)
    for index in range(3):
        alone = answers(data, scrfd.SPEC, "onnxruntime", canvases[index : index + 1], tmp_path)
        for whole, one in zip(together, alone, strict=True):
            np.testing.assert_allclose(whole[index], one[0], atol=1e-5)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"points": False}, "SCRFD without five points, by which faces are aligned; take a file named 'bnkps'"),
        ({"strides": 2}, "not SCRFD with three strides: it has 2 outputs of scores, 2 of boxes, 2 of points"),
    ],
)
def test_what_is_no_scrfd_is_refused(tmp_path: Path, options: dict[str, Any], said: str) -> None:
    with pytest.raises(ModelError, match=said):
        scrfd.rewrite(scrfd_file(tmp_path / "theirs.onnx", **options))
    with pytest.raises(ModelError, match="is not SCRFD"):
        scrfd.rewrite(Path(resolve("faceembed-r29", task="encoder").path))


# --- RetinaFace -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The published checkpoint, or where that is not at hand one with random weights."""
    if CHECKPOINT.exists():
        return CHECKPOINT
    return made(tmp_path_factory.mktemp("retinaface") / "small.pth", large=False)


def made(path: Path, *, large: bool) -> Path:
    torch = pytest.importorskip("torch")
    from tests.engine.models.retinaface_torch import RetinaFace

    torch.manual_seed(3)
    network = RetinaFace(large=large)
    for name, values in network.named_buffers():
        if name.endswith("running_var"):
            values.uniform_(0.5, 2)
        elif name.endswith("running_mean"):
            values.normal_(0, 0.1)
    torch.save({f"module.{name}": values for name, values in network.state_dict().items()}, path)
    return path


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("size", [(512, 512), (256, 384)])
def test_the_small_retinaface_answers_as_its_network_does(
    small: Path, astronaut: NDArray[np.uint8], size: tuple[int, int], runtime: str, tmp_path: Path
) -> None:
    torch = pytest.importorskip("torch")
    import cv2

    from tests.engine.models.retinaface_torch import RetinaFace, faces

    network = RetinaFace(large=False)
    state = torch.load(small, map_location="cpu", weights_only=True)
    network.load_state_dict({name.removeprefix("module."): values for name, values in state.items()}, strict=True)
    photo = cv2.resize(astronaut, size[::-1], interpolation=cv2.INTER_AREA)
    data, spec = retinaface.build(small)
    found = decode_retinaface(answers(data, spec, runtime, photo[None], tmp_path), 0.4)
    assert_same(found, *faces(network, photo, 0.4))


def test_the_large_retinaface_answers_as_its_network_does(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from tests.engine.models.retinaface_torch import RetinaFace, faces

    path = made(tmp_path / "large.pth", large=True)
    network = RetinaFace(large=True)
    state = torch.load(path, map_location="cpu", weights_only=True)
    network.load_state_dict({name.removeprefix("module."): values for name, values in state.items()}, strict=True)
    photo = np.random.default_rng(4).integers(0, 256, (64, 96, 3), np.uint8)
    data, spec = retinaface.build(path)
    assert spec.name == "retinaface-resnet50"
    found = decode_retinaface(answers(data, spec, "onnxruntime", photo[None], tmp_path), 0.3)
    assert_same(found, *faces(network, photo, 0.3))


def test_other_checkpoints_are_refused(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    torch.save({"body.stage1.0.0.weight": torch.zeros(8, 3, 3, 3)}, tmp_path / "part.pth")
    with pytest.raises(ModelError, match=r"not a checkpoint of Pytorch_Retinaface: it has no 'body\.stage1"):
        retinaface.build(tmp_path / "part.pth")
    state = torch.load(made(tmp_path / "small.pth", large=False), weights_only=True)
    torch.save({**state, "module.more": torch.zeros(1)}, tmp_path / "more.pth")
    with pytest.raises(ModelError, match="holds 1 weights that RetinaFace has not, such as 'more'"):
        retinaface.build(tmp_path / "more.pth")


@pytest.mark.skipif(not CHECKPOINT.exists(), reason="the published weights are not at hand")
def test_an_imported_retinaface_finds_the_astronaut(
    astronaut: NDArray[np.uint8], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FACEEMBED_HOME", str(tmp_path))
    model = import_aligner(CHECKPOINT, arch="retinaface", name="mine")
    assert model.spec.decoder == "retinaface"
    detector = open_detector(
        resolve("mine", task="aligner"), RuntimeChoice("openvino", "cpu", "fp32", "a test"), threads=1
    )
    found = detector.detect([astronaut], [20.0], only_largest=True)
    assert len(found) == 1 and found.scores[0] > 0.9
    np.testing.assert_allclose(found.landmarks[0, :2], [(203.7, 102.8), (245.0, 104.2)], atol=4)
    assert dataclasses.is_dataclass(found)


def test_a_made_scrfd_is_looked_through_by_its_own_decoder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, astronaut: NDArray[np.uint8]
) -> None:
    """What it says is noise, in its own number of channels: whoever reads it as another network's cannot."""
    monkeypatch.setenv("FACEEMBED_HOME", str(tmp_path))
    import_aligner(scrfd_file(tmp_path / "theirs.onnx"), arch="scrfd", name="mine")
    model = resolve("mine", task="aligner")
    assert model.spec.min_score == 0.5
    detector = open_detector(model, RuntimeChoice("onnxruntime", "cpu", "fp32", "a test"), threads=1)
    found = detector.detect([astronaut], [20.0], only_largest=False)
    assert len(found) > 0 and found.landmarks.shape == (len(found), 5, 2)


def test_the_refiner_sees_the_same_pixels_in_every_file(
    small: Path, tmp_path: Path, astronaut: NDArray[np.uint8]
) -> None:
    """Whatever a file's own network takes: BGR less a mean, RGB from -1 to 1, or as the built-in aligner's."""
    crops = np.stack([astronaut[y : y + 56, 190 : 190 + 56] for y in (70, 90, 110)])
    choice = RuntimeChoice("onnxruntime", "cpu", "fp32", "a test")
    (expected,) = open_session(resolve("faceembed-align", task="aligner"), choice, outputs=(REFINED,), threads=1).run(
        crops
    )
    files = (scrfd.rewrite(scrfd_file(tmp_path / "theirs.onnx")), scrfd.SPEC), retinaface.build(small)
    for data, spec in files:
        path = tmp_path / f"{spec.decoder}.onnx"
        path.write_bytes(data)
        (seen,) = open_session(Model(spec, path), choice, outputs=(REFINED,), threads=1).run(crops)
        np.testing.assert_allclose(seen, expected, atol=2e-3)
