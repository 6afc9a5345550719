"""SFace made slim: what is taken over computes what SFace computes there, and the rest is refused or left as it is."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from faceembed.engine.models import sface
from faceembed.errors import ModelError
from faceembed.trainer.backbones.checkpoints import load_encoder
from faceembed.trainer.backbones.slimface import SlimFace, load_sface

MAPS = ("conv_7_relu", "conv_8_dw_batchnorm", "conv_12_relu", "conv_13_dw_batchnorm", "conv_14_relu", "fc1")


@pytest.fixture(scope="module")
def graph() -> Any:
    return sface.package_graph()


@pytest.fixture(scope="module")
def seen(graph: Any) -> dict[str, torch.Tensor]:
    """SFace's inner values for two smooth pictures."""
    cut = onnx.ModelProto()
    cut.CopyFrom(graph)
    cut.graph.ClearField("output")
    cut.graph.output.extend(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in MAPS)
    rows, columns = np.mgrid[:112, :112] / 20
    waves = [[np.sin(rows * (k + 1) + c) + np.cos(columns * (2 - c) + k) for c in range(3)] for k in range(2)]
    chips = (128 + 50 * np.array(waves)).clip(0, 255).astype(np.float32)
    session = onnxruntime.InferenceSession(cut.SerializeToString(), providers=["CPUExecutionProvider"])
    return dict(zip(MAPS, map(torch.from_numpy, session.run(None, {session.get_inputs()[0].name: chips})), strict=True))


def apart(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return float((ours - theirs).abs().max() / theirs.abs().max())


@torch.no_grad()
def test_layers_taken_over_are_sfaces(graph: Any, seen: dict[str, torch.Tensor]) -> None:
    model = SlimFace(last=1024)  # as many channels as SFace has: none is left out
    load_sface(model, graph)
    assert apart(model.middle[0](seen["conv_7_relu"]), seen["conv_8_dw_batchnorm"]) < 1e-5
    assert apart(model.tail[0](seen["conv_12_relu"]), seen["conv_13_dw_batchnorm"]) < 1e-5
    assert apart(model.fc(seen["conv_14_relu"].flatten(1)), seen["fc1"]) < 1e-5


@torch.no_grad()
def test_half_of_the_last_channels_are_some_of_sfaces(graph: Any) -> None:
    whole, half = SlimFace(last=1024), SlimFace()
    load_sface(whole, graph)
    load_sface(half, graph)
    assert isinstance(whole.tail[2], nn.Conv2d) and isinstance(half.tail[2], nn.Conv2d)
    every = [row.tobytes() for row in whole.tail[2].weight.numpy()]
    kept = [every.index(row.tobytes()) for row in half.tail[2].weight.numpy()]
    assert len(kept) == 512 and kept == sorted(set(kept))
    assert torch.equal(half.fc.bias, whole.fc.bias)


@torch.no_grad()
def test_the_front_and_another_dimension_are_left_alone(graph: Any) -> None:
    torch.manual_seed(3)
    model = SlimFace(64)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    load_sface(model, graph)
    same = {name for name, value in model.state_dict().items() if torch.equal(value, before[name])}
    assert same == {name for name in before if name.startswith(("front.", "fc."))}


def test_another_graph_is_refused(graph: Any) -> None:
    other = onnx.ModelProto()
    other.CopyFrom(graph)
    for node in other.graph.node:
        node.output[0] = node.output[0].replace("conv_10_", "layer_")
        node.input[:] = [name.replace("conv_10_", "layer_") for name in node.input]
    for weight in other.graph.initializer:
        weight.name = weight.name.replace("conv_10_", "layer_")
    with pytest.raises(ModelError, match="not SFace's graph"):
        load_sface(SlimFace(), other)


def test_start_by_name() -> None:
    model, spec, arch = load_encoder("sface")
    assert (arch, spec.name, spec.dimension, spec.input_size) == ("slimface", "slimface", 128, (112, 112))
    assert isinstance(model, SlimFace) and not model.training
    with pytest.raises(ModelError, match="sface can start a 'slimface', not 'ir18'"):
        load_encoder("sface", arch="ir18")
