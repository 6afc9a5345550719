"""Layers are left out of INT8 until faces keep their embeddings: as few as it takes, the most harmful first."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import onnx
import pytest

from faceembed.engine.models.graph import GraphWriter
from faceembed.engine.models.spec import ARCFACE_TEMPLATE, Model, ModelSpec
from faceembed.engine.models.store import file_sha256
from faceembed.engine.parity.quantise import Quantised, calibrate, quantise_encoder
from faceembed.engine.runtimes.frontend import normalise, read_graph
from faceembed.engine.runtimes.networks import networks_of
from faceembed.errors import DeviceError


def encoder(path: Path, *, harmful: int = -1, blocks: int = 3) -> Model:
    """Residual blocks with random weights; the first convolution of one may have an input that eight bits do not hold."""
    rng = np.random.default_rng(1)

    def conv(x: str, out: int, into: int, gain: np.ndarray | float = 1.0) -> str:
        weight = rng.normal(size=(out, into, 3, 3)) / np.sqrt(into * 9)
        return writer.conv(x, weight * gain, rng.normal(size=out) / 8, pad=1)

    writer = GraphWriter("net")
    x = writer.node("Relu", [conv(writer.input("chips", ["N", 3, 16, 16]), 8, 3)])
    for block in range(blocks):
        spread = np.ones(8)
        if block == harmful:
            spread[0] = 2000.0  # one channel of its result drowns the others, and the next layer takes that back
        inner = writer.node("Relu", [conv(x, 8, 8, spread[:, None, None, None])])
        x = writer.node("Relu", [writer.node("Add", [conv(inner, 8, 8, 1 / spread[None, :, None, None]), x])])
    x = writer.node("Flatten", [writer.node("GlobalAveragePool", [x])])
    x = writer.node("MatMul", [x, writer.constant(rng.normal(size=(8, 6)).astype(np.float32))])
    writer.output(x, "embedding", ["N", 6])
    path.write_bytes(writer.serialise())
    digest = file_sha256(path)
    spec = ModelSpec(
        "net", "encoder", (16, 16), "rgb", (127.5,) * 3, 1 / 64, 6, template=ARCFACE_TEMPLATE, sha256=digest
    )
    return Model(spec, str(path))


def faces(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 16, 16, 3), dtype=np.uint8)


def quantised(model: Model, rms: float, said: list[str] | None = None) -> Quantised:
    (network,) = networks_of(model)
    heard = [] if said is None else said
    return quantise_encoder(model, network, faces(24), faces(8, 1), allowed=(rms, 9e9), progress=heard.append)


def test_all_layers_where_they_do_no_harm(tmp_path: Path) -> None:
    said: list[str] = []
    made = quantised(encoder(tmp_path / "n.onnx"), 0.2, said)
    assert (made.layers, made.of, made.left, made.faces) == (6, 8, (), 24)
    assert 0 < made.change.rms <= 0.2 and made.change.min_cosine >= 0.99 and said == ["reading activations of 24 faces"]
    assert 0.8 < made.share < 1
    graph = onnx.load_from_string(made.graph).graph
    assert sum(node.op_type == "QuantizeLinear" for node in graph.node) == 6
    assert made.facts == {"layers": 6, "of": 8, "flops": made.share, "faces": 24}


def test_the_harmful_layer_is_left_out(tmp_path: Path) -> None:
    model = encoder(tmp_path / "n.onnx", harmful=1)
    whole = quantised(model, 9e9)
    made = quantised(model, 0.1)
    assert whole.left == () and whole.change.rms > 0.1 >= made.change.rms
    assert made.left[0] == "net.9"  # the convolution that reads the drowned channels
    assert made.layers == 6 - len(made.left) and made.share < whole.share
    assert quantised(model, 0.1) == made  # byte by byte


def test_a_gate_that_nothing_passes(tmp_path: Path) -> None:
    with pytest.raises(
        DeviceError,
        match=r"^net, all 6 layers in int8: INT8 moves similarities by [\d.]+ % of the strangers' spread \(largest [\d.]+ %\) on 32 faces; "
        r"spread 0\.\d{3} estimated on them; allowed are 0 % and 9e\+11 %, and with any one of them more than that; use --precision fp16$",
    ):
        quantised(encoder(tmp_path / "n.onnx"), 0.0)


def test_a_network_without_layers_for_it(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match=r"^net has no layer that may run in int8; use --precision fp16$"):
        quantised(encoder(tmp_path / "n.onnx", blocks=0), 0.1)


def test_scales_cover_what_the_faces_give(tmp_path: Path) -> None:
    model = encoder(tmp_path / "n.onnx")
    chips = normalise(faces(20), model.spec).astype(np.float32)
    few, many = (calibrate(read_graph(model), ["net.2"], part) for part in (chips[:1] * 0.1, chips))
    for rule in ("largest", "least error"):
        assert few[rule].keys() == many[rule].keys() == {"net.1"}
        assert few[rule]["net.1"] < many[rule]["net.1"]
    assert many["least error"]["net.1"] <= many["largest"]["net.1"]


def test_dlibs_encoder(dlib_model: Model, astronaut: np.ndarray) -> None:
    """Real weights on views of a real face."""
    views = np.stack([astronaut[40 + 3 * k : 190 + 3 * k, 140 + 2 * k : 290 + 2 * k] for k in range(8)])
    (network,) = networks_of(dlib_model)
    made = quantise_encoder(dlib_model, network, views, views[:4], allowed=(0.2, 2.0))
    assert made.layers == 28 and made.of == 30 and made.share > 0.9 and made.change.min_cosine >= 0.99
    assert dataclasses.replace(made, graph=b"").left == ()
