"""Which of the photos that are listed now are known already, so that nothing is computed twice.

What the file system says of a photo (size, time of its content, time of its last change of any kind) tells an untouched one
without reading it. Any other whose size is a known photo's is read, and known again by the hash of its bytes: touched,
moved, copied, or the same file under another name.
"""

from __future__ import annotations

import collections
import concurrent.futures
import dataclasses
import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from faceembed.engine.photos.archives.names import split
from faceembed.engine.photos.photo_file import PhotoFile, printable
from faceembed.engine.photos.places import is_gone, real_place
from faceembed.engine.photos.reading import read_file
from faceembed.errors import PhotoError

_READERS = 4
_AT_ONCE = 64  # photos that a reader takes: one each costs as much again in waiting for each other


@dataclasses.dataclass
class Recognised:
    """What became of the listed photos."""

    todo: list[PhotoFile] = dataclasses.field(default_factory=list)
    """New and changed ones, to be embedded."""
    now: dict[str, list[PhotoFile]] = dataclasses.field(default_factory=dict)
    """A known path to the files that its faces stand for now, where that is not the file as it was."""
    vacated: set[str] = dataclasses.field(default_factory=set)
    """Known paths at which there is another photo now."""
    moved: set[str] = dataclasses.field(default_factory=set)
    """Known paths whose photo is elsewhere now."""
    unread: int = 0
    """Photos taken for unchanged by what the file system says."""
    touched: int = 0
    """Photos with another time and the same bytes."""
    copies: int = 0
    aliases: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    """(listed, known): one file by two paths, as of a folder that is mounted twice; it is in the index once."""
    out_of_reach: list[str] = dataclasses.field(default_factory=list)
    """Known photos that may have changed and cannot be read now; they stay as they were."""
    read: int = 0
    """Photos read to be compared."""

    def remarks(self, known: Collection[PhotoFile], *, check: bool) -> list[str]:
        """What the user should know of it, as lines."""
        lines = []
        if self.moved or self.touched or self.copies:
            lines.append(
                f"known by their bytes, not computed again: {len(self.moved):,} moved, {self.touched:,} touched, "
                f"{self.copies:,} copies ({self.read:,} photos read for that)"
            )
        if self.aliases:
            path, other = self.aliases[0]
            lines.append(
                f"{len(self.aliases):,} photos are in the index under another path of the same file, the first is "
                f"{printable(path)} ({printable(other)})"
            )
        if self.out_of_reach:
            lines.append(
                f"{len(self.out_of_reach):,} photos may have changed and cannot be read now, the first is "
                f"{printable(self.out_of_reach[0])}; they stay as they were"
            )
        if not check and (unhashed := sum(not photo.digest for photo in known)):
            lines.append(
                f"{unhashed:,} photos were embedded by an older version, which kept no hash of their bytes: moved ones are not "
                "known again; --check adds it"
            )
        return lines


def recognise(listed: Sequence[PhotoFile], known: Mapping[str, PhotoFile], *, check: bool = False) -> Recognised:
    """Sort the photos that are listed into known ones and those to be embedded.

    Args:
        listed: what is there now.
        known: path to the photo that was embedded, or failed for good.
        check: read also those that look untouched.
    """
    found = Recognised()
    paths = {photo.path for photo in listed}
    candidates: list[PhotoFile] = []
    for photo in listed:
        before = known.get(photo.path)
        if before is None or check or not photo.looks_like(before):
            candidates.append(photo)
            continue
        found.unread += 1
        if not before.ctime_ns and photo.ctime_ns:  # of a version that did not look at it
            found.now[photo.path] = [dataclasses.replace(photo, digest=before.digest)]
    fresh = _sort_known(found, candidates, known)
    _find_elsewhere(found, fresh, known, paths)
    order = {photo.path: number for number, photo in enumerate(listed)}
    found.todo.sort(key=lambda photo: order[photo.path])
    return found


def _sort_known(found: Recognised, candidates: Sequence[PhotoFile], known: Mapping[str, PhotoFile]) -> list[PhotoFile]:
    """Settle the photos whose path is known and whose bytes are the same; returns the others, with digests where read."""
    sizes = {photo.size for photo in known.values() if photo.digest} - {0}  # empty files are not copies of each other
    fresh: list[PhotoFile] = []
    for photo, read in _read_all(candidates, lambda photo: photo.size in sizes or _unhashed(photo, known)):
        before = known.get(photo.path)
        if read is None:
            if before is not None and before.stamp == photo.stamp:
                found.out_of_reach.append(photo.path)
            else:
                fresh.append(photo)
                found.vacated |= {photo.path} & known.keys()
            continue
        found.read += bool(read.digest)
        if before is None:
            fresh.append(read)
        elif read.digest and read.digest == before.digest:
            found.now[photo.path] = [read]
            found.touched += not photo.looks_like(before)
        elif not before.digest and photo.looks_like(before):  # nothing to compare with; from now on there is
            found.now[photo.path] = [read]
        else:
            found.vacated.add(photo.path)
            fresh.append(read)
    return fresh


def _unhashed(photo: PhotoFile, known: Mapping[str, PhotoFile]) -> bool:
    """Whether a photo that is to be checked has no hash yet."""
    before = known.get(photo.path)
    return before is not None and not before.digest and photo.looks_like(before)


def _read_all(
    photos: Sequence[PhotoFile], wanted: Callable[[PhotoFile], bool]
) -> Iterable[tuple[PhotoFile, PhotoFile | None]]:
    """Each photo with its digest, where it is wanted; None where it cannot be read."""

    def read(part: Sequence[PhotoFile]) -> list[tuple[PhotoFile, PhotoFile | None]]:
        return [(photo, _read(photo) if wanted(photo) else photo) for photo in part]

    parts = [photos[at : at + _AT_ONCE] for at in range(0, len(photos), _AT_ONCE)]
    with concurrent.futures.ThreadPoolExecutor(_READERS, "faceembed-hash") as readers:
        for part in readers.map(read, parts):
            yield from part


def _read(photo: PhotoFile) -> PhotoFile | None:
    try:
        return photo.holding(read_file(photo.path))
    except PhotoError:
        return None


def _find_elsewhere(
    found: Recognised, fresh: Sequence[PhotoFile], known: Mapping[str, PhotoFile], listed: set[str]
) -> None:
    """Look for photos under paths that are not known, or hold other bytes now, among the known ones."""
    by_digest: dict[str, list[str]] = collections.defaultdict(list)
    by_stamp: dict[tuple[int, int], list[str]] = collections.defaultdict(list)
    for path, photo in known.items():
        if photo.digest:
            by_digest[photo.digest].append(path)
        else:
            by_stamp[photo.stamp].append(path)
    for photo in fresh:
        same_bytes = by_digest.get(photo.digest, []) if photo.digest else []
        # of an older version nothing but the file itself can be known again
        twins = [path for path in (same_bytes or by_stamp.get(photo.stamp, [])) if path not in listed]
        if twin := next((path for path in twins if _is_one_file(path, photo.path)), None):
            if real_place(twin) == photo.path and twin not in found.moved:  # indexed through a link before
                _move(found, twin, photo)
            else:
                found.aliases.append((photo.path, twin))
        elif same_bytes:
            free = (p for p in same_bytes if p not in found.moved and _is_free(p, found, listed))
            if (left := next(free, None)) is not None:
                _move(found, left, photo)
            else:
                source = same_bytes[0]
                stays = source not in found.vacated and source not in found.moved
                found.now.setdefault(source, [known[source]] if stays else []).append(photo)
                found.copies += 1
        else:
            found.todo.append(photo)


def _move(found: Recognised, before: str, photo: PhotoFile) -> None:
    found.now.setdefault(before, []).append(photo)
    found.moved.add(before)


def _is_free(path: str, found: Recognised, listed: set[str]) -> bool:
    """Whether the photo of a known path is not there any more."""
    return path in found.vacated or (path not in listed and is_gone(path))


def _is_one_file(path: str, other: str) -> bool:
    """Whether two paths lead to one file that has one name: hard links are photos of their own."""
    inside, other_inside = split(path), split(other)
    if inside and other_inside and inside[1] == other_inside[1]:
        path, other = inside[0], other_inside[0]
    try:
        a, b = os.stat(path), os.stat(other)
    except OSError:
        return False
    return os.path.samestat(a, b) and a.st_nlink == 1
