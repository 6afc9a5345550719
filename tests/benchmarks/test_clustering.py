"""The clustering benchmark: its made-up faces, its reading of pair lists, DBSCAN's best against scikit-learn itself, other methods."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import clustering
import clustering_others
import clustering_scale
import numpy as np
import pytest
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
    assert entry["others"].keys() == {"HDBSCAN"}
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
