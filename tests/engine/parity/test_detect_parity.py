"""The aligner's parity gate: what it compares, what it refuses, and what a pipeline does then."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from faceembed.engine.detect.detections import Detections
from faceembed.engine.detect.oneshot import OneShotDetector
from faceembed.engine.parity.detectors import admit, admitted, compare
from faceembed.engine.photos.listing import list_photos
from faceembed.engine.pipeline import loading
from faceembed.engine.pipeline.settings import EmbedSettings
from faceembed.engine.runtimes import openvino
from faceembed.engine.runtimes.base import RuntimeChoice
from faceembed.engine.runtimes.choose import RuntimeSettings
from faceembed.errors import DeviceError

FACE = np.array([[10, 10], [30, 10], [20, 20], [12, 30], [28, 30]], np.float32)  # eyes 20 px apart
FAST = RuntimeChoice("openvino", "cpu", "bf16", "a test")


def faces(*shifts: float) -> Detections:
    """A face a photo, moved to the right by so many pixels."""
    count = len(shifts)
    points = np.array([np.add(FACE, (shift, 0)) for shift in shifts], np.float32).reshape(-1, 5, 2)
    boxes = np.tile(np.array([0, 0, 40, 40], np.float32), (count, 1))
    return Detections(np.arange(count, dtype=np.int32), boxes, points, np.ones(count, np.float32))


@pytest.mark.parametrize(
    ("shifts", "found", "deviation", "passes"),
    [
        ((0, 0, 0), 1.0, 0.0, True),
        ((0.2, 0.2, 0.2), 1.0, 0.01, True),
        ((0.5, 0.6, 0.7), 1.0, 0.03, False),  # the same faces, landmarks elsewhere
        ((0, 0, 9), 2 / 3, 0.0, False),  # one is another face
        ((9, 9, 9), 0.0, np.inf, False),
    ],
)
def test_figures(shifts: tuple[float, ...], found: float, deviation: float, passes: bool) -> None:
    parity = compare(faces(*shifts), faces(0, 0, 0))
    assert (parity.faces, parity.passes) == (3, passes)
    assert parity.found == pytest.approx(found)
    assert parity.deviation == pytest.approx(deviation, abs=1e-6)


def test_a_missed_face_and_a_face_too_many() -> None:
    assert compare(faces(0), faces(0, 0)).found == 0.5
    assert compare(faces(0, 0), faces(0)).found == 1.0
    assert not compare(faces(0), Detections.none()).passes


@pytest.fixture
def album(tmp_path: Path, make_faces: Callable[[Path, int], list[Path]], monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FACEEMBED_HOME", str(tmp_path / "home"))
    make_faces(tmp_path / "album", 4)
    return tmp_path / "album"


@pytest.fixture
def shaky(monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor with bf16, on which it moves landmarks by a tenth of a face; everything else is fp32."""
    monkeypatch.setattr(openvino, "supported_precisions", lambda: ("bf16", "fp32"))
    monkeypatch.setitem(openvino._HINTS, "bf16", "f32")
    detect = OneShotDetector.detect

    def moved(self: OneShotDetector, *args: object, **options: object) -> Detections:
        found = detect(self, *args, **options)  # type: ignore[arg-type]
        shift = found.sides()[:, None, None] / 10 if self.choice.precision == "bf16" else 0
        return dataclasses.replace(found, landmarks=(found.landmarks + shift).astype(np.float32))

    monkeypatch.setattr(OneShotDetector, "detect", moved)


@pytest.mark.usefixtures("shaky")
def test_a_pipeline_refuses_or_replaces_it_and_says_so(models: loading.Models, album: Path) -> None:
    photos = list_photos([album]).photos
    lines: list[str] = []
    with pytest.raises(DeviceError, match=r"faceembed-align in bf16 finds 0 % of 4 faces"):
        asked = EmbedSettings(runtime=RuntimeSettings(runtime="openvino", precision="bf16", threads=1))
        loading.open_pipeline(asked, models, photos, notice=lines.append)
    auto = EmbedSettings(runtime=RuntimeSettings(runtime="openvino", threads=1))
    pipeline = loading.open_pipeline(auto, models, photos, notice=lines.append)
    assert pipeline.detector is not None
    assert (pipeline.detector.choice.precision, pipeline.encoder.choice.precision) == ("fp32", "fp32")
    assert "faceembed-align in bf16" in lines[-1]
    assert "fp32 instead" in lines[-1]


def test_a_passed_gate_is_remembered(models: loading.Models, album: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(openvino._HINTS, "bf16", "f32")
    assert models.aligner is not None
    detector = OneShotDetector(models.aligner, FAST, threads=1)
    assert not admitted(detector)
    from faceembed.engine.photos.decode import decode

    pixels = [decode(path.read_bytes()).pixels for path in sorted(album.iterdir())]
    parity = admit(detector, pixels, [20.0] * len(pixels), only_largest=True)
    assert (parity.faces, parity.found) == (4, 1.0)
    assert parity.deviation < 1e-3  # the first convolution sums over blocks of pixels, in another order
    assert admitted(OneShotDetector(models.aligner, FAST, threads=1))
