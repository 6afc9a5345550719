"""CVLface's DFA, rewritten, beside its network in PyTorch: of the published names and shapes, with weights made here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from faceembed.engine.detect.dfa import DfaDetector
from faceembed.engine.detect.kinds import open_detector
from faceembed.engine.models import dfa, retinaface
from faceembed.engine.models.import_file import import_aligner
from faceembed.engine.models.registry import resolve
from faceembed.engine.pipeline import loading
from faceembed.engine.pipeline.settings import EmbedSettings
from faceembed.engine.runtimes.base import RuntimeChoice
from faceembed.errors import ModelError, UsageError

RUNTIMES = ("openvino", "onnxruntime")


def made(*, large: bool) -> Any:
    """The network with weights of a seed, its answers spread over its anchors."""
    torch = pytest.importorskip("torch")
    from tests.engine.models.retinaface_torch import Dfa

    torch.manual_seed(5)
    network = Dfa(large=large)
    for name, values in network.named_buffers():
        if name.endswith("running_var"):
            values.uniform_(0.5, 2)
        elif name.endswith("running_mean"):
            values.normal_(0, 0.1)
    with torch.no_grad():
        network.aggregator[-1].weight.mul_(8)  # so that some anchors count for more
    return network.eval()


def as_safetensors(path: Path, state: dict[str, Any]) -> Path:
    """As huggingface/safetensors describes the format."""
    kinds = {"float32": "F32", "int64": "I64"}
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    data = b""
    for name, values in state.items():
        array = values.numpy()
        header[name] = {
            "dtype": kinds[array.dtype.name],
            "shape": list(array.shape),
            "data_offsets": [len(data), len(data) + array.nbytes],
        }
        data += array.tobytes()
    words = json.dumps(header).encode()
    path.write_bytes(len(words).to_bytes(8, "little") + words + data)
    return path


@pytest.fixture(scope="module")
def network() -> Any:
    return made(large=False)


@pytest.fixture(scope="module")
def file(network: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As Hugging Face has it: the aligner in a wrapper."""
    path = tmp_path_factory.mktemp("dfa") / "model.safetensors"
    return as_safetensors(path, {f"model.net.{name}": values for name, values in network.state_dict().items()})


@pytest.fixture
def kept(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("FACEEMBED_HOME", str(tmp_path))
    return import_aligner(file, arch="dfa", name="dfa")


def detector_of(runtime: str) -> DfaDetector:
    opened = open_detector(resolve("dfa", task="aligner"), RuntimeChoice(runtime, "cpu", "fp32", "a test"), threads=1)
    assert isinstance(opened, DfaDetector)
    return opened


def theirs(network: Any, photo: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32], float]:
    """`DifferentiableFaceAligner.forward` up to the five points: preprocessor, network, `split_network_output`."""
    import torch
    from torch.nn import functional

    height, width = photo.shape[:2]
    side, left, top = max(height, width), max(0, height - width) // 2, max(0, width - height) // 2
    x = torch.from_numpy(photo.transpose(2, 0, 1)[None].copy()).float() / 127.5 - 1
    x = functional.pad(x, (left, side - width - left, top, side - height - top), value=-1.0)
    x = functional.interpolate(x, size=(160, 160), mode="bilinear", align_corners=True)
    with torch.no_grad():
        said = network(x.flip(1))[0]
    box, scores, points = said[:4].numpy(), functional.softmax(said[4:6], -1), said[6:].numpy()
    shift = np.array([left, top])
    return box.reshape(2, 2) * side - shift, points.reshape(5, 2) * side - shift, float(scores[1])


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_it_answers_as_its_network_does(network: Any, kept: Any, astronaut: NDArray[np.uint8], runtime: str) -> None:
    """Photos that are enlarged, so that the pixels are theirs: square, upright, flat; more than one a batch."""
    sizes = [(160, 160), (112, 112), (150, 100), (81, 140), (33, 32)]
    photos = [cv2.resize(astronaut[y:, y:], size[::-1], interpolation=cv2.INTER_AREA) for y, size in enumerate(sizes)]
    found = detector_of(runtime).answers(photos)
    assert found.photo.tolist() == list(range(len(photos)))
    spread = []
    for index, photo in enumerate(photos):
        box, points, score = theirs(network, photo)
        assert np.abs(found.boxes[index].reshape(2, 2) - box).max() < 0.2
        assert np.abs(found.landmarks[index] - points).max() < 0.2
        assert found.scores[index] == pytest.approx(score, abs=1e-3)
        spread.append(points / max(photo.shape))
    assert np.ptp(np.array(spread), axis=0).max() > 0.001  # a network that sees the pixels


def test_a_photo_that_is_made_smaller_is_antialiased(network: Any, kept: Any, astronaut: NDArray[np.uint8]) -> None:
    """Theirs takes every third pixel of this one; ours is what theirs says of the photo scaled well."""
    found = detector_of("onnxruntime").answers([astronaut])
    box, points, _ = theirs(network, cv2.resize(astronaut, (160, 160), interpolation=cv2.INTER_AREA))
    assert np.abs(found.boxes[0].reshape(2, 2) - box * 3.2).max() < 2
    assert np.abs(found.landmarks[0] - points * 3.2).max() < 2


@pytest.mark.parametrize(
    ("prefix", "large"), [("", False), ("net.", False), ("net.", True)], ids=["network", "aligner", "resnet50"]
)
def test_every_form_of_its_checkpoints(tmp_path: Path, network: Any, prefix: str, large: bool) -> None:
    torch = pytest.importorskip("torch")
    import onnxruntime

    other = made(large=True) if large else network
    path = tmp_path / "model.pt"
    torch.save({prefix + name: values for name, values in other.state_dict().items()}, path)
    data, spec = dfa.build(path)
    assert spec.name == ("dfa-resnet50" if large else "dfa-mobilenet")
    assert (spec.decoder, spec.min_score, spec.licence) == ("dfa", None, "MIT")
    pixels = np.random.default_rng(1).uniform(-1, 1, (2, 3, 160, 160)).astype(np.float32)
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    crops = np.zeros((1, 3, 56, 56), np.float32)  # of the refiner in the same file
    (mine,) = session.run(["face"], {"input": pixels, "faces": crops})
    with torch.no_grad():
        said = other(torch.from_numpy(pixels)).numpy()
    np.testing.assert_allclose(mine[:, 0], said[:, 5] - said[:, 4], atol=2e-3)
    np.testing.assert_allclose(mine[:, 1:], said[:, [0, 1, 2, 3, *range(6, 16)]], atol=1e-3)


def test_every_photo_has_one_face_whatever_is_asked(kept: Any, astronaut: NDArray[np.uint8]) -> None:
    detector = detector_of("onnxruntime")
    photos = [astronaut, astronaut[:200], np.zeros((40, 60, 3), np.uint8)]
    for only_largest in (True, False):
        found = detector.detect(photos, [0.0, 0.0, 0.0], only_largest=only_largest)
        assert found.photo.tolist() == [0, 1, 2] and np.isfinite(found.landmarks).all()
    assert len(detector.detect(photos, [1e4] * 3, only_largest=True)) == 0  # none so large is in it
    assert len(detector.detect([], [], only_largest=True)) == 0
    assert np.allclose(detector.exact().answers(photos).boxes, detector.answers(photos).boxes, atol=1e-3)
    resolved = loading.resolve_aligner(EmbedSettings(aligner="dfa"))
    assert resolved is not None and resolved.spec.decoder == "dfa"


def test_a_size_to_look_at_is_refused(kept: Any) -> None:
    with pytest.raises(UsageError, match="aligner 'dfa' takes pictures of one size; leave --detect-size out"):
        open_detector(
            resolve("dfa", task="aligner"),
            RuntimeChoice("onnxruntime", "cpu", "fp32", "a test"),
            threads=1,
            detect_size=640,
        )


def test_other_files_are_refused(tmp_path: Path, network: Any, file: Path) -> None:
    torch = pytest.importorskip("torch")
    state = network.state_dict()
    with pytest.raises(ModelError, match=r"is no RetinaFace alone but CVLface's DFA, .*; take --arch dfa"):
        retinaface.build(file)
    plain = {name: values for name, values in state.items() if not name.startswith("aggregator")}
    for content, said in [
        (plain, r"not a checkpoint of CVLface's DFA: it has no 'aggregator\.0\.norm1\.weight'"),
        ({**state, "more": torch.zeros(1)}, "holds 1 weights that DFA has not, such as 'more'"),
        ({"weight": torch.zeros(1)}, "is not a checkpoint of CVLface's DFA: it has no 'body' of a network"),
    ]:
        torch.save(content, tmp_path / "other.pt")
        with pytest.raises(ModelError, match=said):
            dfa.build(tmp_path / "other.pt")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda data: data[:-4], "lies outside of the file"),
        (lambda data: data.replace(b'"F32"', b'"F99"', 1), "holds numbers of kind F99"),
        (lambda data: data[:3000], "is damaged"),
        (lambda data: data.replace(b'"shape"', b'"shabe"', 1), "is damaged: 'shape'"),
    ],
    ids=["short", "kind", "header", "names"],
)
def test_a_damaged_safetensors_file_is_one_line(file: Path, tmp_path: Path, change: Any, said: str) -> None:
    path = tmp_path / "broken.safetensors"
    path.write_bytes(change(file.read_bytes()))
    with pytest.raises(ModelError, match=said) as caught:
        dfa.build(path)
    assert "\n" not in str(caught.value)
