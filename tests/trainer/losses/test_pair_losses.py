"""Adaptive Margin and contrastive against their formulas in float64 numpy, values and gradients."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from faceembed.trainer.losses import make_loss
from faceembed.trainer.losses.adaptive_margin import AdaptiveMargin

Array = NDArray[np.float64]
SAME = np.array([1, 0, 1, 0, 0, 1])
BOTH = pytest.mark.parametrize("name", ["adaptive-margin", "contrastive"])


def cosines_of(a: Array, b: Array) -> Array:
    return np.asarray((a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1))


def adaptive_margin(
    cosines: Array, y: NDArray[np.int64], *, m_b: float, alpha: float, s: float, distance: Array | None = None
) -> float:
    """As the formula stands; ``distance`` is 1 - cos in the margin where that is a number."""
    m_d = m_b + alpha * (1 - cosines if distance is None else distance)
    sigmoid = 1 / (1 + np.exp(-s * (cosines - m_d * y)))
    return float(-(y * np.log(sigmoid) + (1 - y) * np.log(1 - sigmoid)).mean())


def contrastive(cosines: Array, y: NDArray[np.int64], *, positive: float, negative: float, power: int) -> float:
    return float((np.maximum(np.where(y == 1, positive - cosines, cosines - negative), 0) ** power).mean())


def batch(seed: int) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    a = rng.normal(size=(6, 5))
    return a, 0.7 * a + rng.normal(size=(6, 5))


def tensors(*arrays: Array, dtype: torch.dtype = torch.float64) -> list[torch.Tensor]:
    return [torch.from_numpy(array).to(dtype).requires_grad_(True) for array in arrays]


@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-8), (torch.float32, 1e-5)])
@pytest.mark.parametrize("constants", [{"m_b": 0.2, "alpha": 0.1, "s": 16.0}, {"m_b": 0.35, "alpha": 1.5, "s": 4.0}])
@pytest.mark.parametrize("form", ["stable", "given"])
@pytest.mark.parametrize("detach", [False, True])
def test_adaptive_margin(
    constants: dict[str, float], form: str, detach: bool, dtype: torch.dtype, tolerance: float, slope: Any
) -> None:
    a, b = batch(0)
    loss = make_loss("adaptive-margin", {**constants, "form": form, "detach_margin": detach})
    first, second = tensors(a, b, dtype=dtype)
    value = loss(first, second, torch.from_numpy(SAME))
    value.backward()
    fixed = 1 - cosines_of(a, b) if detach else None
    formula = lambda a, b: adaptive_margin(cosines_of(a, b), SAME, **constants, distance=fixed)
    assert value.dtype == dtype
    assert value.item() == pytest.approx(formula(a, b), rel=10 * tolerance)
    assert first.grad is not None and second.grad is not None
    np.testing.assert_allclose(first.grad.numpy(), slope(lambda v: formula(v, b), a), atol=10 * tolerance)
    np.testing.assert_allclose(second.grad.numpy(), slope(lambda v: formula(a, v), b), atol=10 * tolerance)


@pytest.mark.parametrize(
    "cosine, same, logit",
    [
        (1.0, 1, 10 * (1 - 0.2)),
        (0.5, 1, 10 * (0.5 - 0.2 - 0.1 * 0.5)),
        (-1.0, 1, 10 * (-1 - 0.2 - 0.1 * 2)),
        (0.3 / 1.1, 1, 0.0),  # half way lies at (m_b + alpha) / (1 + alpha)
        (1.0, 0, 10.0),  # a negative knows no margin
        (0.0, 0, 0.0),
        (-1.0, 0, -10.0),
    ],
)
def test_logits_of_adaptive_margin(cosine: float, same: int, logit: float) -> None:
    loss = AdaptiveMargin(make_loss("adaptive-margin", {"m_b": 0.2, "alpha": 0.1, "s": 10}).settings)
    given_cosine, label = torch.tensor([cosine], dtype=torch.float64), torch.tensor([float(same)], dtype=torch.float64)
    assert loss.logits(given_cosine, label).item() == pytest.approx(logit, abs=1e-12)
    expected = math.log1p(math.exp(-logit if same else logit))
    assert loss.of_cosines(given_cosine, label).item() == pytest.approx(expected, rel=1e-12)


def test_what_the_stable_form_mends() -> None:
    """A stranger at cosine 1 with s = 64 costs 64 and has a slope; the form as given knows neither in float32."""
    for form, value, slope in (("stable", 64.0, 64.0), ("given", 100.0, 0.0)):  # torch cuts log at -100
        loss = make_loss("adaptive-margin", {"s": 64, "form": form})
        cosine = torch.ones(1, requires_grad=True)
        result = loss.of_cosines(cosine, torch.zeros(1))
        result.backward()
        assert result.item() == pytest.approx(value)
        assert cosine.grad is not None and cosine.grad.item() == pytest.approx(slope, abs=1e-6)


@pytest.mark.parametrize(
    "negatives, target, slopes",
    [
        ("given", 0.0, (-1, -1, -1)),
        ("floor", 0.0, (0, -1, -1)),
        ("floor", 0.2, (0, 0, -1)),
        ("target", 0.0, (1, -1, -1)),
        ("target", 0.2, (1, 1, -1)),
    ],
)
def test_where_negatives_come_to_rest(negatives: str, target: float, slopes: tuple[int, ...]) -> None:
    """Which way a negative at cosine -0.3, 0.1 and 0.5 is drawn (-1 down); positives are the same in all."""
    loss = make_loss("adaptive-margin", {"negatives": negatives, "negative_target": target})
    for cosine, way in zip((-0.3, 0.1, 0.5), slopes, strict=True):
        at = torch.tensor([cosine], requires_grad=True)
        loss.of_cosines(at, torch.zeros(1)).backward()
        assert at.grad is not None
        assert np.sign(-at.grad.item()) == way
        distance = {"given": cosine, "floor": max(cosine, target), "target": abs(cosine - target)}[negatives]
        value = loss.of_cosines(torch.tensor([cosine], dtype=torch.float64), torch.zeros(1, dtype=torch.float64))
        assert value.item() == pytest.approx(math.log1p(math.exp(16 * distance)), rel=1e-12)
    positive = torch.tensor([0.4])
    plain = make_loss("adaptive-margin").of_cosines(positive, torch.ones(1))
    assert torch.equal(loss.of_cosines(positive, torch.ones(1)), plain)


@pytest.mark.parametrize("negatives, low, high", [("given", -1.0, -0.8), ("floor", -0.2, 0.0), ("target", -0.15, 0.15)])
def test_a_lone_negative_pair_trained_to_its_end(negatives: str, low: float, high: float) -> None:
    """The optimum of a negative: opposed under the formula as given, at right angles with a floor or a target."""
    loss = make_loss("adaptive-margin", {"negatives": negatives, "s": 4})
    a, b = torch.tensor([[1.0, 0.2, 0.0]]), torch.tensor([[1.0, -0.2, 0.1]], requires_grad=True)
    optimiser = torch.optim.SGD([b], lr=0.05)
    for _ in range(250):
        optimiser.zero_grad()
        loss(a, b, torch.zeros(1)).backward()
        optimiser.step()
    assert low <= torch.cosine_similarity(a, b).item() <= high


@pytest.mark.parametrize("squared", [False, True])
@pytest.mark.parametrize("positive, negative", [(1.0, 0.0), (0.8, 0.3)])
def test_contrastive(positive: float, negative: float, squared: bool, slope: Any) -> None:
    a, b = batch(1)
    loss = make_loss("contrastive", {"positive": positive, "negative": negative, "squared": squared})
    first, second = tensors(a, b)
    value = loss(first, second, torch.from_numpy(SAME))
    value.backward()

    def formula(a: Array, b: Array) -> float:
        return contrastive(cosines_of(a, b), SAME, positive=positive, negative=negative, power=1 + squared)

    assert value.item() == pytest.approx(formula(a, b), rel=1e-9)
    assert first.grad is not None and second.grad is not None
    np.testing.assert_allclose(first.grad.numpy(), slope(lambda v: formula(v, b), a), atol=1e-7)
    np.testing.assert_allclose(second.grad.numpy(), slope(lambda v: formula(a, v), b), atol=1e-7)


def test_contrastive_has_the_terms_of_pytorch_metric_learning() -> None:
    from pytorch_metric_learning import distances, losses, reducers

    a, b = (torch.from_numpy(array) for array in batch(2))
    pairs = torch.arange(6)
    same = torch.from_numpy(SAME).bool()
    theirs = losses.ContrastiveLoss(1, 0, distance=distances.CosineSimilarity(), reducer=reducers.SumReducer())
    chosen = (pairs[same], pairs[same], pairs[~same], pairs[~same])
    ours = make_loss("contrastive", {"positive": 1.0, "negative": 0.0})(a, b, same)
    torch.testing.assert_close(6 * ours, theirs(a, None, chosen, b, None))


@BOTH
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_full_precision_under_autocast(name: str, dtype: torch.dtype) -> None:
    loss = make_loss(name)
    first, second = (t.detach().requires_grad_(True) for t in tensors(*batch(0), dtype=dtype))
    same = torch.from_numpy(SAME)
    plain = loss(first.detach().float(), second.detach().float(), same)
    with torch.autocast("cpu", dtype=dtype):
        value = loss(first, second, same)
    assert value.dtype == torch.float32
    assert torch.equal(value, plain)
    value.backward()
    assert first.grad is not None and first.grad.dtype == dtype


@BOTH
@pytest.mark.parametrize("same", [0, 1])
@pytest.mark.parametrize("a, b", [(1, 1), (1, -1), (0, 1), (0, 0), (1e30, 1e30), (1e30, -1e-30)])
def test_extremes_are_finite(name: str, same: int, a: float, b: float) -> None:
    direction = torch.tensor([[0.6, 0.0, 0.8]])
    first, second = (a * direction).requires_grad_(True), (b * direction).requires_grad_(True)
    for options in ({}, {"s": 1000, "negatives": "target"} if name == "adaptive-margin" else {"squared": True}):
        value = make_loss(name, options)(first, second, torch.tensor([same]))
        value.backward()
        assert torch.isfinite(value)
        assert first.grad is not None and second.grad is not None
        assert torch.isfinite(first.grad).all() and torch.isfinite(second.grad).all()


@BOTH
@given(seed=st.integers(0, 10**6), factor=st.floats(1e-3, 1e3))
@settings(max_examples=15, deadline=None)
def test_order_and_length_do_not_matter(name: str, seed: int, factor: float) -> None:
    a, b = (torch.from_numpy(array) for array in batch(seed))
    same, order = torch.from_numpy(SAME), torch.from_numpy(np.random.default_rng(seed).permutation(6))
    loss = make_loss(name)
    value = loss(a, b, same)
    torch.testing.assert_close(loss(a[order], b[order], same[order]), value)
    torch.testing.assert_close(loss(factor * b, a, same), value)  # nor which photo comes first


COSINES = st.tuples(st.floats(-1, 1), st.floats(-1, 1)).filter(lambda pair: abs(pair[0] - pair[1]) > 1e-3)


@BOTH
@given(cosines=COSINES)
@settings(max_examples=40, deadline=None)
def test_a_harder_pair_costs_more(name: str, cosines: tuple[float, float]) -> None:
    low, high = (torch.tensor([[c, math.sqrt(1 - c * c)]], dtype=torch.float64) for c in sorted(cosines))
    reference, loss = torch.tensor([[1.0, 0.0]], dtype=torch.float64), make_loss(name)
    assert loss(reference, low, torch.ones(1)) > loss(reference, high, torch.ones(1))
    cheap, dear = (loss(reference, vector, torch.zeros(1)) for vector in (low, high))
    assert dear > cheap or (name == "contrastive" and max(cosines) <= 0 and dear == cheap == 0)
