"""How fast the CUDA kernels are on this machine's card, and how near to what its memory allows.

    python benchmarks/kernels.py [--faces 256] [--photo 1920x1080] [--json kernels.json]

The bound first. `gather` must read each photo's face once and write its chip once; `paint` must read each photo once and write
its canvas once; `find` must read the scores of all cells. The share of bandwidth is those bytes over the time, over the rate of
a copy on the device measured in the same run. Where faces are large, or their photos lie in the L2 cache, arithmetic or the
cache is the limit and the share says little: the time is printed too. Photos are noise: the kernels' work does not depend on
what they show, except for `find`, whose outputs are given the density of faces that photos of groups have.

Registers and spills of each kernel come from the compiler and need no card: ``--compile sm_89`` prints them and ends.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from faceembed.engine.models.spec import ARCFACE_TEMPLATE, ModelSpec
from faceembed.engine.pipeline.gpu import compiler, kernels, record
from faceembed.engine.pipeline.gpu.lane import CudaLane, architecture, current_device
from faceembed.engine.runtimes.arrays import DeviceArray
from faceembed.errors import FaceEmbedError

WARM_UP, REPEATS = 5, 30
SPEC = ModelSpec("bench", "encoder", (112, 112), dimension=512, template=ARCFACE_TEMPLATE)
THRESHOLDS = record.Thresholds(candidate_score=0.35, overlap=0.45, blend=0.6)


class Bench:
    """Times work on one stream with events.

    Args:
        lane: the stream.
    """

    def __init__(self, lane: CudaLane) -> None:
        self.lane = lane
        self.rows: list[dict[str, Any]] = []
        self.copy_rate = 0.0

    def seconds(self, work: Callable[[], object]) -> float:
        """The median of `REPEATS` runs."""
        from cuda.core import EventOptions

        options = EventOptions(timing_enabled=True)
        times = []
        for turn in range(WARM_UP + REPEATS):
            before = self.lane.stream.record(options=options)
            work()
            after = self.lane.stream.record(options=options)
            after.sync()
            if turn >= WARM_UP:
                times.append((after - before) / 1000)  # events tell milliseconds
        return float(np.median(times))

    def measure_copy(self, size: int = 1 << 28) -> None:
        """The rate at which this card copies its own memory: bytes read and written a second."""
        from cuda.bindings import driver

        source, target = self.lane.empty((size,), np.uint8), self.lane.empty((size,), np.uint8)
        handle = self.lane.stream.handle
        took = self.seconds(lambda: driver.cuMemcpyDtoDAsync(target.pointer, source.pointer, size, handle))
        self.copy_rate = 2 * size / took

    def add(self, name: str, items: int, moved_bytes: float, work: Callable[[], object]) -> None:
        """Time ``work`` on ``items`` items, which must move ``moved_bytes`` at least."""
        took = self.seconds(work)
        row = {
            "kernel": name,
            "items_per_second": items / took,
            "microseconds": 1e6 * took,
            "gigabytes_per_second": moved_bytes / took / 1e9,
            "share_of_copy": moved_bytes / took / self.copy_rate,
        }
        self.rows.append(row)
        print(
            f"{name:<34} {items / took:>12,.0f}/s {1e6 * took:>10,.1f} us {moved_bytes / took / 1e9:>9,.1f} GB/s "
            f"{100 * row['share_of_copy']:>5.1f} % of a copy",
            file=sys.stderr,
        )


def bench_gather(bench: Bench, photos: list[DeviceArray], faces: int) -> None:
    """Chips out of photos, for faces of several sizes."""
    height, width, _ = photos[0].shape
    random = np.random.default_rng(0)
    owner = bench.lane.put(random.integers(0, len(photos), faces).astype(np.int32))
    for side in (56, 112, 224, 448, 896):
        if side > min(height, width):
            continue
        scale, angle = side / 112, random.uniform(-0.5, 0.5, faces)
        cosine, sine = scale * np.cos(angle), scale * np.sin(angle)
        x, y = random.uniform(0, width - side, faces), random.uniform(0, height - side, faces)
        rows = np.stack([np.stack([cosine, -sine, x], 1), np.stack([sine, cosine, y], 1)], 1)
        matrices = bench.lane.put(np.ascontiguousarray(rows))
        for dtype in (np.float16, np.uint8):
            size = np.dtype(dtype).itemsize
            moved = faces * (3 * side**2 + 3 * 112**2 * size)

            def gather(matrices: DeviceArray = matrices, dtype: Any = dtype) -> DeviceArray:
                return kernels.gather(bench.lane, photos, owner, matrices, SPEC, dtype=dtype)

            bench.add(f"gather {side} px faces, {np.dtype(dtype)}", faces, moved, gather)


def bench_paint(bench: Bench, photos: list[DeviceArray]) -> None:
    """Photos onto canvases."""
    height, width, _ = photos[0].shape
    for side in (160, 320, 640):
        factor = side / max(height, width)
        size = np.array([[max(1, round(height * factor)), max(1, round(width * factor))]] * len(photos))
        moved = len(photos) * 3 * (height * width + side**2)
        bench.add(
            f"paint {side} x {side}",
            len(photos),
            moved,
            lambda size=size, side=side: kernels.paint(bench.lane, photos, size, (side, side)),
        )


def bench_find(bench: Bench, canvases: int) -> None:
    """Outputs of the one-shot network to faces on the host, all copies and waits included."""
    random = np.random.default_rng(0)
    for side in (160, 320, 640):
        levels = []
        for stride in (8, 16, 32):
            level = random.normal(0, 0.3, (canvases, 15, side // stride, side // stride))
            level[:, 0] = np.where(random.random(level[:, 0].shape) < 0.02, 2.0, -9.0)
            levels.append(bench.lane.put(level.astype(np.float16)))
        scales, owner = np.ones((canvases, 2), np.float32), np.arange(canvases, dtype=np.int32)
        moved = 2 * canvases * sum((side // stride) ** 2 for stride in (8, 16, 32))
        bench.add(
            f"find in {side} x {side}, float16",
            canvases,
            moved,
            lambda levels=levels, scales=scales, owner=owner: record.find_faces(
                bench.lane, levels, scales, owner, THRESHOLDS
            ),
        )


def print_use(arch: str) -> list[dict[str, Any]]:
    """What the kernels take of a multiprocessor."""
    use = compiler.compile_kernels(arch).use
    for kernel in use:
        print(
            f"{arch} {kernel.name:<14} {kernel.registers:>3} registers, {kernel.spill_bytes} bytes spilled, "
            f"{kernel.shared_bytes} bytes shared",
            file=sys.stderr,
        )
    return [vars(kernel) for kernel in use]


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Everything; what it returns is what ``--json`` writes."""
    if arguments.compile:
        return {"arch": arguments.compile, "kernels": print_use(arguments.compile)}
    device = current_device()
    arch = architecture(device)
    print(f"{device.name}, {arch}, NVRTC {compiler.nvrtc_version()}", file=sys.stderr)
    bench = Bench(CudaLane())
    bench.measure_copy()
    print(f"copy on the device: {bench.copy_rate / 1e9:,.1f} GB/s read and written", file=sys.stderr)
    width, height = (int(side) for side in arguments.photo.split("x"))
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
    photos = [bench.lane.put(pixels) for _ in range(arguments.photos)]
    bench_gather(bench, photos, arguments.faces)
    bench_paint(bench, photos)
    bench_find(bench, arguments.photos)
    return {
        "card": device.name,
        "arch": arch,
        "nvrtc": compiler.nvrtc_version(),
        "copy_gigabytes_per_second": bench.copy_rate / 1e9,
        "photo": [height, width],
        "kernels": print_use(arch),
        "rates": bench.rows,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faces", type=int, default=256, help="chips in a launch")
    parser.add_argument("--photos", type=int, default=64, help="photos, and canvases in a launch")
    parser.add_argument("--photo", default="1920x1080", help="width and height of each photo")
    parser.add_argument(
        "--compile", metavar="ARCH", default="", help="print registers and spills for sm_89, ..., and end"
    )
    parser.add_argument("--json", type=Path, help="write the results there too")
    arguments = parser.parse_args()
    try:
        results = run(arguments)
    except FaceEmbedError as error:
        sys.exit(f"error: {error}")
    text = json.dumps(results)
    print(text)
    if arguments.json:
        arguments.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
