"""A text file as rows of cells: its encoding, what separates its columns, and whether it has a header are seen by looking."""

from __future__ import annotations

import codecs
import csv
import dataclasses
import io
from collections.abc import Callable, Sequence

from faceembed.engine.photos.no_text import known_kind
from faceembed.errors import PairListError

SEPARATORS = (",", ";", "\t")
_EXCEL = "sep="
"""What Excel reads, and some programs write, in front of the header: ``sep=;``."""


@dataclasses.dataclass(frozen=True)
class Row:
    """The cells of one row."""

    cells: list[str]
    where: str
    """File and line, for messages."""
    line: int


def decoded(source: str, data: bytes) -> str:
    """A text file's text: UTF-8, or UTF-16 with a byte order mark or Latin letters.

    Raises:
        PairListError: neither, or an archive, a picture, an index.
    """
    if binary := known_kind(data):
        raise PairListError(
            f"{source} is {binary}, and no list; give UTF-8 text with the paths of photos, in archives too (x.tar::a.jpg)"
        )
    sixteen = "utf-16" if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else ""
    if data[1:4:2] == b"\0\0":
        sixteen = sixteen or "utf-16-le"
    elif data[:3:2] == b"\0\0":
        sixteen = sixteen or "utf-16-be"
    try:
        return data.decode(sixteen or "utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        kind = "UTF-16, which its first bytes promise" if sixteen else "UTF-8"
        raise PairListError(f"{source}, line {line}: not {kind}; save the list as UTF-8 text") from error


def rows(source: str, text: str, fits: Callable[[Sequence[str]], bool]) -> list[Row]:
    """The rows that are not empty.

    Args:
        source: the file, for messages.
        text: its text.
        fits: whether the first row, split by a separator, is one that is known; if none is, columns end at commas.

    Raises:
        PairListError: quotes that do not end.
    """
    skipped = 0
    first = next((line for line in text.splitlines() if line.strip()), "")
    if first.lower().startswith(_EXCEL) and len(first.strip()) <= len(_EXCEL) + 1:
        separator = first[len(_EXCEL) : len(_EXCEL) + 1] or ","
        before, _, text = text.partition(first)
        skipped = before.count("\n") + 1
        text = text.removeprefix("\r").removeprefix("\n")
    else:
        separator = next((sign for sign in SEPARATORS if fits(_split(first, sign))), ",")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    found = []
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                line = reader.line_num + skipped
                found.append(Row(cells, f"{source}, line {line}", line))
    except csv.Error as error:
        raise PairListError(
            f"{source}, line {reader.line_num + skipped}: not valid CSV ({error}); check the quotes"
        ) from error
    return found


def _split(line: str, separator: str) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=separator), [])
    except csv.Error:
        return []
