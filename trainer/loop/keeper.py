"""The checkpoints of a run: `last.pt` holds everything that moves, `best.pt` the network of the lowest validation EER."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from torch import nn

from faceembed.engine.models.spec import ModelSpec
from faceembed.errors import ModelError
from faceembed.trainer.backbones.checkpoints import load_checkpoint, save_checkpoint
from faceembed.trainer.loop.learner import Learner
from faceembed.trainer.loop.optim import MovingAverage, Schedule
from faceembed.trainer.loop.resume import check_same_training
from faceembed.trainer.loop.state import Progress, random_state, set_random_state
from faceembed.trainer.recipes.config import from_toml_text, to_toml
from faceembed.trainer.recipes.settings import TrainConfig

LAST, BEST = "last.pt", "best.pt"


@dataclasses.dataclass(frozen=True)
class Run:
    """Where a training writes, and what its network is."""

    folder: Path
    arch: str
    spec: ModelSpec
    """Of what comes out."""
    notice: Callable[[str], None]


class Keeper:
    """Saves and loads everything that moves in a training.

    Args:
        config: its settings.
        run: its folder.
        learner, optimizer, schedule, average: what moves; no average if there is none.
        accelerator: whose first process writes.
        data: which data it is trained on, for comparison.
    """

    def __init__(
        self,
        config: TrainConfig,
        run: Run,
        learner: Learner,
        *,
        optimizer: AcceleratedOptimizer,
        schedule: Schedule,
        average: MovingAverage | None,
        accelerator: Accelerator,
        data: str,
    ) -> None:
        self._config, self._run, self._learner = config, run, learner
        self._optimizer, self._schedule, self._average = optimizer, schedule, average
        self._accelerator, self._data = accelerator, data

    def load(self) -> Progress | None:
        """Go back to the last checkpoint; None where there is none.

        Within an epoch the random generators of the first process go on too; other processes begin theirs anew.

        Raises:
            ModelError: it is damaged, or of another architecture or other data.
            UsageError: it was made with other settings.
        """
        path = self._run.folder / LAST
        if not path.exists():
            return None
        checkpoint = load_checkpoint(path)
        training = checkpoint.training
        if training is None:
            raise ModelError(f"{path} holds a network alone, nothing to go on from; start anew with --fresh")
        check_same_training(from_toml_text(training["config"], where=str(path)), self._config, path)
        if checkpoint.arch != self._run.arch or checkpoint.dimension != self._run.spec.dimension:
            raise ModelError(
                f"{path} holds {checkpoint.arch} of dimension {checkpoint.dimension}, this training is of {self._run.arch} "
                f"of dimension {self._run.spec.dimension}; take another folder, or start anew with --fresh"
            )
        if training["data"] != self._data:
            raise ModelError(
                f"{path} was made from {training['data']}, and there is {self._data} now; the crops have changed: "
                "take another folder, or start anew with --fresh"
            )
        self._learner.body.load_state_dict(checkpoint.model)
        self._learner.losses.load_state_dict(training["losses"])
        self._optimizer.load_state_dict(training["optimizer"])
        self._schedule.load_state_dict(training["schedule"])
        if self._average:
            self._average.model.load_state_dict(training["average"])
        if self._accelerator.scaler is not None and training["scaler"]:
            self._accelerator.scaler.load_state_dict(training["scaler"])
        progress = Progress(**training["progress"])
        if progress.batch and self._accelerator.is_main_process:
            set_random_state(training["random"])
        return progress

    def save_last(self, progress: Progress) -> None:
        """Save everything.

        Raises:
            ModelError: it cannot be written; the one before stays.
        """
        scaler = self._accelerator.scaler
        training = {
            "config": to_toml(self._config),
            "data": self._data,
            "losses": dict(self._learner.losses.state_dict()),
            "optimizer": self._optimizer.state_dict(),
            "schedule": self._schedule.state_dict(),
            "average": dict(self._average.model.state_dict()) if self._average else {},
            "scaler": scaler.state_dict() if scaler is not None else {},
            "random": random_state(),
            "progress": progress.to_dict(),
        }
        self._save(LAST, self._learner.body, training)

    def save_best(self, body: nn.Module, *, epoch: int, eer: float) -> None:
        """Save a network for use.

        Raises:
            ModelError: it cannot be written; the one before stays.
        """
        self._save(BEST, body, {"epoch": epoch, "eer": eer})

    def _save(self, name: str, body: nn.Module, training: dict[str, Any]) -> None:
        if not self._accelerator.is_main_process:
            return
        path = self._run.folder / name
        try:
            save_checkpoint(
                path,
                arch=self._run.arch,
                dimension=self._run.spec.dimension,
                spec=self._run.spec,
                model=body.state_dict(),
                training=training,
            )
        except ModelError as error:
            kept = f"; {path} is that of an earlier epoch, and the same command goes on from {LAST}"
            raise ModelError(f"{error}{kept if path.exists() else ''}") from error
