"""Targets from teachers' indexes: the right vector for the right crop, joined as the formula says, and one line for what cannot be."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from faceembed.engine.index import store
from faceembed.engine.index.files import IndexFiles
from faceembed.engine.index.shards import FaceTable
from faceembed.engine.photos.photo_file import encode_path
from faceembed.errors import DataError, UsageError
from faceembed.trainer.batches import targets as module
from faceembed.trainer.batches.dataset import Crops
from faceembed.trainer.batches.targets import read_targets
from faceembed.trainer.data.people import Sample
from faceembed.trainer.recipes.goals import Teachers

Indexes = Callable[..., str]


def crops_of(people: int, photos: int, folder: Path) -> Crops:
    samples = tuple(
        Sample(str(folder / "crops" / f"{p}-{i}.jpg"), f"p{p}") for p in range(people) for i in range(photos)
    )
    return Crops(samples, tuple(str(folder / f"{p}-{i}.jpg") for p in range(people) for i in range(photos)), 24, 24)


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch) -> Indexes:
    """Stands for reading an index: ``index("a.faiss", photos, vectors)`` makes `load_faces` answer so for that name."""
    tables: dict[str, FaceTable] = {}

    def make(name: str, photos: list[str], vectors: np.ndarray) -> str:
        rows = pa.table({"path": [encode_path(photo) for photo in photos]})
        tables[IndexFiles.of(name).faiss.name] = FaceTable(rows, vectors.astype(np.float32))
        return name

    monkeypatch.setattr(module, "load_faces", lambda files: tables[files.faiss.name])
    assert store.load_faces is not module.load_faces
    return make


def embeddings(crops: Crops, dimension: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    people = rng.normal(size=(len(crops.persons), dimension)) + 0.8
    return people[crops.person] + 0.3 * rng.normal(size=(len(crops), dimension))


def test_inner_product_is_the_sum_of_standardised_similarities(index: Indexes, tmp_path: Path) -> None:
    crops = crops_of(12, 3, tmp_path)
    a, b = embeddings(crops, 8, 1), embeddings(crops, 6, 2)
    order = np.random.default_rng(3).permutation(len(crops))
    photos = [crops.photos[i] for i in order]
    given = Teachers(
        indexes=(index("a.faiss", photos, a[order]), index("b.faiss", list(crops.photos), b)),
        weights=(2.0, 1.0),
        centre=0.5,
    )
    found = read_targets(given, crops)
    assert found.vectors.shape == (len(crops), 14) and found.vectors.dtype == np.float32 and found.missing == 0
    wanted = np.zeros((len(crops), len(crops)))
    for weight, raw in ((2.0, a), (1.0, b)):
        units = raw / np.linalg.norm(raw, axis=1, keepdims=True)
        spread = np.std(
            [units[i] @ units[j] for i in range(36) for j in range(36) if crops.person[i] != crops.person[j]]
        )
        centred = units - 0.5 * units.mean(0)
        wanted += weight / spread * centred @ centred.T
    wanted /= np.trace(wanted) / len(crops)
    np.testing.assert_allclose(found.vectors @ found.vectors.T, wanted, atol=1e-4)


def test_a_crop_that_a_teacher_did_not_see_has_no_target(index: Indexes, tmp_path: Path) -> None:
    crops = crops_of(4, 3, tmp_path)
    vectors = embeddings(crops, 8, 1)
    given = Teachers(
        indexes=(
            index("a.faiss", list(crops.photos), vectors),
            index("b.faiss", [*crops.photos[1:], str(tmp_path / "elsewhere.jpg")], vectors),
        )
    )
    found = read_targets(given, crops)
    assert found.missing == 1
    assert np.isnan(found.vectors[0]).all() and np.isfinite(found.vectors[1:]).all()


@pytest.mark.parametrize(
    ("photos", "line"),
    [
        (lambda crops: ["/other/photo.jpg"], "holds none of the photos"),
        (lambda crops: [*crops.photos, crops.photos[2]], "holds 2 faces of .*0-2.jpg.*--faces largest"),
    ],
)
def test_what_cannot_be(index: Indexes, tmp_path: Path, photos: Callable[[Crops], list[str]], line: str) -> None:
    crops = crops_of(3, 3, tmp_path)
    named = photos(crops)
    with pytest.raises(DataError, match=line):
        read_targets(Teachers(indexes=(index("a.faiss", named, np.eye(len(named), 16) + 1),)), crops)


def test_one_person_has_no_strangers(index: Indexes, tmp_path: Path) -> None:
    crops = crops_of(1, 4, tmp_path)
    with pytest.raises(DataError, match="one person only"):
        read_targets(Teachers(indexes=(index("a.faiss", list(crops.photos), embeddings(crops, 8, 1)),)), crops)


def test_settings_that_contradict() -> None:
    with pytest.raises(UsageError, match=r"2 numbers for 1 teachers\.indexes"):
        Teachers(indexes=("a.faiss",), weights=(1.0, 1.0))
    assert Teachers(indexes=("a", "b")).shares == (1.0, 1.0)
    assert dataclasses.replace(Teachers(indexes=("a",)), weights=(2.0,)).shares == (2.0,)
