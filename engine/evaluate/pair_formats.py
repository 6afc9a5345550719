"""Lists of photo pairs: which two photos, and whether they show the same person.

    pairs = read_pairs("pairs.csv")                       # path_a,path_b,label[,kind], and other tables
    pairs = read_pairs("lfw_pairs.txt", root="lfw")       # LFW View 2, with its ten folds
    pairs = read_pairs("cfp_fp.bin")                      # InsightFace's sets of aligned crops
    pairs = read_pairs("kryptonite/train")                # images/<label>/<i>.jpg and meta.json
    check_files(pairs)

The format is recognised by looking, never by an option. Reading touches no photo: `check_files` asks whether they are there.
"""

from __future__ import annotations

import itertools
import os
import random
import re
from collections.abc import Iterator, Sequence
from typing import TypeVar

from faceembed.engine.evaluate.insightface_bin import is_bin, read_bin
from faceembed.engine.evaluate.kryptonite import folders_in, natural, photos_in, real_and_fake
from faceembed.engine.evaluate.lfw import read_lfw
from faceembed.engine.evaluate.pair_tables import read_table
from faceembed.engine.evaluate.pairs import Pair, PairList
from faceembed.engine.evaluate.tables import decoded
from faceembed.errors import PairListError

T = TypeVar("T")


def read_pairs(path: str | os.PathLike[str], *, root: str | os.PathLike[str] | None = None, seed: int = 0) -> PairList:
    """Read a pair list of any known format.

    Args:
        path: a table with the header ``path_a,path_b,label[,kind]`` or another of `pair_tables.HEADERS`, or with none, of columns that
            end at commas, semicolons or tabs; LFW's ``pairs.txt`` and Kaggle's tables of it; InsightFace's ``.bin``; a table ``score,label``; or a
            folder: ``<pair_id>/{0,1}.jpg`` (unlabelled), or ``images/<label>/<i>.jpg`` with ``meta.json``.
        root: the folder that paths in the list are relative to. Default for tables: the table's own folder. LFW needs it.
        seed: chooses the pairs that are built from a ``meta.json`` folder; other formats do not use it.

    Returns:
        The pairs, in the list's order. A CSV without ``kind`` gets ``same`` for its positives and ``other`` for its negatives.

    Raises:
        PairListError: naming file and line, what was expected and what was found.
    """
    source = os.fspath(path)
    if os.path.isdir(source):
        result = _read_folder(source, seed)
    elif is_bin(source):
        result = read_bin(source)
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
    text = decoded(source, data)
    head = next((line.strip() for line in text.splitlines() if line.strip()), "")
    if re.fullmatch(r"\d+(\s+\d+)?", head):
        return read_lfw(source, text, root)
    return read_table(source, text, base=os.path.dirname(source) if root is None else root, root=root)


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
