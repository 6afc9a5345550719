"""Photos in the columns of a Parquet file: bytes, or Hugging Face's structs of bytes and path.

They are called ``data.parquet::image/17``, by the column and the number of the row from 0; the rest of a row is not looked at. A file's
sizes stand among its bytes, so that listing reads the columns. What lies in memory is some rows and the page that they are from, which is as
large as whoever wrote the file made it.
"""

from __future__ import annotations

import bisect
import itertools
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from faceembed.engine.photos.archives.archive import Archive, Member
from faceembed.engine.photos.probe import HEAD_BYTES, is_picture
from faceembed.errors import PhotoError

if TYPE_CHECKING:
    import pyarrow.parquet as pq

_ROWS = 8  # decoded at a time: as many photos lie in memory for each column that is read


class ParquetArchive(Archive):
    """A Parquet file, mapped into memory, and how far its columns have been read.

    Args:
        path: of the file.

    Raises:
        PhotoError: not a Parquet file, or a damaged one.
        OSError: it cannot be read.
    """

    only_photos = True

    def __init__(self, path: str) -> None:
        # Not at the top: every command imports this file, and few look into a Parquet file.
        import pyarrow as pa
        import pyarrow.parquet as pq

        self.problems = []
        self._lock = threading.Lock()
        try:
            self._file = pq.ParquetFile(path, memory_map=True, pre_buffer=False)
        except (pa.ArrowException, ValueError) as error:
            raise PhotoError("list", f"not a Parquet file, or a damaged one ({_line(error)})") from error
        rows = [self._file.metadata.row_group(group).num_rows for group in range(self._file.num_row_groups)]
        self._starts = [0, *itertools.accumulate(rows)]
        self._columns = {
            field.name: _Column(self._file, field.name, self._starts)
            for field in self._file.schema_arrow
            if _is_bytes(field.type) or (pa.types.is_struct(field.type) and _bytes_of(field.type) is not None)
        }
        self._columns = {name: column for name, column in self._columns.items() if column.holds_photos()}

    def members(self) -> Iterator[Member]:
        for name, column in sorted(self._columns.items()):
            with self._lock:
                sizes = column.sizes()
            for row, size in enumerate(sizes):
                yield Member(f"{name}/{row}", size)

    def has(self, name: str) -> bool:
        column, _, row = name.rpartition("/")
        return column in self._columns and row.isdecimal() and row == str(int(row)) and int(row) < self._starts[-1]

    def size(self, name: str) -> int:
        return len(self.read(name))

    def read(self, name: str, most: int = -1) -> bytes:
        if not self.has(name):
            raise PhotoError("read", "not in the archive")
        column, _, row = name.rpartition("/")
        with self._lock:
            data = self._columns[column].read(int(row))
        return data if most < 0 else data[:most]


class _Column:
    """A column of photos, read forwards: going back begins at the row group."""

    def __init__(self, file: pq.ParquetFile, name: str, starts: list[int]) -> None:
        self._file = file
        self._name = name
        self._starts = starts
        self._parts: list[tuple[int, Any]] = []
        """The last parts read: number of the first row, and an Arrow array."""
        self._rest: Iterator[Any] = iter(())
        self._group = -1
        """The row group of ``rest``; -1: none."""
        self._next = 0
        """The row that ``rest`` begins with."""

    def holds_photos(self) -> bool:
        """Whether there is a picture in the first rows; not in a column of paths alone, which Hugging Face writes too."""
        try:
            first = next(self._batches(0), None) if self._starts[-1] else None
        except PhotoError:
            return True  # it is damaged, which its rows are to say
        values = (value.as_py() for value in (_content(first) if first is not None else ()))
        return any(is_picture(value[:HEAD_BYTES]) for value in values if value)

    def sizes(self) -> list[int]:
        """Bytes of every row, 0 of one that has none."""
        sizes: list[int] = []
        try:
            for group in range(len(self._starts) - 1):
                for batch in self._batches(group):
                    lengths = _content(batch)
                    sizes += [0 if value is None else value for value in _lengths(lengths)]
        except PhotoError:
            sizes += [0] * (self._starts[-1] - len(sizes))  # each of them says why when it is read
        return sizes

    def read(self, row: int) -> bytes:
        for first, part in reversed(self._parts):
            if first <= row < first + len(part):
                return self._value(part, row - first)
        group = bisect.bisect_right(self._starts, row) - 1
        if group != self._group or row < self._next:
            self._rest, self._group, self._next = self._batches(group), group, self._starts[group]
        while True:
            try:
                part = next(self._rest)
            except StopIteration:
                self._group = -1
                raise PhotoError("read", "damaged Parquet file: fewer rows than it says") from None
            except PhotoError:
                self._group = -1
                raise
            first, self._next = self._next, self._next + len(part)
            self._parts = [*self._parts[-1:], (first, part)]  # readers side by side ask for neighbours
            if row < self._next:
                return self._value(part, row - first)

    def _batches(self, group: int) -> Iterator[Any]:
        import pyarrow as pa

        try:
            for batch in self._file.iter_batches(_ROWS, row_groups=[group], columns=[self._name], use_threads=False):
                yield batch.column(0)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise PhotoError("read", f"damaged Parquet file ({_line(error)})") from error

    def _value(self, part: Any, at: int) -> bytes:
        value = part[at].as_py()
        if isinstance(value, dict):
            if value["bytes"] is None and value.get("path"):
                raise PhotoError(
                    "read", f"no bytes in its row, which names a file ({value['path'][:200]!r}); embed that"
                )
            value = value["bytes"]
        if value is None:
            raise PhotoError("read", "no bytes in its row")
        data: bytes = value
        return data


def _is_bytes(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _bytes_of(kind: Any) -> Any:
    """The field of a struct that holds a photo; None if there is none."""
    return next((field for field in kind if field.name == "bytes" and _is_bytes(field.type)), None)


def _content(values: Any) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc

    return pc.struct_field(values, "bytes") if pa.types.is_struct(values.type) else values


def _lengths(values: Any) -> list[int | None]:
    import pyarrow.compute as pc

    found: list[int | None] = pc.binary_length(values).to_pylist()
    return found


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:120]
