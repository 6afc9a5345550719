"""Small faces in large photos: tiles that cover all of a photo, one answer for a face, and coordinates of the photo."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from faceembed.engine.detect import tiles
from faceembed.engine.detect.detections import Detections
from faceembed.engine.detect.kinds import open_detector
from faceembed.engine.detect.tiles import OVERLAP, TILE, detect_every, spans
from faceembed.engine.models.registry import resolve
from faceembed.engine.photos.decode import Photo, min_face_of, reduction_for
from faceembed.engine.photos.header import Header
from faceembed.engine.pipeline.finder import Finder
from faceembed.engine.pipeline.settings import EmbedSettings
from faceembed.engine.runtimes.base import RuntimeChoice

CPU = RuntimeChoice("openvino", "cpu", "fp32", "a test")


@given(st.integers(1, 20_000))
def test_spans_cover_a_side_and_overlap(length: int) -> None:
    found = spans(length)
    assert found[0][0] == 0 and found[-1][1] == length
    assert len({end - start for start, end in found}) == 1 and found[0][1] <= max(TILE, min(length, TILE))
    assert all(end - start >= OVERLAP - 1 for (start, _), (_, end) in zip(found[1:], found, strict=False))


class Squares:
    """Sees white squares, whole or cut off, of up to a fifth of what it is shown, as a detector sees faces."""

    def __init__(self) -> None:
        self.shown: list[tuple[int, int]] = []

    def detect(
        self, photos: Sequence[NDArray[np.uint8]], min_faces: Sequence[float], *, only_largest: bool
    ) -> Detections:
        parts = []
        for index, photo in enumerate(photos):
            self.shown.append(photo.shape[:2])
            _, _, stats, _ = cv2.connectedComponentsWithStats((photo[:, :, 0] > 127).astype(np.uint8))
            boxes = [(x, y, x + w, y + h) for x, y, w, h, _ in stats[1:] if min(w, h) >= min_faces[index]]
            array = np.array(boxes, np.float32).reshape(-1, 4)
            parts.append(
                Detections(
                    np.full(len(array), index, np.int32),
                    array,
                    np.repeat(array[:, None, :2], 5, 1),
                    np.full(len(array), 0.9, np.float32),
                )
            )
        return Detections.concatenate(parts)


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_each_face_is_found_once_and_where_it_is(seed: int) -> None:
    rng = np.random.default_rng(seed)
    height, width = (int(side) for side in rng.integers(300, 3000, 2))
    photo = np.zeros((height, width, 3), np.uint8)
    wanted = set()
    for _ in range(40):
        side = int(rng.integers(20, 250))
        x, y = int(rng.integers(0, max(1, width - side))), int(rng.integers(0, max(1, height - side)))
        if (
            x + side <= width
            and y + side <= height
            and not photo[max(0, y - 2) : y + side + 2, max(0, x - 2) : x + side + 2].any()
        ):
            photo[y : y + side, x : x + side] = 255
            wanted.add((x, y, x + side, y + side))
    detector: Any = Squares()
    found = detect_every(detector, [photo], [20.0])
    assert {tuple(box) for box in found.boxes.astype(int).tolist()} == wanted
    assert len(found) == len(wanted)
    np.testing.assert_array_equal(found.landmarks[:, 0], found.boxes[:, :2])
    assert max(max(shape) for shape in detector.shown[1:] or [(0, 0)]) <= TILE


def test_several_photos_keep_their_own_faces() -> None:
    photos = [np.zeros((400, 400, 3), np.uint8), np.zeros((1500, 2000, 3), np.uint8), np.zeros((100, 100, 3), np.uint8)]
    photos[0][50:90, 50:90] = photos[1][1400:1440, 1900:1940] = photos[2][10:60, 10:60] = 255
    detector: Any = Squares()
    found = detect_every(detector, photos, [20.0] * 3)
    assert found.photo.tolist() == [0, 1, 2]
    assert found.boxes[1].tolist() == [1900, 1400, 1940, 1440]


@pytest.mark.parametrize(
    ("size", "min_face", "every", "least", "reduction"),
    [
        ((4000, 3000), 0, False, 100, 4),
        ((4000, 3000), 0, True, 40, 2),
        ((12000, 1500), 0, True, 40, 2),
        ((1200, 900), 0, True, 30, 1),
        ((600, 400), 0, True, 20, 1),
        ((4000, 3000), 200, True, 200, 8),
    ],
)
def test_how_small_faces_may_be(
    size: tuple[int, int], min_face: int, every: bool, least: float, reduction: int
) -> None:
    assert min_face_of(*size, min_face, every=every) == least
    assert reduction_for(Header("JPEG", *size), min_face, every=every) == reduction


def test_the_astronaut_at_40_pixels_in_twelve_megapixels(astronaut: NDArray[np.uint8]) -> None:
    """Twelve of her, all over a photo of 4000 x 3000 at a half: 40 px of it are 20 decoded ones."""
    model = resolve("faceembed-align", task="aligner")
    detector = open_detector(model, CPU, threads=1)
    small = cv2.resize(astronaut, (108, 108), interpolation=cv2.INTER_AREA)  # her face is 95 of 512 pixels
    photo = np.full((1500, 2000, 3), 90, np.uint8)
    places = [(x, y) for x in (0, 640, 958, 1892) for y in (0, 700, 1392)]
    for x, y in places:
        photo[y : y + 108, x : x + 108] = small
    finder = Finder(EmbedSettings(faces="all"), detector, resolve("faceembed-r29", task="encoder").spec)
    found, without = finder.find([Photo(photo, 4000, 3000, 2)])
    assert not without and len(found) == len(places)
    eyes = found.landmarks[:, :2].mean(axis=1)
    for x, y in places:
        assert np.linalg.norm(eyes - (x + 223.5 / 512 * 108, y + 102 / 512 * 108), axis=1).min() < 2.5
    whole = detector.detect([photo], [50.0], only_largest=False)
    assert len(whole) == 0  # what was seen of them before there were tiles


def test_the_largest_alone_is_looked_for_as_before(
    astronaut: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    detector = open_detector(resolve("faceembed-align", task="aligner"), CPU, threads=1)
    finder = Finder(EmbedSettings(), detector, resolve("faceembed-r29", task="encoder").spec)
    monkeypatch.setattr(tiles, "detect_every", None)
    assert not finder._in_tiles
    assert not Finder(EmbedSettings(faces="all", detect_size=640), detector, finder.spec)._in_tiles
