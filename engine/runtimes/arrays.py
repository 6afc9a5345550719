"""Arrays in a card's memory, as every stage hands them to the next: a pointer, a shape, a dtype, and who keeps it alive.

It knows nothing of CUDA: it allocates nothing, copies nothing and waits for nothing. Whoever made an array on one stream and
reads it on another orders the two.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Protocol, runtime_checkable

import numpy as np


@runtime_checkable
class OnDevice(Protocol):
    """What DALI, CuPy, PyTorch and cuda-core arrays share (https://numba.readthedocs.io/en/stable/cuda/cuda_array_interface.html)."""

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]: ...


@dataclasses.dataclass(frozen=True)
class DeviceArray:
    """Numbers in a card's memory, C-contiguous.

    Example: ``DeviceArray.of(dali_tensor)``.
    """

    pointer: int
    """Address in the card's memory; 0 only where the array is empty."""
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    owner: object = dataclasses.field(repr=False, compare=False)
    """What keeps the memory alive: a cuda-core buffer, a DALI tensor, ..."""

    def __post_init__(self) -> None:
        if any(length < 0 for length in self.shape):
            raise ValueError(f"shape must have no negative length, but is {self.shape}")
        if self.size and not self.pointer:
            raise ValueError(f"pointer must not be 0, but is, for an array of shape {self.shape}")

    @property
    def size(self) -> int:
        """How many numbers there are."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        return self.size * self.dtype.itemsize

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        """Version 3; ``strides`` is None, which means C-contiguous."""
        return {
            "shape": self.shape,
            "typestr": self.dtype.str,
            "data": (self.pointer, False),
            "strides": None,
            "version": 3,
        }

    @classmethod
    def of(cls, array: OnDevice) -> DeviceArray:
        """A view of somebody else's array, which it keeps alive.

        Args:
            array: anything with ``__cuda_array_interface__``.

        Raises:
            TypeError: it has none.
            ValueError: it has gaps or another order than C's, or a mask.
        """
        if isinstance(array, DeviceArray):
            return array
        try:
            interface = array.__cuda_array_interface__
        except AttributeError:
            raise TypeError(f"{type(array).__name__} has no __cuda_array_interface__: it is not on a card") from None
        shape = tuple(int(length) for length in interface["shape"])
        dtype = np.dtype(interface["typestr"])
        if interface.get("mask") is not None:
            raise ValueError("a masked array cannot be used; fill the masked values first")
        strides = interface.get("strides")
        if strides is not None and not _is_packed(shape, strides, dtype.itemsize):
            raise ValueError(f"array must be C-contiguous, but has shape {shape} and strides {tuple(strides)} in bytes")
        return cls(int(interface["data"][0] or 0), shape, dtype, array)

    def reshape(self, *shape: int) -> DeviceArray:
        """The same numbers under another shape; one length may be -1.

        Raises:
            ValueError: the shapes hold different counts.
        """
        known = math.prod(length for length in shape if length >= 0)
        if shape.count(-1) == 1 and known:
            shape = tuple(self.size // known if length == -1 else length for length in shape)
        if -1 in shape or math.prod(shape) != self.size:
            raise ValueError(f"cannot reshape {self.shape} to {shape}")
        return DeviceArray(self.pointer, shape, self.dtype, self.owner)

    def rows(self, start: int, stop: int) -> DeviceArray:
        """``array[start:stop]``, without a copy.

        Raises:
            IndexError: the rows are not all there.
        """
        if not 0 <= start <= stop <= self.shape[0]:
            raise IndexError(f"rows {start} to {stop} of an array of shape {self.shape}")
        skip = start * math.prod(self.shape[1:]) * self.dtype.itemsize
        return DeviceArray(self.pointer + skip, (stop - start, *self.shape[1:]), self.dtype, self.owner)


def _is_packed(shape: tuple[int, ...], strides: Any, itemsize: int) -> bool:
    """Whether the elements lie one after another; lengths of 0 and 1 need no stride."""
    expected = itemsize
    for length, stride in zip(reversed(shape), reversed(tuple(strides)), strict=True):
        if length > 1 and stride != expected:
            return 0 in shape
        expected *= length
    return True
