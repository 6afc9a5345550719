"""What the trainings of both networks share: pixels, learning rate, moving average, and reading a checkpoint."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from faceembed.errors import ModelError


def to_network(pixels: Tensor) -> Tensor:
    """uint8 (N, H, W, 3) as the networks take it: float32 (N, 3, H, W) in [-1, 1]."""
    images = pixels.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.channels_last)
    return (images - 127.5) / 127.5


def learning_rate(step: int, steps: int, warmup: int) -> float:
    """Share of the highest rate: up along a line, down along a cosine to a hundredth."""
    if step < warmup:
        return (step + 1) / warmup
    share = (step - warmup) / max(steps - warmup, 1)
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(share, 1.0)))


@torch.no_grad()
def mix(average: nn.Module, model: nn.Module, decay: float) -> None:
    """Move an average of weights towards a model's: ``decay`` of the old, the rest of the new."""
    for mean, value in zip(average.state_dict().values(), model.state_dict().values(), strict=True):
        if mean.dtype.is_floating_point:
            mean.lerp_(value, 1 - decay)
        else:
            mean.copy_(value)


def read_checkpoint(path: Path, kind: str) -> dict[str, Any]:
    """A file that a training wrote.

    Raises:
        ModelError: missing, damaged, or of another kind.
    """
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        if content["format"] != kind:
            raise KeyError(content["format"])
    except FileNotFoundError as error:
        raise ModelError(f"no checkpoint at {path}") from error
    except Exception as error:  # torch raises anything on a damaged file
        raise ModelError(f"{path} is not a checkpoint of kind '{kind}' ({type(error).__name__})") from error
    return content
