"""Photos without a face in the index, each with its reason, and their file (CSV). Knows no Arrow: `verify` needs this and no table."""

from __future__ import annotations

import csv
import dataclasses
import io
import os
from collections.abc import Iterable

from faceembed.engine.photos.photo_file import PhotoFile, decode_path, encode_path
from faceembed.errors import IndexFormatError

REMOVED = "removed"
"""The stage of photos whose faces somebody took out."""


@dataclasses.dataclass(frozen=True, slots=True)
class Failure:
    """A photo that has no face in the index, and why."""

    photo: PhotoFile
    stage: str
    """``list``, ``read``, ``decode``, ``memory``, ``detect``, ``align``, ``encode``, ``removed`` by hand, or ``track`` of a
    frame whose faces another one of the video shows better."""
    reason: str


_ERROR_COLUMNS = ("path", "stage", "reason", "size", "mtime_ns", "ctime_ns", "digest")


def format_errors(failures: Iterable[Failure]) -> str:
    """The text of an errors file: CSV with a header, UTF-8, one row a photo."""
    rows = (
        (
            encode_path(failure.photo.path),
            failure.stage,
            failure.reason,
            failure.photo.size,
            failure.photo.mtime_ns,
            failure.photo.ctime_ns,
            failure.photo.digest,
        )
        for failure in failures
    )
    return "".join(_csv_line(row) for row in (_ERROR_COLUMNS, *rows))


def _csv_line(row: Iterable[object]) -> str:
    """One row that ends in a line feed. Python quotes a lone carriage return only where rows end in one, too."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\r\n").writerow(row)
    return out.getvalue()[:-2] + "\n"


def read_errors(path: str | os.PathLike[str]) -> list[Failure]:
    """The rows that `format_errors` wrote; none if there is no such file.

    Raises:
        IndexFormatError: not such a file.
    """
    try:
        with open(path, encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        return [Failure(_photo_of(row), row["stage"], row["reason"]) for row in rows]
    except FileNotFoundError:
        return []
    except (KeyError, ValueError, TypeError, csv.Error, UnicodeDecodeError) as error:
        raise IndexFormatError(f"{os.fspath(path)} is damaged ({error}); delete it, or run with --fresh") from error


def _photo_of(row: dict[str, str]) -> PhotoFile:
    """The photo of a row; older versions wrote neither ``ctime_ns`` nor ``digest``."""
    size, mtime, ctime = int(row["size"]), int(row["mtime_ns"]), int(row.get("ctime_ns") or 0)
    return PhotoFile(decode_path(row["path"]), size, mtime, ctime, row.get("digest") or "")
