"""Distillation against its formulas in float64 numpy, values and gradients."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from faceembed.errors import DataError, UsageError
from faceembed.trainer.losses import make_loss

Array = NDArray[np.float64]
PARTS = ("embedding", "similarity", "distance", "angle")
NONE = dict.fromkeys(PARTS, 0.0)


def units(x: Array) -> Array:
    return np.asarray(x / np.linalg.norm(x, axis=1, keepdims=True))


def smooth_l1(difference: Array) -> Array:
    return np.where(np.abs(difference) < 1, difference**2 / 2, np.abs(difference) - 0.5)


def distances(u: Array) -> Array:
    values = np.array([np.linalg.norm(u[i] - u[j]) for i, j in itertools.permutations(range(len(u)), 2)])
    return np.asarray(values / values.mean())


def angles(u: Array) -> Array:
    def at(i: int, j: int, k: int) -> float:
        a, b = u[j] - u[i], u[k] - u[i]
        return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))

    return np.array([at(*three) for three in itertools.permutations(range(len(u)), 3)])


def formula(student: Array, teacher: Array, weights: dict[str, float]) -> float:
    s, t = units(student), units(teacher)
    total = 0.0
    if weights["embedding"]:
        total += weights["embedding"] * float((1 - (s * t).sum(1)).mean())
    apart = ~np.eye(len(s), dtype=bool)
    total += weights["similarity"] * float(((s @ s.T - t @ t.T)[apart] ** 2).mean())
    total += weights["distance"] * float(smooth_l1(distances(s) - distances(t)).mean())
    return total + weights["angle"] * float(smooth_l1(angles(s) - angles(t)).mean())


@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-7), (torch.float32, 1e-4)])
@pytest.mark.parametrize(
    "weights, dimension",
    [
        ({"embedding": 1.0}, 6),
        ({"similarity": 1.0}, 6),
        ({"similarity": 2.0}, 3),
        ({"distance": 1.0}, 9),
        ({"angle": 1.0}, 9),
        ({"embedding": 0.5, "similarity": 2.0, "distance": 25.0, "angle": 50.0}, 6),
    ],
)
def test_value_and_gradient(
    weights: dict[str, float], dimension: int, dtype: torch.dtype, tolerance: float, slope: Any
) -> None:
    rng = np.random.default_rng(0)
    x, teacher = rng.normal(size=(5, 6)), rng.normal(size=(5, dimension))
    weights = NONE | weights
    student = torch.from_numpy(x).to(dtype).requires_grad_(True)
    value = make_loss("distillation", weights)(student, torch.from_numpy(teacher).to(dtype))
    value.backward()
    assert value.dtype == dtype
    assert value.item() == pytest.approx(formula(x, teacher, weights), rel=tolerance)
    assert student.grad is not None
    expected = slope(lambda v: formula(v, teacher, weights), x)
    np.testing.assert_allclose(student.grad.numpy(), expected, rtol=1e3 * tolerance, atol=30 * tolerance)


def test_nothing_flows_to_the_teacher() -> None:
    student, teacher = (torch.randn(4, 3, requires_grad=True) for _ in range(2))
    make_loss("distillation", dict.fromkeys(PARTS, 1))(student, teacher).backward()
    assert student.grad is not None and teacher.grad is None


@pytest.mark.parametrize("part", PARTS)
def test_the_teacher_itself_costs_nothing(part: str) -> None:
    x = torch.randn(6, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    loss = make_loss("distillation", NONE | {part: 1})
    assert loss(x, 3 * x).item() == pytest.approx(0, abs=1e-12)  # lengths do not matter
    assert loss(x, x.flip(0)).item() > 1e-4
    if part != "embedding":  # a relation does not change when all is turned together, and padded
        turned = torch.linalg.qr(torch.randn(7, 7, generator=torch.Generator().manual_seed(2), dtype=torch.float64)).Q
        assert loss(x, torch.nn.functional.pad(x, (0, 3)) @ turned).item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("photos", [1, 2])
def test_small_batches(part: str, photos: int) -> None:
    student = torch.randn(photos, 4, generator=torch.Generator().manual_seed(0)).requires_grad_(True)
    teacher = torch.randn(photos, 4, generator=torch.Generator().manual_seed(1))
    value = make_loss("distillation", NONE | {part: 1})(student, teacher)
    value.backward()
    assert student.grad is not None and torch.isfinite(student.grad).all()
    needed = {"embedding": 1, "similarity": 2, "distance": 3, "angle": 3}  # one distance, divided by its mean, is 1
    assert (value.item() > 0) == (photos >= needed[part])


@pytest.mark.parametrize("scale", [0.0, 1.0, 1e30, 1e-30])
def test_extremes_are_finite(scale: float) -> None:
    direction = torch.tensor([0.6, 0.0, 0.8])
    student = (scale * torch.stack([direction, direction, -direction, direction])).requires_grad_(True)
    value = make_loss("distillation", dict.fromkeys(PARTS, 1))(student, -student.detach().roll(1, 0))
    value.backward()
    assert torch.isfinite(value)
    assert student.grad is not None and torch.isfinite(student.grad).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_full_precision_under_autocast(dtype: torch.dtype) -> None:
    loss = make_loss("distillation", dict.fromkeys(PARTS, 1))
    student = torch.randn(4, 3, generator=torch.Generator().manual_seed(0)).to(dtype).requires_grad_(True)
    teacher = torch.randn(4, 3, generator=torch.Generator().manual_seed(1)).to(dtype)
    plain = loss(student.detach().float(), teacher.float())
    with torch.autocast("cpu", dtype=dtype):
        value = loss(student, teacher)
    assert value.dtype == torch.float32
    assert torch.equal(value, plain)
    value.backward()
    assert student.grad is not None and student.grad.dtype == dtype


@given(seed=st.integers(0, 10**6))
@settings(max_examples=15, deadline=None)
def test_the_order_of_a_batch_does_not_matter(seed: int) -> None:
    rng = np.random.default_rng(seed)
    student, teacher = (torch.from_numpy(rng.normal(size=(6, 4))) for _ in range(2))
    order = torch.from_numpy(rng.permutation(6))
    loss = make_loss("distillation", dict.fromkeys(PARTS, 1))
    torch.testing.assert_close(loss(student[order], teacher[order]), loss(student, teacher))


@pytest.mark.parametrize(
    "student, teacher, error, message",
    [
        (torch.ones(2, 3), torch.ones(3, 3), DataError, "^2 embeddings of the student and 3 of the teacher"),
        (torch.ones(2, 3), torch.ones(0, 3), DataError, r"^the teacher's embeddings of shape \(0, 3\)"),
        (
            torch.ones(2, 3),
            torch.ones(2, 4),
            UsageError,
            "the student has 3 dimensions, the teacher 4; set embedding = 0",
        ),
    ],
)
def test_mistakes_are_one_line(student: Any, teacher: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        make_loss("distillation")(student, teacher)
    assert "\n" not in str(caught.value)
