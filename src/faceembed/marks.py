"""By what each kind of file that faceembed writes is known: whether a file is ours is seen by what is in it, not by its name."""

from __future__ import annotations

import json
import os
import re
import zlib
from collections.abc import Callable
from typing import Any

GENERATOR = "faceembed"
GALLERY = "faceembed.gallery"
"""The key in a parquet file's description by which a gallery of people is known."""
_HEAD = 4096
_PNG = b"\x89PNG\r\n\x1a\n"


def signed_png(data: bytes) -> bytes:
    """A PNG with the mark by which `is_ours` knows it: text that says which software made it, after its head."""
    text = b"tEXtSoftware\0" + GENERATOR.encode()
    chunk = (len(text) - 4).to_bytes(4, "big") + text + zlib.crc32(text).to_bytes(4, "big")
    end = len(_PNG) + 25  # its first chunk, IHDR: 13 bytes and 12 around
    return data[:end] + chunk + data[end:]


def _head(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read(_HEAD)


def _tail(path: str) -> bytes:
    """The description at a parquet file's end."""
    with open(path, "rb") as file:
        file.seek(-8, os.SEEK_END)
        size = int.from_bytes(file.read(4), "little")
        if file.read(4) != b"PAR1":
            return b""
        file.seek(-8 - size, os.SEEK_END)
        return file.read(size)


def _is_page(path: str) -> bool:
    head = _head(path)
    mark = f'<meta name="generator" content="{GENERATOR}">'.encode()
    # pages of versions that had no mark yet are known by their policy
    return mark in head or b"content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'" in head


def _is_picture(path: str) -> bool:
    head = _head(path)
    return head.startswith(_PNG) and b"tEXtSoftware\0" + GENERATOR.encode() in head


def _starts(*lines: str) -> Callable[[str], bool]:
    """CSV files by their first line."""
    return lambda path: _head(path).split(b"\n", 1)[0].rstrip(b"\r").decode("utf-8", "replace") in lines


def _document(path: str) -> dict[str, Any]:
    with open(path, encoding="utf-8") as file:
        found = json.load(file)
    return found if isinstance(found, dict) else {}


def _has(*keys: str) -> Callable[[str], bool]:
    """JSON files by their keys."""
    return lambda path: set(keys) <= _document(path).keys()


def _is_clusters(path: str) -> bool:
    if path.endswith(".json"):
        return _has("format", "encoder_sha256", "next_cluster", "faces")(path)
    return b"faceembed.clusters" in _tail(path)


def _is_labels(path: str) -> bool:
    return all(name in _tail(path) for name in (b"group", b"boxes", b"landmarks", b"doubtful"))


def _parquet(*names: str) -> Callable[[str], bool]:
    """Tables by their columns."""
    return lambda path: all(name.encode() in _tail(path) for name in names)


def _line(first: str, *rest: str) -> Callable[[str], bool]:
    """Files by what their first line starts with, and what else is in it."""

    def known(path: str) -> bool:
        line = _head(path).split(b"\n", 1)[0].rstrip(b"\r").decode("utf-8", "replace")
        return line.startswith(first) and all(part in line for part in rest)

    return known


def _is_checkpoint(path: str) -> bool:
    head = _head(path)  # PyTorch's zip stores the pickle first, and of that the format
    return head.startswith(b"PK") and re.search(rb"faceembed-(checkpoint|aligner|refiner|maps)", head) is not None


def _is_training(path: str) -> bool:
    with open(path, encoding="utf-8") as file:
        text = file.read()
    tables = ("model", "data", "loss", "optimizer", "schedule", "loop", "validation", "augment")
    return text.startswith('task = "') and all(f"\n[{table}]\n" in text for table in tables)


_is_spec = _has("name", "task", "input_size", "sha256")


def _is_model(path: str) -> bool:
    return not path.endswith(".json") and _is_spec(os.path.splitext(path)[0] + ".json")


VECTORS = "faceembed.vectors"
"""The key by which vectors of an index, or what lies beside an array of them, are known."""


def _is_vectors(path: str) -> bool:
    if path.endswith(".npy"):  # an array has no room for a mark
        return VECTORS in _document(f"{path}.json")
    return VECTORS.encode() in _tail(path)


KINDS: dict[str, tuple[str, Callable[[str], bool]]] = {
    "page": ("a page", _is_page),
    "picture": ("a picture", _is_picture),
    "scores": ("a file of scores", _starts("path_a,path_b,label,kind,similarity,found")),
    "attack scores": ("a file of scores", _starts("path_a,path_b,label,kind,epsilon,before,after,found")),
    "answer": ("an answer", _starts("pair_id,similarity")),
    "split": ("a split", _has("train", "validate", "test")),
    "clusters": ("a file of clusters", _is_clusters),
    "gallery": ("a gallery", lambda path: GALLERY.encode() in _tail(path)),
    "vectors": ("a file of vectors", _is_vectors),
    "vectors' description": ("a description of vectors", _has(VECTORS)),
    "names": ("a table of names", _starts("path,face,name")),
    "labels": ("a file of face labels", _is_labels),
    "errors": ("a file of errors", lambda path: _head(path).startswith(b"path,stage,reason,size,mtime_ns")),
    "model": ("a model", _is_model),
    "spec": ("a description of a model", _is_spec),
    "pair list": ("a list of pairs", _starts("path_a,path_b,label,kind,method")),
    "cleaning": ("a table of what cleaning found", _parquet("suggested_person", "similarity_elsewhere", "doubt")),
    "cleaning list": ("a list of what cleaning found", _line("photo,person,kept,reason,suggested_person")),
    "crops": ("a table of crops", _parquet("crop", "photo", "landmarks", "mtime_ns", "other")),
    "crop set": ("a description of crops", _has("encoder", "template", "aligner", "preprocessing")),
    "crops begun": ("the journal of crops", _line('{"info": {"encoder"')),
    "fakes": ("a table of fakes", _parquet("fake", "source_person", "target_photo", "params")),
    "fake set": ("a description of fakes", _has("people", "seed", "split", "max_side", "version")),
    "fakes begun": ("the journal of fakes", _line('{"fake": ', '"source_person"')),
    "checkpoint": ("a checkpoint", _is_checkpoint),
    "training": ("the settings of a training", _is_training),
    "aligner training": ("the settings of a training", _has("seed", "network", "scenes", "refiner", "loop")),
    "epochs": ("a table of epochs", _line("epoch,step,lr,loss")),
    "speeds": ("a table of speeds", _line("epoch,seconds,", "_per_second,waited")),
    "aligner steps": ("a table of steps", _starts("step,loss,score,box,landmarks")),
    "unreadable": ("a list of crops that cannot be read", _starts("path,person,reason")),
    "engine": ("an engine", lambda path: _head(path).startswith(b"faceembed engine")),
}
"""Every kind of file that a verb writes where its user says: what it is called, and how it is known."""

BESIDE = {"model": {".json": "spec"}, "labels": {".errors.csv": "errors"}}
"""What is written beside, under the same name with another ending."""
