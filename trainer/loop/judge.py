"""How good a network is after an epoch, on the validation pairs.

    judge = Judge(config, learner, validation, cache, device=device)
    verdict = judge.verdict(network, judge.embeddings(network))
    verdict.row["eer"]

A gated network is judged, and kept, with the slope and offset of its gate chosen anew. Knows nothing of epochs.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from faceembed.trainer.backbones.gated import GatedEncoder
from faceembed.trainer.batches.dataset import CropCache, loader_threads
from faceembed.trainer.batches.loader import ahead
from faceembed.trainer.loop.gate_calibration import calibrate, calibrated, joined
from faceembed.trainer.loop.learner import Learner
from faceembed.trainer.loop.state import Row
from faceembed.trainer.loop.validate import ValidationSet
from faceembed.trainer.recipes.settings import TrainConfig


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What the validation pairs say."""

    network: nn.Module
    """The one that was judged, and is kept if it is the best."""
    row: Row
    """A value for each of `Judge.columns`."""
    rank: list[float]
    """Its EER, then 1 - AUC, as equal error rates happen on few pairs; the lowest is the best."""


class Judge:
    """Judges networks.

    Args:
        config: all settings.
        learner: how a network embeds, and the losses.
        validation: the pairs.
        cache: of their crops.
        device: that the network is on.
    """

    def __init__(
        self,
        config: TrainConfig,
        learner: Learner,
        validation: ValidationSet,
        cache: CropCache,
        *,
        device: torch.device,
    ) -> None:
        self._config, self._learner, self._validation, self._cache = config, learner, validation, cache
        self._device = device

    @property
    def columns(self) -> list[str]:
        """What `verdict` measures."""
        gate = ("gate_slope", "gate_offset") if isinstance(self._learner.body, GatedEncoder) else ()
        return [*self._validation.columns, "val_loss", *gate]

    @torch.no_grad()
    def embeddings(self, network: nn.Module) -> NDArray[np.float32]:
        """Of the validation crops, (n, D) float32, computed in fp32 as the exported model will."""
        network.eval()
        size, crops = self._config.validation.batch_size, self._validation.crops
        parts = [crops[start : start + size] for start in range(0, len(crops), size)]

        def load(part: NDArray[np.int64]) -> Tensor:
            return torch.from_numpy(np.stack([self._cache[index] for index in part.tolist()]))

        with torch.autocast(self._device.type, enabled=False):
            rows = [
                self._learner.embed(chips.to(self._device), body=network).float().cpu()
                for chips in ahead(parts, load, threads=loader_threads(self._config.data))
            ]
        return torch.cat(rows).numpy()

    def verdict(self, network: nn.Module, embeddings: NDArray[np.float32]) -> Verdict:
        """Judge a network by its `embeddings`."""
        row: Row = {}
        if isinstance(network, GatedEncoder):
            cost = self._config.authenticity.identity_cost
            chosen = calibrate(self._validation, embeddings, identity_cost=cost)
            network, embeddings = calibrated(network, chosen), joined(embeddings, chosen)
            row |= {"gate_slope": chosen.slope, "gate_offset": chosen.offset}
        row |= self._validation.measure(embeddings)
        row["val_loss"] = self._loss(embeddings)
        eer = row["eer"]
        assert eer is not None
        return Verdict(network, row, [float(eer), 1 - self._validation.auc(embeddings)])

    @torch.no_grad()
    def _loss(self, embeddings: NDArray[np.float32]) -> float | None:
        if "pair" not in self._learner.losses:
            return None
        pairs, crops = self._validation.pairs, self._validation.crops
        a, b = (torch.from_numpy(embeddings[np.searchsorted(crops, side)]) for side in (pairs.a, pairs.b))
        same = torch.from_numpy(pairs.label).float()
        return float(self._learner.losses["pair"](a, b, same))
