"""How fast a training step is, as a share of the forward pass alone, and whether the input keeps up.

    python benchmarks/training.py                                        # every architecture, made-up crops
    python benchmarks/training.py --arch resnet29 --crops crops --batch 64 --json training.json

What bounds it. A training step is a forward pass, a backward pass of about twice its work, and the optimiser: a share of 1/3
of the forward-only rate is what can be had, more where a backward pass is cheaper than that. The input (decode and augment) runs
in threads beside the step: on a CPU it takes a part of the same cores, elsewhere it is hidden while its own rate is above the step's.

How. In one process per architecture: the rate of the input alone over a data set on disk with the cache off (every crop is decoded
each time), the rate of forward passes without gradients, and that of whole steps on batches in memory; then whole steps fed by
the input, of which `waited` is the share of the time in which the step stood waiting. Rates are the median of rounds that take
turns, so that a busy machine disturbs all alike. Made-up crops are JPEGs of smoothed noise at the size that the network takes.

Not measured: several GPUs, reading from a slow disk.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import common
from common import BenchmarkError, say

PEOPLE, PHOTOS = 16, 8


def measure(arch: str, args: argparse.Namespace) -> dict[str, Any]:
    """All rates of one architecture."""
    import torch

    from faceembed.trainer.batches.dataset import CropCache, divide, loader_threads, open_crops
    from faceembed.trainer.batches.loader import ahead
    from faceembed.trainer.batches.tasks import ClassTask
    from faceembed.trainer.loop.devices import open_accelerator, settle
    from faceembed.trainer.loop.learner import make_learner
    from faceembed.trainer.loop.optim import make_optimizer
    from faceembed.trainer.loop.start import make_start
    from faceembed.trainer.recipes.config import read_config

    overrides = [f"model.arch={arch}", f"loop.batch_size={args.batch}", f"loop.precision={args.precision}"]
    with tempfile.TemporaryDirectory(prefix="faceembed-training-") as temporary:
        folder = args.crops or make_crops(Path(temporary), arch)
        config = read_config(
            "pretrain", overrides=[*overrides, f"data.crops=['{folder}']", f"loop.device={args.device}"]
        )
        config = dataclasses.replace(config, loop=settle(config.loop, notice=say))
        start = make_start(config.model)
        crops = open_crops(config.data, start.spec)
        task = ClassTask(CropCache(crops, limit_mb=0), divide(crops, config).train, config)
        threads = loader_threads(config.data)
        with open_accelerator(config.loop) as accelerator:
            learner = make_learner(config, start, classes=task.classes)
            optimizer = make_optimizer(config.optimizer, learner.body, learner.losses)
            learner.to(accelerator.device)
            module, optimizer = accelerator.prepare(learner, optimizer)

            def load(batch: Any) -> dict[str, torch.Tensor]:
                return {name: torch.from_numpy(values) for name, values in task.load(batch).items()}

            def plan(count: int) -> list[Any]:
                found: list[Any] = []
                for epoch in range(1, count + 2):
                    found += task.plan(epoch)
                    if len(found) >= count:
                        break
                return found[:count]

            def step(arrays: dict[str, torch.Tensor]) -> None:
                batch = {name: value.to(accelerator.device, non_blocking=True) for name, value in arrays.items()}
                optimizer.zero_grad(set_to_none=True)
                accelerator.backward(module(**batch)["loss"])
                accelerator.clip_grad_norm_(module.parameters(), 5.0)
                optimizer.step()

            @torch.no_grad()
            def forward(arrays: dict[str, torch.Tensor]) -> None:
                with accelerator.autocast():
                    learner.embed(arrays["chips"].to(accelerator.device, non_blocking=True))

            def timed(work: Callable[[], None]) -> float:
                started = time.perf_counter()
                work()
                if accelerator.device.type == "cuda":
                    torch.cuda.synchronize()
                return size * args.steps / (time.perf_counter() - started)

            ready = [load(batch) for batch in plan(2)]
            size = len(ready[0]["labels"])
            waited: list[float] = []

            def forwards() -> None:
                learner.eval()
                for number in range(args.steps):
                    forward(ready[number % 2])

            def steps() -> None:
                module.train()
                for number in range(args.steps):
                    step(ready[number % 2])

            def inputs() -> None:
                for _ in ahead(plan(args.steps), load, threads=threads):
                    pass

            def fed() -> None:
                module.train()
                started, lost = time.perf_counter(), 0.0
                batches = ahead(plan(args.steps), load, threads=threads)
                for number in range(args.steps):
                    now = time.perf_counter()
                    arrays = next(batches)
                    if number:  # the first batch is what every epoch begins with
                        lost += time.perf_counter() - now
                    step(arrays)
                waited.append(lost / (time.perf_counter() - started))

            kinds = {"forward": forwards, "step": steps, "input": inputs, "fed": fed}
            for work in kinds.values():
                work()
            waited.clear()
            rates: dict[str, list[float]] = {name: [] for name in kinds}
            for _ in range(args.rounds):
                for name, work in kinds.items():
                    rates[name].append(timed(work))
            middle = {name: statistics.median(values) for name, values in rates.items()}
            return {
                "arch": arch,
                "device": str(accelerator.device),
                "precision": config.loop.precision,
                "batch": size,
                **{f"{name}_per_second": round(value, 1) for name, value in middle.items()},
                "step_share": round(statistics.median(map(_ratio, rates["step"], rates["forward"])), 3),
                "input_share": round(statistics.median(map(_ratio, rates["input"], rates["step"])), 2),
                "fed_share": round(statistics.median(map(_ratio, rates["fed"], rates["step"])), 3),
                "waited": round(statistics.median(waited), 4),
            }


def _ratio(a: float, b: float) -> float:
    return a / b


def make_crops(folder: Path, arch: str) -> str:
    """A crop set of made-up faces."""
    import cv2
    import numpy as np

    from faceembed.trainer.backbones.registry import find
    from faceembed.trainer.data.crops import Crop, CropInfo, write_crop, write_crops

    spec = find(arch).spec
    height, width = spec.input_size
    rows = []
    for person in range(PEOPLE):
        for photo in range(PHOTOS):
            noise = np.random.default_rng((person, photo)).integers(0, 256, (height, width, 3), np.uint8)
            row = Crop(f"p{person}/{photo}.jpg", f"/p{person}/{photo}.jpg", f"p{person}")
            (folder / row.crop).parent.mkdir(exist_ok=True)
            write_crop(folder / row.crop, np.asarray(cv2.GaussianBlur(noise, (0, 0), 2), np.uint8))
            rows.append(row)
    write_crops(folder, rows, CropInfo(spec.name, spec.template, height, width))
    return str(folder)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Every architecture."""
    from faceembed.errors import FaceEmbedError
    from faceembed.trainer.backbones.registry import ARCHITECTURES

    names = args.arch or list(ARCHITECTURES)
    results = []
    for name in names:
        say(f"{name} ...")
        try:
            results.append(measure(name, args))
        except FaceEmbedError as error:
            raise BenchmarkError(str(error)) from error
    return {
        "benchmark": "training",
        "machine": common.machine(),
        "versions": common.versions("torch", "accelerate", "opencv-python-headless"),
        "steps": args.steps,
        "rounds": args.rounds,
        "architectures": results,
    }


def report(document: dict[str, Any]) -> str:
    """The table."""
    header = ("", "precision", "forward/s", "step/s", "of forward", "input/s", "of step", "fed/s", "waited")
    rows = [
        (
            entry["arch"],
            entry["precision"],
            f"{entry['forward_per_second']:,.0f}",
            f"{entry['step_per_second']:,.0f}",
            f"{entry['step_share']:.2f}",
            f"{entry['input_per_second']:,.0f}",
            f"{entry['input_share']:.1f}x",
            f"{entry['fed_per_second']:,.0f}",
            f"{100 * entry['waited']:.1f} %",
        )
        for entry in document["architectures"]
    ]
    return common.table(header, rows)


def main() -> None:
    """Read the arguments, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", action="append", help="architecture; repeatable (default: all)")
    parser.add_argument("--crops", help="a crop set of its size (default: made-up crops)")
    parser.add_argument("--batch", type=int, default=32, help="crops in a step")
    parser.add_argument("--steps", type=int, default=4, help="steps in a round")
    parser.add_argument("--rounds", type=int, default=3, help="rounds, of which the median counts")
    parser.add_argument("--precision", default="auto", help="auto, fp32, bf16 or fp16")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--json", type=Path, help="keep the result there too")
    common.run_and_report(parser.parse_args(), run, report)


if __name__ == "__main__":
    main()
