"""Optimisers, learning rates over time, and the moving average of weights."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from faceembed.errors import UsageError
from faceembed.trainer.recipes.steps import Optimizer as OptimizerConfig
from faceembed.trainer.recipes.steps import Schedule as ScheduleConfig


def make_optimizer(config: OptimizerConfig, body: nn.Module, losses: nn.Module) -> Optimizer:
    """An optimiser over everything that may learn.

    Args:
        config: which, and how fast.
        body: the network. Its biases, scales and shifts are not decayed.
        losses: what losses own (class vectors, centres): all decayed as the network's matrices are, with their own rate.

    Raises:
        UsageError: nothing may learn.
    """
    learning = [parameter for parameter in body.parameters() if parameter.requires_grad]
    if not learning:
        raise UsageError("nothing of the network may learn; set model.freeze = 'none'")
    decay = config.weight_decay
    groups = [
        {"params": [p for p in learning if p.ndim > 1], "lr": config.lr, "weight_decay": decay},
        {"params": [p for p in learning if p.ndim <= 1], "lr": config.lr, "weight_decay": 0.0},
        {"params": list(losses.parameters()), "lr": config.head_lr or config.lr, "weight_decay": decay},
    ]
    groups = [group for group in groups if group["params"]]
    if config.name == "sgd":
        return SGD(groups, lr=config.lr, momentum=config.momentum, nesterov=config.momentum > 0)
    first, second = config.betas
    return AdamW(groups, lr=config.lr, betas=(first, second))


class Schedule:
    """Learning rates: `before_step` sets them for a step, `after_epoch` looks at how it went.

    Args:
        config: which schedule.
        optimizer: whose rates are set; those it has now are the first ones.
        steps: of the whole training.
    """

    def __init__(self, config: ScheduleConfig, optimizer: Optimizer, *, steps: int) -> None:
        self._config = config
        self._optimizer = optimizer
        self._steps = steps
        self._first = [float(group["lr"]) for group in optimizer.param_groups]
        self._plateau: ReduceLROnPlateau | None = None
        if config.name == "plateau":
            self._plateau = ReduceLROnPlateau(
                optimizer, "min", factor=config.factor, patience=config.patience, threshold=config.threshold
            )

    def before_step(self, step: int) -> None:
        """Set the rates for a step, counted from 0 over the whole training."""
        if step <= self._config.warmup_steps or self._config.name == "cosine":
            for group, first in zip(self._optimizer.param_groups, self._first, strict=True):
                group["lr"] = first * self.share(step)

    def share(self, step: int) -> float:
        """The rate as a share of the first, as far as the step alone decides."""
        warmup, end = self._config.warmup_steps, self._config.lr_end
        if step < warmup:
            return (step + 1) / warmup
        if self._config.name != "cosine":
            return 1.0
        done = min((step - warmup) / max(self._steps - warmup, 1), 1.0)
        return end + (1 - end) * (1 + math.cos(math.pi * done)) / 2

    def after_epoch(self, metrics: Mapping[str, Any], *, step: int) -> None:
        """Take note of an epoch's row of metrics; ``step`` is how many steps are done."""
        value = metrics.get(self._config.metric)
        if self._plateau is not None and step > self._config.warmup_steps and value is not None:
            self._plateau.step(float(value))

    def state_dict(self) -> dict[str, Any]:
        """What `load_state_dict` takes."""
        return {} if self._plateau is None else {k: v for k, v in self._plateau.state_dict().items() if _plain(v)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        if self._plateau is not None:
            self._plateau.load_state_dict(state)


def _plain(value: Any) -> bool:
    return isinstance(value, bool | int | float | str) or (
        isinstance(value, list) and all(isinstance(item, int | float) for item in value)
    )


class MovingAverage:
    """An exponential moving average of a network's weights, with the statistics of its batch normalisations as they are.

    Args:
        model: the network; `model` of this object is its averaged copy, in eval mode.
        decay: share that is kept in each step. In early steps n it is (1 + n) / (10 + n) if that is less, so that the random
            start is forgotten.
    """

    def __init__(self, model: nn.Module, *, decay: float) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self._decay = decay

    @torch.no_grad()
    def update(self, model: nn.Module, *, step: int) -> None:
        """Take in the weights after a step, counted from 0."""
        decay = min(self._decay, (1 + step) / (10 + step))
        for mine, theirs in zip(self.model.parameters(), model.parameters(), strict=True):
            mine.lerp_(theirs.to(mine), 1 - decay)
        for kept, now in zip(self.model.buffers(), model.buffers(), strict=True):
            kept.copy_(now)
