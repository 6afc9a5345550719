"""A user's ONNX file: read whole, checked, and told from what is no ONNX file at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from faceembed.errors import ModelError

_MOST_BYTES = (1 << 31) - 1  # what one protobuf file can hold


def load_onnx(path: Path) -> tuple[Any, bool]:
    """Read an ONNX file.

    Args:
        path: the file; weights in files beside it are taken in.

    Returns:
        The ``ModelProto``, and whether it differs from the bytes on disk (weights taken in).

    Raises:
        ModelError: it cannot be read, is something else, or is damaged; one line that says which.
    """
    import onnx

    try:
        with open(path, "rb") as file:
            size, head = path.stat().st_size, file.read(512)
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror or error}") from error
    if kind := _foreign(head):
        raise ModelError(f"{path} is {kind}, not an ONNX file")
    if size > _MOST_BYTES:
        raise ModelError(f"{path} has {size:,} bytes; ONNX files over 2 GiB cannot be imported")
    try:
        proto = onnx.load(str(path), load_external_data=False)
        external = any(weight.external_data for weight in proto.graph.initializer)
        if external:
            onnx.load_external_data_for_model(proto, str(path.parent))
            for weight in proto.graph.initializer:
                weight.ClearField("external_data")
                weight.data_location = onnx.TensorProto.DEFAULT
        onnx.checker.check_model(proto)
    except OSError as error:
        raise ModelError(f"{path} keeps weights in another file that cannot be read ({error})") from error
    except Exception as error:  # protobuf's and onnx's own classes, derived from nothing but Exception
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(f"{path} is not a valid ONNX file, or is cut short ({reason})") from error
    return proto, external


def _foreign(head: bytes) -> str:
    """What a file is that is surely no ONNX, by its first bytes; empty if it may be one."""
    start = head.lstrip()[:64].lower()
    if not head:
        return "empty"
    if head.startswith(b"PK\x03\x04"):
        return "a PyTorch checkpoint or another zip archive (say which network it is: --arch)"
    if head.startswith(b"\x80") and head[1:2] in b"\x02\x03\x04\x05":
        return "a pickled PyTorch checkpoint (say which network it is: --arch)"
    if head[8:10] == b'{"' and int.from_bytes(head[:8], "little") < 1 << 30:
        return "a safetensors checkpoint (say which network it is: --arch)"
    if start.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "a web page"
    if start.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer (fetch the file itself)"
    if all(32 <= byte < 127 or byte in b"\t\r\n" for byte in head):
        return "a text file"
    return ""


def bytes_of(path: Path, proto: Any) -> bytes:
    """A ``ModelProto`` as the bytes of a file.

    Raises:
        ModelError: it is larger than one file can be; ``path`` is named.
    """
    try:
        data: bytes = proto.SerializeToString(deterministic=True)
    except ValueError as error:
        raise ModelError(
            f"{path} and its weights are over 2 GiB; ONNX files of that size cannot be imported"
        ) from error
    return data
