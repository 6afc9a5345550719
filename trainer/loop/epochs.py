"""The training loop: epochs of steps, a validation and a checkpoint after each, and going on where an earlier run stopped.

    with open_accelerator(config.loop, notice=notice) as accelerator:
        loop = Loop(config, learner, task, validation, cache, run=Run(...), accelerator=accelerator)
        result = loop.train(progress)

`last.pt` holds everything, `best.pt` the network of the lowest validation EER. Knows nothing of what a batch holds; `judge` says how
good a network is, `logbook` writes what is to be read.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from faceembed.errors import ModelError
from faceembed.trainer.batches.dataset import CropCache, loader_threads
from faceembed.trainer.batches.loader import ahead
from faceembed.trainer.batches.tasks import Batch, Task
from faceembed.trainer.loop.devices import share_buffers, sharing_cores
from faceembed.trainer.loop.judge import Judge
from faceembed.trainer.loop.keeper import Keeper, Run
from faceembed.trainer.loop.learner import Learner
from faceembed.trainer.loop.logbook import Logbook
from faceembed.trainer.loop.optim import MovingAverage, Schedule, make_optimizer
from faceembed.trainer.loop.state import Progress, Row, seed_everything
from faceembed.trainer.loop.validate import ValidationSet
from faceembed.trainer.recipes.settings import TrainConfig

_WINDOW = 20  # steps over which a diverging loss is looked for


@dataclasses.dataclass(frozen=True)
class TrainProgress:
    """What a bar shows."""

    epoch: int
    """The one under way, from 1."""
    epochs: int
    batch: int
    batches: int
    """In an epoch."""
    items: int
    """Crops or pairs of this epoch so far, in this run."""
    unit: str
    loss: float
    eer: float | None
    """Of the last validation."""


class Loop:
    """One training.

    Args:
        config: all settings.
        learner: network and losses.
        task: what a batch holds.
        validation: the pairs that judge.
        cache: of the crops.
        run: the folder.
        accelerator: devices and processes.
    """

    def __init__(
        self,
        config: TrainConfig,
        learner: Learner,
        task: Task,
        validation: ValidationSet,
        cache: CropCache,
        *,
        run: Run,
        accelerator: Accelerator,
    ) -> None:
        self._config, self._task, self._run, self._accelerator = config, task, run, accelerator
        self._threads = loader_threads(config.data)
        self._learner = learner
        if config.loop.sync_batch_norm and accelerator.num_processes > 1 and accelerator.device.type == "cuda":
            learner.body = nn.SyncBatchNorm.convert_sync_batchnorm(learner.body)  # type: ignore[no-untyped-call]
        learner.to_device(accelerator.device)
        optimizer = make_optimizer(config.optimizer, learner.body, learner.losses)
        learner.to(accelerator.device)
        self._module, self._optimizer = accelerator.prepare(learner, optimizer)
        self._average = MovingAverage(learner.body, decay=config.loop.ema) if config.loop.ema else None
        self._plan_size = len(self._plan(1)) // config.loop.accumulate
        self._schedule = Schedule(
            config.schedule, self._optimizer.optimizer, steps=max(self._plan_size, 1) * config.loop.epochs
        )
        self._progress = Progress()
        self._keeper = Keeper(
            config,
            run,
            learner,
            optimizer=self._optimizer,
            schedule=self._schedule,
            average=self._average,
            accelerator=accelerator,
            data=f"{len(cache.crops):,} crops of {len(cache.crops.persons):,} people, {task.classes:,} to tell apart",
        )
        self._judge = Judge(config, learner, validation, cache, device=accelerator.device)
        columns = ["epoch", "step", "lr", "loss", *learner.part_names, "grad_norm", *self._judge.columns]
        self._logbook = Logbook(config, run, columns=columns, main=accelerator.is_main_process)

    @property
    def state(self) -> Progress:
        """How far it is."""
        return self._progress

    def resume(self) -> bool:
        """Go on from the folder's last checkpoint, if there is one; `Keeper.load` says what is raised."""
        found = self._keeper.load()
        if found is None:
            return False
        self._progress = found
        self._logbook.resume(found.epoch)
        return True

    def train(self, progress: Callable[[TrainProgress], None] = lambda progress: None) -> Progress:
        """Train to the last epoch.

        Raises:
            ModelError: the loss is no number any more, or grows; or a checkpoint cannot be written. What was saved stays.
        """
        state, config = self._progress, self._config
        with self._logbook.open(step=state.step):
            if not state.rows:
                self._finish_epoch({}, norm=None)
            self._logbook.write(state)
            while state.epoch < config.loop.epochs and not self._out_of_patience():
                with sharing_cores(self._accelerator.device, making=config.data.made > 0):
                    losses, norm = self._train_epoch(progress)
                state.epoch, state.batch, state.sums = state.epoch + 1, 0, {}
                self._finish_epoch(losses, norm=norm)
            self._logbook.write(state, whole=True)
        return state

    def _out_of_patience(self) -> bool:
        limit = self._config.loop.stop_after
        if limit and self._progress.epoch - self._progress.best_epoch >= limit:
            self._run.notice(f"stopped after epoch {self._progress.epoch}: no better EER for {limit} epochs")
            return True
        return False

    def _plan(self, epoch: int) -> Sequence[Batch]:
        """The batches of an epoch; with accumulation a multiple of it."""
        accelerator, accumulate = self._accelerator, self._config.loop.accumulate
        plan = self._task.plan(epoch, processes=accelerator.num_processes, process=accelerator.process_index)
        return plan[: max(len(plan) // accumulate, 1) * accumulate]

    def _train_epoch(self, progress: Callable[[TrainProgress], None]) -> tuple[dict[str, float], float]:
        """The mean of each loss over the epoch, and of the gradient's norm."""
        state, config = self._progress, self._config
        epoch = state.epoch + 1
        plan = self._plan(epoch)
        if not state.batch:
            seed_everything(config.seed, epoch, self._accelerator.process_index)
        self._module.train()
        started, waited, items = time.perf_counter(), 0.0, 0
        accumulate = config.loop.accumulate
        loaded = iter(ahead(plan[state.batch :], self._load, threads=self._threads))
        while state.batch < len(plan):
            now = time.perf_counter()
            arrays = next(loaded)
            waited += time.perf_counter() - now
            items += len(plan[state.batch].places)
            last = (state.batch + 1) % accumulate == 0 or state.batch + 1 == len(plan)
            if state.batch % accumulate == 0:
                self._schedule.before_step(state.step)
                self._optimizer.zero_grad(set_to_none=True)
            parts = self._backward(arrays, synchronise=last)
            self._note_losses(parts, epoch)
            if last:
                state.sums["grad_norm"] = state.sums.get("grad_norm", 0.0) + self._step()
                self._logbook.curve("step", {**parts, "lr": self._rate()}, state.step)
            state.batch += 1
            if last and config.loop.save_every and state.step % config.loop.save_every == 0 and state.batch < len(plan):
                self._keeper.save_last(state)
            progress(self._shown(epoch, len(plan), items, parts["loss"]))
        seconds = time.perf_counter() - started
        items *= self._accelerator.num_processes
        self._logbook.speed(epoch, unit=self._task.unit, items=items, seconds=seconds, waited=waited)
        norm = state.sums.pop("grad_norm") / math.ceil(len(plan) / accumulate)
        return {name: value / len(plan) for name, value in state.sums.items()}, norm

    def _load(self, batch: Batch) -> dict[str, Tensor]:
        tensors = {name: torch.from_numpy(np.ascontiguousarray(v)) for name, v in self._task.load(batch).items()}
        return {k: v.pin_memory() for k, v in tensors.items()} if self._accelerator.device.type == "cuda" else tensors

    def _backward(self, arrays: dict[str, Tensor], *, synchronise: bool) -> dict[str, float]:
        batch = {name: value.to(self._accelerator.device, non_blocking=True) for name, value in arrays.items()}
        if synchronise:
            parts = self._module(**batch)
            self._accelerator.backward(parts["loss"] / self._config.loop.accumulate)
        else:
            with self._accelerator.no_sync(self._module):
                parts = self._module(**batch)
                self._accelerator.backward(parts["loss"] / self._config.loop.accumulate)
        names = list(parts)
        values = torch.stack([parts[name].detach().float() for name in names])
        values = self._accelerator.reduce(values, reduction="mean")
        return dict(zip(names, values.tolist(), strict=True))  # one wait for the device a step

    def _step(self) -> float:
        clip = self._config.loop.clip or math.inf
        norm = self._accelerator.clip_grad_norm_(self._module.parameters(), clip)
        norm = 0.0 if norm is None else float(norm)
        if not math.isfinite(norm) and self._accelerator.scaler is None:  # a scaler leaves such a step out by itself
            raise self._no_number(f"the gradient is {norm} after step {self._progress.step}")
        self._optimizer.step()
        if self._average:
            self._average.update(self._learner.body, step=self._progress.step)
        self._progress.step += 1
        return norm

    def _note_losses(self, parts: dict[str, float], epoch: int) -> None:
        """Add to the sums, and stop where training makes no sense any more."""
        state, loss = self._progress, parts["loss"]
        where = f"in epoch {epoch}, batch {state.batch + 1}"
        if not math.isfinite(loss):
            raise self._no_number(f"the loss is {loss} {where}")
        for name, value in parts.items():
            state.sums[name] = state.sums.get(name, 0.0) + value
        if len(state.first_losses) < _WINDOW:
            state.first_losses.append(loss)
        state.recent_losses = [*state.recent_losses[-_WINDOW + 1 :], loss]
        first, recent = np.mean(state.first_losses), np.mean(state.recent_losses)
        limit = self._config.loop.diverged
        if limit and len(state.recent_losses) == _WINDOW and recent > limit * first:
            raise ModelError(
                f"the loss diverges: {recent:.3g} on average over the last {_WINDOW} batches {where}, {first:.3g} over the first; "
                f"try a lower optimizer.lr (now {self._rate():.3g}) or a longer schedule.warmup_steps; {self._kept()}"
            )

    def _no_number(self, what: str) -> ModelError:
        hint = "" if self._config.loop.precision == "fp32" else ", loop.precision=fp32"
        return ModelError(
            f"{what}; try a lower optimizer.lr (now {self._rate():.3g}){hint}, or a smaller loop.clip; {self._kept()}"
        )

    def _rate(self) -> float:
        return float(self._optimizer.param_groups[0]["lr"])

    def _kept(self) -> str:
        kept = self._progress.rows[-1]["epoch"] if self._progress.rows else "no"
        return f"the checkpoints of epoch {kept} stay in {self._run.folder}"

    def _shown(self, epoch: int, batches: int, items: int, loss: float) -> TrainProgress:
        eer = self._progress.rows[-1].get("eer")
        return TrainProgress(
            epoch, self._config.loop.epochs, self._progress.batch, batches, items, self._task.unit, loss, eer
        )

    def validated(self) -> nn.Module:
        """The network that is judged and kept: the moving average, if there is one."""
        return self._average.model if self._average else self._learner.body

    def _finish_epoch(self, losses: dict[str, float], *, norm: float | None) -> None:
        """Validate, and write what the epoch gave."""
        state = self._progress
        share_buffers(self._learner.body, self._accelerator)
        row: Row = {"epoch": state.epoch, "step": state.step, "lr": self._rate() if losses else None}
        row |= losses
        row["grad_norm"] = norm
        network = self.validated()
        embeddings = self._judge.embeddings(network)
        if not np.isfinite(embeddings).all():
            raise self._no_number(f"embeddings are no numbers after epoch {state.epoch}")
        verdict = self._judge.verdict(network, embeddings)
        row |= verdict.row
        state.rows.append(row)
        if state.epoch:
            self._schedule.after_epoch(row, step=state.step)
        # Random weights are no result.
        better = (state.epoch > 0 or bool(self._config.model.start)) and (not state.best or verdict.rank < state.best)
        if better:
            state.best, state.best_epoch = verdict.rank, state.epoch
        if self._accelerator.is_main_process:
            if better:
                self._keeper.save_best(verdict.network, epoch=state.epoch, eer=verdict.rank[0])
            self._keeper.save_last(state)
            self._logbook.write(state)
            self._logbook.curve("epoch", {k: v for k, v in row.items() if k != "epoch"}, state.epoch)
            self._logbook.say(row, better=better)
        self._accelerator.wait_for_everyone()
