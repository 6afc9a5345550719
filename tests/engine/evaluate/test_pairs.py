"""Every pair format, and what is said about those that are not."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from faceembed.engine.evaluate.pair_formats import read_pairs
from faceembed.engine.evaluate.pairs import Pair, check_files
from faceembed.errors import DataError, PairListError
from tests.engine.photos.archives_made import make_zip, png


def write(path: Path, text: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


# --- CSV ----------------------------------------------------------------------------------------------------------


def test_csv_with_kind(tmp_path: Path) -> None:
    source = write(
        tmp_path / "pairs.csv",
        "path_a,path_b,label,kind\na.jpg,b.jpg,1,same\na.jpg,c.jpg,0,other\na.jpg,d.jpg,0,Fake\n",
    )
    pairs = read_pairs(source)
    assert [pair.kind for pair in pairs] == ["same", "other", "fake"]
    assert pairs[0] == Pair(str(tmp_path / "a.jpg"), str(tmp_path / "b.jpg"), True, "same")
    assert pairs.labels.tolist() == [True, False, False] and pairs.labels.dtype == np.bool_
    assert pairs.kinds.tolist() == ["same", "other", "fake"]
    assert pairs.lines == (2, 3, 4) and pairs.folds is None and len(pairs) == 3
    assert [os.path.basename(path) for path in pairs.photos] == ["a.jpg", "b.jpg", "c.jpg", "d.jpg"]


@pytest.mark.parametrize(
    ("label", "value"),
    [("1", True), ("YES", True), ("true", True), (" Yes ", True), ("0", False), ("no", False), ("FALSE", False)],
)
def test_labels_in_any_case(tmp_path: Path, label: str, value: bool) -> None:
    pairs = read_pairs(write(tmp_path / "p.csv", f"path_a,path_b,label\na,b,{label}\n"))
    assert pairs[0].label is value and pairs[0].kind == ("same" if value else "other")


def test_deepface_style(tmp_path: Path) -> None:
    pairs = read_pairs(
        write(tmp_path / "master.csv", "file_x,file_y,Decision\nimg1.jpg,img2.jpg,Yes\nimg1.jpg,img3.jpg,No\n")
    )
    assert pairs.labels.tolist() == [True, False]
    assert pairs[1].path_b == str(tmp_path / "img3.jpg")


def test_columns_in_any_order_with_others_between(tmp_path: Path) -> None:
    text = "similarity,Label,PATH_B,found,path_a\n0.5,1,b.jpg,1,a.jpg\n"
    assert read_pairs(write(tmp_path / "p.csv", text))[0] == Pair(
        str(tmp_path / "a.jpg"), str(tmp_path / "b.jpg"), True, "same"
    )


def test_paths_are_relative_to_the_list_or_the_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write(tmp_path / "lists" / "p.csv", "path_a,path_b,label\nx/a.jpg,/abs/b.jpg,1\n")
    assert read_pairs(source)[0].path_a == str(tmp_path / "lists" / "x" / "a.jpg")
    assert read_pairs(source, root=tmp_path)[0].path_a == str(tmp_path / "x" / "a.jpg")
    assert read_pairs(source, root=tmp_path)[0].path_b == "/abs/b.jpg"
    monkeypatch.chdir(tmp_path / "lists")
    assert read_pairs("p.csv")[0].path_a == "x/a.jpg"


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_line_ends_byte_order_mark_and_blank_lines(tmp_path: Path, end: str, mark: bytes) -> None:
    text = end.join(["path_a,path_b,label", "", "a,b,1", "  ", "c,d,0"])
    pairs = read_pairs(write(tmp_path / "p.csv", mark + text.encode()))
    assert [Path(pair.path_a).name for pair in pairs] == ["a", "c"]
    assert pairs.lines == (3, 5)


names = st.text(st.characters(exclude_characters="\0/\\", exclude_categories=["Cs"]), min_size=1, max_size=20)


@given(st.lists(st.tuples(names, names, st.booleans()), min_size=1, max_size=8))
def test_any_file_name_survives_a_round_trip(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str, bool]]
) -> None:
    source = tmp_path_factory.mktemp("pairs") / "p.csv"
    with source.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("path_a", "path_b", "label"), *((a, b, int(label)) for a, b, label in rows)])
    read = [(pair.path_a, pair.path_b, pair.label) for pair in read_pairs(source, root="r")]
    assert read == [(os.path.join("r", a), os.path.join("r", b), label) for a, b, label in rows]


@given(st.binary(max_size=200))
def test_any_bytes_give_pairs_or_our_error(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    for head in (b"", b"path_a,path_b,label\n", b"2\t1\n"):
        source = write(tmp_path_factory.mktemp("pairs") / "p.csv", head + data)
        try:
            assert len(read_pairs(source, root="r")) > 0
        except PairListError as error:
            assert str(source) in str(error) and "\n" not in str(error)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("path_a,path_b,label\na,b,maybe\n", ["line 2", "'maybe'", "1 or 0"]),
        ("path_a,path_b,label\na,b,1\nc,d,\n", ["line 3", "bad label ''"]),
        ("path_a,path_b\na,b\n", ["line 1", "'label'", "path_a,path_b,label"]),
        ("file_x,Decision\na,Yes\n", ["line 1", "'file_y'"]),
        ("path_a;path_b\na;b\n", ["line 1", "separated by commas, semicolons or tabs"]),
        ("a.jpg,b.jpg\n", ["line 1", "header lacks"]),
        ("path_a,path_b,label,label\na,b,1,1\n", ["line 1", "twice"]),
        ("path_a,path_b,label\na,b,c,1\n", ["line 2", "expected 3 columns, got 4", "quote"]),
        ("path_a,path_b,label\na,b\n", ["line 2", "expected 3 columns, got 2"]),
        ("path_a,path_b,label\n,b,1\n", ["line 2", "'' is not a file name"]),
        ("path_a,path_b,label\na\0x,b,1\n", ["line 2"]),
        ("path_a,path_b,label,kind\na,b,1,twin\n", ["line 2", "'twin'", "only pairs of kind same are positive"]),
        ("path_a,path_b,label,kind\na,b,0,<b>\n", ["line 2", "'<b>'", "a word for the negatives"]),
        ("path_a,path_b,label,kind\na,b,0,all\n", ["line 2", "'all'", "a word for the negatives"]),
        ("path_a,path_b,label,kind\na,b,1,fake\n", ["line 2", "contradicts"]),
        ("path_a,path_b,label,kind\na,b,0,same\n", ["line 2", "contradicts"]),
        ('path_a,path_b,label\n"a,b,1\n', ["line 2", "quotes"]),
        ('path_a,path_b,label\n"a\nb",c,2\n', ["line 3", "bad label '2'"]),
        ("path_a,path_b,label\n", ["empty"]),
        ("", ["empty"]),
        (b"path_a,path_b,label\na,b,1\n\xff,b,1\n", ["line 3", "not UTF-8"]),
        (b"PAR1\x15\x04\x15\xff", ["is a Parquet file, as a gallery is one, and no list"]),
        (b"PK\x03\x04\x14\0\0\0", ["is a zip, and no list"]),
        (b"\xff\xd8\xff\xe0\0\x10JFIF", ["is a picture (JPEG), and no list"]),
        (b"\x89PNG\r\n\x1a\n", ["is a picture (PNG), and no list"]),
        (b"IxM2\0\1\0\0", ["is a FAISS index, and no list"]),
        (b"a" + b"\0" * 256 + b"ustar\x0000" + b"\0" * 249, ["is a tar, and no list"]),
    ],
)
def test_bad_csv(tmp_path: Path, text: str | bytes, parts: list[str]) -> None:
    source = write(tmp_path / "p.csv", text)
    with pytest.raises(PairListError) as caught:
        read_pairs(source)
    for part in [str(source), *parts]:
        assert part in str(caught.value)


def test_no_such_list(tmp_path: Path) -> None:
    with pytest.raises(PairListError, match=r"nothing\.csv: cannot read"):
        read_pairs(tmp_path / "nothing.csv")


# --- LFW ----------------------------------------------------------------------------------------------------------

LFW = "2\t1\nAnn\t1\t4\nAnn\t1\tBob\t2\nEve\t3\t12\nBob\t2\tEve\t10\n"


@pytest.mark.parametrize("text", [LFW, LFW.replace("\n", "\r\n"), LFW.replace("\t", " "), "\ufeff" + LFW])
def test_lfw(tmp_path: Path, text: str) -> None:
    pairs = read_pairs(write(tmp_path / "pairs.txt", text), root="lfw")
    assert pairs[0] == Pair("lfw/Ann/Ann_0001.jpg", "lfw/Ann/Ann_0004.jpg", True, "same", 0)
    assert pairs[3] == Pair("lfw/Bob/Bob_0002.jpg", "lfw/Eve/Eve_0010.jpg", False, "other", 1)
    assert pairs.folds is not None and pairs.folds.tolist() == [0, 0, 1, 1]
    assert pairs.labels.tolist() == [True, False, True, False]


def test_lfw_development_list_has_no_folds(tmp_path: Path) -> None:
    pairs = read_pairs(write(tmp_path / "pairsDevTest.txt", "1\nAnn\t1\t4\nAnn\t1\tBob\t2\n"), root="lfw")
    assert pairs.folds is None and pairs.labels.tolist() == [True, False]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (LFW.rsplit("\n", 2)[0] + "\n", ["promises 4 pairs", "holds 3"]),
        (LFW + "Ann\t1\t2\n", ["promises 4 pairs", "holds 5"]),
        (LFW.replace("Ann\t1\t4", "Ann\tone\t4"), ["line 2", "Name n1 n2"]),
        (LFW.replace("Eve\t3\t12", "Eve\t3"), ["line 4", "Name n1 n2"]),
        ("10\t300\n", ["promises 6000 pairs"]),
        ("0\t0\n", ["empty"]),
    ],
)
def test_bad_lfw(tmp_path: Path, text: str, parts: list[str]) -> None:
    with pytest.raises(PairListError) as caught:
        read_pairs(write(tmp_path / "pairs.txt", text), root="lfw")
    for part in [str(tmp_path / "pairs.txt"), *parts]:
        assert part in str(caught.value)


def test_lfw_needs_a_root(tmp_path: Path) -> None:
    with pytest.raises(PairListError, match="--root"):
        read_pairs(write(tmp_path / "pairs.txt", LFW))


@pytest.mark.data
def test_lfw_view_2_as_published() -> None:
    folder = Path(os.environ.get("FACEEMBED_DATA", Path.home() / ".cache/faceembed/data"))
    if not (folder / "lfw_pairs.txt").exists():
        pytest.skip("needs the real photo sets")
    pairs = read_pairs(folder / "lfw_pairs.txt", root=folder / "lfw")
    check_files(pairs)
    assert len(pairs) == 6000 and pairs.labels.sum() == 3000 and len(pairs.photos) == 7701
    assert pairs.folds is not None
    for fold in range(10):
        assert pairs.labels[pairs.folds == fold].tolist() == [True] * 300 + [False] * 300


# --- folders ------------------------------------------------------------------------------------------------------


def test_folder_of_unlabelled_pairs(tmp_path: Path) -> None:
    for name in ("10", "9", "000011"):
        for photo in ("0.jpg", "1.jpg"):
            write(tmp_path / name / photo, b"")
    write(tmp_path / "sample_submission.csv", "pair_id,similarity\n")
    write(tmp_path / ".cache" / "x.jpg", b"")
    pairs = read_pairs(tmp_path)
    assert [pair.pair_id for pair in pairs] == ["9", "10", "000011"]
    assert pairs[0] == Pair(str(tmp_path / "9/0.jpg"), str(tmp_path / "9/1.jpg"), None, None, None, "9")
    assert not pairs.labelled and pairs.kinds.tolist() == ["", "", ""]
    with pytest.raises(DataError, match="no labels"):
        _ = pairs.labels
    (tmp_path / "images").mkdir()
    for name in ("9", "10", "000011"):
        (tmp_path / name).rename(tmp_path / "images" / name)
    assert [pair.pair_id for pair in read_pairs(tmp_path)] == ["9", "10", "000011"]


def test_folder_that_is_not_pairs(tmp_path: Path) -> None:
    write(tmp_path / "1" / "0.jpg", b"")
    with pytest.raises(PairListError, match=r"expected '1' to hold 0\.jpg and 1\.jpg, found 0\.jpg"):
        read_pairs(tmp_path)
    (tmp_path / "1" / "0.jpg").unlink()
    with pytest.raises(PairListError, match="found no photo"):
        read_pairs(tmp_path)
    (tmp_path / "1").rmdir()
    with pytest.raises(PairListError, match="empty"):
        read_pairs(tmp_path)


REAL_AND_FAKE = {("0001", 3, 2), ("0002", 2, 0), ("0010", 1, 1), ("0011", 0, 2)}


def kryptonite(root: Path, *, padded_keys: bool, padded_files: bool = False) -> Path:
    """People with so many real photos and fakes each; returns the folder that holds ``train``."""
    meta = {}
    for label, real, fake in sorted(REAL_AND_FAKE):
        for i in range(real + fake):
            name = f"{i:04d}.jpg" if padded_files else f"{i}.jpg"
            write(root / "train" / "images" / label / name, b"")
            meta[f"{label}/{i:06d}.jpg" if padded_keys else f"{int(label)}/{i}.jpg"] = int(i >= real)
    write(root / "train" / "meta.json", json.dumps(meta))
    return root


@pytest.mark.parametrize("padded_keys", [False, True])
@pytest.mark.parametrize("padded_files", [False, True])
def test_folder_with_meta(tmp_path: Path, padded_keys: bool, padded_files: bool) -> None:
    pairs = read_pairs(kryptonite(tmp_path, padded_keys=padded_keys, padded_files=padded_files))
    check_files(pairs)
    real = {label: count for label, count, _ in REAL_AND_FAKE}
    person = [(Path(p.path_a).parent.name, Path(p.path_b).parent.name) for p in pairs]
    number = [(int(Path(p.path_a).stem), int(Path(p.path_b).stem)) for p in pairs]
    for pair, (a, b), (i, j) in zip(pairs, person, number, strict=True):
        assert i < real[a], "the first photo is always a real one"
        assert (a == b) == (pair.kind != "other")
        assert (j >= real[b]) == (pair.kind == "fake")
        assert (a, i) != (b, j)
    kinds = pairs.kinds.tolist()
    assert {kind: kinds.count(kind) for kind in ("same", "fake", "other")} == {"same": 3, "fake": 3, "other": 6}
    assert pairs.labels.tolist() == [kind == "same" for kind in kinds]


def test_built_pairs_depend_on_the_seed_alone(tmp_path: Path) -> None:
    first = read_pairs(kryptonite(tmp_path / "x", padded_keys=False))
    again = read_pairs(kryptonite(tmp_path / "y", padded_keys=True) / "train")

    def names(pairs: object) -> list[tuple[str, ...]]:
        return [Path(p.path_a).parts[-2:] + Path(p.path_b).parts[-2:] for p in pairs]  # type: ignore[attr-defined]

    assert names(first) == names(again)
    assert names(first) != names(read_pairs(tmp_path / "x", seed=1))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"1/9.jpg": 0}, "no photo in"),
        ({"7/0.jpg": 0}, "no photo in"),
        ({"1/0.jpg": 2}, "is 2; expected 0"),
        ({"1/0.jpg": None}, "is None; expected 0"),
        ({"001/00.jpg": 0}, "listed twice"),
    ],
)
def test_bad_meta(tmp_path: Path, change: dict[str, object], message: str) -> None:
    meta = kryptonite(tmp_path, padded_keys=False) / "train" / "meta.json"
    meta.write_text(json.dumps(json.loads(meta.read_text()) | change))
    with pytest.raises(PairListError, match=message) as caught:
        read_pairs(tmp_path)
    assert str(meta) in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"), [("{", "JSON"), ("[1]", "got list"), ("{}", "9 photos are not listed|photos are not listed")]
)
def test_meta_that_is_not_a_table(tmp_path: Path, text: str, message: str) -> None:
    meta = kryptonite(tmp_path, padded_keys=False) / "train" / "meta.json"
    meta.write_text(text)
    with pytest.raises(PairListError, match=message):
        read_pairs(tmp_path)


def test_photos_that_differ_only_in_zeros(tmp_path: Path) -> None:
    write(kryptonite(tmp_path, padded_keys=False) / "train" / "images" / "0001" / "00.jpg", b"")
    with pytest.raises(PairListError, match="leading zeros"):
        read_pairs(tmp_path)


# --- files --------------------------------------------------------------------------------------------------------


def test_check_files_counts_and_names_the_first(tmp_path: Path) -> None:
    source = write(tmp_path / "p.csv", "path_a,path_b,label\na,b,1\na,c,0\nc,d,0\n")
    for name in ("a", "b"):
        write(tmp_path / name, b"x")
    pairs = read_pairs(source)
    with pytest.raises(PairListError) as caught:
        check_files(pairs)
    for part in (str(source), "2 of 4 photos are missing", repr(str(tmp_path / "c")), "line 3", "--root"):
        assert part in str(caught.value)
    for name in ("c", "d"):
        write(tmp_path / name, b"x")
    check_files(pairs)


def test_photos_in_archives_exist(tmp_path: Path) -> None:
    make_zip(tmp_path / "x.zip", {"a.png": png(1), "d/b.png": png(2)})
    source = tmp_path / "pairs.csv"
    source.write_text("path_a,path_b,label\nx.zip::a.png,x.zip::d/b.png,1\nx.zip::a.png,x.zip::d/b.png,0\n")
    check_files(read_pairs(source))
    source.write_text("path_a,path_b,label\nx.zip::a.png,x.zip::d/c.png,1\nx.zip::a.png,x.zip::d,0\n")
    with pytest.raises(PairListError, match=r"2 of 3 photos are missing, the first is '.*x\.zip::d/c\.png'"):
        check_files(read_pairs(source))
