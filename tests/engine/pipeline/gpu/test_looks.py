"""Photos of any shapes are searched on canvases of few sizes, so that a card prepares itself for few; every photo is shown whole."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from faceembed.engine.detect.detections import Detections
from faceembed.engine.detect.oneshot import OneShotSettings
from faceembed.engine.models.spec import Model, ModelSpec
from faceembed.engine.photos.decode import min_face_of
from faceembed.engine.pipeline.gpu.detect import DeviceOneShotDetector
from faceembed.engine.pipeline.gpu.interface import Scan
from faceembed.engine.runtimes.base import RuntimeChoice
from faceembed.engine.runtimes.networks import LOOKS

MODEL = Model(ModelSpec("none", "aligner", (0, 0), decoder="one-shot"), "none.onnx")
CHOICE = RuntimeChoice("tensorrt", "cuda:0", "fp16", "a test")


class Recorder:
    """A backend that finds nothing and remembers what it was asked."""

    def __init__(self) -> None:
        self.looks: list[list[Scan]] = []

    def look(self, photos: Sequence[Any], scans: Sequence[Scan], *_: Any) -> Detections:
        self.looks.append(list(scans))
        return Detections.none()


def search(
    sizes: list[tuple[int, int]], min_face: int, detect_size: int = 0, *, only_largest: bool = True
) -> list[list[Scan]]:
    detector = DeviceOneShotDetector.__new__(DeviceOneShotDetector)
    detector.model, detector.choice, detector.settings = MODEL, CHOICE, OneShotSettings(detect_side=detect_size)
    detector._session = detector._refiner = None  # type: ignore[assignment]
    detector.largest_side = float(LOOKS[-1][0])
    detector._backend = recorder = Recorder()  # type: ignore[assignment]
    photos = [SimpleNamespace(shape=(height, width, 3)) for height, width in sizes]
    smallest = [min_face_of(width, height, min_face) for height, width in sizes]
    detector.detect(photos, smallest, only_largest=only_largest)
    return recorder.looks


SIZES = st.lists(st.tuples(st.integers(1, 12_000), st.integers(1, 12_000)), min_size=1, max_size=150)


@settings(deadline=None, max_examples=40)
@given(SIZES, st.sampled_from([0, 8, 20, 300]), st.sampled_from([0, 64, 5000]))
def test_all_faces_are_one_look(sizes: list[tuple[int, int]], min_face: int, detect_size: int) -> None:
    """Whose result the host waits for once; here nothing is found, so that the largest face wants all second looks, too: the same scans."""
    one = search(sizes, min_face, detect_size, only_largest=False)
    assert len(one) == 1
    two = [scan for look in search(sizes, min_face, detect_size) for scan in look]
    assert len(one[0]) == len(two)
    for mine, theirs in zip(one[0], two, strict=True):
        assert mine.shape == theirs.shape
        np.testing.assert_array_equal(mine.photo, theirs.photo)
        np.testing.assert_array_equal(mine.sizes, theirs.sizes)


@settings(deadline=None, max_examples=60)
@given(SIZES, st.sampled_from([0, 8, 20, 300]), st.sampled_from([0, 64, 5000]))
def test_few_canvases_for_any_photos(sizes: list[tuple[int, int]], min_face: int, detect_size: int) -> None:
    looks = search(sizes, min_face, detect_size)
    assert 1 <= len(looks) <= 2
    counts = dict(LOOKS)
    for scans in looks:
        for scan in scans:
            side = scan.shape.height
            assert scan.shape.width == side and len(scan.photo) <= counts[side]
            assert (scan.sizes >= 1).all() and (scan.sizes <= side).all()
            shown = np.array([sizes[index] for index in scan.photo.tolist()])
            np.testing.assert_allclose(scan.scales[:, ::-1], scan.sizes / shown, rtol=1e-6)
            assert (scan.scales <= 1).all()  # never enlarged
    first = np.concatenate([scan.photo for scan in looks[0]])
    assert sorted(first.tolist()) == list(range(len(sizes)))
    assert {scan.shape.height for scan in looks[0]} == {LOOKS[0][0]}
    if not min_face and not detect_size:
        assert {scan.shape.height for scans in looks for scan in scans} <= {LOOKS[0][0], LOOKS[1][0]}
