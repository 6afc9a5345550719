"""What the tests of the losses share: slopes by finite differences, and batches."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

Array = NDArray[np.float64]


@pytest.fixture
def slope() -> Callable[[Callable[[Array], float], Array], Array]:
    """The gradient of a function of an array by central differences."""

    def of(function: Callable[[Array], float], at: Array, step: float = 1e-6) -> Array:
        result = np.zeros_like(at)
        for place in np.ndindex(at.shape):
            there = at.copy()
            there[place] += step
            above = function(there)
            there[place] -= 2 * step
            result[place] = (above - function(there)) / (2 * step)
        return result

    return of
