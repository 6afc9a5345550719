"""A network as PyTorch's exporter writes it: an ONNX graph that says nothing of the machine it was made on."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from faceembed.engine.models.spec import ModelSpec
from faceembed.errors import ModelError
from faceembed.install import pip_install

_OPSET = 18
_IR_VERSION = 8  # the first that knows this opset, so that older runtimes read it


@contextlib.contextmanager
def at_rest(model: nn.Module) -> Iterator[None]:
    """The network in eval mode, and as it was afterwards."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def to_onnx(model: nn.Module, spec: ModelSpec) -> Any:
    """The network as an fp32 ONNX ``ModelProto``: input ``chips`` (N, 3, H, W), output ``embedding`` (N, D)."""
    device = next(model.parameters()).device
    example = torch.zeros(2, 3, *spec.input_size, device=device)
    try:
        with _quiet():
            program = torch.onnx.export(
                _Exported(model),
                (example,),
                input_names=["chips"],
                output_names=["embedding"],
                dynamic_shapes=({0: torch.export.Dim("N")},),
                opset_version=_OPSET,
                dynamo=True,
                verbose=False,
            )
    except ImportError as error:
        raise ModelError(f"exporting needs onnxscript; run: {pip_install('train')}") from error
    except torch.onnx.errors.OnnxExporterError as error:
        reason = (str(error).strip().splitlines() or ["no reason given"])[0]
        raise ModelError(f"PyTorch cannot export this network ({reason})") from error
    if program is None:
        raise ModelError("PyTorch gave no ONNX program for this network")
    proto = program.model_proto
    _strip(proto)
    return proto


class _Exported(nn.Module):
    """Names the one input, whatever the network calls it."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, chips: Tensor) -> Tensor:
        return self.model(chips)  # type: ignore[no-any-return]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """PyTorch's exporter warns of its own insides and of packages that are not needed here."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _strip(proto: Any) -> None:
    """Take out what the exporter notes of this machine: source lines, paths, names of its passes."""
    proto.ir_version = _IR_VERSION
    graph = proto.graph
    del proto.metadata_props[:]
    del graph.value_info[:]
    for part in (graph, *graph.node, *graph.input, *graph.output, *graph.initializer):
        part.doc_string = ""
        del part.metadata_props[:]
