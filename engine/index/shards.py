"""Finished pieces of a run: each is one parquet file that appears whole, so a killed run loses at most the piece it was in.

A shard holds what became of a few hundred photos: a row for each face with its embedding, or one row with stage and
reason for a photo without. `settings.json` beside them says what made them; other settings do not mix.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from faceembed.engine.photos.columns import column, numbers
from faceembed.engine.photos.failures import Failure
from faceembed.engine.photos.photo_file import PhotoFile
from faceembed.engine.photos.rows import FACE_SCHEMA, PHOTO_COLUMNS, file_columns, paths_of, photos_of, read_parquet
from faceembed.errors import IndexFormatError
from faceembed.files import atomic_write

LATER = ("min_score",)
"""Settings that indexes of older versions do not name; what these hold stays as it is, and this run's setting holds from then on."""
_DELETE = "delete that file and run again"


@dataclasses.dataclass(frozen=True)
class FaceTable:
    """Faces with their embeddings: a table of `FACE_SCHEMA` and float32 (F, D), row for row."""

    rows: pa.Table
    vectors: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.vectors)

    @classmethod
    def empty(cls, dimension: int) -> FaceTable:
        """No faces."""
        columns = [pa.nulls(0, field.type) for field in FACE_SCHEMA]  # `Schema.empty_table` imports pandas
        return cls(pa.Table.from_arrays(columns, schema=FACE_SCHEMA), np.zeros((0, dimension), np.float32))

    @classmethod
    def concatenate(cls, tables: Sequence[FaceTable], dimension: int) -> FaceTable:
        """All faces of ``tables`` in that order."""
        if not tables:
            return cls.empty(dimension)
        return cls(
            pa.concat_tables([table.rows for table in tables]).combine_chunks(),
            np.concatenate([table.vectors for table in tables]),
        )

    def take(self, mask: NDArray[np.bool_]) -> FaceTable:
        """The faces where ``mask`` is true."""
        return self if mask.all() else FaceTable(self.rows.filter(pa.array(mask)), self.vectors[mask])

    def rows_at(self, numbers: Sequence[int]) -> FaceTable:
        """The faces at these rows, in that order."""
        if len(numbers) == len(self) and list(numbers) == list(range(len(self))):
            return self
        if len(numbers) == 0:  # not taken: that imports all of Arrow's functions
            return FaceTable(self.rows.slice(0, 0), self.vectors[:0])
        at = np.asarray(numbers, np.int64)
        return FaceTable(self.rows.take(column(at, pa.int64())), self.vectors[at])

    def photos(self) -> list[PhotoFile]:
        """Each face's file, row for row."""
        return photos_of(self.rows)

    def paths(self) -> list[str]:
        """Each face's file's path, row for row."""
        return paths_of(self.rows)

    def restamped(self, now: Sequence[PhotoFile]) -> FaceTable:
        """The same faces with their files as they are now, row for row."""
        if not len(self):
            return self
        rows = self.rows
        for name, values in file_columns(now).items():
            at = rows.schema.get_field_index(name)
            rows = rows.set_column(at, rows.schema.field(at), column(values, rows.schema.field(at).type))
        return FaceTable(rows, self.vectors)


@dataclasses.dataclass(frozen=True)
class Shard:
    """What became of a run of photos."""

    faces: FaceTable
    failures: list[Failure]


class ShardFolder:
    """The shards of one unfinished run.

    Args:
        folder: created if it is not there.
        settings: what makes the embeddings; must equal that of the shards already there.

    Raises:
        IndexFormatError: the folder holds shards made with other settings.
    """

    def __init__(self, folder: Path, settings: dict[str, object]) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "settings.json"
        if path.exists():
            try:
                stored = dict(json.loads(path.read_text(encoding="utf-8")))
            except (OSError, ValueError, TypeError) as error:
                raise IndexFormatError(f"{path} is damaged ({error}); start over with --fresh") from error
            older = {"pages": False, "fps": None, **{name: settings[name] for name in LATER if name in settings}}
            stored = {**{name: value for name, value in older.items() if name in settings}, **stored}
            if stored != settings:
                different = sorted(key for key in {*stored, *settings} if stored.get(key) != settings.get(key))
                raise IndexFormatError(
                    f"{folder} holds an unfinished run with another {', '.join(different)} "
                    f"({stored.get(different[0])!r}, now {settings.get(different[0])!r}): finish it with those settings, "
                    "or start over with --fresh"
                )
        else:
            with atomic_write(path, "w") as file:
                json.dump(settings, file, indent=2)
        self._next = 1 + max((int(path.stem) for path in self._paths()), default=-1)

    @classmethod
    def left(cls, folder: Path) -> tuple[ShardFolder | None, dict[str, Any]]:
        """The shards of a run that has not ended, if there are any, and the settings that made them."""
        try:
            settings: dict[str, Any] = json.loads((folder / "settings.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None, {}
        except (OSError, ValueError) as error:
            raise IndexFormatError(
                f"{folder / 'settings.json'} is damaged ({error}); start over with --fresh"
            ) from error
        return cls(folder, settings), settings

    def _paths(self) -> list[Path]:
        return sorted(path for path in self._folder.glob("[0-9]*.parquet") if path.stem.isdigit())

    def write(self, shard: Shard) -> None:
        """Add a finished shard."""
        rows, vectors = shard.faces.rows, shard.faces.vectors
        # As bytes: as lists they cost three times as much to write and four times to read, for the levels of their nesting.
        data = pa.py_buffer(np.ascontiguousarray(vectors, "<f4"))
        flat = pa.FixedSizeBinaryArray.from_buffers(pa.binary(4 * vectors.shape[1]), len(vectors), [None, data])
        failures = json.dumps([dataclasses.asdict(failure) for failure in shard.failures])  # ASCII: any file name
        table = rows.append_column("embedding", flat).replace_schema_metadata({"failures": failures})
        with atomic_write(self._folder / f"{self._next:08d}.parquet") as file:
            pq.write_table(
                table, file, compression="none", use_dictionary=False
            )  # embeddings repeat nothing: 7.5 -> 1.4 ms
        self._next += 1

    def files(self) -> list[ShardFile]:
        """The shards in the order they were written, on disk."""
        return [ShardFile(path) for path in self._paths()]

    def read(self) -> Iterator[Shard]:
        """The same in memory, one after the other.

        Raises:
            IndexFormatError: one is damaged.
        """
        return (file.read() for file in self.files())


class ShardFile:
    """A shard on disk. Nothing of it stays in memory but its failures, which are few.

    Args:
        path: of its parquet file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @functools.cached_property
    def failures(self) -> list[Failure]:
        """The photos without a face.

        Raises:
            IndexFormatError: it is damaged.
        """
        return self.read().failures

    def photos(self) -> list[PhotoFile]:
        """Each face's file, row for row.

        Raises:
            IndexFormatError: it is damaged.
        """
        return photos_of(read_parquet(self.path, PHOTO_COLUMNS, advice=_DELETE))

    def read(self) -> Shard:
        """All of it.

        Raises:
            IndexFormatError: it is damaged.
        """
        table = read_parquet(self.path, advice=_DELETE)
        try:
            listed = json.loads(table.schema.metadata[b"failures"])
            vectors = _vectors(table.column("embedding").combine_chunks())
            rows = table.select(FACE_SCHEMA.names).replace_schema_metadata(None)
            if not rows.schema.equals(FACE_SCHEMA):  # not always: `cast` imports all of Arrow's functions
                rows = rows.cast(FACE_SCHEMA)
            failures = [Failure(PhotoFile(**row["photo"]), row["stage"], row["reason"]) for row in listed]
        except (pa.ArrowException, KeyError, ValueError, TypeError, AttributeError) as error:
            raise IndexFormatError(f"{self.path} is damaged ({error}); {_DELETE}") from error
        return Shard(FaceTable(rows, vectors), failures)


def _vectors(embeddings: Any) -> NDArray[np.float32]:
    """float32 (F, D) out of a shard's column; versions before 0.2 wrote lists."""
    kind = embeddings.type
    if not pa.types.is_fixed_size_binary(kind):
        return numbers(embeddings.flatten()).reshape(-1, kind.list_size)
    if embeddings.null_count:
        raise ValueError(f"{embeddings.null_count:,} embeddings are missing")
    width = kind.byte_width // 4
    start, data = embeddings.offset * width, embeddings.buffers()[1]
    every = np.zeros(0, np.float32) if data is None else np.frombuffer(data, "<f4")
    return np.asarray(every[start : start + len(embeddings) * width].reshape(-1, width), np.float32)
