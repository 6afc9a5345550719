"""Which layers of an encoder run in INT8: as many as real faces allow, the most harmful ones left in half precision.

    made = quantise_encoder(model, network, faces, others)
    made.graph, made.layers, made.share

The scales come from faces that the network sees in fp32, by the better of two rules: nothing clipped, or least squared error. (Of
dlib-resnet on 128 other faces the smallest cosine is 0.9987 by the first and 0.9958 by the second, the mean 0.9996 by both; clipping
the largest of 10,000 values gave 0.9871.) If the whole then differs too much from fp32, each layer is quantised alone
to see what harm it does, and the fewest of the most harmful that make the rest pass are left out, found by halving. All is counted in
float32 on the CPU, so the same faces give the same graph on every machine.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from faceembed.engine.models.flops import flops_by_layer
from faceembed.engine.models.int8 import BINS, candidates, full_scale, quantise, raised, scale_of, tensors_of
from faceembed.engine.models.spec import Model
from faceembed.engine.parity.rule import Change, Gate, limits, refusal
from faceembed.engine.runtimes.base import RuntimeChoice
from faceembed.engine.runtimes.frontend import normalise, read_graph
from faceembed.engine.runtimes.networks import Network, graph_of
from faceembed.engine.runtimes.onnxruntime import GraphSession, open_graph
from faceembed.errors import DeviceError

PROBED = 16  # faces that tell how much harm a layer does
_CHUNK = 8  # chips in one run: of all activations at once, this many fit anywhere
_REFERENCE = RuntimeChoice("onnxruntime", "cpu", "fp32", "int8, before it is built")
Progress = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class Quantised:
    """An encoder's graph in INT8 and half precision."""

    graph: bytes
    """For TensorRT: `networks.graph_of` of it."""
    layers: int
    """Layers in INT8."""
    of: int
    """Convolutions, matrix products and fully connected layers in all."""
    share: float
    """Share of the floating-point operations that runs in INT8."""
    faces: int
    """Faces that the scales come from."""
    change: Change
    """What it does to similarities of all faces, those of the scales too."""
    left: tuple[str, ...]
    """Layers that could be quantised and would harm, the most harmful first."""

    @property
    def facts(self) -> dict[str, float]:
        """For the engine file."""
        return {"layers": self.layers, "of": self.of, "flops": self.share, "faces": self.faces}


def quantised_line(facts: dict[str, float]) -> str:
    """How much of a network runs in INT8, in words."""
    return (
        f"int8: {facts['layers']:.0f} of {facts['of']:.0f} layers with {100 * facts['flops']:.0f} % of the operations, the rest fp16; "
        f"scales from {facts['faces']:.0f} faces"
    )


def quantise_encoder(
    model: Model,
    network: Network,
    calibration: NDArray[np.uint8],
    checked: NDArray[np.uint8],
    *,
    allowed: tuple[float, float] | None = None,
    progress: Progress = lambda what: None,
) -> Quantised:
    """Quantise what may be.

    Args:
        model: an encoder on disk.
        network: its one network.
        calibration: uint8 RGB (N, H, W, 3), faces cut for it, that the scales come from.
        checked: the same, faces that the result must keep as they are; those of ``calibration`` are checked too.
        allowed: root mean square and largest change of similarities, in units of the strangers' spread; the precision gate's if None.
        progress: told what is being done.

    Raises:
        DeviceError: no layer can be quantised, or none without more harm than allowed; the message has the figures.
        ModelError: the model is damaged, or its graph cannot be brought to an opset that quantises.
    """
    allowed = allowed or limits("int8")
    proto = raised(read_graph(model))
    flops = flops_by_layer(raised(proto), model.spec.input_size, where=model.path)
    layers = [name for name in candidates(proto) if name in flops]
    if not layers:
        raise DeviceError(f"{model.spec.name} has no layer that may run in int8; use --precision fp16")
    progress(f"reading activations of {len(calibration)} faces")
    rules = calibrate(proto, layers, normalise(calibration, model.spec).astype(np.float32))
    trial, worst = _better(model, network, proto, layers, rules, np.concatenate([checked, calibration]))
    left: list[str] = []
    if not _within(worst, allowed):
        order = _most_harmful_first(trial, layers, progress)
        left = order[: _fewest(trial, layers, order, allowed, progress)]
    kept = [name for name in layers if name not in left]
    if not kept:
        raise DeviceError(
            f"{model.spec.name}, all {len(layers)} layers in int8: {refusal(worst, 'int8', allowed)}, and with any one of them more than "
            "that; use --precision fp16"
        )
    return Quantised(
        trial.graph(kept),
        layers=len(kept),
        of=len(flops),
        share=sum(flops[name] for name in kept) / sum(flops.values()),
        faces=len(calibration),
        change=trial.change(kept) if left else worst,
        left=tuple(left),
    )


def calibrate(proto: Any, layers: Collection[str], chips: NDArray[np.float32]) -> dict[str, dict[str, float]]:
    """The scales of the activations that quantising some layers takes, by either rule: ``largest`` and ``least error``.

    Args:
        proto: a float32 graph of one input.
        layers: the layers.
        chips: float32 (N, 3, H, W) what the network takes.
    """
    names = tensors_of(proto, layers)
    largest = dict.fromkeys(names, 0.0)
    for name, values in _activations(proto, names, chips):
        largest[name] = max(largest[name], float(np.abs(values).max(initial=0)))
    histograms = {name: np.zeros(BINS, np.int64) for name in names}
    for name, values in _activations(proto, names, chips):
        if largest[name] > 0:
            places = (np.abs(values).ravel() * np.float32(BINS / largest[name])).astype(np.int32)
            histograms[name] += np.bincount(np.minimum(places, BINS - 1), minlength=BINS)
    return {
        "largest": {name: full_scale(largest[name]) for name in names},
        "least error": {name: scale_of(histograms[name], largest[name]) for name in names},
    }


def _activations(
    proto: Any, names: Collection[str], chips: NDArray[np.float32]
) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Tensors inside a graph, for a few chips at a time."""
    from onnx import helper

    shown = type(proto).FromString(proto.SerializeToString())
    outputs = {value.name for value in shown.graph.output}
    shown.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in names if name not in outputs)
    session = open_graph(shown.SerializeToString())
    (given,) = session.get_inputs()
    for start in range(0, len(chips), _CHUNK):
        yield from zip(names, session.run(list(names), {given.name: chips[start : start + _CHUNK]}), strict=True)


class _Trial:
    """What a choice of layers does to the embeddings of some faces."""

    def __init__(
        self, model: Model, network: Network, proto: Any, scales: dict[str, float], faces: NDArray[np.uint8]
    ) -> None:
        self._model = model
        self._network = network
        self._proto = proto
        self._scales = scales
        exact = graph_of(model, network, "fp32", base=raised(proto))
        self._gate = Gate(model.spec, faces, self._embed_with(exact), faces=len(faces))
        self._probe = Gate(model.spec, faces[-PROBED:], self._embed_with(exact), faces=PROBED)

    def graph(self, layers: Collection[str]) -> bytes:
        """The graph for TensorRT with these layers in INT8."""
        return graph_of(self._model, self._network, "int8", base=quantise(self._proto, self._scales, layers))

    def change(self, layers: Collection[str]) -> Change:
        """What they do to similarities of all faces."""
        return self._gate.measure(self._embed_with(self.graph(layers)))

    def harm(self, layer: str) -> float:
        """How far one layer alone moves similarities of a few faces, root mean square."""
        return _size(self._probe.measure(self._embed_with(self.graph([layer]))))

    def _embed_with(self, graph: bytes) -> Callable[[NDArray[np.uint8]], NDArray[np.float32]]:
        session = GraphSession(self._model, self._network, graph, _REFERENCE)

        def embed(faces: NDArray[np.uint8]) -> NDArray[np.float32]:
            starts = range(0, len(faces), 4 * _CHUNK)
            return np.concatenate([session.run(faces[start : start + 4 * _CHUNK])[0] for start in starts])

        return embed


def _size(change: Change) -> float:
    return change.rms if np.isfinite(change.rms) else np.inf


def _within(change: Change, allowed: tuple[float, float]) -> bool:
    return change.lost == 0 and change.rms <= allowed[0] and change.largest <= allowed[1]


def _better(
    model: Model,
    network: Network,
    proto: Any,
    layers: list[str],
    rules: dict[str, dict[str, float]],
    faces: NDArray[np.uint8],
) -> tuple[_Trial, Change]:
    """The rule of scales that moves similarities less with all layers in INT8, and by how much."""
    trials = [_Trial(model, network, proto, scales, faces) for scales in rules.values()]
    changes = [trial.change(layers) for trial in trials]
    place = int(np.argmin([_size(change) for change in changes]))
    return trials[place], changes[place]


def _most_harmful_first(trial: _Trial, layers: list[str], progress: Progress) -> list[str]:
    harms = {}
    for number, name in enumerate(layers, 1):
        progress(f"harm of layer {number} of {len(layers)}")
        harms[name] = trial.harm(name)
    return sorted(layers, key=lambda name: (-harms[name], name))


def _fewest(
    trial: _Trial, layers: list[str], order: list[str], allowed: tuple[float, float], progress: Progress
) -> int:
    """How many of the most harmful layers must be left out, found by halving; all of them if nothing less helps."""
    fails, passes = 0, len(layers)
    while passes - fails > 1:
        middle = (fails + passes) // 2
        progress(f"without the {middle} most harmful of {len(layers)} layers")
        if _within(trial.change([name for name in layers if name not in order[:middle]]), allowed):
            passes = middle
        else:
            fails = middle
    return passes
