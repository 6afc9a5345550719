"""Gradient attacks on whole-number pixels: FGSM and PGD, in PyTorch.

Every picture on the way is a real one: steps are whole levels of 255, so nothing is lost by rounding at the end.
"""

from __future__ import annotations

import dataclasses
import os

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from faceembed.engine.models.registry import resolve
from faceembed.engine.models.spec import ModelSpec
from faceembed.errors import DataError, DeviceError, UsageError
from faceembed.trainer.backbones.checkpoints import DLIB, load_encoder
from faceembed.trainer.gradients.onnx_network import OnnxNetwork
from faceembed.trainer.loop.adversarial import network_input, unit_pixels
from faceembed.trainer.losses.base import unit

Chips = NDArray[np.uint8]
Vectors = NDArray[np.float32]


@dataclasses.dataclass(frozen=True)
class Network:
    """An encoder in PyTorch, in eval mode and fp32."""

    model: nn.Module
    spec: ModelSpec
    name: str
    device: torch.device
    batch: int = 32
    """Chips encoded at a time."""

    def encode(self, chips: Chips) -> tuple[Vectors, NDArray[np.float32]]:
        """Chips (N, H, W, 3) to embeddings (N, D) of unit length, and the norms (N,) they had, as the engine's encoder does."""
        with torch.no_grad():
            parts = [
                self.model(network_input(self.pixels(part), self.spec))
                for part in np.split(chips, range(self.batch, len(chips), self.batch))
            ]
            raw = torch.cat(parts)
            return unit(raw).cpu().numpy(), raw.norm(dim=1).cpu().numpy()

    def pixels(self, chips: Chips) -> Tensor:
        """Chips as float32 (N, 3, H, W) in [-1, 1] on the network's device."""
        return unit_pixels(torch.from_numpy(np.ascontiguousarray(chips)).to(self.device))

    def directions(self, pixels: Tensor) -> Tensor:
        """Embeddings (N, D) of unit length, differentiable."""
        return unit(self.model(network_input(pixels, self.spec)))


def open_network(source: str, *, arch: str | None, device: str, batch: int) -> Network:
    """Load the encoder to attack.

    Args:
        source: a checkpoint, as `load_encoder` takes it; or any encoder of the engine: a model's name, or an ONNX file with its
            spec beside it.
        arch: the architecture of another project's checkpoint.
        device: ``cpu``, ``cuda``, ``cuda:N``, or ``auto``: CUDA where there is one.
        batch: chips encoded at a time.

    Raises:
        ModelError: as `load_encoder`, `resolve` and `OnnxNetwork` raise it.
        DeviceError: no such device.
        UsageError: an architecture for what is no checkpoint.
    """
    chosen = _device(device)
    model, spec = _load(source, arch)
    return Network(model.eval().requires_grad_(False).to(chosen), spec, spec.name, chosen, batch)


def _load(source: str, arch: str | None) -> tuple[nn.Module, ModelSpec]:
    if source == DLIB or (os.path.isfile(source) and not source.lower().endswith(".onnx")):
        model, spec, _ = load_encoder(source, arch=arch)
        return model, spec
    if arch is not None:
        raise UsageError(f"--arch {arch} is for checkpoints; {source} says itself what it computes: leave --arch out")
    found = resolve(source, task="encoder")
    return OnnxNetwork(found), found.spec


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind, _, number = name.partition(":")
    if kind not in ("cpu", "cuda") or (number and not number.isdecimal()):
        raise DeviceError(f"device '{name}' is not one of auto, cpu, cuda, cuda:N")
    if kind == "cuda" and int(number or 0) >= torch.cuda.device_count():
        raise DeviceError(
            f"device '{name}': PyTorch finds {torch.cuda.device_count()} CUDA devices here; use --device cpu"
        )
    return torch.device(name)


def fgsm(network: Network, chips: Chips, references: Vectors, sign: NDArray[np.float32], *, levels: int) -> Chips:
    """One step of ``levels`` along the sign of the gradient of the similarity (Goodfellow et al. 2015).

    Args:
        network: the encoder.
        chips: uint8 (N, H, W, 3).
        references: float32 (N, D) of unit length: what each chip is compared with.
        sign: float32 (N,) 1 to raise the similarity, -1 to lower it.
        levels: how many of 255 levels a pixel may move.

    Returns:
        uint8 (N, H, W, 3): ``clip(chip + levels * sign(gradient), 0, 255)``.
    """
    _, gradient = _slope(network, chips, references, sign)
    return _step(chips, chips, gradient, size=levels, levels=levels)


def pgd(
    network: Network,
    chips: Chips,
    references: Vectors,
    sign: NDArray[np.float32],
    *,
    levels: int,
    steps: int,
    size: int,
) -> Chips:
    """Several steps, each back into the ball and the range (Madry et al. 2018), and for each chip the best picture on the way.

    The first step is `fgsm`'s, the others move ``size`` levels. The unchanged chip is no candidate, so that an attack that
    fails is seen to fail. Arguments and result are those of `fgsm`.
    """
    best, reached = chips, np.full(len(chips), -np.inf, np.float32)
    current = chips
    for number in range(steps):
        gain, gradient = _slope(network, current, references, sign)
        if number:
            best, reached = _better(best, reached, current, gain)
        current = _step(chips, current, gradient, size=size if number else levels, levels=levels)
    gain = sign * (network.encode(current)[0] * references).sum(1)
    return _better(best, reached, current, gain)[0]


def _better(
    best: Chips, reached: NDArray[np.float32], current: Chips, gain: NDArray[np.float32]
) -> tuple[Chips, NDArray[np.float32]]:
    more = gain > reached
    return np.where(more[:, None, None, None], current, best), np.where(more, gain, reached)


def _slope(
    network: Network, chips: Chips, references: Vectors, sign: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.int16]]:
    """What the attacker gains so far, (N,), and the sign of its gradient at each pixel, int16 (N, H, W, 3) of -1, 0 and 1."""
    pixels = network.pixels(chips).requires_grad_(True)
    with torch.enable_grad():
        towards = torch.from_numpy(references * sign[:, None]).to(network.device)
        gain = (network.directions(pixels) * towards).sum(1)
        (gradient,) = torch.autograd.grad(gain.sum(), pixels)
    if not torch.isfinite(gradient).all():
        raise DataError(f"{network.name}: its gradient at the pixels is not finite; are its weights damaged?")
    signs = gradient.sign().permute(0, 2, 3, 1).cpu().numpy().astype(np.int16)
    return gain.detach().cpu().numpy(), signs


def _step(chips: Chips, current: Chips, signs: NDArray[np.int16], *, size: int, levels: int) -> Chips:
    """``current`` moved by ``size`` levels, within ``levels`` of ``chips`` and within 0..255."""
    start = chips.astype(np.int16)
    moved = np.clip(current + size * signs, start - levels, start + levels)
    return np.asarray(np.clip(moved, 0, 255), np.uint8)
