"""Takes a user's own ONNX encoder into the store, after checking that the engine can run it.

What a file cannot say (colour order, mean, scale, where the landmarks lie) the user has to: a wrong guess would cost accuracy
without any error message. The rest, input size and dimension, is read from the graph and proved by running it once.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from faceembed.engine.models import builtin, store
from faceembed.engine.models.catalog import CATALOG
from faceembed.engine.models.spec import ARCFACE_TEMPLATE, Colour, Model, ModelSpec, Points, Task
from faceembed.errors import ModelError

_MOST_BYTES = (1 << 31) - 1  # what one protobuf file can hold


@dataclasses.dataclass(frozen=True)
class Encoder:
    """An ONNX encoder that runs: batches of any length in, one embedding a row out."""

    data: bytes
    """The file as given, or with its batch axis freed and its other outputs cut."""
    input_size: tuple[int, int]
    """Height and width in pixels."""
    dimension: int
    normalised: bool
    """Whether the output of a trial run had unit length."""


def import_model(
    path: str | Path,
    *,
    name: str,
    task: Task = "encoder",
    colour: Colour,
    mean: tuple[float, float, float],
    scale: float,
    template: Points = ARCFACE_TEMPLATE,
    input_size: tuple[int, int] | None = None,
    threshold: float | None = None,
    threshold_source: str = "",
    licence: str = "unknown",
    source: str = "",
    replace: bool = False,
) -> Model:
    """Check an ONNX encoder and keep it under ``name``.

    Args:
        path: the ONNX file; weights in files beside it are taken in.
        name: what the model will be called: lower-case letters, digits, ``.``, ``_``, ``-``.
        task: only ``encoder``; an aligner's outputs need code of their own.
        colour: channel order of the network's input.
        mean: subtracted per channel, 0..255 scale, in the order of ``colour``.
        scale: then multiplied; 1/127.5 gives [-1, 1].
        template: where the five landmarks lie in the input, (x, y) in pixels.
        input_size: (height, width) in pixels, for a network that takes any size.
        threshold: cosine similarity above which two photos count as one person, if it was measured.
        threshold_source: the data it was chosen on.
        licence: SPDX name or words.
        source: where the file comes from; its path if empty.
        replace: whether a model of that name may be replaced.

    Returns:
        The model in the store.

    Raises:
        ModelError: the file is no usable ONNX encoder, or the name is taken; one line that says why.
    """
    if task != "encoder":
        raise ModelError(
            "only encoders can be imported; an aligner of your own is used by its path: --aligner FILE.onnx"
        )
    if store.check_name(name) in CATALOG or name in builtin.names():
        raise ModelError(f"'{name}' is the name of a known model; choose another one")
    if not replace and store.find(name) is not None:
        raise ModelError(f"there is a model '{name}' already; choose another name, or replace it with --replace")
    path = Path(path)
    encoder = check_encoder(path, input_size=input_size)
    height, width = encoder.input_size
    if template == ARCFACE_TEMPLATE and encoder.input_size != (112, 112):
        raise ModelError(
            f"{path} takes {width}x{height} pixels, but the ArcFace template is for 112x112; give --template"
        )
    if any(not (0 <= x < width and 0 <= y < height) for x, y in template):
        raise ModelError(f"the template has points outside of the {width}x{height} input of {path}")
    spec = ModelSpec(
        name=name,
        task=task,
        input_size=encoder.input_size,
        colour=colour,
        mean=mean,
        scale=scale,
        dimension=encoder.dimension,
        normalised=encoder.normalised,
        template=template,
        threshold=threshold,
        threshold_source=threshold_source,
        licence=licence,
        source=source or str(path.absolute()),
    )
    return store.put(encoder.data, spec, recipe=f"imported {path.name}")


def check_encoder(path: Path, *, input_size: tuple[int, int] | None = None) -> Encoder:
    """Open an ONNX file, free its batch axis and prove with a trial run that it gives one embedding a row.

    Args:
        path: the file.
        input_size: (height, width) for a network that takes any size; must agree with one that does not.

    Raises:
        ModelError: not a readable ONNX file, or not an encoder that the engine can feed.
    """
    proto, changed = _load(path)
    weights = {weight.name for weight in proto.graph.initializer}
    inputs = [value for value in proto.graph.input if value.name not in weights]
    if len(inputs) != 1:
        raise ModelError(f"{path} has {len(inputs)} inputs, expected one: a batch of face chips")
    size = _input_size(path, inputs[0], input_size)
    if inputs[0].type.tensor_type.shape.dim[0].HasField("dim_value"):
        _free_batch(proto)
        changed = True
    data = _bytes(path, proto) if changed else path.read_bytes()
    names, rows = _trial(path, data, inputs[0].name, size)
    embeddings = [name for name, array in zip(names, rows, strict=True) if array.ndim == 2 and array.shape[1] >= 16]
    if len(embeddings) != 1:
        found = ", ".join(f"{name} {array.shape}" for name, array in zip(names, rows, strict=True))
        raise ModelError(f"{path} gives {found} for two chips; expected one output (2, dimension)")
    if len(names) > 1:
        _keep_output(proto, embeddings[0])
        data = _bytes(path, proto)
    embedding = rows[names.index(embeddings[0])]
    if not np.isfinite(embedding).all():
        raise ModelError(f"{path} gives numbers that are not finite; the file is damaged or not an encoder")
    unit = bool(np.allclose(np.linalg.norm(embedding, axis=1), 1, atol=1e-3))
    return Encoder(data, size, int(embedding.shape[1]), unit)


def _load(path: Path) -> tuple[Any, bool]:
    """The parsed and checked file, and whether it differs from the bytes on disk (external weights taken in)."""
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


def _input_size(path: Path, value: Any, wanted: tuple[int, int] | None) -> tuple[int, int]:
    from onnx import TensorProto

    kind = value.type.tensor_type
    shape = [dim.dim_value if dim.HasField("dim_value") else None for dim in kind.shape.dim]
    shown = "(" + ", ".join(str(dim or "?") for dim in shape) + ")"
    if kind.elem_type != TensorProto.FLOAT:
        name = TensorProto.DataType.Name(kind.elem_type).lower()
        raise ModelError(
            f"{path} takes {name} numbers, expected float32; the engine puts its own preprocessing before it"
        )
    if len(shape) == 4 and shape[3] == 3 and shape[1] != 3:
        raise ModelError(f"{path} takes NHWC input {shown}, expected NCHW (N, 3, height, width); export it with NCHW")
    if len(shape) != 4 or shape[1] not in (3, None):
        raise ModelError(f"{path} takes an input of shape {shown}, expected (N, 3, height, width)")
    fixed = (shape[2], shape[3])
    if wanted is None and None in fixed:
        raise ModelError(f"{path} takes any input size {shown}; say which one with --input-size, as in 112x112")
    size = wanted or (int(shape[2] or 0), int(shape[3] or 0))
    if any(dim not in (None, side) for dim, side in zip(fixed, size, strict=True)):
        raise ModelError(f"{path} takes {shape[3]}x{shape[2]} pixels, not {size[1]}x{size[0]}")
    return size


def _free_batch(proto: Any) -> None:
    """Let the first axis of input and outputs be any length, and drop shapes noted for the fixed one."""
    weights = {weight.name for weight in proto.graph.initializer}
    for value in (*proto.graph.input, *proto.graph.output):
        if value.name not in weights and value.type.tensor_type.shape.dim:
            value.type.tensor_type.shape.dim[0].dim_param = "N"
    del proto.graph.value_info[:]


def _keep_output(proto: Any, name: str) -> None:
    kept = [value for value in proto.graph.output if value.name == name]
    del proto.graph.output[:]
    proto.graph.output.extend(kept)


def _bytes(path: Path, proto: Any) -> bytes:
    try:
        data: bytes = proto.SerializeToString(deterministic=True)
    except ValueError as error:
        raise ModelError(
            f"{path} and its weights are over 2 GiB; ONNX files of that size cannot be imported"
        ) from error
    return data


def _trial(path: Path, data: bytes, name: str, size: tuple[int, int]) -> tuple[list[str], list[Any]]:
    """Run two chips together and one alone: the outputs for two, if the first row agrees."""
    try:
        import onnxruntime
    except ImportError as error:
        raise ModelError("checking a model needs onnxruntime; run: pip install 'faceembed[cpu]'") from error
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    chips = np.random.default_rng(0).uniform(-1, 1, (2, 3, *size)).astype(np.float32)
    try:
        session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]
        both, first = session.run(None, {name: chips}), session.run(None, {name: chips[:1]})
    except Exception as error:  # onnxruntime raises its own classes, derived from nothing but Exception
        reason = str(error).strip().splitlines()[0]
        raise ModelError(f"{path} does not run on a batch of {size[1]}x{size[0]} chips ({reason})") from error
    for output, two, one in zip(names, both, first, strict=True):
        rows = np.shape(two)[:1] == (2,) and np.shape(one)[:1] == (1,)
        if rows and np.ndim(two) == 2 and not np.allclose(two[:1], one, rtol=1e-2, atol=1e-3):
            raise ModelError(f"{path}: output '{output}' of one chip depends on the others in its batch")
    return names, both
