"""A real engine of the largest network that is trained here, IR-101 with random weights, for every card, without one."""

from __future__ import annotations

import dataclasses
import warnings
from pathlib import Path

import pytest
import torch

from faceembed.engine.models.spec import Model
from faceembed.engine.runtimes.flavours import AHEAD, load
from faceembed.engine.runtimes.networks import graph_of, networks_of
from faceembed.engine.runtimes.profile import Profile
from faceembed.engine.runtimes.trt_build import build_plan, why_malformed
from faceembed.trainer.backbones.registry import build, find


def test_ir101(tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    network, path = build("ir101").eval(), tmp_path / "ir101.onnx"
    weights = sum(parameter.numel() for parameter in network.parameters())
    example = torch.zeros(1, 3, 112, 112)
    free = {"chips": {0: "N"}, "embedding": {0: "N"}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the older exporter, which takes half the time
        torch.onnx.export(
            network,
            (example,),
            path,
            input_names=["chips"],
            output_names=["embedding"],
            dynamic_axes=free,
            dynamo=False,
        )
    model = Model(dataclasses.replace(find("ir101").spec, name="ir101"), str(path))
    (encode,) = networks_of(model)
    flavour = load("tensorrt_rtx")
    plan = build_plan(graph_of(model, encode, "fp16"), [Profile((1, 64, 128))], flavour=flavour, targets=AHEAD)
    assert why_malformed(plan, flavour) == ""
    assert weights > 60_000_000 and 2 * weights < len(plan) < 2.2 * weights  # in half precision, once for all cards
