"""Bringing one face into the place of another: an upright chip of the source, bent onto the target's mesh."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from faceembed.engine.native import _native
from faceembed.trainer.data.fakes.mesh import Mesh, Points

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]

CHIP_EXTENT = 3.6  # a chip's side, in distances between the pupils: from above the hairline to below the chin
_CENTRE = (0.0, 0.45)  # of a chip, likewise, from between the pupils
_GRID = 4  # pixels between the places where a bend is computed; between them it is interpolated
_STIFFNESS = 3e-3  # how much a bend may miss the mesh, to stay smooth where points of a turned face come together


def chip_matrix(mesh: Mesh, side: int) -> Points:
    """The similarity from a chip to its photo, float64 (2, 3), pixel centres at whole numbers.

    Args:
        mesh: the face; the chip is upright and holds all of it.
        side: of the chip in pixels.
    """
    unit = side / CHIP_EXTENT
    angle = np.radians(mesh.roll)
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) * (mesh.scale / unit)
    # In the middle of the chip lies what is there on a face seen from the front.
    eyes, mouth = mesh.points[:2].mean(0), mesh.points[3:5].mean(0)
    middle = eyes + (mouth - eyes) * (_CENTRE[1] / 1.16)
    shift = middle - 0.5 - rotation @ np.full(2, (side - 1) / 2)
    return np.concatenate([rotation, shift[:, None]], 1)


def cut_chip(photo: Pixels, mesh: Mesh, side: int) -> tuple[Pixels, Points]:
    """A face as a network would see it.

    Args:
        photo: uint8 RGB (H, W, 3).
        mesh: the face in it.
        side: of the chip in pixels.

    Returns:
        The chip, uint8 RGB (side, side, 3), antialiased, the photo's edge repeated outside of it; and the mesh's points in
        it, (M, 2), pixel centres at whole numbers.
    """
    matrix = chip_matrix(mesh, side)
    chip = _native.warp(np.ascontiguousarray(photo), matrix[None], side, side, border="replicate")[0]
    return chip, apply(invert(matrix), mesh.points - 0.5)


def apply(matrix: Points, points: Points) -> Points:
    """Points (N, 2) through an affine (2, 3)."""
    moved: Points = points @ matrix[:, :2].T + matrix[:, 2]
    return moved


def invert(matrix: Points) -> Points:
    """The inverse of an affine (2, 3)."""
    inverse = np.linalg.inv(matrix[:, :2])
    return np.concatenate([inverse, -(inverse @ matrix[:, 2:])], 1)


def bend(start: Points, end: Points, height: int, width: int) -> Floats:
    """A smooth map of a picture's pixels that takes each point of ``start`` to that of ``end``: a thin-plate spline.

    https://doi.org/10.1109/34.24792; nearly exact at the points (`_STIFFNESS`).

    Args:
        start: (N, 2) in the picture, pixel centres at whole numbers.
        end: (N, 2) where they come from.
        height, width: of the picture.

    Returns:
        float32 (height, width, 2): x and y for `cv2.remap`.
    """
    unit = float(np.ptp(start, axis=0).max()) or 1.0
    known = start / unit
    count = len(known)
    system = np.zeros((count + 3, count + 3))
    system[:count, :count] = _kernel(known, known) + _STIFFNESS * np.eye(count)
    system[:count, count:] = np.c_[np.ones(count), known]
    system[count:, :count] = system[:count, count:].T
    weights = np.linalg.solve(system, np.concatenate([end, np.zeros((3, 2))]))
    rows, columns = _nodes(height), _nodes(width)
    nodes = np.stack(np.meshgrid(columns, rows), -1).reshape(-1, 2) / unit
    values = np.c_[_kernel(nodes, known), np.ones(len(nodes)), nodes] @ weights
    values = values.reshape(len(rows), len(columns), 2)
    down, across = _interpolation(rows, height), _interpolation(columns, width)
    bent = np.einsum("yr,rck,xc->yxk", down, values, across, optimize=True)
    return np.ascontiguousarray(bent, np.float32)


def _kernel(a: Points, b: Points) -> Points:
    square = (a[:, None, 0] - b[None, :, 0]) ** 2 + (a[:, None, 1] - b[None, :, 1]) ** 2
    kernel: Points = 0.5 * square * np.log(np.maximum(square, 1e-12))
    return kernel


def _nodes(length: int) -> Points:
    return np.linspace(0, length - 1, max(2, -(-length // _GRID) + 1))


def _interpolation(nodes: Points, length: int) -> Points:
    """Linear interpolation from ``nodes`` to every pixel, as a matrix (length, nodes)."""
    return np.stack([np.interp(np.arange(length), nodes, row) for row in np.eye(len(nodes))], 1)


def remap(picture: NDArray[np.generic], where: Floats) -> Floats:
    """A picture's pixels at ``where``, float32; its edge is repeated outside of it."""
    sampled: Floats = cv2.remap(
        np.asarray(picture, np.float32), where, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return sampled
