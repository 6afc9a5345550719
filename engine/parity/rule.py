"""Whether a precision may compute embeddings: by how much it moves similarities, in units of the strangers' spread.

    gate = Gate(model.spec, chips, embed_exact)      # some faces, and how fp32 embeds them
    change = gate.measure(embed_fast)
    change.passes, change.words("bf16")              # "BF16 moves similarities by 1.1 % of the strangers' spread (largest 5 %)"

A cosine of 0.999 between an embedding and itself at fp32 means nothing by itself: it moves similarities by 0.03 of the spread in one
network and by a tenth of that in another. What a user meets are similarities, and their errors count by how far strangers lie apart: a
threshold at a false match rate of 0.1 % is 3.1 standard deviations above the strangers' mean, whatever the network's numbers are.

The similarities are those between the faces, both at the precision, and those to the model's template vectors, which stay as fp32 gave
them, as the rows of an index do. Faces that fp32 itself gives no direction (NaN, zeros: a flat crop under an encoder that whitens) are left
out; one that only the precision gives none is a failure.

Where faces are few or none, as on a server that was just started, drawn ones are added: rounding moves their similarities as much as
real faces' (docs/precision.md has both).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from faceembed.engine.models.spec import ModelSpec
from faceembed.engine.models.strangers import read_templates
from faceembed.engine.parity.drawn import drawn_chips

Embed = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""uint8 RGB (N, H, W, 3) to rows (N, D) of any length."""

RULE = 2
"""Raised whenever the same figures would be judged otherwise: what an older rule let pass is asked again."""
FACES = 32
"""Faces that are looked at, at most."""
ENOUGH = 8
"""Below so many faces, drawn ones are added; and the strangers' spread is not estimated from them."""
DRAWN = 16
LIMITS = {"fp32": (0.02, 0.1)}
LOW = (0.03, 0.25)
"""Root mean square and largest change allowed, in standard deviations of strangers' similarities; below fp32 all precisions have `LOW`."""
_NO_LENGTH = 1e-6


@dataclasses.dataclass(frozen=True)
class Change:
    """What a precision does to similarities."""

    rms: float
    """Root mean square of the similarities' changes, in standard deviations of strangers' similarities; NaN if a face was lost."""
    largest: float
    """The largest change, in the same unit."""
    min_cosine: float
    """Smallest cosine between an embedding and fp32's; the gate does not ask for it."""
    faces: int
    """Faces compared, drawn ones among them."""
    drawn: int
    """How many of them were drawn."""
    templates: int
    """Template vectors compared with."""
    spread: float
    """The unit: standard deviation of the cosine of strangers."""
    estimated: bool
    """Whether ``spread`` was estimated here, as the model does not say it."""
    lost: int = 0
    """Faces to which fp32 gives an embedding and the precision does not."""

    def passes(self, precision: str) -> bool:
        """Whether the precision may be used."""
        rms, largest = limits(precision)
        return self.lost == 0 and self.rms <= rms and self.largest <= largest

    def words(self, precision: str) -> str:
        """The loss, for people; ``precision`` may be what `said` gives."""
        name = precision if " " in precision else precision.upper()
        if not self.faces:
            return f"{name} cannot be compared with fp32, which gives no face an embedding itself"
        if self.lost:
            return f"{name} loses the embedding of {self.lost} of {self.faces} faces (numbers beyond its range)"
        return loss(self.rms, self.largest, name)

    def source(self) -> str:
        """On what it was measured."""
        real = self.faces - self.drawn
        parts = [f"{real} faces"] if real else []
        parts += [f"{self.drawn} drawn faces"] if self.drawn else []
        text = " and ".join(parts)
        text += f" against {self.templates} templates" if self.templates else ""
        return text + (f"; spread {self.spread:.3f} estimated on them" if self.estimated else "")

    @property
    def facts(self) -> dict[str, float]:
        """Figures to keep; `passed` reads them."""
        return {
            "rms": self.rms,
            "largest": self.largest,
            "min_cosine": self.min_cosine,
            "faces": self.faces,
            "drawn": self.drawn,
            "spread": self.spread,
        }


def limits(precision: str) -> tuple[float, float]:
    """Root mean square and largest change that a precision is allowed."""
    return LIMITS.get(precision, LOW)


def loss(rms: float, largest: float, name: str) -> str:
    """A loss in words."""
    name = name if " " in name else name.upper()
    return f"{name} moves similarities by {100 * rms:.2g} % of the strangers' spread (largest {100 * largest:.2g} %)"


def said(precision: str, exact_layers: int) -> str:
    """A precision as it is computed, for people."""
    behind = f" behind {exact_layers} layers in FP32" if exact_layers > 1 else " behind one layer in FP32"
    return precision.upper() + (behind if exact_layers else "")


def passed(facts: dict[str, float], precision: str) -> bool:
    """Whether kept figures pass today's rule; figures of an older one do not."""
    rms, largest = limits(precision)
    return facts.get("rms", np.inf) <= rms and facts.get("largest", np.inf) <= largest


def refusal(change: Change, precision: str, allowed: tuple[float, float] | None = None) -> str:
    """Why a precision may not be used, for people."""
    rms, largest = allowed or limits(precision)
    wanted = "" if change.lost or not change.faces else f"; allowed are {100 * rms:g} % and {100 * largest:g} %"
    return f"{change.words(precision)} on {change.source()}{wanted}"


class Gate:
    """Faces and their similarities at fp32, ready to measure precisions against.

    Args:
        spec: of the encoder.
        chips: uint8 RGB (N, H, W, 3), N >= 0, aligned faces; the first `FACES` are taken, and drawn ones added where there are fewer
            than `ENOUGH`.
        embed: fp32.
        faces: of them, at most.
    """

    def __init__(self, spec: ModelSpec, chips: NDArray[np.uint8], embed: Embed, *, faces: int = FACES) -> None:
        chips = chips[:faces]
        exact, sound = (
            _units(embed(chips)) if len(chips) else (np.zeros((0, spec.dimension), np.float32), np.zeros(0, bool))
        )
        self._chips, self._exact, self._drawn = chips[sound], exact[sound], 0
        sketches = np.zeros((0, spec.dimension), np.float32)
        if len(self._chips) < ENOUGH or not spec.spread:
            pictures = drawn_chips(spec, DRAWN)
            sketches, fine = _units(embed(pictures))
            pictures, sketches = pictures[fine], sketches[fine]
            if len(self._chips) < ENOUGH:
                self._drawn = len(pictures)
                self._chips = np.concatenate([self._chips.reshape(-1, *pictures.shape[1:]), pictures])
                self._exact = np.concatenate([self._exact.reshape(-1, sketches.shape[1]), sketches])
        self._estimated = not spec.spread
        self._spread = spec.spread or _estimate(self._exact[: len(self._exact) - self._drawn], sketches)
        self._templates = read_templates(spec)

    def measure(self, embed: Embed) -> Change:
        """Compare a precision with fp32."""
        fast, sound = _units(embed(self._chips)) if len(self._chips) else (self._exact, np.zeros(0, bool))
        pairs = np.triu_indices(len(self._exact), 1)
        between = (fast @ fast.T - self._exact @ self._exact.T)[pairs]
        moved = np.concatenate([between, ((fast - self._exact) @ self._templates.T).ravel()]) / self._spread
        lost = int((~sound).sum())
        nothing = lost or not len(moved)
        return Change(
            rms=float("nan") if nothing else float(np.sqrt(np.square(moved.astype(np.float64)).mean())),
            largest=float("nan") if nothing else float(np.abs(moved).max()),
            min_cosine=float("nan") if nothing else float((fast * self._exact).sum(axis=1).min()),
            faces=len(self._chips),
            drawn=self._drawn,
            templates=len(self._templates),
            spread=self._spread,
            estimated=self._estimated,
            lost=lost,
        )


def _units(rows: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Rows of unit length, and which of them have a direction at all."""
    rows = rows.reshape(len(rows), -1)
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        norms = np.linalg.norm(rows.astype(np.float64), axis=1)
        sound = np.isfinite(norms) & (norms > _NO_LENGTH)
        unit = np.where(sound[:, None], rows / np.maximum(norms, _NO_LENGTH)[:, None], 0.0).astype(np.float32)
    return unit, np.asarray(sound, np.bool_)


def _estimate(own: NDArray[np.float32], drawn: NDArray[np.float32]) -> float:
    """The strangers' spread of a model that does not say it.

    Faces of one person vary more among themselves (0.13 where strangers have 0.08), so an album of one would make a loose unit. Drawn
    faces' similarities vary by 0.5 to 1.4 times the strangers' spread in six encoders: the smaller of both is taken.
    """
    spreads = [
        float(np.std((rows @ rows.T)[np.triu_indices(len(rows), 1)]))
        for rows in (own if len(own) >= ENOUGH else own[:0], drawn)
        if len(rows) >= ENOUGH
    ]
    return max(min(spreads, default=0.0), _NO_LENGTH)
