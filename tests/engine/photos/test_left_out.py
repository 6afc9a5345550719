"""What folders hold that is nobody's photo: left out by default or by a pattern, counted, said, and taken in on request."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from faceembed.engine.photos.globs import Glob
from faceembed.engine.photos.left_out import Choice
from faceembed.engine.photos.listing import Listing, list_photos
from faceembed.errors import UsageError

JPEG = b"\xff\xd8\xff\xe0 a photo by its first bytes"
APPLE_DOUBLE = b"\0\5\x16\7\0\2\0\0Mac OS X        " + bytes(60)

SYSTEM = {
    "@eaDir/a.jpg/SYNOPHOTO_THUMB_XL.jpg": "@eaDir",
    "2019/@EADIR/a.jpg": "@eaDir",
    "#recycle/a.jpg": "#recycle",
    "#snapshot/2019/a.jpg": "#snapshot",
    "@Recycle/a.jpg": "@Recycle",
    ".@__thumb/a.jpg": ".@__thumb",
    "$RECYCLE.BIN/S-1-5/$R1.jpg": "$RECYCLE.BIN",
    ".Trash/a.jpg": ".Trash",
    ".Trashes/501/a.jpg": ".Trashes",
    ".Trash-1000/files/a.jpg": ".Trash-*",
    ".thumbnails/a.jpg": ".thumbnails",
    "DCIM/.thumbnails/a.jpg": ".thumbnails",
    ".stversions/a~20190102-030405.jpg": ".stversions",
    "__MACOSX/a.jpg": "__MACOSX",
    "Lightroom Catalog Previews.lrdata/0/00AB/x.jpg": "*.lrdata",
    "All Smart Previews.lrdata/0/x.jpg": "*.lrdata",
    "P.photoslibrary/resources/derivatives/1/a_1_105_c.jpeg": "*.photoslibrary, what was made of its photos",
    "P.photoslibrary/resources/renders/1/a.jpeg": "*.photoslibrary, what was made of its photos",
    "Old.photolibrary/Thumbnails/a.jpg": "*.photolibrary, what was made of its photos",
    "._a.jpg": "._*",
    "2019/._b.JPG": "._*",
}
OWN = (
    "a.jpg",
    "2019/b.JPG",
    "P.photoslibrary/originals/1/a.jpeg",
    "Old.photolibrary/Masters/a.jpg",
    "resources/c.jpg",
    "eaDir/d.jpg",
    "Trash/e.jpg",
    ".hidden/f.jpg",
    "_g.jpg",
)


def fill(folder: Path, *paths: str) -> None:
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(APPLE_DOUBLE if os.path.basename(path).startswith("._") else JPEG)


def listed(root: Path, *, exclude: tuple[str, ...] = (), include: tuple[str, ...] = ()) -> tuple[set[str], Listing]:
    listing = list_photos([root], choice=Choice(exclude, include))
    return {os.path.relpath(photo.path, root) for photo in listing.photos}, listing


def files_below(root: Path) -> int:
    return sum(len(names) for _, _, names in os.walk(root))


def counted(listing: Listing) -> int:
    return len(listing.photos) + len(listing.failures) + listing.ignored.total() + listing.excluded.total()


@pytest.mark.parametrize("path", SYSTEM)
def test_what_systems_keep_is_left_out_and_counted(tmp_path: Path, path: str) -> None:
    fill(tmp_path, "a.jpg", path)
    found, listing = listed(tmp_path)
    assert found == {"a.jpg"}
    assert listing.excluded == {SYSTEM[path]: 1}
    (line,) = listing.remarks()
    assert line.startswith("1 files were left out") and SYSTEM[path] in line and "--include" in line


def test_all_of_them_and_the_users_own(tmp_path: Path) -> None:
    fill(tmp_path, *SYSTEM, *OWN)
    (tmp_path / "notes.txt").write_text("text")
    found, listing = listed(tmp_path)
    assert found == set(OWN)
    assert listing.excluded.total() == len(SYSTEM)
    assert counted(listing) == files_below(tmp_path)


def test_a_photo_is_one_whatever_its_name(tmp_path: Path) -> None:
    """`._x.jpg` that is no rest of a Mac's; and a folder of such a name that is named by itself."""
    (tmp_path / "._a.jpg").write_bytes(JPEG)
    fill(tmp_path, "@eaDir/b.jpg")
    assert listed(tmp_path)[0] == {"._a.jpg"}
    assert listed(tmp_path / "@eaDir")[0] == {"b.jpg"}
    assert [os.path.basename(photo.path) for photo in list_photos([tmp_path / "@eaDir" / "b.jpg"]).photos] == ["b.jpg"]


def test_marks_of_folders(tmp_path: Path) -> None:
    fill(
        tmp_path,
        "a.jpg",
        "private/b.jpg",
        "private/deeper/c.jpg",
        "empty/d.jpg",
        "list/e.jpg",
        "list/sub/f.png",
        "list/g.gif",
    )
    (tmp_path / "private" / ".nomedia").touch()
    (tmp_path / "empty" / ".faceembedignore").touch()
    (tmp_path / "list" / ".faceembedignore").write_text("# mine\n*.png\n/e.jpg\n")
    found, listing = listed(tmp_path)
    assert found == {"a.jpg", "list/g.gif"}
    assert listing.excluded == {".nomedia": 3, ".faceembedignore": 4}
    assert counted(listing) == files_below(tmp_path)
    assert listed(tmp_path / "private")[0] == {"b.jpg", "deeper/c.jpg"}  # named by itself
    assert listed(tmp_path / "empty")[0] == set()  # but this mark is ours


def test_a_list_that_takes_in(tmp_path: Path) -> None:
    fill(tmp_path, "a.png", "keep.png", "sub/keep.png", "#odd.jpg")
    (tmp_path / ".faceembedignore").write_text("*.png\n!keep.png\n\\#odd.jpg\n")
    assert listed(tmp_path)[0] == {"keep.png", "sub/keep.png"}


def test_a_list_that_cannot_be_read_leaves_its_folder_out(tmp_path: Path) -> None:
    fill(tmp_path, "a.jpg", "b/c.jpg")
    (tmp_path / "b" / ".faceembedignore").mkdir()  # opening it fails for everybody, also for root
    found, listing = listed(tmp_path)
    assert found == {"a.jpg"}
    ((path, reason),) = listing.failures
    assert path.endswith("b/.faceembedignore") and "its folder was left out" in reason


TREE = ("a.jpg", "b.png", "2019/a.jpg", "2019/raw/c.jpg", "2019/x/raw/d.jpg", "private/e.jpg", "2020/private/f.png")


@pytest.mark.parametrize(
    ("exclude", "include", "left"),
    [
        (["*.png"], [], {"b.png", "2020/private/f.png"}),
        (["private"], [], {"private/e.jpg", "2020/private/f.png"}),
        (["private/"], [], {"private/e.jpg", "2020/private/f.png"}),
        (["2020/private"], [], {"2020/private/f.png"}),
        (["2019/*/raw"], [], {"2019/x/raw/d.jpg"}),
        (["2019/**/raw"], [], {"2019/raw/c.jpg", "2019/x/raw/d.jpg"}),
        (["20[0-1]9/*.jpg"], [], {"2019/a.jpg"}),
        (["20[!1]*/"], [], {"2020/private/f.png"}),
        (["?.jpg"], [], {"a.jpg", "2019/a.jpg", "2019/raw/c.jpg", "2019/x/raw/d.jpg", "private/e.jpg"}),
        (["a.jpg/"], [], set()),
        (["{root}/private"], [], {"private/e.jpg"}),
        (["private", "*.png"], ["2020/private"], {"b.png", "private/e.jpg", "2020/private/f.png"}),  # a file by itself
        (["2019"], ["2019/*/raw/*.jpg"], {"2019/a.jpg", "2019/raw/c.jpg"}),
        (["*"], ["c.jpg"], set(TREE) - {"2019/raw/c.jpg"}),
    ],
)
def test_patterns(tmp_path: Path, exclude: list[str], include: list[str], left: set[str]) -> None:
    fill(tmp_path, *TREE)
    given = tuple(text.format(root=tmp_path) for text in exclude)
    found, listing = listed(tmp_path, exclude=given, include=tuple(include))
    assert found == set(TREE) - left
    assert listing.excluded.total() == len(left)
    assert [line for line in listing.remarks() if "nothing that is there" in line] == (
        [] if left else [f"--exclude {given[0]} is about nothing that is there"]
    )


def test_a_file_that_is_named_is_left_out_by_a_pattern_alone(tmp_path: Path) -> None:
    fill(tmp_path, "a.jpg", "b.png")
    listing = list_photos([tmp_path / "a.jpg", tmp_path / "b.png"], choice=Choice(("*.png",)))
    assert [os.path.basename(photo.path) for photo in listing.photos] == ["a.jpg"]
    assert listing.excluded == {"--exclude *.png": 1}


def test_taking_in_what_is_left_out_by_default(tmp_path: Path) -> None:
    fill(tmp_path, "a.jpg", "@eaDir/b.jpg", "#recycle/c.jpg", "#recycle/d.jpg", "._e.jpg")
    assert listed(tmp_path, include=("@eaDir",))[0] == {"a.jpg", "@eaDir/b.jpg"}
    found, listing = listed(tmp_path, include=("#recycle/c.jpg",))
    assert found == {"a.jpg", "#recycle/c.jpg"}
    assert listing.excluded == {"@eaDir": 1, "#recycle": 1, "._*": 1}
    assert listed(tmp_path, include=("._*",))[0] == {"a.jpg", "._e.jpg"}


def test_a_link_from_what_is_left_out_hides_nothing(tmp_path: Path) -> None:
    """A folder that is reached by a link in the trash first is still entered under its own name."""
    fill(tmp_path, "#recycle/x.jpg", "album/a.jpg")
    (tmp_path / "#recycle" / "link").symlink_to(tmp_path / "album")
    assert listed(tmp_path)[0] == {"album/a.jpg"}
    assert listed(tmp_path, include=("x.jpg",))[0] == {"#recycle/x.jpg", "album/a.jpg"}


@pytest.mark.parametrize("text", ["", "/", "//"])
def test_no_pattern(text: str) -> None:
    with pytest.raises(UsageError, match="no pattern"):
        Choice(exclude=(text,))


@given(st.text(st.sampled_from("ab[]!^-\\*?./{}+ü"), min_size=1, max_size=12).filter(lambda text: text.strip("/")))
@settings(max_examples=300, deadline=None, derandomize=True)
def test_any_text_is_a_pattern_and_takes_itself_literally(text: str) -> None:
    Glob(text).matches("/a/b.jpg", folder=False)
    if not set(text) & set("*?[]./"):
        assert Glob(text).matches(f"/x/{text}", folder=False)
        assert not Glob(text).matches(f"/x/{text}a", folder=False)


@pytest.mark.skipif(sys.version_info < (3, 13), reason="glob.translate is new in Python 3.13")
@given(st.text(st.sampled_from("ab*?"), min_size=1, max_size=6), st.text(st.sampled_from("ab"), min_size=1, max_size=6))
@settings(max_examples=300, deadline=None, derandomize=True)
def test_names_as_python_matches_them(glob: str, name: str) -> None:
    import fnmatch

    if "**" not in glob:
        assert Glob(glob).matches(f"/x/{name}", folder=False) == fnmatch.fnmatchcase(name, glob)
