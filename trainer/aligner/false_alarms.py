"""What the one-shot network takes for a face and is none: what the refiner learns to refuse."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from numpy.typing import NDArray

from faceembed.engine.detect.oneshot import decode
from faceembed.trainer.aligner.config import AlignerConfig, AlignerData
from faceembed.trainer.aligner.loop import to_network
from faceembed.trainer.aligner.network import AlignerNet
from faceembed.trainer.aligner.refiner import Cuts, cut, join
from faceembed.trainer.aligner.scenes import Scene
from faceembed.trainer.aligner.train import composer
from faceembed.trainer.batches.augment import generator

_SEED = 1 << 21
_BATCH = 32
_A_SCENE = 4  # false alarms taken of one scene, at most, the best first


def find_false_alarms(network: AlignerNet, config: AlignerConfig, files: tuple[str, ...]) -> Cuts:
    """Show the network views of labelled photos, and cut out what it wrongly takes for a face.

    Args:
        network: in eval mode.
        config: of the training.
        files: of labels.

    Returns:
        At most ``config.refiner.false_most`` pieces.
    """
    s = config.refiner
    plain = dataclasses.replace(
        config.scenes,
        cuts=0,
        background=0.6,
        turn=3.0,
        hidden_share=0.0,
        dressed_share=0.0,
        wide_share=0.0,
        tight_share=0.0,
    )
    data = mostly_empty(config.data)
    views = composer(dataclasses.replace(config, scenes=plain, data=data), files)
    parts: list[Cuts] = []
    for start in range(0, s.false_scenes, _BATCH):
        scenes = [views.compose(generator(config.seed, _SEED, number)) for number in range(start, start + _BATCH)]
        pixels = torch.from_numpy(np.stack([scene.pixels for scene in scenes]))
        with torch.no_grad():
            levels = [level.numpy() for level in network(to_network(pixels))]
        found = decode(levels, s.false_score)
        for number, scene in enumerate(scenes):
            mine = np.flatnonzero(found.photo == number)
            mine = mine[np.argsort(-found.scores[mine], kind="stable")]
            false = [index for index in mine if not _touches(found.boxes[index], scene)][:_A_SCENE]
            if false:
                parts.append(cut(scene.pixels, found.landmarks[false]))
        if sum(len(part.marks) for part in parts) >= s.false_most:
            break
    everything = join(parts)
    return Cuts(everything.pixels[: s.false_most], everything.marks[: s.false_most])


def mostly_empty(data: AlignerData) -> AlignerData:
    """The same with half of what is drawn from groups that show nobody, if shares are given and such groups have any."""
    none = [group in data.empty for group in data.groups]
    before = sum(share for share, empty in zip(data.shares, none, strict=False) if empty)
    if not 0 < before < sum(data.shares):
        return data
    rest = sum(data.shares) - before
    shares = [share / (before if empty else rest) for share, empty in zip(data.shares, none, strict=True)]
    return dataclasses.replace(data, shares=tuple(shares))


def _touches(box: NDArray[np.float32], scene: Scene) -> bool:
    """Whether a box shares a tenth of itself or of the other with a face, or with what may be one."""
    others = np.concatenate([scene.boxes, scene.doubtful])
    low, high = np.maximum(box[:2], others[:, :2]), np.minimum(box[2:], others[:, 2:])
    shared = np.maximum(high - low, 0).prod(axis=1)
    smaller = np.minimum((box[2:] - box[:2]).prod(), (others[:, 2:] - others[:, :2]).prod(axis=1))
    return bool((shared > 0.1 * np.maximum(smaller, 1e-6)).any())
