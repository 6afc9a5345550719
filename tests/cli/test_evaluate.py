"""`faceembed eval`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.pages import Page

FIELDS = {
    "groups",
    "discard",
    "pairs",
    "positives",
    "negatives",
    "eer",
    "eer_ci",
    "threshold",
    "eer_other",
    "eer_fake",
    "auc",
    "fnmr_at_fmr",
    "accuracy_10fold",
    "failure_to_enrol",
    "skipped_pairs",
    "eer_ci_how",
    "kinds",
    "auc_ci",
    "fnmr_ci",
    "repeated_pairs",
    "pairs_with_itself",
    "contradictory_pairs",
    "flaws",
    "several_faces",
    "cannot_tell",
}


@pytest.fixture
def pairs(small: Path, tmp_path: Path) -> Path:
    """Two pairs of the astronaut, and two with a photo that is no picture, called different."""
    (tmp_path / "text.jpg").write_text("no picture")
    a, b, text = small / "small.jpg", small / "cropped.jpg", tmp_path / "text.jpg"
    rows = ["path_a,path_b,label", f"{a},{b},1", f"{b},{a},1", f"{a},{text},0", f"{text},{b},0"]
    path = tmp_path / "pairs.csv"
    path.write_text("\n".join(rows))
    return path


def test_json_scores_and_report(run_json: Any, pairs: Path, tmp_path: Path) -> None:
    scores, report = tmp_path / "s.csv", tmp_path / "r.html"
    document = run_json("eval", pairs, "--scores", scores, "--report", report)
    assert set(document) == FIELDS
    assert (document["pairs"], document["positives"], document["negatives"]) == (4, 2, 2)
    assert document["eer"] == 0
    assert document["auc"] == 1
    assert document["failure_to_enrol"] == pytest.approx(1 / 3)
    assert document["fnmr_at_fmr"]["1e-6"] is None
    assert document["cannot_tell"]["fnmr_at_fmr.1e-6"] == "needs 1,000,000 negatives, there are 2"
    assert document["cannot_tell"]["eer_fake"] == "no pairs of kind fake"
    assert document["repeated_pairs"] == 1  # the astronaut's, the other way round
    assert document["eer_ci"][1] > 0.5  # one pair of one person, two of others
    assert len(scores.read_text().splitlines()) == 5
    assert "<html" in report.read_text()


def test_text(run: Any, pairs: Path) -> None:
    lines = run("eval", pairs, "-q").stdout.splitlines()
    figures = dict(line.split("  ", 1) for line in lines if not line.startswith(" "))
    assert figures["pairs"].strip() == "4 (2 same, 2 different)"
    assert figures["EER"].strip().startswith("0.00 %")
    assert figures["FNMR at FMR 1e-3"].strip() == "insufficient data"
    assert figures["failure to enrol"].strip() == "33.33 %"


def test_one_class_only(run: Any, pairs: Path, tmp_path: Path) -> None:
    scores = tmp_path / "s.csv"
    result = run("eval", pairs, "--skip-failures", "--scores", scores, code=1)
    assert result.stdout == ""
    assert result.stderr.splitlines()[-1].startswith("Error: ")
    assert scores.exists()  # the scores were computed, and are kept


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "pairs.csv"),
        ("path_a,path_b,label\nnix.jpg,nox.jpg,1\n", "nix.jpg"),
        ("path_a,path_b,label\na.jpg,b.jpg,perhaps\n", "perhaps"),
        ("one,two\n1,2\n", "pairs.csv"),
    ],
)
def test_bad_lists(run: Any, tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "pairs.csv"
    path.write_text(text)
    result = run("eval", path, code=1)
    assert result.stdout == ""
    assert said in result.stderr.splitlines()[-1]


def test_missing_list_and_outputs(run: Any, pairs: Path, tmp_path: Path) -> None:
    assert "nix.csv" in run("eval", tmp_path / "nix.csv", code=1).stderr
    assert "does its folder exist" in run("eval", pairs, "--report", tmp_path / "nix/r.html", code=1).stderr


def test_a_search(run: Any, run_json: Any, samples: Path, tmp_path: Path) -> None:
    for name, source in (
        ("g/Eileen/1.png", "astronaut.png"),
        ("p/Eileen/2.jpg", "darker.jpg"),
        ("p/x/3.jpg", "mirrored.jpg"),
    ):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_bytes((samples / source).read_bytes())
    document = run_json("eval", tmp_path / "p", "--gallery", tmp_path / "g")
    assert (document["gallery"], document["mated"], document["non_mated"]) == (1, 1, 1)
    assert document["rank"] == {"1": 1.0} and document["fnir_at_fpir"]["1e-1"] is None
    assert document["cannot_tell"]["fnir_at_fpir.1e-1"] == "needs 10 probes of strangers, there are 1"
    text = run("eval", tmp_path / "p", "--gallery", tmp_path / "g", "-q").stdout
    assert "rank-1" in text and "insufficient data" in text
    page = Page(_report(run, tmp_path / "p", tmp_path / "g", tmp_path / "r.html"))
    assert "100.00 %" in page.text and page.tags["svg"] == 1 and page.tags["script"] == 0
    refused = run("eval", tmp_path / "p", "--gallery", tmp_path / "g", "--skip-failures", code=2).stderr
    assert "--gallery measures a search" in refused


def _report(run: Any, probes: Path, gallery: Path, page: Path) -> str:
    run("eval", probes, "--gallery", gallery, "-q", "--report", page)
    return page.read_text(encoding="utf-8")


def test_groups_in_text(run: Any, tmp_path: Path) -> None:
    rows = [
        f"{0.9 - 0.1 * (n % 3) if n % 2 else 0.1 * (n % 7)},{n % 2},{'old' if n % 3 else 'young'}" for n in range(60)
    ]
    (tmp_path / "s.csv").write_text("score,label,group\n" + "\n".join(rows))
    text = run("eval", tmp_path / "s.csv").stdout
    assert "by group" in text and "  old" in text and "worst FMR" in text
