"""The verb `matrix`: the similarity of every photo to every other."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from faceembed.engine.photos.left_out import Choice
from faceembed.engine.photos.listing import list_photos
from faceembed.engine.photos.photo_file import printable
from faceembed.engine.photos.thumbnail import thumbnail
from faceembed.engine.pipeline.few_photos import embed_photos
from faceembed.engine.pipeline.progress import Notify
from faceembed.engine.pipeline.realness import Likeness, identity_table, looks_altered, realness
from faceembed.engine.pipeline.settings import EmbedSettings
from faceembed.engine.report import check_matrix_size, write_matrix_html, write_matrix_png
from faceembed.errors import DataError


@dataclasses.dataclass(frozen=True)
class Matrix:
    """Pairwise similarities; with ``altered`` the fields of ``matrix --json``."""

    paths: list[str]
    similarity: NDArray[np.float32]
    """(n, n) cosines; rows and columns of photos without a face are NaN."""
    failures: dict[str, str]
    encoder: str
    identity: NDArray[np.float32] | None = None
    """(n, n) cosines of the identities alone, of a gated encoder."""
    real: list[float | None] | None = None
    """How real each face looks to a gated encoder, 0 to 1; None for photos without a face."""
    faces: list[int] = dataclasses.field(default_factory=list)
    """How many faces each photo has, of which the largest was taken."""
    threshold: float | None = None
    """The encoder's own, if one was measured."""

    @property
    def altered(self) -> list[bool | None] | None:
        """Whether each face looks altered to a gated encoder; None for photos without a face."""
        return None if self.real is None else [looks_altered(real) for real in self.real]

    def to_json_dict(self) -> dict[str, Any]:
        """As plain types; NaN becomes null."""
        return {
            "paths": self.paths,
            "similarity": _rounded(self.similarity),
            "failures": self.failures,
            "encoder": self.encoder,
            "identity": None if self.identity is None else _rounded(self.identity),
            "real": self.real,
            "altered": self.altered,
            "faces": self.faces,
            "threshold": self.threshold,
        }

    def notes(self) -> dict[str, list[str]]:
        """What is to be said of a photo beside its similarities."""
        notes: dict[str, list[str]] = {}
        for path, real, altered in zip(self.paths, self.real or [], self.altered or [], strict=False):
            if altered:
                notes.setdefault(path, []).append(f"looks altered ({real:.2f})")
        for path, faces in zip(self.paths, self.faces, strict=False):
            if faces > 1:
                notes.setdefault(path, []).append(f"has {faces} faces, and the largest was taken")
        return notes

    def remarks(self) -> dict[tuple[int, int], str]:
        """A sentence for each pair that is one person by identity and kept apart only because one of them looks altered."""
        if self.threshold is None or self.identity is None or self.real is None:
            return {}
        names = [printable(os.path.basename(path)) for path in self.paths]
        remarks = {}
        for a, b in np.argwhere(np.triu(self.identity >= self.threshold, 1)).tolist():
            likeness = Likeness(float(self.identity[a, b]), self.real[a], self.real[b])
            if said := likeness.remark(float(self.similarity[a, b]), self.threshold, (names[a], names[b])):
                remarks[a, b] = said
        return remarks


def _rounded(table: NDArray[np.float32]) -> list[list[float | None]]:
    return [[None if np.isnan(value) else round(float(value), 6) for value in row] for row in table]


def matrix(
    photos: Sequence[str | os.PathLike[str]],
    *,
    settings: EmbedSettings | None = None,
    html: str | os.PathLike[str] | None = None,
    png: str | os.PathLike[str] | None = None,
    exclude: Sequence[str] = (),
    include: Sequence[str] = (),
    pages: bool = False,
    fps: float | None = None,
    notice: Notify = lambda line: None,
) -> Matrix:
    """The similarity of every photo to every other, by the largest face of each.

    Args:
        photos: files and folders.
        settings: models and runtime.
        html: also write the table with thumbnails there, as a page.
        png: the same as a picture.
        exclude: which files of folders are left out, as for `embed`.
        include: which of them are taken, as for `embed`.
        pages: whether the further pages of TIFFs are photos too.
        fps: frames a second of videos that are photos; None: none.
        notice: called with lines for the user.

    Raises:
        DataError: fewer than two photos, or no face in any of them.
    """
    listing = list_photos(photos, choice=Choice(tuple(exclude), tuple(include), pages, fps))
    for line in listing.remarks():
        notice(line)
    paths = [photo.path for photo in listing.photos]
    if len(paths) < 2:
        raise DataError(f"a matrix needs at least two photos, found {len(paths)}")
    if html is not None or png is not None:
        check_matrix_size(len(paths))
    embedded = embed_photos(paths, settings or EmbedSettings(), count=True, notice=notice)
    if not embedded.vectors:
        raise DataError(f"no face found in any of the {len(paths)} photos ({embedded.failures[paths[0]]})")
    missing = np.full(len(next(iter(embedded.vectors.values()))), np.nan, np.float32)
    stacked = np.stack([embedded.vectors.get(path, missing) for path in paths])
    looks = realness(stacked, embedded.spec)
    result = Matrix(
        paths,
        stacked @ stacked.T,
        embedded.failures,
        embedded.encoder,
        identity_table(stacked, embedded.spec),
        None if looks is None else [None if np.isnan(p) else round(float(p), 6) for p in looks],
        [embedded.found.get(path, 1) if path in embedded.vectors else 0 for path in paths],
        embedded.threshold,
    )
    if html is not None:
        write_matrix_html(
            html,
            paths,
            result.similarity,
            thumbnail,
            reasons=embedded.failures,
            threshold=embedded.threshold,
            encoder=embedded.encoder,
            notes=result.notes(),
            remarks=result.remarks(),
        )
    if png is not None:
        reasons = embedded.failures
        write_matrix_png(png, paths, result.similarity, thumbnail, reasons=reasons, notes=result.notes())
    return result
