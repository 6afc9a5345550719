"""Which photos of an index are gone, and whether so much going at once looks like a disk that is not mounted.

A photo is gone where a run looked for it and it is not there: below a folder that was walked, or beside files that were
named (the shell leaves out of `*.jpg` what was deleted). What cannot be looked at is not gone.
"""

from __future__ import annotations

import collections
import os
from collections.abc import Collection, Iterable, Mapping

from faceembed.engine.photos.archives.names import parent, upwards
from faceembed.engine.photos.listing import Listing
from faceembed.engine.photos.photo_file import PhotoFile, printable
from faceembed.engine.photos.places import is_gone

SHARE = 0.2  # of an index's photos; more than that and than `COUNT` of them are not dropped unasked
COUNT = 50
YES = "nothing was changed; if they are to be dropped, say so with --prune"


class Selection:
    """What a run looks at.

    Args:
        listing: of the run.
        earlier: folders whose files earlier runs named, a set a run.
        prune: whether what it leaves out is to go from the index.
    """

    def __init__(self, listing: Listing, earlier: Iterable[Collection[str]], *, prune: bool = False) -> None:
        files = {*listing.named, *(path for path in listing.missing if not is_pattern(path))}
        self.folders = set(listing.roots) - set(listing.named)
        """Roots that are, or were, folders."""
        self.named = files
        self.beside = {parent(path) for path in (*listing.named, *listing.missing)}
        """Folders of files that are named; with them those that an earlier run named in one breath."""
        for folders in earlier:
            if self.beside & set(folders):
                self.beside |= set(folders)
        self._unread = {path for path, _ in listing.failures}
        self._left_out = listing.left_out
        self._prune = prune

    def covers(self, path: str) -> bool:
        """Whether the run named a path or walked a folder above it."""
        return path in self.named or any(above in self.folders for above in upwards(path))

    def leaves_out(self, path: str) -> bool:
        """Whether the run passed over a path because of its name or a folder's."""
        left_out = self._left_out
        return bool(left_out) and (path in left_out or any(above in left_out for above in upwards(path)))

    def lost(self, path: str) -> bool:
        """Whether a path that is not listed is gone. What the run leaves out it knows nothing of."""
        if self.leaves_out(path):
            return self._prune
        if any(above in self._unread for above in (path, *upwards(path))):
            return False
        return self.covers(path) or (parent(path) in self.beside and is_gone(path))


def merged(earlier: Iterable[Collection[str]], selection: Selection) -> list[list[str]]:
    """What later runs should know of the folders whose files were named."""
    kept = [sorted(folders) for folders in earlier if not selection.beside & set(folders)]
    return [*kept, sorted(selection.beside)] if selection.named else kept


def alarm(gone: Collection[str], known: Mapping[str, PhotoFile], present: Iterable[str], selection: Selection) -> str:
    """Why a run should not go on: one line, empty if nothing is wrong.

    Args:
        gone: known paths that are gone.
        known: all photos of the index.
        present: paths of the photos that are there, or went elsewhere and are known there.
        selection: what the run looked at.
    """
    if not gone:
        return ""
    if emptied := _emptied(gone, present, selection):
        first, count = emptied[0]
        state = "is gone" if is_gone(first) else "holds none now"
        more = f" (and {len(emptied) - 1:,} more such folders)" if len(emptied) > 1 else ""
        return f"{printable(first)} held {count:,} of the {len(known):,} photos in the index and {state}{more}: is a disk not mounted? {YES}"
    if len(gone) > COUNT and len(gone) > SHARE * len(known):
        return f"{len(gone):,} of the {len(known):,} photos in the index are gone, the first is {printable(min(gone))}: {YES}"
    return ""


def _emptied(gone: Collection[str], present: Iterable[str], selection: Selection) -> list[tuple[str, int]]:
    """The topmost folders that have no photo any more, and how many went with them.

    Where one is there and its photos were all in one folder of it that is there too, that is named.
    """
    counts: collections.Counter[str] = collections.Counter()
    for path in gone:
        counts.update(_within(path, selection))
    for path in present:
        for folder in upwards(path):
            counts.pop(folder, None)
    below: dict[str, list[str]] = collections.defaultdict(list)
    for folder in sorted(counts):
        below[parent(folder)].append(folder)
    found = []
    for top in (folder for folder in sorted(counts) if parent(folder) not in counts):
        at = top
        while len(inner := below[at]) == 1 and counts[inner[0]] == counts[at] and os.path.isdir(inner[0]):
            at = inner[0]
        found.append((at, counts[at]))
    return found


def _within(path: str, selection: Selection) -> list[str]:
    """The folders above a path, as far as the run looked."""
    above = list(upwards(path))
    tops = [number for number, folder in enumerate(above) if folder in selection.folders]
    return above[: tops[-1] + 1] if tops else above[:1]


def is_pattern(path: str) -> bool:
    """Whether a path is what a shell leaves where nothing matches, as in ``photos/*.jpg``."""
    return any(sign in os.path.basename(path) for sign in "*?[")
