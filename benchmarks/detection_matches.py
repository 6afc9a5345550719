"""What one aligner finds beside what another does: which faces are the same one, and how far apart their landmarks are."""

from __future__ import annotations

import numpy as np

from faceembed.engine.detect.boxes import overlaps
from faceembed.engine.detect.detections import Detections
from faceembed.engine.parity.detectors import SAME_FACE

TOUCHING = 0.2  # intersection over union from which on a detection is of something that the reference sees


def unsupported(found: Detections, supported: Detections) -> int:
    """How many detections touch nothing that the reference sees."""
    order = np.argsort(supported.photo, kind="stable")
    starts = np.searchsorted(supported.photo[order], found.photo)
    ends = np.searchsorted(supported.photo[order], found.photo, side="right")
    return sum(
        not (overlaps(box[None], supported.boxes[order[start:end]])[0] >= TOUCHING).any()
        for box, start, end in zip(found.boxes, starts, ends, strict=True)
    )


def compare(found: Detections, wanted: Detections) -> dict[str, float]:
    """One aligner's largest faces against the reference's."""
    place = {int(photo): index for index, photo in enumerate(found.photo)}
    errors, other, missed = [], 0, 0
    for photo, points in zip(wanted.photo, wanted.landmarks, strict=True):
        index = place.get(int(photo))
        if index is None:
            missed += 1
            continue
        eyes = float(np.linalg.norm(points[0] - points[1]))
        error = float(np.linalg.norm(found.landmarks[index] - points, axis=1).mean()) / max(eyes, 1e-6)
        if error > SAME_FACE:
            other += 1
        else:
            errors.append(error)
    middle, high = np.quantile(errors, [0.5, 0.9]) if errors else (float("nan"),) * 2
    return {
        "landmark_error": float(middle),
        "landmark_error_90": float(high),
        "other_face": other / max(len(wanted), 1),
        "missed": missed / max(len(wanted), 1),
    }
