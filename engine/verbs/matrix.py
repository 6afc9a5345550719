"""The verb `matrix`: the similarity of every photo to every other."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from faceembed.engine.photos.listing import list_photos
from faceembed.engine.photos.thumbnail import thumbnail
from faceembed.engine.pipeline.few_photos import embed_photos
from faceembed.engine.pipeline.progress import Notify
from faceembed.engine.pipeline.realness import identity_table, realness
from faceembed.engine.pipeline.settings import EmbedSettings
from faceembed.engine.report import check_matrix_size, write_matrix_html, write_matrix_png
from faceembed.errors import DataError


@dataclasses.dataclass(frozen=True)
class Matrix:
    """Pairwise similarities; the fields of ``matrix --json`` are ``paths``, ``similarity``, ``failures``, ``encoder``, ``identity``, ``real``."""

    paths: list[str]
    similarity: NDArray[np.float32]
    """(n, n) cosines; rows and columns of photos without a face are NaN."""
    failures: dict[str, str]
    encoder: str
    identity: NDArray[np.float32] | None = None
    """(n, n) cosines of the identities alone, of a gated encoder."""
    real: list[float | None] | None = None
    """How real each face looks to a gated encoder, 0 to 1; None for photos without a face."""

    def to_json_dict(self) -> dict[str, Any]:
        """As plain types; NaN becomes null."""
        return {
            "paths": self.paths,
            "similarity": _rounded(self.similarity),
            "failures": self.failures,
            "encoder": self.encoder,
            "identity": None if self.identity is None else _rounded(self.identity),
            "real": self.real,
        }


def _rounded(table: NDArray[np.float32]) -> list[list[float | None]]:
    return [[None if np.isnan(value) else round(float(value), 6) for value in row] for row in table]


def matrix(
    photos: Sequence[str | os.PathLike[str]],
    *,
    settings: EmbedSettings | None = None,
    html: str | os.PathLike[str] | None = None,
    png: str | os.PathLike[str] | None = None,
    notice: Notify = lambda line: None,
) -> Matrix:
    """The similarity of every photo to every other.

    Args:
        photos: files and folders.
        settings: models and runtime.
        html: also write the table with thumbnails there, as a page.
        png: the same as a picture.
        notice: called with lines for the user.

    Raises:
        DataError: fewer than two photos, or no face in any of them.
    """
    paths = [photo.path for photo in list_photos(photos).photos]
    if len(paths) < 2:
        raise DataError(f"a matrix needs at least two photos, found {len(paths)}")
    if html is not None or png is not None:
        check_matrix_size(len(paths))
    embedded = embed_photos(paths, settings or EmbedSettings(), notice=notice)
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
        )
    if png is not None:
        write_matrix_png(png, paths, result.similarity, thumbnail, reasons=embedded.failures)
    return result
