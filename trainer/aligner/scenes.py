"""Training pictures, composed on the fly: pieces of labelled photos, scaled, turned and mirrored, side by side on one canvas.

A canvas is cut into a few cells. In most cells a face of some photo is given a side that is drawn uniformly in its logarithm
and a random place, so that faces from a dozen pixels to ones larger than the canvas are equally common; the other cells show
any part of a photo, most often background. A share of the canvases is one tight crop instead, whose face fills or overfills it. Every other face that comes into view is labelled too; faces of which little is seen,
that are too small to learn, or of which the teacher was not sure are doubtful.

All that is drawn depends on the generator alone. Knows nothing of networks: `targets` says what is learnt where.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from faceembed.engine.native import _native
from faceembed.engine.photos.decode import Photo, decode
from faceembed.engine.photos.probe import probe
from faceembed.trainer.aligner.cells import crop, cut, map_boxes
from faceembed.trainer.aligner.coverings import cover
from faceembed.trainer.aligner.labels import LabelledPhoto, bytes_of, yaw
from faceembed.trainer.aligner.teacher import MIRRORED

Floats = NDArray[np.float32]


@dataclasses.dataclass(frozen=True)
class SceneSettings:
    """How canvases are composed."""

    side: int = 192
    """Height and width of a canvas in pixels, a multiple of 32."""
    cuts: int = 10
    """Cuts of a canvas into cells, at most."""
    smallest: float = 9.0
    """Side in pixels of the smallest face placed."""
    least: float = 0.15
    """Side of the smallest face placed, in sides of its cell."""
    largest: float = 1.3
    """Side of the largest face placed, in sides of its cell."""
    whole_share: float = 0.75
    """How often a face is placed so that all of it is in view, if it fits."""
    magnify: float = 2.5
    """Photos are not enlarged further than this."""
    turn: float = 9.0
    """Standard deviation of the turn in degrees."""
    turned_share: float = 0.1
    """How often a turn is three times as wide."""
    background: float = 0.2
    """Share of cells that show any part of a photo."""
    hidden_share: float = 0.1
    """How often a part of a face is covered by a rectangle."""
    dressed_share: float = 0.0
    """How often a face wears or holds something before it: `coverings`."""
    wide_share: float = 0.0
    """How often a turn is drawn alike between ``-wide`` and ``wide`` instead."""
    wide: float = 45.0
    """Degrees."""
    tight_share: float = 0.0
    """Share of canvases that are one tight crop: a rectangle of one photo with its face, and nothing around it."""
    tight: tuple[float, ...] = (0.7, 1.6)
    """Least and largest side of the face of a tight crop, in sides of the crop."""
    side_times: float = 1.0
    """How many times as often a photo is drawn that shows a face from the side."""
    side_yaw: float = 0.45
    """What is from the side: `labels.yaw`, to either."""
    visible: float = 0.5
    """Share of a face's box that must be in view for it to be learnt."""
    learnt: float = 8.0
    """Side in pixels of the smallest face learnt."""


@dataclasses.dataclass(frozen=True)
class Scene:
    """A canvas and what is on it."""

    pixels: NDArray[np.uint8]
    """(H, W, 3) RGB."""
    boxes: Floats
    landmarks: Floats
    weights: Floats
    """(F, 5) of the landmarks."""
    doubtful: Floats


def mirrored(scene: Scene) -> Scene:
    """The scene as a mirror shows it."""
    side = scene.pixels.shape[1]

    def turn(boxes: Floats) -> Floats:
        return np.stack([side - boxes[:, 2], boxes[:, 1], side - boxes[:, 0], boxes[:, 3]], axis=1)

    landmarks = scene.landmarks[:, MIRRORED] * np.array([-1, 1], np.float32) + np.array([side, 0], np.float32)
    pixels = np.ascontiguousarray(scene.pixels[:, ::-1])
    return Scene(pixels, turn(scene.boxes), landmarks, scene.weights[:, MIRRORED], turn(scene.doubtful))


class Composer:
    """Composes scenes of labelled photos.

    Args:
        photos: photos with at least one face, or none and nothing doubtful.
        shares: how often each group is drawn, by its name.
        settings: how.
        memory: GiB of decoded pixels to keep; other photos are decoded each time they are shown.
    """

    def __init__(
        self, photos: Sequence[LabelledPhoto], shares: dict[str, float], settings: SceneSettings, *, memory: float
    ) -> None:
        self.settings = settings
        self._photos = list(photos)
        self._groups = [
            np.array([index for index, photo in enumerate(self._photos) if photo.group == group]) for group in shares
        ]
        weights = np.array(list(shares.values()), np.float64)
        self._weights = weights / weights.sum()
        self._within = [self._often(group) for group in self._groups]
        self._files = [bytes_of(photo.path) for photo in self._photos]
        self._sizes = [(header.width, header.height) for header in map(probe, self._files)]
        self._decoded: dict[tuple[int, int], Photo] = {}
        self._keep(round(memory * 2**30))

    def compose(self, rng: np.random.Generator) -> Scene:
        """One scene."""
        s, side = self.settings, self.settings.side
        canvas = np.empty((side, side, 3), np.uint8)
        tight = s.tight_share > 0 and rng.random() < s.tight_share
        if tight:
            canvas[:] = 128 if rng.random() < 0.7 else rng.integers(0, 256, 3)
            cells = [crop(side, rng)]
        else:
            cells = cut(side, int(rng.integers(0, s.cuts + 1)), rng)
        parts = [self._fill(canvas, cell, rng, tight=tight) for cell in cells]
        boxes, landmarks, weights, doubtful = (np.concatenate(column) for column in zip(*parts, strict=True))
        if s.dressed_share > 0:
            for index in np.flatnonzero(rng.random(len(boxes)) < s.dressed_share):
                cover(canvas, boxes[index], landmarks[index], rng)
        for index in np.flatnonzero(rng.random(len(boxes)) < s.hidden_share):
            _cover(canvas, boxes[index], rng)
        return Scene(canvas, boxes, landmarks, weights, doubtful)

    def _often(self, group: NDArray[np.int64]) -> NDArray[np.float64]:
        """How often each photo of a group is drawn: the sum up to each one, the last 1."""
        s = self.settings
        turned = [bool((np.abs(yaw(self._photos[index].landmarks)) >= s.side_yaw).any()) for index in group]
        often = np.cumsum(np.where(turned, s.side_times, 1.0))
        shares: NDArray[np.float64] = often / often[-1]
        return shares

    def _fill(
        self, canvas: NDArray[np.uint8], cell: tuple[int, int, int, int], rng: np.random.Generator, *, tight: bool
    ) -> tuple[Floats, Floats, Floats, Floats]:
        """Show a photo in a cell (top, left, bottom, right); its faces in pixels of the canvas."""
        top, left, bottom, right = cell
        height, width = bottom - top, right - left
        drawn = int(rng.choice(len(self._groups), p=self._weights))
        index = int(self._groups[drawn][np.searchsorted(self._within[drawn], rng.random(), side="right")])
        label = self._photos[index]
        matrix, reduction = self._place(label, self._sizes[index], height, width, rng, tight=tight)
        photo = self._photo(index, reduction)
        inverse = np.linalg.inv(np.vstack([matrix, [0, 0, 1]]))[:2]  # from the cell to the photo, continuous pixels
        inverse[:, 2] += photo.offset
        inverse = inverse / reduction
        inverse[:, 2] += inverse[:, :2] @ (0.5, 0.5) - 0.5  # centres at whole numbers
        shown = _native.warp(photo.pixels, inverse[None], height, width)[0]
        canvas[top:bottom, left:right] = _behind(shown, photo.pixels, inverse, rng)
        return self._seen(label, matrix, height, width, np.array([left, top], np.float32))

    def _photo(self, index: int, reduction: int) -> Photo:
        return self._decoded.get((index, reduction)) or decode(self._files[index], reduction=reduction)

    def _keep(self, budget: int) -> None:
        """Decode photos in the order of how many bytes that costs, as long as the budget lasts."""
        for reduction in (2, 1):
            for index, file in enumerate(self._files):
                width, height = self._sizes[index]
                budget -= 3 * width * height // reduction**2
                if budget < 0:
                    return
                self._decoded[index, reduction] = decode(file, reduction=reduction)

    def _place(
        self,
        label: LabelledPhoto,
        size: tuple[int, int],
        height: int,
        width: int,
        rng: np.random.Generator,
        *,
        tight: bool,
    ) -> tuple[NDArray[np.float64], int]:
        """The map (2, 3) from a photo to a cell in continuous pixels, and how far the photo may be reduced in decoding."""
        s = self.settings
        cell = float(np.sqrt(height * width))
        least, largest = (s.tight[0], s.tight[1]) if tight else (s.least, s.largest)
        wanted = np.exp(rng.uniform(np.log(max(least * cell, s.smallest)), np.log(max(largest * cell, 2 * s.smallest))))
        if len(label.boxes) and (tight or rng.random() >= s.background):
            box = label.boxes[rng.integers(len(label.boxes))]
            side = float(np.sqrt(max((box[2] - box[0]) * (box[3] - box[1]), 1.0)))
            middle, half = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) / 2
            scale = min(wanted / side, s.magnify)
        else:  # any part: between the whole photo in the cell, and pixels as they are
            whole = min(0.7 * max(height, width) / max(size), 1.0)
            scale = float(np.exp(rng.uniform(np.log(whole), np.log(1.2))))
            middle, half = rng.random(2) * size, np.zeros(2)
        degrees = s.turn * rng.standard_normal() * (3 if rng.random() < s.turned_share else 1)
        if s.wide_share > 0 and rng.random() < s.wide_share:
            degrees = rng.uniform(-s.wide, s.wide)
        angle = np.deg2rad(degrees)
        cos, sin = np.cos(angle), np.sin(angle)
        turn = scale * np.array([[cos, -sin], [sin, cos]])
        if rng.random() < 0.5:
            turn = turn @ np.diag([-1.0, 1.0])
        margin = np.zeros(2)  # a face that is larger than the cell still has its centre in it
        if rng.random() < s.whole_share:
            margin = np.minimum(scale * half, np.array([width, height]) / 2)
        target = margin + rng.random(2) * (np.array([width, height]) - 2 * margin)
        if tight:  # whoever cut it meant the face to be in its middle
            target = np.array([width, height]) * (0.5 + np.clip(0.07 * rng.standard_normal(2), -0.3, 0.3))
        matrix = np.c_[turn, target - turn @ middle]
        reduction = max((r for r in (1, 2) if scale * r <= 1), default=1)
        return matrix, reduction

    def _seen(
        self, label: LabelledPhoto, matrix: NDArray[np.float64], height: int, width: int, corner: Floats
    ) -> tuple[Floats, Floats, Floats, Floats]:
        """A photo's faces in a cell: boxes, landmarks and weights of those that are learnt, and the doubtful boxes."""
        s = self.settings
        size = np.array([width, height], np.float32)
        everything = np.concatenate([label.boxes, label.doubtful])
        boxes = map_boxes(everything, matrix)
        inside = np.clip(boxes.reshape(-1, 2, 2), 0, size).reshape(-1, 4)
        area = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
        seen = (inside[:, 2:] - inside[:, :2]).prod(axis=1) / np.maximum(area, 1e-6)
        centre = (boxes[:, :2] + boxes[:, 2:]) / 2
        sure = np.arange(len(boxes)) < len(label.boxes)
        learnt = (
            sure & (seen >= s.visible) & (np.sqrt(area) >= s.learnt) & ((centre >= 0) & (centre < size)).all(axis=1)
        )
        # A face cut by the canvas's own edge keeps its full box, as one cut by a photo's edge has to.
        doubtful = ~learnt & (seen > 0)
        points = (label.landmarks.reshape(-1, 2) @ matrix[:, :2].T + matrix[:, 2]).reshape(-1, 5, 2)
        weights = label.weights
        if np.linalg.det(matrix[:, :2]) < 0:
            points, weights = points[:, MIRRORED], weights[:, MIRRORED]
        offset = np.tile(corner, 2)
        return (
            (boxes[learnt] + offset).astype(np.float32),
            (points[learnt[: len(label.boxes)]] + corner).astype(np.float32),
            weights[learnt[: len(label.boxes)]],
            (inside[doubtful] + offset).astype(np.float32),
        )


def _behind(
    shown: NDArray[np.uint8], pixels: NDArray[np.uint8], inverse: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Colour what lies outside the photo: grey as the engine's canvases, black, white, or anything."""
    height, width = shown.shape[:2]
    draw = rng.random()
    colour = np.full(3, 128) if draw < 0.5 else np.zeros(3) if draw < 0.7 else rng.integers(0, 256, 3)
    size = np.array(pixels.shape[1::-1], np.float64)
    turn = np.linalg.inv(inverse[:, :2])
    corners = np.array([[0, 0], [size[0], 0], size, [0, size[1]]]) - 0.5
    photo = (corners - inverse[:, 2]) @ turn.T  # the photo's outline in pixels of the cell, centres at whole numbers
    mask = np.zeros((height, width), np.uint8)
    cv2.fillConvexPoly(mask, np.round(photo * 16).astype(np.int32), 1, shift=4)
    shown[mask == 0] = colour.astype(np.uint8)
    return shown


def _cover(canvas: NDArray[np.uint8], box: Floats, rng: np.random.Generator) -> None:
    """Cover a part of a face: a rectangle of one colour, or of another part of the canvas."""
    side = canvas.shape[0]
    size = (box[2:] - box[:2]) * rng.uniform(0.2, 0.55, 2)
    start = box[:2] + rng.random(2) * (box[2:] - box[:2] - size)
    left, top = np.clip(np.round(start), 0, side - 1).astype(int)
    right, bottom = np.clip(np.round(start + size), 1, side).astype(int)
    if right <= left or bottom <= top:
        return
    width, height = right - left, bottom - top
    if rng.random() < 0.5:
        canvas[top:bottom, left:right] = rng.integers(0, 256, 3)
    else:
        y, x = rng.integers(0, side - height + 1), rng.integers(0, side - width + 1)
        canvas[top:bottom, left:right] = canvas[y : y + height, x : x + width].copy()
