"""Whether the runtimes of this machine compute a network as ONNX defines it.

They need not: OpenVINO 2026.4 takes a valid file, says nothing, and leaves the antialiasing out of Resize, or gives to channels the
slopes of a PRelu that ONNX gives to columns. So each runtime is compared with ``onnx.reference`` on a few chips when a model is
imported, and one that differs is not used for it (`ModelSpec.unfit`).

    spec = checked(data, spec, notice=print)
"""

from __future__ import annotations

import dataclasses
import importlib.util
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from faceembed.engine.models.spec import Model, ModelSpec
from faceembed.engine.runtimes.base import RuntimeChoice
from faceembed.engine.runtimes.choose import TITLES, runtime_version
from faceembed.engine.runtimes.frontend import PIXELS, with_pixel_input
from faceembed.engine.runtimes.sessions import open_session
from faceembed.errors import DeviceError, ModelError

Notice = Callable[[str], None]
MOST_APART = 0.005
"""Largest distance of an embedding from the one that ONNX defines, as a share of its length. What fp32 rounds away is 1e-5 at most
in the encoders here; one layer that is computed otherwise gives 0.01 and more."""
_CHIPS = 2


def checked(data: bytes, spec: ModelSpec, *, notice: Notice = lambda line: None) -> ModelSpec:
    """Compare every runtime at hand with ONNX's own definition.

    Args:
        data: an ONNX encoder: any batch, one output.
        spec: what pixels it takes.
        notice: told, in a line each, of a runtime that differs, and of a network that the definition cannot be run for.

    Returns:
        The spec, with the runtimes in `unfit` that compute something else.

    Raises:
        ModelError: no runtime here computes this network.
    """
    pixels = _pixels(spec)
    with tempfile.TemporaryDirectory(prefix="faceembed-") as folder:
        path = Path(folder) / "model.onnx"
        path.write_bytes(data)
        model = Model(dataclasses.replace(spec, unfit=()), str(path))
        try:
            wanted = _by_definition(model, pixels)
        except Exception as error:  # noqa: BLE001 - the reference has no class of its own for what it does not know
            notice(
                f"{spec.name}: not compared with ONNX's definition, which cannot be run for it ({_first_line(error)})"
            )
            return spec
        wrong = {}
        here = [name for name in TITLES if importlib.util.find_spec(name)]
        for name in here:
            if reason := _otherwise(model, name, pixels, wanted):
                wrong[name] = reason
    for name, reason in wrong.items():
        notice(f"{spec.name}: {reason}, so {TITLES[name]} is not used for this model")
    if len(wrong) == len(here):
        raise ModelError(
            f"{spec.name}: no runtime here computes it ({'; '.join(wrong.values())}); export it with other operators"
        )
    return dataclasses.replace(spec, unfit=tuple(wrong))


def _otherwise(model: Model, name: str, pixels: NDArray[np.uint8], wanted: NDArray[np.float32]) -> str:
    """What a runtime computes otherwise, in words; empty where it agrees."""
    choice = RuntimeChoice(name, "cpu", "fp32", "compared with ONNX's definition")
    title = f"{TITLES[name]} {runtime_version(choice).partition('-')[0]}"
    try:
        found = open_session(model, choice, threads=1).run(pixels)[0].reshape(len(pixels), -1)
    except (DeviceError, RuntimeError) as error:
        return f"{title} cannot run it ({_first_line(error)})"
    if found.shape != wanted.shape:
        return f"{title} gives {found.shape[1]} numbers a chip where ONNX defines {wanted.shape[1]}"
    lengths = np.maximum(np.linalg.norm(wanted, axis=1), 1e-12)
    apart = float((np.linalg.norm(found - wanted, axis=1) / lengths).max())
    if apart <= MOST_APART:  # NaN is not
        return ""
    return f"{title} computes it otherwise than ONNX defines it (embeddings {100 * apart:.1f} % of their length apart)"


def _pixels(spec: ModelSpec) -> NDArray[np.uint8]:
    """Two pictures, coarse and fine at once, of no symmetry: what a runtime leaves out must show in one of them."""
    random = np.random.default_rng(2026)
    height, width = spec.input_size
    pixels = np.zeros((_CHIPS, height, width, 3))
    for size in (1, 4, 16):
        blocks = random.uniform(0, 85, (_CHIPS, -(-height // size), -(-width // size), 3))
        pixels += blocks.repeat(size, 1).repeat(size, 2)[:, :height, :width]
    return pixels.astype(np.uint8)


def _by_definition(model: Model, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    import onnx
    from onnx.reference import ReferenceEvaluator

    graph: Any = onnx.load_from_string(with_pixel_input(model))
    output = ReferenceEvaluator(graph).run(None, {PIXELS: pixels})[0]
    return np.asarray(output, np.float32).reshape(len(pixels), -1)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
