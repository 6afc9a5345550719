"""What a model is: an ONNX file plus this description of its inputs and outputs.

Nothing else in the code knows a model by name. A colour mix-up (BGR for RGB) or a wrong template costs accuracy without
any error message, so both are part of the spec and are checked where a model is loaded.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from typing import Any, Literal

from faceembed.errors import ModelError

Task = Literal["aligner", "encoder"]
Colour = Literal["rgb", "bgr"]
Points = tuple[tuple[float, float], ...]

# The ArcFace five-point template in a 112x112 chip, (x, y) in pixels: left eye, right eye, nose tip, left and right mouth
# corner, "left" as seen in the image. https://arxiv.org/abs/1801.07698 (InsightFace `face_align.py` lists the numbers.)
ARCFACE_TEMPLATE: Points = (
    (38.2946, 51.6963),
    (73.5318, 51.5014),
    (56.0252, 71.7366),
    (41.5493, 92.3655),
    (70.7299, 92.2041),
)


_LEAST_SCALE = 1e-9


@dataclasses.dataclass(frozen=True)
class Level:
    """A threshold at a false match rate; see `faceembed.engine.models.thresholds`."""

    fmr: float
    """Share of pairs of strangers that match from the threshold on, at most."""
    threshold: float
    """Cosine."""
    low: float
    """The 95 % interval of the threshold."""
    high: float

    def __post_init__(self) -> None:
        if not (0 < self.fmr < 1 and -1 <= self.threshold <= 1.01 and self.low <= self.high):
            raise ModelError(f"a threshold of {self.threshold} ({self.low} to {self.high}) at FMR {self.fmr} is none")


@dataclasses.dataclass(frozen=True)
class ModelSpec:
    """One model's contract.

    The network's input is ``(chip - mean) * scale``, NCHW float32, channels in the order of ``colour``.
    """

    name: str
    task: Task
    input_size: tuple[int, int]
    """Height and width of the input in pixels; ``(0, 0)`` for a fully convolutional aligner."""
    colour: Colour = "rgb"
    mean: tuple[float, float, float] = (127.5, 127.5, 127.5)
    """Subtracted per channel (0..255 scale), in the order of ``colour``."""
    scale: float = 1 / 127.5
    dimension: int = 0
    """Length of the embedding; 0 for an aligner."""
    normalised: bool = False
    """Whether the network's own output has unit length. The engine normalises in any case."""
    gated: bool = False
    """Whether the embedding is ``[sqrt(p) u, sqrt(1 - p) u]``, so that a deepfake is orthogonal to photos: p, the squared share of
    the first half, is how real a face looks."""
    template: Points = ()
    """Where the five landmarks lie in the input chip, (x, y) in pixels, pixel centres at whole numbers."""
    decoder: str = ""
    """For an aligner: the kind of its outputs, which says who can read them; see `faceembed.engine.detect.kinds`."""
    min_score: float | None = None
    """For an aligner: the least score of a face; None where it was never chosen, which takes all that the aligner reports."""
    min_score_source: str = ""
    """The pictures it was chosen on."""
    threshold: float | None = None
    """Cosine similarity above which two photos count as one person; None where it was never measured."""
    threshold_source: str = ""
    """The data the threshold was chosen on."""
    thresholds: tuple[Level, ...] = ()
    """Thresholds at stated false match rates, measured on the people of ``spread_source``; empty where they were not."""
    odds: tuple[float, float] | None = None
    """Slope and intercept of the log odds that two faces of a cosine show one person, at even odds (`likelihood`); None where they were not
    fitted."""
    norms: tuple[float, ...] = ()
    """Quantiles of the embeddings' lengths before normalisation on training photos, evenly from the least to the greatest; empty where they
    were not measured."""
    quality_aware: tuple[float, float] | None = None
    """alpha and beta of QMagFace's score (`quality_aware`); None where they were not fitted."""
    spread: float | None = None
    """Standard deviation of the cosine of strangers: the unit in which a precision's loss is measured; None where it was not."""
    spread_source: str = ""
    """The people it was measured on."""
    templates: str = ""
    """Embeddings of some of them, as `faceembed.engine.models.strangers` writes them; empty for none."""
    unfit: tuple[str, ...] = ()
    """Runtimes that compute the network otherwise than ONNX defines it, found at import; they are not used for it."""
    licence: str = "unknown"
    source: str = ""
    sha256: str = ""
    """Of the ONNX file; empty until the file is there."""

    def __post_init__(self) -> None:
        if self.task not in ("aligner", "encoder"):
            raise ModelError(f"model {self.name}: task is '{self.task}'; expected 'aligner' or 'encoder'")
        if self.colour not in ("rgb", "bgr"):
            raise ModelError(f"model {self.name}: colour is '{self.colour}'; expected 'rgb' or 'bgr'")
        if self.task == "encoder" and (self.dimension <= 0 or len(self.template) != 5):
            raise ModelError(
                f"model {self.name}: an encoder's spec needs 'dimension' > 0 and a 'template' of five points"
            )
        if self.task == "encoder":
            _check_pixels(self)
        if self.threshold is not None and not -1 <= self.threshold <= 1:
            raise ModelError(f"model {self.name}: threshold is {self.threshold}; expected a cosine, -1 to 1")
        if self.min_score is not None and not 0 <= self.min_score <= 1:
            raise ModelError(f"model {self.name}: min_score is {self.min_score}; expected 0 to 1")
        if self.norms and (
            len(self.norms) < 2 or not all(a <= b for a, b in zip(self.norms, self.norms[1:], strict=False))
        ):
            raise ModelError(f"model {self.name}: norms are quantiles, two or more that do not fall")
        if self.quality_aware is not None and not all(map(math.isfinite, self.quality_aware)):
            raise ModelError(f"model {self.name}: quality_aware is {self.quality_aware}; expected two numbers")
        if self.odds is not None and not (self.odds[0] > 0 and all(map(math.isfinite, self.odds))):
            raise ModelError(f"model {self.name}: odds are {self.odds}; expected a slope above 0 and an intercept")
        if self.spread is not None and not 0 < self.spread < 1:
            raise ModelError(
                f"model {self.name}: spread is {self.spread}; expected a standard deviation between 0 and 1"
            )

    def to_json(self) -> str:
        """The spec as indented JSON, as it is stored beside the ONNX file."""
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str, *, where: str = "spec") -> ModelSpec:
        """Read what `to_json` wrote.

        Raises:
            ModelError: unknown or missing fields, or values of the wrong shape; the message names ``where``.
        """
        try:
            fields: Mapping[str, Any] = json.loads(text)
            known = {field.name for field in dataclasses.fields(cls)}
            if unknown := sorted(set(fields) - known):
                raise ModelError(f"{where}: unknown field '{unknown[0]}'; known are {', '.join(sorted(known))}")
            values = dict(fields)
            if "input_size" in values:
                height, width = values["input_size"]
                values["input_size"] = (int(height), int(width))
            if "mean" in values:
                red, green, blue = values["mean"]
                values["mean"] = (float(red), float(green), float(blue))
            if "unfit" in values:
                values["unfit"] = tuple(str(name) for name in values["unfit"])
            if values.get("odds") is not None:
                slope, intercept = values["odds"]
                values["odds"] = (float(slope), float(intercept))
            if values.get("quality_aware") is not None:
                alpha, beta = values["quality_aware"]
                values["quality_aware"] = (float(alpha), float(beta))
            if "norms" in values:
                values["norms"] = tuple(float(value) for value in values["norms"])
            if "thresholds" in values:
                values["thresholds"] = tuple(Level(**level) for level in values["thresholds"])
            if "template" in values:
                values["template"] = tuple((float(x), float(y)) for x, y in values["template"])
            return cls(**values)
        except (TypeError, ValueError, KeyError) as error:
            raise ModelError(f"{where}: not a model spec ({error})") from error


def _check_pixels(spec: ModelSpec) -> None:
    """What an encoder's input is made by: numbers that leave something of a picture, and points that a face can be laid on."""
    if not all(math.isfinite(value) for value in spec.mean):
        raise ModelError(f"model {spec.name}: mean is {spec.mean}; expected three numbers")
    if not math.isfinite(spec.scale) or abs(spec.scale) < _LEAST_SCALE:
        raise ModelError(
            f"model {spec.name}: scale is {spec.scale:g}; expected a number that leaves something of a picture"
        )
    points = {point for point in spec.template if all(map(math.isfinite, point))}
    if len(spec.template) == 5 and len(points) < 5:
        raise ModelError(
            f"model {spec.name}: the five points of its template must be numbers and differ from each other"
        )


@dataclasses.dataclass(frozen=True)
class Model:
    """A model that is on disk: the ONNX file and its spec."""

    spec: ModelSpec
    path: str
