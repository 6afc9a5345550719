"""Which cells learn which face.

A face is learnt at the stride whose range its side lies in (the ranges overlap: a face between two of them is learnt at both),
by the cells whose points lie near its centre. All other points learn that there is no face, but for those inside a doubtful
box, which learn nothing. The rule is FCOS's (https://arxiv.org/abs/1904.01355, section 3) with its later centre sampling.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from faceembed.engine.models.oneshot import STRIDES

Floats = NDArray[np.float32]
RANGES = ((0.0, 40.0), (28.0, 88.0), (60.0, np.inf))
"""Sides in pixels of the faces learnt at each of `STRIDES`."""
RADIUS = 1.0
"""How far from a face's centre, in strides along each axis, points still learn it."""
VALUES = 19  # box, landmarks, and the landmarks' weights


@dataclasses.dataclass(frozen=True)
class Targets:
    """What the P cells of one image learn, the strides one after the other, each row by row."""

    state: NDArray[np.int8]
    """(P,) 1 a face, 0 none, -1 nothing."""
    values: Floats
    """(P, 19) the face's box and landmarks in pixels of the image, and the landmarks' weights; zeros where there is none."""


def points(height: int, width: int) -> tuple[Floats, Floats]:
    """The P points (P, 2) of an image's cells, x and y in pixels, and each one's stride (P,)."""
    places, strides = [], []
    for stride in STRIDES:
        rows, columns = height // stride, width // stride
        y, x = np.mgrid[:rows, :columns]
        places.append((np.stack([x, y], -1).reshape(-1, 2) + 0.5) * stride)
        strides.append(np.full(rows * columns, stride))
    return np.concatenate(places).astype(np.float32), np.concatenate(strides).astype(np.float32)


def assign(
    boxes: Floats, landmarks: Floats, weights: Floats, doubtful: Floats, places: Floats, strides: Floats
) -> Targets:
    """Assign faces to cells.

    Args:
        boxes: (F, 4) in pixels of the image.
        landmarks: (F, 5, 2).
        weights: (F, 5) of the landmarks.
        doubtful: (D, 4).
        places, strides: from `points`.
    """
    state = np.zeros(len(places), np.int8)
    values = np.zeros((len(places), VALUES), np.float32)
    if len(doubtful):
        state[_inside(places, doubtful).any(axis=1)] = -1
    if len(boxes):
        centre = (boxes[:, :2] + boxes[:, 2:]) / 2
        side = np.sqrt(np.maximum((boxes[:, 2:] - boxes[:, :2]).prod(axis=1), 1e-6))
        low, high = (np.array([RANGES[STRIDES.index(int(s))][end] for s in STRIDES])[_which(strides)] for end in (0, 1))
        away = np.abs(places[:, None] - centre[None])  # (P, F, 2)
        off = away.max(axis=2) / strides[:, None]
        allowed = (side[None] >= low[:, None]) & (side[None] < high[:, None]) & (off <= RADIUS) & _inside(places, boxes)
        cost = np.where(allowed, np.square(away).sum(axis=2), np.inf)
        owner = cost.argmin(axis=1)
        chosen = np.isfinite(cost.min(axis=1))
        state[chosen] = 1
        values[chosen] = np.concatenate([boxes, landmarks.reshape(-1, 10), weights], axis=1)[owner[chosen]]
    return Targets(state, values)


def _inside(places: Floats, boxes: Floats) -> NDArray[np.bool_]:
    """(P, B) whether a point lies in a box."""
    after = (places[:, None] > boxes[None, :, :2]).all(axis=2)
    before = (places[:, None] < boxes[None, :, 2:]).all(axis=2)
    return np.asarray(np.logical_and(after, before), np.bool_)


def _which(strides: Floats) -> NDArray[np.int64]:
    return np.searchsorted(np.array(STRIDES), strides.astype(np.int64))
