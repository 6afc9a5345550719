"""Adversarial pictures inside a training step: the batch, changed a little so that its loss grows most.

    def encode(pixels):                                          # differentiable: pixels to raw embeddings
        return model(network_input(pixels, spec))

    pixels = unit_pixels(chips)                                  # uint8 (N, H, W, 3) to float32 (N, 3, H, W) in [-1, 1]
    harder = adversarial_batch(encode, pixels, loss_of, epsilon=0.03, steps=1, step_size=None)
    loss = loss_of(encode(harder))                               # train on them, or on both halves

Goodfellow, Shlens, Szegedy, Explaining and Harnessing Adversarial Examples, 2015 (FGSM: one step), and Madry et al., Towards Deep
Learning Models Resistant to Adversarial Attacks, 2018 (PGD: several). Give the bare module, not its distributed wrapper, whose
bookkeeping counts every forward pass, and put it in eval mode meanwhile if its batch statistics should not see these pictures.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from faceembed.engine.models.spec import ModelSpec
from faceembed.errors import DataError, UsageError

_OVERSTEP = (
    2.5  # all steps together reach this many epsilons, so that a step in a wrong direction can be taken back (Madry)
)


def unit_pixels(chips: Tensor) -> Tensor:
    """uint8 RGB (N, H, W, 3) as float32 (N, 3, H, W), 0 as -1 and 255 as 1."""
    return chips.permute(0, 3, 1, 2).to(torch.float32) / 127.5 - 1


def network_input(pixels: Tensor, spec: ModelSpec) -> Tensor:
    """What the network takes: the spec's colour order, mean and scale of `unit_pixels`, with the gradient flowing through."""
    ordered = pixels.flip(1) if spec.colour == "bgr" else pixels
    mean = torch.tensor(spec.mean, dtype=pixels.dtype, device=pixels.device)
    return ((ordered + 1) * 127.5 - mean[:, None, None]) * spec.scale


def adversarial_batch(
    encode: Callable[[Tensor], Tensor],
    pixels: Tensor,
    loss_of: Callable[[Tensor], Tensor],
    *,
    epsilon: float,
    steps: int,
    step_size: float | None,
) -> Tensor:
    """Pixels within ``epsilon`` of the given ones for which the loss is larger.

    Each step goes along the sign of the gradient and back into the ball and the range of pixels. One step of ``epsilon`` is
    FGSM. Parameters get no gradient from here, and none flows from the result.

    Args:
        encode: pixels to embeddings, (N, D).
        pixels: (N, 3, H, W) in [-1, 1].
        loss_of: embeddings to a scalar, which is raised.
        epsilon: the largest change of a pixel, in units of [-1, 1]: one of 255 levels is 0.0078.
        steps: 1 for FGSM, more for PGD.
        step_size: of one step; None for ``epsilon`` in one step, 2.5 ``epsilon`` / ``steps`` in several.

    Returns:
        As ``pixels``, detached.

    Raises:
        UsageError: an epsilon, number of steps or step size that cannot be.
        DataError: pixels outside [-1, 1], or a loss whose gradient is not finite.
    """
    size = step_of(epsilon=epsilon, steps=steps, step_size=step_size)
    clean = pixels.detach()
    if clean.abs().amax() > 1 + 1e-4:
        raise DataError(f"pixels reach {clean.abs().amax().item():g}; expected [-1, 1], see unit_pixels")
    low, high = (clean - epsilon).clamp_min(-1), (clean + epsilon).clamp_max(1)
    current = clean
    for _ in range(steps):
        with torch.enable_grad():
            variable = current.clone().requires_grad_(True)
            (gradient,) = torch.autograd.grad(loss_of(encode(variable)), variable)
        if not torch.isfinite(gradient).all():
            raise DataError("the gradient of the loss at the pixels is not finite; is the loss itself?")
        current = torch.minimum(torch.maximum(current + size * gradient.sign(), low), high)
    return current


def step_of(*, epsilon: float, steps: int, step_size: float | None) -> float:
    """The size of a step, from what was asked for.

    Raises:
        UsageError: an epsilon, number of steps or step size that cannot be.
    """
    if not 0 < epsilon <= 2:
        raise UsageError(f"epsilon is {epsilon:g}; expected more than 0, at most 2 (the whole range of a pixel)")
    if steps < 1:
        raise UsageError(f"steps is {steps}; expected at least 1")
    if step_size is None:
        return epsilon if steps == 1 else _OVERSTEP * epsilon / steps
    if not step_size > 0:
        raise UsageError(f"step_size is {step_size:g}; expected more than 0")
    return step_size
