"""Whether a map tells the truth: deleting what it calls important must cost more similarity than deleting anything else.

    test = deletion(encoder, chip_a, vector_b, explanation.map_a)
    test.important < test.random_mean      # the map is faithful

The region is the share of the face with the largest values of the map, covered by one colour (not the fill of the map, so that
a map is not judged by what made it). The control is the same region moved to random places, around the edges: regions of
exactly the same area and form. (Deletion is the measure of Petsiuk et al. 2018, https://arxiv.org/abs/1806.07421, section 4.2.)
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from faceembed.engine.explain.occlusion import Chip, Fill, Map, blend, fill_of
from faceembed.engine.pipeline.encodes import Encodes

SHARE = 0.1
TRIALS = 16


@dataclasses.dataclass(frozen=True)
class Deletion:
    """What deleting parts of one face did to its similarity."""

    share: float
    """Of the face's area that was deleted."""
    before: float
    important: float
    """Similarity without the most important region."""
    random: list[float]
    """Without the same region at random places."""

    @property
    def random_mean(self) -> float:
        """Mean of ``random``."""
        return float(np.mean(self.random))

    def to_json_dict(self) -> dict[str, Any]:
        """As plain types."""
        return {**dataclasses.asdict(self), "random_mean": self.random_mean}


def deletion(
    encoder: Encodes,
    chip: Chip,
    reference: NDArray[np.float32],
    values: Map,
    *,
    share: float = SHARE,
    trials: int = TRIALS,
    fill: Fill = "mean",
    seed: int = 0,
) -> Deletion:
    """Delete the most important region of a face, and the same region elsewhere.

    Args:
        encoder: what gives the similarity.
        chip: uint8 RGB (H, W, 3).
        reference: float32 (D,) unit length, the other face's embedding.
        values: (H, W) the face's map.
        share: of the area to delete.
        trials: random places.
        fill: what covers.
        seed: of the places.
    """
    region = most_important(values, share)
    rng = np.random.default_rng(seed)
    moves = [tuple(int(rng.integers(0, side)) for side in region.shape) for _ in range(trials)]
    masks = [np.zeros_like(region), region, *(np.roll(region, move, axis=(0, 1)) for move in moves)]
    chips = blend(chip, fill_of(chip, fill), np.stack(masks).astype(np.float64))
    before, important, *random = (encoder.encode(chips)[0] @ reference).tolist()
    return Deletion(share, before, important, random)


def most_important(values: Map, share: float) -> NDArray[np.bool_]:
    """The pixels with the largest values, (H, W) bool: a ``share`` of all, rounded, at least one."""
    count = max(1, round(share * values.size))
    region = np.zeros(values.size, np.bool_)
    region[np.argsort(-values, axis=None, kind="stable")[:count]] = True
    return region.reshape(values.shape)
