"""Pair lists that are tables of text, whoever wrote them.

Columns have names in a header, of which `HEADERS` knows those that are in use; or there is no header, and a row is two photos and a
label. A table of scores and labels alone has no photos.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Sequence

from faceembed.engine.evaluate.lfw import is_kaggle, kaggle_pairs
from faceembed.engine.evaluate.pairs import Pair, PairList
from faceembed.engine.evaluate.tables import Row, rows
from faceembed.engine.photos.photo_file import decode_path
from faceembed.errors import PairListError

_WORD = re.compile(r"[^\W_][\w-]{0,29}")
_TAKEN = ("all",)  # means all negatives where figures are shown
_YES = ("1", "1.0", "yes", "y", "true", "t", "same", "match", "genuine")
_NO = ("0", "0.0", "-1", "-1.0", "no", "n", "false", "f", "different", "diff", "mismatch", "impostor")
LABELS = {**dict.fromkeys(_YES, True), **dict.fromkeys(_NO, False)}
_PHOTOS = (
    ("path_a", "path_b"),
    ("file_x", "file_y"),  # DeepFace
    ("img1", "img2"),
    ("image1", "image2"),
    ("img_1", "img_2"),
    ("image_1", "image_2"),
    ("img_a", "img_b"),
    ("image_a", "image_b"),
    ("file1", "file2"),
    ("path1", "path2"),
    ("a", "b"),
)
_LABEL = ("label", "decision", "issame", "is_same", "same", "labels", "is_match")
HEADERS = tuple((a, b, label) for a, b in _PHOTOS for label in _LABEL)
"""The columns of two photos and a label, in the names of those who write such lists."""
SCORES = tuple((score, label) for score in ("score", "similarity", "scores", "cosine") for label in _LABEL)
ROWS = ("face_id_a", "face_id_b", "label")
"""Faces of an index instead of photos."""


def read_table(source: str, text: str, *, base: str, root: str | None) -> PairList:
    """The pairs of a table.

    Args:
        source: the file, for messages.
        text: its text.
        base: the folder that paths are relative to.
        root: the folder that was given for them, if one was.

    Raises:
        PairListError: naming file and line, what was expected and what was found.
    """
    table = rows(source, text, _fits)
    if not table:
        return PairList(source, ())
    head = _names(table[0].cells)
    if is_kaggle(head):
        return kaggle_pairs(source, table[1:], root)
    if not _known(head) and _is_pair(table[0].cells):
        columns, body = {name: i for i, name in enumerate((*HEADERS[0], "kind"))}, table
        names: tuple[str, ...] = HEADERS[0]
        width = len(table[0].cells)
        columns = {name: i for name, i in columns.items() if i < width}
    else:
        columns = {name: i for i, name in reversed(list(enumerate(head)))}
        names, body, width = _known_header(columns, table[0]), table[1:], len(columns)
    pairs, scores = [], []
    for row in body:
        if len(row.cells) != width:
            raise PairListError(
                f"{row.where}: expected {width} columns, got {len(row.cells)}; quote a file name that contains a comma"
            )
        *what, label = (row.cells[columns[name]] for name in names)
        kind = row.cells[columns["kind"]] if "kind" in columns else ""
        value, meaning = _meaning(label, kind, row.where)
        if len(what) == 1:
            scores.append(_score(what[0], row.where))
            a, b = f"#{row.line}", f"#{row.line}'"
        elif names == ROWS:
            a, b = (_face(cell, row.where) for cell in what)
        else:
            a, b = (_photo(base, path, row.where) for path in what)
        group = row.cells[columns["group"]].strip() if "group" in columns else ""
        pairs.append(Pair(a, b, value, meaning, group=group or None))
    lines = tuple(row.line for row in body)
    return PairList(source, tuple(pairs), lines, tuple(scores) if len(names) == 2 else None, names == ROWS)


def _names(cells: Sequence[str]) -> list[str]:
    return [cell.strip().lower() for cell in cells]


def _known(head: Sequence[str]) -> tuple[str, ...] | None:
    """The names of a header's photos, or score, and label."""
    return next((names for names in (*HEADERS, ROWS, *SCORES) if set(names) <= set(head)), None)


def _fits(cells: Sequence[str]) -> bool:
    head = _names(cells)
    return _known(head) is not None or is_kaggle(head) or _is_pair(cells)


def _is_pair(cells: Sequence[str]) -> bool:
    """Whether a first row is no header: two photos, a label, and perhaps a kind."""
    return len(cells) in (3, 4) and all(cell.strip() for cell in cells) and cells[2].strip().lower() in LABELS


def _known_header(columns: dict[str, int], row: Row) -> tuple[str, ...]:
    if len(columns) != len(row.cells):
        raise PairListError(f"{row.where}: the header names a column twice: {','.join(row.cells)}")
    if found := _known(list(columns)):
        return found
    best = max(HEADERS, key=lambda names: sum(name in columns for name in names))
    missing = next(name for name in best if name not in columns)
    raise PairListError(
        f"{row.where}: the header lacks the column '{missing}'; expected 'path_a,path_b,label[,kind]', 'file_x,file_y,Decision', "
        f"'img1,img2,issame' or 'score,label', separated by commas, semicolons or tabs, got {','.join(row.cells)[:80]!r}"
    )


def _photo(base: str, path: str, where: str) -> str:
    path = decode_path(path)  # what we write ourselves, where a name is not UTF-8
    if not path or "\0" in path:
        raise PairListError(f"{where}: {path!r} is not a file name")
    return os.path.join(base, path)


def _face(cell: str, where: str) -> str:
    if not (cell.strip().isascii() and cell.strip().isdigit()):
        raise PairListError(f"{where}: bad face_id {cell!r}; expected a whole number, as the index's table has it")
    return cell.strip()


def _score(cell: str, where: str) -> float:
    try:
        value = float(cell.replace(",", ".") if cell.count(",") == 1 and "." not in cell else cell)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise PairListError(f"{where}: bad score {cell!r}; expected a number, the higher the more alike")
    return value


def _meaning(label: str, kind: str, where: str) -> tuple[bool, str]:
    """Whether a pair shows one person, and its kind."""
    value = LABELS.get(label.strip().lower())
    if value is None:
        raise PairListError(
            f"{where}: bad label {label!r}; expected 1 or 0 (or -1), Yes or No, true or false, same or different"
        )
    name = kind.strip().lower() or ("same" if value else "other")
    if not _WORD.fullmatch(name) or name in _TAKEN:
        raise PairListError(
            f"{where}: bad kind {kind!r}; expected same, or a word for the negatives such as other, fake or kin (letters, digits, "
            "- and _, at most 30)"
        )
    if (name == "same") != value:
        raise PairListError(
            f"{where}: label {label.strip()!r} contradicts kind {name!r}; only pairs of kind same are positive"
        )
    return value, name
