"""A first convolution over blocks of pixels is the same network, whatever its kernel, pads and colours; others keep their pixels as they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from faceembed.engine.models.graph import GraphWriter
from faceembed.engine.models.spec import ARCFACE_TEMPLATE, Model, ModelSpec
from faceembed.engine.native import _native
from faceembed.engine.runtimes.base import RuntimeChoice
from faceembed.engine.runtimes.onnxruntime import OnnxRuntimeSession
from faceembed.engine.runtimes.openvino import OpenVinoSession
from faceembed.engine.runtimes.packing import Packing, with_packed_input

MEAN = (120.0, 110.0, 100.0)
CHOICE = RuntimeChoice("openvino", "cpu", "fp32", "test")


def network(
    folder: Path,
    *,
    kernel: int = 4,
    stride: int = 4,
    pads: tuple[int, int, int, int] = (0, 0, 0, 0),
    colour: Any = "rgb",
    sides: tuple[int | str, int | str] = (16, 16),
    task: Any = "encoder",
    also: bool = False,
    **attributes: Any,
) -> Model:
    """One convolution, its answers averaged; ``also``: something else reads the pixels too."""
    random = np.random.default_rng(0)
    writer = GraphWriter("net")
    chips = writer.input("chips", ["N", 3, *sides])
    weight = writer.constant(random.normal(size=(5, 3, kernel, kernel)).astype(np.float32))
    bias = writer.constant(random.normal(size=5).astype(np.float32))
    given = {"pads": list(pads), **attributes}
    x = writer.node("Conv", [chips, weight, bias], strides=[stride, stride], **given)
    x = writer.node("GlobalAveragePool", [writer.node("Relu", [x])])
    if also:
        most = writer.node("GlobalMaxPool", [chips])
        x = writer.node("Concat", [x, most], axis=1)
    writer.output(writer.node("Flatten", [x]), "embedding", ["N", 8 if also else 5])
    path = folder / f"{kernel}-{stride}-{'-'.join(map(str, pads))}-{colour}-{also}.onnx"
    path.write_bytes(writer.serialise())
    template = tuple((x / 8, y / 8) for x, y in ARCFACE_TEMPLATE)
    spec = ModelSpec(
        "net", task, (16, 16), dimension=5, template=template, mean=MEAN, scale=1 / 64, colour=colour, sha256=""
    )
    return Model(spec, str(path))


def pixels(count: int = 3, side: int = 16) -> np.ndarray[Any, Any]:
    return np.random.default_rng(count).integers(0, 256, (count, side, side, 3)).astype(np.uint8)


@pytest.mark.parametrize("colour", ["rgb", "bgr"])
@pytest.mark.parametrize(
    ("kernel", "stride", "pads"),
    [
        (4, 4, (0, 0, 0, 0)),
        (7, 2, (0, 0, 0, 0)),
        (7, 2, (3, 3, 3, 3)),
        (6, 2, (2, 2, 2, 2)),
        (3, 2, (1, 1, 1, 1)),
        (3, 2, (0, 0, 1, 1)),
        (3, 2, (1, 0, 0, 1)),
        (1, 2, (0, 0, 0, 0)),
        (5, 4, (2, 2, 2, 2)),
        (9, 8, (1, 3, 0, 2)),
    ],
)
def test_it_is_the_same_network(
    tmp_path: Path, kernel: int, stride: int, pads: tuple[int, int, int, int], colour: str
) -> None:
    model = network(tmp_path, kernel=kernel, stride=stride, pads=pads, colour=colour)
    session = OpenVinoSession(model, CHOICE, threads=1)
    assert session._packing is not None and session._packing.step == stride
    wanted = OnnxRuntimeSession(model, CHOICE, threads=1).run(pixels())[0]
    np.testing.assert_allclose(session.run(pixels())[0], wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "kept",
    [
        pytest.param({"stride": 1, "kernel": 3}, id="no stride"),
        pytest.param({"stride": 3, "kernel": 3}, id="a stride of 3"),
        pytest.param({"stride": 2, "sides": (15, 16)}, id="sides that are no multiples"),
        pytest.param({"also": True}, id="another reader of the pixels"),
        pytest.param({"dilations": [2, 2]}, id="dilated"),
    ],
)
def test_others_take_their_pixels_as_they_are(tmp_path: Path, kept: dict[str, Any]) -> None:
    assert with_packed_input(network(tmp_path, **kept), half=False) is None


@pytest.mark.parametrize("task", ["encoder", "aligner"])
def test_free_sides(tmp_path: Path, task: str) -> None:
    model = network(tmp_path, kernel=3, stride=2, pads=(1, 1, 1, 1), sides=("height", "width"), task=task)
    session = OpenVinoSession(model, CHOICE, threads=1)
    assert session._packing is not None
    for side in (16, 32):
        wanted = OnnxRuntimeSession(model, CHOICE, threads=1).run(pixels(2, side))[0]
        np.testing.assert_allclose(session.run(pixels(2, side))[0], wanted, rtol=1e-4, atol=1e-4)


@given(
    step=st.sampled_from([1, 2, 3, 4, 8]),
    rows=st.integers(1, 5),
    columns=st.integers(1, 9),
    count=st.integers(0, 3),
    half=st.booleans(),
    seed=st.integers(0, 99),
)
@settings(max_examples=60, deadline=None)
def test_packed_pixels_by_numpy(step: int, rows: int, columns: int, count: int, half: bool, seed: int) -> None:
    given = np.random.default_rng(seed).integers(0, 256, (count, rows * step, columns * step, 3)).astype(np.uint8)
    found = Packing(step, MEAN, 1 / 64, half).pack(given)
    values = (given.astype(np.float32) - np.array(MEAN, np.float32)) * np.float32(1 / 64)
    blocks = values.reshape(count, rows, step, columns, step, 3).transpose(0, 1, 3, 2, 4, 5)
    wanted = np.ascontiguousarray(blocks.reshape(count, rows, columns, 3 * step**2))
    if half:
        bits = wanted.view(np.uint32)
        wanted = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    assert found.dtype == wanted.dtype
    np.testing.assert_array_equal(found, wanted)


def test_sides_that_are_no_multiples_are_refused() -> None:
    mean = np.zeros(3, np.float32)
    with pytest.raises(ValueError, match="sides of pictures must be multiples of 4, but are 16 and 18"):
        _native.pack(np.zeros((1, 16, 18, 3), np.uint8), 4, mean, 1.0, half=True)
    with pytest.raises(TypeError, match="pixels must be uint8"):
        _native.pack(np.zeros((1, 16, 16, 3), np.float32), 4, mean, 1.0, half=True)  # type: ignore[arg-type]
