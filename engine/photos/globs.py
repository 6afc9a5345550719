"""Patterns of file and folder names, as `--exclude`, `--include` and `.faceembedignore` take them.

    *.png            a name, wherever it is
    private/         a folder's name
    2019/*/raw       the end of a path, folder by folder
    /mnt/nas/old     a whole path
    trip/**/*.png    ** is any number of folders
    2019.zip/raw/    an archive is a folder as others; 2019.zip::raw/ is the same

``*`` and ``?`` stand for what has no ``/`` in it, ``[a-f]`` and ``[!a-f]`` for one sign. Upper and lower case are told apart.
"""

from __future__ import annotations

import dataclasses
import os
import re

from faceembed.engine.photos.archives.names import as_folders
from faceembed.errors import UsageError


@dataclasses.dataclass(frozen=True)
class Glob:
    """One pattern."""

    text: str
    """As it was given."""
    says: str = ""
    """By what name what it leaves out is counted; empty: ``text``."""
    base: str = ""
    """The folder in which a pattern that begins with ``/`` begins; empty: the root of the file system."""

    def __post_init__(self) -> None:
        if not self.text.strip("/") and not self.base:
            raise UsageError(f"{self.text!r} is no pattern; give one as in --exclude '*.png' or --exclude private/")
        object.__setattr__(self, "_pattern", re.compile(_regex(self.text, as_folders(self.base)), re.DOTALL))

    def matches(self, path: str, *, folder: bool) -> bool:
        """Whether it names a file or folder by its absolute path."""
        if self.text.endswith("/") and not folder:
            return False
        pattern: re.Pattern[str] = vars(self)["_pattern"]
        return pattern.fullmatch(as_folders(path)) is not None


def _regex(text: str, base: str) -> str:
    if not base and text.startswith(("./", "../")):
        text = os.path.abspath(text) + ("/" if text.endswith("/") else "")
    body = text.rstrip("/")
    if body.startswith("/"):
        return re.escape(base.rstrip("/")) + _translated(body)
    return "(?:.*/)?" + _translated(body)


def _translated(glob: str) -> str:
    """A regular expression; Python's own `glob.translate` is newer than the Pythons that are served here."""
    out = []
    at = 0
    while at < len(glob):
        if glob.startswith("**/", at):
            out.append("(?:.*/)?")
            at += 3
        elif glob.startswith("**", at):
            out.append(".*")
            at += 2
        elif glob.startswith("::", at):
            out.append("(?:::|/)")
            at += 2
        elif glob[at] == "[" and (end := glob.find("]", at + 2 + (glob[at + 1 : at + 2] == "!"))) > 0:
            inner = glob[at + 1 : end].replace("\\", "\\\\").replace("[", "\\[").replace("^", "\\^")
            out.append("(?!/)[" + ("^" + inner[1:] if inner.startswith("!") else inner) + "]")
            at = end + 1
        else:
            out.append({"*": "[^/]*", "?": "[^/]"}.get(glob[at]) or re.escape(glob[at]))
            at += 1
    return "".join(out)
