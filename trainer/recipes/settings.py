"""What can be set in a training: one frozen dataclass a table of the TOML file, a line of explanation under each field.

The values here are neutral; the recipes are `configs/pretrain.toml` and `configs/finetune.toml`, which the two commands start
from. `reading.py` reads files into these classes. Nothing here knows torch. Tables: `model` here; `data`, `validation`, `augment` in
`crops.py`; `loss`, `batch_loss`, `distillation`, `teachers`, `maps`, `authenticity`, `adversarial` in `goals.py`; `optimizer`, `schedule`,
`loop` in `steps.py`.
"""

from __future__ import annotations

import dataclasses

from faceembed.errors import UsageError
from faceembed.trainer.recipes.checks import at_least, one_of
from faceembed.trainer.recipes.crops import Augment, Data, Validation
from faceembed.trainer.recipes.goals import Adversarial, Authenticity, Distillation, Loss, Maps, Teachers
from faceembed.trainer.recipes.steps import Loop, Optimizer, Schedule


@dataclasses.dataclass(frozen=True)
class Model:
    """The network that is trained."""

    arch: str = ""
    """An architecture's name; empty: the start's."""
    start: str = ""
    """What to start from: a checkpoint of ours or of the architecture's own project, or ``dlib-resnet``; empty: random
    weights."""
    dimension: int = 0
    """Length of the embedding; 0: the start's, else the architecture's own."""
    freeze: str = "none"
    """``none``: the whole network learns. ``body``: only what follows the last feature map (the embedding layer)."""
    gate: bool = False
    """Fine-tuning: leave the start as it is, and learn beside it how real a face looks; see `backbones/gated.py`. A deepfake becomes
    orthogonal to photos of the person, and nothing of the identity is paid for it."""
    centre: float = 0.0
    """Share that is taken away of what all embeddings of the start have in common; at 1, strangers begin near cosine 0, and lengths
    that the start was trained with no longer count; see `centre.py`."""
    reduce: int = 0
    """Numbers to which a `resnet29-branch` start's embedding is cut, similarities as they were; 0: as it is; see `backbones/branched.py`."""
    apart: bool = False
    """Fold away the direction that all embeddings of the start share: strangers come near cosine 0, and the order of similarities stays;
    see `backbones/apart.py`."""
    balance: bool = False
    """Give the start weights of the usual size, with the same outputs, so that a learning rate means what it means elsewhere;
    see `balance.py`. For frozen batch statistics."""
    batch_norm: str = "auto"
    """``train``: batch statistics, as when training from scratch. ``frozen``: the start's statistics are used and never moved,
    scales and shifts learn. ``calibrate``: statistics are first measured on the training crops, with the outputs kept, then
    as ``train``. ``auto``: frozen with a start, which never disturbs what it has learned; else train."""

    def __post_init__(self) -> None:
        one_of("model.freeze", self.freeze, ("none", "body"))
        one_of("model.batch_norm", self.batch_norm, ("auto", "train", "frozen", "calibrate"))
        at_least("model.dimension", self.dimension, 0)
        at_least("model.reduce", self.reduce, 0)
        if not 0 <= self.centre <= 1:
            raise UsageError(f"model.centre is {self.centre}; expected a share in [0, 1]")
        if not self.arch and not self.start:
            raise UsageError(
                "model.arch is empty, and so is model.start; name an architecture, for instance 'resnet29'"
            )
        shaping = {"centre": self.centre, "reduce": self.reduce, "apart": self.apart, "balance": self.balance}
        if not self.start and (asked := [name for name, value in shaping.items() if value]):
            name, off = asked[0], "false" if shaping[asked[0]] is True else "0"
            raise UsageError(
                f"model.{name} without model.start is for weights that were trained before; set it to {off}"
            )
        if self.gate and not self.start:
            raise UsageError("model.gate without model.start: who a face shows is the start's to say; give one")
        if self.gate and self.freeze != "none":
            raise UsageError("model.gate leaves the start frozen already; leave model.freeze out")
        if self.freeze == "body" and not self.start:
            raise UsageError("model.freeze = 'body' without model.start would freeze random weights; give a start")


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """A whole training."""

    task: str = "finetune"
    """``pretrain`` or ``finetune``; the command's."""
    seed: int = 1
    """Of everything that is drawn: weights, order, pairs, augmentation, people set aside."""
    model: Model = dataclasses.field(default_factory=lambda: Model(arch="resnet29"))
    data: Data = dataclasses.field(default_factory=Data)
    loss: Loss = dataclasses.field(default_factory=Loss)
    batch_loss: Loss = dataclasses.field(default_factory=Loss)
    """A loss on whole batches (triplet, circle, centre) beside, or with `loss.weight` 0 instead of, the main one."""
    distillation: Distillation = dataclasses.field(default_factory=Distillation)
    teachers: Teachers = dataclasses.field(default_factory=Teachers)
    authenticity: Authenticity = dataclasses.field(default_factory=Authenticity)
    adversarial: Adversarial = dataclasses.field(default_factory=Adversarial)
    optimizer: Optimizer = dataclasses.field(default_factory=Optimizer)
    schedule: Schedule = dataclasses.field(default_factory=Schedule)
    loop: Loop = dataclasses.field(default_factory=Loop)
    validation: Validation = dataclasses.field(default_factory=Validation)
    augment: Augment = dataclasses.field(default_factory=Augment)
    maps: Maps = dataclasses.field(default_factory=Maps)

    def __post_init__(self) -> None:
        one_of("task", self.task, ("pretrain", "finetune"))
        if self.model.gate and self.task == "pretrain":
            raise UsageError("model.gate is for fine-tuning, with deepfakes; pre-train the identity first")
        if self.data.validate_extra and not self.model.gate:
            raise UsageError("data.validate_extra without model.gate: its photos would judge nothing; leave it out")
        if self.model.gate and self.distillation.weight:
            raise UsageError("model.gate with distillation: the start is kept as it is; set distillation.weight = 0")
        judged = self.model.gate and self.authenticity.weight > 0
        if (
            self.task == "finetune"
            and not (self.loss.name and self.loss.weight)
            and not self.batch_loss.name
            and not judged
        ):
            raise UsageError("nothing to learn: set loss.name (for instance 'adaptive-margin') or batch_loss.name")
        if self.task == "pretrain" and not (self.loss.name and self.loss.weight) and not self.taught:
            raise UsageError("nothing to learn: set loss.name (for instance 'adaface'), or teachers.indexes")
        if self.taught and self.data.sampling != "photos":
            raise UsageError(
                f"data.sampling = '{self.data.sampling}' with teachers.indexes: crops of nobody in particular have no turn; set 'photos'"
            )
        if self.data.unlabelled and not self.taught:
            raise UsageError(
                "data.unlabelled without teachers.indexes: nothing can be learned from photos of nobody; leave it out"
            )
        if self.data.unlabelled and self.data.min_photos < 2:
            raise UsageError("data.unlabelled wants data.min_photos = 2 or more: each of its crops would be a person")
        if self.task == "finetune" and self.teachers.indexes:
            raise UsageError(
                "teachers.indexes is for pre-training; what fine-tuning holds on to is its start (distillation.weight)"
            )
        if self.maps.total and self.model.start != "sface":
            raise UsageError("maps.steps and maps.front_steps are for model.start = 'sface'; set them to 0")
        if self.distillation.weight and not self.model.start:
            raise UsageError("distillation.weight without model.start: there is no teacher; give a start, or weight 0")
        if self.schedule.metric == "val_loss" and self.task == "pretrain":
            raise UsageError("schedule.metric = 'val_loss' needs pairs; when pre-training use 'eer' or 'loss'")

    @property
    def taught(self) -> bool:
        """Whether other encoders teach."""
        return bool(self.teachers.indexes and self.teachers.weight)
