"""Adversarial batches for a training step: the formula on a small known network, the ball, and what is left untouched."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from faceembed.engine.models.spec import ModelSpec
from faceembed.errors import DataError, UsageError
from faceembed.trainer.backbones.registry import preprocess
from faceembed.trainer.loop.adversarial import adversarial_batch, network_input, unit_pixels
from faceembed.trainer.losses import make_loss

SHAPE = (3, 4, 4)


def pixels_of(seed: int, count: int = 4) -> Tensor:
    return torch.rand(count, *SHAPE, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def network(seed: int, *, curved: bool) -> nn.Sequential:
    torch.manual_seed(seed)
    inner: list[nn.Module] = (
        [nn.Linear(48, 24), nn.Tanh(), nn.Linear(24, 6)] if curved else [nn.Linear(48, 6, bias=False)]
    )
    return nn.Sequential(nn.Flatten(), *inner)


def pair_loss(embeddings: Tensor) -> Tensor:
    loss: Tensor = make_loss("adaptive-margin")(*embeddings.chunk(2), torch.tensor([1, 0]))
    return loss


@pytest.mark.parametrize("epsilon", [0.01, 0.1, 0.7])
def test_fgsm_is_the_sign_of_the_gradient(epsilon: float) -> None:
    """With embeddings W x and the loss v . (W x) the gradient is W' v, whatever x."""
    model, pixels = network(0, curved=False), pixels_of(1)
    weight = model[1].weight.detach().numpy()
    direction = np.array([1.0, -2.0, 0.5, 3.0, 0.0, -1.0])
    changed = adversarial_batch(
        model,
        pixels,
        lambda e: (e @ torch.from_numpy(direction).float()).sum(),
        epsilon=epsilon,
        steps=1,
        step_size=None,
    )
    gradient = (weight.T.astype(np.float64) @ direction).reshape(SHAPE)
    expected = np.clip(pixels.numpy() + epsilon * np.sign(gradient), -1, 1)
    np.testing.assert_allclose(changed.numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("steps, step_size", [(1, None), (1, 0.5), (4, None), (10, 0.01), (3, 5.0)])
def test_the_ball_and_the_range(steps: int, step_size: float | None) -> None:
    pixels = pixels_of(2)
    changed = adversarial_batch(
        network(1, curved=True), pixels, pair_loss, epsilon=0.1, steps=steps, step_size=step_size
    )
    assert changed.shape == pixels.shape and changed.dtype == pixels.dtype
    assert (changed - pixels).abs().max() <= 0.1 + 1e-6
    assert changed.abs().max() <= 1
    assert (changed != pixels).any()
    assert not changed.requires_grad


def test_several_steps_do_more_than_one() -> None:
    gains = []
    for seed in range(8):
        model, pixels = network(seed, curved=True), pixels_of(seed)

        def loss_at(changed: Tensor, model: nn.Module = model) -> float:
            return pair_loss(model(changed)).item()

        one, many = (
            loss_at(adversarial_batch(model, pixels, pair_loss, epsilon=0.05, steps=steps, step_size=None))
            for steps in (1, 20)
        )
        assert min(one, many) > loss_at(pixels)
        gains.append(many - one)
    assert min(gains) > -1e-3
    assert np.mean(gains) > 0


def test_the_network_is_left_as_it_was() -> None:
    model = nn.Sequential(network(3, curved=True), nn.BatchNorm1d(6)).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():  # it needs no gradient around it
        adversarial_batch(model, pixels_of(3), pair_loss, epsilon=0.1, steps=2, step_size=None)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("colour", ["rgb", "bgr"])
def test_pixels_reach_the_network_as_chips_do(colour: Any) -> None:
    spec = ModelSpec(
        "x",
        "encoder",
        (5, 6),
        colour,
        (10.0, 20.0, 30.0),
        1 / 100,
        4,
        template=tuple((float(x), 0.0) for x in range(5)),
    )
    chips = torch.randint(0, 256, (2, 5, 6, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    pixels = unit_pixels(chips)
    assert pixels.min() >= -1 and pixels.max() <= 1
    torch.testing.assert_close(network_input(pixels, spec), preprocess(chips, spec), rtol=0, atol=2e-6)


@pytest.mark.parametrize(
    "changes, error, message",
    [
        ({"epsilon": 0}, UsageError, "^epsilon is 0; expected more than 0, at most 2"),
        ({"epsilon": 3}, UsageError, "^epsilon is 3; "),
        ({"epsilon": math.nan}, UsageError, "^epsilon is nan; "),
        ({"steps": 0}, UsageError, "^steps is 0; expected at least 1$"),
        ({"step_size": -1.0}, UsageError, "^step_size is -1; expected more than 0$"),
        (
            {"pixels": torch.full((4, *SHAPE), 200.0)},
            DataError,
            "^pixels reach 200; expected .-1, 1., see unit_pixels$",
        ),
        (
            {"loss_of": lambda e: (e * math.nan).sum()},
            DataError,
            "^the gradient of the loss at the pixels is not finite",
        ),
    ],
)
def test_mistakes_are_one_line(changes: dict[str, Any], error: type[Exception], message: str) -> None:
    given: dict[str, Any] = {
        "pixels": pixels_of(0),
        "loss_of": pair_loss,
        "epsilon": 0.1,
        "steps": 2,
        "step_size": None,
    }
    given |= changes
    pixels, loss_of = given.pop("pixels"), given.pop("loss_of")
    model: Callable[[Tensor], Tensor] = network(0, curved=True)
    with pytest.raises(error, match=message) as caught:
        adversarial_batch(model, pixels, loss_of, **given)
    assert "\n" not in str(caught.value)
