"""What a map says of eyes, nose and mouth: its values by the part of the face in which they lie.

A chip's landmarks lie where the encoder's template says, so parts are places of the template: a pixel belongs to the part with the
nearest point, or to the surroundings where all are further than 0.85 distances of the eyes away.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from faceembed.engine.models.spec import Points

_FARTHEST = 0.85  # in distances of the eyes

# (right, down) from the middle of the eyes, in distances of the eyes; "left" as seen in the picture, as in the template.
_FROM_EYES: dict[str, tuple[float, float]] = {
    "forehead": (0.0, -0.75),
    "left cheek": (-0.65, 0.8),
    "right cheek": (0.65, 0.8),
    "chin": (0.0, 1.75),
}
PARTS = ("left eye", "right eye", "nose", "mouth", *_FROM_EYES, "surroundings")


def part_means(values: NDArray[np.float32], template: Points) -> dict[str, float]:
    """Mean of a map in each part of the face, the largest first.

    Args:
        values: (H, W).
        template: the five points of the encoder's spec.
    """
    labels = part_labels(values.shape[0], values.shape[1], template)
    means = {name: float(values[labels == n].mean()) for n, name in enumerate(PARTS) if (labels == n).any()}
    return dict(sorted(means.items(), key=lambda item: -item[1]))


def part_labels(height: int, width: int, template: Points) -> NDArray[np.int64]:
    """The number in `PARTS` of each pixel, (H, W)."""
    points = np.array(template)  # (5, 2)
    middle, apart = points[:2].mean(0), float(np.linalg.norm(points[1] - points[0]))
    mouth = [points[3], points[3:].mean(0), points[4]]
    anchors = [[points[0]], [points[1]], [points[2]], mouth]
    anchors += [[middle + apart * np.array(place)] for place in _FROM_EYES.values()]
    rows, columns = np.mgrid[0:height, 0:width]
    distances = np.stack(  # (8, H, W)
        [np.min([np.hypot(columns - x, rows - y) for x, y in places], axis=0) for places in anchors]
    )
    return np.where(distances.min(0) <= _FARTHEST * apart, distances.argmin(0), len(anchors))
