"""How it is learned: how weights follow gradients, how the rate changes, how long and in which steps."""

from __future__ import annotations

import dataclasses
import math

from faceembed.errors import UsageError
from faceembed.trainer.recipes.checks import at_least, one_of


@dataclasses.dataclass(frozen=True)
class Optimizer:
    """How weights follow gradients."""

    name: str = "adamw"
    """``adamw`` or ``sgd``."""
    lr: float = 5e-6
    """Learning rate."""
    head_lr: float = 0.0
    """Learning rate of the class head's own weights; 0: `lr`."""
    weight_decay: float = 1e-2
    """Weight decay, of matrices and filters only: not of biases, scales and shifts."""
    momentum: float = 0.9
    """Of ``sgd``."""
    betas: tuple[float, ...] = (0.9, 0.999)
    """Of ``adamw``."""

    def __post_init__(self) -> None:
        one_of("optimizer.name", self.name, ("adamw", "sgd"))
        if not 0 < self.lr < math.inf:
            raise UsageError(f"optimizer.lr is {self.lr}; expected above 0")
        at_least("optimizer.head_lr", self.head_lr, 0)
        at_least("optimizer.weight_decay", self.weight_decay, 0)
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise UsageError(f"optimizer.betas is {list(self.betas)}; expected two numbers in [0, 1)")


@dataclasses.dataclass(frozen=True)
class Schedule:
    """How the learning rate changes."""

    name: str = "plateau"
    """``plateau``: times `factor` where `metric` has not fallen for `patience` epochs. ``cosine``: down to `lr_end` over all
    epochs. ``constant``."""
    warmup_steps: int = 0
    """Steps over which the rate rises from 0."""
    lr_end: float = 0.0
    """Last learning rate of ``cosine``, as a share of the first."""
    metric: str = "eer"
    """What ``plateau`` watches: a column of metrics.csv in which less is better."""
    factor: float = 0.5
    """Of ``plateau``."""
    patience: int = 10
    """Of ``plateau``, in epochs."""
    threshold: float = 1e-4
    """Of ``plateau``: the relative fall that counts."""

    def __post_init__(self) -> None:
        one_of("schedule.name", self.name, ("plateau", "cosine", "constant"))
        one_of("schedule.metric", self.metric, ("eer", "eer_other", "eer_fake", "loss", "val_loss"))
        at_least("schedule.warmup_steps", self.warmup_steps, 0)
        at_least("schedule.patience", self.patience, 0)
        if not 0 < self.factor < 1:
            raise UsageError(f"schedule.factor is {self.factor}; expected between 0 and 1")
        if not 0 <= self.lr_end <= 1:
            raise UsageError(f"schedule.lr_end is {self.lr_end}; expected a share in [0, 1]")


@dataclasses.dataclass(frozen=True)
class Loop:
    """How long, on what and in which steps."""

    epochs: int = 20
    """Passes over the data."""
    batch_size: int = 64
    """Crops (pre-training) or pairs (fine-tuning) in a step of one process."""
    accumulate: int = 1
    """Batches whose gradients are summed for one step."""
    clip: float = 5.0
    """Largest norm of the gradient; 0: no limit."""
    precision: str = "auto"
    """Of the network: ``fp32``, ``bf16``, ``fp16``, or ``auto``: bf16 where the device has it, else fp32. Losses are computed in
    fp32."""
    device: str = "auto"
    """``auto``, ``cpu``, ``cuda`` or ``cuda:N``."""
    channels_last: bool = True
    """Memory layout of feature maps; faster for most networks."""
    sync_batch_norm: bool = True
    """With several GPUs: statistics over all of them."""
    ema: float = 0.0
    """Decay of an exponential moving average of the weights, which is then validated and saved; 0: none."""
    stop_after: int = 0
    """Stop after so many epochs without a better EER; 0: never."""
    save_every: int = 0
    """Also save every so many steps; 0: once an epoch."""
    tensorboard: bool = True
    """Write curves for TensorBoard too."""
    diverged: float = 5.0
    """Stop where the loss, averaged over 20 steps, is this many times the average over the first 20; 0: only where it is NaN
    or infinite."""

    def __post_init__(self) -> None:
        one_of("loop.precision", self.precision, ("auto", "fp32", "bf16", "fp16"))
        for name in ("epochs", "batch_size", "accumulate"):
            at_least(f"loop.{name}", getattr(self, name), 1)
        for name in ("clip", "stop_after", "save_every", "diverged"):
            at_least(f"loop.{name}", getattr(self, name), 0)
        if not 0 <= self.ema < 1:
            raise UsageError(f"loop.ema is {self.ema}; expected in [0, 1), for instance 0.999")
