"""Which files of an archive are photos: by the rules that hold for folders."""

from __future__ import annotations

import collections
import dataclasses
import os
from collections.abc import Iterator

from faceembed.engine.photos.archives.archive import Archive
from faceembed.engine.photos.archives.names import ENDINGS, joined
from faceembed.engine.photos.archives.opened import COMPRESSED
from faceembed.engine.photos.left_out import IGNORE, LINKS, NO_MEDIA, Rules, made_by_a_system, patterns_of
from faceembed.engine.photos.probe import HEAD_BYTES, is_picture
from faceembed.errors import PhotoError

NESTED = "an archive inside of an archive, which is not looked into; unpack it"


@dataclasses.dataclass(frozen=True, slots=True)
class Found:
    """A file in an archive and what becomes of it: a photo, where nothing else is said."""

    path: str
    size: int
    rule: str = ""
    """By what it is left out."""
    ignored: str = ""
    """Its ending, where it is no photo."""
    reason: str = ""
    """Why it cannot be one."""
    used: tuple[str, ...] = ()
    """What the user said that was about it."""


def look_inside(
    path: str, archive: Archive, rules: Rules, suffixes: frozenset[str], within: str = ""
) -> Iterator[Found]:
    """The files of an archive.

    Args:
        path: of the archive.
        archive: opened.
        rules: that hold where the archive lies.
        suffixes: endings of photos.
        within: a folder in the archive; empty for all of it.

    Raises:
        PhotoError: the archive is damaged.
    """
    members = list(archive.members())
    folders = _Folders(path, archive, rules)
    for member in members:
        if os.path.basename(member.name) in (NO_MEDIA, IGNORE, LINKS):
            folders.marks[os.path.dirname(member.name)].append(member.name)
    for member in members:
        if within and not member.name.startswith(within + "/"):
            continue
        called, name = joined(path, member.name), os.path.basename(member.name)
        rules, rule, used = folders.of(os.path.dirname(member.name))
        suffix = os.path.splitext(name)[1].lower()
        by_content = False
        if not rule and not archive.only_photos and (name.startswith("._") or suffix not in suffixes):
            by_content = _is_picture(archive, member.name)
            rule = "._*" if name.startswith("._") and not by_content else ""
        if not rule and rules.exclude and (glob := rules.excluding(called, folder=False)):
            rule, used = glob.says, (*used, glob.says)
        if rule and rules.include and (glob := rules.taking(called, folder=False)):
            rule, used = "", (*used, glob.says)
        if rule:
            yield Found(called, member.size, rule=rule, used=used)
        elif suffix in suffixes or by_content or archive.only_photos:
            yield Found(called, member.size, used=used)
        elif name.lower().endswith((*ENDINGS, *COMPRESSED)):
            yield Found(called, member.size, reason=NESTED, used=used)
        else:
            yield Found(called, member.size, ignored=suffix or "(none)", used=used)


class _Folders:
    """What holds in each folder of an archive."""

    def __init__(self, path: str, archive: Archive, rules: Rules) -> None:
        self.marks: collections.defaultdict[str, list[str]] = collections.defaultdict(list)
        """A folder's files that say how it is to be treated."""
        self._path = path
        self._archive = archive
        self._top = rules
        self._known: dict[str, tuple[Rules, str, tuple[str, ...]]] = {}

    def of(self, folder: str) -> tuple[Rules, str, tuple[str, ...]]:
        """The rules, by what everything in it is left out, and what the user said that was about it."""
        if folder in self._known:
            return self._known[folder]
        if folder:
            rules, rule, used = self.of(os.path.dirname(folder))
            called = joined(self._path, folder)
            rule = rule or made_by_a_system(os.path.basename(folder), called)
            if not rule and rules.exclude and (glob := rules.excluding(called, folder=True)):
                rule, used = glob.says, (*used, glob.says)
            if rule and rules.include and (glob := rules.taking(called, folder=True)):
                rule, used = "", (*used, glob.says)
        else:
            rules, rule, used = self._top, "", ()
        for name in self.marks.get(folder, []) if not rule else []:
            mark = os.path.basename(name)
            lines = patterns_of(self._archive.read(name)) if mark == IGNORE else []
            if lines:
                rules = rules.within(joined(self._path, folder) if folder else self._path, lines)
            elif mark == IGNORE or folder:
                rule = (
                    mark  # the archive itself is taken in spite of Android's mark, or ours, as a folder that is named
                )
        self._known[folder] = rules, rule, used
        return self._known[folder]


def _is_picture(archive: Archive, name: str) -> bool:
    try:
        return is_picture(archive.read(name, HEAD_BYTES))
    except PhotoError:
        return False
