"""How what an index holds, what interrupted runs left and what this run embedded become one new index."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from faceembed.engine.index.assembly import Assembly
from faceembed.engine.index.files import IndexFiles
from faceembed.engine.index.losses import Selection
from faceembed.engine.index.recognise import Recognised
from faceembed.engine.index.shards import FaceTable, ShardFile
from faceembed.engine.index.store import face_pieces
from faceembed.engine.index.tracks import TRACK, Joiner, TrackRule
from faceembed.engine.index.update import BY_HAND, TRANSIENT, Known, removed_rows
from faceembed.engine.photos.columns import column
from faceembed.engine.photos.failures import REMOVED, Failure
from faceembed.engine.photos.listing import Listing
from faceembed.engine.photos.photo_file import PhotoFile, decode_path
from faceembed.engine.photos.rows import FACE_SCHEMA
from faceembed.errors import UsageError


class Merge:
    """Joins faces and failures, each photo as it is now.

    Args:
        listing: of this run.
        selection: what it looked at.
        known: what earlier runs had done.
        found: which photos were known again.
        earlier: shards of interrupted runs.
    """

    def __init__(
        self, listing: Listing, selection: Selection, known: Known, found: Recognised, earlier: Sequence[ShardFile]
    ) -> None:
        self._known = known
        self._selection = selection
        self._earlier = earlier
        self._listed_failures = [Failure(PhotoFile(path, 0, 0), "list", why) for path, why in listing.failures]
        listed = {photo.path for photo in listing.photos}
        unseen = {path for path in known.photos if path not in listed and path not in found.moved}
        stages = {f.photo.path: f.stage for f in (*known.failures, *(f for shard in earlier for f in shard.failures))}
        left_out = {path for path in unseen if selection.leaves_out(path) and stages.get(path) != REMOVED}
        dismissed = {path for path in left_out if path in stages}
        """Failures whose photos the run leaves out: nothing of value."""
        by_hand = {path for path in unseen if stages.get(path) == REMOVED and selection.leaves_out(path)}
        self.gone = {path for path in unseen - dismissed - by_hand if selection.lost(path)}
        """Known paths whose photo is not there any more."""
        self.passed_over = left_out - dismissed - self.gone
        """Known paths with faces that the run leaves out; they stay."""
        self._now: dict[str, list[PhotoFile]] = {path: [] for path in (*self.gone, *dismissed, *found.vacated)}
        self._now |= found.now
        before = [f for f in known.failures if f.stage == "list" and selection.covers(f.photo.path)]
        self.other_folders_fail = set(before) != set(self._listed_failures)
        """Whether this listing failed elsewhere than the one before it."""
        self._vanished: set[str] = set()
        self._without: set[int] = set()
        self._taken_out: list[Failure] = []

    @property
    def removed(self) -> int:
        """Photos that are gone or have changed."""
        return sum(not self._files(photo) for photo in self._known.photos.values())

    @property
    def changes(self) -> bool:
        """Whether the index is another one than before, new photos apart."""
        return bool(self._now or self._earlier or self.other_folders_fail)

    def drop(self, vanished: Collection[str]) -> None:
        """Leave out photos that were listed and went while the run worked."""
        self._vanished |= set(vanished)

    def take_out(self, photos: Sequence[PhotoFile], face_ids: Collection[int]) -> None:
        """Leave out faces for good.

        Args:
            photos: those of which no face stays; a row says so, and later runs leave them alone.
            face_ids: of the faces.
        """
        self.drop([photo.path for photo in photos])
        self._without |= set(face_ids)
        self._taken_out += [Failure(photo, REMOVED, BY_HAND) for photo in photos]

    def _files(self, photo: PhotoFile) -> list[PhotoFile]:
        """The files for which what is known of a photo stands now."""
        if (latest := self._known.photos.get(photo.path)) is not None and latest.stamp != photo.stamp:
            return []  # a later run has embedded another photo of that path
        return [now for now in self._now.get(photo.path, [photo]) if now.path not in self._vanished]

    def write(
        self,
        files: IndexFiles,
        manifest: Mapping[str, Any],
        dimension: int,
        index_type: str,
        new: Sequence[ShardFile],
        *,
        or_flat: bool = False,
        rule: TrackRule | None = None,
        notice: Callable[[str], None] = lambda line: None,
    ) -> dict[str, int]:
        """Write the joined index in place of the old one; returns its counts of faces and failures.

        Args:
            rule: which new faces of a video's frames make a track; None: each stays a row.
            or_flat: where nobody asked for the kind now: a flat index, of faces that its kind cannot be made of any more. Else those
                who were taken out would stay.

        Raises:
            UsageError: the kind cannot be made of these faces.
        """
        old = self._known.manifest
        next_id = int(old["next_face_id"]) if old else 0
        latest = self._failures(new)
        copied: list[tuple[_Piece, list[int], list[PhotoFile]]] = []
        pieces = list(self._known_pieces(files)) if old else []
        pieces += [_Piece(_rest(shard), number) for number, shard in enumerate(self._earlier)]
        pieces += [_Piece(_rest(shard), _NEW) for shard in new]
        joiner = Joiner(rule, dimension)
        with contextlib.closing(Assembly(files, dimension, index_type)) as assembly:
            for piece in pieces:
                for part, faces in enumerate(piece.read()):
                    kept, copies, copy_files = self._later(faces, piece.number)
                    if copies:
                        copied.append((_Piece(piece.read, piece.number, part), copies, copy_files))
                    is_new = piece.number is not _KNOWN
                    ready = joiner.add(kept, latest) if is_new else kept
                    next_id = _add(assembly, ready, next_id, latest, new_ids=is_new)
            for piece, rows, now in copied:
                faces = next(itertools.islice(piece.read(), piece.part, None)).rows_at(rows).restamped(now)
                ready = faces if piece.number is _KNOWN else joiner.add(faces, latest)
                next_id = _add(assembly, ready, next_id, latest, new_ids=True)
            next_id = _add(assembly, joiner.rest(latest), next_id, latest, new_ids=True)
            failures = [*latest.values(), *self._taken_out]
            no_face = sum(1 for failure in failures if failure.stage in ("detect", "align"))
            removed = sum(1 for failure in failures if failure.stage == REMOVED)
            tracks = sum(1 for failure in failures if failure.stage == TRACK)
            failed = len(failures) - no_face - removed - tracks
            counts = {"faces": len(assembly), "no_face": no_face, "failed": failed, "in_tracks": tracks}
            description = {**manifest, **counts, "next_face_id": next_id, REMOVED: removed_rows(failures)}
            try:
                assembly.finish(failures, description, index_type, notice=notice)
            except UsageError as error:
                if not or_flat or index_type == "flat":
                    raise
                notice(f"{error}: the index is a flat one from now on")
                assembly.finish(failures, {**description, "index": "flat"}, "flat")
        return counts

    def _known_pieces(self, files: IndexFiles) -> Iterator[_Piece]:
        yield _Piece(lambda: face_pieces(files), _KNOWN)

    @functools.cached_property
    def _last(self) -> dict[str, int]:
        """The number of the last earlier shard that did a photo, by its path."""
        return {path: number for number, shard in enumerate(self._earlier) for path in _paths_of(shard)}

    def _later(self, table: FaceTable, number: int) -> tuple[FaceTable, list[int], list[PhotoFile]]:
        """The faces that stay, their files as they are now; and the rows that stand for a copy of their photo as well, with its file.

        Args:
            table: of some faces.
            number: of the earlier shard that they are from, `_KNOWN` or `_NEW`.
        """
        if number == _NEW:
            gone = self._vanished
            left = [row for row, path in enumerate(table.paths()) if path not in gone] if gone else range(len(table))
            return table.rows_at(left), [], []
        kept: list[int] = []
        stamps: list[PhotoFile] = []
        copied: list[int] = []
        copies: list[PhotoFile] = []
        ids = table.rows.column("face_id").to_pylist()
        for row, photo in enumerate(table.photos()):
            again = self._last.get(photo.path, number) > number or ids[row] in self._without
            files = [] if again else self._files(photo)
            if files:
                kept.append(row)
                stamps.append(files[0])
                copied += [row] * (len(files) - 1)
                copies += files[1:]
        return table.rows_at(kept).restamped(stamps), copied, copies

    def _failures(self, new: Sequence[ShardFile]) -> dict[str, Failure]:
        """One row a photo by its path, the latest; none of a photo that is gone, or is listed elsewhere."""
        before = [f for f in self._known.failures if f.stage != "list"]
        earlier = [failure for shard in self._earlier for failure in shard.failures]
        rows = [f for f in self._known.failures if f.stage == "list" and not self._selection.covers(f.photo.path)]
        for failure in (*before, *earlier):
            if failure.stage in TRANSIENT:
                if not self._selection.lost(failure.photo.path) and not self._selection.leaves_out(failure.photo.path):
                    rows.append(failure)
            else:
                rows += [Failure(photo, failure.stage, failure.reason) for photo in self._files(failure.photo)]
        rows += [failure for shard in new for failure in shard.failures]
        latest = {failure.photo.path: failure for failure in (*rows, *self._listed_failures)}
        return {path: f for path, f in latest.items() if path not in self._vanished}


_KNOWN, _NEW = -1, 1 << 62  # in place of an earlier shard's number


@dataclasses.dataclass(frozen=True)
class _Piece:
    """Faces on disk, in tables."""

    read: Callable[[], Iterator[FaceTable]]
    number: int
    part: int = 0


def _rest(shard: ShardFile) -> Callable[[], Iterator[FaceTable]]:
    return lambda: iter((shard.read().faces,))


def _add(assembly: Assembly, faces: FaceTable, next_id: int, latest: dict[str, Failure], *, new_ids: bool) -> int:
    """Add faces, drop the failures of photos that have one, and return the next id that is free."""
    if latest:
        for text in faces.rows.column("path").to_pylist():
            latest.pop(decode_path(text), None)
    if new_ids:
        ids = column(np.arange(next_id, next_id + len(faces)), pa.int64())
        faces = FaceTable(faces.rows.set_column(0, FACE_SCHEMA.field("face_id"), ids), faces.vectors)
        next_id += len(faces)
    assembly.add(faces)
    return next_id


def _paths_of(shard: ShardFile) -> Iterator[str]:
    yield from (photo.path for photo in shard.photos())
    yield from (failure.photo.path for failure in shard.failures)
