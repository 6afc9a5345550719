"""Batches of composed scenes, made in worker processes beside the training."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from faceembed.trainer.aligner.config import AlignerConfig
from faceembed.trainer.aligner.scenes import Composer, Scene, mirrored
from faceembed.trainer.aligner.targets import assign, points
from faceembed.trainer.batches.augment import augment, generator

Example = tuple[Tensor, Tensor, Tensor]
VIEWS = 2  # of each scene


class Scenes(Dataset[Example]):
    """Scene number i and its mirror image, drawn from (seed, i) alone, so that a training can go on anywhere.

    Composing costs more than colouring: each scene is used twice, the second time mirrored, in other colours.
    """

    def __init__(self, composer: Composer, config: AlignerConfig) -> None:
        self._composer = composer
        self._config = config
        side = config.scenes.side
        self._places, self._strides = points(side, side)

    def __len__(self) -> int:
        return self._config.loop.steps * self._config.loop.batch_size // VIEWS

    def __getitem__(self, index: int) -> Example:
        rng = generator(self._config.seed, index)
        scene = self._composer.compose(rng)
        views = [self._example(view, rng) for view in (scene, mirrored(scene))]
        pixels, state, values = (torch.stack(column) for column in zip(*views, strict=True))
        return pixels, state, values

    def _example(self, scene: Scene, rng: np.random.Generator) -> Example:
        pixels = augment(scene.pixels, self._config.augment, rng)
        targets = assign(scene.boxes, scene.landmarks, scene.weights, scene.doubtful, self._places, self._strides)
        return (
            torch.from_numpy(np.ascontiguousarray(pixels)),
            torch.from_numpy(targets.state),
            torch.from_numpy(targets.values),
        )


def batches(scenes: Scenes, config: AlignerConfig, *, first: int) -> Iterator[Example]:
    """Batches from step ``first`` on: uint8 (N, H, W, 3), int8 (N, P), float32 (N, P, 19)."""
    size = config.loop.batch_size // VIEWS
    loader = DataLoader(
        scenes,
        batch_size=size,
        sampler=range(first * size, len(scenes)),
        num_workers=config.data.workers,
        prefetch_factor=8 if config.data.workers else None,
    )
    for pixels, state, values in loader:
        yield pixels.flatten(0, 1), state.flatten(0, 1), values.flatten(0, 1)
