"""LFW's own pair lists, which name people instead of files: ``pairs.txt``, and Kaggle's tables of the same.

pairs.txt                   10 300, then rows  Name n1 n2  or  Name1 n1 Name2 n2
pairs.csv                   name,imagenum1,imagenum2,      rows of both kinds
matchpairsDevTest.csv       name,imagenum1,imagenum2
mismatchpairsDevTest.csv    name,imagenum1,name,imagenum2
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence

from faceembed.engine.evaluate.pairs import Pair, PairList
from faceembed.engine.evaluate.tables import Row
from faceembed.errors import PairListError

_SAME = ["name", "imagenum1", "imagenum2"]
_KAGGLE = (_SAME, [*_SAME, ""], ["name", "imagenum1", "name", "imagenum2"], ["name", "imagenum1", "imagenum2", "name"])
_FOLDS = 10  # of View 2


def read_lfw(source: str, text: str, root: str | None) -> PairList:
    """http://vis-www.cs.umass.edu/lfw/README.txt: ``folds n``, then per fold n same pairs and n different ones.

    The development lists have no fold count: ``n``, then n same and n different pairs.

    Raises:
        PairListError: naming the line; or no root.
    """
    root = _root(source, root)
    rows = [(number, line.split()) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    header = [int(cell) for cell in rows[0][1]]
    folds, size = (header[0], header[1]) if len(header) == 2 else (1, header[0])
    pairs: list[Pair] = []
    for index, (number, cells) in enumerate(rows[1:]):
        fold = min(index // max(2 * size, 1), folds - 1) if len(header) == 2 else None
        pairs.append(_pair(root, cells, f"{source}, line {number}", fold))
    if len(pairs) != 2 * folds * size:
        raise PairListError(
            f"{source}, line 1: the header promises {2 * folds * size} pairs, the list holds {len(pairs)}; is it cut short?"
        )
    return PairList(source, tuple(pairs), tuple(number for number, _ in rows[1:]))


def is_kaggle(head: Sequence[str]) -> bool:
    """Whether a header is one of Kaggle's."""
    return list(head) in _KAGGLE


def kaggle_pairs(source: str, rows: Sequence[Row], root: str | None) -> PairList:
    """The pairs of one of Kaggle's tables. Where they alternate in ten equal runs, these are View 2's folds.

    Raises:
        PairListError: naming the line; or no root.
    """
    root = _root(source, root)
    cells = [[cell.strip() for cell in row.cells if cell.strip()] for row in rows]
    runs = [(same, len(list(run))) for same, run in itertools.groupby(len(row) == 3 for row in cells)]
    size = len(cells) // _FOLDS if len(runs) == 2 * _FOLDS and len({count for _, count in runs}) == 1 else 0
    pairs = [
        _pair(root, row, whole.where, index // size if size else None)
        for index, (row, whole) in enumerate(zip(cells, rows, strict=True))
    ]
    return PairList(source, tuple(pairs), tuple(row.line for row in rows))


def _root(source: str, root: str | None) -> str:
    if root is None:
        raise PairListError(f"{source}: an LFW pair list names people, not files; say with --root where the photos are")
    return root


def _pair(root: str, cells: Sequence[str], where: str, fold: int | None) -> Pair:
    if len(cells) not in (3, 4) or not all(cell.isdecimal() for cell in (cells[1], cells[-1])):
        raise PairListError(f"{where}: expected 'Name n1 n2' or 'Name1 n1 Name2 n2', got {' '.join(cells)[:80]!r}")
    same = len(cells) == 3
    first = _photo(root, cells[0], cells[1])
    second = _photo(root, cells[0] if same else cells[2], cells[-1])
    return Pair(first, second, same, "same" if same else "other", fold)


def _photo(root: str, name: str, number: str) -> str:
    return os.path.join(root, name, f"{name}_{int(number):04d}.jpg")
