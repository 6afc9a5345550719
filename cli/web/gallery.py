"""The index that a server searches: its faces, and thumbnails of its own files and no others."""

from __future__ import annotations

import dataclasses
import functools
import os
import threading
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from faceembed.engine.index.files import IndexFiles, Signature, read_whole
from faceembed.engine.index.manifest import check_encoder
from faceembed.engine.index.store import FaceIndex
from faceembed.engine.models.spec import ModelSpec
from faceembed.engine.photos.photo_file import PhotoFile, decode_path, encode_path, photo_file
from faceembed.engine.photos.rows import read_parquet
from faceembed.engine.photos.thumbnail import thumbnail
from faceembed.engine.pipeline.realness import Likeness
from faceembed.errors import FaceEmbedError

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
    likeness: Likeness
    """Of the face that was looked for and this one; its parts are None without a gate, or where the index does not say how real it looks."""


@dataclasses.dataclass(frozen=True)
class _Shelf:
    """An index as it was when it was read."""

    index: FaceIndex
    stamps: dict[str, tuple[int, int]]
    root: str
    signature: Signature

    @classmethod
    def read(cls, path: str | os.PathLike[str], spec: ModelSpec, notice: Callable[[str], None]) -> _Shelf:
        """Read an index, all of it of one state.

        Raises:
            DataError, IndexFormatError: as `FaceIndex`, or another encoder's.
        """

        def load(files: IndexFiles) -> _Shelf:
            signature, index = files.signature(), FaceIndex(path, notice=notice)
            check_encoder(index.files, index.manifest, spec.name, spec.sha256)
            table = read_parquet(index.files.parquet, ("path", "size", "mtime_ns"), advice=_AGAIN)
            paths, sizes, times = (table.column(name).to_pylist() for name in ("path", "size", "mtime_ns"))
            stamps = dict(zip(map(decode_path, paths), zip(sizes, times, strict=True), strict=True))
            root = os.path.commonpath([os.path.dirname(path) for path in stamps]) if stamps else ""
            return cls(index, stamps, root, signature)

        return read_whole(path, load)


class Gallery:
    """An index in memory, read again when its files change. `find` may be called from several threads.

    One thread reads while the others go on with what there was; an index that cannot be read any more does not replace it.

    Args:
        path: the index.
        spec: the encoder, which must be the one that made it.
        notice: called with a line when the index has changed.

    Raises:
        DataError, IndexFormatError: as `FaceIndex`, or another encoder's.
    """

    def __init__(
        self, path: str | os.PathLike[str], spec: ModelSpec, *, notice: Callable[[str], None] = lambda line: None
    ) -> None:
        self._path, self._spec, self._notice = path, spec, notice
        self._shelf = _Shelf.read(path, spec, notice)
        self._looked_at = self._shelf.signature
        self._reading = threading.Lock()
        self._thumbnail = functools.lru_cache(_KEPT)(_thumbnail_of)

    def __len__(self) -> int:
        return len(self._now().index)

    def photos(self, most: int) -> list[PhotoFile]:
        """The first photos of the index."""
        return [PhotoFile(path, *stamp) for path, stamp in list(self._now().stamps.items())[:most]]

    def find(self, embedding: NDArray[np.float32], k: int, *, real: float | None = None) -> list[Found]:
        """The most similar faces, most similar first.

        Args:
            embedding: float32 (D,), unit length.
            real: how real its face looks to a gated encoder.
            k: how many, at most.
        """
        shelf = self._now()
        if not len(shelf.index):
            return []
        hits = shelf.index.search(embedding[None], k=k)[0]
        return [
            Found(
                _shown(hit.path, shelf),
                hit.face,
                hit.similarity,
                self._picture(hit.path, shelf),
                Likeness.by(hit.similarity, real, hit.real),
            )
            for hit in hits
        ]

    def _now(self) -> _Shelf:
        """The index as its files are, unless another thread is reading them just now."""
        if IndexFiles(self._shelf.index.files.faiss, self._shelf.index.files.old).signature() == self._looked_at:
            return self._shelf
        if not self._reading.acquire(blocking=False):
            return self._shelf
        try:
            signature = IndexFiles.of(self._path).signature()
            if signature == self._looked_at:
                return self._shelf
            try:
                self._shelf = _Shelf.read(self._path, self._spec, self._notice)
                signature = self._shelf.signature
                self._notice(f"{self._shelf.index.files.faiss} has changed: {len(self._shelf.index):,} faces now")
            except (FaceEmbedError, OSError) as error:
                self._notice(f"{error}: the index as it was before is served on")
            self._looked_at = signature
        finally:
            self._reading.release()
        return self._shelf

    def _picture(self, path: str, shelf: _Shelf) -> bytes | None:
        stamp = photo_file(path).stamp
        if stamp != shelf.stamps[path]:  # another file has taken its place
            return None
        return self._thumbnail(path, stamp)


def _thumbnail_of(path: str, stamp: tuple[int, int]) -> bytes | None:
    """The picture at a path, kept under what tells that file from another."""
    return thumbnail(path)


def _shown(path: str, shelf: _Shelf) -> str:
    return encode_path(os.path.relpath(path, shelf.root))
