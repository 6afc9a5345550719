"""Where a face is replaced: soft masks of many shapes, from the mesh's points."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from faceembed.trainer.data.fakes.mesh import Points, part

Floats = NDArray[np.float32]

SHAPES = ("hull", "face", "ellipse", "inner", "lower")


def face_mask(
    points: Points,
    unit: float,
    height: int,
    width: int,
    rng: np.random.Generator,
    *,
    shape: str,
    softness: float,
    deform: float = 0.08,
) -> Floats:
    """A soft mask of a face.

    Args:
        points: the mesh (M, 2), pixel centres at whole numbers.
        unit: pixels between the pupils.
        height, width: of the mask.
        rng: draws the deformation.
        shape: one of `SHAPES`: forehead to chin, brows to chin, an ellipse, brows to mouth, or eyes down.
        softness: width of the edge, in distances between the pupils; it lies inside the shape.
        deform: how far the edge wanders, in distances between the pupils.

    Returns:
        float32 (height, width), 0 to 1; 0 at the picture's border.
    """
    blank = np.zeros((height, width), np.uint8)
    if shape == "ellipse":
        outline = points[part("outline", "brow")]
        centre, axes, angle = cv2.fitEllipse(outline.astype(np.float32))
        axes = (axes[0] * 0.94, axes[1] * 0.94)
        cv2.ellipse(blank, (centre, axes, angle), 255, -1, cv2.LINE_AA)
    else:
        hull = cv2.convexHull(_outline(points, shape, rng).astype(np.float32))[:, 0]
        cv2.fillPoly(blank, [np.round(hull * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
    mask: Floats = blank.astype(np.float32) / np.float32(255)
    if deform > 0:
        mask = elastic(mask, unit * deform, unit, rng)
    return soften(mask, softness * unit)


def region_mask(points: Points, names: tuple[str, ...], unit: float, height: int, width: int, *, grow: float) -> Floats:
    """A soft mask of parts of a face: each part's hull, grown by ``grow`` distances between the pupils.

    Eyes and brows are taken one by one, so that the bridge of the nose stays.
    """
    blank = np.zeros((height, width), np.uint8)
    for name in names:
        members = points[part(*(("eye", "brow") if name == "eyes" else (name,)))]
        centre = float(points[part("nose")][:, 0].mean())
        sides = _left_and_right(points, members, centre) if name == "eyes" else [members]
        for side in sides:
            hull = cv2.convexHull(side.astype(np.float32))[:, 0]
            cv2.fillPoly(blank, [np.round(hull * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
    size = 2 * max(1, round(grow * unit)) + 1
    grown = cv2.dilate(blank, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size)))
    return soften(grown.astype(np.float32) / 255, 0.8 * grow * unit)


def _left_and_right(points: Points, members: Points, centre: float) -> list[Points]:
    """Members by the pupil they are nearer to."""
    nearer = np.linalg.norm(members - points[0], axis=1) < np.linalg.norm(members - points[1], axis=1)
    return [members[nearer], members[~nearer]]


def _outline(points: Points, shape: str, rng: np.random.Generator) -> Points:
    """The points whose hull the shape is; the upper edge lies at a height drawn at random."""
    down = points[3:5].mean(0) - points[:2].mean(0)
    outline, brow = points[part("outline")], points[part("brow")]
    if shape == "hull":  # the hairline is often covered with hair, so the edge stays below it
        forehead = points[part("forehead")]
        return np.concatenate([outline, forehead + down * rng.uniform(0.15, 0.42)])
    if shape == "face":
        return np.concatenate([outline, brow - down * rng.uniform(0.02, 0.15)])
    if shape == "inner":
        middle = points[:5].mean(0)
        around = np.concatenate([brow - down * 0.05, points[part("mouth")], points[part("cheek")]])
        grown: Points = middle + (around - middle) * rng.uniform(1.1, 1.25)
        return grown
    if shape == "lower":
        low = outline[(outline - points[:2].mean(0)) @ down > 0.05 * float(down @ down)]
        return np.concatenate([low, points[:2] + down * rng.uniform(0.05, 0.25)])
    raise ValueError(f"shape is '{shape}'; expected one of {', '.join(SHAPES)}")


def elastic(mask: Floats, amount: float, grain: float, rng: np.random.Generator) -> Floats:
    """Bend a mask by smooth noise of ``amount`` pixels, whose waves are about ``grain`` pixels long."""
    height, width = mask.shape
    cells = (max(2, round(height / max(grain, 2)) + 1), max(2, round(width / max(grain, 2)) + 1))
    noise = rng.normal(0, amount, (*cells, 2)).astype(np.float32)
    noise = cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
    where = np.stack(np.meshgrid(np.arange(width), np.arange(height)), -1).astype(np.float32) + noise
    bent: Floats = cv2.remap(mask, where, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    return bent


def soften(mask: Floats, width: float) -> Floats:
    """Turn a mask's edge into a slope of about ``width`` pixels that lies inside it, and clear the picture's border."""
    inner = mask.copy()
    inner[[0, -1]] = 0
    inner[:, [0, -1]] = 0
    sigma = max(width, 1.0) / 3
    # The blur reaches half of it inwards and half outwards; stretched, the outer half falls to zero.
    blurred = cv2.GaussianBlur(inner, (0, 0), sigma, borderType=cv2.BORDER_CONSTANT)
    soft: Floats = np.clip(2 * blurred - 1, 0, 1) * (inner > 0)
    return soft
