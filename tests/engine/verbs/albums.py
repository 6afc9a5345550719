"""Made pictures and a pipeline without networks, for tests of what happens to an index's files."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from faceembed.engine.index.files import IndexFiles
from faceembed.engine.index.shards import FaceTable
from faceembed.engine.index.store import load_faces
from faceembed.engine.photos.failures import read_errors
from faceembed.engine.pipeline import loading
from faceembed.engine.pipeline.batches import Pipeline
from faceembed.engine.pipeline.settings import EmbedSettings
from faceembed.engine.verbs.embed import EmbedReport, embed

SIDE = 24
DIMENSION = 256
_MATRIX = np.random.default_rng(0).normal(size=(75, DIMENSION))


class Encoder:
    """Averages a chip's colours and turns them: equal pictures give equal vectors, others do not."""

    def __init__(self, models: loading.Models) -> None:
        self.model = models.encoder
        self.choice = SimpleNamespace(device="cpu", runtime="made up", precision="fp32")
        self.admitted = True

    def encode(self, chips: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        colours = chips.reshape(-1, 5, 30, 5, 30, 3).mean(axis=(2, 4)).reshape(-1, 75)
        vectors = (colours - 127.5) @ _MATRIX
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        return (vectors / norms).astype(np.float32), norms[:, 0].astype(np.float32)


@dataclasses.dataclass
class Counted:
    """How many photos the pipeline was given."""

    photos: int = 0


def without_networks(monkeypatch: pytest.MonkeyPatch) -> Counted:
    """Let `embed` take each photo whole for a face; returns what counts those that are computed."""
    counted = Counted()

    def open_pipeline(settings: EmbedSettings, models: loading.Models, todo: list[Any], **_: object) -> Pipeline:
        counted.photos += len(todo)
        encoder: Any = Encoder(models)
        return Pipeline(settings, None, encoder, workers=1)

    monkeypatch.setattr(loading, "open_pipeline", open_pipeline)
    return counted


def picture(path: Path, seed: int, *, side: int = SIDE) -> Path:
    """A square picture that is like no other: a PNG, whatever its ending."""
    path.parent.mkdir(parents=True, exist_ok=True)
    blocks = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), np.uint8)
    pixels = cv2.resize(blocks, (side, side), interpolation=cv2.INTER_NEAREST)
    path.write_bytes(cv2.imencode(".png", pixels)[1].tobytes())
    return path


def album(folder: Path, count: int, *, first: int = 0) -> Path:
    """So many pictures, of three kinds of size."""
    for number in range(first, first + count):
        picture(folder / f"{number:05d}.png", number, side=SIDE + number % 3)
    return folder


def run(photos: Any, index: Path, **options: Any) -> EmbedReport:
    """`embed` with photos that are crops already."""
    return embed(photos, index, settings=EmbedSettings(aligner="none", batch_size=16), **options)


def faces_of(index: Path) -> FaceTable:
    """What the index holds."""
    return load_faces(IndexFiles.of(index))


def paths_of(index: Path) -> list[str]:
    """The paths in the index, sorted."""
    return sorted(photo.path for photo in faces_of(index).photos())


def ids_of(index: Path) -> dict[str, int]:
    """File name to face_id."""
    table = faces_of(index)
    names = [os.path.basename(photo.path) for photo in table.photos()]
    return dict(zip(names, table.rows.column("face_id").to_pylist(), strict=True))


def failures_of(index: Path) -> dict[str, str]:
    """File name to stage."""
    return {os.path.basename(f.photo.path): f.stage for f in read_errors(IndexFiles.of(index).errors)}


def state_of(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, but for the empty lock."""
    return {
        str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file() and not path.name.endswith(".lock")
    }
