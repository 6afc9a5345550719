"""The settings of an aligner's training, from a TOML file."""

from __future__ import annotations

import dataclasses

from faceembed.engine.errors import UsageError
from faceembed.trainer.aligner.loss import LossSettings
from faceembed.trainer.aligner.network import NetworkSettings
from faceembed.trainer.aligner.scenes import SceneSettings
from faceembed.trainer.settings import Augment


@dataclasses.dataclass(frozen=True)
class AlignerData:
    """What is learnt from."""

    labels: tuple[str, ...] = ()
    """Files of face labels."""
    validate: tuple[str, ...] = ()
    """Files of face labels of other people, that the training is judged on."""
    groups: tuple[str, ...] = ()
    """Sets to draw from; empty: all that are in the labels, alike."""
    shares: tuple[float, ...] = ()
    """How often each of ``groups`` is drawn."""
    memory: float = 2.0
    """GiB of decoded photos to keep."""
    workers: int = 1
    """Processes that compose scenes; 0: the training's own."""


@dataclasses.dataclass(frozen=True)
class AlignerLoop:
    """How long and how fast."""

    steps: int = 8000
    batch_size: int = 24
    lr: float = 3e-3
    """Highest learning rate of AdamW; it rises over ``warmup_steps`` and falls along a cosine to a hundredth."""
    warmup_steps: int = 300
    weight_decay: float = 0.02
    clip: float = 10.0
    """Largest norm of the gradient."""
    ema: float = 0.998
    """Decay of the moving average of the weights, which is what is validated and exported."""
    validate_every: int = 1000
    """Steps between validations and checkpoints."""
    threads: int = 0
    """Of PyTorch; 0: its own choice."""

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "validate_every"):
            if getattr(self, name) < 1:
                raise UsageError(f"loop.{name} is {getattr(self, name)}; expected at least 1")
        if not 0 <= self.ema < 1:
            raise UsageError(f"loop.ema is {self.ema}; expected in [0, 1)")


@dataclasses.dataclass(frozen=True)
class AlignerConfig:
    """A whole training of an aligner."""

    seed: int = 1
    network: NetworkSettings = dataclasses.field(default_factory=NetworkSettings)
    data: AlignerData = dataclasses.field(default_factory=AlignerData)
    scenes: SceneSettings = dataclasses.field(default_factory=SceneSettings)
    augment: Augment = dataclasses.field(
        default_factory=lambda: Augment(
            flip=0.0,
            brightness=0.4,
            contrast=0.4,
            saturation=0.5,
            hue=15.0,
            grey_share=0.08,
            blur_share=0.15,
            blur=1.5,
            shrink_share=0.1,
            shrink=2.0,
            jpeg_share=0.25,
            jpeg=(25, 95),
            noise_share=0.15,
            noise=10.0,
        )
    )
    loss: LossSettings = dataclasses.field(default_factory=LossSettings)
    loop: AlignerLoop = dataclasses.field(default_factory=AlignerLoop)
