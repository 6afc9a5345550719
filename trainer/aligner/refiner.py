"""The aligner's second, tiny network: it sees a face turned upright and says whether it is one, and where its landmarks are.

The one-shot network's landmarks are good to a tenth of the eyes' distance and cheap; they are enough to cut the face out
upright, at one size, and on such a crop a network of 0.2 M parameters is several times as exact. What is no face it learns from
the one-shot network's own false alarms.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import Dataset

from faceembed.engine.detect.refine import TEMPLATE
from faceembed.engine.models.oneshot import REFINED_CHANNELS as CHANNELS
from faceembed.engine.models.oneshot import REFINED_SIDE as SIDE
from faceembed.engine.native import _native
from faceembed.trainer.aligner.coverings import cover
from faceembed.trainer.aligner.labels import LabelledPhoto, pixels_of
from faceembed.trainer.aligner.teacher import MIRRORED
from faceembed.trainer.batches.augment import augment, generator
from faceembed.trainer.recipes.crops import Augment

Floats = NDArray[np.float64]
_DENSITY = 2.0  # pixels of a kept cut for one of a crop
_CUT = 160  # side of a kept cut: the crop and 12 of its pixels around it


@dataclasses.dataclass(frozen=True)
class RefinerSettings:
    """How the crops are disturbed and how long the network learns."""

    steps: int = 2000
    batch_size: int = 64
    lr: float = 2e-3
    shift: float = 0.05
    """Standard deviation of a shift of all landmarks that a crop is cut by, in units of the eyes' distance."""
    scale: float = 0.07
    """Standard deviation of the logarithm of their size."""
    turn: float = 5.0
    """Standard deviation of their turn in degrees."""
    each: float = 0.04
    """Standard deviation of each of them on its own, in units of the eyes' distance."""
    smallest: float = 20.0
    """Side in pixels of the smallest face learnt."""
    dressed_share: float = 0.0
    """How often a face wears or holds something before it: `coverings`."""
    false_share: float = 0.3
    """Share of samples that are false alarms."""
    false_scenes: int = 3000
    """Views of photos that the one-shot network looks for false alarms in."""
    false_score: float = 0.1
    """Least score of a false alarm."""
    false_most: int = 5000
    """False alarms kept, at most."""


class RefinerNet(nn.Module):
    """float32 (N, 3, 56, 56) in [-1, 1] to (N, 11): a logit, and how far each landmark is from where the template has it."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *_layer(3, 16, 2),  # 28
            *_layer(16, 32, 2),  # 14
            *_layer(32, 32, 1),
            *_layer(32, 48, 2),  # 7
            *_layer(48, 48, 1),
            *_layer(48, 64, 2),  # 4
            nn.Flatten(),
            nn.Linear(64 * 16, 96),
            nn.ReLU(),
            nn.Linear(96, CHANNELS),
        )

    def forward(self, crops: Tensor) -> Tensor:
        return self.body(crops)  # type: ignore[no-any-return]


def _layer(before: int, after: int, stride: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU()


@dataclasses.dataclass(frozen=True)
class Cuts:
    """Pieces of pictures, each around five landmarks that are put upright at one size."""

    pixels: NDArray[np.uint8]
    """(F, 160, 160, 3)."""
    marks: Floats
    """(F, 5, 2) the landmarks in pixels of a piece, centres at whole numbers."""


class Faces(Dataset[tuple[Tensor, Tensor]]):
    """Crops as wrong landmarks would cut them, and where the right ones are: sample i by (seed, i) alone.

    What is learnt is (11,): 1 for a face and 0 for a false alarm, then x and y of the landmarks off the template.

    Args:
        faces: faces.
        false: false alarms, with the landmarks that they were given.
        settings: how wrong.
        changes: of colour and sharpness.
        seed: of everything drawn.
        length: how many samples there are.
    """

    def __init__(
        self, faces: Cuts, false: Cuts, settings: RefinerSettings, changes: Augment, *, seed: int, length: int
    ) -> None:
        self._faces, self._false = faces, false
        self._settings, self._changes, self._seed, self._length = settings, changes, seed, length

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        rng = generator(self._seed, index)
        real = not len(self._false.marks) or rng.random() >= self._settings.false_share
        source = self._faces if real else self._false
        number = int(rng.integers(len(source.marks)))
        pixels, marks = source.pixels[number], source.marks[number]
        if rng.random() < 0.5:
            pixels = np.ascontiguousarray(pixels[:, ::-1])
            marks = marks[MIRRORED] * (-1, 1) + (_CUT - 1, 0)
        if real and self._settings.dressed_share > 0 and rng.random() < self._settings.dressed_share:
            pixels = _dressed(pixels, marks, rng)
        matrix = _native.fit_similarity(self._disturb(marks, rng)[None], TEMPLATE)
        crop = _native.warp(pixels, matrix, SIDE, SIDE)[0]
        crop = augment(crop, self._changes, rng)
        wanted = np.concatenate([[float(real)], (_back(matrix[0], marks) - TEMPLATE).reshape(10)])
        return torch.from_numpy(np.ascontiguousarray(crop)), torch.from_numpy(wanted.astype(np.float32))

    def _disturb(self, marks: Floats, rng: np.random.Generator) -> Floats:
        """Landmarks as the one-shot network might give them."""
        s = self._settings
        eyes = float(np.linalg.norm(marks[0] - marks[1]))
        middle = marks.mean(axis=0)
        angle, size = np.deg2rad(s.turn * rng.standard_normal()), np.exp(s.scale * rng.standard_normal())
        turn = size * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        moved = (marks - middle) @ turn.T + middle + s.shift * eyes * rng.standard_normal(2)
        disturbed: Floats = moved + s.each * eyes * rng.standard_normal((5, 2))
        return disturbed


def refiner_loss(answers: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """The loss, and the mean distance of the faces' landmarks from where they should be, in pixels of the crop.

    Landmarks cost their distance, smooth below a quarter pixel; whether it is a face costs its cross entropy.
    """
    real = wanted[:, 0]
    apart = (answers[:, 1:] - wanted[:, 1:]).reshape(-1, 5, 2).square().sum(dim=2)
    count = real.sum().clamp(min=1.0)
    smooth = ((torch.sqrt(apart + 0.25**2) - 0.25).mean(dim=1) * real).sum() / count
    distance = (torch.sqrt(apart.detach()).mean(dim=1) * real).sum() / count
    return smooth + nn.functional.binary_cross_entropy_with_logits(answers[:, 0], real), distance


def cut_faces(photos: Sequence[LabelledPhoto], smallest: float) -> Cuts:
    """The faces of photos that are large enough; each photo is read once.

    Raises:
        DataError: a photo cannot be used any more.
    """
    parts = []
    for photo in photos:
        sides = np.sqrt((photo.boxes[:, 2:] - photo.boxes[:, :2]).prod(axis=1))
        points = photo.landmarks[sides >= smallest]
        if len(points):
            parts.append(cut(pixels_of(photo), points))
    return join(parts)


def cut(pixels: NDArray[np.uint8], landmarks: NDArray[np.float32]) -> Cuts:
    """Pieces of a picture around landmarks (F, 5, 2), in continuous pixels; those that span no face are left out."""
    points = landmarks.astype(np.float64) - 0.5
    matrices = _native.fit_similarity(points, _DENSITY * (TEMPLATE + 0.5 - SIDE / 2) + _CUT / 2 - 0.5)
    sound = np.isfinite(matrices).all(axis=(1, 2))
    matrices, points = np.ascontiguousarray(matrices[sound]), points[sound]
    marks = [_back(matrix, mark) for matrix, mark in zip(matrices, points, strict=True)]
    return Cuts(_native.warp(pixels, matrices, _CUT, _CUT), np.array(marks).reshape(-1, 5, 2))


def join(parts: Sequence[Cuts]) -> Cuts:
    """All pieces."""
    empty = Cuts(np.zeros((0, _CUT, _CUT, 3), np.uint8), np.zeros((0, 5, 2)))
    everything = [empty, *parts]
    return Cuts(np.concatenate([p.pixels for p in everything]), np.concatenate([p.marks for p in everything]))


def _dressed(pixels: NDArray[np.uint8], marks: Floats, rng: np.random.Generator) -> NDArray[np.uint8]:
    """A copy of a piece whose face wears or holds something; its box is taken to reach as far out as an aligner's."""
    points = (marks + 0.5).astype(np.float32)
    down = points[3:].mean(axis=0) - points[:2].mean(axis=0)
    middle, half = (
        points[:2].mean(axis=0) + 0.55 * down,
        float(np.linalg.norm(down)) * np.array([1.05, 1.3], np.float32),
    )
    changed = pixels.copy()
    cover(changed, np.concatenate([middle - half, middle + half]), points, rng)
    return changed


def _back(matrix: Floats, points: Floats) -> Floats:
    """Points of the source of a similarity (2, 3) as points of its target's pixels."""
    moved: Floats = (points - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T
    return moved
