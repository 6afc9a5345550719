"""The one interface that every kind of archive fills."""

from __future__ import annotations

import abc
import dataclasses
import posixpath
from collections.abc import Container, Iterator


@dataclasses.dataclass(frozen=True, slots=True)
class Member:
    """A file in an archive."""

    name: str
    """As in its path, with ``/`` between folders."""
    size: int
    """Bytes, not compressed."""


class Archive(abc.ABC):
    """What is in an archive. Methods may be called from several threads at once.

    Memory is taken for the names, and for what is read: never for all of an archive's content.
    """

    only_photos: bool = False
    """Whether all its members are photos, or should be."""
    problems: list[str]
    """Why a part of it cannot be read, a line each; that part is not among the members."""

    @abc.abstractmethod
    def members(self) -> Iterator[Member]:
        """All files, in an order that is the same every time.

        Raises:
            PhotoError: the archive is damaged.
        """

    @abc.abstractmethod
    def has(self, name: str) -> bool:
        """Whether there is such a file."""

    @abc.abstractmethod
    def size(self, name: str) -> int:
        """Its bytes, not compressed.

        Raises:
            PhotoError: there is no such file, or it cannot be read.
        """

    @abc.abstractmethod
    def read(self, name: str, most: int = -1) -> bytes:
        """A file's bytes, at most the first ``most`` of them if that is not negative.

        Raises:
            PhotoError: there is no such file, it is damaged, or of a kind that is not read.
        """


def unique_name(name: str, taken: Container[str]) -> str:
    """The name of a file without what says nothing (``./``, ``//``, a leading ``/``), other than those before it.

    Archives may hold one name twice: the second is called ``name::2``.
    """
    plain = posixpath.normpath("/" + name).lstrip("/") or "(no name)"
    found, number = plain, 1
    while found in taken:
        number += 1
        found = f"{plain}::{number}"
    return found
