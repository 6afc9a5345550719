"""What a second run needs: which photos earlier runs have done, and how their faces join with the new ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa

from faceembed.engine.index.files import IndexFiles
from faceembed.engine.index.shards import LATER, FaceTable, Shard, ShardFolder
from faceembed.engine.index.store import check_encoder, load_faces, read_manifest, write_index
from faceembed.engine.photos.listing import Listing, PhotoFile, decode_path, is_below
from faceembed.engine.photos.rows import Failure, read_errors, read_parquet
from faceembed.errors import IndexFormatError

_BEFORE = {"detect_size": 0}  # what indexes that do not say were made with: they are older than the setting
_VERSIONS = ("preprocessing", "dimension")  # what no option of a run sets
TRANSIENT = ("list", "read")  # stages whose failures are tried again at every run


@dataclasses.dataclass
class Known:
    """What earlier runs have done: the stamps (size, mtime_ns) of their photos, and the index they left."""

    files: IndexFiles
    manifest: dict[str, Any] | None
    stamps: dict[str, tuple[int, int]]
    failures: list[Failure]

    @classmethod
    def read(cls, files: IndexFiles, fingerprint: dict[str, Any]) -> Known:
        """Look at the index that is there, if any.

        Raises:
            IndexFormatError: it is damaged, or was made by another encoder or with other settings.
        """
        if not files.exists():
            return cls(files, None, {}, [])
        manifest = read_manifest(files)
        encoder = fingerprint["encoder"]
        check_encoder(files, manifest, encoder["name"], encoder["sha256"])
        for key, value in fingerprint.items():
            before = manifest.get(key, value if key in LATER else _BEFORE.get(key))
            if before != value:
                advice = "use" if key in _VERSIONS else "use the same,"
                raise IndexFormatError(
                    f"{files.faiss} was made with {key} {_show(before)}, this run has {_show(value)}; "
                    f"{advice} another -o, or --fresh to start over"
                )
        columns = ("path", "size", "mtime_ns")
        table = read_parquet(files.parquet, columns, advice="run with --fresh")
        paths, sizes, times = (table.column(name).to_pylist() for name in columns)
        stamps = {decode_path(p): (s, t) for p, s, t in zip(paths, sizes, times, strict=True)}
        failures = read_errors(files.errors)
        stamps.update({f.photo.path: f.photo.stamp for f in failures if f.stage not in TRANSIENT})
        return cls(files, manifest, stamps, failures)

    def add_shards(self, shards: ShardFolder | None) -> list[Shard]:
        """Count the photos of an interrupted run's shards as done."""
        done = list(shards.read()) if shards else []
        for shard in done:
            failures = [failure.photo for failure in shard.failures if failure.stage not in TRANSIENT]
            self.stamps.update({photo.path: photo.stamp for photo in (*shard.faces.photos(), *failures)})
        return done


class Merge:
    """Joins what the index holds with finished shards, leaving out photos that are gone or have changed.

    What cannot be looked at is not gone: faces below a folder that cannot be read now stay.
    """

    def __init__(self, listing: Listing, known: Known, shards: list[Shard]) -> None:
        self._known = known
        self._shards = shards
        self._roots = listing.roots
        self._unread = [path for path, _ in listing.failures]
        self._now = {photo.path: photo.stamp for photo in listing.photos}
        self._listed = [Failure(PhotoFile(path, 0, 0), "list", reason) for path, reason in listing.failures]
        earlier = [f for f in known.failures if f.stage == "list" and is_below(f.photo.path, self._roots)]
        self.other_folders_fail = set(earlier) != set(self._listed)
        """Whether this listing failed elsewhere than the one before it."""
        self.removed = sum(not self._stays(path, stamp) for path, stamp in known.stamps.items())

    def _stays(self, path: str, stamp: tuple[int, int]) -> bool:
        if path in self._now:
            return self._now[path] == stamp
        return not is_below(path, self._roots) or is_below(path, self._unread)

    def write(
        self,
        files: IndexFiles,
        manifest: dict[str, Any],
        dimension: int,
        index_type: str,
        *,
        notice: Callable[[str], None] = lambda line: None,
    ) -> dict[str, int]:
        """Write the joined index in place of the old one; returns its counts of faces and failures."""
        old = self._known.manifest
        new = FaceTable.concatenate(self._newest(), dimension)
        done_again = {path for shard in self._shards for path in _photos_of(shard)}
        tables = [self._keep(load_faces(files), done_again)] if old else []
        first_id = int(old["next_face_id"]) if old else 0
        ids = pa.array(np.arange(first_id, first_id + len(new)))
        tables.append(FaceTable(new.rows.set_column(0, "face_id", ids), new.vectors))
        faces = FaceTable.concatenate(tables, dimension)
        failures = self._failures({photo.path for photo in new.photos()})
        no_face = sum(1 for failure in failures if failure.stage in ("detect", "align"))
        counts = {"faces": len(faces), "no_face": no_face, "failed": len(failures) - no_face}
        manifest = {**manifest, **counts, "next_face_id": first_id + len(new)}
        write_index(files, faces, failures, manifest, index_type, notice=notice)
        return counts

    def _newest(self) -> list[FaceTable]:
        """The faces of the shards that stay, a photo that was embedded twice only as it was the last time."""
        tables: list[FaceTable] = []
        later: set[str] = set()
        for shard in reversed(self._shards):
            tables.append(self._keep(shard.faces, later))
            later.update(_photos_of(shard))
        return tables[::-1]

    def _keep(self, table: FaceTable, done_again: set[str]) -> FaceTable:
        photos = table.photos()
        return table.take(np.array([p.path not in done_again and self._stays(p.path, p.stamp) for p in photos], bool))

    def _failures(self, embedded: set[str]) -> list[Failure]:
        """One row a photo: of what is not listed now as it was, else the latest, if the photo was not embedded since."""
        known = [failure for failure in self._known.failures if self._stays(failure.photo.path, failure.photo.stamp)]
        below = [
            failure for failure in known if failure.stage != "list" or not is_below(failure.photo.path, self._roots)
        ]
        new = [
            failure
            for shard in self._shards
            for failure in shard.failures
            if self._stays(failure.photo.path, failure.photo.stamp)
        ]
        latest = {failure.photo.path: failure for failure in (*below, *new, *self._listed)}
        return [failure for path, failure in latest.items() if path not in embedded]


def _photos_of(shard: Shard) -> set[str]:
    return {photo.path for photo in shard.faces.photos()} | {failure.photo.path for failure in shard.failures}


def _show(value: object) -> str:
    return f"{value['name']} ({value['sha256'][:12]})" if isinstance(value, dict) else repr(value)
