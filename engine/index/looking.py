"""What a run sees of the folders and files it was given: the photos there are, by one name each, and what went meanwhile."""

from __future__ import annotations

import collections
import contextlib
import os
import stat
from collections.abc import Callable, Collection, Sequence

from faceembed.engine.index.losses import COUNT, SHARE, YES, Selection, alarm, is_pattern
from faceembed.engine.index.update import Known
from faceembed.engine.photos.archives.names import parent, upwards
from faceembed.engine.photos.left_out import Choice
from faceembed.engine.photos.listing import Listing, list_photos
from faceembed.engine.photos.photo_file import printable
from faceembed.engine.photos.places import is_gone, real_place
from faceembed.errors import LossError


def list_roots(roots: Sequence[str | os.PathLike[str]], known: Known, choice: Choice | None = None) -> Listing:
    """The photos there are; a root that an earlier run knew may be gone."""
    folders = {folder for path in known.photos for folder in upwards(path)}
    named = {folder for folders in known.selections for folder in folders}

    def knew(path: str) -> bool:
        return path in known.photos or path in folders or (is_pattern(path) and parent(path) in named)

    return list_photos(roots, place=_place(known, folders), may_be_gone=knew, choice=choice)


def _place(known: Known, folders: set[str]) -> Callable[[str], str]:
    """The one name of a root: without links, and as the index calls the folder where that is mounted in several places."""
    names: dict[tuple[int, int], str] = {}
    for folder in sorted({*(known.manifest or {}).get("roots", []), *folders}, key=len, reverse=True):
        with contextlib.suppress(OSError):
            info = os.stat(folder)
            if real_place(folder) == folder:
                names[info.st_dev, info.st_ino] = folder

    def place(root: str) -> str:
        path = real_place(root)
        with contextlib.suppress(OSError):
            info = os.stat(path)
            return names.get((info.st_dev, info.st_ino), path) if stat.S_ISDIR(info.st_mode) else path
        return path

    return place


def roots_of(listing: Listing, known: Known) -> list[str]:
    """All folders that runs were given and that are not gone."""
    before = [root for root in (known.manifest or {}).get("roots", []) if root not in known.photos]
    return sorted({*listing.roots, *before} - set(listing.named) - set(listing.missing))


def elsewhere(known: Known, selection: Selection, accounted: Collection[str]) -> list[str]:
    """Lines on folders of earlier runs that this one was not given and that are not there: their photos stay and can be found.

    Args:
        known: what earlier runs have done.
        selection: what this run looks at.
        accounted: known paths that this run moves or drops.
    """
    before = {*(known.manifest or {}).get("roots", []), *(folder for one in known.selections for folder in one)}
    not_looked_at = {f for f in before if not selection.covers(f) and f not in selection.beside}
    lost = {folder for folder in not_looked_at if is_gone(folder)}
    counts: collections.Counter[str] = collections.Counter()
    faceless = {failure.photo.path for failure in known.failures}  # those taken out by hand among them
    for path in known.photos.keys() - faceless - set(accounted) if lost else ():
        counts.update(next(([above] for above in upwards(path) if above in lost), []))
    return [
        f"{count:,} photos in the index are of {printable(folder)}, which is not there and was not asked for; they stay: `faceembed remove` "
        "takes the folder out, `faceembed relocate` says where it is now"
        for folder, count in sorted(counts.items())
    ]


def unreadable(listing: Listing, known: Known, accounted: Collection[str]) -> list[str]:
    """Lines on folders and archives of which this run could not see all: what the index holds of them stays, unseen.

    Args:
        listing: of this run.
        known: what earlier runs have done.
        accounted: known paths that this run moves, drops, or leaves out.
    """
    if not listing.failures:
        return []
    reasons = dict(listing.failures)
    counts: collections.Counter[str] = collections.Counter()
    done = {photo.path for photo in listing.photos} | {failure.photo.path for failure in known.failures}
    for path in known.photos.keys() - done - set(accounted):
        counts.update(next(([above] for above in upwards(path) if above in reasons), []))
    return [
        f"{count:,} photos in the index are of {printable(place)}, where they cannot be looked at now ({printable(reasons[place])}); they stay"
        for place, count in sorted(counts.items())
    ]


def vanished(
    listing: Listing, known: Known, selection: Selection, *, prune: bool, notice: Callable[[str], None]
) -> list[str]:
    """The photos that were listed and went while the run worked.

    Raises:
        LossError: it is as if a disk had gone.
    """
    gone = [photo.path for photo in listing.photos if is_gone(photo.path)]
    if not gone:
        return []
    left = {photo.path for photo in listing.photos} - set(gone)
    lost = [path for path in gone if path in known.photos]
    reason = alarm(lost, known.photos, left | (known.photos.keys() - set(lost)), selection)
    if not reason and (not left or (len(gone) > COUNT and len(gone) > SHARE * len(listing.photos))):
        reason = f"{len(gone):,} of {len(listing.photos):,} photos vanished while the run worked: is a disk gone? {YES}"
    if reason and not prune:
        raise LossError(f"{reason}; what was embedded is kept for the next run")
    notice(f"{len(gone):,} photos vanished while the run worked and are left out, the first is {printable(gone[0])}")
    return gone
