"""Checkpoints of EdgeFace's shapes, their weights drawn by chance: the published ones are never part of the repository."""

from __future__ import annotations

import math
from pathlib import Path

import torch

from faceembed.engine.models.edgeface_shapes import ARCHITECTURES

State = dict[str, torch.Tensor]


def random_state(arch: str, *, seed: int = 0, low_rank: bool = False) -> State:
    """Weights of the right shapes; norms and scales far from 1 and 0, where folding them would not show."""
    shape, random = ARCHITECTURES[arch], torch.Generator().manual_seed(seed)
    state: State = {}

    def add(name: str, *size: int, spread: float = 1.0, around: float = 0.0) -> None:
        fan = math.prod(size[1:]) or 1
        state[name] = around + spread * torch.randn(*size, generator=random) / math.sqrt(fan)

    def norm(name: str, count: int) -> None:
        add(f"{name}.weight", count, spread=0.3, around=1)
        add(f"{name}.bias", count, spread=0.3)

    def dense(name: str, outputs: int, inputs: int) -> None:
        if low_rank:
            rank = max(2, int(0.6 * min(outputs, inputs)))
            add(f"{name}.linear1.weight", rank, inputs)
            add(f"{name}.linear2.weight", outputs, rank)
            add(f"{name}.linear2.bias", outputs, spread=0.3)
        else:
            add(f"{name}.weight", outputs, inputs)
            add(f"{name}.bias", outputs, spread=0.3)

    def conv(name: str, *size: int) -> None:
        add(f"{name}.weight", *size)
        add(f"{name}.bias", size[0], spread=0.3)

    conv("stem.0", shape.channels[0], 3, 4, 4)
    norm("stem.1", shape.channels[0])
    for stage, (channels, depth) in enumerate(zip(shape.channels, shape.depths, strict=True)):
        if stage:
            norm(f"stages.{stage}.downsample.0", shape.channels[stage - 1])
            conv(f"stages.{stage}.downsample.1", channels, shape.channels[stage - 1], 2, 2)
        for place in range(depth):
            name = f"stages.{stage}.blocks.{place}"
            if stage and place == depth - 1:
                width = -(-channels // (stage + 1))
                for number in range(stage):
                    conv(f"{name}.convs.{number}", width, 1, 3, 3)
                if stage == 1:
                    conv(f"{name}.pos_embd.token_projection", channels, 64, 1, 1)
                norm(f"{name}.norm_xca", channels)
                add(f"{name}.gamma_xca", channels, spread=0.5)
                add(f"{name}.xca.temperature", 4, 1, 1, around=1)
                dense(f"{name}.xca.qkv", 3 * channels, channels)
                dense(f"{name}.xca.proj", channels, channels)
            else:
                conv(f"{name}.conv_dw", channels, 1, 3 + 2 * stage, 3 + 2 * stage)
            norm(f"{name}.norm", channels)
            dense(f"{name}.mlp.fc1", 4 * channels, channels)
            dense(f"{name}.mlp.fc2", channels, 4 * channels)
            add(f"{name}.gamma", channels, spread=0.5)
    norm("head.norm", shape.channels[-1])
    dense("head.fc", 512, shape.channels[-1])
    return state


def save(state: State, path: Path) -> Path:
    torch.save({f"model.{name}": value for name, value in state.items()}, path)
    return path
