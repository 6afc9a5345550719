"""Several encoders on one list: their figures are those of `eval`, photos are read once a group, and failures are rows."""

from __future__ import annotations

import dataclasses
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from faceembed.engine.evaluate import encode_rates
from faceembed.engine.evaluate.comparison import Comparison, Row
from faceembed.engine.evaluate.encode_rates import measure_rates
from faceembed.engine.evaluate.figures import Evaluation
from faceembed.engine.models.graph import GraphWriter
from faceembed.engine.models.spec import ARCFACE_TEMPLATE, ModelSpec
from faceembed.engine.pipeline import loading
from faceembed.engine.pipeline.settings import EmbedSettings
from faceembed.engine.report.encoders import write_comparison, write_comparisons
from faceembed.engine.runtimes.choose import RuntimeSettings
from faceembed.engine.verbs.compare import compare_encoders
from faceembed.engine.verbs.compare_lists import compare_lists
from faceembed.engine.verbs.evaluate import score_pairs
from faceembed.errors import DataError, PairListError, UsageError
from tests.pages import Page

CROPS = EmbedSettings(aligner="none", runtime=RuntimeSettings(precision="fp32", threads=2))
HOSTILE = "<script>alert(1)</script>\"onerror='x' {{ 7 * 7 }}"


def write_encoder(
    folder: Path, name: str, *, seed: int = 0, side: int = 112, dimension: int = 8, damaged: bool = False
) -> str:
    """An ONNX encoder: coarse colours times a random matrix."""
    writer = GraphWriter("coarse")
    x = writer.input("chips", ["N", 3, side, side])
    x = writer.node("AveragePool", [x], kernel_shape=[16, 16], strides=[16, 16])
    x = writer.node("Flatten", [x])
    cells = 3 * (side // 16) ** 2
    matrix = np.random.default_rng(seed).normal(size=(cells, dimension))
    matrix[0, 0] = np.nan if damaged else 0
    x = writer.node("MatMul", [x, writer.constant(matrix.astype(np.float32))])
    writer.output(x, "embedding", ["N", dimension])
    path = folder / f"{name}.onnx"
    path.write_bytes(writer.serialise())
    template = tuple((x * side / 112, y * side / 112) for x, y in ARCFACE_TEMPLATE)
    spec = ModelSpec(name, "encoder", (side, side), dimension=dimension, template=template)
    path.with_suffix(".json").write_text(spec.to_json())
    return str(path)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Crops of 12 blurred pictures, two noisy views of each, and a list with all three kinds; one crop is not square."""
    folder, rng = tmp_path_factory.mktemp("crops"), np.random.default_rng(5)
    rows = []
    for person in range(12):
        base = cv2.resize(rng.integers(0, 256, (7, 7, 3)).astype(np.float32), (112, 112))
        for view in range(2):
            noise = 90 * cv2.resize(rng.normal(size=(7, 7, 3)).astype(np.float32), (112, 112))
            cv2.imwrite(str(folder / f"{person}_{view}.png"), np.clip(base + noise, 0, 255).astype(np.uint8))
        rows.append((f"{person}_0.png", f"{person}_1.png", 1, "same"))
        rows.append((f"{person}_0.png", f"{(person + 1) % 12}_1.png", 0, "other" if person % 3 else "fake"))
    cv2.imwrite(str(folder / "wide.png"), np.zeros((50, 80, 3), np.uint8))
    rows.append(("0_0.png", "wide.png", 1, "same"))
    path = folder / "pairs.csv"
    path.write_text("\n".join(["path_a,path_b,label,kind", *(",".join(map(str, row)) for row in rows)]))
    return path


@pytest.fixture(scope="module")
def encoders(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("encoders")
    broken = folder / "broken.onnx"
    write_encoder(folder, "broken")
    broken.write_bytes(b"not a network")
    return [
        write_encoder(folder, "eight"),
        write_encoder(folder, "four", seed=1, dimension=4),
        write_encoder(folder, "small", seed=2, side=96),
        write_encoder(folder, "infinite", damaged=True),
        str(broken),
        "nobody-knows-me",
    ]


@pytest.fixture(scope="module")
def compared(encoders: list[str], pairs: Path) -> Comparison:
    return compare_encoders(encoders, pairs, settings=CROPS)


def document_licence(row: Row) -> object:
    return row.to_json_dict()["licence"]


def test_figures_are_those_of_eval(compared: Comparison, encoders: list[str], pairs: Path) -> None:
    assert [row.name for row in compared.rows[:3]] == ["eight", "four", "small"]
    for row, source in zip(compared.rows[:3], encoders, strict=False):
        alone = score_pairs(pairs, settings=EmbedSettings(encoder=source, aligner="none", runtime=CROPS.runtime))
        assert isinstance(alone.evaluation, Evaluation) and alone.evaluation.discard is not None
        assert row.scores is not None and row.evaluation is not None
        assert row.evaluation == dataclasses.replace(alone.evaluation, discard=row.evaluation.discard)
        mine, theirs = row.evaluation.discard, alone.evaluation.discard
        assert mine is not None and (mine.fmr, mine.ideal) == (theirs.fmr, theirs.ideal)
        assert mine.by_quality == theirs.by_quality and "norm" in mine.by_quality
        assert row.to_json_dict()["discard"]["fmr"] == theirs.fmr
        assert not row.reason and document_licence(row) == "unknown"
        np.testing.assert_allclose(row.scores.similarity, alone.similarity, atol=1e-6)
        assert row.scores.failed.tolist() == [False] * 24 + [True]
        document = row.to_json_dict()
        assert document["tar_at_far"]["1e-1"] == 1 - (alone.evaluation.fnmr_at_fmr["1e-1"] or 0)
        assert document["tar_at_far"]["1e-6"] is None
        assert document["cannot_tell"]["fnmr_at_fmr.1e-6"].startswith("needs 1,000,000 negatives, there are ")
        assert document["bytes"] == os.path.getsize(source)
        assert (document["dimension"], document["input_size"]) == (
            row.model.spec.dimension if row.model else 0,
            [96, 96] if row.name == "small" else [112, 112],
        )
        assert document["eer"] == alone.evaluation.eer and document["eer_fake"] == alone.evaluation.eer_fake
        low, high = document["faces_per_second_range"]
        assert 0 < low <= document["faces_per_second"] <= high
    assert 0 < compared.rows[0].evaluation.eer < 0.5  # type: ignore[union-attr]


def test_what_fails_is_a_row_with_its_reason(compared: Comparison) -> None:
    infinite, broken, unknown = compared.rows[3:]
    assert compared.failed == [infinite, broken, unknown]
    assert infinite.reason.startswith("an embedding is not finite; is the model damaged")
    assert "broken.onnx" in broken.reason and "\n" not in broken.reason
    assert "nobody-knows-me" in unknown.reason
    document = json.loads(json.dumps(compared.to_json_dict()))
    assert document["failed"] == 3 and len(document["encoders"]) == 6
    for row in document["encoders"][3:]:
        assert row["reason"] and row["eer"] is None and row["tar_at_far"] is None and row["faces_per_second"] is None


def test_photos_are_read_once_for_a_group(encoders: list[str], pairs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Any] = []
    real: Callable[..., Any] = loading.open_cutter

    def open_cutter(*args: Any, **options: Any) -> Any:
        cutter = real(*args, **options)
        original, passes = cutter.cut, []
        opened.append(passes)
        monkeypatch.setattr(cutter, "cut", lambda photos: passes.append(len(photos)) or original(photos))
        return cutter

    monkeypatch.setattr(loading, "open_cutter", open_cutter)
    compare_encoders(encoders[:3], pairs, settings=CROPS)
    assert opened == [[25], [25]]  # 112 for two, 96 for one


def test_a_second_run_takes_what_is_kept(encoders: list[str], pairs: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    first = compare_encoders(encoders[:2], pairs, settings=CROPS, save=kept)
    assert [row.reused for row in first.rows] == [False, False]
    files = sorted(kept.iterdir())
    assert len(files) == 2
    files[0].write_bytes(files[0].read_bytes()[:100])  # cut short: computed anew
    again = compare_encoders(encoders[:3], pairs, settings=CROPS, save=kept)
    assert [row.reused for row in again.rows] == [False, True, False]
    assert [row.evaluation for row in again.rows[:2]] == [row.evaluation for row in first.rows]
    assert again.rows[1].rate is not None and again.rows[1].scores is not None
    assert list(again.rows[1].scores.failures) == [str(pairs.parent / "wide.png")]
    photo = pairs.parent / "3_1.png"
    stamp = photo.stat()
    os.utime(photo, ns=(stamp.st_atime_ns, stamp.st_mtime_ns + 1))  # another photo, for all we know
    try:
        changed = compare_encoders(encoders[:2], pairs, settings=CROPS, save=kept)
    finally:
        os.utime(photo, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert [row.reused for row in changed.rows] == [False, False]
    with pytest.raises(UsageError, match=r"is a file; give a folder$"):
        compare_encoders(encoders[:1], pairs, settings=CROPS, save=pairs)


def test_failures_may_be_left_out(encoders: list[str], pairs: Path) -> None:
    result = compare_encoders(encoders[:1], pairs, settings=CROPS, skip_failures=True)
    found = result.rows[0].evaluation
    assert found is not None and (found.pairs, found.skipped_pairs) == (24, 1)
    assert result.curve(result.rows[0]).positives == 12


def test_lists_that_cannot_be_judged(encoders: list[str], pairs: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="give at least one encoder"):
        compare_encoders([], pairs)
    with pytest.raises(PairListError, match=r"nowhere\.csv"):
        compare_encoders(encoders, tmp_path / "nowhere.csv")
    one = tmp_path / "one.csv"
    one.write_text(f"path_a,path_b,label\n{pairs.parent / '0_0.png'},{pairs.parent / '0_1.png'},1\n")
    with pytest.raises(DataError, match="error rates need pairs of one person and pairs that are not"):
        compare_encoders(encoders, one, settings=CROPS)


class Counting:
    """An encoder that notes what it is given."""

    def __init__(self, log: list[str], name: str) -> None:
        self.log, self.name, self.faces = log, name, 0

    def encode(self, chips: Any) -> None:
        self.faces += len(chips)
        if not self.log or self.log[-1] != self.name:
            self.log.append(self.name)


def test_rates_take_encoders_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(1000))
    monkeypatch.setattr(encode_rates.time, "perf_counter", lambda: next(clock))
    log: list[str] = []
    both = [Counting(log, "a"), Counting(log, "b")]
    rates = measure_rates(both, np.zeros((70, 2, 2, 3), np.uint8), workers=2, rounds=3)  # type: ignore[arg-type]
    assert log == ["a", "b"] * 4  # the first to warm up
    assert both[0].faces == 4 * 140  # repeated, so that two workers have two batches each
    assert [rate.median for rate in rates] == [140.0, 140.0]


def test_the_page(compared: Comparison, tmp_path: Path) -> None:
    write_comparison(tmp_path / "encoders.html", compared)
    page = Page((tmp_path / "encoders.html").read_text(encoding="utf-8"))
    assert page.tags["svg"] == 5 and page.tags["script"] == 0
    for row in compared.rows:
        assert (row.reason or f"{100 * row.evaluation.eer:.2f} %") in page.text  # type: ignore[union-attr]
    assert "EDC area" in page.text and "unknown" in page.text, "quality and licence"
    assert len(re.findall(r"\beight\b", page.text)) == 2  # in the table, and in the key to the curves
    assert not [value for name, value in page.attributes if name in ("src", "xlink:href") and not value.startswith("#")]


def test_hostile_names_are_text(pairs: Path, tmp_path: Path) -> None:
    path = write_encoder(tmp_path, "plain")
    spec = ModelSpec.from_json(Path(path).with_suffix(".json").read_text())
    hostile = ModelSpec(**{**vars(spec), "name": HOSTILE})
    Path(path).with_suffix(".json").write_text(hostile.to_json())
    result = compare_encoders([path, HOSTILE + "nix"], pairs, settings=CROPS, save=tmp_path / "kept")
    assert not result.rows[0].reason and result.rows[1].reason
    write_comparison(tmp_path / "encoders.html", result)
    page = Page((tmp_path / "encoders.html").read_text(encoding="utf-8"))
    assert page.tags["script"] == 0 and page.tags["svg"] == 5
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert HOSTILE in page.text
    assert [file.parent for file in (tmp_path / "kept").iterdir()] == [tmp_path / "kept"]


@pytest.fixture(scope="module")
def second(pairs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another list of the same photos: half of the pairs, of one kind of strangers."""
    lines = pairs.read_text().splitlines()
    path = tmp_path_factory.mktemp("second") / "pairs.csv"
    kept = [line for line in lines[1:] if not line.endswith("fake")][:16]
    path.write_text("\n".join([lines[0], *kept]))
    return path


def test_several_lists_are_those_of_each(encoders: list[str], pairs: Path, second: Path) -> None:
    both = compare_lists(encoders[:2] + encoders[4:5], [pairs, second], roots=[pairs.parent], settings=CROPS)
    assert both.names == [f"{pairs.parent.name}/pairs", f"{second.parent.name}/pairs"]
    alone = compare_encoders(encoders[:2], second, root=pairs.parent, settings=CROPS)
    assert [row.evaluation for row in both.lists[1].rows[:2]] == [row.evaluation for row in alone.rows]
    assert [row.rate is not None for row in both.lists[0].rows] == [True, True, False]
    assert not any(row.rate for row in both.lists[1].rows), "rates are measured once"
    assert [[row.name for row in rows] for rows in both.encoders()][:2] == [["eight"] * 2, ["four"] * 2]
    assert [rows[0].source for rows in both.failed] == encoders[4:5]
    document = json.loads(json.dumps(both.to_json_dict()))
    assert document["failed"] == 1 and [of["pairs"] for of in document["lists"]] == [25, 16]
    assert document["lists"][1]["encoders"][0]["fnmr_at_fmr"].keys() >= {"1e-2", "1e-3"}


def test_the_page_of_several_lists(encoders: list[str], pairs: Path, second: Path, tmp_path: Path) -> None:
    both = compare_lists(encoders[:1] + encoders[4:5], [pairs, second], roots=[pairs.parent], settings=CROPS)
    write_comparisons(tmp_path / "encoders.html", both)
    page = Page((tmp_path / "encoders.html").read_text(encoding="utf-8"))
    discarded = [of.rows[0].evaluation.discard for of in both.lists if of.rows[0].evaluation]
    assert [found is not None and found.by_quality["score"].area is not None for found in discarded] == [True, False]
    assert page.tags["table"] == 3 and page.tags["svg"] == 8 and page.tags["script"] == 0
    for of in both.lists:
        found = of.rows[0].evaluation
        assert found is not None and page.text.count(f"{100 * found.eer:.2f} %") >= 2, "in both of its tables"
    assert page.text.count(both.names[0]) == 2 and "EER, deepfakes" in page.text
    ids = [value for name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids)), "two plots of one page share an identifier"
    assert page.text.count(both.lists[0].rows[1].reason) == 1, "where it failed everywhere, the table of all says so"


@pytest.mark.parametrize(
    ("lists", "roots", "message"),
    [
        pytest.param(0, 0, "give at least one pair list", id="no list"),
        pytest.param(3, 2, "2 roots for 3 pair lists; give one for all, or one for each", id="roots"),
    ],
)
def test_lists_and_roots_that_do_not_fit(
    lists: int, roots: int, message: str, encoders: list[str], pairs: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=message):
        compare_lists(encoders, [pairs] * lists, roots=[tmp_path] * roots)


def test_a_bad_list_is_refused_before_anything_is_computed(
    encoders: list[str], pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "open_cutter", lambda *args, **options: pytest.fail("computed"))
    one = tmp_path / "one.csv"
    one.write_text(f"path_a,path_b,label\n{pairs.parent / '0_0.png'},{pairs.parent / '0_1.png'},1\n")
    with pytest.raises(DataError, match="error rates need pairs of one person and pairs that are not"):
        compare_lists(encoders, [pairs, one], settings=CROPS)


def test_qmagfaces_score_is_a_row_where_it_was_fitted(encoders: list[str], pairs: Path, tmp_path: Path) -> None:
    path = write_encoder(tmp_path, "fitted")
    spec = ModelSpec.from_json(Path(path).with_suffix(".json").read_text())
    fitted = dataclasses.replace(spec, quality_aware=(0.5, 0.4))
    Path(path).with_suffix(".json").write_text(fitted.to_json())
    said: list[str] = []
    result = compare_encoders([path, encoders[1]], pairs, settings=CROPS, quality_aware=True, notice=said.append)
    assert [row.name for row in result.rows] == ["fitted", "fitted, quality-aware", "four"]
    assert [row.to_json_dict()["score"] for row in result.rows] == ["cosine", "quality-aware", "cosine"]
    alone = score_pairs(pairs, settings=dataclasses.replace(CROPS, encoder=path), score="quality-aware")
    assert isinstance(alone.evaluation, Evaluation) and result.rows[1].evaluation is not None
    assert result.rows[1].evaluation.eer == alone.evaluation.eer
    assert result.rows[1].evaluation.fnmr_at_fmr == alone.evaluation.fnmr_at_fmr
    assert "four: QMagFace's score was not fitted for it, and has no row" in said
    write_comparison(tmp_path / "page.html", result)
    assert "fitted, quality-aware" in (tmp_path / "page.html").read_text(encoding="utf-8")
