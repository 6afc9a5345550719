"""Proves that an ONNX file is an encoder that the engine can run, and mends what is known to keep one from it.

A file is taken as it is where it can be. Where it cannot, these are tried, and the trial run decides: weights that are computed
from others (`float_weights`), a batch of one baked in (`free_batch`), half precision inputs, outputs that are not wanted, and
outputs (N, D, 1, 1).
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from faceembed.engine.models.float_weights import settle
from faceembed.engine.models.fp16 import to_fp32
from faceembed.engine.models.free_batch import free_batch, mend_reshapes
from faceembed.engine.models.onnx_file import bytes_of, load_onnx
from faceembed.errors import ModelError
from faceembed.install import pip_install

_CHIPS = (1, 2, 3)  # batches of a trial: one alone proves nothing, and two may be an axis that is folded in half
_FEWEST = 16  # numbers in an embedding


@dataclasses.dataclass(frozen=True)
class Encoder:
    """An ONNX encoder that runs: batches of any length in, one embedding a row out."""

    data: bytes
    """The file as given, or mended."""
    input_size: tuple[int, int]
    """Height and width in pixels."""
    dimension: int
    normalised: bool
    """Whether the output of a trial run had unit length."""


@dataclasses.dataclass(frozen=True)
class _Output:
    """One output of a trial: what batches of 1, 2 and 3 chips gave."""

    name: str
    batches: tuple[NDArray[Any], ...]

    @property
    def is_embedding(self) -> bool:
        """One row a chip, of enough numbers: (N, D), or (N, D, 1, 1)."""
        shapes = [np.shape(batch) for batch in self.batches]
        flat = all(len(shape) >= 2 and set(shape[2:]) <= {1} and shape[1] >= _FEWEST for shape in shapes)
        return flat and self.has_rows

    @property
    def has_rows(self) -> bool:
        """Whether the first axis is that of the chips."""
        return tuple(np.shape(batch)[:1] for batch in self.batches) == tuple((count,) for count in _CHIPS)

    def __str__(self) -> str:
        return f"{self.name} {np.shape(self.batches[-1])}"


def check_encoder(path: Path, *, input_size: tuple[int, int] | None = None) -> Encoder:
    """Open an ONNX file, and prove with a trial run that it gives one embedding a row, if need be after mending it.

    Args:
        path: the file.
        input_size: (height, width) for a network that takes any size; must agree with one that does not.

    Raises:
        ModelError: not a readable ONNX file, or not an encoder that the engine can feed.
    """
    proto, changed = load_onnx(path)
    if {"cls_8", "kps_8"} <= {output.name for output in proto.graph.output}:
        raise ModelError(f"{path} is YuNet, an aligner; import it with --arch yunet --name NAME alone")
    changed = settle(proto) or changed
    inputs = _inputs(proto)
    if len(inputs) != 1:
        raise ModelError(f"{path} has {len(inputs)} inputs, expected one: a batch of face chips")
    size = _input_size(path, inputs[0], input_size)
    if _takes_half(inputs[0]):
        to_fp32(proto)
        changed = True
    if _inputs(proto)[0].type.tensor_type.shape.dim[0].HasField("dim_value"):
        free_batch(proto)
        changed = True
    try:
        outputs, data = _tried(path, proto, size, changed)
    except _Refused as error:
        if not mend_reshapes(proto):
            raise ModelError(str(error)) from error
        changed = True
        try:
            outputs, data = _tried(path, proto, size, changed)
        except _Refused:
            raise ModelError(str(error)) from error  # what is wrong with the file as it came
    (found,) = [output for output in outputs if output.is_embedding]
    embedding = found.batches[-1].reshape(_CHIPS[-1], -1)
    if not np.isfinite(embedding).all():
        raise ModelError(f"{path} gives numbers that are not finite; the file is damaged or not an encoder")
    if (embedding == embedding[0]).all():
        raise ModelError(f"{path} gives the same numbers for different pictures; the file is damaged or not an encoder")
    if len(outputs) > 1 or found.batches[-1].ndim > 2:
        _keep_output(proto, found)
        data = bytes_of(path, proto)
    unit = bool(np.allclose(np.linalg.norm(embedding, axis=1), 1, atol=1e-3))
    return Encoder(data, size, int(embedding.shape[1]), unit)


class _Refused(Exception):
    """Why a graph is no encoder as it stands; mending may help."""


def _inputs(proto: Any) -> list[Any]:
    weights = {weight.name for weight in proto.graph.initializer}
    return [value for value in proto.graph.input if value.name not in weights]


def _takes_half(value: Any) -> bool:
    from onnx import TensorProto

    return bool(value.type.tensor_type.elem_type == TensorProto.FLOAT16)


def _input_size(path: Path, value: Any, wanted: tuple[int, int] | None) -> tuple[int, int]:
    from onnx import TensorProto

    kind = value.type.tensor_type
    shape = [dim.dim_value if dim.HasField("dim_value") else None for dim in kind.shape.dim]
    shown = "(" + ", ".join(str(dim or "?") for dim in shape) + ")"
    if kind.elem_type not in (TensorProto.FLOAT, TensorProto.FLOAT16):
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


def _keep_output(proto: Any, found: _Output) -> None:
    """Cut all other outputs, and make (N, D) of one that is (N, D, 1, 1)."""
    from onnx import TensorProto, helper

    graph = proto.graph
    name = found.name
    if found.batches[-1].ndim > 2:
        name = f"{found.name}.flat"
        graph.node.append(helper.make_node("Flatten", [found.name], [name]))
    dimension = int(np.prod(found.batches[-1].shape[1:]))
    kept = [value for value in graph.output if value.name == name]
    del graph.output[:]
    graph.output.extend(kept or [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", dimension])])


def _tried(path: Path, proto: Any, size: tuple[int, int], changed: bool) -> tuple[list[_Output], bytes]:
    """Run batches of several lengths: all outputs, exactly one of which is an embedding, and the bytes that were run.

    Raises:
        _Refused: it does not run, or not exactly one output is an embedding.
        ModelError: chips disturb each other, or there is nothing to run it with.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise ModelError(f"checking a model needs onnxruntime; run: {pip_install('cpu')}") from error
    data = bytes_of(path, proto) if changed else path.read_bytes()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    chips = np.random.default_rng(0).uniform(-1, 1, (_CHIPS[-1], 3, *size)).astype(np.float32)
    name = _inputs(proto)[0].name
    try:
        session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]
        runs = [session.run(None, {name: chips[:count]}) for count in _CHIPS]
    except Exception as error:  # onnxruntime raises its own classes, derived from nothing but Exception
        reason = str(error).strip().splitlines()[0]
        raise _Refused(f"{path} does not run on a batch of {size[1]}x{size[0]} chips ({reason})") from error
    outputs = [_Output(output, batches) for output, *batches in zip(names, *runs, strict=True)]  # type: ignore[arg-type]
    for output in outputs:
        if output.is_embedding:
            _check_rows(path, output)
    if sum(output.is_embedding for output in outputs) != 1:
        found = ", ".join(map(str, outputs))
        single = [output for output in outputs if not output.has_rows and np.shape(output.batches[-1])[:1] == (1,)]
        advice = "; it was exported for one chip at a time: export it with a free batch axis" if single else ""
        raise _Refused(
            f"{path} gives {found} for {_CHIPS[-1]} chips; expected one output ({_CHIPS[-1]}, dimension), "
            f"of {_FEWEST} numbers or more a chip{advice}"
        )
    return outputs, data


def _check_rows(path: Path, output: _Output) -> None:
    """Refuse an output in which a chip's row depends on the others in its batch."""
    last = output.batches[-1]
    for batch in output.batches[:-1]:
        if not np.allclose(last[: len(batch)], batch, rtol=1e-2, atol=1e-3):
            raise ModelError(f"{path}: output '{output.name}' of one chip depends on the others in its batch")
