"""`DeviceArray`: views of anything with ``__cuda_array_interface__``. No card is needed: no memory is touched."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from faceembed.engine.runtimes.arrays import DeviceArray


class Fake:
    """An array on a card that is not there."""

    def __init__(self, shape: tuple[int, ...], typestr: str = "|u1", **more: Any) -> None:
        self.__cuda_array_interface__ = {"shape": shape, "typestr": typestr, "data": (4096, False), "version": 3} | more


def test_it_is_a_view_that_keeps_the_owner() -> None:
    fake = Fake((2, 3, 4), "<f2")
    array = DeviceArray.of(fake)
    assert (array.pointer, array.shape, array.dtype, array.nbytes) == (4096, (2, 3, 4), np.dtype(np.float16), 48)
    assert array.owner is fake
    assert DeviceArray.of(array) is array
    assert DeviceArray.of(Fake((2, 3, 4), strides=(12, 4, 1))).shape == (2, 3, 4)


def test_what_it_tells_others_leads_back_to_it() -> None:
    array = DeviceArray(1 << 40, (5, 7), np.dtype(np.float32), None)
    told = Fake((1,))
    told.__cuda_array_interface__ = array.__cuda_array_interface__
    assert DeviceArray.of(told) == array


@pytest.mark.parametrize(
    ("strides", "shape", "packed"),
    [
        (None, (4, 5), True),
        ((5, 1), (4, 5), True),
        ((6, 1), (4, 5), False),
        ((1, 4), (4, 5), False),
        ((99, 1), (1, 5), True),
        ((77, 99), (0, 5), True),
        ((-5, 1), (4, 5), False),
    ],
)
def test_only_packed_arrays_pass(strides: tuple[int, ...] | None, shape: tuple[int, ...], packed: bool) -> None:
    fake = Fake(shape, strides=strides)
    if packed:
        assert DeviceArray.of(fake).shape == shape
    else:
        with pytest.raises(ValueError, match="C-contiguous"):
            DeviceArray.of(fake)


def test_rows_and_shapes_without_a_copy() -> None:
    array = DeviceArray(1 << 32, (10, 6), np.dtype(np.float32), None)
    assert array.rows(3, 5) == DeviceArray((1 << 32) + 3 * 6 * 4, (2, 6), np.dtype(np.float32), None)
    assert array.rows(10, 10).shape == (0, 6)
    assert array.reshape(5, -1).shape == (5, 12)
    assert array.reshape(60).pointer == array.pointer
    with pytest.raises(IndexError, match="rows 9 to 11"):
        array.rows(9, 11)
    for shape in [(7, -1), (59,), (-1, -1)]:
        with pytest.raises(ValueError, match="cannot reshape"):
            array.reshape(*shape)


def test_what_is_not_an_array_on_a_card_is_refused() -> None:
    with pytest.raises(TypeError, match="ndarray has no __cuda_array_interface__"):
        DeviceArray.of(np.zeros(3))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="masked"):
        DeviceArray.of(Fake((2,), mask=Fake((2,))))
    with pytest.raises(ValueError, match="must not be 0"):
        DeviceArray(0, (2,), np.dtype(np.uint8), None)
    assert DeviceArray(0, (0, 3), np.dtype(np.uint8), None).nbytes == 0
