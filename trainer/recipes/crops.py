"""What is learned from: which crops are trained on, how they are drawn and how changed, and the pairs that judge."""

from __future__ import annotations

import dataclasses

from faceembed.errors import UsageError
from faceembed.trainer.recipes.checks import at_least, one_of


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
    methods: tuple[str, ...] = ()
    """By which methods they are made: some of `making.ALL_METHODS`; empty: `making.MADE_METHODS`, those of whole photos."""
    check: bool = True
    """Decode every crop once before training, so that unreadable ones are found and listed; without it the first unreadable
    crop ends the run."""
    cache_mb: int = 1024
    """Memory for decoded crops; what does not fit is decoded anew each time."""
    threads: int = 0
    """Threads that decode and augment; 0: as many as cores."""

    def __post_init__(self) -> None:
        one_of("data.sampling", self.sampling, ("photos", "people", "groups"))
        one_of("data.turns", self.turns, ("people", "fakes"))
        at_least("data.group", self.group, 2)
        at_least("data.min_photos", self.min_photos, 1)
        at_least("data.pairs_per_epoch", self.pairs_per_epoch, 0)
        at_least("data.cache_mb", self.cache_mb, 0)
        at_least("data.threads", self.threads, 0)
        if len(self.ratios) != 3 or any(share < 0 for share in self.ratios) or not self.ratios[0]:
            raise UsageError(
                f"data.ratios is {list(self.ratios)}; expected three shares (real+real, real+fake, real+other), the first above 0"
            )
        if not 0 <= self.made <= 1:
            raise UsageError(f"data.made is {self.made}; expected a share in [0, 1]")
        if not self.ratios[1] + self.ratios[2]:
            raise UsageError("data.ratios leaves no negative pairs; real+fake or real+other must be above 0")


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
        at_least("validation.count", self.count, 4)
        at_least("validation.people", self.people, 0)
        at_least("validation.batch_size", self.batch_size, 1)
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
    night_share: float = 0.0
    night: float = 3.0
    """Largest exponent by which a crop is darkened, at least 1; noise of an amplified picture comes with it."""
    motion_share: float = 0.0
    motion: float = 9.0
    """Longest way in pixels that the camera or the person moved."""
    everyday_share: float = 0.0
    """How often what happens to honest photos on their way, one crop of a pair as the other; see `everyday.py`."""
    cover_share: float = 0.0
    """Of these, how often dark glasses or a mask are drawn."""
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
                at_least(f"augment.{field.name}", value, 0)
        if self.night < 1:
            raise UsageError(f"augment.night is {self.night}; expected an exponent of at least 1")
        if self.shrink < 1:
            raise UsageError(f"augment.shrink is {self.shrink}; expected a factor of at least 1")
        if max(self.brightness, self.contrast, self.saturation, self.erase) > 1:
            raise UsageError("augment: brightness, contrast, saturation and erase are shares of at most 1")
        if len(self.jpeg) != 2 or not 1 <= self.jpeg[0] <= self.jpeg[1] <= 100:
            raise UsageError(
                f"augment.jpeg is {list(self.jpeg)}; expected two qualities, 1 <= lowest <= highest <= 100"
            )
