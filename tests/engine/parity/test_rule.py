"""The precision gate's rule: what it lets through, what it stops, and what it does not look at."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from faceembed.engine.models import builtin
from faceembed.engine.models.spec import ARCFACE_TEMPLATE, Model, ModelSpec
from faceembed.engine.models.strangers import describe, read_templates, write_templates
from faceembed.engine.parity.drawn import drawn_chips
from faceembed.engine.parity.gate import embed_with
from faceembed.engine.parity.rule import ENOUGH, Change, Gate, passed, refusal
from faceembed.engine.runtimes.base import RuntimeChoice
from faceembed.engine.runtimes.sessions import open_session
from faceembed.errors import DataError, ModelError

EXACT = RuntimeChoice("onnxruntime", "cpu", "fp32", "test")
NO_CHIPS = np.zeros((0, 112, 112, 3), np.uint8)
SPEC = ModelSpec("made", "encoder", (112, 112), dimension=32, template=ARCFACE_TEMPLATE, spread=0.1)


def to_bfloat16(values: np.ndarray) -> np.ndarray:
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000).view(np.float32)


def to_bits(values: np.ndarray, bits: int) -> np.ndarray:
    step = np.abs(values).max() / (2 ** (bits - 1) - 1)
    return np.asarray(np.rint(values / step) * step, np.float32)


def altered(model: Model, path: Path, change: Callable[[np.ndarray], np.ndarray], *, last_only: bool) -> Model:
    """The same graph with other weights: of all layers, or of the one that gives the 128 numbers of who somebody is."""
    proto = onnx.load(model.path)
    matrices = [tensor for tensor in proto.graph.initializer if len(tensor.dims) >= 2]
    chosen = [tensor for tensor in matrices if sorted(tensor.dims) == [128, 256]] if last_only else matrices
    assert len(chosen) == 1 or not last_only
    for tensor in chosen:
        values = numpy_helper.to_array(tensor)
        tensor.CopyFrom(numpy_helper.from_array(change(values.astype(np.float32)).astype(values.dtype), tensor.name))
    path.write_bytes(proto.SerializeToString())
    return dataclasses.replace(model, path=str(path))


@pytest.fixture(scope="module")
def shipped() -> tuple[Model, Gate]:
    """The shipped encoder without a photo at hand: its templates and drawn faces."""
    model = builtin.find("faceembed-r29")
    assert model is not None
    return model, Gate(model.spec, NO_CHIPS, embed_with(open_session(model, EXACT, threads=1)))


@pytest.mark.parametrize(
    ("what", "allowed"), [("all to bfloat16", True), ("last to 6 bits", False), ("the embedding to bfloat16", True)]
)
def test_the_shipped_encoder(shipped: tuple[Model, Gate], tmp_path: Path, what: str, allowed: bool) -> None:
    """Rounded as BF16 rounds it passes; with its last layer in 6 bits it does not."""
    model, gate = shipped
    if what == "the embedding to bfloat16":
        exact = embed_with(open_session(model, EXACT, threads=1))
        found = gate.measure(lambda chips: to_bfloat16(exact(chips)))
    else:
        last = what == "last to 6 bits"
        rounding = (lambda values: to_bits(values, 6)) if last else to_bfloat16
        other = altered(model, tmp_path / "a.onnx", rounding, last_only=last)
        found = gate.measure(embed_with(open_session(other, EXACT, threads=1)))
    assert (found.faces, found.drawn, found.templates, found.spread) == (16, 16, 64, 0.03828)
    assert found.passes("bf16") is found.passes("int8") is found.passes("fp16") is allowed
    assert 0 < found.rms < found.largest
    if not allowed:
        assert found.rms > 1.5 * 0.03
        assert refusal(found, "bf16").endswith("16 drawn faces against 64 templates; allowed are 3 % and 25 %")


# --- made embeddings ------------------------------------------------------------------------------------------------


def embed(rows: np.ndarray, drawn: float = 1.0) -> Callable[[np.ndarray], np.ndarray]:
    """Gives the faces 0, 1, 2, ... (a chip's first pixel says which) these rows, and drawn ones directions of their own."""

    def by_first_pixel(chips: np.ndarray) -> np.ndarray:
        if len(chips) == 16 or len(rows) == 0:
            return np.asarray(drawn * np.random.default_rng(7).normal(size=(len(chips), 32)), np.float32)
        own = rows[chips[: len(rows), 0, 0, 0]]
        return np.concatenate([own, np.random.default_rng(7).normal(size=(len(chips) - len(own), 32))]).astype(
            np.float32
        )

    return by_first_pixel


def numbered(count: int) -> np.ndarray:
    return np.broadcast_to(np.arange(count, dtype=np.uint8)[:, None, None, None], (count, 112, 112, 3)).copy()


def some(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 32)).astype(np.float32)


def measured(exact: np.ndarray, fast: np.ndarray, spec: ModelSpec = SPEC) -> Change:
    return Gate(spec, numbered(len(exact)), embed(exact)).measure(embed(fast))


def test_the_figures_are_those_of_a_plain_computation() -> None:
    exact, fast = some(12), some(12) + 0.01 * some(12, 1)
    templates = some(5, 2)
    spec = dataclasses.replace(SPEC, templates=write_templates(templates))
    found = measured(exact, fast, spec)
    a, b = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (exact.astype(np.float64), fast))
    t = read_templates(spec)
    moved = [b[i] @ b[j] - a[i] @ a[j] for i in range(12) for j in range(i)]
    moved += [(b[i] - a[i]) @ t[k] for i in range(12) for k in range(5)]
    assert found.rms == pytest.approx(np.sqrt(np.mean(np.square(moved))) / 0.1, rel=1e-3)
    assert found.largest == pytest.approx(np.abs(moved).max() / 0.1, rel=1e-3)
    assert (found.faces, found.drawn, found.templates) == (12, 0, 5)
    assert found.words("bf16").startswith("BF16 moves similarities by ")


@pytest.mark.parametrize("nothing", [0.0, float("nan"), float("inf")])
def test_a_face_that_fp32_gives_no_direction_is_left_out(nothing: float) -> None:
    exact, fast = some(12), some(12) + 0.01 * some(12, 1)
    whole = measured(np.delete(exact, 3, 0), np.delete(fast, 3, 0))
    exact[3] = fast[3] = nothing
    assert measured(exact, fast) == dataclasses.replace(whole, faces=11)


@pytest.mark.parametrize("nothing", [0.0, float("nan"), float("inf")])
def test_a_face_that_only_the_precision_loses_is_a_failure(nothing: float) -> None:
    exact = some(12)
    fast = exact.copy()
    fast[3] = nothing
    found = measured(exact, fast)
    assert found.lost == 1 and not found.passes("fp16")
    assert refusal(found, "fp16") == "FP16 loses the embedding of 1 of 12 faces (numbers beyond its range) on 12 faces"


def test_nothing_to_compare_passes_nothing() -> None:
    found = Gate(SPEC, NO_CHIPS, embed(some(0), drawn=np.nan)).measure(embed(some(0)))
    assert found.faces == 0 and not found.passes("bf16") and np.isnan(found.min_cosine)
    assert "gives no face an embedding itself" in refusal(found, "bf16")


@pytest.mark.parametrize(("count", "drawn"), [(1, 16), (ENOUGH - 1, 16), (ENOUGH, 0)])
def test_drawn_faces_help_where_there_are_few(count: int, drawn: int) -> None:
    found = measured(some(count), some(count))
    assert (found.faces, found.drawn) == (count + drawn, drawn)
    assert found.rms == pytest.approx(0, abs=1e-5) and found.passes("fp32")


def test_a_spread_that_the_model_does_not_say_is_the_smaller_of_two() -> None:
    spec = dataclasses.replace(SPEC, spread=None)
    exact = some(20)
    unit = exact / np.linalg.norm(exact, axis=1, keepdims=True)
    own = float(np.std((unit @ unit.T)[np.triu_indices(20, 1)]))
    found = measured(exact, exact, spec)
    assert found.estimated and 0 < found.spread <= own + 1e-6
    alike = some(1) + 0.1 * some(20)  # one person alone
    assert measured(alike, alike, spec).spread < 0.1 * own


def test_figures_of_an_older_rule_do_not_pass() -> None:
    assert not passed({"min_cosine": 0.99999, "faces": 32}, "bf16")
    assert passed({"rms": 0.01, "largest": 0.1}, "bf16") and not passed({"rms": 0.01, "largest": 0.3}, "bf16")


# --- what the spec keeps --------------------------------------------------------------------------------------------


def test_strangers_are_described_by_hand() -> None:
    rows = some(40)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    people = [f"p{number // 2:02d}" for number in range(40)]
    spread, text = describe(rows, people)
    pairs = [rows[i] @ rows[j] for i in range(40) for j in range(i) if people[i] != people[j]]
    assert spread == pytest.approx(np.std(pairs), abs=1e-5)
    kept = read_templates(dataclasses.replace(SPEC, templates=text))
    assert (np.sum(kept * rows[::2], axis=1) > 0.9999).all()


@pytest.mark.parametrize("people", [["a"] * 4, ["a", "b"]])
def test_strangers_need_two_people_and_a_person_a_row(people: list[str]) -> None:
    rows = some(4) / np.linalg.norm(some(4), axis=1, keepdims=True)
    with pytest.raises(DataError, match=r"too few|a person to each"):
        describe(rows, people)


@pytest.mark.parametrize("text", ["!", "AAAA", write_templates(np.ones((3, 5), np.float32))])
def test_damaged_templates(text: str) -> None:
    with pytest.raises(ModelError, match="templates are damaged"):
        read_templates(dataclasses.replace(SPEC, templates=text))


@pytest.mark.parametrize("spread", [0.0, -0.1, 1.5, float("nan")])
def test_a_spread_that_is_none(spread: float) -> None:
    with pytest.raises(ModelError, match="spread is"):
        dataclasses.replace(SPEC, spread=spread)


def test_a_spec_with_all_of_it_survives_its_file() -> None:
    spec = dataclasses.replace(SPEC, templates=write_templates(some(4)), spread_source="made")
    assert ModelSpec.from_json(spec.to_json()) == spec


def test_drawn_faces_differ_and_are_always_the_same() -> None:
    few, many = drawn_chips(SPEC, 3), drawn_chips(SPEC, 5)
    assert many.shape == (5, 112, 112, 3) and many.dtype == np.uint8
    np.testing.assert_array_equal(few, many[:3])
    assert all(np.abs(many[a].astype(int) - many[b]).mean() > 5 for a in range(5) for b in range(a))
