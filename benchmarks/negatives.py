"""Where pairs come to rest under Adaptive Margin: people, strangers, and deepfakes, as free vectors.

    python benchmarks/negatives.py                       # about a minute, no data needed
    python benchmarks/negatives.py --seeds 5 --json negatives.json

What bounds it. The formula has no rest for a negative: its loss falls until the cosine is -1. n unit vectors have a mean
cosine of at least -1 / (n - 1), so a crowd cannot be driven apart; a photo and its one deepfake can.

How. 20 people of 8 photos and one deepfake each, every one a vector of its own without a network, so that nothing but the
loss decides where they go. Strangers begin alike (cosine about 0.8, as dlib's do) and deepfakes close to the person. 2,000
steps of Adam at 0.01 on 64 pairs of one person, 32 of strangers and 32 of a photo and its deepfake. The figures are means over
the seeds of the mean cosine of all pairs of a kind.

Not measured: what a network can reach, which must move all photos with the same weights.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import common
import torch
from common import say
from torch import Tensor
from torch.nn.functional import normalize

from faceembed.trainer.losses import make_loss

PEOPLE, PHOTOS, STEPS = 20, 8, 2000
KINDS = ("same", "other", "fake")
CONSTANTS: tuple[dict[str, Any], ...] = (
    {"negatives": "given"},
    {"negatives": "floor"},
    {"negatives": "target"},
    {"negatives": "target", "s": 8.0},
    {"negatives": "target", "m_b": 0.5},
    {"negatives": "target", "m_b": 0.5, "alpha": 1.0},
)


def rest(settings: dict[str, Any], *, dimension: int, steps: int, seed: int) -> dict[str, float]:
    """Mean cosine of each kind of pairs after training free vectors."""
    random = torch.Generator().manual_seed(seed)

    def noise(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=random)

    person = torch.arange(PEOPLE).repeat_interleave(PHOTOS)
    people = 2 * noise(1, dimension) + 0.7 * noise(PEOPLE, dimension)
    photos = (people[person] + 0.7 * noise(len(person), dimension)).requires_grad_(True)
    fakes = (people + 0.3 * noise(PEOPLE, dimension)).requires_grad_(True)
    first, second = torch.triu_indices(len(person), len(person), 1)
    same = torch.nonzero(person[first] == person[second])[:, 0]
    other = torch.nonzero(person[first] != person[second])[:, 0]
    loss = make_loss("adaptive-margin", settings)
    optimiser = torch.optim.Adam([photos, fakes], lr=0.01)
    labels = torch.cat([torch.ones(64), torch.zeros(64)])
    for _ in range(steps):
        drawn = torch.cat(
            [items[torch.randint(len(items), (n,), generator=random)] for items, n in ((same, 64), (other, 32))]
        )
        faked = torch.randint(len(person), (32,), generator=random)
        a = torch.cat([photos[first[drawn]], photos[faked]])
        b = torch.cat([photos[second[drawn]], fakes[person[faked]]])
        optimiser.zero_grad()
        loss(a, b, labels).backward()
        optimiser.step()
    units, faces = normalize(photos.detach(), dim=1), normalize(fakes.detach(), dim=1)
    cosines = (units[first] * units[second]).sum(1)
    values = (cosines[same], cosines[other], (units * faces[person]).sum(1))
    return {kind: float(value.mean()) for kind, value in zip(KINDS, values, strict=True)}


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Every set of constants and every dimension."""
    torch.set_num_threads(1)
    rows = []
    for dimension in args.dimensions:
        for settings in CONSTANTS:
            say(f"dimension {dimension}, {settings}")
            runs = [rest(settings, dimension=dimension, steps=args.steps, seed=seed) for seed in range(args.seeds)]
            means = {kind: sum(run[kind] for run in runs) / len(runs) for kind in KINDS}
            rows.append({"dimension": dimension, "settings": settings, **means})
    return {
        "benchmark": "negatives",
        "machine": common.machine(),
        "steps": args.steps,
        "seeds": args.seeds,
        "rows": rows,
    }


def report(document: dict[str, Any]) -> str:
    """The table, for people."""
    rows = [
        (
            row["dimension"],
            ", ".join(f"{name} {value}" for name, value in row["settings"].items()),
            *(f"{row[kind]:.3f}" for kind in KINDS),
        )
        for row in document["rows"]
    ]
    return common.table(("dimension", "settings", "one person", "strangers", "deepfakes"), rows)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Where pairs come to rest under Adaptive Margin.")
    parser.add_argument("--dimensions", default="16,128", help="of the vectors (default 16,128)")
    parser.add_argument("--steps", type=int, default=STEPS, help=f"of Adam (default {STEPS})")
    parser.add_argument("--seeds", type=int, default=2, help="runs of each (default 2)")
    parser.add_argument("--json", type=Path, help="also write the result here")
    args = parser.parse_args(arguments)
    args.dimensions = [int(dimension) for dimension in args.dimensions.split(",") if dimension]
    if not args.dimensions or min(args.dimensions) < 2 or args.seeds < 1 or args.steps < 1:
        parser.error("--dimensions must be numbers of 2 or more, --seeds and --steps of 1 or more")
    return args


def main(arguments: Sequence[str] | None = None) -> None:
    common.run_and_report(parse(arguments), run, report)


if __name__ == "__main__":
    main()
