"""What all losses share: full precision under autocast, unit vectors that never blow up, and the checks of labels.

A loss is a few thousand numbers, the network before it is millions: computing it in float32 costs nothing and saves what
half precision loses. A cosine of 0.999 has a neighbour 0.0005 away in float16 and 0.004 away in bfloat16, and a logit of 64
has lost its fraction altogether. So every loss leaves autocast and raises half precision inputs to float32; float64 stays.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import numbers

import torch
from torch import Tensor, nn

from faceembed.errors import DataError, UsageError

_HALF = (torch.float16, torch.bfloat16)


def full(values: Tensor) -> Tensor:
    """Half precision as float32, with the gradient flowing back; float32 and float64 as they are."""
    return values.float() if values.dtype in _HALF else values


def no_autocast(values: Tensor) -> contextlib.AbstractContextManager[object]:
    """A context in which autocast is off on the device of ``values``."""
    return torch.autocast(values.device.type, enabled=False)


def unit(vectors: Tensor) -> Tensor:
    """The direction of each row: (N, D) of unit length.

    A row of zeros stays zeros and has no gradient: its cosine with anything is 0. Rows are divided by their largest entry
    first, so that a length beyond float32's square root of range is no infinity; the result does not depend on that divisor,
    and neither does its derivative.
    """
    largest = vectors.detach().abs().amax(-1, keepdim=True)
    there = largest > 0
    scaled = vectors / torch.where(there, largest, torch.ones_like(largest))
    length = torch.linalg.vector_norm(torch.where(there, scaled, torch.ones_like(scaled)), dim=-1, keepdim=True)
    return torch.where(there, scaled / length, torch.zeros_like(scaled))


def length(vectors: Tensor) -> Tensor:
    """The Euclidean length of each row, (N,); 0 with no gradient for a row of zeros."""
    largest = vectors.detach().abs().amax(-1)
    there = largest > 0
    divisor = torch.where(there, largest, torch.ones_like(largest))
    scaled = torch.where(there[:, None], vectors / divisor[:, None], torch.ones_like(vectors))
    return torch.where(there, torch.linalg.vector_norm(scaled, dim=-1) * divisor, torch.zeros_like(largest))


def cosine(a: Tensor, b: Tensor) -> Tensor:
    """Cosine of each row of ``a`` (N, D) with the same row of ``b``: (N,)."""
    return (unit(a) * unit(b)).sum(-1)


def check_embeddings(embeddings: Tensor, *, what: str = "embeddings") -> None:
    """See that there are N >= 1 rows.

    Raises:
        DataError: another shape, an empty batch, or whole numbers.
    """
    if embeddings.ndim != 2 or 0 in embeddings.shape:
        raise DataError(f"{what} of shape {tuple(embeddings.shape)}; expected (N, D) with N and D at least 1")
    if not embeddings.is_floating_point():
        raise DataError(f"{what} of type {embeddings.dtype}; expected floating point numbers")


def check_labels(embeddings: Tensor, labels: Tensor, *, classes: int | None = None) -> Tensor:
    """The labels as int64 (N,) on the device of the embeddings.

    Raises:
        DataError: not one whole number a row, or one outside 0 .. ``classes`` - 1.
    """
    check_embeddings(embeddings)
    if labels.shape != embeddings.shape[:1]:
        raise DataError(f"labels of shape {tuple(labels.shape)} for {len(embeddings)} embeddings; expected one a row")
    if labels.is_floating_point() or labels.is_complex():
        raise DataError(f"labels of type {labels.dtype}; expected whole numbers")
    labels = labels.to(embeddings.device, torch.int64)
    if classes is not None:
        low, high = (int(bound) for bound in torch.aminmax(labels))
        if low < 0 or high >= classes:
            wrong = low if low < 0 else high
            raise DataError(f"label {wrong} is out of range: the head knows {classes} people, 0 to {classes - 1}")
    return labels


def check_same(a: Tensor, b: Tensor, same: Tensor) -> Tensor:
    """The labels of pairs as floats 0 and 1, (N,), of the type and on the device of ``a``.

    Raises:
        DataError: shapes that do not fit, or a label that is neither 0 nor 1.
    """
    check_embeddings(a)
    if a.shape != b.shape:
        raise DataError(f"pairs of embeddings of shapes {tuple(a.shape)} and {tuple(b.shape)}; expected two alike")
    if same.shape != a.shape[:1]:
        raise DataError(f"labels of shape {tuple(same.shape)} for {len(a)} pairs; expected one a pair")
    wrong = same[(same != 0) & (same != 1)]
    if len(wrong):
        raise DataError(f"pair label {wrong[0].item():g} is neither 0 (different) nor 1 (the same person)")
    return same.to(a.device, a.dtype)


@dataclasses.dataclass(frozen=True)
class LossSettings:
    """Base of the settings of a loss: checks that each value has the type that its field states."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value, default = getattr(self, field.name), field.default
            wanted = type(default)
            if wanted is float:
                fits = isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)
            else:
                fits = type(value) is wanted
            if not fits:
                raise UsageError(f"{self.label}: {field.name} = {value!r}; expected {_KINDS[wanted]}")
        self.check()

    @property
    def label(self) -> str:
        """How messages name the loss."""
        return type(self).__name__.removesuffix("Settings")

    def check(self) -> None:
        """Refuse values that make no sense; for subclasses.

        Raises:
            UsageError: naming the field and what it may be.
        """

    def _need(self, condition: bool, name: str, expected: str) -> None:
        if not condition:
            raise UsageError(f"{self.label}: {name} = {getattr(self, name)!r}; expected {expected}")


_KINDS: dict[type, str] = {float: "a number", int: "a whole number", bool: "true or false", str: "a word"}


class ClassHead(nn.Module):
    """Base of the losses that own one weight vector a person.

    Args:
        dimension: of the embeddings.
        classes: people.
    """

    def __init__(self, dimension: int, classes: int) -> None:
        super().__init__()
        if dimension < 1 or classes < 2:
            raise UsageError(f"a class head of dimension {dimension} for {classes} people; it needs at least 1 and 2")
        self.dimension = dimension
        self.classes = classes

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """The loss of a batch, a scalar in float32 (float64 for float64).

        Args:
            embeddings: (N, D) raw, not normalised.
            labels: (N,) int64, the number of the person.

        Raises:
            DataError: another dimension, or a label out of range.
        """
        labels = check_labels(embeddings, labels, classes=self.classes)
        if embeddings.shape[1] != self.dimension:
            raise DataError(f"embeddings of dimension {embeddings.shape[1]}; the head was made for {self.dimension}")
        with no_autocast(embeddings):
            return self.loss(full(embeddings), labels)

    def loss(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """The loss of a checked batch in full precision."""
        raise NotImplementedError


def unit_columns(weight: Tensor) -> Tensor:
    """Fill with random directions: a weight of (D, C) whose columns have unit length."""
    with torch.no_grad():
        weight.normal_()
        weight /= torch.linalg.vector_norm(weight, dim=0, keepdim=True)
    return weight
