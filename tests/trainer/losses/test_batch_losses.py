"""Triplet, circle, centre and mining against their formulas in float64 numpy, values and gradients."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from faceembed.errors import UsageError
from faceembed.trainer.losses import make_loss
from faceembed.trainer.losses.mining import mine_pairs, mine_triplets

Array = NDArray[np.float64]
LABELS = np.array([3, 3, 3, 8, 8, 5, 6])  # 5 and 6: nobody else is like them, as a deepfake
BATCHES = pytest.mark.parametrize("name", ["triplet", "circle", "centre"])


def batch(seed: int) -> Array:
    rng = np.random.default_rng(seed)
    return np.asarray(rng.normal(size=(9, 4))[LABELS] + 0.8 * rng.normal(size=(7, 4)))


def units(x: Array) -> Array:
    return np.asarray(x / np.linalg.norm(x, axis=1, keepdims=True))


def cosines(x: Array) -> Array:
    return np.asarray(units(x) @ units(x).T)


def all_triplets(labels: NDArray[np.int64]) -> list[tuple[int, int, int]]:
    places = range(len(labels))
    return [
        (a, p, n)
        for a, p, n in itertools.product(places, places, places)
        if a != p and labels[a] == labels[p] != labels[n]
    ]


def chosen_triplets(x: Array, which: str, margin: float = 0.2) -> set[tuple[int, int, int]]:
    s, every = cosines(x), all_triplets(LABELS)
    gap = {(a, p, n): s[a, p] - s[a, n] for a, p, n in every}
    if which == "batch-hard":
        best = {a: min(every, key=lambda t: gap[t] if t[0] == a else np.inf) for a in {a for a, _, _ in every}}
        return set(best.values())
    keep: dict[str, Callable[[float], bool]] = {
        "all": lambda g: True,
        "violating": lambda g: g <= margin,
        "hard": lambda g: g <= 0,
        "semihard": lambda g: 0 < g <= margin,
    }
    return {t for t in every if keep[which](gap[t])}


def triplet(x: Array, chosen: set[tuple[int, int, int]], *, margin: float, only_violating: bool) -> float:
    s = cosines(x)
    terms = np.array([max(s[a, n] - s[a, p] + margin, 0) for a, p, n in sorted(chosen)])
    counted = terms[terms > 0] if only_violating else terms
    return float(counted.mean()) if len(counted) else 0.0


def circle(x: Array, *, m: float, gamma: float, weights: Array) -> float:
    """``weights`` holds the cosines of which a_p and a_n are made: numbers."""
    s, losses = cosines(x), []
    for i in range(len(x)):
        positives = [j for j in range(len(x)) if j != i and LABELS[j] == LABELS[i]]
        negatives = [j for j in range(len(x)) if LABELS[j] != LABELS[i]]
        if positives and negatives:
            p = sum(np.exp(-gamma * max(1 + m - weights[i, j], 0) * (s[i, j] - 1 + m)) for j in positives)
            n = sum(np.exp(gamma * max(weights[i, j] + m, 0) * (s[i, j] - m)) for j in negatives)
            losses.append(np.log1p(p * n))
    return float(np.mean(losses))


def centre(x: Array, *, centres: Array | None = None) -> float:
    u = units(x)
    of = (lambda label: u[label == LABELS].mean(0)) if centres is None else (lambda label: centres[label])
    kept = [i for i in range(len(x)) if (LABELS[i] == LABELS).sum() > 1]
    return float(np.mean([((u[i] - of(LABELS[i])) ** 2).sum() / 2 for i in kept]))


def check(name: str, options: dict[str, Any], x: Array, formula: Callable[[Array], float], slope: Any) -> None:
    embeddings = torch.from_numpy(x).requires_grad_(True)
    value = make_loss(name, options)(embeddings, torch.from_numpy(LABELS))
    value.backward()
    assert value.item() == pytest.approx(formula(x), rel=1e-8)
    assert embeddings.grad is not None
    np.testing.assert_allclose(embeddings.grad.numpy(), slope(formula, x), rtol=1e-5, atol=1e-6)
    single = make_loss(name, options)(torch.from_numpy(x).float(), torch.from_numpy(LABELS))
    assert single.dtype == torch.float32
    assert single.item() == pytest.approx(value.item(), rel=1e-4)


@pytest.mark.parametrize("only_violating", [True, False])
@pytest.mark.parametrize("mining", ["all", "violating", "hard", "semihard", "batch-hard"])
def test_triplet(mining: str, only_violating: bool, slope: Any) -> None:
    x = batch(0)
    chosen = chosen_triplets(x, mining, margin=0.3)
    assert chosen
    options = {"margin": 0.3, "mining": mining, "only_violating": only_violating}
    check("triplet", options, x, lambda v: triplet(v, chosen, margin=0.3, only_violating=only_violating), slope)


@pytest.mark.parametrize("m, gamma", [(0.25, 256.0), (0.4, 8.0)])
def test_circle(m: float, gamma: float, slope: Any) -> None:
    x = batch(1)
    weights = cosines(x)
    check("circle", {"m": m, "gamma": gamma}, x, lambda v: circle(v, m=m, gamma=gamma, weights=weights), slope)


@pytest.mark.parametrize("detached", [False, True])
def test_centre(detached: bool, slope: Any) -> None:
    x = batch(2)
    centres = np.stack([units(x)[label == LABELS].mean(0) if label in LABELS else np.zeros(4) for label in range(9)])
    fixed = centres if detached else None
    check("centre", {"detach_centres": detached}, x, lambda v: centre(v, centres=fixed), slope)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("which", ["all", "violating", "hard", "semihard", "batch-hard"])
def test_mined_triplets(which: str, seed: int) -> None:
    x = batch(seed)
    mined = mine_triplets(torch.from_numpy(x), torch.from_numpy(LABELS), which)
    found = list(zip(*(part.tolist() for part in mined), strict=True))
    assert len(found) == len(set(found))
    assert set(found) == chosen_triplets(x, which)


@pytest.mark.parametrize("positives", ["all", "hard"])
@pytest.mark.parametrize("negatives", ["all", "hard", "semihard"])
def test_mined_pairs(positives: str, negatives: str) -> None:
    x, labels = batch(4), torch.from_numpy(LABELS)
    if (positives, negatives) == ("all", "semihard"):
        with pytest.raises(UsageError, match="choose positives hard"):
            mine_pairs(torch.from_numpy(x), labels, positives=positives, negatives=negatives)
        return
    first, second, same = mine_pairs(torch.from_numpy(x), labels, positives=positives, negatives=negatives)
    assert same.tolist() == (labels[first] == labels[second]).float().tolist()
    assert not (first == second).any()
    s = cosines(x)
    for a, b in zip(first[same == 1].tolist(), second[same == 1].tolist(), strict=True):
        mates = [j for j in range(7) if j != a and LABELS[j] == LABELS[a]]
        assert positives == "all" or s[a, b] == min(s[a, j] for j in mates)
    for a, b in zip(first[same == 0].tolist(), second[same == 0].tolist(), strict=True):
        others = [s[a, j] for j in range(7) if LABELS[j] != LABELS[a]]
        if negatives == "hard":
            assert s[a, b] == max(others)
        elif negatives == "semihard":
            mate = min(s[a, j] for j in range(7) if j != a and LABELS[j] == LABELS[a])
            assert s[a, b] == max(cosine for cosine in others if cosine < mate)
    if (positives, negatives) == ("all", "all"):
        assert len(same) == 7 * 6


@pytest.mark.parametrize(
    "call", [lambda x, y: mine_triplets(x, y, "easy"), lambda x, y: mine_pairs(x, y, negatives="x")]
)
def test_unknown_mining(call: Any) -> None:
    with pytest.raises(UsageError, match=r"'(easy|x)'.*expected") as caught:
        call(torch.ones(2, 3), torch.tensor([0, 1]))
    assert "\n" not in str(caught.value)


@BATCHES
@pytest.mark.parametrize(
    "labels", [[0], [0, 0, 0], [0, 1, 2]], ids=["a batch of one", "one person only", "nobody twice"]
)
def test_batches_with_little_to_learn(name: str, labels: list[int]) -> None:
    embeddings = torch.randn(len(labels), 4, generator=torch.Generator().manual_seed(0)).requires_grad_(True)
    value = make_loss(name)(embeddings, torch.tensor(labels))
    value.backward()
    assert embeddings.grad is not None and torch.isfinite(embeddings.grad).all()
    if name == "centre" and labels == [0, 0, 0]:
        assert value > 0
    else:
        assert value == 0
        assert not embeddings.grad.any()


@BATCHES
@pytest.mark.parametrize("scale", [0.0, 1.0, 1e30, 1e-30])
@pytest.mark.parametrize("labels", [[0, 0, 1, 1], [0, 1, 0, 1]])
def test_extremes_are_finite(name: str, labels: list[int], scale: float) -> None:
    """Cosines of 1 and -1, for positives and for negatives."""
    direction = torch.tensor([0.6, 0.0, 0.8])
    embeddings = (scale * torch.stack([direction, direction, -direction, -direction])).requires_grad_(True)
    value = make_loss(name)(embeddings, torch.tensor(labels))
    value.backward()
    assert torch.isfinite(value)
    assert embeddings.grad is not None and torch.isfinite(embeddings.grad).all()


@BATCHES
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_full_precision_under_autocast(name: str, dtype: torch.dtype) -> None:
    embeddings = torch.from_numpy(batch(0)).to(dtype).requires_grad_(True)
    plain = make_loss(name)(embeddings.detach().float(), torch.from_numpy(LABELS))
    with torch.autocast("cpu", dtype=dtype):
        value = make_loss(name)(embeddings, torch.from_numpy(LABELS))
    assert value.dtype == torch.float32
    assert torch.equal(value, plain)
    value.backward()
    assert embeddings.grad is not None and embeddings.grad.dtype == dtype


@BATCHES
@given(seed=st.integers(0, 10**6), factor=st.floats(1e-3, 1e3))
@settings(max_examples=15, deadline=None)
def test_order_names_and_length_do_not_matter(name: str, seed: int, factor: float) -> None:
    embeddings, labels = torch.from_numpy(batch(seed)), torch.from_numpy(LABELS)
    order = torch.from_numpy(np.random.default_rng(seed).permutation(7))
    value = make_loss(name)(embeddings, labels)
    torch.testing.assert_close(make_loss(name)(factor * embeddings[order], 100 - labels[order]), value)


@BATCHES
@given(angles=st.tuples(st.floats(0.2, 1.4), st.floats(0.2, 1.4)).filter(lambda pair: abs(pair[0] - pair[1]) > 0.02))
@settings(max_examples=25, deadline=None)
def test_a_harder_positive_costs_more(name: str, angles: tuple[float, float]) -> None:
    """The person's second photo turned away from the first, at right angles to the other person."""
    options = {"mining": "all", "margin": 1.5} if name == "triplet" else {"gamma": 8} if name == "circle" else {}
    loss = make_loss(name, options)
    values = []
    for angle in sorted(angles):
        x = torch.tensor([[1, 0, 0], [np.cos(angle), np.sin(angle), 0], [0, 0, 1]], dtype=torch.float64)
        values.append(loss(x, torch.tensor([0, 0, 1])).item())
    assert values[0] < values[1]
