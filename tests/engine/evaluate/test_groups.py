"""Rates by group at one threshold, from the list's column to the worst ratio."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from faceembed.engine.evaluate.figures import evaluate
from faceembed.engine.evaluate.pair_formats import read_pairs
from faceembed.engine.evaluate.pair_tables import HEADERS


def listed(folder: Path, groups: list[str]) -> tuple[Path, np.ndarray[tuple[int], np.dtype[np.float64]]]:
    rng = np.random.default_rng(0)
    rows, scores = ["path_a,path_b,label,group"], []
    for number in range(400):
        label, group = number % 2, groups[(number // 2) % len(groups)]
        rows.append(f"{number}a.jpg,{number}b.jpg,{label},{group}")
        scores.append(rng.normal(0.6 if label else 0.2 + 0.15 * (group == "old"), 0.1))
    (folder / "p.csv").write_text("\n".join(rows))
    return folder / "p.csv", np.clip(scores, -1, 1)


def test_recomputed(tmp_path: Path) -> None:
    path, scores = listed(tmp_path, ["young", "old", ""])
    pairs = read_pairs(path)
    result = evaluate(pairs, scores)
    groups = result.groups
    assert groups is not None and list(groups.by_name) == ["old", "young"] and groups.threshold == result.threshold
    for name, of in groups.by_name.items():
        mine = [n for n, pair in enumerate(pairs) if pair.group == name]
        negatives = [scores[n] >= result.threshold for n in mine if not pairs[n].label]
        positives = [scores[n] < result.threshold for n in mine if pairs[n].label]
        assert (of.positives, of.negatives) == (len(positives), len(negatives))
        assert of.fmr == pytest.approx(np.mean(negatives)) and of.fnmr == pytest.approx(np.mean(positives))
        assert of.fmr_ci is not None and of.fmr_ci[0] <= of.fmr <= of.fmr_ci[1]
    assert groups.fmr_ratio is not None and groups.fmr_ratio.worst == "old"
    old, young = groups.by_name["old"].fmr, groups.by_name["young"].fmr
    assert old and groups.fmr_ratio.ratio == (pytest.approx(old / young) if young else None)
    assert result.to_json_dict()["groups"]["by_name"]["old"]["fmr"] == old


def test_without_the_column(tmp_path: Path) -> None:
    path, scores = listed(tmp_path, [""])
    document = evaluate(read_pairs(path), scores).to_json_dict()
    assert document["groups"] is None and document["cannot_tell"]["groups"] == "the list has no column group"


def test_one_group_has_no_ratio(tmp_path: Path) -> None:
    path, scores = listed(tmp_path, ["all of them"])
    groups = evaluate(read_pairs(path), scores).groups
    assert groups is not None and groups.fmr_ratio is None and list(groups.by_name) == ["all of them"]


@pytest.mark.parametrize("names", HEADERS[:3])
def test_whatever_the_other_columns_are_called(tmp_path: Path, names: tuple[str, str, str]) -> None:
    (tmp_path / "p.csv").write_text(f"group;{';'.join(names)}\nF;a.jpg;b.jpg;1\n;c.jpg;d.jpg;0\n")
    assert [pair.group for pair in read_pairs(tmp_path / "p.csv")] == ["F", None]
