"""The clustering benchmark: its made-up faces, its reading of pair lists, DBSCAN's best against scikit-learn itself, other methods."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import clustering
import clustering_others
import clustering_scale
import clustering_sets
import numpy as np
import pytest
from common import BenchmarkError
from sklearn.cluster import DBSCAN

from faceembed.engine.index.clusters.scores import cluster_scores


def test_made_up_faces_lie_as_an_encoders() -> None:
    people, vectors = clustering_scale.made_up(1000)
    cosines = vectors @ vectors.T
    same = people[:, None] == people
    np.fill_diagonal(same, False)
    assert cosines[same].mean() == pytest.approx(0.955, abs=0.005)
    assert cosines[people[:, None] != people].mean() == pytest.approx(0.83, abs=0.01)


def test_people_of_a_pair_list(tmp_path: Path) -> None:
    path = tmp_path / "pairs.txt"
    path.write_text("10\t300\nAnn Lee\t1\t2\nBob\t1\tCid\t4\n", encoding="utf-8")
    assert clustering.named_in_pairs(path) == {"Ann Lee", "Bob", "Cid"}


def test_dbscan_is_scikit_learns_at_its_best(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clustering, "EPSILONS", (0.005, 0.04, 0.05, 0.06, 0.3))
    monkeypatch.setattr(clustering, "LEAST_GROUPS", (2,))
    people, vectors = clustering_scale.made_up(300)
    best = clustering.dbscan(people, vectors)["best"]["pairwise_f1"]
    scores = []
    for epsilon in clustering.EPSILONS:
        found = DBSCAN(eps=epsilon, min_samples=2, metric="cosine").fit_predict(vectors)
        noise = found < 0
        found[noise] = found.max() + 1 + np.arange(noise.sum())
        scores.append(cluster_scores(people, found).pairwise.f1)
    assert best["pairwise_f1"] == pytest.approx(max(scores))
    assert best["epsilon"] == clustering.EPSILONS[int(np.argmax(scores))]


def test_report_of_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    people, vectors = clustering_scale.made_up(200)
    monkeypatch.setattr(clustering, "read_sets", lambda args: ({"few": (people, vectors)}, (people, vectors)))
    monkeypatch.setitem(clustering_others.PACKAGES, "Leiden", ("nowhere_to_be_found",))
    document = clustering.run(clustering.parse(["--choose"]))
    entry = document["sets"]["few"]
    assert entry["ours"]["pairwise_f1"] > 0.9
    assert entry["ours"]["steps_anew"].keys() == entry["ours"]["steps_keep"].keys()
    assert f"few: 200 faces, {len(set(people.tolist()))} people" in clustering.report(document)
    text = clustering.report(document)
    assert "Leiden: not run, nowhere_to_be_found not installed" in text
    assert f"HDBSCAN, {'/'.join(map(str, entry['others']['HDBSCAN']['settings'].values()))}" in text
    assert entry["others"].keys() == {"HDBSCAN", "Chinese whispers"}
    assert document["choice"][0]["pairwise_f1"] >= document["choice"][-1]["pairwise_f1"]


def test_noise_is_groups_of_one() -> None:
    assert clustering_others.alone(np.array([0, -1, 1, 0, -1])).tolist() == [0, 2, 1, 0, 3]
    assert clustering_others.alone(np.array([-1, -1])).tolist() == [0, 1]


def test_other_methods_are_chosen_on_some_people_and_measured_on_others(monkeypatch: pytest.MonkeyPatch) -> None:
    grid = {"min_samples": (1, 2), "cluster_selection_epsilon": (0.0,), "cluster_selection_method": ("eom", "leaf")}
    monkeypatch.setitem(clustering_others.GRIDS, "HDBSCAN", grid)
    found = clustering_others.choose_other("HDBSCAN", *clustering_scale.made_up(300, seed=1))
    assert (len(found["choice"]), found["failed"]) == (4, [])
    sums = [row["pairwise_f1"] + row["bcubed_f1"] for row in found["choice"]]
    assert sums == sorted(sums, reverse=True) and sums[0] > sums[-1]
    best = found["choice"][0]["settings"]
    assert clustering_others.run_other("HDBSCAN", best, *clustering_scale.made_up(200))["bcubed_f1"] > 0.8


def test_a_method_whose_package_is_missing_is_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(clustering_others.PACKAGES, "Leiden", ("igraph", "nowhere_to_be_found", "nor_this"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name == "igraph" or None)
    assert clustering_others.missing("Leiden") == "Leiden: not run, nowhere_to_be_found and nor_this not installed"


def test_chinese_whispers_group_what_is_alike() -> None:
    people, vectors = clustering_scale.made_up(300, seed=2)
    whole = clustering_others.run_other("Chinese whispers", {"least": 0.9}, people, vectors)
    assert whole["bcubed_f1"] > 0.8
    assert clustering_others.run_other("Chinese whispers", {"least": 0.999}, people, vectors)["pairwise_recall"] < 0.1


def test_grids_lie_about_an_encoders_threshold() -> None:
    grids = clustering_others.grids_for(0.5, 0.1)
    assert grids["Leiden"]["least"] == grids["Chinese whispers"]["least"]
    assert grids["Leiden"]["least"][:2] == (0.42, 0.5) and max(grids["Leiden"]["least"]) < 1
    assert grids["HDBSCAN"]["cluster_selection_epsilon"][:2] == (0.0, 0.5)


@pytest.mark.parametrize(
    ("people", "groups", "expected"),
    [
        pytest.param(["F1_MID1", "F1_MID1", "F2_MID1"], [0, 0, 1], None, id="nothing is wrong"),
        pytest.param(["F1_MID1", "F1_MID2", "F2_MID1"], [0, 0, 1], 1.0, id="a parent"),
        pytest.param(["F1_MID1", "F1_MID1", "F1_MID2", "F2_MID1"], [0, 0, 0, 0], 0.4, id="two of five"),
        pytest.param(["Ann", "Bob"], [0, 0], 0.0, id="no families"),
    ],
)
def test_kin_among_what_is_joined_wrongly(people: list[str], groups: list[int], expected: float | None) -> None:
    assert clustering_sets.kin_share(np.array(people), np.array(groups)) == expected


def test_sets_are_measured_with_settings_of_other_people(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    few, many = clustering_scale.made_up(120, seed=3), clustering_scale.made_up(200, seed=4)
    monkeypatch.setattr(clustering_sets, "read_parts", lambda indexes, encoder: ({"few": few}, many))
    monkeypatch.setitem(clustering_others.PACKAGES, "Leiden", ("nowhere_to_be_found",))
    document = clustering_sets.run(clustering_sets.parse(["--indexes", str(tmp_path), "--encoder", "dlib-resnet"]))
    row = document["encoders"]["dlib-resnet"]
    assert row["chosen_on"]["faces"] == 200 and row["sets"]["few"]["faces"] == 120
    assert row["sets"]["few"]["methods"].keys() == {"ours", "HDBSCAN", "Chinese whispers"}
    chosen = row["choice"]["Chinese whispers"]["best"][0]["settings"]
    assert row["sets"]["few"]["methods"]["Chinese whispers"]["settings"] == chosen
    assert "Leiden: not run" in clustering_sets.report(document)


def test_an_index_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FACEEMBED_DATA", str(tmp_path))
    with pytest.raises(BenchmarkError, match=r"no .*lfw-sface.faiss.*: make them by `faceembed embed"):
        clustering_sets.read_parts(tmp_path, "sface")
