"""Shapes that come often get a network of their own, beside the run and with the same bits; what was kept of it is found by the next run."""

from __future__ import annotations

import dataclasses
import gc
import hashlib
import threading
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from faceembed.engine.models.spec import Model
from faceembed.engine.runtimes import openvino, steady
from faceembed.engine.runtimes.base import RuntimeChoice
from faceembed.engine.runtimes.openvino import OpenVinoSession
from faceembed.engine.runtimes.steady import COMPILE_PIXELS, MOST, RECALL_PIXELS, Steady, Way
from tests.engine.runtimes import test_packing

SHAPE = (1, 1 << 10, 1 << 10, 3)
RECALL_AFTER, COMPILE_AFTER = RECALL_PIXELS >> 20, COMPILE_PIXELS >> 20  # runs of it


class Asking:
    """One who asks, always in the same ways."""

    def __init__(self, recall: Way[str], compile_for: Way[str]) -> None:
        self.shapes: Steady[str] = Steady()
        self.settled = self.shapes.settled
        self.ways = (recall, compile_for)

    def get(self, shape: tuple[int, ...]) -> str | None:
        return self.shapes.get(shape, *self.ways)


def counted(recalled: str | None = None) -> tuple[Asking, list[tuple[str, tuple[int, ...]]]]:
    asked: list[tuple[str, tuple[int, ...]]] = []

    def recall(shape: tuple[int, ...]) -> str | None:
        asked.append(("recall", shape))
        return recalled

    def compile_for(shape: tuple[int, ...]) -> str | None:
        asked.append(("compile", shape))
        return "compiled"

    return Asking(recall, compile_for), asked


def test_what_was_kept_is_asked_for_first_and_compiled_much_later() -> None:
    shapes, asked = counted()
    found = []
    for _ in range(COMPILE_AFTER + 1):
        found.append(shapes.get(SHAPE))
        shapes.settled()
    assert asked == [("recall", SHAPE), ("compile", SHAPE)]
    assert found == [None] * COMPILE_AFTER + ["compiled"]


def test_what_was_found_is_not_compiled() -> None:
    shapes, asked = counted("kept")
    for _ in range(COMPILE_AFTER + 1):
        shapes.get(SHAPE)
        shapes.settled()
    assert [way for way, _ in asked] == ["recall"] and shapes.get(SHAPE) == "kept"


def test_rare_shapes_and_too_many_are_left() -> None:
    shapes, asked = counted()
    for side in range(MOST + 3):
        for _ in range(RECALL_AFTER - (side == 0)):
            shapes.get((1, 1 << 10, 1 << 10, side))
    shapes.settled()
    assert [shape for _, shape in asked] == [(1, 1 << 10, 1 << 10, side) for side in range(1, MOST + 1)]


def test_nobody_waits_for_it() -> None:
    go = threading.Event()

    def slow(shape: tuple[int, ...]) -> str | None:
        assert go.wait(10)
        return "kept"

    shapes = Asking(slow, slow)
    assert [shapes.get(SHAPE) for _ in range(COMPILE_AFTER - 1)] == [None] * (
        COMPILE_AFTER - 1
    )  # it is still under way
    go.set()
    shapes.settled()
    assert shapes.get(SHAPE) == "kept"


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Model:
    monkeypatch.setenv("FACEEMBED_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(steady, "RECALL_PIXELS", 2)
    monkeypatch.setattr(steady, "COMPILE_PIXELS", 4 * 64 * 64 + 1)
    made = test_packing.network(tmp_path, kernel=3, stride=2, pads=(1, 1, 1, 1), sides=("h", "w"), task="aligner")
    digest = hashlib.sha256(Path(made.path).read_bytes()).hexdigest()
    return Model(dataclasses.replace(made.spec, sha256=digest), made.path)


def often(session: OpenVinoSession, given: np.ndarray[Any, Any], times: int = 4) -> list[np.ndarray[Any, Any]]:
    found = []
    for _ in range(times):
        found.append(session.run(given)[0])
        assert session._steady is not None
        session._steady.settled()
    return found


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_same_bits(model: Model, precision: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    if precision not in openvino.supported_precisions():
        pytest.skip(f"this processor does not compute in {precision}")
    choice = RuntimeChoice("openvino", "cpu", precision, "test")
    given = test_packing.pixels(4, 64)
    session = OpenVinoSession(model, choice, threads=1)
    first, *others = often(session, given)
    assert session._steady is not None and given.shape in session._steady._found
    for found in others:
        np.testing.assert_array_equal(found, first)

    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("compiled again")

    monkeypatch.setattr(openvino, "with_packed_input", refuse)
    again = OpenVinoSession(model, choice, threads=1)
    np.testing.assert_array_equal(often(again, given)[-1], first)
    assert again._steady is not None and given.shape in again._steady._found


def test_one_that_cannot_be_compiled_goes_on(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    session = OpenVinoSession(model, test_packing.CHOICE, threads=1)
    given = test_packing.pixels(4, 64)

    def fails(*_: Any) -> Any:
        raise RuntimeError("no kernel for this shape")

    monkeypatch.setattr(session, "_compiled", fails)
    first, *_, last = often(session, given, 6)
    np.testing.assert_array_equal(first, last)


def test_a_session_ends_with_its_owner(model: Model) -> None:
    session = OpenVinoSession(model, test_packing.CHOICE, threads=1)
    often(session, test_packing.pixels(4, 64))
    there = weakref.ref(session)
    gc.disable()
    try:
        del session
        assert there() is None  # at once: its memory is wanted for the index that is written then
    finally:
        gc.enable()


def test_large_networks_are_left(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino, "LARGEST_BYTES", 100)
    assert OpenVinoSession(model, test_packing.CHOICE, threads=1)._steady is None
