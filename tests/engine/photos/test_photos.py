"""Listing photos: order, links, what cannot be read; and file names of any bytes as valid text and back."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from faceembed.engine.photos.listing import list_photos
from faceembed.engine.photos.photo_file import decode_path, encode_path, printable
from faceembed.engine.photos.places import is_below
from faceembed.errors import DataError

many = settings(max_examples=300, deadline=None, derandomize=True)
# What `os.fsdecode` can return: any text, with bytes that are not UTF-8 as U+DC80..U+DCFF.
names = st.binary(min_size=1, max_size=40).filter(lambda raw: b"\0" not in raw).map(os.fsdecode)
awkward = st.lists(
    st.sampled_from(["\\", "udc", "\\udc", "5c", "e9", "80", "\udce9", "\udc80", "u", "/", "ü", "\\udc5c", "\n"]),
    max_size=8,
).map("".join)


def fill(folder: Path, *paths: str) -> None:
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(path.encode())


def listed(folder: Path) -> list[str]:
    return [os.path.relpath(photo.path, folder) for photo in list_photos([folder]).photos]


def test_recursive_in_the_byte_order_of_names(tmp_path: Path) -> None:
    fill(
        tmp_path, "b/2.jpg", "b/10.jpg", "a.jpg", "Z.JPG", "b.jpg", "b/c/x.png", "ä.webp", "c/y.tiff", "c/y.txt", "c/z"
    )
    listing = list_photos([tmp_path])
    found = [os.path.relpath(photo.path, tmp_path) for photo in listing.photos]
    assert found == ["Z.JPG", "a.jpg", "b/10.jpg", "b/2.jpg", "b/c/x.png", "b.jpg", "c/y.tiff", "ä.webp"]
    assert listing.ignored == {".txt": 1, "(none)": 1}
    assert listing.failures == []
    assert listing.roots == [str(tmp_path)]


@pytest.mark.parametrize("suffix", [".jpg", ".JPEG", ".jpe", ".jfif", ".png", ".WebP", ".bmp", ".tif", ".tiff"])
def test_endings(tmp_path: Path, suffix: str) -> None:
    fill(tmp_path, "a" + suffix, "a.svg", suffix[1:])
    assert listed(tmp_path) == ["a" + suffix]


def test_size_and_time_are_the_files(tmp_path: Path) -> None:
    fill(tmp_path, "a.jpg")
    os.utime(tmp_path / "a.jpg", ns=(1, 1_700_000_000_123_456_789))
    (photo,) = list_photos([tmp_path]).photos
    info = os.stat(tmp_path / "a.jpg")
    assert photo.stamp == (photo.size, photo.mtime_ns) == (info.st_size, info.st_mtime_ns)


def test_files_named_directly_whatever_their_ending(tmp_path: Path) -> None:
    fill(tmp_path, "a.jpg", "scan.dat")
    photos = list_photos([tmp_path / "scan.dat", tmp_path, tmp_path / "a.jpg"]).photos
    assert [os.path.basename(photo.path) for photo in photos] == ["scan.dat", "a.jpg"]  # each once


def test_relative_roots_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path, "d/a.jpg")
    monkeypatch.chdir(tmp_path)
    for root in ("d", "./d/", "d/../d", Path("d")):
        assert [photo.path for photo in list_photos([root]).photos] == [str(tmp_path / "d" / "a.jpg")]


def test_overlapping_roots_list_each_photo_once(tmp_path: Path) -> None:
    fill(tmp_path, "a/1.jpg", "a/b/2.jpg")
    photos = list_photos([tmp_path / "a" / "b", tmp_path, tmp_path / "a"]).photos
    assert sorted(os.path.relpath(photo.path, tmp_path) for photo in photos) == ["a/1.jpg", "a/b/2.jpg"]


def test_links_are_followed_and_loops_end(tmp_path: Path) -> None:
    fill(tmp_path, "album/1.jpg", "elsewhere/2.jpg")
    album = tmp_path / "album"
    (album / "self").symlink_to(album)
    (album / "up").symlink_to(tmp_path)
    (album / "out").symlink_to(tmp_path / "elsewhere")
    (album / "link.jpg").symlink_to(album / "1.jpg")
    (tmp_path / "elsewhere" / "back").symlink_to(album)
    assert listed(album) == ["1.jpg", "link.jpg", "out/2.jpg"]


def test_dangling_and_circular_links(tmp_path: Path) -> None:
    fill(tmp_path, "1.jpg")
    (tmp_path / "gone.jpg").symlink_to("nowhere")
    (tmp_path / "round.png").symlink_to("round.png")
    (tmp_path / "lock").symlink_to("nowhere")
    listing = list_photos([tmp_path])
    assert [os.path.basename(photo.path) for photo in listing.photos] == ["1.jpg"]
    reasons = {os.path.basename(path): reason for path, reason in listing.failures}
    assert set(reasons) == {"gone.jpg", "round.png"}
    assert "No such file" in reasons["gone.jpg"]
    assert "symbolic links" in reasons["round.png"]
    assert listing.ignored == {"(dangling link)": 1}


def test_unreadable_folder_is_a_row_and_the_rest_is_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path, "a/1.jpg", "b/2.jpg", "c/3.jpg")
    scandir = os.scandir

    def refusing(path: Any) -> Any:
        if str(path).endswith("/b"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    listing = list_photos([tmp_path])
    assert [os.path.basename(photo.path) for photo in listing.photos] == ["1.jpg", "3.jpg"]
    assert listing.failures == [(str(tmp_path / "b"), "Permission denied")]


AS_NOBODY = """
import os, sys
from faceembed.engine.photos.listing import list_photos
os.setgroups([]); os.setgid(65534); os.setuid(65534)
listing = list_photos([sys.argv[1]])
print(sorted(os.path.basename(p.path) for p in listing.photos))
print(sorted((os.path.basename(path), reason) for path, reason in listing.failures))
"""


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="needs root, to become somebody without rights")
def test_permissions_as_the_system_checks_them(tmp_path: Path) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as name:  # pytest's own folders are closed to others
        album = Path(name)
        album.chmod(0o755)
        fill(album, "open/1.jpg", "shut/2.jpg", "listed/3.jpg", "listed/sub/4.jpg")
        (album / "shut").chmod(0o700)
        (album / "listed").chmod(0o744)  # names can be read, the files not even looked at
        done = subprocess.run(
            [sys.executable, "-c", AS_NOBODY, name], capture_output=True, text=True, check=False, cwd="/"
        )
    if done.returncode and "Permission denied" in done.stderr and "list_photos" not in done.stderr:
        pytest.skip("the interpreter is not readable for others here")
    assert done.returncode == 0, done.stderr
    photos, failures = map(eval, done.stdout.splitlines())
    assert photos == ["1.jpg"]
    assert [name for name, _ in failures] == ["3.jpg", "shut", "sub"]
    assert all("Permission denied" in reason for _, reason in failures)


def test_a_root_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="No such file or directory; give an existing"):
        list_photos([tmp_path, tmp_path / "none"])


def test_what_is_neither_folder_nor_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(DataError, match="neither a folder nor a file"):
        list_photos([tmp_path / "pipe.jpg"])  # reading it would wait for ever
    assert listed(tmp_path) == []
    assert list_photos([tmp_path]).ignored == {".jpg": 1}


def test_names_of_any_bytes(tmp_path: Path) -> None:
    raw = [
        b"a b.jpg",
        b"-x.jpg",
        b"new\nline.jpg",
        b"caf\xe9.jpg",
        b"\xff\xfe/deep.jpg",
        b"\\udce9.jpg",
        b"'\"$(x);.jpg",
    ]
    for name in raw:
        path = os.path.join(os.fsencode(tmp_path), name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        Path(os.fsdecode(path)).write_bytes(b"x")
    found = [photo.path for photo in list_photos([tmp_path]).photos]
    relative = [os.path.relpath(os.fsencode(path), os.fsencode(tmp_path)) for path in found]
    assert relative == sorted(raw, key=lambda name: name.split(b"/")[0])
    assert [decode_path(encode_path(path)) for path in found] == found


def test_deeper_than_python_recurses(tmp_path: Path) -> None:
    here = os.open(tmp_path, os.O_RDONLY)
    depth = 1200  # Python recurses to 1,000
    try:
        for _ in range(depth):
            os.mkdir("d", dir_fd=here)
            below = os.open("d", os.O_RDONLY, dir_fd=here)
            os.close(here)
            here = below
        os.close(os.open("1.jpg", os.O_CREAT, dir_fd=here))
    finally:
        os.close(here)
    try:
        (photo,) = list_photos([tmp_path]).photos
    finally:  # Python cannot delete it either
        subprocess.run(["rm", "-rf", str(tmp_path / "d")], check=True)
    assert photo.path.count("/d") >= depth


@many
@given(st.one_of(names, awkward))
@example("\\udc5c")
@example("\\udc5cudc80")
@example("\\\udc80")
@example("\\udc\udc80")
def test_encoded_paths_are_valid_text_and_come_back(path: str) -> None:
    text = encode_path(path)
    text.encode("utf-8")
    assert decode_path(text) == path


@many
@given(st.one_of(names, awkward), st.one_of(names, awkward))
def test_different_paths_have_different_text(one: str, other: str) -> None:
    assert (encode_path(one) == encode_path(other)) == (one == other)


@many
@given(st.text(st.characters(codec="utf-8"), max_size=40).filter(lambda text: "\\udc" not in text))
def test_ordinary_names_are_unchanged(path: str) -> None:
    assert encode_path(path) == path


@many
@given(st.one_of(names, awkward, st.text()))
def test_printable_is_one_line(path: str) -> None:
    assert len(printable(path).splitlines()) <= 1
    printable(path).encode("utf-8")


@pytest.mark.parametrize(
    ("path", "roots", "below"),
    [
        ("/a/b.jpg", ["/a"], True),
        ("/a", ["/a"], True),
        ("/ab/c.jpg", ["/a"], False),
        ("/a/b.jpg", ["/x", "/a/"], True),
        ("/a/b.jpg", ["/"], True),
        ("/a/b.jpg", [], False),
        ("/a", ["/a/b"], False),
    ],
)
def test_is_below(path: str, roots: list[str], below: bool) -> None:
    assert is_below(path, roots) == below


def test_one_photo_is_a_list_of_one(tmp_path: Path) -> None:
    """A name is no sequence of letters, of which `/` would be the whole disk."""
    photo = tmp_path / "ab.jpg"
    photo.write_bytes(b"x")
    for one_or_several in (str(photo), photo, [photo], [str(photo)]):
        assert [found.path for found in list_photos(one_or_several).photos] == [str(photo)]
