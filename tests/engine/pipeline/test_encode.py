"""The encoder and its parity gate: a precision that is off never computes an index, whoever asked for it."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from faceembed.engine.models.spec import Model
from faceembed.engine.photos.listing import list_photos
from faceembed.engine.photos.photo_file import PhotoFile
from faceembed.engine.pipeline import encode as module
from faceembed.engine.pipeline import loading
from faceembed.engine.pipeline.encode import Encoder
from faceembed.engine.pipeline.settings import EmbedSettings
from faceembed.engine.runtimes import openvino
from faceembed.engine.runtimes.base import RuntimeChoice, Session
from faceembed.engine.runtimes.choose import RuntimeSettings
from faceembed.errors import DeviceError

FAST = RuntimeChoice("openvino", "cpu", "bf16", "test")
EXACT = dataclasses.replace(FAST, precision="fp32")


class Double(Session):
    """A network whose bf16 output is turned away from its fp32 output, each face in a direction of its own: by ``off`` of its length."""

    def __init__(self, choice: RuntimeChoice, off: float, dimension: int) -> None:
        self.choice = choice
        self.dimension = dimension
        self.off = 0.0 if choice.precision == "fp32" else off
        self.batches: list[int] = []

    def run(self, pixels: np.ndarray) -> tuple[np.ndarray, ...]:
        self.batches.append(len(pixels))
        return (np.stack([self.embed(chip) for chip in pixels]),)

    def embed(self, chip: np.ndarray) -> np.ndarray:
        mean = chip.reshape(-1, 3).astype(np.float64).mean(0) + 1
        row = np.zeros(self.dimension, np.float32)
        row[:3] = 7 * mean / np.linalg.norm(mean)
        away = np.random.default_rng(int(chip.sum())).normal(size=self.dimension)
        row += (7 * self.off * away / np.linalg.norm(away)).astype(np.float32)
        return np.asarray(row * np.float32(7 / np.linalg.norm(row)), np.float32)


@pytest.fixture
def parity(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[float], list[Double]]:
    """`parity(0.1)` makes every encoder session a double, and gives the list of those opened."""
    monkeypatch.setenv("FACEEMBED_HOME", str(tmp_path / "home"))

    def use(value: float) -> list[Double]:
        opened: list[Double] = []

        def open_session(model: Model, choice: RuntimeChoice, **_: Any) -> Session:
            opened.append(Double(choice, value, model.spec.dimension))
            return opened[-1]

        monkeypatch.setattr(module, "open_session", open_session)
        return opened

    return use


@pytest.fixture
def bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor that has it, whether this one does or not; the detector's networks compute in fp32 all the same."""
    monkeypatch.setattr(openvino, "supported_precisions", lambda: ("bf16", "fp32"))
    monkeypatch.setitem(openvino._HINTS, "bf16", "f32")


def chips(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 150, 150, 3), dtype=np.uint8)


def test_fast_precision_must_pass_first(encoder_model: Model, parity: Any) -> None:
    parity(0.005)
    encoder = Encoder(encoder_model, FAST, threads=1)
    assert not encoder.admitted
    with pytest.raises(DeviceError, match="bf16 has not passed the precision gate"):
        encoder.encode(chips(1))
    said = encoder.admit(chips(3))
    assert re.match(
        r"BF16 moves similarities by [\d.]+ % of the strangers' spread \(largest \d+(\.\d)? %\): used", said
    )
    assert said.endswith("(measured on 3 faces and 16 drawn faces against 64 templates)")
    assert encoder.admitted
    vectors, norms = encoder.encode(chips(5))
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(norms, 7, atol=1e-4)


@pytest.mark.parametrize("value", [0.08, 0.5, -1.0, float("nan")])
def test_a_precision_that_is_off_is_refused(encoder_model: Model, parity: Any, value: float) -> None:
    parity(value)
    encoder = Encoder(encoder_model, FAST, threads=1)
    with pytest.raises(
        DeviceError,
        match=encoder_model.spec.name
        + r": BF16 (moves .*allowed are 3 % and 25 %|loses .* 20 of 20 faces).*--precision fp32",
    ):
        encoder.admit(chips(4))
    assert not encoder.admitted
    with pytest.raises(DeviceError):
        encoder.encode(chips(1))
    assert not Encoder(encoder_model, FAST, threads=1).admitted  # nothing was remembered


def test_a_passed_gate_is_remembered_for_this_model_only(encoder_model: Model, parity: Any, tmp_path: Path) -> None:
    parity(0.005)
    Encoder(encoder_model, FAST, threads=1).admit(chips(4))
    assert Encoder(encoder_model, FAST, threads=1).admitted
    other = Model(dataclasses.replace(encoder_model.spec, sha256="f" * 64), encoder_model.path)
    assert not Encoder(other, FAST, threads=1).admitted
    (entry,) = json.loads((tmp_path / "home" / "parity.json").read_text()).values()
    assert (entry["faces"], entry["drawn"], entry["exact_layers"]) == (20, 16, 0)
    assert 0 < entry["rms"] < 0.03 and entry["spread"] == encoder_model.spec.spread


@pytest.mark.parametrize("text", ["", "[]", "{", '{"a": 1}'])
def test_a_damaged_memory_asks_the_gate_again(encoder_model: Model, parity: Any, tmp_path: Path, text: str) -> None:
    parity(0.005)
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "parity.json").write_text(text)
    encoder = Encoder(encoder_model, FAST, threads=1)
    assert not encoder.admitted
    encoder.admit(chips(2))
    assert Encoder(encoder_model, FAST, threads=1).admitted


def test_a_home_that_cannot_be_written_to(encoder_model: Model, parity: Any, tmp_path: Path) -> None:
    parity(0.005)
    (tmp_path / "home").write_text("a file where the folder should be")
    encoder = Encoder(encoder_model, FAST, threads=1)
    encoder.admit(chips(2))
    assert encoder.admitted


def test_a_remembered_failure_does_not_admit(encoder_model: Model, parity: Any, tmp_path: Path) -> None:
    parity(0.005)
    Encoder(encoder_model, FAST, threads=1).admit(chips(2))
    path = tmp_path / "home" / "parity.json"
    known = json.loads(path.read_text())
    for entry in known.values():
        entry["rms"] = 0.2
    path.write_text(json.dumps(known))
    assert not Encoder(encoder_model, FAST, threads=1).admitted


def test_first_layers_in_fp32_where_bf16_alone_fails(
    encoder_model: Model, parity: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The fewest that help are taken, said, and remembered; a cut that is not there is passed over."""
    asked: list[int] = []

    def open_session(model: Model, choice: RuntimeChoice, **_: Any) -> Session:
        asked.append(choice.exact_layers)
        if choice.exact_layers == 2:
            raise DeviceError("cannot be cut there")
        return Double(choice, {0: 0.1, 1: 0.08, 4: 0.005}[choice.exact_layers], model.spec.dimension)

    parity(0)
    monkeypatch.setattr(module, "open_session", open_session)
    encoder = Encoder(encoder_model, FAST, threads=1)
    assert encoder.admit(chips(9)).startswith("BF16 behind 4 layers in FP32 moves similarities by ")
    assert (encoder.choice.exact_layers, encoder.choice.precision) == (4, "bf16")
    assert asked == [0, 0, 1, 2, 4]  # bf16, fp32, and the tries
    again = Encoder(encoder_model, FAST, threads=1)
    assert again.admitted and again.choice == encoder.choice and asked[5:] == [4]


def test_fp32_needs_no_gate(encoder_model: Model, parity: Any) -> None:
    opened = parity(0.1)
    assert Encoder(encoder_model, EXACT, threads=1).encode(chips(70))[0].shape == (70, encoder_model.spec.dimension)
    assert sum(opened[-1].batches) >= 70
    assert max(opened[-1].batches) <= 32


def test_no_faces_are_no_embeddings(encoder_model: Model, parity: Any) -> None:
    opened = parity(0)
    vectors, norms = Encoder(encoder_model, EXACT, threads=1).encode(chips(0))
    assert (vectors.shape, norms.shape) == ((0, encoder_model.spec.dimension), (0,))
    assert vectors.dtype == np.float32
    assert opened[-1].batches == []


@pytest.mark.parametrize(
    ("count", "batches"), [(1, [1]), (3, [4]), (11, [12]), (13, [16]), (16, [16]), (35, [16, 16, 4])]
)
def test_few_empty_chips_fill_a_batch_up(encoder_model: Model, parity: Any, count: int, batches: list[int]) -> None:
    """A server's batches have 8 to 16 faces: filled up to 16, a third of the network's time was for nobody."""
    opened = parity(0)
    vectors, _ = Encoder(encoder_model, EXACT, threads=1).encode(chips(count))
    assert len(vectors) == count
    assert opened[-1].batches == batches


def test_a_vector_of_zeros_stays_finite(encoder_model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    class Silent(Double):
        def run(self, pixels: np.ndarray) -> tuple[np.ndarray, ...]:
            return (np.zeros((len(pixels), self.dimension), np.float32),)

    monkeypatch.setattr(module, "open_session", lambda model, choice, **_: Silent(choice, 1, model.spec.dimension))
    vectors, norms = Encoder(encoder_model, EXACT, threads=1).encode(chips(2))
    assert np.isfinite(vectors).all()
    assert norms.tolist() == [0, 0]


# --- the gate when a pipeline is opened -----------------------------------------------------------------------------


@pytest.fixture
def photos(tmp_path: Path, make_faces: Callable[[Path, int], list[Path]]) -> list[PhotoFile]:
    make_faces(tmp_path / "album", 6)
    return list_photos([tmp_path / "album"]).photos


def open_pipeline(precision: str, models: loading.Models, photos: list[PhotoFile], lines: list[str]) -> Any:
    settings = EmbedSettings(runtime=RuntimeSettings(runtime="openvino", precision=precision, threads=1))
    return loading.open_pipeline(settings, models, photos, notice=lines.append)


@pytest.mark.usefixtures("bf16")
def test_auto_gives_way_to_fp32_and_says_so(models: loading.Models, photos: list[PhotoFile], parity: Any) -> None:
    parity(0.1)
    lines: list[str] = []
    pipeline = open_pipeline("auto", models, photos, lines)
    assert pipeline.encoder.choice.precision == "fp32"
    assert any("allowed are 3 % and 25 %" in line and "fp32 instead" in line for line in lines)
    assert sum(len(outcome.faces.photo) for outcome in pipeline.run(photos)) == 6


@pytest.mark.usefixtures("bf16")
def test_bf16_that_was_asked_for_is_an_error(models: loading.Models, photos: list[PhotoFile], parity: Any) -> None:
    parity(0.1)
    with pytest.raises(DeviceError, match=r"BF16 moves similarities by \d+ % of the strangers' spread"):
        open_pipeline("bf16", models, photos, [])


@pytest.mark.usefixtures("bf16")
def test_a_good_bf16_is_taken_and_the_gate_asked_once(
    models: loading.Models, photos: list[PhotoFile], parity: Any
) -> None:
    parity(0.005)
    lines: list[str] = []
    assert open_pipeline("auto", models, photos, lines).encoder.choice.precision == "bf16"
    assert any("BF16 moves similarities by" in line and "used (measured on 6 faces" in line for line in lines)
    lines.clear()
    assert open_pipeline("bf16", models, [], lines).encoder.choice.precision == "bf16"
    assert not any("parity" in line or "moves" in line for line in lines)


@pytest.mark.usefixtures("bf16")
@pytest.mark.parametrize("precision", ["auto", "bf16"])
@pytest.mark.parametrize("given", ["nothing", "no face"])
def test_no_photo_to_check_on(models: loading.Models, tmp_path: Path, parity: Any, given: str, precision: str) -> None:
    """A server that was just started: drawn faces and the model's templates decide, both ways, and nothing is remembered."""
    parity(0.005)
    (tmp_path / "a.jpg").write_bytes(b"")
    photos = list_photos([tmp_path / "a.jpg"]).photos if given == "no face" else []
    lines: list[str] = []
    assert open_pipeline(precision, models, photos, lines).encoder.choice.precision == "bf16"
    assert any("used (measured on 16 drawn faces against 64 templates)" in line for line in lines)
    assert not (tmp_path / "home" / "parity.json").exists()
    parity(0.1)
    if precision == "auto":
        assert open_pipeline(precision, models, photos, lines).encoder.choice.precision == "fp32"
        assert any("fp32 instead" in line and "16 drawn faces" in line for line in lines)
    else:
        with pytest.raises(DeviceError, match="on 16 drawn faces"):
            open_pipeline(precision, models, photos, [])
