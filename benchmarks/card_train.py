"""Some minutes of training on a card that is lent: crops go there in parts, a checkpoint comes back.

Here, once; the recipe says what is learned (`faceembed train pretrain -c taught`), the folder fills with parts that are carried one a call:

    python benchmarks/card_train.py pack carry/ --recipe taught --set 'data.crops=["crops"]' --set 'teachers.indexes=["sface.faiss"]'

There, a call each: copy the part to a place that stays; after the last one train, and bring back what lies in OUT:

    mkdir -p build/parts && cp carry/part-00.npz build/parts/
    PYTHONPATH=typings python benchmarks/card_train.py train build/parts --minutes 8 -o OUT/card.pt

Here again: the checkpoint is one of ours, in half precision (11 MB for `resnet29-131`), and another round goes on from it:

    faceembed export card.pt -o card.onnx
    python benchmarks/card_train.py pack carry/ --recipe taught --set model.start=card.pt --as-it-is …

`dry-run` makes eight drawn crops and does all of it on the processor. PyTorch, NumPy and OpenCV are all that is needed there. All crops lie in
the card's memory, as bytes, and are changed there (`card_crops`): nothing waits for a processor. The rate of learning falls with the time that
has passed, so that whatever a card manages in the minutes given is a whole schedule. On two cores with AMX `resnet29-131` takes 200 crops/s.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import common
import cv2
import numpy as np
import torch
from card_crops import Changes, Store, change, load_parts, read_crop, write_parts
from common import BenchmarkError, say
from torch import nn

from faceembed.errors import FaceEmbedError
from faceembed.trainer.backbones.batch_norm import calibrate_batch_norm
from faceembed.trainer.backbones.checkpoints import load_encoder, save_checkpoint
from faceembed.trainer.backbones.registry import find, preprocess
from faceembed.trainer.loop.optim import MovingAverage
from faceembed.trainer.losses.distillation import Distillation, DistillationSettings

_FITTED = 4096  # crops
_HELD_OUT = 50  # one crop in so many is not trained on
_SAID = 20  # seconds between two lines


@dataclasses.dataclass(frozen=True)
class Plan:
    """How a card trains."""

    minutes: float
    batch: int
    lr: float
    weight_decay: float = 0.02
    warm_up: int = 200
    decay: float = 0.999
    most_steps: int = sys.maxsize


def pack(args: argparse.Namespace) -> dict[str, Any]:
    """Write the parts, and the start that the recipe names."""
    from faceembed.trainer.batches.dataset import divide, open_crops
    from faceembed.trainer.batches.targets import read_targets
    from faceembed.trainer.loop.start import make_start
    from faceembed.trainer.recipes.config import read_config

    config = read_config("pretrain", args.recipe, overrides=args.set)
    start = make_start(config.model)
    crops = open_crops(config.data, start.spec)
    if not config.taught:
        raise BenchmarkError("nothing to learn there: teachers.indexes is empty")
    targets = read_targets(config.teachers, crops)
    if targets.vectors.shape[1] != start.spec.dimension:
        raise BenchmarkError(f"the teachers have {targets.vectors.shape[1]} numbers, the start {start.spec.dimension}")
    train = divide(crops, config).train
    train = train[np.isfinite(targets.vectors[train]).all(axis=1)]
    np.random.default_rng(config.seed).shuffle(train)
    paths = [str(Path(crops.samples[i].path)) for i in train.tolist()]
    args.folder.mkdir(parents=True, exist_ok=True)
    if config.model.start and not args.as_it_is:
        _prepare(start, config, paths, targets.vectors[train])
    model = {name: _half(value) for name, value in start.body.state_dict().items()}
    save_checkpoint(
        args.folder / "start.pt", arch=start.arch, dimension=start.spec.dimension, spec=start.spec, model=model
    )
    sizes = write_parts(args.folder, paths, targets.vectors[train], part_bytes=int(args.part_mb * 2**20))
    return {"crops": len(train), "parts": len(sizes), "largest_mb": max(sizes) / 2**20}


def _prepare(start: Any, config: Any, paths: list[str], vectors: Any) -> None:
    """What a training does with a start before its first step: usual sizes of weights, an embedding layer fitted to the teachers."""
    from faceembed.trainer.loop.balance import balance_weights
    from faceembed.trainer.loop.fit import fit_start

    last = find(start.arch).last
    chosen = np.arange(len(paths))[:: max(len(paths) // _FITTED, 1)][:_FITTED]

    def inputs(numbers: Any) -> torch.Tensor:
        pixels = np.stack([read_crop(paths[number]) for number in numbers])
        return preprocess(torch.from_numpy(pixels), start.spec)

    if config.model.balance:
        balance_weights(start.body, last, inputs(chosen[:1]))
    batches = (inputs(chosen[i : i + 64]) for i in range(0, len(chosen), 64))
    cosine = fit_start(start.body, last, batches, torch.from_numpy(vectors[chosen]))
    say(f"the embedding layer is fitted to the teachers: cosine {cosine:.3f} on {len(chosen):,} crops")


def train(args: argparse.Namespace) -> dict[str, Any]:
    """Learn for some minutes what the parts' teachers say."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    start = args.start or args.folder / "start.pt"
    body, spec, arch = load_encoder(start)
    store = load_parts(args.folder, device)
    say(f"{len(store):,} crops of {store.pixels.shape[1]} px, {store.vectors.shape[1]} numbers each; {device}")
    plan = Plan(args.minutes, args.batch, args.lr, most_steps=args.steps)
    average, facts = learn(body.to(device), spec, store, plan)
    model = {name: _half(value.cpu()) for name, value in average.state_dict().items()}
    args.output.parent.mkdir(parents=True, exist_ok=True)
    save_checkpoint(args.output, arch=arch, dimension=spec.dimension, spec=spec, model=model)
    return {"arch": arch, "device": _name(device), "crops": len(store), **facts}


def learn(body: nn.Module, spec: Any, store: Store, plan: Plan) -> tuple[nn.Module, dict[str, Any]]:
    """Train a network.

    Returns:
        The average of its weights, and what to report.
    """
    generator = torch.Generator(store.pixels.device).manual_seed(1)
    held, used = store.split(_HELD_OUT)
    bf16 = torch.autocast(store.pixels.device.type, torch.bfloat16)
    calibrate_batch_norm(
        body, [preprocess(store.pixels[used[i : i + 64]], spec) for i in range(0, min(len(used), 512), 64)]
    )
    body.train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    moving = MovingAverage(body, decay=plan.decay)
    average = moving.model
    loss_of = Distillation(DistillationSettings(similarity=5.0))
    groups = [
        {"params": [p for p in body.parameters() if p.ndim > 1], "weight_decay": plan.weight_decay},
        {"params": [p for p in body.parameters() if p.ndim <= 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=plan.lr, betas=(0.9, 0.99))
    before = agreement(average, spec, store, held)
    say(f"before: cosine {before:.4f} to the teachers on {len(held):,} crops held out")
    begun = told = time.perf_counter()
    step = 0
    while (passed := (time.perf_counter() - begun) / (60 * plan.minutes)) < 1 and step < plan.most_steps:
        rows = used[torch.randint(len(used), (plan.batch,), generator=generator, device=used.device)]
        x = preprocess(change(store.pixels[rows], Changes(), generator), spec).contiguous(
            memory_format=torch.channels_last
        )
        rate = plan.lr * min(1.0, (step + 1) / plan.warm_up) * (0.02 + 0.98 * (1 + math.cos(math.pi * passed)) / 2)
        for group in optimizer.param_groups:
            group["lr"] = rate
        with bf16:
            embeddings = body(x)
        loss = loss_of(embeddings.float(), store.vectors[rows].float())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(body.parameters(), 5.0)
        optimizer.step()
        step += 1
        moving.update(body, step=step)
        if time.perf_counter() - told > _SAID:
            told = time.perf_counter()
            say(f"step {step:,}: {step * plan.batch / (told - begun):,.0f} crops/s, loss {float(loss.detach()):.4f}")
    if store.pixels.device.type == "cuda":
        torch.cuda.synchronize()
    seconds = time.perf_counter() - begun
    after = agreement(average, spec, store, held)
    say(f"after {step:,} steps: cosine {after:.4f}")
    facts = {"steps": step, "seconds": seconds, "crops_per_second": step * plan.batch / seconds}
    return average, {**facts, "cosine_before": before, "cosine_after": after, "held_out": len(held)}


@torch.no_grad()
def agreement(body: nn.Module, spec: Any, store: Store, rows: torch.Tensor) -> float:
    """Mean cosine of embeddings to the teachers' vectors."""
    total = 0.0
    for part in rows.split(256):
        embeddings = body(preprocess(store.pixels[part], spec).contiguous(memory_format=torch.channels_last))
        total += float(nn.functional.cosine_similarity(embeddings, store.vectors[part].float()).sum())
    return total / max(len(rows), 1)


def _half(value: torch.Tensor) -> torch.Tensor:
    return value.half() if value.is_floating_point() else value


def _name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def dry_run(args: argparse.Namespace) -> dict[str, Any]:
    """Parts, start, training and checkpoint, on the processor, with drawn crops of nobody."""
    from faceembed.trainer.backbones.registry import build

    architecture = find(args.arch)
    height, width = architecture.spec.input_size
    rng = np.random.default_rng(3)
    with tempfile.TemporaryDirectory(prefix="card-train-") as name:
        folder = Path(name)
        paths = []
        for number in range(8):
            coarse = rng.integers(30, 226, (6, 6, 3)).astype(np.uint8)
            paths.append(str(folder / f"{number}.png"))
            cv2.imwrite(paths[-1], cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC))
        vectors = rng.normal(size=(8, architecture.spec.dimension)).astype(np.float32)
        sizes = write_parts(folder / "parts", paths, vectors, part_bytes=12 * 2**10)
        torch.manual_seed(1)
        model = {key: _half(value) for key, value in build(args.arch).state_dict().items()}
        start = folder / "parts" / "start.pt"
        save_checkpoint(
            start, arch=args.arch, dimension=architecture.spec.dimension, spec=architecture.spec, model=model
        )
        words = [
            "train",
            str(folder / "parts"),
            "--minutes",
            "5",
            "--batch",
            "4",
            "--steps",
            "3",
            "-o",
            str(folder / "card.pt"),
        ]
        document = train(_parser().parse_args(words))
        load_encoder(folder / "card.pt")
        return {**document, "dry": True, "parts": len(sizes), "bytes": (folder / "card.pt").stat().st_size}


def report(document: dict[str, Any]) -> str:
    """One line."""
    if "largest_mb" in document:
        return (
            f"{document['crops']:,} crops in {document['parts']} parts, the largest of {document['largest_mb']:.1f} MiB"
        )
    return (
        f"{document['arch']} on {document['device']}: {document['steps']:,} steps in {document['seconds']:.0f} s, "
        f"{document['crops_per_second']:,.0f} crops/s; cosine {document['cosine_before']:.4f} -> {document['cosine_after']:.4f}"
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    one = verbs.add_parser("pack", help="write parts to carry")
    one.add_argument("folder", type=Path)
    one.add_argument("--recipe", default="taught", help="of `faceembed train pretrain`, or a TOML file")
    one.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="as of `faceembed train`")
    one.add_argument("--as-it-is", action="store_true", help="a start that was trained for these teachers already")
    one.add_argument("--part-mb", type=float, default=52.0, help="of a part; code and start travel beside it")
    two = verbs.add_parser("train", help="train on parts")
    two.add_argument("folder", type=Path)
    two.add_argument("-o", "--output", type=Path, required=True, help="the checkpoint")
    two.add_argument("--start", type=Path, help="a checkpoint; the parts' start.pt if none")
    two.add_argument("--minutes", type=float, default=8.0)
    two.add_argument("--batch", type=int, default=512)
    two.add_argument("--lr", type=float, default=1e-3)
    two.add_argument("--steps", type=int, default=sys.maxsize, help="at most")
    three = verbs.add_parser("dry-run", help="all of it on the processor, in little")
    three.add_argument("--arch", default="resnet29-131")
    for verb in (one, two, three):
        verb.add_argument("--json", type=Path, help="keep the result here too")
    return parser


def main() -> None:
    args = _parser().parse_args()
    verb = {"pack": pack, "train": train, "dry-run": dry_run}[args.verb]

    def told(given: argparse.Namespace) -> dict[str, Any]:
        try:
            return verb(given)
        except FaceEmbedError as error:
            raise BenchmarkError(str(error)) from error

    common.run_and_report(args, told, report)


if __name__ == "__main__":
    main()
