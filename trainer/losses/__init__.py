"""The losses: of classes, of pairs, of batches, and distillation. `registry` names them all and says how each is called."""

from __future__ import annotations

from faceembed.trainer.losses.registry import LOSSES, LossEntry, entry_of, make_loss, make_settings

__all__ = ["LOSSES", "LossEntry", "entry_of", "make_loss", "make_settings"]
