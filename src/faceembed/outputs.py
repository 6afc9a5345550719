"""What an output may be: a new file, an empty one, or one that faceembed wrote before; never an input, nor somebody else's.

    check_output("report.html", "page", inputs=["pairs.csv"])

Whether a file is ours is seen by what is in it, so every kind of file that faceembed writes has a mark. All verbs ask here, the
command line before the work begins, and the functions that write once more.
"""

from __future__ import annotations

import json
import os
import re
import zlib
from collections.abc import Callable, Iterable
from typing import Any

from faceembed.errors import UsageError

GENERATOR = "faceembed"
_HEAD = 4096
_PNG = b"\x89PNG\r\n\x1a\n"
_OF_INDEX = re.compile(r"\.faiss(\.(parquet|json|errors\.csv|vectors\.npy))?$")


def check_output(path: str | os.PathLike[str], kind: str, inputs: Iterable[str | os.PathLike[str]] = ()) -> None:
    """Refuse to write where something would be lost.

    Args:
        path: the file to be written.
        kind: what it will be, a key of `KINDS`.
        inputs: files that are read; what lies in a folder among them counts as well.

    Raises:
        UsageError: the file is an input, belongs to an index, or is there and nothing of ours of that kind.
    """
    name = os.fspath(path)
    for ending, other in _BESIDE.get(kind, {}).items():
        check_output(os.path.splitext(name)[0] + ending, other, inputs)
    check_apart(name, inputs)
    if _OF_INDEX.search(os.path.basename(name)):
        raise UsageError(f"{name} is a name of an index's files; give another name")
    try:
        if not os.path.getsize(name):
            return
    except OSError:  # not there; or whoever writes says why it cannot be
        return
    if not os.path.isfile(name):
        return
    if not is_ours(name, kind):
        raise UsageError(
            f"{name} is there and is not {KINDS[kind][0]} that faceembed wrote: it is not replaced; give another name"
        )


def check_apart(path: str | os.PathLike[str], inputs: Iterable[str | os.PathLike[str]]) -> None:
    """Refuse an output that is one of the inputs, by whatever path.

    Raises:
        UsageError: it is one.
    """
    for given in inputs:
        try:
            if os.path.samefile(path, given):
                raise UsageError(
                    f"{os.fspath(path)} is what is to be read; give another name for what is to be written"
                )
        except OSError:  # one of them is not there
            continue


def is_ours(path: str, kind: str) -> bool:
    """Whether a file is what faceembed writes of that kind."""
    try:
        return KINDS[kind][1](path)
    except (OSError, ValueError):
        return False


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


_is_spec = _has("name", "task", "input_size", "sha256")


def _is_model(path: str) -> bool:
    return not path.endswith(".json") and _is_spec(os.path.splitext(path)[0] + ".json")


KINDS: dict[str, tuple[str, Callable[[str], bool]]] = {
    "page": ("a page", _is_page),
    "picture": ("a picture", _is_picture),
    "scores": ("a file of scores", _starts("path_a,path_b,label,kind,similarity,found")),
    "attack scores": ("a file of scores", _starts("path_a,path_b,label,kind,epsilon,before,after,found")),
    "answer": ("an answer", _starts("pair_id,similarity")),
    "split": ("a split", _has("train", "validate", "test")),
    "clusters": ("a file of clusters", _is_clusters),
    "labels": ("a file of face labels", _is_labels),
    "errors": ("a file of errors", lambda path: _head(path).startswith(b"path,stage,reason,size,mtime_ns")),
    "model": ("a model", _is_model),
    "spec": ("a description of a model", _is_spec),
    "engine": ("an engine", lambda path: _head(path).startswith(b"faceembed engine")),
}
"""Every kind of file that a verb writes where its user says: what it is called, and how it is known."""

_BESIDE = {"model": {".json": "spec"}, "labels": {".errors.csv": "errors"}}
"""What is written beside, under the same name with another ending."""
