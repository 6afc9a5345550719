"""Lists of photos in a file or on standard input."""

from __future__ import annotations

import io
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from faceembed.engine.photos.file_list import STDIN, FileList
from faceembed.engine.photos.listing import list_photos
from faceembed.errors import DataError

NAMES = ["a.jpg", "sub/b c.jpg", "ü.jpg"]


@pytest.mark.parametrize(
    "data",
    [
        b"a.jpg\nsub/b c.jpg\n\xc3\xbc.jpg\n",
        b"a.jpg\r\nsub/b c.jpg\r\n\r\n\xc3\xbc.jpg",
        b"\xef\xbb\xbfa.jpg\nsub/b c.jpg\n\xc3\xbc.jpg\n",
        b"a.jpg\0sub/b c.jpg\0\xc3\xbc.jpg\0",
        "a.jpg\r\nsub/b c.jpg\r\nü.jpg\r\n".encode("utf-16"),
        b"\xfe\xff" + "a.jpg\nsub/b c.jpg\nü.jpg\n".encode("utf-16-be"),
    ],
)
def test_lists(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "list.txt").write_bytes(data)
    assert FileList(str(tmp_path / "list.txt")).read() == NAMES


def test_a_name_with_a_line_feed_and_bytes_that_are_not_utf8(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_bytes(b"a\nb.jpg\0\xff.jpg\0")
    assert FileList(str(tmp_path / "list.txt")).read() == ["a\nb.jpg", os.fsdecode(b"\xff.jpg")]


def test_arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "@eaDir").mkdir()
    assert FileList.of("@list.txt") == FileList("list.txt")
    assert FileList.of("-") == FileList(STDIN)
    for path in ("@eaDir", "./@list.txt", "a.jpg", "@", "./-"):
        assert FileList.of(path) is None


def test_its_photos_are_listed_and_what_is_missing_is_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.jpg", "folder/b.jpg", "scan.dat"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_bytes(b"x")
    Path("list.txt").write_text("a.jpg\nfolder\nscan.dat\ngone.jpg\na.jpg\n")
    listing = list_photos([FileList("list.txt")])
    assert [os.path.relpath(photo.path) for photo in listing.photos] == ["a.jpg", "folder/b.jpg", "scan.dat"]
    assert listing.failures == [(str(tmp_path / "gone.jpg"), "No such file or directory")]


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(b"a.jpg\0b.jpg\0")))
    assert FileList(STDIN).read() == ["a.jpg", "b.jpg"]


@pytest.mark.parametrize(("data", "reason"), [(None, "cannot be read"), (b"", "empty"), (b"\n\n", "empty")])
def test_no_list(tmp_path: Path, data: bytes | None, reason: str) -> None:
    path = tmp_path / "list.txt"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(DataError, match=f"list.txt.*{reason}"):
        list_photos([FileList(str(path))])
