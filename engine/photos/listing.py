"""Which photos there are: a recursive listing in a stable order, with what is needed to see later whether one changed."""

from __future__ import annotations

import collections
import dataclasses
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence

from faceembed.engine.photos.archives.names import ENDINGS, SEPARATOR, TIFFS, VIDEOS, joined, split
from faceembed.engine.photos.archives.opened import COMPRESSED, NOT_READ, kind_of, open_archive
from faceembed.engine.photos.archives.video import Video
from faceembed.engine.photos.file_list import FileList
from faceembed.engine.photos.inside import look_inside
from faceembed.engine.photos.left_out import (
    IGNORE,
    LINKS,
    NO_MEDIA,
    Choice,
    Rules,
    count_files,
    made_by_a_system,
    patterns_of,
)
from faceembed.engine.photos.photo_file import PhotoFile, printable, stated
from faceembed.engine.photos.probe import HEAD_BYTES, is_picture
from faceembed.errors import DataError, PhotoError

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".heic", ".heif", ".avif"}
)
"""Endings of photos. A file with another one, or none, is a photo if its first bytes say so."""


@dataclasses.dataclass
class Listing:
    """What a listing found."""

    photos: list[PhotoFile]
    failures: list[tuple[str, str]]
    """(path, reason) of folders and links that could not be read."""
    ignored: collections.Counter[str]
    """How many files were left out, by their ending: neither that nor their first bytes are a photo's."""
    roots: list[str]
    """The absolute folders and files that were asked for."""
    missing: list[str] = dataclasses.field(default_factory=list)
    """Those of them that are not there, where that was allowed."""
    named: list[str] = dataclasses.field(default_factory=list)
    """Those of them that are files."""
    excluded: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    """How many files were left out by their names or folders', by the rule (`left_out`)."""
    left_out: set[str] = dataclasses.field(default_factory=set)
    """The paths of these folders and files."""
    unused: list[str] = dataclasses.field(default_factory=list)
    """Options that left out or took in nothing."""

    def remarks(self, *, options: bool = True) -> list[str]:
        """What the user should know of it, as lines; ``options``: whether there is one to take files in."""
        lines = []
        if self.ignored:
            kinds = ", ".join(f"{count} {suffix}" for suffix, count in self.ignored.most_common(5))
            lines.append(
                f"{self.ignored.total()} files are no photos by ending and content and were left out ({kinds})"
            )
        if self.excluded:
            kinds = ", ".join(f"{count:,} by {printable(rule)}" for rule, count in self.excluded.most_common(5))
            line = f"{self.excluded.total():,} files were left out by their names or folders ({kinds})"
            lines.append(line + "; --include takes them in" * options)
        return lines + [f"{printable(option)} is about nothing that is there" for option in self.unused]


def list_photos(
    roots: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    place: Callable[[str], str] = os.path.abspath,
    may_be_gone: Callable[[str], bool] = lambda path: False,
    choice: Choice | None = None,
) -> Listing:
    """List photos below folders; a file named directly is taken whatever its ending.

    Folders are walked in the byte order of names, links are followed, and each real folder is entered once, so that a
    loop of links ends.

    Args:
        roots: folders, files, archives and what is in these (`archives`), and lists of such (`FileList`); or one of them.
        place: the absolute path by which a root is called.
        may_be_gone: whether a root that does not exist is listed as missing instead of raising.
        choice: what is left out of folders and what is taken, besides the rules of `left_out`.

    Raises:
        DataError: a root that does not exist, or is neither a folder nor a file; or a list that cannot be read.
    """
    choice = choice or Choice()
    rules = Rules.of(choice)
    walk = _Walk(Listing([], [], collections.Counter(), []), rules, choice)
    for root in [roots] if isinstance(roots, str | os.PathLike) else roots:
        if isinstance(root, FileList):
            for path in root.read():
                walk.add(place(path), may_be_gone, from_list=True)
        else:
            if _ADDRESS.match(os.fspath(root)) and not os.path.lexists(root):
                raise DataError(
                    f"{printable(os.fspath(root))}: photos are read from folders, files and archives of this machine; mount the "
                    "bucket, or copy it here"
                )
            walk.add(place(os.fspath(root)), may_be_gone)
    walk.listing.unused = [glob.says for glob in (*rules.exclude, *rules.include) if glob.says not in walk.used]
    return walk.listing


class _Walk:
    """Fills a listing, root by root."""

    def __init__(self, listing: Listing, rules: Rules, choice: Choice) -> None:
        self.listing = listing
        self.used: set[str] = set()
        """Patterns that were about something."""
        self._rules = rules
        self._choice = choice
        self._folders: set[tuple[int, int, bool]] = set()
        self._paths: set[str] = set()
        self._archives: set[tuple[str, str]] = set()

    def add(self, path: str, may_be_gone: Callable[[str], bool], *, from_list: bool = False) -> None:
        """List one root; what a list holds and is not there is a failure and no error."""
        listing = self.listing
        try:
            info = os.stat(path)
        except OSError as error:
            gone = isinstance(error, (FileNotFoundError, NotADirectoryError))
            if gone and SEPARATOR in path and self._add_inside(path, from_list=from_list):
                return
            if gone and may_be_gone(path):
                listing.roots.append(path)
                listing.missing.append(path)
            elif from_list:
                listing.failures.append((path, error.strerror or str(error)))
            else:
                raise DataError(
                    f"{printable(path)}: {error.strerror or error}; give an existing folder or photo"
                ) from error
            return
        if stat.S_ISDIR(info.st_mode):
            listing.roots.append(path)
            self._take(self._below(path, info))
        elif not stat.S_ISREG(info.st_mode):
            raise DataError(f"{printable(path)} is neither a folder nor a file")
        elif (glob := self._rules.excluding(path, folder=False)) and not self._taken(path, self._rules, folder=False):
            self._leave(path, glob.says, 1)
        elif kind_of(path) or os.path.splitext(path)[1].lower() in ENDINGS:
            listing.roots.append(path)
            self._take(self._inside(path, info, self._rules))
        elif self._choice.fps and os.path.splitext(path)[1].lower() in VIDEOS:
            listing.roots.append(path)
            self._take(self._more(path))
        else:
            listing.roots.append(path)
            listing.named.append(path)
            self._take([stated(path, info)])

    def _add_inside(self, path: str, *, from_list: bool) -> bool:
        """List a photo or a folder in an archive; False if there is no such thing."""
        archive, name = split(path) or ("", "")
        try:
            info = os.stat(archive)
            opened = open_archive(archive)
            if opened.has(name):
                self.listing.roots.append(path)
                self.listing.named.append(path)
                self._take([stated(path, info, opened.size(name))])
                return True
        except PhotoError as error:
            if from_list:
                self.listing.failures.append((path, error.reason))
                return True
            raise DataError(f"{printable(path)}: {error.reason}") from error
        except OSError:
            return False
        found = list(self._inside(archive, info, self._rules, within=name))
        if found:
            self.listing.roots.append(path)
            self._take(found)
        return bool(found)

    def _take(self, found: Iterable[PhotoFile]) -> None:
        for photo in found:
            if photo.path not in self._paths:
                self._paths.add(photo.path)
                self.listing.photos.append(photo)
                if self._choice.pages and photo.path.lower().endswith(TIFFS) and SEPARATOR not in photo.path:
                    self._take(self._more(photo.path))

    def _leave(self, path: str, rule: str, count: int) -> None:
        self.used.add(rule)
        self.listing.left_out.add(path)
        if count:
            self.listing.excluded[rule] += count

    def _taken(self, path: str, rules: Rules, *, folder: bool) -> bool:
        """Whether the user asks for a path that would be left out."""
        glob = rules.taking(path, folder=folder)
        if glob is not None:
            self.used.add(glob.says)
        return glob is not None

    def _below(self, folder: str, info: os.stat_result) -> Iterator[PhotoFile]:
        # A stack instead of recursion: folders may be nested deeper than Python calls may.
        stack = [self._open(folder, info, self._rules, "", root=True)]
        while stack:
            level = stack[-1]
            entry = next(level.entries, None)
            if entry is None:
                stack.pop()
                continue
            name, path, rules = entry.name, entry.path, level.rules
            suffix = os.path.splitext(name)[1].lower()
            try:
                child = entry.stat()
            except OSError as error:
                if level.rule:
                    self._leave(path, level.rule, 1)
                elif suffix in SUFFIXES or not entry.is_symlink():
                    self.listing.failures.append((path, f"cannot be looked at: {error.strerror or error}"))
                else:
                    self.listing.ignored["(dangling link)"] += 1
                continue
            if stat.S_ISDIR(child.st_mode):
                rule = level.rule or made_by_a_system(name, path)
                if rules.exclude and not rule and (glob := rules.excluding(path, folder=True)):
                    rule = glob.says
                if rule and rules.include and self._taken(path, rules, folder=True):
                    rule = ""
                stack.append(self._open(path, child, rules, rule))
                continue
            rule = level.rule or (name.startswith("._") and not _is_picture(path) and "._*") or ""
            inside = suffix in ENDINGS and stat.S_ISREG(child.st_mode) and not _is_picture(path)
            if rules.exclude and not rule:
                glob = rules.excluding(path, folder=False) or (inside and rules.excluding(path, folder=True)) or None
                rule = glob.says if glob else ""
            if rule and not (rules.include and self._taken(path, rules, folder=False)):
                self._leave(path, rule, 1)
            elif inside:
                yield from self._inside(path, child, rules)
            elif self._choice.fps and suffix in VIDEOS and stat.S_ISREG(child.st_mode):
                yield from self._more(path)
            elif name.lower().endswith(COMPRESSED):
                self.listing.failures.append((path, NOT_READ))
            elif stat.S_ISREG(child.st_mode) and (suffix in SUFFIXES or _is_picture(path)):
                yield stated(path, child)
            else:
                self.listing.ignored[suffix or "(none)"] += 1

    def _inside(self, path: str, info: os.stat_result, rules: Rules, *, within: str = "") -> Iterator[PhotoFile]:
        """The photos of an archive; it is counted as a file itself only where it has none to give."""
        if (path, within) in self._archives:
            return
        self._archives.add((path, within))
        try:
            archive = open_archive(path)
            empty = True
            for found in look_inside(path, archive, rules, SUFFIXES, within):
                empty = False
                self.used.update(found.used)
                if found.rule:
                    self._leave(found.path, found.rule, 1)
                elif found.ignored:
                    self.listing.ignored[found.ignored] += 1
                elif found.reason:
                    self.listing.failures.append((found.path, found.reason))
                else:
                    yield stated(found.path, info, found.size)
        except PhotoError as error:
            self.listing.failures.append((path, error.reason))
            return
        self.listing.failures += [(path, problem) for problem in archive.problems]
        if empty and not within and not archive.problems:
            self.listing.ignored[os.path.splitext(path)[1].lower() or "(none)"] += 1

    def _more(self, path: str) -> Iterator[PhotoFile]:
        """The frames of a video, or the further pages of a TIFF, whose first is listed and says itself what is wrong with it."""
        try:
            info, inside = os.stat(path), open_archive(path)
            fps = self._choice.fps
            for member in inside.frames(fps) if isinstance(inside, Video) and fps else inside.members():
                yield stated(joined(path, member.name), info, member.size)
            self.listing.failures += [(path, problem) for problem in inside.problems]
        except (OSError, PhotoError) as error:
            if not path.lower().endswith(TIFFS):
                self.listing.failures.append((path, str(error)))

    def _open(self, folder: str, info: os.stat_result, rules: Rules, rule: str, *, root: bool = False) -> _Level:
        """A folder's entries in the byte order of their names; none if it was entered before, cannot be read, or is left out whole."""
        if rule and not rules.include:
            return self._closed(folder, rules, rule)
        key = (info.st_dev, info.st_ino, bool(rule))
        if key in self._folders:
            return _Level(iter(()), rules, rule)
        self._folders.add(key)
        try:
            with os.scandir(folder) as entries:
                found = sorted(entries, key=lambda entry: os.fsencode(entry.name))
        except OSError as error:
            if not rule:
                self.listing.failures.append((folder, error.strerror or str(error)))
            return _Level(iter(()), rules, rule)
        for mark in [entry.name for entry in found if entry.name in (NO_MEDIA, IGNORE, LINKS)] if not rule else []:
            if mark == IGNORE:
                lines = self._lines(os.path.join(folder, mark))
                rules = rules.within(folder, lines) if lines else rules
            if (mark == IGNORE and not lines) or (mark in (NO_MEDIA, LINKS) and not root):
                rule = mark  # named by itself, a folder is taken in spite of Android's mark, or ours
        if rule and not rules.include:
            return self._closed(folder, rules, rule)
        if rule:
            self._leave(folder, rule, 0)
        return _Level(iter(found), rules, rule)

    def _closed(self, folder: str, rules: Rules, rule: str) -> _Level:
        self._leave(folder, rule, count_files(folder))
        return _Level(iter(()), rules, rule)

    def _lines(self, path: str) -> list[str]:
        """The patterns of a folder's list; none if it is empty, or cannot be read: then nothing of the folder is taken."""
        try:
            with open(path, "rb") as file:
                return patterns_of(file.read())
        except OSError as error:
            self.listing.failures.append((path, f"{error.strerror or error}; its folder was left out"))
            return []


@dataclasses.dataclass(frozen=True, slots=True)
class _Level:
    """A folder on the way down."""

    entries: Iterator[os.DirEntry[str]]
    rules: Rules
    rule: str
    """By what it is left out, but for what the user takes in; empty if it is not."""


def _is_picture(path: str) -> bool:
    """By content. A file that cannot be opened, and does not have a photo's ending, is none."""
    try:
        with open(path, "rb", buffering=0) as file:
            return is_picture(file.read(HEAD_BYTES))
    except OSError:
        return False
