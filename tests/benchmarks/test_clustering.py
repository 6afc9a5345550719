"""The clustering benchmark: its made-up faces, its reading of pair lists, and DBSCAN's best against scikit-learn itself."""

from __future__ import annotations

from pathlib import Path

import clustering
import numpy as np
import pytest
from sklearn.cluster import DBSCAN

from faceembed.engine.index.clusters.scores import cluster_scores


def test_made_up_faces_lie_as_an_encoders() -> None:
    people, vectors = clustering.made_up(1000)
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
    people, vectors = clustering.made_up(300)
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
    people, vectors = clustering.made_up(200)
    monkeypatch.setattr(clustering, "read_sets", lambda args: ({"few": (people, vectors)}, (people, vectors)))
    document = clustering.run(clustering.parse(["--choose"]))
    entry = document["sets"]["few"]
    assert entry["ours"]["pairwise_f1"] > 0.9
    assert entry["ours"]["steps_anew"].keys() == entry["ours"]["steps_keep"].keys()
    assert f"few: 200 faces, {len(set(people.tolist()))} people" in clustering.report(document)
    assert document["choice"][0]["pairwise_f1"] >= document["choice"][-1]["pairwise_f1"]
