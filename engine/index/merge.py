"""How what an index holds, what interrupted runs left and what this run embedded become one new index."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from faceembed.engine.index.files import IndexFiles
from faceembed.engine.index.losses import Selection
from faceembed.engine.index.recognise import Recognised
from faceembed.engine.index.shards import FaceTable, Shard
from faceembed.engine.index.store import load_faces, write_index
from faceembed.engine.index.update import BY_HAND, TRANSIENT, Known, removed_rows
from faceembed.engine.photos.columns import column
from faceembed.engine.photos.failures import REMOVED, Failure
from faceembed.engine.photos.listing import Listing
from faceembed.engine.photos.photo_file import PhotoFile
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
        self, listing: Listing, selection: Selection, known: Known, found: Recognised, earlier: Sequence[Shard]
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
        new: Sequence[Shard],
        *,
        or_flat: bool = False,
        notice: Callable[[str], None] = lambda line: None,
    ) -> dict[str, int]:
        """Write the joined index in place of the old one; returns its counts of faces and failures.

        Args:
            or_flat: where nobody asked for the kind now: a flat index, of faces that its kind cannot be made of any more. Else those
                who were taken out would stay.

        Raises:
            UsageError: the kind cannot be made of these faces.
        """
        old = self._known.manifest
        first_id = int(old["next_face_id"]) if old else 0
        parts = [self._known_faces(files, first_id)] if old else []
        added = [self._later(shard.faces, done) for shard, done in self._latest()]
        added += [_without(shard.faces, self._vanished) for shard in new]
        copies = [part[1] for part in (*parts, *added)]
        fresh = FaceTable.concatenate([part[0] for part in added] + copies, dimension)
        ids = column(np.arange(first_id, first_id + len(fresh)), pa.int64())
        tables = [part[0] for part in parts] + [FaceTable(fresh.rows.set_column(0, "face_id", ids), fresh.vectors)]
        faces = FaceTable.concatenate(tables, dimension)
        failures = self._failures(set(faces.paths()), new)
        no_face = sum(1 for failure in failures if failure.stage in ("detect", "align"))
        removed = sum(1 for failure in failures if failure.stage == REMOVED)
        counts = {"faces": len(faces), "no_face": no_face, "failed": len(failures) - no_face - removed}
        by_hand = removed_rows(failures)
        description = {**manifest, **counts, "next_face_id": first_id + len(fresh), REMOVED: by_hand}
        try:
            write_index(files, faces, failures, description, index_type, notice=notice)
        except UsageError as error:
            if not or_flat or index_type == "flat":
                raise
            notice(f"{error}: the index is a flat one from now on")
            write_index(files, faces, failures, {**description, "index": "flat"}, "flat")
        return counts

    def _known_faces(self, files: IndexFiles, first_id: int) -> tuple[FaceTable, FaceTable]:
        done_again = {path for shard in self._earlier for path in _paths_of(shard)}
        return self._later(load_faces(files), done_again)

    def _latest(self) -> list[tuple[Shard, set[str]]]:
        """The earlier shards in their order, each with the paths that later ones did again."""
        later: set[str] = set()
        found: list[tuple[Shard, set[str]]] = []
        for shard in reversed(self._earlier):
            found.append((shard, set(later)))
            later |= _paths_of(shard)
        return found[::-1]

    def _later(self, table: FaceTable, done_again: Collection[str]) -> tuple[FaceTable, FaceTable]:
        """The faces that stay, their files as they are now; and those that stand for a copy of their photo as well."""
        kept: list[int] = []
        stamps: list[PhotoFile] = []
        copied: list[int] = []
        copies: list[PhotoFile] = []
        ids = table.rows.column("face_id").to_pylist()
        for row, photo in enumerate(table.photos()):
            files = [] if photo.path in done_again or ids[row] in self._without else self._files(photo)
            if files:
                kept.append(row)
                stamps.append(files[0])
                copied += [row] * (len(files) - 1)
                copies += files[1:]
        return table.rows_at(kept).restamped(stamps), table.rows_at(copied).restamped(copies)

    def _failures(self, embedded: set[str], new: Sequence[Shard]) -> list[Failure]:
        """One row a photo, the latest; none of a photo that has a face, is gone, or is listed elsewhere."""
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
        left = [f for path, f in latest.items() if path not in embedded and path not in self._vanished]
        return left + self._taken_out


def _without(table: FaceTable, paths: Collection[str]) -> tuple[FaceTable, FaceTable]:
    """The faces of other photos; and none, as of `Merge._later`."""
    kept = [row for row, path in enumerate(table.paths()) if path not in paths] if paths else range(len(table))
    return table.rows_at(kept), table.rows_at([])


def _paths_of(shard: Shard) -> set[str]:
    return set(shard.faces.paths()) | {failure.photo.path for failure in shard.failures}
