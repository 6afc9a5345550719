"""The sizes of EdgeFace, their thresholds and their licence, for the catalog: without what `edgeface` needs to compute."""

from __future__ import annotations

import dataclasses

LICENCE = (
    "unclear: the repository of the weights says BSD-3-Clause, its authors' model cards for them CC BY-NC-SA 4.0 "
    "(no commercial use); look at both before you use it"
)


@dataclasses.dataclass(frozen=True)
class Shape:
    """What sets one size of EdgeNeXt apart (timm's `edgenext_x_small`, `edgenext_xx_small`)."""

    channels: tuple[int, int, int, int]
    depths: tuple[int, int, int, int]
    threshold: float
    """Cosine from which on two photos count as one person."""
    threshold_source: str
    spread: float
    """Standard deviation of the cosine of strangers: 180 training people of people_wild, FP32."""


_STRANGERS = "FMR 0.1 % over 5.5 million pairs of strangers: 180 people of people_wild, and LFW outside View 2; "
ARCHITECTURES = {
    "edgeface-xs": Shape((32, 64, 100, 192), (3, 3, 9, 3), 0.258, _STRANGERS + "1 %: 0.188, 0.01 %: 0.337", 0.0766),
    "edgeface-xxs": Shape((24, 48, 88, 168), (2, 2, 6, 2), 0.281, _STRANGERS + "1 %: 0.207, 0.01 %: 0.360", 0.0825),
}
"""By the name that `models import --arch` takes."""
