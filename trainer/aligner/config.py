"""The settings of an aligner's training, from a TOML file.

    config = read_config("aligner")             # the shipped recipe
    config = read_config("mine.toml", overrides=["loop.steps=20000"])

What a file does not say has the default of the dataclasses here; with ``base = "aligner"`` at its top, that recipe's value. Paths are
relative to where the command runs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from faceembed.errors import UsageError
from faceembed.trainer.aligner.loss import LossSettings
from faceembed.trainer.aligner.network import NetworkSettings
from faceembed.trainer.aligner.refiner import RefinerSettings
from faceembed.trainer.aligner.scenes import SceneSettings
from faceembed.trainer.recipes.crops import Augment
from faceembed.trainer.recipes.reading import Layer, Recipes


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
    empty: tuple[str, ...] = ()
    """Groups whose photos are known to show nobody: all of them is background. Of other groups, photos without a sure face are left out."""
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
    start: str = ""
    """An aligner of this kind, by name or file, whose weights the training begins with; empty: with random ones."""

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "validate_every"):
            if getattr(self, name) < 1:
                raise UsageError(f"loop.{name} is {getattr(self, name)}; expected at least 1")
        if self.batch_size % 2:
            raise UsageError(f"loop.batch_size is {self.batch_size}; expected an even number: each scene is seen twice")
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
    refiner: RefinerSettings = dataclasses.field(default_factory=RefinerSettings)
    loop: AlignerLoop = dataclasses.field(default_factory=AlignerLoop)


_RECIPES = Recipes(
    AlignerConfig, "faceembed.trainer.aligner", example="loop.steps=20000", aliases={"learning_rate": "lr"}
)


def read_config(source: str, *, overrides: Sequence[str] = ()) -> AlignerConfig:
    """Read settings.

    Args:
        source: a TOML file, or the name of a shipped recipe.
        overrides: ``table.key=value``, the value as TOML has it; quotes may be left out.

    Raises:
        UsageError: no such file, not TOML, an unknown key, a value of the wrong type, or settings that contradict each other.
    """
    defaults = Layer(dataclasses.asdict(AlignerConfig()), "defaults")  # an aligner's [augment] is not Augment()
    layers = [defaults, *_RECIPES.layers(source), *map(_RECIPES.override, overrides)]
    return from_dict(_RECIPES.merged(layers), where=source)


def from_dict(table: Mapping[str, Any], *, where: str) -> AlignerConfig:
    """Settings from nested tables.

    Raises:
        UsageError: see `read_config`; the message names ``where``.
    """
    return _RECIPES.build(table, where=where)
