"""Photos as columns: a sequence of `PhotoFile`s of which each is made when it is asked for, and none where whole columns are wanted.

To make an object of a photo takes a microsecond; a run on a card handed each photo on as three.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import overload

from faceembed.engine.photos.photo_file import PhotoFile, encode_path


class PhotoColumns(Sequence[PhotoFile]):
    """Photos, column by column.

    Args:
        paths, sizes, mtimes, ctimes, digests: the fields of `PhotoFile`, one entry a photo.
    """

    __slots__ = ("ctimes", "digests", "mtimes", "paths", "sizes")

    def __init__(
        self, paths: list[str], sizes: list[int], mtimes: list[int], ctimes: list[int], digests: list[str]
    ) -> None:
        self.paths = paths
        self.sizes = sizes
        self.mtimes = mtimes
        self.ctimes = ctimes
        self.digests = digests

    @classmethod
    def of(cls, photos: Sequence[PhotoFile]) -> PhotoColumns:
        """The same photos; themselves if they are columns."""
        if isinstance(photos, PhotoColumns):
            return photos
        return cls(
            [photo.path for photo in photos],
            [photo.size for photo in photos],
            [photo.mtime_ns for photo in photos],
            [photo.ctime_ns for photo in photos],
            [photo.digest for photo in photos],
        )

    def __len__(self) -> int:
        return len(self.paths)

    @overload
    def __getitem__(self, at: int) -> PhotoFile: ...
    @overload
    def __getitem__(self, at: slice) -> PhotoColumns: ...
    def __getitem__(self, at: int | slice) -> PhotoFile | PhotoColumns:
        if isinstance(at, slice):
            return PhotoColumns(self.paths[at], self.sizes[at], self.mtimes[at], self.ctimes[at], self.digests[at])
        return PhotoFile(self.paths[at], self.sizes[at], self.mtimes[at], self.ctimes[at], self.digests[at])

    def take(self, places: Sequence[int]) -> PhotoColumns:
        """The photos at these places, in that order."""
        if list(places) == list(range(len(self))):  # one face a photo, most often
            return self
        columns = (self.paths, self.sizes, self.mtimes, self.ctimes, self.digests)
        paths, sizes, mtimes, ctimes, digests = ([column[place] for place in places] for column in columns)
        return PhotoColumns(paths, sizes, mtimes, ctimes, digests)  # type: ignore[arg-type]

    @classmethod
    def joined(cls, parts: Iterable[PhotoColumns]) -> PhotoColumns:
        """All photos of the parts, in that order."""
        whole = cls([], [], [], [], [])
        for part in parts:
            whole.paths += part.paths
            whole.sizes += part.sizes
            whole.mtimes += part.mtimes
            whole.ctimes += part.ctimes
            whole.digests += part.digests
        return whole

    def read_as(self, sizes: list[int], digests: list[str]) -> PhotoColumns:
        """The same with what reading them said."""
        return PhotoColumns(self.paths, sizes, self.mtimes, self.ctimes, digests)

    def encoded_paths(self) -> list[str]:
        """`encode_path` of each."""
        together = "".join(self.paths)
        if together.isascii() and "\\udc" not in together:
            return self.paths
        return [encode_path(path) for path in self.paths]
