"""The pipeline: every photo comes out once and in order, large photos give the chips that small ones do, and memory is bounded."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from faceembed.engine.photos.listing import list_photos
from faceembed.engine.photos.photo_file import PhotoFile
from faceembed.engine.pipeline import finder, intake
from faceembed.engine.pipeline.batches import Outcome, Pipeline
from faceembed.engine.pipeline.settings import EmbedSettings

MakeFaces = Callable[[Path, int], list[Path]]


@pytest.fixture
def album(tmp_path: Path, make_faces: MakeFaces) -> list[PhotoFile]:
    """Twelve photos, the fourth and the last two of them bad in different ways."""
    paths = make_faces(tmp_path / "album", 12)
    paths[3].write_bytes(b"")
    paths[10].unlink()
    paths[10].symlink_to("nowhere")
    cv2.imwrite(str(paths[11]), np.full((200, 200, 3), 90, np.uint8))
    return [PhotoFile(str(path), 1000, 0) for path in paths]


def using(pipeline: Pipeline, **changes: Any) -> Pipeline:
    settings = EmbedSettings(**changes)
    return Pipeline(settings, pipeline.detector, pipeline.encoder, workers=2)


def faces_of(outcomes: list[Outcome]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """File name to landmarks and embedding of the first face."""
    found = {}
    for outcome in outcomes:
        for row, place in enumerate(outcome.faces.photo.tolist()):
            name = Path(outcome.photos[place].path).name
            found.setdefault(name, (outcome.faces.landmarks[row], outcome.faces.embeddings[row]))
    return found


@pytest.mark.parametrize("boundary", [0, 5])
@pytest.mark.parametrize("batch_size", [1, 4, 32])
def test_every_photo_comes_out_once_and_in_order(
    pipeline: Pipeline, album: list[PhotoFile], batch_size: int, boundary: int
) -> None:
    outcomes = list(using(pipeline, batch_size=batch_size).run(album, boundary=boundary))
    assert [photo.path for outcome in outcomes for photo in outcome.photos] == [photo.path for photo in album]
    assert max(len(outcome.photos) for outcome in outcomes) <= batch_size
    if boundary:
        ends = np.cumsum([len(outcome.photos) for outcome in outcomes]).tolist()
        assert {5, 10} <= set(ends)
    failed = {Path(f.photo.path).name: f.stage for outcome in outcomes for f in outcome.failures}
    assert failed == {"0003.jpg": "decode", "0010.jpg": "read", "0011.jpg": "detect"}
    assert len(faces_of(outcomes)) == 9
    for outcome in outcomes:
        count = len(outcome.faces.photo)
        assert count + len(outcome.failures) == len(outcome.photos)
        shapes = [getattr(outcome.faces, field.name).shape[0] for field in dataclasses.fields(outcome.faces)]
        assert shapes == [count] * len(shapes)
        assert set(outcome.seconds) == {"read", "decode", "detect", "align", "encode"}


def test_same_bits_every_time(pipeline: Pipeline, album: list[PhotoFile]) -> None:
    one, other = (list(using(pipeline, batch_size=5).run(album)) for _ in range(2))
    for a, b in zip(one, other, strict=True):
        assert a.faces.embeddings.tobytes() == b.faces.embeddings.tobytes()
        assert a.faces.landmarks.tobytes() == b.faces.landmarks.tobytes()


def test_nothing_in_nothing_out(pipeline: Pipeline) -> None:
    assert list(pipeline.run([])) == []


@pytest.mark.parametrize("kind", ["jpg", "png"])
def test_large_photos_give_what_small_ones_do(
    pipeline: Pipeline, tmp_path: Path, astronaut: np.ndarray, kind: str
) -> None:
    """Reduced decoding, coordinates back in full pixels, and chips read again where a reduction would blur them."""
    bgr = cv2.cvtColor(np.ascontiguousarray(astronaut[:401, :499]), cv2.COLOR_RGB2BGR)
    factors = {"small": 1.0, "wide": 1.7, "large": 3.33, "huge": 7.01}
    for name, factor in factors.items():
        scaled = cv2.resize(bgr, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(tmp_path / f"{name}.{kind}"), scaled, [cv2.IMWRITE_JPEG_QUALITY, 97])
    outcomes = list(pipeline.run(list_photos([tmp_path]).photos))
    found = faces_of(outcomes)
    assert len(found) == 4
    points, vector = found[f"small.{kind}"]
    eyes = np.linalg.norm(points[1] - points[0])
    for name, factor in factors.items():
        other_points, other = found[f"{name}.{kind}"]
        assert np.linalg.norm(other_points / factor - points, axis=1).max() / eyes < 0.06, name
        assert other @ vector > 0.985, name
    sizes = {tuple(size) for outcome in outcomes for size in outcome.faces.sizes.tolist()}
    assert (499, 401) in sizes
    assert any(3490 < width < 3500 for width, _ in sizes)


def test_a_small_face_in_a_large_photo_is_read_again(
    pipeline: Pipeline, tmp_path: Path, astronaut: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A face of 92 px in a 3,201 px photo: found at a quarter, but its chip is cut from more pixels than that."""
    face = cv2.cvtColor(np.ascontiguousarray(astronaut[10:230, 110:330]), cv2.COLOR_RGB2BGR)
    large = np.full((1203, 3201, 3), 120, np.uint8)
    large[500:720, 2900:3120] = face
    cv2.imwrite(str(tmp_path / "large.jpg"), large, [cv2.IMWRITE_JPEG_QUALITY, 97])
    cv2.imwrite(str(tmp_path / "small.jpg"), large[450:770, 2850:3170], [cv2.IMWRITE_JPEG_QUALITY, 97])
    asked = []
    decode = intake.decode

    def noting(data: bytes, *, reduction: int = 1, **options: Any) -> Any:
        asked.append(reduction)
        return decode(data, reduction=reduction, **options)

    for module in (intake, finder):
        monkeypatch.setattr(module, "decode", noting)
    found = faces_of(list(pipeline.run(list_photos([tmp_path]).photos)))
    assert sorted(asked) == [1, 1, 4]
    points, vector = found["large.jpg"]
    small_points, small = found["small.jpg"]
    eyes = np.linalg.norm(small_points[1] - small_points[0])
    assert np.linalg.norm(points - small_points - (2850, 450), axis=1).max() / eyes < 0.12
    assert vector @ small > 0.97


def test_large_photos_are_batches_of_their_own(
    pipeline: Pipeline, album: list[PhotoFile], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "BATCH_BYTES", 3 * 250 * 250)
    outcomes = list(using(pipeline).run(album))
    assert [photo.path for outcome in outcomes for photo in outcome.photos] == [photo.path for photo in album]
    assert len(outcomes) >= 9
    monkeypatch.setattr(intake, "READ_BYTES", 2500)
    sizes = [len(batch) for batch in using(pipeline).batches(album)]
    assert sizes == [2] * 6


def test_what_is_in_flight_is_bounded(
    pipeline: Pipeline, album: list[PhotoFile], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a consumer that does not take anything, reading stops after a few batches."""
    read = []
    read_file = intake.read_file

    def noting(path: str, **limits: int) -> bytes:
        read.append(path)
        return read_file(path, **limits)

    monkeypatch.setattr(intake, "read_file", noting)
    run = using(pipeline, batch_size=1).run(album * 10)
    for taken in range(1, 12):
        next(run)
        assert len(read) <= taken + 6
    before = threading.active_count()
    run.close()
    assert threading.active_count() < before
    assert len(read) < 30


def test_no_threads_are_left(pipeline: Pipeline, album: list[PhotoFile]) -> None:
    before = threading.active_count()
    list(pipeline.run(album))
    assert threading.active_count() == before


def test_an_error_in_a_stage_ends_the_run(
    pipeline: Pipeline, album: list[PhotoFile], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is not a photo's fault is not hidden in the errors file."""

    def failing(*_: Any) -> Any:
        raise RuntimeError("out of order")

    before = threading.active_count()
    monkeypatch.setattr(pipeline.encoder, "encode", failing)
    with pytest.raises(RuntimeError, match="out of order"):
        list(using(pipeline, batch_size=2).run(album))
    assert threading.active_count() == before


def test_all_faces_are_numbered_from_the_largest(pipeline: Pipeline, tmp_path: Path, astronaut: np.ndarray) -> None:
    face = cv2.cvtColor(np.ascontiguousarray(astronaut[20:240, 110:330]), cv2.COLOR_RGB2BGR)
    canvas = np.full((400, 900, 3), 120, np.uint8)
    x = 10
    for side in (120, 340, 200):
        canvas[20 : 20 + side, x : x + side] = cv2.resize(face, (side, side), interpolation=cv2.INTER_AREA)
        x += side + 30
    cv2.imwrite(str(tmp_path / "a.png"), canvas)
    cv2.imwrite(str(tmp_path / "b.png"), canvas[:, ::-1])
    (outcome,) = using(pipeline, faces="all").run(list_photos([tmp_path]).photos)
    assert outcome.faces.photo.tolist() == [0, 0, 0, 1, 1, 1]
    assert outcome.faces.face.tolist() == [0, 1, 2, 0, 1, 2]
    for photo in (0, 1):
        widths = np.diff(outcome.faces.boxes[outcome.faces.photo == photo][:, [0, 2]])[:, 0]
        assert widths[0] > widths[1] > widths[2]


def test_landmarks_that_span_no_face_are_a_failure(
    pipeline: Pipeline, album: list[PhotoFile], monkeypatch: pytest.MonkeyPatch
) -> None:
    detector = pipeline.detector
    assert detector is not None
    detect = detector.detect

    def flat(*args: Any, **options: Any) -> Any:
        faces = detect(*args, **options)
        landmarks = faces.landmarks.copy()
        landmarks[faces.photo == 1] = 5
        return dataclasses.replace(faces, landmarks=landmarks)

    monkeypatch.setattr(detector, "detect", flat)
    (outcome,) = using(pipeline).run(album[:3])
    assert outcome.faces.photo.tolist() == [0, 2]
    ((photo, stage, reason),) = ((f.photo, f.stage, f.reason) for f in outcome.failures)
    assert (photo.path, stage) == (album[1].path, "align")
    assert "do not span a face" in reason
