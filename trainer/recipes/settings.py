"""What can be set in a training: one frozen dataclass a table of the TOML file, a line of explanation under each field.

The values here are neutral; the recipes are `configs/pretrain.toml` and `configs/finetune.toml`, which the two commands start
from. `config.py` reads files into these classes. Nothing here knows torch.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from faceembed.errors import UsageError


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
    balance: bool = False
    """Give the start weights of the usual size, with the same outputs, so that a learning rate means what it means elsewhere;
    see `balance.py`. For frozen batch statistics."""
    batch_norm: str = "auto"
    """``train``: batch statistics, as when training from scratch. ``frozen``: the start's statistics are used and never moved,
    scales and shifts learn. ``calibrate``: statistics are first measured on the training crops, with the outputs kept, then
    as ``train``. ``auto``: frozen with a start, which never disturbs what it has learned; else train."""

    def __post_init__(self) -> None:
        _one_of("model.freeze", self.freeze, ("none", "body"))
        _one_of("model.batch_norm", self.batch_norm, ("auto", "train", "frozen", "calibrate"))
        _at_least("model.dimension", self.dimension, 0)
        if not 0 <= self.centre <= 1:
            raise UsageError(f"model.centre is {self.centre}; expected a share in [0, 1]")
        if not self.arch and not self.start:
            raise UsageError(
                "model.arch is empty, and so is model.start; name an architecture, for instance 'resnet29'"
            )
        if (self.centre or self.balance) and not self.start:
            name, off = ("centre", "0") if self.centre else ("balance", "false")
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
class Data:
    """Which crops are trained on, and how they are drawn."""

    crops: tuple[str, ...] = ()
    """Crop sets of real photos, as `faceembed data align` makes them."""
    extra: tuple[str, ...] = ()
    """Crop sets of real photos whose people are all trained on, though they are in no part of the split."""
    unlabelled: tuple[str, ...] = ()
    """Crop sets of real photos of nobody in particular, whatever their folders are called: learned from by what `teachers` say alone."""
    validate_extra: tuple[str, ...] = ()
    """Crop sets of more real photos, whose people are never trained on: photos of another kind than `crops`, that a gated encoder is
    not to take for deepfakes either. One photo of a person is enough; see `gate_calibration.py`."""
    fakes: tuple[str, ...] = ()
    """Crop sets of deepfakes of these people (fine-tuning)."""
    split: str = ""
    """A split by `faceembed data split`: its train people are trained on, its validate people validate."""
    exclude: tuple[str, ...] = ()
    """People who are never trained on; an entry may also be an LFW ``pairs.txt``, for everybody in it."""
    leave_out: tuple[str, ...] = ()
    """Methods of deepfakes that are never trained on, but validated."""
    min_photos: int = 1
    """People with fewer photos are not trained on (pre-training)."""
    sampling: str = "photos"
    """``photos``: each photo once an epoch. ``people``: every person equally often. ``groups``: `group` photos of each person
    in a batch, which losses on whole batches need."""
    group: int = 4
    """Photos of one person in a batch with ``groups``."""
    pairs_per_epoch: int = 0
    """Pairs drawn in an epoch (fine-tuning); 0: as many as there are photos."""
    ratios: tuple[float, ...] = (50.0, 25.0, 25.0)
    """Shares of pairs real+real of one person, real+fake of one person, real+other person."""
    turns: str = "people"
    """Of pairs real+fake: ``people`` take turns, or ``fakes`` do, so that people of many photos count for more than those of one."""
    made: float = 0.0
    """Share of the pairs real+fake whose fake is made anew, of the pair's photo and another person's, by our own methods that are not
    left out; see `making.py`. So many more deepfakes than `fakes` holds that none is learnt by heart."""
    check: bool = True
    """Decode every crop once before training, so that unreadable ones are found and listed; without it the first unreadable
    crop ends the run."""
    cache_mb: int = 1024
    """Memory for decoded crops; what does not fit is decoded anew each time."""
    threads: int = 0
    """Threads that decode and augment; 0: as many as cores."""

    def __post_init__(self) -> None:
        _one_of("data.sampling", self.sampling, ("photos", "people", "groups"))
        _one_of("data.turns", self.turns, ("people", "fakes"))
        _at_least("data.group", self.group, 2)
        _at_least("data.min_photos", self.min_photos, 1)
        _at_least("data.pairs_per_epoch", self.pairs_per_epoch, 0)
        _at_least("data.cache_mb", self.cache_mb, 0)
        _at_least("data.threads", self.threads, 0)
        if len(self.ratios) != 3 or any(share < 0 for share in self.ratios) or not self.ratios[0]:
            raise UsageError(
                f"data.ratios is {list(self.ratios)}; expected three shares (real+real, real+fake, real+other), the first above 0"
            )
        if not 0 <= self.made <= 1:
            raise UsageError(f"data.made is {self.made}; expected a share in [0, 1]")
        if not self.ratios[1] + self.ratios[2]:
            raise UsageError("data.ratios leaves no negative pairs; real+fake or real+other must be above 0")


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
        _at_least("loss weight", self.weight, 0)


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
        _at_least("distillation.weight", self.weight, 0)


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
        _at_least("teachers.weight", self.weight, 0)
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
class Authenticity:
    """What a gated encoder (`model.gate`) learns of real and fake, beside its pairs."""

    weight: float = 1.0
    """What the cross-entropy of real or fake, each half of it, is multiplied by; 0: from pairs alone."""
    smoothing: float = 0.0
    """Share by which the targets stay away from 0 and 1, so that a doubtful face is not decided at any price."""
    identity_cost: float = 0.002
    """How decided the gate is, is chosen on the validation pairs after each epoch: by the lowest EER of all that leave ``eer_other``
    within this of the identity's own; see `gate_calibration.py`."""

    def __post_init__(self) -> None:
        _at_least("authenticity.weight", self.weight, 0)
        _at_least("authenticity.identity_cost", self.identity_cost, 0)
        if not 0 <= self.smoothing < 0.5:
            raise UsageError(f"authenticity.smoothing is {self.smoothing}; expected in [0, 0.5)")


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
        _at_least("adversarial.weight", self.weight, 0)
        _at_least("adversarial.steps", self.steps, 1)
        if not 0 < self.epsilon <= 2:
            raise UsageError(f"adversarial.epsilon is {self.epsilon}; expected above 0 and at most 2")


@dataclasses.dataclass(frozen=True)
class Optimizer:
    """How weights follow gradients."""

    name: str = "adamw"
    """``adamw`` or ``sgd``."""
    lr: float = 5e-6
    """Learning rate."""
    head_lr: float = 0.0
    """Learning rate of the class head's own weights; 0: `lr`."""
    weight_decay: float = 1e-2
    """Weight decay, of matrices and filters only: not of biases, scales and shifts."""
    momentum: float = 0.9
    """Of ``sgd``."""
    betas: tuple[float, ...] = (0.9, 0.999)
    """Of ``adamw``."""

    def __post_init__(self) -> None:
        _one_of("optimizer.name", self.name, ("adamw", "sgd"))
        if not 0 < self.lr < math.inf:
            raise UsageError(f"optimizer.lr is {self.lr}; expected above 0")
        _at_least("optimizer.head_lr", self.head_lr, 0)
        _at_least("optimizer.weight_decay", self.weight_decay, 0)
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise UsageError(f"optimizer.betas is {list(self.betas)}; expected two numbers in [0, 1)")


@dataclasses.dataclass(frozen=True)
class Schedule:
    """How the learning rate changes."""

    name: str = "plateau"
    """``plateau``: times `factor` where `metric` has not fallen for `patience` epochs. ``cosine``: down to `lr_end` over all
    epochs. ``constant``."""
    warmup_steps: int = 0
    """Steps over which the rate rises from 0."""
    lr_end: float = 0.0
    """Last learning rate of ``cosine``, as a share of the first."""
    metric: str = "eer"
    """What ``plateau`` watches: a column of metrics.csv in which less is better."""
    factor: float = 0.5
    """Of ``plateau``."""
    patience: int = 10
    """Of ``plateau``, in epochs."""
    threshold: float = 1e-4
    """Of ``plateau``: the relative fall that counts."""

    def __post_init__(self) -> None:
        _one_of("schedule.name", self.name, ("plateau", "cosine", "constant"))
        _one_of("schedule.metric", self.metric, ("eer", "eer_other", "eer_fake", "loss", "val_loss"))
        _at_least("schedule.warmup_steps", self.warmup_steps, 0)
        _at_least("schedule.patience", self.patience, 0)
        if not 0 < self.factor < 1:
            raise UsageError(f"schedule.factor is {self.factor}; expected between 0 and 1")
        if not 0 <= self.lr_end <= 1:
            raise UsageError(f"schedule.lr_end is {self.lr_end}; expected a share in [0, 1]")


@dataclasses.dataclass(frozen=True)
class Loop:
    """How long, on what and in which steps."""

    epochs: int = 20
    """Passes over the data."""
    batch_size: int = 64
    """Crops (pre-training) or pairs (fine-tuning) in a step of one process."""
    accumulate: int = 1
    """Batches whose gradients are summed for one step."""
    clip: float = 5.0
    """Largest norm of the gradient; 0: no limit."""
    precision: str = "auto"
    """Of the network: ``fp32``, ``bf16``, ``fp16``, or ``auto``: bf16 where the device has it, else fp32. Losses are computed in
    fp32."""
    device: str = "auto"
    """``auto``, ``cpu``, ``cuda`` or ``cuda:N``."""
    channels_last: bool = True
    """Memory layout of feature maps; faster for most networks."""
    sync_batch_norm: bool = True
    """With several GPUs: statistics over all of them."""
    ema: float = 0.0
    """Decay of an exponential moving average of the weights, which is then validated and saved; 0: none."""
    stop_after: int = 0
    """Stop after so many epochs without a better EER; 0: never."""
    save_every: int = 0
    """Also save every so many steps; 0: once an epoch."""
    tensorboard: bool = True
    """Write curves for TensorBoard too."""
    diverged: float = 5.0
    """Stop where the loss, averaged over 20 steps, is this many times the average over the first 20; 0: only where it is NaN
    or infinite."""

    def __post_init__(self) -> None:
        _one_of("loop.precision", self.precision, ("auto", "fp32", "bf16", "fp16"))
        for name in ("epochs", "batch_size", "accumulate"):
            _at_least(f"loop.{name}", getattr(self, name), 1)
        for name in ("clip", "stop_after", "save_every", "diverged"):
            _at_least(f"loop.{name}", getattr(self, name), 0)
        if not 0 <= self.ema < 1:
            raise UsageError(f"loop.ema is {self.ema}; expected in [0, 1), for instance 0.999")


@dataclasses.dataclass(frozen=True)
class Validation:
    """The fixed pairs that every epoch is judged on."""

    pairs: str = ""
    """A pair list (CSV) over photos or crops of the crop sets; empty: drawn from the split's validate people."""
    count: int = 4000
    """Pairs drawn, at most."""
    people: int = 0
    """Without a split: people set aside for validation; 0: a tenth, at least 2."""
    threshold: float = 0.2
    """The cosine similarity at which ``val_accuracy`` and ``error_real_deepfake`` are counted; EERs do not use it."""
    batch_size: int = 128
    """Crops embedded at once."""

    def __post_init__(self) -> None:
        _at_least("validation.count", self.count, 4)
        _at_least("validation.people", self.people, 0)
        _at_least("validation.batch_size", self.batch_size, 1)
        if not -1 <= self.threshold <= 1:
            raise UsageError(f"validation.threshold is {self.threshold}; expected a cosine in [-1, 1]")


@dataclasses.dataclass(frozen=True)
class Augment:
    """Changes of a crop; each ``*_share`` is how often, the rest how strong at most. All 0: none."""

    flip: float = 0.5
    """How often mirrored."""
    shift: float = 0.0
    """Standard deviation of a shift, as a share of the side: what a detector's landmarks jitter by."""
    rotate: float = 0.0
    """Standard deviation of a turn in degrees."""
    zoom: float = 0.0
    """Standard deviation of the logarithm of a change of scale."""
    brightness: float = 0.0
    """Largest change, as a share."""
    contrast: float = 0.0
    """Largest change, as a share."""
    saturation: float = 0.0
    """Largest change, as a share."""
    hue: float = 0.0
    """Largest turn in degrees."""
    grey_share: float = 0.0
    blur_share: float = 0.0
    blur: float = 1.5
    """Largest standard deviation in pixels."""
    shrink_share: float = 0.0
    shrink: float = 4.0
    """Largest factor by which a crop is made smaller and larger again."""
    jpeg_share: float = 0.0
    jpeg: tuple[int, ...] = (30, 95)
    """Lowest and highest quality."""
    noise_share: float = 0.0
    noise: float = 10.0
    """Largest standard deviation, of 255."""
    erase_share: float = 0.0
    erase: float = 0.2
    """Largest share of the crop's area that is erased."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name.endswith("_share") or field.name == "flip":
                if not 0 <= value <= 1:
                    raise UsageError(f"augment.{field.name} is {value}; expected a share in [0, 1]")
            elif field.name != "jpeg":
                _at_least(f"augment.{field.name}", value, 0)
        if self.shrink < 1:
            raise UsageError(f"augment.shrink is {self.shrink}; expected a factor of at least 1")
        if max(self.brightness, self.contrast, self.saturation, self.erase) > 1:
            raise UsageError("augment: brightness, contrast, saturation and erase are shares of at most 1")
        if len(self.jpeg) != 2 or not 1 <= self.jpeg[0] <= self.jpeg[1] <= 100:
            raise UsageError(
                f"augment.jpeg is {list(self.jpeg)}; expected two qualities, 1 <= lowest <= highest <= 100"
            )


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

    def __post_init__(self) -> None:
        _one_of("task", self.task, ("pretrain", "finetune"))
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
        if self.distillation.weight and not self.model.start:
            raise UsageError("distillation.weight without model.start: there is no teacher; give a start, or weight 0")
        if self.schedule.metric == "val_loss" and self.task == "pretrain":
            raise UsageError("schedule.metric = 'val_loss' needs pairs; when pre-training use 'eer' or 'loss'")

    @property
    def taught(self) -> bool:
        """Whether other encoders teach."""
        return bool(self.teachers.indexes and self.teachers.weight)


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise UsageError(f"{name} is '{value}'; expected {', '.join(allowed[:-1])} or {allowed[-1]}")


def _at_least(name: str, value: float, least: float) -> None:
    if not value >= least or not math.isfinite(value):
        raise UsageError(f"{name} is {value}; expected at least {least}")
