"""Unit vectors, lengths and the checks of labels."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch

from faceembed.errors import DataError, UsageError
from faceembed.trainer.losses import LOSSES, make_loss
from faceembed.trainer.losses.base import full, length, unit

CLASSES = [name for name, entry in LOSSES.items() if entry.kind == "class"]
PAIRS = [name for name, entry in LOSSES.items() if entry.kind == "pair"]
BATCHES = [name for name, entry in LOSSES.items() if entry.kind == "batch"]


@pytest.mark.parametrize("factor", [1e-38, 1e-20, 1.0, 1e20, 3e37])
def test_unit_and_length_at_any_scale(factor: float) -> None:
    rows = np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32)
    scaled = torch.from_numpy(rows * np.float32(factor)).requires_grad_(True)
    exact = scaled.detach().double()
    norms = exact.norm(dim=1)
    torch.testing.assert_close(unit(scaled).double(), exact / norms[:, None], rtol=0, atol=3e-7)
    torch.testing.assert_close(length(scaled).double(), norms, rtol=1e-6, atol=0)
    (gradient,) = torch.autograd.grad(length(scaled).sum(), scaled)  # of the length: the direction
    torch.testing.assert_close(gradient.double(), exact / norms[:, None], rtol=0, atol=1e-6)


def test_gradient_of_unit() -> None:
    rows = torch.randn(3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_(True)
    assert torch.autograd.gradcheck(unit, (rows,))
    assert torch.autograd.gradcheck(length, (rows,))


def test_a_zero_vector_has_no_direction_and_no_gradient() -> None:
    rows = torch.tensor([[0.0, 0.0], [3.0, 4.0]], requires_grad=True)
    assert unit(rows).tolist() == [[0.0, 0.0], pytest.approx([0.6, 0.8])]
    assert length(rows).tolist() == [0.0, 5.0]
    (unit(rows).sum() + length(rows).sum()).backward()
    assert rows.grad is not None
    assert rows.grad[0].tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    "given, kept",
    [
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64,) * 2,
    ],
)
def test_full_precision(given: torch.dtype, kept: torch.dtype) -> None:
    assert full(torch.zeros(1, dtype=given)).dtype == kept


@pytest.mark.parametrize("name", CLASSES + BATCHES)
@pytest.mark.parametrize(
    "embeddings, labels, message",
    [
        (
            torch.zeros(2, 4),
            torch.zeros(3, dtype=torch.int64),
            "labels of shape (3,) for 2 embeddings; expected one a row",
        ),
        (torch.zeros(2, 4), torch.zeros(2), "labels of type torch.float32; expected whole numbers"),
        (torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), "embeddings of shape (0, 4); expected (N, D)"),
        (torch.zeros(4), torch.zeros(4, dtype=torch.int64), "embeddings of shape (4,); expected (N, D)"),
        (torch.zeros(1, 4, dtype=torch.int64), torch.zeros(1, dtype=torch.int64), "embeddings of type torch.int64"),
    ],
)
def test_batches_that_do_not_fit(name: str, embeddings: Any, labels: Any, message: str) -> None:
    loss = make_loss(name, dimension=4, classes=3)
    with pytest.raises(DataError, match=re.escape(message)) as caught:
        loss(embeddings, labels)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize("label", [-1, 3, 1000])
def test_labels_out_of_range(name: str, label: int) -> None:
    loss = make_loss(name, dimension=4, classes=3)
    with pytest.raises(DataError, match=f"^label {label} is out of range: the head knows 3 people, 0 to 2$"):
        loss(torch.ones(2, 4), torch.tensor([0, label]))


@pytest.mark.parametrize("name", CLASSES)
def test_embeddings_of_another_dimension(name: str) -> None:
    with pytest.raises(DataError, match="embeddings of dimension 5; the head was made for 4"):
        make_loss(name, dimension=4, classes=3)(torch.ones(2, 5), torch.tensor([0, 1]))


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize("dimension, classes", [(4, 1), (0, 3)])
def test_heads_that_cannot_be(name: str, dimension: int, classes: int) -> None:
    with pytest.raises(UsageError, match=f"a class head of dimension {dimension} for {classes} people"):
        make_loss(name, dimension=dimension, classes=classes)


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize(
    "a, b, same, message",
    [
        (torch.ones(2, 3), torch.ones(2, 4), torch.ones(2), "pairs of embeddings of shapes (2, 3) and (2, 4)"),
        (torch.ones(2, 3), torch.ones(2, 3), torch.ones(3), "labels of shape (3,) for 2 pairs; expected one a pair"),
        (torch.ones(2, 3), torch.ones(2, 3), torch.tensor([1, 2]), "pair label 2 is neither 0 (different) nor 1"),
        (torch.ones(2, 3), torch.ones(2, 3), torch.tensor([0.5, 1]), "pair label 0.5 is neither 0 (different) nor 1"),
        (torch.ones(2, 3), torch.ones(2, 3), torch.tensor([1, float("nan")]), "pair label nan is neither"),
    ],
)
def test_pairs_that_do_not_fit(name: str, a: Any, b: Any, same: Any, message: str) -> None:
    with pytest.raises(DataError, match=re.escape(message)):
        make_loss(name)(a, b, same)


@pytest.mark.parametrize("same", [torch.tensor([True, False]), torch.tensor([1, 0]), torch.tensor([1.0, 0.0])])
@pytest.mark.parametrize("name", PAIRS)
def test_labels_of_pairs_may_be_of_any_type(name: str, same: Any) -> None:
    a, b = torch.eye(2), torch.tensor([[1.0, 0.5], [0.5, 1.0]])
    assert make_loss(name)(a, b, same) == make_loss(name)(a, b, same.double())
