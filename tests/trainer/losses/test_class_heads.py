"""AdaFace, ArcFace, CosFace and MagFace against their formulas in float64 numpy, values and gradients."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from faceembed.trainer.losses import make_loss

Array = NDArray[np.float64]
HEADS = ("adaface", "arcface", "cosface", "magface")
LABELS = np.array([0, 2, 2, 5, 1])


def softmax_loss(logits: Array, labels: NDArray[np.int64]) -> float:
    top = logits.max(1, keepdims=True)
    log_sum = np.log(np.exp(logits - top).sum(1)) + top[:, 0]
    return float((log_sum - logits[np.arange(len(labels)), labels]).mean())


def cosines_of(x: Array, w: Array) -> Array:
    return np.asarray((x / np.linalg.norm(x, axis=1, keepdims=True)) @ (w / np.linalg.norm(w, axis=0)))


def with_true(cosines: Array, labels: NDArray[np.int64], true: Array) -> Array:
    logits = cosines.copy()
    logits[np.arange(len(labels)), labels] = true
    return logits


def own(cosines: Array, labels: NDArray[np.int64]) -> Array:
    return np.asarray(cosines[np.arange(len(labels)), labels])


def adaface(x: Array, w: Array, labels: NDArray[np.int64], *, quality: Array, m: float = 0.4, s: float = 64.0) -> float:
    cosines = np.clip(cosines_of(x, w), -0.999, 0.999)
    theta = np.clip(np.arccos(own(cosines, labels)) - m * quality, 0.001, math.pi - 0.001)
    return softmax_loss(s * with_true(cosines, labels, np.cos(theta) - (m * quality + m)), labels)


def quality_of(x: Array, *, mean: float, std: float, h: float = 0.333) -> Array:
    z = np.clip(np.linalg.norm(x, axis=1), 0.001, 100)
    return np.clip((z - mean) / ((std + 0.001) / h), -1, 1)


def arcface(x: Array, w: Array, labels: NDArray[np.int64], *, m: float = 0.5, s: float = 64.0) -> float:
    cosines = cosines_of(x, w)
    theta = np.arccos(own(cosines, labels))
    true = np.where(theta <= math.pi - m, np.cos(theta + m), np.cos(theta) - m * math.sin(m))
    return softmax_loss(s * with_true(cosines, labels, true), labels)


def cosface(x: Array, w: Array, labels: NDArray[np.int64], *, m: float = 0.35, s: float = 64.0) -> float:
    cosines = cosines_of(x, w)
    return softmax_loss(s * with_true(cosines, labels, own(cosines, labels) - m), labels)


def magface(x: Array, w: Array, labels: NDArray[np.int64]) -> float:
    a = np.clip(np.linalg.norm(x, axis=1), 10, 110)
    m = 0.45 + (0.8 - 0.45) / (110 - 10) * (a - 10)
    cosines = cosines_of(x, w)
    theta = np.arccos(own(cosines, labels))
    true = np.where(theta <= math.pi - m, np.cos(theta + m), np.cos(theta) - m * np.sin(m))
    return softmax_loss(64 * with_true(cosines, labels, true), labels) + 35 * float((1 / a + a / 110**2).mean())


def weight_of(head: Any) -> torch.nn.Parameter:
    return head.inner.W if hasattr(head, "inner") else head.weight


def batch(seed: int, *, scale: float = 15.0) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    return scale * rng.normal(size=(5, 4)), rng.normal(size=(4, 6))


@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-7), (torch.float32, 2e-4)])
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", HEADS)
def test_value_and_gradient(name: str, seed: int, dtype: torch.dtype, tolerance: float, slope: Any) -> None:
    x, w = batch(seed)
    head = make_loss(name, dimension=4, classes=6).to(dtype)
    weight_of(head).data.copy_(torch.from_numpy(w))
    if name == "adaface":
        head.eval()
        head.batch_mean.fill_(25.0)
        head.batch_std.fill_(20.0)
        quality = quality_of(x, mean=25, std=20)  # a number: no gradient flows through it
        formula: Callable[[Array, Array], float] = lambda x, w: adaface(x, w, LABELS, quality=quality)
    else:
        table = {"arcface": arcface, "cosface": cosface, "magface": magface}
        formula = lambda x, w: table[name](x, w, LABELS)
    embeddings = torch.from_numpy(x).to(dtype).requires_grad_(True)
    loss = head(embeddings, torch.from_numpy(LABELS))
    loss.backward()
    assert loss.dtype == dtype
    assert loss.item() == pytest.approx(formula(x, w), rel=tolerance)
    assert embeddings.grad is not None and weight_of(head).grad is not None
    np.testing.assert_allclose(embeddings.grad.numpy(), slope(lambda v: formula(v, w), x), atol=20 * tolerance)
    np.testing.assert_allclose(weight_of(head).grad.numpy(), slope(lambda v: formula(x, v), w), atol=200 * tolerance)


def test_adaface_keeps_moving_statistics() -> None:
    head = make_loss("adaface", dimension=4, classes=6)
    assert (float(head.batch_mean), float(head.batch_std)) == (20, 100)
    mean, std = 20.0, 100.0
    weight = head.weight.detach().double().numpy()
    for seed, scale in enumerate((1.0, 40.0, 100.0)):  # the last has norms beyond 100, which are clipped
        x, _ = batch(seed, scale=scale)
        z = np.clip(np.linalg.norm(x, axis=1), 0.001, 100)
        mean, std = 0.99 * mean + 0.01 * z.mean(), 0.99 * std + 0.01 * z.std(ddof=1)
        value = head(torch.from_numpy(x).float(), torch.from_numpy(LABELS))
        assert float(head.batch_mean) == pytest.approx(mean, rel=1e-5)
        assert float(head.batch_std) == pytest.approx(std, rel=1e-5)
        expected = adaface(x, weight, LABELS, quality=quality_of(x, mean=mean, std=std))  # updated before they are used
        assert value.item() == pytest.approx(expected, rel=1e-4)
    head.eval()
    head(torch.from_numpy(x).float(), torch.from_numpy(LABELS))
    assert float(head.batch_mean) == pytest.approx(mean, rel=1e-5)
    head.train()
    head(torch.ones(1, 4), torch.tensor([0]))  # a batch of one: a mean, but no deviation
    assert float(head.batch_mean) == pytest.approx(0.99 * mean + 0.01 * 2, rel=1e-5)
    assert float(head.batch_std) == pytest.approx(std, rel=1e-5)


@pytest.mark.parametrize("norm, quality", [(0.0, -1.0), (5.0, -1.0), (55.0, 0.333 / 2), (95.0, 1.0), (1e4, 1.0)])
def test_adaface_quality(norm: float, quality: float) -> None:
    head = make_loss("adaface", dimension=2, classes=3).eval()
    head.batch_mean.fill_(50.0)
    head.batch_std.fill_(9.999)  # and the official 0.001
    assert head.quality(torch.tensor([[norm, 0.0]])).tolist() == pytest.approx([quality], abs=1e-6)


@pytest.mark.parametrize(
    "quality, logit", [(-1.0, math.cos(1.0 + 0.4)), (0.0, math.cos(1.0) - 0.4), (1.0, math.cos(0.6) - 0.8)]
)
def test_adaface_is_arcface_cosface_or_between(quality: float, logit: float) -> None:
    """The paper's three cases: z^ = -1 turns the angle, 0 subtracts a constant, 1 does both."""
    head = make_loss("adaface", dimension=2, classes=2).eval()
    head.weight.data.copy_(torch.eye(2))
    head.batch_std.fill_(0.332)  # with the official 0.001: z^ is norm - mean
    head.batch_mean.fill_(10.0 - quality)
    x = 10 * torch.tensor([[math.cos(1.0), math.sin(1.0)]])
    loss = head(x, torch.tensor([0])).item()
    expected = softmax_loss(np.array([[64 * logit, 64 * math.sin(1.0)]]), np.array([0]))
    assert loss == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", HEADS)
def test_full_precision_under_autocast(name: str, dtype: torch.dtype) -> None:
    x, _ = batch(0)
    labels = torch.from_numpy(LABELS)
    head = make_loss(name, dimension=4, classes=6).eval()
    embeddings = torch.from_numpy(x).to(dtype).requires_grad_(True)
    plain = head(embeddings.detach().float(), labels)
    with torch.autocast("cpu", dtype=dtype):
        loss = head(embeddings, labels)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, plain)
    loss.backward()
    assert embeddings.grad is not None and embeddings.grad.dtype == dtype
    assert weight_of(head).dtype == torch.float32


def extremes(head: Any) -> dict[str, torch.Tensor]:
    """Embeddings at the ends of what a float can hold; the labels are 0 and 1."""
    directions = weight_of(head).detach().T[:2] / weight_of(head).detach().T[:2].norm(dim=1, keepdim=True)
    return {
        "on their classes": directions,
        "on their classes, long": 50 * directions,
        "opposed": -directions,
        "opposed, long": -50 * directions,
        "zero": torch.zeros(2, 4),
        "huge": 1e30 * directions + 1e29,
        "tiny": 1e-30 * directions,
    }


@pytest.mark.parametrize(
    "which", ["on their classes", "on their classes, long", "opposed", "opposed, long", "zero", "huge", "tiny"]
)
@pytest.mark.parametrize("name", HEADS)
def test_extremes_are_finite(name: str, which: str) -> None:
    head = make_loss(name, dimension=4, classes=6)
    embeddings = extremes(head)[which].clone().requires_grad_(True)
    loss = head(embeddings, torch.tensor([0, 1]))
    loss.backward()
    assert torch.isfinite(loss)
    assert embeddings.grad is not None and weight_of(head).grad is not None
    assert torch.isfinite(embeddings.grad).all()
    assert torch.isfinite(weight_of(head).grad).all()


@pytest.mark.parametrize("name", HEADS)
def test_a_batch_of_one_is_its_share_of_a_larger_one(name: str) -> None:
    x, _ = batch(1)
    head = make_loss(name, dimension=4, classes=6).eval()
    embeddings, labels = torch.from_numpy(x).float(), torch.from_numpy(LABELS)
    alone = [head(embeddings[i : i + 1], labels[i : i + 1]) for i in range(5)]
    torch.testing.assert_close(torch.stack(alone).mean(), head(embeddings, labels))


@pytest.mark.parametrize("name", HEADS)
@given(seed=st.integers(0, 10**6))
@settings(max_examples=10, deadline=None)
def test_the_order_of_a_batch_does_not_matter(name: str, seed: int) -> None:
    x, _ = batch(seed)
    head = make_loss(name, dimension=4, classes=6).eval()
    order = torch.from_numpy(np.random.default_rng(seed).permutation(5))
    embeddings, labels = torch.from_numpy(x).float(), torch.from_numpy(LABELS)
    torch.testing.assert_close(head(embeddings[order], labels[order]), head(embeddings, labels), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", HEADS)
@given(angles=st.tuples(st.floats(0.1, 3.0), st.floats(0.1, 3.0)).filter(lambda pair: abs(pair[0] - pair[1]) > 0.01))
@settings(max_examples=15, deadline=None)
def test_a_harder_photo_costs_more(name: str, angles: tuple[float, float]) -> None:
    """A photo turned away from its class, at right angles to all others."""
    head = make_loss(name, {"s": 4}, dimension=4, classes=3).double().eval()
    weight_of(head).data.copy_(torch.eye(4)[:, :3].double())
    photos = [20 * torch.tensor([[math.cos(t), 0, 0, math.sin(t)]], dtype=torch.float64) for t in sorted(angles)]
    easy, hard = (head(photo, torch.tensor([0])) for photo in photos)
    assert hard > easy


@pytest.mark.parametrize("name", ["arcface", "cosface"])
def test_length_does_not_matter_to_angles(name: str) -> None:
    x, _ = batch(2)
    head, labels = make_loss(name, dimension=4, classes=6), torch.from_numpy(LABELS)
    torch.testing.assert_close(head(torch.from_numpy(x).float(), labels), head(torch.from_numpy(7 * x).float(), labels))


def test_magface_lengthens_what_is_easy() -> None:
    """On its class a photo gains by growing: the regulariser falls, and the larger margin costs next to nothing."""
    head = make_loss("magface", {"s": 64, "l_m": 0.1, "u_m": 0.2}, dimension=4, classes=3)
    head.weight.data.copy_(torch.eye(4)[:, :3])
    embeddings = torch.tensor([[40.0, 1.0, 1.0, 1.0]], requires_grad=True)
    head(embeddings, torch.tensor([0])).backward()
    assert embeddings.grad is not None
    assert (embeddings.grad * embeddings).sum().item() < 0
