"""What is learned: losses on people, what the start or other encoders say, real or fake, attacked crops."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from faceembed.errors import UsageError
from faceembed.trainer.recipes.checks import at_least


@dataclasses.dataclass(frozen=True)
class Loss:
    """One loss by its name in `faceembed.trainer.losses`."""

    name: str = ""
    """Its name; empty: none."""
    weight: float = 1.0
    """What its value is multiplied by."""
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Its own settings (``m``, ``s``, ...)."""

    def __post_init__(self) -> None:
        at_least("loss weight", self.weight, 0)


@dataclasses.dataclass(frozen=True)
class Distillation:
    """Holding on to what the start knows: its embeddings of the same crops are targets."""

    weight: float = 0.0
    """What the loss is multiplied by; 0: none."""
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Settings of the distillation loss."""
    fakes: bool = False
    """Whether embeddings of deepfakes are held too; the start takes them for the person."""

    def __post_init__(self) -> None:
        at_least("distillation.weight", self.weight, 0)


@dataclasses.dataclass(frozen=True)
class Teachers:
    """Other encoders, whose embeddings of the same photos are learned beside, or instead of, whom they show (pre-training)."""

    indexes: tuple[str, ...] = ()
    """Indexes of the photos that the crops were cut from, one a teacher: `faceembed embed PEOPLE -o FILE.faiss --encoder TEACHER`. The
    network's dimension is the sum of theirs. People with fewer than `data.min_photos` photos are learned from too."""
    weights: tuple[float, ...] = ()
    """What each teacher's similarities count; empty: 1 each."""
    centre: float = 0.8
    """Share of a teacher's mean embedding that is taken away, so that strangers come near 0; see `batches/targets.py`."""
    weight: float = 1.0
    """What the loss is multiplied by."""
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Settings of the distillation loss."""

    def __post_init__(self) -> None:
        at_least("teachers.weight", self.weight, 0)
        if not 0 <= self.centre <= 1:
            raise UsageError(f"teachers.centre is {self.centre}; expected a share in [0, 1]")
        if self.weights and len(self.weights) != len(self.indexes):
            raise UsageError(
                f"teachers.weights has {len(self.weights)} numbers for {len(self.indexes)} teachers.indexes; expected one each"
            )
        if any(not weight > 0 for weight in self.weights):
            raise UsageError(f"teachers.weights is {list(self.weights)}; expected numbers above 0")

    @property
    def shares(self) -> tuple[float, ...]:
        """A weight for every index."""
        return self.weights or (1.0,) * len(self.indexes)


@dataclasses.dataclass(frozen=True)
class Maps:
    """A `slimface` that starts from ``sface`` is taught SFace's maps before it is taught embeddings; see `loop/maps.py`."""

    front_steps: int = 0
    """Steps in which what stands in place of SFace's first layers learns alone."""
    steps: int = 0
    """Steps in which the whole network learns, after those; 0 of both: nothing is taught."""
    batch_size: int = 64
    """Crops a step."""
    lr: float = 1e-3
    """First rate of each of the two; it falls along half a cosine to a fiftieth."""
    weight_decay: float = 0.02
    """Of the weights, by AdamW."""

    def __post_init__(self) -> None:
        at_least("maps.front_steps", self.front_steps, 0)
        at_least("maps.steps", self.steps, 0)
        at_least("maps.batch_size", self.batch_size, 1)
        at_least("maps.weight_decay", self.weight_decay, 0)
        if not self.lr > 0:
            raise UsageError(f"maps.lr is {self.lr}; expected a rate above 0")

    @property
    def total(self) -> int:
        """Steps of both kinds."""
        return self.front_steps + self.steps


@dataclasses.dataclass(frozen=True)
class Authenticity:
    """What a gated encoder (`model.gate`) learns of real and fake, beside its pairs."""

    weight: float = 1.0
    """What the cross-entropy of real or fake, each half of it, is multiplied by; 0: from pairs alone."""
    smoothing: float = 0.0
    """Share by which the targets stay away from 0 and 1, so that a doubtful face is not decided at any price."""
    collected_smoothing: float = 0.0
    """The same for collected deepfakes (`data.fakes`) and the photos beside them, where it is more: a few hundred people are soon learnt by
    heart, and of others the network is less sure than it says. About the share of unseen people's that it gets wrong."""
    identity_cost: float = 0.002
    """How decided the gate is, is chosen on the validation pairs after each epoch: by the lowest EER of all that leave ``eer_other``
    within this of the identity's own; see `gate_calibration.py`."""

    def __post_init__(self) -> None:
        at_least("authenticity.weight", self.weight, 0)
        at_least("authenticity.identity_cost", self.identity_cost, 0)
        for name in ("smoothing", "collected_smoothing"):
            if not 0 <= getattr(self, name) < 0.5:
                raise UsageError(f"authenticity.{name} is {getattr(self, name)}; expected in [0, 0.5)")


@dataclasses.dataclass(frozen=True)
class Adversarial:
    """Training on crops that were attacked with the network's own gradient."""

    weight: float = 0.0
    """What the loss on attacked crops is multiplied by; 0: none."""
    epsilon: float = 0.02
    """Largest change of a pixel, in [-1, 1]."""
    steps: int = 1
    """Steps of the attack; 1 is FGSM."""

    def __post_init__(self) -> None:
        at_least("adversarial.weight", self.weight, 0)
        at_least("adversarial.steps", self.steps, 1)
        if not 0 < self.epsilon <= 2:
            raise UsageError(f"adversarial.epsilon is {self.epsilon}; expected above 0 and at most 2")
