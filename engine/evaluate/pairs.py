"""Pairs of photos: which two, and whether they show the same person.

`pair_formats.read_pairs` reads them; `check_files` asks whether the photos are there. What is not known here: formats, faces, embeddings.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator
from typing import cast

import numpy as np
import numpy.typing as npt

from faceembed.engine.photos.places import is_photo_file
from faceembed.errors import DataError, PairListError

Kind = str
"""``same``, or any other word for what a negative pair is."""


@dataclasses.dataclass(frozen=True)
class Pair:
    """Two photos and what is known of them."""

    path_a: str
    path_b: str
    label: bool | None
    """Whether both show the same real person; None in a test list without answers."""
    kind: Kind | None
    """``same``; ``other`` (two people), ``fake`` (a photo and a deepfake of that person) or any word for negatives; None without a
    label."""
    fold: int | None = None
    """The list's own fold for cross-validation, from 0."""
    pair_id: str | None = None
    group: str | None = None
    """Age, origin, sex, camera … of the pair, where the list says one."""


@dataclasses.dataclass(frozen=True)
class PairList:
    """The pairs of one list, in the list's order. Behaves like a sequence of `Pair`."""

    source: str
    """The file or folder it was read from."""
    pairs: tuple[Pair, ...]
    lines: tuple[int, ...] = ()
    """Line in ``source`` on which each pair ends; empty where the source is a folder."""
    scores: tuple[float, ...] | None = None
    """The score of each pair, where the list has scores and no photos; the paths are no files then."""
    rows: bool = False
    """Whether the paths are the ``face_id`` of an index's faces, and no files."""

    def __len__(self) -> int:
        return len(self.pairs)

    def __iter__(self) -> Iterator[Pair]:
        return iter(self.pairs)

    def __getitem__(self, index: int) -> Pair:
        return self.pairs[index]

    @property
    def labelled(self) -> bool:
        """Whether every pair has a label."""
        return all(pair.label is not None for pair in self.pairs)

    @property
    def one_class(self) -> bool:
        """Whether all its pairs are of one person, or none is."""
        return len({pair.label for pair in self.pairs}) == 1

    @functools.cached_property
    def labels(self) -> npt.NDArray[np.bool_]:
        """``(n,)`` bool: True where both photos show the same real person.

        Raises:
            DataError: the list has no labels.
        """
        if not self.labelled:
            raise DataError(
                f"{self.source}: the list has no labels, so its pairs can be scored but no error rate can be computed; "
                "write the scores instead, or give a list with a label column"
            )
        return np.fromiter((bool(pair.label) for pair in self.pairs), np.bool_, len(self.pairs))

    @functools.cached_property
    def kinds(self) -> npt.NDArray[np.str_]:
        """``(n,)`` of ``same``, ``other``, ``fake`` or another word; an empty string for a pair without a label."""
        return np.array([pair.kind or "" for pair in self.pairs], dtype=np.str_)

    @functools.cached_property
    def groups(self) -> npt.NDArray[np.str_]:
        """``(n,)`` the group of each pair; empty strings where there is none."""
        return np.array([pair.group or "" for pair in self.pairs], dtype=np.str_)

    @functools.cached_property
    def negative_kinds(self) -> tuple[str, ...]:
        """The kinds of its negatives: ``other`` and ``fake`` first, then the rest by name."""
        found = sorted({pair.kind for pair in self.pairs if pair.kind and pair.kind != "same"})
        return tuple(sorted(found, key=lambda kind: {"other": 0, "fake": 1}.get(kind, 2)))

    @functools.cached_property
    def folds(self) -> npt.NDArray[np.int64] | None:
        """``(n,)`` int64, or None where the list brings no folds."""
        if any(pair.fold is None for pair in self.pairs):
            return None
        return np.fromiter((cast(int, pair.fold) for pair in self.pairs), np.int64, len(self.pairs))

    @functools.cached_property
    def photos(self) -> tuple[str, ...]:
        """Every photo once, in order of first appearance."""
        return tuple(dict.fromkeys(path for pair in self.pairs for path in (pair.path_a, pair.path_b)))


def check_files(pairs: PairList) -> None:
    """See that every photo of the list exists, before hours are spent on the others.

    Raises:
        PairListError: some are missing; the message counts them and names the first. Or the list has no photos.
    """
    if pairs.scores is not None:
        raise PairListError(
            f"{pairs.source}: the list has scores and no photos; eval computes error rates of it, and nothing else does"
        )
    if pairs.rows:
        raise PairListError(
            f"{pairs.source}: the list names faces of an index by face_id; eval takes it, with --index INDEX.faiss"
        )
    missing = [photo for photo in pairs.photos if not is_photo_file(photo)]
    if not missing:
        return
    first = missing[0]
    index = next(i for i, pair in enumerate(pairs) if first in (pair.path_a, pair.path_b))
    where = f"line {pairs.lines[index]}" if pairs.lines else f"pair {pairs[index].pair_id or index}"
    raise PairListError(
        f"{pairs.source}: {len(missing)} of {len(pairs.photos)} photos are missing, the first is {first!r} ({where}); "
        "correct the paths, or say with --root which folder they are relative to"
    )
