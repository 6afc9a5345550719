"""Tables of pairs as people have them: any separator, encoding and header, or none; Kaggle's LFW; InsightFace's sets; scores alone."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from faceembed.engine.evaluate.pair_formats import read_pairs
from faceembed.engine.evaluate.pairs import check_files
from faceembed.errors import PairListError

TWO = [("a.jpg", "b.jpg", True), ("a.jpg", "c.jpg", False)]

TABLES: dict[str, str | bytes] = {
    "semicolons": "path_a;path_b;label\na.jpg;b.jpg;1\na.jpg;c.jpg;0\n",
    "tabs": "path_a\tpath_b\tlabel\na.jpg\tb.jpg\t1\na.jpg\tc.jpg\t0\n",
    "sep=;": "sep=;\npath_a;path_b;label\na.jpg;b.jpg;1\na.jpg;c.jpg;0\n",
    "sep= and a carriage return": "sep=;\r\npath_a;path_b;label\r\na.jpg;b.jpg;1\r\na.jpg;c.jpg;0\r\n",
    "sep= is a tab": "SEP=\t\npath_a\tpath_b\tlabel\na.jpg\tb.jpg\t1\na.jpg\tc.jpg\t0\n",
    "no header": "a.jpg,b.jpg,1\na.jpg,c.jpg,0\n",
    "no header, semicolons": "a.jpg;b.jpg;1\na.jpg;c.jpg;0\n",
    "no header, tabs, words": "a.jpg\tb.jpg\tsame\na.jpg\tc.jpg\tdifferent\n",
    "no header, kinds": "a.jpg,b.jpg,1,same\na.jpg,c.jpg,0,other\n",
    "UTF-16": "path_a,path_b,label\na.jpg,b.jpg,1\na.jpg,c.jpg,0\n".encode("utf-16"),
    "UTF-16 without a mark": "path_a,path_b,label\na.jpg,b.jpg,1\na.jpg,c.jpg,0\n".encode("utf-16-le"),
    "UTF-16 without a mark, big-endian": "path_a,path_b,label\na.jpg,b.jpg,1\na.jpg,c.jpg,0\n".encode("utf-16-be"),
    "UTF-16, big-endian, tabs": b"\xfe\xff" + "path_a\tpath_b\tlabel\r\na.jpg\tb.jpg\t1\r\na.jpg\tc.jpg\t0\r\n".encode("utf-16-be"),
    "-1": "path_a,path_b,label\na.jpg,b.jpg,1\na.jpg,c.jpg,-1\n",
    "1.0": "path_a,path_b,label\na.jpg,b.jpg,1.0\na.jpg,c.jpg,0.0\n",
    "-1.0": "path_a,path_b,label\na.jpg,b.jpg,1.0\na.jpg,c.jpg,-1.0\n",
    "words": "path_a,path_b,label\na.jpg,b.jpg,Same\na.jpg,c.jpg,DIFFERENT\n",
    "genuine": "path_a,path_b,label\na.jpg,b.jpg,genuine\na.jpg,c.jpg,impostor\n",
    "issame": "img1,img2,issame\na.jpg,b.jpg,1\na.jpg,c.jpg,0\n",
    "is_same": "A,B,is_same\na.jpg,b.jpg,True\na.jpg,c.jpg,False\n",
    "an index column": ",image1,image2,label\n0,a.jpg,b.jpg,1\n1,a.jpg,c.jpg,0\n",
}  # fmt: skip


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize("kind", TABLES)
def test_tables(tmp_path: Path, kind: str) -> None:
    pairs = read_pairs(write(tmp_path / "p.csv", TABLES[kind]))
    found = [(Path(pair.path_a).name, Path(pair.path_b).name, pair.label) for pair in pairs]
    assert found == TWO
    assert all(Path(photo).parent == tmp_path for photo in pairs.photos)
    first = 1 if kind.startswith("no header") else 3 if "sep=" in kind else 2
    assert pairs.lines == (first, first + 1)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("sep=;\npath_a;path_b;label\na;b;maybe\n", "line 3: bad label 'maybe'"),
        ("a.jpg,b.jpg,perhaps\na.jpg,c.jpg,0\n", "line 1: the header lacks"),
        ("a.jpg;b.jpg;1\na.jpg;c.jpg\n", "line 2: expected 3 columns, got 2"),
        (b"\xff\xfea\0,\0\x00\xd8", "not UTF-16"),
        ("name,imagenum1,imagenum2\nAnn,1,4\n", "--root"),
        ("score,label\nhigh,1\n", "line 2: bad score 'high'"),
        ("score,label\nnan,1\n", "line 2: bad score"),
        ("face_id_a,face_id_b,label\n1,x,1\n", "line 2: bad face_id 'x'"),
    ],
)
def test_mistakes_are_named_with_their_line(tmp_path: Path, content: str | bytes, reason: str) -> None:
    with pytest.raises(PairListError, match=reason):
        read_pairs(write(tmp_path / "p.csv", content))


@given(
    st.sampled_from([",", ";", "\t"]),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    st.sampled_from(["\n", "\r\n"]),
    st.booleans(),
    st.lists(st.tuples(st.text(st.characters(codec="utf-8", exclude_characters='\0\r\n,;\t"\\\x85\u2028\u2029\x0b\x0c\x1c\x1d\x1e'), min_size=1).filter(str.strip), st.booleans()), min_size=1, max_size=4),
)  # fmt: skip
@settings(max_examples=60, deadline=None, derandomize=True)
def test_what_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, sign: str, code: str, end: str, header: bool, rows: list[tuple[str, bool]]
) -> None:
    lines = [sign.join(("path_a", "path_b", "label"))] * header
    lines += [sign.join((f"x{name}", f"{name}y", str(int(same)))) for name, same in rows]
    source = write(tmp_path_factory.mktemp("pairs") / "p.csv", end.join(lines).encode(code))
    pairs = read_pairs(source, root="")
    assert [(p.path_a, p.path_b, p.label) for p in pairs] == [(f"x{n}", f"{n}y", same) for n, same in rows]


# --- Kaggle's LFW --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        "name,imagenum1,imagenum2,\nAnn,1,4,\nAnn,1,Bob,2\n",
        "name,imagenum1,imagenum2,name\nAnn,1,4,\nAnn,1,Bob,2\n",
    ],
)
def test_kaggle_pairs(tmp_path: Path, content: str) -> None:
    same, other = read_pairs(write(tmp_path / "pairs.csv", content), root="lfw")
    assert (same.path_a, same.path_b) == ("lfw/Ann/Ann_0001.jpg", "lfw/Ann/Ann_0004.jpg")
    assert (other.path_a, other.path_b) == ("lfw/Ann/Ann_0001.jpg", "lfw/Bob/Bob_0002.jpg")
    assert (same.label, other.label, same.fold) == (True, False, None)


def test_kaggle_development_lists(tmp_path: Path) -> None:
    match = read_pairs(write(tmp_path / "m.csv", "name,imagenum1,imagenum2\nAnn,1,4\nBob,2,3\n"), root="lfw")
    assert match.one_class and match.labels.all()
    other = read_pairs(write(tmp_path / "n.csv", "name,imagenum1,name,imagenum2\nAnn,1,Bob,2\n"), root="lfw")
    assert other[0].path_b == "lfw/Bob/Bob_0002.jpg" and not other.labels.any()


def test_kaggle_list_of_view_2_has_its_folds(tmp_path: Path) -> None:
    rows = [row for fold in range(10) for row in [f"P{fold},1,2,"] * 3 + [f"P{fold},1,Q,2"] * 3]
    pairs = read_pairs(write(tmp_path / "pairs.csv", "\n".join(["name,imagenum1,imagenum2,", *rows])), root="")
    assert pairs.folds is not None
    assert pairs.folds.tolist() == [fold for fold in range(10) for _ in range(6)]


@pytest.mark.data
def test_kaggle_list_of_the_real_view_2(tmp_path: Path, data: Path) -> None:
    """The published list in Kaggle's form gives the published list."""
    rows = (data / "lfw_pairs.txt").read_text().splitlines()[1:]
    table = [",".join(cells if len(cells) == 4 else [*cells, ""]) for cells in map(str.split, rows)]
    again = read_pairs(write(tmp_path / "pairs.csv", "\n".join(["name,imagenum1,imagenum2,", *table])), root="lfw")
    assert again.pairs == read_pairs(data / "lfw_pairs.txt", root="lfw").pairs


# --- InsightFace ---------------------------------------------------------------------------------------------------

PHOTOS = [bytes([number]) * (10 + number) for number in range(8)]
SAME = [True, True, False, False]


def python2(photos: list[bytes], same: list[bool]) -> bytes:
    """As Python 2 wrote it: byte strings by protocol 2, which Python 3 gives as ``str`` unless told otherwise."""
    out = b"\x80\x02]q\x00(" + b"".join(b"U" + bytes([len(photo)]) + photo for photo in photos)
    return out + b"e](" + b"".join(b"\x88" if one else b"\x89" for one in same) + b"e\x86."


@pytest.mark.parametrize("protocol", [2, 3, 4, 5, "python 2", "arrays 2", "arrays 5", "numpy labels"])
def test_insightface_sets(tmp_path: Path, protocol: int | str) -> None:
    arrays = [np.frombuffer(photo, np.uint8) for photo in PHOTOS]
    if protocol == "python 2":
        content = python2(PHOTOS, SAME)
    elif protocol == "numpy labels":
        content = pickle.dumps((PHOTOS, list(np.array(SAME))), 4)
    elif isinstance(protocol, str):
        content = pickle.dumps((arrays, np.array(SAME)), int(protocol[-1]))
    else:
        content = pickle.dumps((PHOTOS, SAME), protocol)
    pairs = read_pairs(write(tmp_path / "lfw.bin", content))
    assert pairs.labels.tolist() == SAME and pairs.folds is None
    assert [Path(path).read_bytes() for pair in pairs for path in (pair.path_a, pair.path_b)] == PHOTOS
    check_files(pairs)
    assert read_pairs(tmp_path / "lfw.bin").photos == pairs.photos  # unpacked once


def test_insightface_folds_are_ten_parts_in_their_order(tmp_path: Path) -> None:
    pairs = read_pairs(write(tmp_path / "x.bin", pickle.dumps(([b"a", b"b"] * 20, [True, False] * 10))))
    assert pairs.folds is not None and pairs.folds.tolist() == [number // 2 for number in range(20)]


class Hostile:
    """What runs a command when an ordinary unpickler loads it."""

    def __init__(self, call: Any, *arguments: Any) -> None:
        self.what = (call, arguments)

    def __reduce__(self) -> Any:
        return self.what


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_hostile_set_runs_nothing(tmp_path: Path, protocol: int) -> None:
    import os

    mark = tmp_path / "ran"
    for name, arguments in (
        (os.mkdir, (str(mark),)),
        (eval, (f"open({str(mark)!r}, 'w')",)),
        (os.system, (f"touch {mark}",)),
    ):
        content = pickle.dumps(([Hostile(name, *arguments)] * 2, [True]), protocol)
        with pytest.raises(PairListError, match="could run code; nothing was run"):
            read_pairs(write(tmp_path / "x.bin", content))
        assert not mark.exists()
    pickle.loads(pickle.dumps(Hostile(os.mkdir, str(mark))))
    assert mark.exists()  # an ordinary unpickler does run it


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (pickle.dumps([1, 2, 3], 4), "no InsightFace set"),
        (pickle.dumps(([b"a", b"b"], [True, False]), 4), "two photos a label, got 2 and 2"),
        (pickle.dumps((["text", "text"], [True]), 4), "two photos a label"),
        (pickle.dumps(([np.zeros(3)] * 2, [True]), 4), "arrays of other things than bytes"),
        (pickle.dumps((PHOTOS, SAME), 4)[:-9], "damaged"),
        (b"\x80\x02r\xff\xff\xff\x7f.", "more memory"),
        (b"\x80\x02" + b"(" * 40, "damaged"),
    ],
)
def test_sets_that_are_none(tmp_path: Path, content: bytes, reason: str) -> None:
    with pytest.raises(PairListError, match=reason):
        read_pairs(write(tmp_path / "x.bin", content))


@given(st.binary(max_size=60))
@settings(max_examples=200, deadline=None, derandomize=True)
def test_any_bytes_give_a_set_or_our_error(tmp_path_factory: pytest.TempPathFactory, tail: bytes) -> None:
    source = write(tmp_path_factory.getbasetemp() / "any.bin", b"\x80\x02" + tail)
    try:
        read_pairs(source)
    except PairListError as error:
        assert "\n" not in str(error)


# --- scores and faces of an index ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        "score,label\n0.9,1\n-12.5,0\n",
        "label;similarity\n1;0,9\n0;-12,5\n",
        "similarity\tis_same\n9e-1\tTrue\n-12.5\tFalse\n",
    ],
)
def test_scores_alone(tmp_path: Path, content: str) -> None:
    pairs = read_pairs(write(tmp_path / "s.csv", content))
    assert pairs.scores == (0.9, -12.5) and pairs.labels.tolist() == [True, False]
    with pytest.raises(PairListError, match="scores and no photos"):
        check_files(pairs)


def test_a_table_with_photos_and_scores_is_one_of_photos(tmp_path: Path) -> None:
    pairs = read_pairs(write(tmp_path / "s.csv", "path_a,path_b,label,similarity\na,b,1,0.5\n"))
    assert pairs.scores is None and pairs[0].path_a == str(tmp_path / "a")


def test_faces_of_an_index(tmp_path: Path) -> None:
    pairs = read_pairs(write(tmp_path / "s.csv", "face_id_a,face_id_b,label\n3, 17,1\n"))
    assert pairs.rows and pairs.photos == ("3", "17")
    with pytest.raises(PairListError, match="--index"):
        check_files(pairs)


def test_nothing_is_read_of_a_pickle_that_is_called_otherwise(tmp_path: Path) -> None:
    with pytest.raises(PairListError):
        read_pairs(write(tmp_path / "x.csv", io.BytesIO(pickle.dumps((PHOTOS, SAME), 4)).getvalue()))
