"""Aligners of kind `scrfd` and `retinaface`: two anchors at every cell of three grids, looked through in the way of `oneshot`.

The network's outputs are `level_8`, `level_16` and `level_32`, each (N, 30, H/stride, W/stride), as `models.scrfd` and
`models.retinaface` cut them:

| channel  | what                                     |
| -------- | ---------------------------------------- |
| 0, 1     | the score of either anchor, as a logit   |
| 2 to 9   | the box of one, then of the other        |
| 10 to 29 | x and y of five points of one, then of the other |

SCRFD (insightface model_zoo/scrfd.py, `distance2bbox`, `distance2kps`): the anchors of a cell are its corner, (column, row) * stride;
a box is its distances to the left, top, right and bottom side, a point its way from there, in strides.

RetinaFace (biubug6 utils/box_utils.py, `decode`, `decode_landm`; layers/functions/prior_box.py): the anchors are squares around the
cell's middle; centre and points are ways from there, 0.1 of the square's side a unit, width and height are powers of e to 0.2 of what is
said, times the side.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from faceembed.engine.detect.detections import Detections
from faceembed.engine.detect.yunet import YunetDetector
from faceembed.engine.models.oneshot import STRIDES

SQUARES = {8: (16, 32), 16: (64, 128), 32: (256, 512)}
"""Sides in pixels of RetinaFace's anchors by stride."""
_CENTRE, _SIZE = 0.1, 0.2  # the variances of prior boxes
_REACH = 6.0  # of the logarithm of a side, so that nothing overflows


class ScrfdDetector(YunetDetector):
    """SCRFD and the looks around it; arguments as for `YunetDetector`."""

    def _decoded(self, levels: Sequence[NDArray[np.float32]]) -> Detections:
        found = decode_scrfd(levels, self.settings.candidate_score)
        sound = np.asarray((found.boxes[:, 2:] > found.boxes[:, :2]).all(axis=1), np.bool_)  # distances may be below 0
        return found.take(sound)


class RetinaFaceDetector(YunetDetector):
    """RetinaFace and the looks around it; arguments as for `YunetDetector`."""

    def _decoded(self, levels: Sequence[NDArray[np.float32]]) -> Detections:
        return decode_retinaface(levels, self.settings.candidate_score)


def decode_scrfd(levels: Sequence[NDArray[np.float32]], score: float) -> Detections:
    """SCRFD's answers above a score.

    Args:
        levels: float32 (N, 30, H/stride, W/stride) for each of `STRIDES`.
        score: the least score, above 0.

    Returns:
        One face an anchor, in pixels of the canvas; ``photo`` is the canvas.
    """
    parts = []
    for stride, level in zip(STRIDES, levels, strict=True):
        image, _, row, column, scores, sides, points = _above(level, score)
        corner = np.stack([column, row], 1).astype(np.float32) * stride
        boxes = np.concatenate([corner - sides[:, :2] * stride, corner + sides[:, 2:] * stride], 1)
        parts.append(_faces(image, boxes, corner[:, None] + points * stride, scores))
    return Detections.concatenate(parts)


def decode_retinaface(levels: Sequence[NDArray[np.float32]], score: float) -> Detections:
    """RetinaFace's answers above a score; arguments and result as for `decode_scrfd`."""
    parts = []
    for stride, level in zip(STRIDES, levels, strict=True):
        image, anchor, row, column, scores, box, points = _above(level, score)
        middle = (np.stack([column, row], 1).astype(np.float32) + 0.5) * stride
        side = np.asarray(SQUARES[stride], np.float32)[anchor][:, None]
        centre = middle + box[:, :2] * (_CENTRE * side)
        half = np.exp(np.clip(box[:, 2:] * _SIZE, -_REACH, _REACH)) * side / 2
        boxes = np.concatenate([centre - half, centre + half], 1)
        parts.append(_faces(image, boxes, middle[:, None] + points * (_CENTRE * side[:, None]), scores))
    return Detections.concatenate(parts)


def _above(level: NDArray[np.float32], score: float) -> tuple[NDArray[Any], ...]:
    """Canvas, anchor, row, column, score, box (F, 4) and points (F, 5, 2) of the anchors above a score."""
    image, anchor, row, column = np.nonzero(level[:, :2] >= np.float32(np.log(score / (1 - score))))
    answers = level[image, :, row, column]  # (F, 30)
    every = np.arange(len(image))
    scores = 1 / (1 + np.exp(-np.clip(answers[every, anchor], -80, 80)))
    boxes = answers[:, 2:10].reshape(-1, 2, 4)[every, anchor]
    points = answers[:, 10:].reshape(-1, 2, 5, 2)[every, anchor]
    return image, anchor, row, column, scores, boxes, points


def _faces(image: NDArray[Any], boxes: NDArray[Any], points: NDArray[Any], scores: NDArray[Any]) -> Detections:
    return Detections(
        image.astype(np.int32), boxes.astype(np.float32), points.astype(np.float32), scores.astype(np.float32)
    )
