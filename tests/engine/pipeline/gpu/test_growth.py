"""More processes on a card: only where that is measured to be faster, with nothing lost, doubled or out of order on the way."""

from __future__ import annotations

import dataclasses
import multiprocessing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from faceembed.engine.models.spec import Model
from faceembed.engine.photos.photo_columns import PhotoColumns
from faceembed.engine.photos.photo_file import PhotoFile
from faceembed.engine.pipeline.gpu import growing, processes
from faceembed.engine.pipeline.gpu.growing import GrowingPipeline
from faceembed.engine.pipeline.gpu.growth import GAIN, SECONDS, Growth
from faceembed.engine.pipeline.gpu.opening import Opening
from faceembed.engine.pipeline.gpu.packing import packed, packed_read, unpacked
from faceembed.engine.pipeline.gpu.pipeline import DevicePipeline
from faceembed.engine.pipeline.gpu.workers import ManyPipelines
from faceembed.engine.pipeline.settings import EmbedSettings
from faceembed.engine.runtimes.choose import RuntimeSettings
from faceembed.errors import UsageError
from tests.engine.pipeline.gpu.conftest import CHOICE, faces_of

MakeFaces = Callable[[Path, int], list[Path]]


class Watch:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@settings(deadline=None)
@given(st.lists(st.floats(1000, 30_000), min_size=1, max_size=6), st.integers(1, 3))
def test_one_more_as_long_as_the_rate_rises(rates: list[float], most: int) -> None:
    """``rates[n]`` with n + 1 processes: one is added after the first measurement, and then while each brought a tenth."""
    watch = Watch()
    growth = Growth(most, watch)
    seen = [2 * int(rate * SECONDS / 2) / SECONDS for rate in rates]  # as whole photos
    working = 1
    while working <= len(rates):
        growth.begin()
        watch.now += SECONDS / 2
        assert not growth.took(int(rates[working - 1] * SECONDS / 2))  # too early to say
        watch.now += SECONDS / 2
        if not growth.took(int(rates[working - 1] * SECONDS / 2)):
            break
        working += 1
    expected = 1
    while expected <= len(rates) and expected - 1 < most:
        if expected > 1 and seen[expected - 1] < GAIN * seen[expected - 2]:
            break
        expected += 1
    assert working == expected
    assert not growth.took(1_000_000)  # nothing is measured until somebody says `begin`
    assert bool(growth.remark()) == (len(growth.rates) > 1)


photos = st.builds(PhotoFile, st.text(max_size=5), st.integers(0, 2**40), st.integers(-(2**60), 2**60), st.integers(0))


@settings(deadline=None)
@given(st.lists(photos, max_size=5), st.lists(st.text("0123456789abcdef", max_size=4), min_size=5, max_size=5))
def test_photos_come_out_as_they_went_in(listed: list[PhotoFile], digests: list[str]) -> None:
    columns = unpacked(packed(PhotoColumns.of(listed)))
    assert list(columns) == listed and PhotoColumns.of(columns) is columns
    read = [dataclasses.replace(photo, size=7, digest=digest) for photo, digest in zip(listed, digests, strict=False)]
    assert list(columns[: len(read)].read_as(*packed_read(read))) == read


@pytest.fixture(scope="module")
def album(tmp_path_factory: pytest.TempPathFactory, make_faces: MakeFaces) -> list[PhotoFile]:
    return [PhotoFile(str(path), 1000, 0) for path in make_faces(tmp_path_factory.mktemp("album"), 30)]


@pytest.fixture
def opening(tiny_encoder: Model, backend: object) -> Opening:
    settings = EmbedSettings(aligner="none", batch_size=4, runtime=RuntimeSettings(threads=1))
    return Opening(settings, tiny_encoder, None, CHOICE)


def grown(opening: Opening, monkeypatch: pytest.MonkeyPatch, *, busy: float) -> GrowingPipeline:
    """One that has measured after its first batch, and can always wait for the others."""
    monkeypatch.setattr("faceembed.engine.pipeline.gpu.growth.SECONDS", 0.0)
    monkeypatch.setattr(growing, "START_SECONDS", 0.0)
    monkeypatch.setattr(growing, "BUSY", busy)
    return GrowingPipeline(opening.open(), opening, most=3)


def same(outcomes: list[Any], alone: list[Any]) -> None:
    paths = [[photo.path for outcome in some for photo in outcome.photos] for some in (outcomes, alone)]
    assert paths[0] == paths[1]
    digests = [[photo.digest for outcome in some for photo in outcome.photos] for some in (outcomes, alone)]
    assert digests[0] == digests[1] and all(digests[0])
    ours, theirs = faces_of(outcomes), faces_of(alone)
    assert ours.keys() == theirs.keys()
    for path, face in theirs.items():
        np.testing.assert_array_equal(ours[path].embedding, face.embedding)


def test_others_take_over_and_nothing_is_lost(
    opening: Opening, album: list[PhotoFile], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first does photos until two have loaded their models; these do the rest, and a third joins them."""
    many = grown(opening, monkeypatch, busy=0.0)
    by_first: list[int] = []
    real = many._first.run_groups
    monkeypatch.setattr(
        many._first, "run_groups", lambda groups: real((by_first.append(group[0]), group)[1] for group in groups)
    )
    repeated = album * 200
    outcomes = list(many.run(repeated, boundary=10))
    assert [photo.path for outcome in outcomes for photo in outcome.photos] == [photo.path for photo in repeated]
    alone = faces_of(list(opening.open().run(album)))
    for part in (outcomes[:10], outcomes[-30:]):  # the first's, and the others'
        for path, face in faces_of(part).items():
            np.testing.assert_array_equal(face.embedding, alone[path].embedding)
    assert 0 < len(by_first) < len(repeated) / 4  # its part is the first one
    assert sum(many.photos_by.values()) > 0
    assert many.decoded_by == {"device": len(repeated)}
    assert "photos/s with 2" in many.remarks()[-1]
    assert not multiprocessing.active_children()


def test_where_the_card_bounds_the_rate_it_stays_alone(
    opening: Opening, album: list[PhotoFile], monkeypatch: pytest.MonkeyPatch
) -> None:
    many = grown(opening, monkeypatch, busy=float("inf"))
    same(list(many.run(album, boundary=10)), list(opening.open().run(album, boundary=10)))
    assert not many.photos_by and not many.remarks() and many.decoded_by == {"device": 30}


def test_where_others_cannot_start_one_does_all(
    opening: Opening, album: list[PhotoFile], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    many = grown(opening, monkeypatch, busy=0.0)
    many._openings = [
        dataclasses.replace(opening, encoder=Model(opening.encoder.spec, str(tmp_path / "gone.onnx")))
    ] * 2
    repeated = album * 200
    outcomes = list(many.run(repeated))
    assert [photo.path for outcome in outcomes for photo in outcome.photos] == [photo.path for photo in repeated]
    assert "did not start, one did all" in many.remarks()[-1] and "gone.onnx" in many.remarks()[-1]
    assert not multiprocessing.active_children()


def test_stopping_early_leaves_no_process(
    opening: Opening, album: list[PhotoFile], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = grown(opening, monkeypatch, busy=0.0).run(album * 50)
    for _ in range(3):
        next(run)
    run.close()  # type: ignore[attr-defined]
    assert not multiprocessing.active_children()


@pytest.mark.parametrize(
    ("asked", "cores", "cards", "photos", "kind", "workers"),
    [
        (0, 8, 1, 100_000, GrowingPipeline, 2),
        (0, 8, 1, 1_000, DevicePipeline, 0),  # done before another has started
        (0, 1, 1, 100_000, DevicePipeline, 0),  # no core for another
        (1, 8, 1, 100_000, DevicePipeline, 0),
        (3, 8, 1, 100, ManyPipelines, 3),
        (0, 8, 2, 100_000, ManyPipelines, 2),
        (2, 8, 2, 100_000, ManyPipelines, 4),
    ],
)
def test_which_processes(
    opening: Opening, asked: int, cores: int, cards: int, photos: int, kind: type, workers: int
) -> None:
    settings = dataclasses.replace(opening.settings, processes=asked, runtime=RuntimeSettings(threads=cores))
    first = dataclasses.replace(opening, settings=settings).open()
    said: list[str] = []
    names = [f"cuda:{number}" for number in range(cards)]
    found = processes.on_cards(first, names, None, photos=photos, notice=said.append)
    assert type(found) is kind
    if isinstance(found, ManyPipelines):
        assert len(found._openings) == workers
        assert {one.device for one in found._openings} == set(names)
        assert found._openings[0].processes == (asked or min(4, cores // cards))
    assert bool(said) == (asked > 1 or cards > 1)


def test_processes_are_a_cards() -> None:
    with pytest.raises(UsageError, match="--processes is for an NVIDIA card"):
        EmbedSettings(processes=2, runtime=RuntimeSettings(device="cpu"))
