"""Pair lists as they come: our CSV and deepface's, LFW's ``pairs.txt``, and folders of pairs.

    pairs = read_pairs("pairs.csv")                       # path_a,path_b,label[,kind]
    pairs = read_pairs("lfw_pairs.txt", root="lfw")       # LFW View 2, with its ten folds
    pairs = read_pairs("kryptonite/train")                # images/<label>/<i>.jpg and meta.json

The format is recognised by looking, never by an option. Reading touches no photo: `pairs.check_files` asks whether they are there.
"""

from __future__ import annotations

import csv
import io
import itertools
import os
import random
import re
from collections.abc import Iterator, Sequence
from typing import TypeVar

from faceembed.engine.evaluate.kryptonite import folders_in, natural, photos_in, real_and_fake
from faceembed.engine.evaluate.pairs import Pair, PairList
from faceembed.engine.photos.listing import decode_path
from faceembed.errors import PairListError

T = TypeVar("T")
_WORD = re.compile(r"[^\W_][\w-]{0,29}")
_TAKEN = ("all",)  # means all negatives where figures are shown
LABELS = {"1": True, "yes": True, "true": True, "0": False, "no": False, "false": False}
HEADERS = {"faceembed": ("path_a", "path_b", "label"), "deepface": ("file_x", "file_y", "decision")}


def read_pairs(path: str | os.PathLike[str], *, root: str | os.PathLike[str] | None = None, seed: int = 0) -> PairList:
    """Read a pair list of any known format.

    Args:
        path: a CSV with the header ``path_a,path_b,label[,kind]`` or ``file_x,file_y,Decision``, LFW's ``pairs.txt``, or a
            folder: ``<pair_id>/{0,1}.jpg`` (unlabelled), or ``images/<label>/<i>.jpg`` with ``meta.json``.
        root: the folder that paths in the list are relative to. Default for CSV: the CSV's own folder. LFW needs it.
        seed: chooses the pairs that are built from a ``meta.json`` folder; other formats do not use it.

    Returns:
        The pairs, in the list's order. A CSV without ``kind`` gets ``same`` for its positives and ``other`` for its negatives.

    Raises:
        PairListError: naming file and line, what was expected and what was found.
    """
    source = os.fspath(path)
    if os.path.isdir(source):
        result = _read_folder(source, seed)
    else:
        result = _read_text(source, None if root is None else os.fspath(root))
    if not result.pairs:
        raise PairListError(f"{source}: the list is empty; expected at least one pair after the header")
    return result


def _read_text(source: str, root: str | None) -> PairList:
    try:
        with open(source, "rb") as file:
            data = file.read()
    except OSError as error:
        raise PairListError(f"{source}: cannot read the pair list ({error.strerror})") from error
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise PairListError(f"{source}, line {line}: not UTF-8; save the list as UTF-8 text") from error
    head = next((line.strip() for line in text.splitlines() if line.strip()), "")
    if re.fullmatch(r"\d+(\s+\d+)?", head):
        return _read_lfw(source, text, root)
    return _read_csv(source, text, os.path.dirname(source) if root is None else root)


def _read_csv(source: str, text: str, base: str) -> PairList:
    pairs: list[Pair] = []
    lines: list[int] = []
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    columns: dict[str, int] = {}
    names: tuple[str, ...] = ()
    try:
        for row in reader:
            if not any(cell.strip() for cell in row):
                continue
            where = f"{source}, line {reader.line_num}"
            if not columns:
                columns = {cell.strip().lower(): i for i, cell in reversed(list(enumerate(row)))}
                names = _known_header(columns, row, where)
                continue
            if len(row) != len(columns):
                raise PairListError(
                    f"{where}: expected {len(columns)} columns, got {len(row)}; quote a file name that contains a comma"
                )
            path_a, path_b, label = (row[columns[name]] for name in names)
            kind = row[columns["kind"]] if "kind" in columns else ""
            pairs.append(_csv_pair(base, path_a, path_b, label, kind, where))
            lines.append(reader.line_num)
    except csv.Error as error:
        raise PairListError(f"{source}, line {reader.line_num}: not valid CSV ({error}); check the quotes") from error
    return PairList(source, tuple(pairs), tuple(lines))


def _known_header(columns: dict[str, int], row: Sequence[str], where: str) -> tuple[str, ...]:
    if len(columns) != len(row):
        raise PairListError(f"{where}: the header names a column twice: {','.join(row)}")
    best = max(HEADERS.values(), key=lambda names: sum(name in columns for name in names))
    if missing := [name for name in best if name not in columns]:
        raise PairListError(
            f"{where}: the header lacks the column '{missing[0]}'; expected 'path_a,path_b,label[,kind]' or "
            f"'file_x,file_y,Decision', separated by commas, got {','.join(row)[:80]!r}"
        )
    return best


def _csv_pair(base: str, path_a: str, path_b: str, label: str, kind: str, where: str) -> Pair:
    path_a, path_b = decode_path(path_a), decode_path(path_b)  # what we write ourselves, where a name is not UTF-8
    for path in (path_a, path_b):
        if not path or "\0" in path:
            raise PairListError(f"{where}: {path!r} is not a file name")
    value = LABELS.get(label.strip().lower())
    if value is None:
        raise PairListError(f"{where}: bad label {label!r}; expected 1 or 0, Yes or No, true or false")
    name = kind.strip().lower() or ("same" if value else "other")
    if not _WORD.fullmatch(name) or name in _TAKEN:
        raise PairListError(
            f"{where}: bad kind {kind!r}; expected same, or a word for the negatives such as other, fake or kin (letters, digits, "
            "- and _, at most 30)"
        )
    if (name == "same") != value:
        raise PairListError(
            f"{where}: label {label.strip()!r} contradicts kind {name!r}; only pairs of kind same are positive"
        )
    return Pair(os.path.join(base, path_a), os.path.join(base, path_b), value, name)


def _read_lfw(source: str, text: str, root: str | None) -> PairList:
    """http://vis-www.cs.umass.edu/lfw/README.txt: ``folds n``, then per fold n same pairs and n different ones.

    The development lists have no fold count: ``n``, then n same and n different pairs.
    """
    if root is None:
        raise PairListError(f"{source}: an LFW pair list names people, not files; say with --root where the photos are")
    rows = [(number, line.split()) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    header = [int(cell) for cell in rows[0][1]]
    folds, size = (header[0], header[1]) if len(header) == 2 else (1, header[0])
    pairs: list[Pair] = []
    for index, (number, cells) in enumerate(rows[1:]):
        where = f"{source}, line {number}"
        if len(cells) not in (3, 4) or not all(cell.isdecimal() for cell in (cells[1], cells[-1])):
            raise PairListError(f"{where}: expected 'Name n1 n2' or 'Name1 n1 Name2 n2', got {' '.join(cells)[:80]!r}")
        same = len(cells) == 3
        first = _lfw_photo(root, cells[0], cells[1])
        second = _lfw_photo(root, cells[0] if same else cells[2], cells[-1])
        fold = min(index // max(2 * size, 1), folds - 1) if len(header) == 2 else None
        pairs.append(Pair(first, second, same, "same" if same else "other", fold))
    if len(pairs) != 2 * folds * size:
        raise PairListError(
            f"{source}, line 1: the header promises {2 * folds * size} pairs, the list holds {len(pairs)}; is it cut short?"
        )
    return PairList(source, tuple(pairs), tuple(number for number, _ in rows[1:]))


def _lfw_photo(root: str, name: str, number: str) -> str:
    return os.path.join(root, name, f"{name}_{int(number):04d}.jpg")


def _read_folder(source: str, seed: int) -> PairList:
    for folder in (source, os.path.join(source, "train")):
        if os.path.isfile(os.path.join(folder, "meta.json")):
            return PairList(source, tuple(_labelled_pairs(folder, seed)))
    images = os.path.join(source, "images")
    return PairList(source, tuple(_test_pairs(images if os.path.isdir(images) else source)))


def _test_pairs(folder: str) -> Iterator[Pair]:
    """``<pair_id>/{0,1}.jpg``: pairs without labels."""
    names = folders_in(folder)
    for name in names:
        photos = photos_in(os.path.join(folder, name))
        if sorted(photos) != ["0", "1"]:
            found = ", ".join(os.path.basename(photo) for photo in list(photos.values())[:4]) or "no photo"
            raise PairListError(
                f"{folder}: not a folder of pairs: expected '{name}' to hold 0.jpg and 1.jpg, found {found}; "
                "give a CSV with the header path_a,path_b,label instead"
            )
        yield Pair(photos["0"], photos["1"], None, None, None, name)


def _labelled_pairs(folder: str, seed: int) -> Iterator[Pair]:
    """Pairs of ``images/<label>/<i>.jpg``: their number grows with the photos, not with its square.

    Every label's real photos in random order, each with the next (same); every fake with a real photo of its label (fake);
    every real photo with a real one of another label (other).
    """
    real, fake = real_and_fake(folder)
    # `Random.random` is the part of the module whose sequence is promised to stay: lists do not change with Python.
    rng = random.Random(seed)
    labels = sorted(real, key=natural)
    position = {label: i for i, label in enumerate(labels)}
    for label in sorted({*real, *fake}, key=natural):
        photos = _shuffled(real.get(label, []), rng)
        for a, b in itertools.pairwise(photos):
            yield Pair(a, b, True, "same")
        for path in fake.get(label, []) if photos else []:
            yield Pair(_pick(photos, rng), path, False, "fake")
        for path in photos if len(labels) > 1 else []:
            step = 1 + int(rng.random() * (len(labels) - 1))
            other = labels[(position[label] + step) % len(labels)]
            yield Pair(path, _pick(real[other], rng), False, "other")


def _pick(items: Sequence[T], rng: random.Random) -> T:
    return items[int(rng.random() * len(items))]


def _shuffled(items: Sequence[T], rng: random.Random) -> list[T]:
    return [items[i] for _, i in sorted((rng.random(), i) for i in range(len(items)))]
