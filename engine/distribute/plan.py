"""Which photos make which shard, decided by the photos alone and written as it is decided.

    tasks = write_plan(store, photos, fingerprint)      # photos may be any iterable: none of them stays in memory
    members(store, tasks[0])                            # what a worker reads: one row group

A shard ends behind a photo whose path says so, so that a photo that comes or goes changes the shard that it is in and no other.
"""

from __future__ import annotations

import array
import dataclasses
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import blake3
import pyarrow as pa
import pyarrow.parquet as pq

from faceembed.engine.distribute.store import Store
from faceembed.engine.photos.columns import column
from faceembed.engine.photos.photo_file import PhotoFile, decode_path
from faceembed.engine.photos.rows import file_columns

SHARD = 1024  # photos, in the mean
_LEAST, _MOST = SHARD // 2, SHARD * 2
_PER_FILE = 256  # shards in an object of the plan
_SCHEMA = pa.schema([("path", pa.string()), ("size", pa.int64()), ("mtime_ns", pa.int64()), ("ctime_ns", pa.int64())])


@dataclasses.dataclass(frozen=True, slots=True)
class Task:
    """A shard to be computed, and where its photos are listed."""

    shard: str
    photos: int
    file: int
    group: int


class Tasks(Sequence[Task]):
    """All shards of a plan, in 36 bytes each."""

    def __init__(self) -> None:
        self._ids = bytearray()
        self._photos, self._files, self._groups = array.array("I"), array.array("I"), array.array("I")

    def add(self, task: Task) -> None:
        """One more."""
        self._ids += bytes.fromhex(task.shard)
        self._photos.append(task.photos)
        self._files.append(task.file)
        self._groups.append(task.group)

    def __len__(self) -> int:
        return len(self._photos)

    def __getitem__(self, at: Any) -> Any:
        if isinstance(at, slice):
            return [self[place] for place in range(*at.indices(len(self)))]
        if not 0 <= at < len(self):
            raise IndexError(at)
        shard = self._ids[16 * at : 16 * at + 16].hex()
        return Task(shard, self._photos[at], self._files[at], self._groups[at])

    @property
    def photos(self) -> int:
        """Of all shards."""
        return sum(self._photos)


def write_plan(store: Store, photos: Iterable[PhotoFile], fingerprint: dict[str, Any]) -> Tasks:
    """Part photos into shards and put the plan in place of an older one.

    Args:
        photos: each once, in an order that stays.
        fingerprint: what makes the embeddings.

    Raises:
        DataError: the store cannot be reached.
    """
    tasks = Tasks()
    made = json.dumps(fingerprint, sort_keys=True)
    out, writer, number = io.BytesIO(), None, 0
    for shard in _shards(photos):
        if writer is None:
            out = io.BytesIO()
            writer = pq.ParquetWriter(out, _SCHEMA, use_dictionary=False)
        columns = file_columns(shard)
        writer.write_table(pa.Table.from_arrays([column(columns[f.name], f.type) for f in _SCHEMA], schema=_SCHEMA))
        tasks.add(Task(_id_of(shard, made), len(shard), number, len(tasks) % _PER_FILE))
        if len(tasks) % _PER_FILE == 0:
            writer.close()
            store.write(_name(number), out.getvalue())
            writer, number = None, number + 1
    if writer is not None:
        writer.close()
        store.write(_name(number), out.getvalue())
        number += 1
    for name in store.sizes("plan"):
        if name.split(".")[0].isdigit() and int(name.split(".")[0]) >= number:
            store.delete(f"plan/{name}")
    return tasks


def read_plan(store: Store, fingerprint: dict[str, Any]) -> Tasks:
    """The plan that is there.

    Raises:
        DataError: the store cannot be reached.
    """
    tasks, made = Tasks(), json.dumps(fingerprint, sort_keys=True)
    for name in sorted(store.sizes("plan")):
        with store.opened(f"plan/{name}") as file:
            opened = pq.ParquetFile(file)
            for group in range(opened.num_row_groups):
                photos = _photos_of(opened.read_row_group(group, use_threads=False))
                tasks.add(Task(_id_of(photos, made), len(photos), int(name.split(".")[0]), group))
    return tasks


def members(store: Store, task: Task) -> list[PhotoFile]:
    """The photos of a shard.

    Raises:
        DataError: the store cannot be reached.
    """
    with store.opened(_name(task.file)) as file:
        return _photos_of(pq.ParquetFile(file).read_row_group(task.group, use_threads=False))


def _name(number: int) -> str:
    return f"plan/{number:06d}.parquet"


def _photos_of(table: Any) -> list[PhotoFile]:
    columns = [table.column(name).to_pylist() for name in _SCHEMA.names]
    return [PhotoFile(decode_path(path), *rest) for path, *rest in zip(*columns, strict=True)]


def _shards(photos: Iterable[PhotoFile]) -> Iterator[list[PhotoFile]]:
    shard: list[PhotoFile] = []
    for photo in photos:
        shard.append(photo)
        if len(shard) >= _MOST or (len(shard) >= _LEAST and _ends(photo)):
            yield shard
            shard = []
    if shard:
        yield shard


def _ends(photo: PhotoFile) -> bool:
    data = blake3.blake3(photo.path.encode("utf-8", "surrogateescape")).digest(4)
    return int.from_bytes(data, "little") % (SHARD - _LEAST) == 0


def _id_of(photos: Sequence[PhotoFile], made: str) -> str:
    hasher = blake3.blake3(made.encode())
    for photo in photos:
        hasher.update(f"\0{photo.size} {photo.mtime_ns} ".encode() + photo.path.encode("utf-8", "surrogateescape"))
    return hasher.hexdigest(length=16)
