"""A run is given less memory: what it holds at a time follows, or one line says that it cannot be."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from faceembed.engine.photos.failures import Failure
from faceembed.engine.photos.header import Header
from faceembed.engine.photos.listing import list_photos
from faceembed.engine.photos.photo_file import PhotoFile
from faceembed.engine.pipeline import loading, warm
from faceembed.engine.pipeline.batch import Item
from faceembed.engine.pipeline.intake import BATCH_BYTES, split
from faceembed.engine.pipeline.settings import EmbedSettings
from faceembed.engine.pipeline.sparing import LEAST_BYTES, Spending, spending
from faceembed.engine.runtimes.choose import RuntimeSettings
from faceembed.errors import UsageError

MIB = 1 << 20
CPU = RuntimeSettings(device="cpu", precision="fp32", threads=2)


@pytest.mark.parametrize(
    ("memory", "cores", "photos", "chips", "spare"),
    [(0, 2, 32, 16, 1), (2048, 2, 32, 16, 1), (421, 2, 32, 16, 1), (400, 2, 16, 8, 0), (360, 1, 32, 16, 1)],
)
def test_the_fastest_way_that_fits(memory: int, cores: int, photos: int, chips: int, spare: int) -> None:
    found = spending(memory * MIB, 2)
    assert (found.workers, found.photos, found.chips, found.spare) == (cores, photos, chips, spare)


@given(memory=st.integers(330, 4096), workers=st.integers(1, 64))
def test_more_memory_is_never_used_worse(memory: int, workers: int) -> None:
    less, more = spending(memory * MIB, workers), spending((memory + 64) * MIB, workers)
    assert 1 <= less.workers <= more.workers <= workers
    assert (less.workers, less.photos) <= (more.workers, more.photos)
    assert less.decoded >= LEAST_BYTES
    assert less.decoded * (less.workers + less.spare) < memory * MIB


@pytest.mark.parametrize("memory", [1, 100 * MIB, 329 * MIB])
def test_too_little_is_refused_in_one_line(memory: int) -> None:
    with pytest.raises(UsageError, match=r"--memory \d+M is too little: one core needs 330M") as error:
        EmbedSettings(memory=memory, runtime=CPU)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("memory", "device", "words"), [(-1, "cpu", "must be 0"), (400 * MIB, "cuda:1", "--gpu-memory")]
)
def test_memory_that_cannot_be_meant(memory: int, device: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        EmbedSettings(memory=memory, runtime=RuntimeSettings(device=device))


def test_a_batch_holds_no_more_decoded_bytes() -> None:
    photo = Item(PhotoFile("a", 1, 0), b"", Header("JPEG", 1000, 1000), 1)
    read: list[Item | Failure] = [photo] * 10
    assert [len(part) for part in split(read, 2 * photo.decoded_bytes)] == [2] * 5
    assert [len(part) for part in split(read, 1)] == [1] * 10  # a larger photo makes a batch of its own
    assert [len(part) for part in split(read)] == [len(part) for part in split(read, 2 * BATCH_BYTES)] == [10]


def test_a_run_holds_what_was_chosen_and_finds_the_same(
    tmp_path: Path, make_faces: Callable[[Path, int], list[Path]]
) -> None:
    settings = EmbedSettings(runtime=CPU)
    make_faces(tmp_path, 3)
    photos = list_photos([tmp_path]).photos
    vectors = []
    for given_settings, expected in (
        (settings, Spending(2)),
        (dataclasses.replace(settings, memory=390 * MIB), Spending(2, 16, 8, 0, 21 * MIB)),
        (dataclasses.replace(settings, memory=335 * MIB), Spending(1, 16, 8, 0, 17 * MIB)),
    ):
        assert given_settings.spending == expected
        pipeline = loading.open_pipeline(given_settings, loading.resolve_models(given_settings), photos, notice=print)
        assert pipeline.workers == expected.workers
        assert pipeline.batches_at_once == expected.workers + expected.spare
        assert pipeline.batch_size == expected.photos
        assert pipeline.encoder._chunk == expected.chips
        vectors.append(np.concatenate([outcome.faces.embeddings for outcome in pipeline.run(photos)]))
    warm.let_go()
    assert len(vectors[0])
    for other in vectors[1:]:
        np.testing.assert_allclose(other, vectors[0], atol=1e-5)


def test_a_smaller_batch_that_was_asked_for_stays() -> None:
    assert EmbedSettings(batch_size=4, memory=360 * MIB, runtime=CPU).photos_a_batch() == 4
    assert EmbedSettings(batch_size=64, runtime=CPU).photos_a_batch() == 64
