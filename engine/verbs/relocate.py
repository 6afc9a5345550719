"""The verb `relocate`: an archive is in another place now, and the index is told so.

    report = relocate("people.faiss", "/mnt/nas", "/mnt/nas2")

`embed` finds that out by itself where an index keeps the hashes of its photos; this does it without looking at anything
else, and for indexes of older versions too.
"""

from __future__ import annotations

import collections
import dataclasses
import os
from collections.abc import Callable
from typing import Any

from faceembed.engine.index.derived import known_clusters_of, with_links, with_paths
from faceembed.engine.index.files import IndexFiles
from faceembed.engine.index.lock import writing
from faceembed.engine.index.losses import Selection
from faceembed.engine.index.merge import Merge
from faceembed.engine.index.recognise import Recognised
from faceembed.engine.index.shards import ShardFolder
from faceembed.engine.index.update import TRANSIENT, Known
from faceembed.engine.photos.listing import Listing
from faceembed.engine.photos.photo_file import PhotoFile, photo_file, printable
from faceembed.engine.photos.places import is_below, real_place
from faceembed.engine.photos.reading import read_file
from faceembed.errors import DataError, PhotoError
from faceembed.version import __version__


@dataclasses.dataclass(frozen=True)
class RelocateReport:
    """What was found in the new place; the fields of ``relocate --json``."""

    index: str
    photos: int
    """Photos that are called by their new paths now."""
    read: int
    """Of these, photos of another time that were read and have the same bytes; the others have the same size and time."""
    missing: int
    """Photos of the old place that are not in the new one; they stay as they were."""
    changed: int
    """Photos in the new place that are other ones; they stay as they were, and the next `embed` looks at them."""
    links: int
    """Links that `cluster` made to these photos and that lead to the new place now."""

    def to_json_dict(self) -> dict[str, Any]:
        """As a plain dictionary."""
        return dataclasses.asdict(self)


def relocate(
    index: str | os.PathLike[str],
    old: str | os.PathLike[str],
    new: str | os.PathLike[str],
    *,
    notice: Callable[[str], None] = lambda line: None,
) -> RelocateReport:
    """Call the photos of an index by the paths that they have now.

    Args:
        index: made by `embed`.
        old: the folder (or photo) as the index knows it; it need not be there any more.
        new: where it is now.
        notice: called with lines for the user.

    Raises:
        DataError: no such index, nothing of ``old`` in it, or nothing of that in ``new``; then nothing was changed.
        IndexBusyError: another process is writing the index.
    """
    files = IndexFiles.of(index)
    if not files.faiss.parent.is_dir():
        raise DataError(f"no index at {files.faiss}")
    with writing(files.faiss):
        files = files.ready()
        known = Known.opened(files, notice=notice)
        shards, settings = ShardFolder.left(files.partial)
        earlier = known.add_shards(shards)
        places = [os.path.abspath(old), real_place(os.fspath(old))]
        before = next((place for place in places if any(is_below(path, [place]) for path in known.photos)), None)
        if before is None:
            raise DataError(f"{printable(places[0])}: no photo of that place is in {files.faiss}; nothing was changed")
        after = real_place(os.fspath(new))

        def now(path: str) -> str:
            return after + path[len(before.rstrip(os.sep)) :] if is_below(path, [before]) else path

        found, counts = _look(known, before, now)
        if not counts["photos"]:
            raise DataError(
                f"none of the {counts['missing'] + counts['changed']:,} photos of {printable(before)} is in {printable(after)}; "
                "nothing was changed"
            )
        listing = Listing([], [], collections.Counter(), [])
        merge = Merge(listing, Selection(listing, []), known, found, earlier)
        merge.drop([f.photo.path for f in known.failures if f.stage in TRANSIENT and is_below(f.photo.path, [before])])
        manifest = {"index": "flat", "roots": [], **settings, **(known.manifest or {}), "faceembed": __version__}
        manifest["roots"] = sorted({now(root) for root in manifest["roots"]})
        manifest["selections"] = [sorted({now(folder) for folder in folders}) for folders in known.selections]
        moved = {path: photos[0].path for path, photos in found.now.items() if photos}
        dimension, kind = int(manifest["dimension"]), str(manifest["index"])
        merge.write(files, manifest, dimension, kind, [], or_flat=True, notice=notice)
        for path in known_clusters_of(manifest):
            with_paths(path, lambda path: moved.get(path, path))
        links = with_links(manifest, lambda path: moved.get(path, path))
    if counts["missing"] or counts["changed"]:
        notice(
            f"{counts['missing']:,} photos are not in {printable(after)}, {counts['changed']:,} are other ones there"
        )
    return RelocateReport(index=str(files.faiss), **counts, links=links)


def _look(known: Known, before: str, now: Callable[[str], str]) -> tuple[Recognised, dict[str, int]]:
    """Which known photos are in the new place, and how many were read for that."""
    found, counts = Recognised(), dict.fromkeys(("photos", "read", "missing", "changed"), 0)
    for path, photo in known.photos.items():
        if not is_below(path, [before]):
            continue
        there = photo_file(now(path))
        if not there.mtime_ns and not there.size:
            counts["missing"] += 1
        elif (same := _same(photo, there, counts)) is None:
            counts["changed"] += 1
        else:
            counts["photos"] += 1
            found.moved.add(path)
            found.now[path] = [] if same.path in known.photos and same.path != path else [same]
    return found, counts


def _same(photo: PhotoFile, there: PhotoFile, counts: dict[str, int]) -> PhotoFile | None:
    """The photo in its new place; None if that is another one."""
    if there.stamp == photo.stamp:
        return dataclasses.replace(there, digest=photo.digest)
    if there.size != photo.size or not photo.digest:
        return None
    try:
        read = there.holding(read_file(there.path))
    except PhotoError:
        return None
    counts["read"] += 1
    return read if read.digest == photo.digest else None
