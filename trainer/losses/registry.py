"""The losses by name, as a training config names them.

    loss = make_loss("adaptive-margin", {"m_b": 0.3, "s": 20})
    head = make_loss("adaface", {"m": 0.4}, dimension=512, classes=1468)

``LOSSES[name].kind`` says how a loss is called:

    class           loss(embeddings (N, D), labels (N,))           owns a weight vector a person: give `make_loss` dimension, classes
    pair            loss(a (N, D), b (N, D), same (N,))
    batch           loss(embeddings (N, D), labels (N,))           a deepfake has a label of its own
    distillation    loss(student (N, D), teacher (N, D'))
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from torch import nn

from faceembed.errors import UsageError
from faceembed.trainer.losses.adaface import AdaFace, AdaFaceSettings
from faceembed.trainer.losses.adaptive_margin import AdaptiveMargin, AdaptiveMarginSettings
from faceembed.trainer.losses.arcface import ArcFace, ArcFaceSettings
from faceembed.trainer.losses.base import LossSettings
from faceembed.trainer.losses.centre import Centre, CentreSettings
from faceembed.trainer.losses.circle import Circle, CircleSettings
from faceembed.trainer.losses.contrastive import Contrastive, ContrastiveSettings
from faceembed.trainer.losses.cosface import CosFace, CosFaceSettings
from faceembed.trainer.losses.distillation import Distillation, DistillationSettings
from faceembed.trainer.losses.magface import MagFace, MagFaceSettings
from faceembed.trainer.losses.triplet import Triplet, TripletSettings

Kind = Literal["class", "pair", "batch", "distillation"]


@dataclasses.dataclass(frozen=True)
class LossEntry:
    """One loss of the registry."""

    kind: Kind
    loss: type[nn.Module]
    settings: type[LossSettings]


LOSSES: dict[str, LossEntry] = {
    "adaface": LossEntry("class", AdaFace, AdaFaceSettings),
    "arcface": LossEntry("class", ArcFace, ArcFaceSettings),
    "cosface": LossEntry("class", CosFace, CosFaceSettings),
    "magface": LossEntry("class", MagFace, MagFaceSettings),
    "adaptive-margin": LossEntry("pair", AdaptiveMargin, AdaptiveMarginSettings),
    "contrastive": LossEntry("pair", Contrastive, ContrastiveSettings),
    "triplet": LossEntry("batch", Triplet, TripletSettings),
    "circle": LossEntry("batch", Circle, CircleSettings),
    "centre": LossEntry("batch", Centre, CentreSettings),
    "distillation": LossEntry("distillation", Distillation, DistillationSettings),
}


def make_loss(
    name: str,
    settings: Mapping[str, Any] | None = None,
    *,
    dimension: int | None = None,
    classes: int | None = None,
) -> nn.Module:
    """A loss from its name and its settings.

    Args:
        name: a key of `LOSSES`; ``_`` counts as ``-``.
        settings: fields of the entry's settings; what is left out has its default.
        dimension, classes: of the embeddings, and people; needed by the losses of kind ``class``, ignored by others.

    Raises:
        UsageError: an unknown name or setting (the message names the nearest right one), or a value that cannot be.
    """
    entry = entry_of(name)
    values = make_settings(name, settings or {})
    if entry.kind != "class":
        return entry.loss(values)
    if dimension is None or classes is None:
        raise UsageError(
            f"loss '{name}' owns a vector for every person: it needs the dimension and the number of people"
        )
    return entry.loss(dimension, classes, values)


def entry_of(name: str) -> LossEntry:
    """The entry of a name.

    Raises:
        UsageError: unknown; the message names the nearest.
    """
    entry = LOSSES.get(name.lower().replace("_", "-"))
    if entry is None:
        raise UsageError(f"unknown loss '{name}'{_nearest(name.lower().replace('_', '-'), LOSSES)}")
    return entry


def make_settings(name: str, settings: Mapping[str, Any]) -> LossSettings:
    """The checked settings of a loss.

    Raises:
        UsageError: an unknown setting (the message names the nearest), or a value that cannot be.
    """
    kind = entry_of(name).settings
    known = [field.name for field in dataclasses.fields(kind)]
    for key in settings:
        if key not in known:
            raise UsageError(f"loss '{name}' has no setting '{key}'{_nearest(str(key), known)}")
    return kind(**settings)


def _nearest(word: str, known: Iterable[str]) -> str:
    names = list(known)
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.4)
    return f"; did you mean '{close[0]}'?" if close else f"; known are {', '.join(names)}"
