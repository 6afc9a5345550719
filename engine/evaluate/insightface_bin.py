"""InsightFace's verification sets (``lfw.bin``, ``cfp_fp.bin``, ``agedb_30.bin``), read without running anything that they name.

Such a file is a pickle of two lists: the photos' files, two a pair, as bytes or arrays of bytes; and whether each pair is of one
person. A pickle may name any function of any module to be called; this reader knows the few that stand for bytes and arrays, does
their work itself, and refuses every other name before anything is called. The photos are aligned crops of 112 pixels
(``--aligner none``).
"""

from __future__ import annotations

import io
import pickle
import pickletools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from faceembed.engine.evaluate.pairs import Pair, PairList
from faceembed.engine.models.store import home
from faceembed.engine.photos.photo_file import digest_of
from faceembed.errors import PairListError
from faceembed.files import atomic_write

_FOLDS = 10


class _Array:
    """An array's bytes, out of what NumPy puts in a pickle."""

    data = b""

    def __setstate__(self, state: Any) -> None:
        _, _, kind, _, data = state
        if (
            not isinstance(kind, _Kind)
            or kind.code not in ("u1", "i1", "b1", "S1")
            or not isinstance(data, (bytes, str))
        ):
            raise pickle.UnpicklingError("it holds arrays of other things than bytes")
        self.data = data if isinstance(data, bytes) else data.encode("latin-1")


class _Kind:
    """An array's type."""

    def __init__(self, code: Any, *_: Any) -> None:
        self.code = code.decode("latin-1") if isinstance(code, bytes) else str(code)

    def __setstate__(self, state: Any) -> None:
        """Byte order and the like, of no weight for bytes."""


def _encode(text: Any, encoding: Any = "latin1") -> bytes:
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError("it names an encoding that is not Latin-1")
    return text.encode("latin-1")


def _truth(kind: Any, data: Any) -> bool:
    return bool(data.strip(b"\0")) if isinstance(data, bytes) else bool(data)


def _made(*_: Any) -> _Array:
    return _Array()


def _nothing(*_: Any) -> bytes:
    return b""


def _from_buffer(data: Any, kind: Any, *_: Any) -> _Array:
    array = _Array()
    array.__setstate__((1, (), kind, False, bytes(data)))
    return array


_KNOWN: dict[tuple[str, str], Callable[..., Any]] = {
    ("_codecs", "encode"): _encode,
    ("__builtin__", "bytes"): _nothing,  # what protocol 2 makes of b""
    ("builtins", "bytes"): _nothing,
    ("numpy", "dtype"): _Kind,
    ("numpy", "ndarray"): _Array,
    ("numpy.core.numeric", "_frombuffer"): _from_buffer,
    ("numpy._core.numeric", "_frombuffer"): _from_buffer,
    **{
        (f"numpy.{core}.multiarray", name): call
        for core in ("core", "_core")
        for name, call in (("_reconstruct", _made), ("scalar", _truth))
    },
}


class _Reader(pickle.Unpickler):
    """An unpickler whose every callable is one of ours."""

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _KNOWN[module, name]
        except KeyError:
            raise pickle.UnpicklingError(
                f"it names {module}.{name}, which could run code; nothing was run, and the file is not trusted"
            ) from None

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError("it refers to something outside of itself")


def is_bin(source: str) -> bool:
    """Whether a file is such a pickle, by its ending and first byte."""
    try:
        with open(source, "rb") as file:
            return source.endswith((".bin", ".pkl", ".pickle")) and file.read(1) in (b"\x80", b"(")
    except OSError:
        return False


def read_bin(source: str) -> PairList:
    """The pairs of such a file; its photos are unpacked once into ``FACEEMBED_HOME/pairs/<digest>``.

    Raises:
        PairListError: not such a file, damaged, or one whose pickle names something that could run code.
        OSError: the photos cannot be written.
    """
    data = Path(source).read_bytes()
    photos, same = _content(source, data)
    folder = home() / "pairs" / digest_of(data)
    paths = [folder / f"{number:06d}" for number in range(len(photos))]
    folder.mkdir(parents=True, exist_ok=True)
    for path, photo in zip(paths, photos, strict=True):
        if not path.exists() or path.stat().st_size != len(photo):
            with atomic_write(path, "wb") as file:
                file.write(photo)
    size = len(same) // _FOLDS if len(same) % _FOLDS == 0 else 0  # as InsightFace folds them: in their order
    pairs = (
        Pair(str(a), str(b), one, "same" if one else "other", number // size if size else None)
        for number, (a, b, one) in enumerate(zip(paths[::2], paths[1::2], same, strict=True))
    )
    return PairList(source, tuple(pairs))


def _content(source: str, data: bytes) -> tuple[list[bytes], list[bool]]:
    try:
        for code, argument, _ in pickletools.genops(data):
            if code.name == "LONG_BINPUT" and int(argument or 0) > len(data):
                raise pickle.UnpicklingError("it asks for more memory than its content can need")
        content = _Reader(io.BytesIO(data), encoding="bytes").load()
        photos, same = content
        files = [photo.data if isinstance(photo, _Array) else photo for photo in photos]
        labels = [bool(one) for one in (same.data if isinstance(same, _Array) else same)]
    except pickle.UnpicklingError as error:
        raise PairListError(f"{source} is not loaded: {error}") from error
    except (
        ArithmeticError,
        AttributeError,
        EOFError,
        LookupError,
        MemoryError,
        TypeError,
        ValueError,
        RecursionError,
    ) as error:
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise PairListError(f"{source} is no InsightFace set, or damaged: {reason}") from error
    if not all(isinstance(photo, bytes) for photo in files) or len(files) != 2 * len(labels):
        raise PairListError(
            f"{source} is no InsightFace set: expected two photos a label, got {len(files)} and {len(labels)}"
        )
    return files, labels
