"""The index that a server searches: its faces, and thumbnails of its own files and no others."""

from __future__ import annotations

import dataclasses
import functools
import os

import numpy as np
from numpy.typing import NDArray

from faceembed.engine.index.store import FaceIndex, check_encoder
from faceembed.engine.models.spec import ModelSpec
from faceembed.engine.photos.listing import PhotoFile, decode_path, encode_path
from faceembed.engine.photos.rows import read_parquet
from faceembed.engine.photos.thumbnail import thumbnail

_KEPT = 512  # thumbnails in memory, of some 4 kB
_AGAIN = "make the index again with --fresh"


@dataclasses.dataclass(frozen=True)
class Found:
    """One face of the index."""

    path: str
    """As it is shown: below the folder that all photos of the index share, as valid UTF-8."""
    face: int
    similarity: float
    thumbnail: bytes | None
    """JPEG of the whole photo; None if the file is gone or not the one that was embedded."""
    real: float | None = None
    """How real it looks to a gated encoder, 0 to 1; None without a gate, or where the index does not say."""


class Gallery:
    """An index in memory. `find` may be called from several threads.

    Args:
        path: the index.
        spec: the encoder, which must be the one that made it.

    Raises:
        DataError, IndexFormatError: as `FaceIndex`, or another encoder's.
    """

    def __init__(self, path: str | os.PathLike[str], spec: ModelSpec) -> None:
        self._index = FaceIndex(path)
        check_encoder(self._index.files, self._index.manifest, spec.name, spec.sha256)
        table = read_parquet(self._index.files.parquet, ("path", "size", "mtime_ns"), advice=_AGAIN)
        paths, sizes, times = (table.column(name).to_pylist() for name in ("path", "size", "mtime_ns"))
        self._stamps = dict(zip(map(decode_path, paths), zip(sizes, times, strict=True), strict=True))
        self._root = os.path.commonpath([os.path.dirname(path) for path in self._stamps]) if self._stamps else ""
        self._thumbnail = functools.lru_cache(_KEPT)(thumbnail)

    def __len__(self) -> int:
        return len(self._index)

    def photos(self, most: int) -> list[PhotoFile]:
        """The first photos of the index."""
        return [PhotoFile(path, *stamp) for path, stamp in list(self._stamps.items())[:most]]

    def find(self, embedding: NDArray[np.float32], k: int) -> list[Found]:
        """The most similar faces, most similar first.

        Args:
            embedding: float32 (D,), unit length.
            k: how many, at most.
        """
        if not len(self):
            return []
        hits = self._index.search(embedding[None], k=k)[0]
        return [
            Found(self._shown(hit.path), hit.face, hit.similarity, self._picture(hit.path), hit.real) for hit in hits
        ]

    def _shown(self, path: str) -> str:
        return encode_path(os.path.relpath(path, self._root))

    def _picture(self, path: str) -> bytes | None:
        try:
            info = os.stat(path)
        except OSError:
            return None
        if (info.st_size, info.st_mtime_ns) != self._stamps[path]:  # another file has taken its place
            return None
        return self._thumbnail(path)
