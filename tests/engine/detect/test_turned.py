"""Faces that lie on their side or head."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from faceembed.engine.detect.detections import Detections
from faceembed.engine.detect.turned import joined, look_again, turned_back
from faceembed.engine.pipeline.batches import Pipeline
from faceembed.engine.pipeline.serving import Embedder
from tests.engine.photos import odd

Pixels = NDArray[np.uint8]


def embedded(pipeline: Pipeline, pixels: Pixels) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The embedding and the landmarks of a photo's face."""
    embedder = Embedder.of(pipeline)
    (photo,) = embedder.embed([embedder.take(odd.encoded(pixels, "PNG"))])
    assert photo.chosen is not None, photo.reason
    face = photo.faces[photo.chosen]
    return face.embedding, np.asarray(face.landmarks, np.float32).reshape(5, 2)


def turned_points(points: NDArray[np.float32], quarter: int, width: int, height: int) -> NDArray[np.float32]:
    """Where points of a photo are in it turned by quarters against the clock, one at a time."""
    for _ in range(quarter):
        points = np.stack([points[:, 1], width - points[:, 0]], axis=1)
        width, height = height, width
    return points


@pytest.mark.parametrize("quarter", [1, 2, 3])
@pytest.mark.parametrize("side", [300, 512])
def test_a_turned_photo_has_the_embedding_of_the_photo(
    pipeline: Pipeline, astronaut: Pixels, quarter: int, side: int
) -> None:
    photo = np.ascontiguousarray(astronaut[:side, 60 : 60 + 350])
    vector, landmarks = embedded(pipeline, photo)
    again, placed = embedded(pipeline, np.ascontiguousarray(np.rot90(photo, quarter)))
    assert float(vector @ again) >= 0.98
    expected = turned_points(landmarks, quarter, photo.shape[1], photo.shape[0])
    assert np.abs(placed - expected).max() <= 2  # left eye first, as she is seen upright


class Marks:
    """A detector that sees a bright corner: the pixel says the score, and only where it lies to the upper left."""

    min_score = 0.6

    def __init__(self) -> None:
        self.looked_at = 0

    def sharpened(self, photo: Any, faces: Detections) -> Detections:
        return faces

    def glance(self, photos: Any, min_faces: Any, least: float) -> Detections:
        faces = self.detect(photos, min_faces, only_largest=False)
        return faces.take(faces.scores >= np.float32(least))

    def detect(self, photos: Any, min_faces: Any, *, only_largest: bool) -> Detections:
        self.looked_at += len(photos)
        parts = []
        for index, photo in enumerate(photos):
            if photo[2, 3, 0]:
                box = np.array([[3, 2, 4, 3]], np.float32)
                points = np.array([[[3.2, 2.2], [3.8, 2.2], [3.5, 2.5], [3.2, 2.8], [3.8, 2.8]]], np.float32)
                score = np.array([photo[2, 3, 0] / 255], np.float32)
                parts.append(Detections(np.array([index], np.int32), box, points, score, np.array([0], np.int32)))
        return joined(parts) if parts else Detections.none()


def marked(quarter: int, score: int) -> Pixels:
    photo = np.zeros((20, 30, 3), np.uint8) if quarter % 2 == 0 else np.zeros((30, 20, 3), np.uint8)
    upright = photo if quarter % 2 == 0 else np.zeros((20, 30, 3), np.uint8)
    upright[2, 3] = score
    return np.ascontiguousarray(np.rot90(upright, -quarter))


def test_only_photos_without_a_sure_face_are_looked_at_again() -> None:
    detector: Any = Marks()
    photos = [
        marked(0, 250),
        marked(1, 240),
        marked(2, 240),
        marked(3, 240),
        marked(0, 100),
        marked(1, 170),
        marked(0, 180),
    ]
    first = detector.detect(photos, [1] * 7, only_largest=True)
    detector.looked_at = 0
    found = look_again(detector, photos, [1] * 7, first, only_largest=True)
    assert detector.looked_at == 3 * 5
    assert found.photo.tolist() == [0, 1, 2, 3, 4, 6]  # the sixth scores too little; the fifth stays what it was
    np.testing.assert_allclose(found.scores, np.array([250, 240, 240, 240, 100, 180]) / 255, atol=1e-6)
    for index, photo in enumerate(photos[:4]):
        box = found.boxes[index].astype(int)
        assert photo[box[1], box[0], 0] >= 240 and (box[2:] - box[:2]).tolist() == [1, 1]
    assert found.beside is not None and found.beside.tolist() == [0] * 6


@pytest.mark.parametrize("quarter", [0, 1, 2, 3])
def test_points_go_back_to_where_they_were(quarter: int) -> None:
    rng = np.random.default_rng(quarter)
    width, height = 37, 21
    points = (rng.random((5, 2)) * (width, height)).astype(np.float32)
    seen = turned_points(points, quarter, width, height)
    box = np.concatenate([seen.min(axis=0), seen.max(axis=0)])[None]
    faces = Detections(np.zeros(1, np.int32), box, seen[None], np.ones(1, np.float32))
    back = turned_back(faces, quarter, width, height, photo=7)
    np.testing.assert_allclose(back.landmarks[0], points, atol=1e-4)
    np.testing.assert_allclose(back.boxes[0], [*points.min(axis=0), *points.max(axis=0)], atol=1e-4)
    assert back.photo.tolist() == [7]


@pytest.mark.data
def test_faces_of_lfw_that_lie(data: Path, pipeline: Pipeline) -> None:
    """25 photos, each turned three times: found, and the same to the encoder."""
    from faceembed.engine.photos.decode import decode

    paths = sorted((data / "lfw").glob("*/*_0001.jpg"))[::230]
    embedder = Embedder.of(pipeline)
    alike = []
    for path in paths:
        pixels = decode(path.read_bytes()).pixels
        files = [odd.encoded(np.ascontiguousarray(np.rot90(pixels, quarter)), "PNG") for quarter in range(4)]
        photos = embedder.embed([embedder.take(data) for data in files])
        vectors = [p.faces[p.chosen].embedding if p.chosen is not None else None for p in photos]
        if vectors[0] is not None:
            alike += [-1.0 if vector is None else float(vectors[0] @ vector) for vector in vectors[1:]]
    assert np.mean(np.array(alike) >= 0.98) >= 0.9
