"""A list of photos and folders in a file, or on standard input: `-` and `@list.txt`."""

from __future__ import annotations

import codecs
import dataclasses
import os
import sys

from faceembed.engine.photos.no_text import known_kind
from faceembed.errors import DataError

STDIN = "/dev/stdin"


@dataclasses.dataclass(frozen=True)
class FileList:
    """Paths one a line, or between zero bytes as of ``find -print0``; relative ones are to the current folder.

    It stands where a folder or a photo may, and for the file that the list is in where a path is wanted. What is in the list and is
    not there is a row of the errors file.
    """

    source: str
    """The file, or `STDIN`."""

    @classmethod
    def of(cls, argument: str) -> FileList | None:
        """The list that an argument stands for; None for a path. A file of such a name is a file."""
        if argument == "-":
            return cls(STDIN)
        if len(argument) > 1 and argument.startswith("@") and not os.path.lexists(argument):
            return cls(argument[1:])
        return None

    def __fspath__(self) -> str:
        return self.source

    @property
    def name(self) -> str:
        """What messages call it."""
        return "standard input" if self.source == STDIN else self.source

    def read(self) -> list[str]:
        """The paths.

        Raises:
            DataError: it cannot be read, or is empty.
        """
        try:
            if self.source == STDIN:
                data = sys.stdin.buffer.read()
            else:
                with open(self.source, "rb") as file:
                    data = file.read()
        except OSError as error:
            raise DataError(f"{self.name}: the list of photos cannot be read ({error.strerror or error})") from error
        if kind := known_kind(data):
            raise DataError(
                f"{self.name} is {kind}, and no list of photos; give it without the @, or text with a path on each line"
            )
        paths = [path for path in _split(data) if path]
        if not paths:
            raise DataError(f"{self.name}: the list of photos is empty; it wants a path on each line")
        return paths


def _split(data: bytes) -> list[str]:
    for mark, encoding in ((codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16")):
        if data.startswith(mark):  # what PowerShell writes for `>`
            return data.decode(encoding, "surrogatepass").splitlines()
    data = data.removeprefix(codecs.BOM_UTF8)
    if b"\0" in data:
        return [os.fsdecode(part) for part in data.split(b"\0")]
    return [os.fsdecode(line.removesuffix(b"\r")) for line in data.split(b"\n")]
