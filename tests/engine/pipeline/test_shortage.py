"""When memory is short: the rest of a batch is embedded all the same, and the photo that does not fit is a row."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from faceembed.engine.photos.listing import list_photos
from faceembed.engine.pipeline.batches import Pipeline
from faceembed.engine.pipeline.serving import Embedder
from faceembed.engine.pipeline.settings import EmbedSettings
from faceembed.engine.pipeline.shortage import in_halves
from faceembed.engine.verbs.embed import embed

MakeFaces = Callable[[Path, int], list[Path]]


class CardError(Exception):
    """An error with words of its own."""


SHORTAGES = [
    MemoryError(),
    CardError("CUDA error: out of memory"),
    RuntimeError("std::bad_alloc"),
    cv2.error("Insufficient memory"),
]


@hypothesis_settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(1, 20), min_size=1, max_size=40), st.integers(1, 60), st.integers(0, 3))
def test_what_fits_is_done_in_order_and_the_rest_is_replaced(weights: list[int], room: int, words: int) -> None:
    done: list[list[int]] = []

    def process(batch: Sequence[int]) -> list[int]:
        if sum(batch) > room:
            raise SHORTAGES[words]
        done.append(list(batch))
        return list(batch)

    results = in_halves(process, weights, instead=lambda weight: 0)
    together = [weight for part in results for weight in part]
    assert together == [weight if weight <= room else 0 for weight in weights]
    assert results == done


def test_another_error_is_not_taken_for_one() -> None:
    def process(batch: Sequence[int]) -> int:
        raise ValueError("memory of a fish")

    with pytest.raises(ValueError, match="fish"):
        in_halves(process, [1, 2], instead=lambda entry: entry)


def test_where_nothing_fits_no_photo_is_blamed_for_ever() -> None:
    def process(batch: Sequence[int]) -> int:
        raise MemoryError

    with pytest.raises(MemoryError):
        in_halves(process, [1, 2], instead=lambda entry: entry)


class Short:
    """A detector or encoder that has no memory for more than so much."""

    def __init__(self, real: Any, method: str, too_much: Callable[[Any], bool], error: Exception) -> None:
        self._real, self._method, self._too_much, self._error = real, method, too_much, error

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._real, name)
        if name != self._method:
            return real

        def called(given: Any, *args: Any, **options: Any) -> Any:
            if self._too_much(given):
                raise self._error
            return real(given, *args, **options)

        return called


@pytest.fixture
def album(tmp_path: Path, make_faces: MakeFaces) -> Path:
    """Eight photos; the one in the middle is the only one that is 300 pixels wide."""
    paths = make_faces(tmp_path / "album", 8)
    picture = cv2.imread(str(paths[4]))
    cv2.imwrite(str(paths[4]), cv2.resize(picture, (300, 300), interpolation=cv2.INTER_AREA))
    return tmp_path / "album"


def short_of(pipeline: Pipeline, stage: str, error: Exception) -> Pipeline:
    """The photo of 300 pixels never fits when faces are looked for; no more than two chips fit when they are encoded."""
    assert pipeline.detector is not None
    detector: Any = pipeline.detector
    encoder: Any = pipeline.encoder
    if stage == "detect":
        detector = Short(detector, "detect", lambda pixels: any(p.shape[1] == 300 for p in pixels), error)
    else:
        encoder = Short(encoder, "encode", lambda chips: len(chips) > 2, error)
    return Pipeline(EmbedSettings(), detector, encoder, workers=2)


@pytest.mark.parametrize("error", SHORTAGES, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("stage", ["detect", "encode"])
def test_every_photo_comes_out_once_and_in_order(stage: str, error: Exception, pipeline: Pipeline, album: Path) -> None:
    photos = list_photos([album]).photos
    outcomes = list(short_of(pipeline, stage, error).run(photos))
    assert [photo.path for outcome in outcomes for photo in outcome.photos] == [photo.path for photo in photos]
    failed = {Path(f.photo.path).name: f.stage for outcome in outcomes for f in outcome.failures}
    assert failed == ({"0004.jpg": "memory"} if stage == "detect" else {})
    assert sum(len(outcome.faces.photo) for outcome in outcomes) == 8 - len(failed)


def test_such_a_photo_is_a_row_and_is_tried_again(
    pipeline: Pipeline, album: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from faceembed.engine.pipeline import loading

    index = tmp_path / "a.faiss"
    monkeypatch.setattr(loading, "open_pipeline", lambda *_, **__: short_of(pipeline, "detect", MemoryError()))
    report = embed(album, index)
    assert (report.images, report.faces, report.failed, report.no_face) == (8, 7, 1, 0)
    with index.with_suffix(".faiss.errors.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert (Path(row["path"]).name, row["stage"]) == ("0004.jpg", "memory")
    assert row["reason"].startswith("out of memory")
    monkeypatch.setattr(
        loading,
        "open_pipeline",
        lambda *_, **__: Pipeline(EmbedSettings(), pipeline.detector, pipeline.encoder, workers=2),
    )
    report = embed(album, index)
    assert (report.embedded, report.faces, report.failed) == (1, 8, 0)


def test_a_gate_and_a_server_go_on_too(pipeline: Pipeline, album: Path) -> None:
    short = short_of(pipeline, "detect", MemoryError())
    photos = list_photos([album]).photos
    assert len(short.chips(photos, 8)) == 7
    embedder = Embedder.of(short)
    seen = embedder.embed([embedder.take(Path(photo.path).read_bytes()) for photo in photos])
    assert [photo.stage for photo in seen] == ["memory" if number == 4 else "" for number in range(8)]
    assert [len(photo.faces) for photo in seen] == [0 if number == 4 else 1 for number in range(8)]
