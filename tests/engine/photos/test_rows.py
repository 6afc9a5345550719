"""The errors file and tables on disk: what is written comes back, and what is damaged is one clear error."""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from faceembed.engine.photos.failures import Failure, format_errors, read_errors
from faceembed.engine.photos.photo_file import PhotoFile, decode_path
from faceembed.engine.photos.rows import FACE_SCHEMA, read_parquet
from faceembed.errors import IndexFormatError

paths = st.binary(min_size=1, max_size=30).filter(lambda raw: b"\0" not in raw).map(os.fsdecode)
failures = st.builds(
    Failure,
    st.builds(PhotoFile, paths, st.integers(0, 2**62), st.integers(-(2**62), 2**62)),
    st.sampled_from(["list", "read", "decode", "detect", "align"]),
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=30),
)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(rows=st.lists(failures, max_size=4))
def test_errors_come_back(tmp_path_factory: pytest.TempPathFactory, rows: list[Failure]) -> None:
    path = tmp_path_factory.getbasetemp() / "round.errors.csv"
    path.write_text(format_errors(rows), encoding="utf-8", newline="")
    assert read_errors(path) == rows


def test_errors_file_is_plain_csv_with_the_promised_columns() -> None:
    photo = PhotoFile('/a/b,"c"\nd\udce9.jpg', 3, 4)
    text = format_errors([Failure(photo, "decode", "cut, off")])
    assert text.splitlines()[0] == "path,stage,reason,size,mtime_ns,ctime_ns,digest"
    (row,) = csv.DictReader(io.StringIO(text))
    assert (decode_path(row["path"]), row["stage"], row["reason"]) == (photo.path, "decode", "cut, off")
    text.encode("utf-8")


@pytest.mark.parametrize("char", ["\r", "\n", "\r\n", "\u2028", '"', ",", "\x1c"])
def test_a_file_name_may_hold_any_character(tmp_path: Path, char: str) -> None:
    path, row = tmp_path / "x.errors.csv", Failure(PhotoFile(f"/a{char}b.jpg", 1, 2), "decode", "x")
    path.write_text(format_errors([row, row]), encoding="utf-8", newline="")
    assert read_errors(path) == [row, row]


def test_no_errors_file_means_no_errors(tmp_path: Path) -> None:
    assert read_errors(tmp_path / "none.csv") == []


@pytest.mark.parametrize(
    "data", [b"a,b\n1,2\n", b"path,stage,reason,size,mtime_ns\n/a,decode,x,big,1\n", b"\xff\xfe\n", b"path,size\n/a\n"]
)
def test_damaged_errors_file(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "x.errors.csv"
    path.write_bytes(data)
    with pytest.raises(IndexFormatError, match=r"x\.errors\.csv is damaged"):
        if data == b"\xff\xfe\n" or read_errors(path):
            read_errors(path)


def test_parquet_of_any_name(tmp_path: Path) -> None:
    path = os.path.join(os.fsencode(tmp_path), b"caf\xe9.parquet")
    with open(path, "wb") as file:
        pq.write_table(FACE_SCHEMA.empty_table(), file)
    assert read_parquet(Path(os.fsdecode(path)), advice="").schema == FACE_SCHEMA
    assert read_parquet(os.fsdecode(path), ("path", "size"), advice="").column_names == ["path", "size"]


def test_parquet_that_is_not_ours(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"path": ["a"]}), path)
    with pytest.raises(IndexFormatError, match=r"x\.parquet (has no column|cannot be read).*size.*; do this"):
        read_parquet(path, ("path", "size"), advice="do this")
    path.write_bytes(b"PAR1" + bytes(40) + b"PAR1")
    with pytest.raises(IndexFormatError, match=r"x\.parquet cannot be read \(.*\); do this") as caught:
        read_parquet(path, advice="do this")
    assert "\n" not in str(caught.value)
    with pytest.raises(IndexFormatError, match=r"none\.parquet cannot be read \(No such file or directory\)"):
        read_parquet(tmp_path / "none.parquet", advice="")
