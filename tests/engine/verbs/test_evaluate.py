"""`evaluate` and the score file, on tables small enough to do by hand."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
from pathlib import Path

import numpy as np
import pytest

from faceembed.engine.evaluate import metrics
from faceembed.engine.evaluate.figures import Evaluation, evaluate, failed_pairs, pair_scores, write_scores
from faceembed.engine.evaluate.pair_formats import read_pairs
from faceembed.engine.evaluate.pairs import Kind, Pair, PairList
from faceembed.errors import DataError


def make(kinds: list[Kind | None], *, folds: bool = False) -> PairList:
    pairs = [
        Pair(f"{i}a.jpg", f"{i}b.jpg", None if kind is None else kind == "same", kind, i % 10 if folds else None)
        for i, kind in enumerate(kinds)
    ]
    return PairList("pairs.csv", tuple(pairs))


SIX = make(["same", "same", "same", "other", "other", "fake"])
SCORES = np.array([0.9, 0.8, 0.3, 0.1, 0.2, 0.6])


def test_figures_by_hand() -> None:
    result = evaluate(SIX, SCORES)
    assert (result.pairs, result.positives, result.negatives) == (6, 3, 3)
    # 0.3 is rejected and the fake at 0.6 accepted, for every threshold between them
    assert (result.eer, result.threshold) == pytest.approx((1 / 3, 0.45))
    assert result.eer_other == 0.0 and result.eer_fake == pytest.approx(1 / 3)
    assert result.auc == pytest.approx(8 / 9)
    assert result.fnmr_at_fmr == dict.fromkeys([f"1e-{k}" for k in range(1, 7)])
    assert result.accuracy_10fold is None
    assert result.failure_to_enrol == 0.0 and result.skipped_pairs == 0
    assert 0 <= result.eer_ci[0] <= result.eer <= result.eer_ci[1] <= 1


def test_eer_by_kind_leaves_the_other_kind_out() -> None:
    rng = np.random.default_rng(0)
    kinds: list[Kind | None] = ["same"] * 50 + ["other"] * 60 + ["fake"] * 40
    scores = np.clip(np.r_[rng.normal(0.6, 0.2, 50), rng.normal(0, 0.2, 60), rng.normal(0.5, 0.2, 40)], -1, 1)
    result = evaluate(make(kinds), scores)
    labels = np.arange(150) < 50
    assert result.eer == metrics.eer(scores, labels)[0]
    assert result.eer_other == metrics.eer(scores[:110], labels[:110])[0]
    fake = np.r_[0:50, 110:150]
    assert result.eer_fake == metrics.eer(scores[fake], labels[fake])[0]
    assert result.eer_other < result.eer < result.eer_fake


def test_list_without_fakes_has_no_eer_fake() -> None:
    result = evaluate(make(["same", "other"]), [0.5, 0.1])
    assert result.eer_fake is None and result.eer_other == 0.0


def test_folds_of_the_list_are_used() -> None:
    rng = np.random.default_rng(1)
    kinds: list[Kind | None] = ["same", "other"] * 100
    labels = np.array([kind == "same" for kind in kinds])
    scores = np.clip(rng.normal(0, 0.3, 200) + 0.4 * labels, -1, 1)
    own, drawn = evaluate(make(kinds, folds=True), scores), evaluate(make(kinds), scores)
    assert own.accuracy_10fold == metrics.fold_accuracy(scores, labels, folds=np.arange(200) % 10)
    assert drawn.accuracy_10fold == metrics.fold_accuracy(scores, labels)
    assert own.accuracy_10fold != drawn.accuracy_10fold


def test_failures_score_minus_one_and_are_counted() -> None:
    failures = {"0a.jpg": "no face found", "3b.jpg": "no face found", "elsewhere.jpg": "not in this list"}
    similarity = np.where(failed_pairs(SIX, failures), np.nan, SCORES)  # whatever stands there is not looked at
    result = evaluate(SIX, similarity, failures=failures)
    assert result.pairs == 6 and result.skipped_pairs == 0
    assert result.failure_to_enrol == pytest.approx(2 / 12)
    assert result == evaluate(SIX, [-1, 0.8, 0.3, -1, 0.2, 0.6], failures=failures)
    assert result.auc < evaluate(SIX, SCORES).auc  # a refused positive counts against the encoder


def test_skipped_failures_are_said() -> None:
    result = evaluate(SIX, SCORES, failures={"2a.jpg", "5b.jpg"}, skip_failures=True)
    assert (result.pairs, result.positives, result.negatives, result.skipped_pairs) == (4, 2, 2, 2)
    assert result.eer == 0.0 and result.eer_fake is None
    assert result.failure_to_enrol == pytest.approx(2 / 12)


def test_json_has_the_promised_fields() -> None:
    rng = np.random.default_rng(2)
    kinds: list[Kind | None] = ["same"] * 30 + ["other"] * 100 + ["fake"] * 20
    result = evaluate(make(kinds), np.clip(rng.normal(0, 0.3, 150) + np.r_[np.ones(30), np.zeros(120)] * 0.5, -1, 1))
    fields = json.loads(json.dumps(result.to_json_dict(), allow_nan=False))
    promised = "pairs positives negatives eer eer_ci threshold eer_other eer_fake auc fnmr_at_fmr accuracy_10fold failure_to_enrol"
    added = "eer_ci_how kinds auc_ci fnmr_ci repeated_pairs pairs_with_itself contradictory_pairs flaws cannot_tell groups discard"
    assert set(fields) == {*promised.split(), "skipped_pairs", *added.split()}
    assert fields["eer_ci"] == list(result.eer_ci)
    assert fields["fnmr_at_fmr"]["1e-1"] == result.fnmr_at_fmr["1e-1"]
    assert fields["fnmr_at_fmr"]["1e-3"] is None
    assert fields["cannot_tell"]["fnmr_at_fmr.1e-3"] == f"needs 1,000 negatives, there are {result.negatives}"
    assert set(fields["accuracy_10fold"]) == {"mean", "std"}


def test_same_input_same_figures() -> None:
    assert evaluate(SIX, SCORES) == evaluate(SIX, SCORES)
    assert dataclasses.fields(Evaluation)[0].name == "pairs"


@pytest.mark.parametrize(
    ("pairs", "similarity", "message"),
    [
        (make(["same", "same"]), [0.1, 0.2], "all positive"),
        (make(["other", "fake"]), [0.1, 0.2], "all negative"),
        (make([None, None]), [0.1, 0.2], "no labels"),
        (make(["same", "other"]), [0.1, np.nan], r"pair 1 \('1a.jpg', '1b.jpg'\) is nan"),
        (make(["same", "other"]), [0.1, 1.5], "1.5; expected a cosine"),
        (make(["same", "other"]), [-np.inf, 0.5], "pair 0"),
        (make(["same", "other"]), [0.1], "each of 2 pairs, got shapes"),
    ],
)
def test_refuses(pairs: PairList, similarity: list[float], message: str) -> None:
    with pytest.raises(DataError, match=message):
        evaluate(pairs, similarity)


def test_nothing_left_after_skipping() -> None:
    with pytest.raises(DataError, match="every pair has a photo without a face"):
        evaluate(make(["same", "other"]), [0, 0], failures={"0a.jpg", "1a.jpg"}, skip_failures=True)


def test_rounding_past_one_is_cut() -> None:
    scores = pair_scores(make(["same", "other"]), np.array([1.0005, -1.0005], np.float32), np.zeros(2, bool))
    assert scores.tolist() == [1.0, -1.0]


# --- scores.csv ---------------------------------------------------------------------------------------------------


def test_score_file_is_a_pair_list(tmp_path: Path) -> None:
    hostile = ["/x/with,comma.jpg", '/x/with "quote".jpg', "/x/with\nnewline.jpg", "/x/ \u00e9\u4e2d.jpg"]
    pairs = PairList("p.csv", (Pair(hostile[0], hostile[1], True, "same"), Pair(hostile[2], hostile[3], False, "fake")))
    write_scores(tmp_path / "scores.csv", pairs, [0.123456789, 0.5], np.array([False, True]))
    with (tmp_path / "scores.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert rows == [
        ["path_a", "path_b", "label", "kind", "similarity", "found"],
        [hostile[0], hostile[1], "1", "same", "0.1234568", "1"],
        [hostile[2], hostile[3], "0", "fake", "-1", "0"],
    ]
    assert read_pairs(tmp_path / "scores.csv").pairs == pairs.pairs


def test_scores_of_unlabelled_pairs(tmp_path: Path) -> None:
    write_scores(tmp_path / "s.csv", make([None]), [0.25], np.array([False]))
    assert (tmp_path / "s.csv").read_text().splitlines()[1] == "0a.jpg,0b.jpg,,,0.25,1"


def test_file_name_that_is_not_utf8_keeps_its_bytes(tmp_path: Path) -> None:
    name = os.fsdecode(b"/x/\xff.jpg")
    write_scores(tmp_path / "s.csv", PairList("d", (Pair(name, "/b", None, None),)), [0.0], np.array([False]))
    assert b"/x/\xff.jpg,/b" in (tmp_path / "s.csv").read_bytes()


def test_failed_writing_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "scores.csv"
    write_scores(target, SIX, np.zeros(6), np.zeros(6, bool))  # nothing else is replaced
    old = target.read_text()
    with pytest.raises(DataError):
        write_scores(target, SIX, [np.nan] * 6, np.zeros(6, bool))
    broken = PairList("p", (Pair("\ud800", "b", None, None),))  # a text that no file system gives and no encoding takes
    with pytest.raises(UnicodeEncodeError):
        write_scores(target, broken, [0.0], np.array([False]))
    assert target.read_text() == old
    assert os.listdir(tmp_path) == ["scores.csv"]


def test_score_file_is_as_readable_as_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("")
    write_scores(tmp_path / "scores.csv", SIX, SCORES, np.zeros(6, bool))
    assert (tmp_path / "scores.csv").stat().st_mode == (tmp_path / "plain").stat().st_mode
