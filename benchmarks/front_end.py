"""Where a photo's processor time goes before and in the encoder, part by part, and how near its networks are to what the core can do.

    python benchmarks/front_end.py                                   # LFW and people_wild, 1,500 photos each
    python benchmarks/front_end.py ~/photos --count 500 --rounds 3

How. One process, one core, one thread: batches go through the pipeline's own functions, each wrapped by a clock of processor time
(`time.process_time`), so that load beside it matters little. The first batch of every shape, which compiles, does not count: all photos
run once before. Medians over rounds; the rest of a batch's time that no part claims is Python's and NumPy's own ("all else").

The peak is that of a matrix product of the same runtime in the same process: 2,048 x 2,048 by 2,048, in fp32, in BF16 and in INT8
(Q/DQ). A network's share of it is the operations that its graph needs for the inputs that it was given, padding counted, by its time.

Not measured: start-up, writing the table and the index, reading from a cold disk, two threads that share memory.
"""

from __future__ import annotations

import argparse
import collections
import functools
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import common
import numpy as np
from common import BenchmarkError

from faceembed.engine.detect import canvas, oneshot, refine
from faceembed.engine.models.flops import flops_by_layer
from faceembed.engine.models.graph import GraphWriter
from faceembed.engine.models.oneshot import OUTPUTS, REFINED
from faceembed.engine.models.spec import Model
from faceembed.engine.photos.listing import list_photos
from faceembed.engine.pipeline import finder, intake
from faceembed.engine.pipeline.loading import open_pipeline, resolve_models
from faceembed.engine.pipeline.settings import EmbedSettings
from faceembed.engine.runtimes import frontend
from faceembed.engine.runtimes.choose import RuntimeSettings

SETS = ("lfw", "people_wild")
SIDE = 2048  # of the matrices
PARTS = (
    "read and probe",
    "decode",
    "canvas",
    "first look, network",
    "second look, network",
    "answers and merging",
    "refiner, warp",
    "refiner, network",
    "chip warp",
    "encoder",
    "all else",
)


class Clock:
    """Processor seconds by part; a part within another is taken out of it."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = collections.defaultdict(float)
        self.calls: dict[str, int] = collections.defaultdict(int)
        self._inner = [0.0]

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Count what the block takes, without the parts inside it."""
        started = time.process_time()
        self._inner.append(0.0)
        try:
            yield
        finally:
            took = time.process_time() - started
            self.seconds[name] += took - self._inner.pop()
            self._inner[-1] += took

    def wrapped(self, name: str | Callable[..., str], work: Callable[..., Any]) -> Callable[..., Any]:
        """The same function, counted; the name may depend on its arguments."""

        @functools.wraps(work)
        def counted(*args: Any, **kwargs: Any) -> Any:
            label = name if isinstance(name, str) else name(*args, **kwargs)
            with self.part(label):
                return work(*args, **kwargs)

        return counted


class Counted:
    """A session whose runs are counted, with the operations that they needed."""

    def __init__(
        self, clock: Clock, session: Any, model: Model, name: Callable[[], str], outputs: Sequence[str] = ()
    ) -> None:
        self._clock, self._session, self._model, self._name, self._outputs = clock, session, model, name, outputs
        self._flops: dict[tuple[int, int], int] = {}
        self.done: dict[str, float] = collections.defaultdict(float)

    def run(self, pixels: Any) -> Any:
        """As the session does."""
        name, size = self._name(), (pixels.shape[1], pixels.shape[2])
        if size not in self._flops:
            graph = frontend.read_graph(self._model)
            graph = frontend.cut(graph, self._outputs, self._model) if self._outputs else graph
            self._flops[size] = sum(flops_by_layer(graph, size, where=self._model.path).values())
        self.done[name] += self._flops[size] * len(pixels)
        with self._clock.part(name):
            return self._session.run(pixels)


def measure(folder: Path, *, count: int, rounds: int, settings: EmbedSettings) -> dict[str, Any]:
    """Microseconds a photo by part, and operations a second of each network."""
    models = resolve_models(settings)
    photos = list(list_photos([folder]).photos)
    photos = photos[:: max(len(photos) // count, 1)][:count]
    pipeline = open_pipeline(settings, models, photos, notice=lambda line: None)
    detector = pipeline.detector
    if models.aligner is None or not isinstance(detector, oneshot.OneShotDetector):
        raise BenchmarkError("front_end.py takes aligners of kind one-shot apart, and no other")
    clock, look = Clock(), ["first look, network"]
    nets = {
        "aligner": Counted(clock, detector._session, models.aligner, lambda: look[0], OUTPUTS),
        "refiner": Counted(clock, detector._refiner, models.aligner, lambda: "refiner, network", (REFINED,)),
        "encoder": Counted(clock, pipeline.encoder.session, models.encoder, lambda: "encoder"),
    }
    detector._session, detector._refiner = nets["aligner"], nets["refiner"]
    pipeline.encoder._session = nets["encoder"]
    detect, seen = detector.detect, detector._look

    def looking(*args: Any) -> Any:
        found = seen(*args)
        look[0] = "second look, network"
        return found

    def detecting(*args: Any, **kwargs: Any) -> Any:
        look[0] = "first look, network"
        return detect(*args, **kwargs)

    with _patched(
        (detector, "detect", detecting),
        (detector, "_look", looking),
        (detector, "_read", clock.wrapped("answers and merging", detector._read)),
        (canvas, "paint", clock.wrapped("canvas", canvas.paint)),
        (refine, "_native", _Natives(refine._native, clock)),
        (finder, "warp_chips", clock.wrapped("chip warp", finder.warp_chips)),
        (intake, "decode", clock.wrapped("decode", intake.decode)),
    ):
        turns = [_turn(pipeline, photos, clock, nets) for _ in range(rounds + 1)][1:]
    rows = {name: median(turn["seconds"].get(name, 0.0) for turn in turns) * 1e6 / len(photos) for name in PARTS}
    rates = {name: median(turn["rates"].get(name, 0.0) for turn in turns) for name in turns[0]["rates"]}
    return {"photos": len(photos), "faces": turns[0]["faces"], "microseconds": rows, "flops_per_second": rates}


class _Natives:
    """The native module as `refine` sees it, its warp counted."""

    def __init__(self, module: Any, clock: Clock) -> None:
        self._module = module
        self.warp_many = clock.wrapped("refiner, warp", module.warp_many)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


def _turn(pipeline: Any, photos: list[Any], clock: Clock, nets: dict[str, Counted]) -> dict[str, Any]:
    """All photos once."""
    clock.seconds.clear()
    for net in nets.values():
        net.done.clear()
    faces = 0
    for group in pipeline.cutter.intake.groups(photos):
        with clock.part("all else"):
            with clock.part("read and probe"):
                read = [pipeline.cutter.intake.read_one(photo) for photo in group]
            for part in intake.split(read):
                cut = pipeline.cutter.cut_batch(part, 0.0)
                pipeline.encoder.encode(cut.chips)
                faces += len(cut.chips)
    rates = {name: done / clock.seconds[name] for net in nets.values() for name, done in net.done.items()}
    return {"seconds": dict(clock.seconds), "rates": rates, "faces": faces}


@contextmanager
def _patched(*changes: tuple[Any, str, Any]) -> Iterator[None]:
    before = [(holder, name, vars(holder).get(name)) for holder, name, _ in changes]
    for holder, name, value in changes:
        setattr(holder, name, value)
    try:
        yield
    finally:
        for holder, name, value in before:
            if value is None:
                delattr(holder, name)
            else:
                setattr(holder, name, value)


def peaks() -> dict[str, float]:
    """Operations a second of one core in a matrix product, by precision."""
    from faceembed.engine.runtimes.openvino import supported_precisions
    from faceembed.engine.runtimes.openvino_import import openvino

    found = {}
    for precision in (*supported_precisions(), "int8"):
        core = openvino().Core()
        hint = {"bf16": "bf16"}.get(precision, "f32")
        config = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": hint}
        network = core.compile_model(core.read_model(_product(quantised=precision == "int8")), "CPU", config)
        request, given = network.create_infer_request(), np.ones((1, 1, SIDE, SIDE), np.float32)
        best = float("inf")
        for _ in range(7):
            started = time.process_time()
            request.infer([given])
            best = min(best, time.process_time() - started)
        found[precision] = 2.0 * SIDE**3 / best
    return found


def _product(*, quantised: bool) -> bytes:
    """A matrix times a constant one; between 8-bit numbers where ``quantised``."""
    writer = GraphWriter("product")
    x = writer.input("x", [1, 1, SIDE, SIDE])
    weight = np.random.default_rng(0).normal(size=(SIDE, SIDE)).astype(np.float32)
    if quantised:
        scale, zero = writer.constant(np.float32(0.02)), writer.constant(np.uint8(0))
        x = writer.node("DequantizeLinear", [writer.node("QuantizeLinear", [x, scale, zero]), scale, zero])
        whole = writer.constant(np.clip(weight / 0.05, -127, 127).astype(np.int8))
        matrix = writer.node(
            "DequantizeLinear", [whole, writer.constant(np.float32(0.05)), writer.constant(np.int8(0))]
        )
    else:
        matrix = writer.constant(weight)
    writer.output(writer.node("MatMul", [x, matrix]), "y", [1, 1, SIDE, SIDE])
    return writer.serialise()


def run(options: argparse.Namespace) -> dict[str, Any]:
    """All folders, and the peaks."""
    settings = EmbedSettings(
        encoder=options.encoder, runtime=RuntimeSettings(device="cpu", precision=options.precision, threads=1)
    )
    folders = options.folders or [common.data_root() / name for name in SETS]
    result: dict[str, Any] = {"benchmark": "front_end", "machine": common.machine(), "sets": {}}
    for folder in folders:
        result["sets"][folder.name] = measure(folder, count=options.count, rounds=options.rounds, settings=settings)
    result["peak_flops_per_second"] = peaks()
    return result


def _text(result: dict[str, Any]) -> str:
    sets = result["sets"]
    rows: list[list[object]] = [
        [part, *(f"{found['microseconds'][part]:.0f}" for found in sets.values())] for part in PARTS
    ]
    before = [sum(found["microseconds"].values()) - found["microseconds"]["encoder"] for found in sets.values()]
    rows.append(["all but the encoder", *(f"{value:.0f}" for value in before)])
    lines = [common.table(["microseconds a photo", *sets], rows), ""]
    best = max(result["peak_flops_per_second"].items(), key=lambda pair: pair[1] if pair[0] != "int8" else 0)
    for name, rate in result["peak_flops_per_second"].items():
        lines.append(f"a matrix product in {name}: {rate / 1e9:.0f} Gflop/s")
    for title, found in sets.items():
        shares = [f"{name} {100 * rate / best[1]:.0f} %" for name, rate in found["flops_per_second"].items()]
        lines.append(f"{title}: of {best[0]}'s peak: {', '.join(shares)}")
    return "\n".join(lines)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="*", type=Path, help="folders of photos (default: LFW and people_wild)")
    parser.add_argument("--count", type=int, default=1500, help="photos of each, taken evenly (default 1500)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds that count (default 3)")
    parser.add_argument("--encoder", default=EmbedSettings().encoder)
    parser.add_argument("--precision", default="auto", choices=("auto", "fp32", "bf16"))
    parser.add_argument("--json", type=Path, help="write the result here")
    options = parser.parse_args()
    common.run_and_report(options, run, _text)


if __name__ == "__main__":
    main()
