"""White-box attacks: FGSM and PGD on a network in PyTorch, through the engine's `attack_pairs`; and noise on a checkpoint.

    result = attack_pairs("pairs.csv", Pgd(steps=20), settings=AttackSettings(EmbedSettings(encoder="best.pt")))

The attacker knows the encoder: a checkpoint, or any that the engine takes. Each pixel stays within ``levels = floor(127.5 epsilon)`` of the
chip's. What is not known here: how a gradient is computed (`attack_gradient`), and which pairs there are (`engine.verbs.attack`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from faceembed.engine.explain.subject import Subject
from faceembed.engine.pipeline.encodes import Chips
from faceembed.engine.pipeline.progress import Notify, OnProgress
from faceembed.engine.pipeline.settings import EmbedSettings
from faceembed.engine.verbs.attack import LEVELS, Attack, Noise, Turn
from faceembed.errors import UsageError
from faceembed.trainer.gradients.subject import open_network_subject

if TYPE_CHECKING:
    from faceembed.trainer.gradients.attack_gradient import Network

_ROUNDING = 1e-6
_OVERSTEP = 2.5  # all steps of PGD together reach this many epsilons


def levels_of(epsilon: float) -> int:
    """How many of 255 levels a pixel may change: the largest whole number within ``epsilon``.

    Raises:
        UsageError: that is 0.
    """
    levels = math.floor(epsilon * LEVELS + _ROUNDING)
    if levels < 1:
        raise UsageError(
            f"--epsilon {epsilon:g} is less than one of 255 levels; the least is {math.ceil(1e4 / LEVELS) / 1e4}"
        )
    return levels


class _OnNetwork(Attack):
    """What attacks in PyTorch share.

    Args:
        arch: the architecture of another project's checkpoint.
    """

    network: Network
    """From `open` on."""

    def __init__(self, arch: str | None = None) -> None:
        self.arch = arch

    def open(self, settings: EmbedSettings, photos: Sequence[str], *, notice: Notify, progress: OnProgress) -> Subject:
        subject, self.network = open_network_subject(
            settings, photos, arch=self.arch, purpose=self.method, notice=notice, progress=progress
        )
        return subject


class NetworkNoise(_OnNetwork, Noise):
    """The engine's noise, on an encoder that only PyTorch can run."""


class Fgsm(_OnNetwork):
    """One step along the sign of the gradient."""

    method = "fgsm"

    def levels(self, epsilon: float) -> int:
        return levels_of(epsilon)

    def change(self, turn: Turn) -> Chips:
        from faceembed.trainer.gradients.attack_gradient import fgsm  # optional: PyTorch

        assert turn.levels is not None
        return fgsm(self.network, turn.chips, turn.references, turn.sign, levels=turn.levels)


class Pgd(_OnNetwork):
    """Several steps, of which the best picture is taken, so it does no less harm than `Fgsm`.

    Args:
        arch: as for `Fgsm`.
        steps: how many.
        step_size: in units of [-1, 1]; None for 2.5 epsilon / steps. Never less than one level.
    """

    method = "pgd"

    def __init__(self, arch: str | None = None, *, steps: int = 10, step_size: float | None = None) -> None:
        super().__init__(arch)
        if steps < 1:
            raise UsageError(f"--steps {steps} must be at least 1")
        if step_size is not None and not 0 < step_size <= 2:
            raise UsageError(f"--step-size {step_size:g} must be more than 0 and at most 2")
        self.steps, self.step_size = steps, step_size

    def levels(self, epsilon: float) -> int:
        return levels_of(epsilon)

    def change(self, turn: Turn) -> Chips:
        from faceembed.trainer.gradients.attack_gradient import pgd  # optional: PyTorch

        assert turn.levels is not None
        size = max(1, round((self.step_size or _OVERSTEP * turn.epsilon / self.steps) * LEVELS))
        return pgd(
            self.network, turn.chips, turn.references, turn.sign, levels=turn.levels, steps=self.steps, size=size
        )

    def details(self) -> dict[str, Any]:
        return {"steps": self.steps, "step_size": self.step_size}
