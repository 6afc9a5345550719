"""What folders hold that is nobody's photo, and what a user does not want looked at: left out, counted and said.

By default these are copies, previews and rubbish that systems keep beside photos: a NAS's ``@eaDir``, trash, thumbnails, a Mac's
``._photo.jpg`` beside ``photo.jpg``. A folder with a file ``.nomedia`` in it is left out, as Android does; ``.faceembedignore`` is a list
of patterns for its folder, or empty for all of it. Folders of links that `cluster` made are left out. What is named by itself on the command line is taken.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import os
import re
from collections.abc import Sequence

from faceembed.engine.photos.globs import Glob
from faceembed.errors import UsageError

NO_MEDIA = ".nomedia"
IGNORE = ".faceembedignore"
LINKS = ".faceembed-links"
"""What `cluster` puts into its folders of links: below an archive, these would show each photo a second time."""
FOLDERS = (
    "@eaDir",  # Synology: previews
    "#recycle",  # Synology
    "#snapshot",
    "@Recycle",  # QNAP
    "@Recently-Snapshot",
    ".@__thumb",
    "$RECYCLE.BIN",  # Windows
    ".Trash",  # macOS, Linux
    ".Trashes",
    ".Trash-*",
    ".thumbnails",  # Android, GNOME
    ".thumbs",
    ".stversions",  # Syncthing: what was replaced
    "__MACOSX",  # what macOS adds to a zip
    "*.lrdata",  # Lightroom: previews
    "*.lrcat-data",
)
"""Folders that are left out by name, in any case of letters."""
LIBRARIES = (".photoslibrary", ".photolibrary", ".aplibrary")
_MADE = frozenset({"resources", "thumbnails", "previews", "database", "private"})
"""Folders of a library of Apple's that hold what was made of the photos; ``originals`` and ``Masters`` hold these."""
_FOLDERS = re.compile("|".join(f"({fnmatch.translate(name.lower())})" for name in FOLDERS))


@dataclasses.dataclass(frozen=True)
class Choice:
    """What a user wants of the folders that are walked."""

    exclude: tuple[str, ...] = ()
    """Patterns (`globs`) of what is left out besides what always is."""
    include: tuple[str, ...] = ()
    """Patterns of what is taken although it would be left out."""
    pages: bool = False
    """Whether the pages of TIFFs beyond the first are photos too."""
    fps: float | None = None
    """So many frames a second of videos are photos; None: none."""

    def __post_init__(self) -> None:
        for option, given in (("exclude", self.exclude), ("include", self.include)):
            if isinstance(given, str):
                raise UsageError(f"{option} is one pattern, {given!r}; give a tuple of them")
            for text in given:
                Glob(text)
        if self.fps is not None and not 0 < self.fps <= 1000:
            raise UsageError(f"--fps {self.fps:g}: give frames a second, above 0")


@dataclasses.dataclass(frozen=True)
class Rules:
    """What holds in one folder."""

    exclude: tuple[Glob, ...] = ()
    include: tuple[Glob, ...] = ()

    @classmethod
    def of(cls, choice: Choice) -> Rules:
        """What holds everywhere."""
        return cls(
            tuple(Glob(text, f"--exclude {text}") for text in choice.exclude),
            tuple(Glob(text, f"--include {text}") for text in choice.include),
        )

    def within(self, folder: str, lines: Sequence[str]) -> Rules:
        """What holds in a folder with a list of patterns of its own; a line that begins with ``!`` takes in."""
        texts = [line.rstrip() for line in lines if line.strip() and not line.startswith("#")]
        patterns = [(text.startswith("!"), text.removeprefix("!").removeprefix("\\")) for text in texts]
        added = [(takes, Glob(text, IGNORE, folder)) for takes, text in patterns if text.strip("/")]
        return Rules(
            (*self.exclude, *(glob for takes, glob in added if not takes)),
            (*self.include, *(glob for takes, glob in added if takes)),
        )

    def taking(self, path: str, *, folder: bool) -> Glob | None:
        """The pattern that takes a path in whatever else is said of it."""
        return next((glob for glob in self.include if glob.matches(path, folder=folder)), None)

    def excluding(self, path: str, *, folder: bool) -> Glob | None:
        """The pattern that leaves a path out."""
        return next((glob for glob in self.exclude if glob.matches(path, folder=folder)), None)


def made_by_a_system(name: str, path: str) -> str:
    """By what rule a folder is left out that nobody asked about; empty if by none.

    Args:
        name: of the folder.
        path: with those above it.
    """
    lower = name.lower()
    if found := _FOLDERS.fullmatch(lower):
        return FOLDERS[(found.lastindex or 1) - 1]
    if lower in _MADE:
        library = os.path.splitext(os.path.dirname(path))[1].lower()
        if library in LIBRARIES:
            return f"*{library}, what was made of its photos"
    return ""


def patterns_of(data: bytes) -> list[str]:
    """The lines of a `.faceembedignore` that say something."""
    text = data.decode("utf-8-sig", "surrogateescape")
    return [line for line in text.splitlines() if line.strip() and not line.startswith("#")]


def count_files(folder: str) -> int:
    """How many files there are below a folder, by their names alone; links are not followed."""
    count, left = 0, [folder]
    while left:
        try:
            with os.scandir(left.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        left.append(entry.path)
                    else:
                        count += 1
        except OSError:
            continue  # nobody asked for it
    return count
