"""TensorRT for RTX computes the layers that were quantised in INT8: said by itself, of real plans, without a card."""

from __future__ import annotations

import re
from typing import Any

import pytest

from faceembed.engine.models.int8 import candidates, quantise, raised, tensors_of
from faceembed.engine.models.spec import Model
from faceembed.engine.runtimes.frontend import read_graph
from faceembed.engine.runtimes.networks import graph_of, networks_of


def layers_of(graph: bytes, target: str) -> list[str]:
    """The layers of a plan in TensorRT's words, which it logs while it builds; its inspector needs a card."""
    trt = pytest.importorskip("tensorrt_rtx")

    class Log(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.lines: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            self.lines += message.splitlines()

    log = Log()
    builder = trt.Builder(log)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, log)
    assert parser.parse(graph)
    config = builder.create_builder_config()
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    profile = builder.create_optimization_profile()
    given = network.get_input(0)
    profile.set_shape(given.name, *((count, *given.shape[1:]) for count in (1, 64, 128)))
    config.add_optimization_profile(profile)
    config.num_compute_capabilities = 1
    config.set_compute_capability(getattr(trt.ComputeCapability, target.upper()), 0)
    assert builder.build_serialized_network(network, config) is not None
    return [line for line in log.lines if "LayerType: " in line]


@pytest.mark.parametrize("target", ["sm86", "sm89", "sm120"])
def test_every_quantised_convolution_is_int8(dlib_model: Model, target: str) -> None:
    """28 convolutions of dlib's encoder, the first stays half precision; only their results matter to no one here."""
    (network,) = networks_of(dlib_model)
    proto = raised(read_graph(dlib_model))
    layers = candidates(proto)
    scales = dict.fromkeys(tensors_of(proto, layers), 0.05)
    lines = layers_of(graph_of(dlib_model, network, "int8", base=quantise(proto, scales, layers)), target)
    convolutions = [line.partition("Outputs:")[0] for line in lines if "LayerType: correlation" in line]
    kinds = [set(re.findall(r"Dimensions: \[(?!1,)[^\]]*,[^\]]*\][^}]*Datatype: (\w+)", line)) for line in convolutions]
    assert len(convolutions) == 29 and len(layers) == 28
    assert kinds.count({"Int8"}) == 28 and kinds.count({"Half"}) == 1  # both what they read and their weights
