"""What is no face is no match: below the least score nothing is a face, and it never wins over one that is."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from faceembed.engine.detect.detections import Detections
from faceembed.engine.detect.interface import Detector
from faceembed.engine.models import builtin
from faceembed.engine.models.registry import resolve
from faceembed.engine.models.spec import ModelSpec
from faceembed.engine.photos.photo_file import photo_file
from faceembed.engine.pipeline.batches import Pipeline
from faceembed.engine.pipeline.chips import Cutter
from faceembed.engine.pipeline.settings import EmbedSettings
from faceembed.engine.runtimes.base import RuntimeChoice
from faceembed.errors import ModelError, UsageError

SIZES = np.array([(400.0, 400.0)])


def detections(*faces: tuple[float, float, float, float]) -> Detections:
    """Square faces of one photo, each given as centre x, centre y, side and score."""
    rows = np.array(faces, np.float32).reshape(-1, 4)
    half = rows[:, 2:3] / 2
    boxes = np.concatenate([rows[:, :2] - half, rows[:, :2] + half], 1)
    shape = np.array([(-0.2, -0.2), (0.2, -0.2), (0, 0), (-0.15, 0.2), (0.15, 0.2)], np.float32)
    landmarks = rows[:, None, :2] + shape * rows[:, 2, None, None]
    return Detections(np.zeros(len(rows), np.int32), boxes, landmarks, rows[:, 3].copy())


class Seen(Detector):
    """Sees given faces in every photo, in pixels of what it is shown."""

    choice = RuntimeChoice("numpy", "cpu", "fp32", "a test")

    def __init__(self, faces: Detections, min_score: float) -> None:
        self.faces, self.min_score = faces, min_score

    def detect(
        self, photos: Sequence[NDArray[np.uint8]], min_faces: Sequence[float], *, only_largest: bool
    ) -> Detections:
        sizes = np.array([photo.shape[1::-1] for photo in photos], np.float64)
        return self.faces.largest(sizes, self.min_score) if only_largest else self.faces

    def exact(self) -> Seen:
        return self


def reasons(
    photo: Path, spec: ModelSpec, faces: Detections, *, least: float = 0.6, which: str = "largest"
) -> list[str]:
    cutter = Cutter(EmbedSettings(faces=which), Seen(faces, least), spec, workers=1)
    cut = cutter.cut_batch([cutter.intake.read_one(photo_file(str(photo)))], 0.0)
    return [failure.reason for failure in cut.failures] or [f"{score:.2f}" for score in cut.faces.scores]


PERSON, SHADOW, SHIRT = (200, 120, 80, 0.9), (200, 220, 300, 0.27), (200, 300, 160, 0.23)


@pytest.mark.parametrize("least", [0.0, 0.2, 0.3, 0.6, 0.9])
@pytest.mark.parametrize("person", [PERSON, (20, 20, 30, 0.92)], ids=["in the middle", "small, in the corner"])
def test_a_false_face_never_wins_over_a_person(least: float, person: tuple[float, float, float, float]) -> None:
    kept = detections(SHADOW, person, SHIRT).largest(SIZES, least)
    if least > 0.27:  # then only the person is sure
        assert kept.scores.tolist() == [np.float32(person[3])]
    elif person is PERSON:  # what a score says of a face's size does it alone
        assert kept.scores.tolist() == [np.float32(0.9)]


def test_how_many_others_are_sure_is_kept() -> None:
    """Of each photo, in the look that found the largest; what is not sure does not count, nor the face itself."""
    both, (first, *_) = detections(PERSON, (60, 60, 40, 0.8), (300, 300, 40, 0.7)), (detections(SHADOW, SHIRT),)
    photos = Detections.concatenate([both, dataclasses.replace(first, photo=first.photo + 2)])
    for least, beside in ((0.2, [2, 1]), (0.6, [2, 0]), (0.75, [1, 0]), (0.95, [0, 0])):
        kept = photos.largest(np.repeat(SIZES, 3, axis=0), least)
        assert kept.beside is not None and kept.photo.tolist() == [0, 2] and kept.beside.tolist() == beside
        again = kept.take(np.array([1]))
        assert again.beside is not None and again.beside.tolist() == beside[1:]
    assert Detections.none().largest(SIZES).beside.tolist() == []  # type: ignore[union-attr]


def test_the_size_counts_among_those_that_are_sure() -> None:
    near, far = (200, 200, 100, 0.7), (200, 200, 60, 0.97)
    assert detections(far, near).largest(SIZES, 0.6).scores.tolist() == [np.float32(0.7)]
    assert detections(far, near).largest(SIZES, 0.75).scores.tolist() == [np.float32(0.97)]


@pytest.mark.parametrize("which", ["largest", "all"])
@pytest.mark.parametrize(
    ("faces", "least", "expected"),
    [
        ((SHADOW, PERSON, SHIRT), 0.6, ["0.90"]),
        ((SHADOW, SHIRT), 0.6, ["no sure face: the best, of 300 px, scores 0.27, below the limit of 0.6"]),
        (((200, 200, 50, 0.5999),), 0.6, ["no sure face: the best, of 50 px, scores 0.5999, below the limit of 0.6"]),
        (((200, 200, 50, 0.6),), 0.6, ["0.60"]),
        ((), 0.6, ["no face of 20 px or more found"]),
    ],
)
def test_what_is_below_is_a_reason(
    tmp_path: Path, which: str, faces: tuple[tuple[float, float, float, float], ...], least: float, expected: list[str]
) -> None:
    photo = tmp_path / "grey.png"
    cv2.imwrite(str(photo), np.full((400, 400, 3), 128, np.uint8))
    spec = resolve("faceembed-r29", task="encoder").spec
    assert reasons(photo, spec, detections(*faces), least=least, which=which) == expected


def test_reasons_are_in_pixels_of_the_photo(tmp_path: Path) -> None:
    """A JPEG of 12 megapixels is decoded at a quarter: neither size in a reason is one of that copy."""
    photo = tmp_path / "wall.jpg"
    cv2.imwrite(str(photo), np.full((3000, 4000, 3), 128, np.uint8))
    spec = resolve("faceembed-r29", task="encoder").spec
    assert reasons(photo, spec, detections()) == ["no face of 100 px or more found"]
    found = detections((400, 300, 75, 0.31))
    assert reasons(photo, spec, found) == ["no sure face: the best, of 300 px, scores 0.31, below the limit of 0.6"]


def test_the_aligner_says_what_is_sure(pipeline: Pipeline) -> None:
    model = builtin.find("faceembed-align")
    assert model is not None and pipeline.detector is not None
    assert model.spec.min_score == pipeline.detector.min_score == pipeline.detector.exact().min_score == 0.6
    assert model.spec.min_score_source
    assert ModelSpec.from_json(model.spec.to_json()) == model.spec
    with pytest.raises(ModelError, match=r"min_score is 1\.5; expected 0 to 1"):
        dataclasses.replace(model.spec, min_score=1.5)
    older = dataclasses.replace(model.spec, min_score=None)
    assert ModelSpec.from_json(older.to_json().replace('  "min_score": null,\n', "")).min_score is None


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
def test_a_score_is_between_0_and_1(value: float) -> None:
    with pytest.raises(UsageError, match=r"--min-score .* is not between 0 and 1"):
        EmbedSettings(min_score=value)


def faces_in(pictures: Sequence[Path], pipeline: Pipeline) -> int:
    cutter = pipeline.cutter
    found = 0
    for cut in cutter.cut([photo_file(str(path)) for path in pictures]):
        found += len(set(cut.faces.photo.tolist()))
    return found


@pytest.mark.data
def test_pictures_without_people_have_few_faces(data: Path, pipeline: Pipeline) -> None:
    pictures = [
        path for path in sorted((data / "no_faces" / "test").glob("*/*")) if path.parent.name != "statues_drawings"
    ]
    if len(pictures) != 202:
        pytest.skip("no_faces is not there")
    assert faces_in(pictures, pipeline) <= 0.01 * len(pictures)
