"""Which pixels of two faces make them similar, by gradients: integrated gradients of the cosine, in PyTorch.

    network = open_network("faceembed-r29", arch=None, device="cpu", batch=32)
    explanation = explain_gradient(network, chip_a, chip_b)

With x the chip, x' the fill that shows nothing of it, and s the similarity to the other face,

    M_i = H W (x_i - x'_i) * mean over k of  ds/dx_i at  x' + (k - 1/2) / n (x - x'),   k = 1..n

summed over the colours (Sundararajan et al. 2017, https://arxiv.org/abs/1703.01365, equation 3, by the midpoint rule; the number
of pixels H W is ours), then smoothed. The map's mean is ``s(x) - s(x')``, what the face as a whole gains over its fill; the
smoothing keeps it.

Of a gated encoder the maps are those of the identity alone: the gate says whether a face is one photo's, which no place of it decides,
and a fill is no photo: on the way from it the gate jumps, and the jump would be all that is seen.
"""

from __future__ import annotations

import dataclasses
import os

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from faceembed.engine.explain.explained import Explained
from faceembed.engine.explain.occlusion import FILLS, Chip, Explanation, Fill, Map, fill_of
from faceembed.engine.pipeline.progress import Notify
from faceembed.engine.pipeline.settings import EmbedSettings
from faceembed.engine.verbs.explain import absolute, explained
from faceembed.errors import DataError, UsageError
from faceembed.trainer.gradients.attack_gradient import Network
from faceembed.trainer.gradients.subject import open_network_subject

_SMOOTH = 1 / 28  # standard deviation of the smoothing, in sides of the chip: 4 px of 112


@dataclasses.dataclass(frozen=True)
class GradientSettings:
    """How the path from fill to face is walked."""

    steps: int = 24
    """Points on it."""
    fill: Fill = "blur"
    """Where it starts; as for occlusion."""

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise UsageError(f"--steps {self.steps} must be at least 1")
        if self.fill not in FILLS:
            raise UsageError(f"--fill '{self.fill}' is not one of {', '.join(FILLS)}")


def explain_gradient(
    network: Network, chip_a: Chip, chip_b: Chip, *, settings: GradientSettings | None = None
) -> Explanation:
    """Gradient maps of two faces.

    Args:
        network: the encoder.
        chip_a, chip_b: uint8 RGB (H, W, 3), aligned faces of the encoder's input size.
        settings: steps and fill.

    Returns:
        The maps, float32 (H, W); the mean of each is the similarity (of the identities, for a gated encoder) that its face has more
        than its fill.

    Raises:
        DataError: the gradient is not finite.
    """
    settings = settings or GradientSettings()
    vectors = network.encode(np.stack([chip_a, chip_b]))[0]
    whose = _identity(torch.from_numpy(vectors)).numpy() if network.spec.gated else vectors
    map_a = _integrated(network, chip_a, whose[1], settings)
    map_b = _integrated(network, chip_b, whose[0], settings)
    details = {"steps": settings.steps, "fill": settings.fill}
    return Explanation(float(vectors[0] @ vectors[1]), map_a, map_b, "gradient", details)


def explain_photos_gradient(
    photo_a: str | os.PathLike[str],
    photo_b: str | os.PathLike[str],
    *,
    settings: EmbedSettings | None = None,
    gradient: GradientSettings | None = None,
    arch: str | None = None,
    notice: Notify = lambda line: None,
) -> Explained:
    """Explain the similarity of the largest faces of two photos by gradients.

    Args:
        photo_a, photo_b: photo files.
        settings: aligner, and an encoder: a checkpoint, or any that the engine takes.
        gradient: steps and fill.
        arch: the architecture of another project's checkpoint.
        notice: called with lines for the user.

    Raises:
        DataError: a photo cannot be read or has no face.
        ModelError: an encoder that PyTorch cannot run.
    """
    paths = absolute(photo_a, photo_b)
    subject, network = open_network_subject(
        settings or EmbedSettings(), paths, arch=arch, purpose="gradient", count=True, notice=notice
    )
    chips = subject.faces(paths)
    return explained(subject, paths, explain_gradient(network, chips[0], chips[1], settings=gradient))


def _integrated(network: Network, chip: Chip, reference: NDArray[np.float32], settings: GradientSettings) -> Map:
    start = torch.tensor(fill_of(chip, settings.fill) / 127.5 - 1)  # (H, W, 3) in [-1, 1]
    whole = torch.tensor(chip / 127.5 - 1, dtype=torch.float32) - start
    towards = torch.from_numpy(reference).to(network.device)
    along = (torch.arange(settings.steps) + 0.5) / settings.steps
    total = torch.zeros(whole.shape, dtype=torch.float64)
    for first in range(0, settings.steps, network.batch):
        part = along[first : first + network.batch]
        pixels = (start + part[:, None, None, None] * whole).permute(0, 3, 1, 2).to(network.device)
        pixels.requires_grad_(True)
        with torch.enable_grad():
            directions = network.directions(pixels)
            seen = _identity(directions) if network.spec.gated else directions
            (gradient,) = torch.autograd.grad((seen @ towards).sum(), pixels)
        total += gradient.sum(0).permute(1, 2, 0).cpu()
    values = (whole * total).sum(2).numpy() * (chip.shape[0] * chip.shape[1] / settings.steps)
    if not np.isfinite(values).all():
        raise DataError(f"{network.name}: its gradient at the pixels is not finite; are its weights damaged?")
    smooth = cv2.GaussianBlur(values, (0, 0), _SMOOTH * chip.shape[0], borderType=cv2.BORDER_REFLECT)
    return np.asarray(smooth, np.float32)


def _identity(directions: torch.Tensor) -> torch.Tensor:
    """The unit identities (N, D) in gated embeddings (N, 2 D): both halves point the same way, and never are both 0."""
    halves = directions.reshape(len(directions), 2, -1)
    return torch.nn.functional.normalize(halves.sum(1))
