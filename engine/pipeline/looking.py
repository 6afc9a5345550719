"""Photos looked at in memory: every face with its row and its embedding.

looked = look(photos, settings, models)
looked.faces["/a.jpg"][0].row["score"], looked.failures["/b.jpg"].reason
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from faceembed.engine.photos.failures import Failure
from faceembed.engine.photos.photo_file import PhotoFile
from faceembed.engine.pipeline import loading
from faceembed.engine.pipeline.progress import Notify, OnProgress, Progress
from faceembed.engine.pipeline.rows import face_rows
from faceembed.engine.pipeline.settings import EmbedSettings


@dataclasses.dataclass(frozen=True)
class LookedFace:
    """One face."""

    row: dict[str, Any]
    """The columns of `FACE_SCHEMA`."""
    embedding: NDArray[np.float32]
    """(D,), unit length."""

    @property
    def box(self) -> tuple[float, float, float, float]:
        """x, y, width, height; continuous pixels of the upright photo."""
        return self.row["x"], self.row["y"], self.row["w"], self.row["h"]


@dataclasses.dataclass(frozen=True)
class Looked:
    """What became of the photos, by path: each is in one of both."""

    faces: dict[str, list[LookedFace]]
    """Largest first; one where the settings ask for ``largest``."""
    failures: dict[str, Failure]


def look(
    photos: Sequence[PhotoFile],
    settings: EmbedSettings,
    models: loading.Models,
    *,
    notice: Notify = lambda line: None,
    progress: OnProgress = lambda progress: None,
) -> Looked:
    """Embed the faces of photos.

    Args:
        photos: one that cannot be read is a failure, not an error.
        settings: models, runtime and what to look for.
        models: from `loading.resolve_models`.
        notice, progress: called with lines for the user, and after every batch.

    Raises:
        DeviceError: what was asked for cannot serve.
    """
    pipeline = loading.open_pipeline(settings, models, photos, notice=notice)
    looked = Looked({}, {})
    count = 0
    with contextlib.closing(pipeline.run(photos)) as outcomes:
        for outcome in outcomes:
            rows = face_rows([outcome], models.encoder.spec)[0].to_pylist()
            for place, row, vector in zip(outcome.faces.photo.tolist(), rows, outcome.faces.embeddings, strict=True):
                found = looked.faces.setdefault(outcome.photos[place].path, [])
                found.append(LookedFace(row, vector.copy()))
                found.sort(key=lambda face: int(face.row["face"]))
            looked.failures.update({failure.photo.path: failure for failure in outcome.failures})
            count += len(rows)
            done = len(looked.faces) + len(looked.failures)
            progress(Progress(done, len(photos), count, len(looked.failures)))
    return looked
