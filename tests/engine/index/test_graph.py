"""Neighbours, edges and clusters, against brute force and by construction."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from faceembed.engine.index import graph
from faceembed.engine.index.graph import Edges, mutual, neighbours, whisper, within_groups


def unit(count: int, dimension: int, seed: int) -> NDArray[np.float32]:
    values = np.random.default_rng(seed).normal(size=(count, dimension)).astype(np.float32)
    return np.asarray(values / np.linalg.norm(values, axis=1, keepdims=True), np.float32)


def test_neighbours_are_the_nearest() -> None:
    points, queries = unit(300, 16, 0), unit(40, 16, 1)
    ids, similarity = neighbours(queries, points, 7)
    exact = queries @ points.T
    assert np.array_equal(ids, np.argsort(-exact, axis=1)[:, :7])
    assert np.allclose(similarity, -np.sort(-exact, axis=1)[:, :7], atol=1e-6)
    assert neighbours(queries, points[:3], 7)[0].shape == (40, 3)


def test_inverted_lists_find_nearly_all(monkeypatch: pytest.MonkeyPatch) -> None:
    centres = unit(200, 16, 0)
    points = np.repeat(centres, 20, axis=0) + 0.3 * unit(4000, 16, 1)
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    exact = neighbours(points, points, 10)[0]
    monkeypatch.setattr(graph, "_EXACT_WORK", 0)
    near = neighbours(points, points, 10)[0]
    shared = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(exact.tolist(), near.tolist(), strict=True)])
    assert shared > 0.95


def test_mutual_neighbours() -> None:
    ids = np.array([[0, 1], [1, 0], [2, 0], [3, -1]])
    similarity = np.array([[1, 0.8], [1, 0.8], [1, 0.5], [1, 0]], np.float32)
    edges = mutual(ids, similarity)  # 2 names 0, but 0 does not name 2
    assert list(zip(edges.a.tolist(), edges.b.tolist(), strict=True)) == [(0, 1)]
    assert edges.weight.tolist() == pytest.approx([0.8])


@pytest.mark.parametrize("k", [2, 50])
def test_edges_within_groups(k: int) -> None:
    vectors, groups = unit(60, 8, 0), np.sort(np.random.default_rng(1).integers(6, size=60))
    edges = within_groups(vectors, groups, k, least=0.1)
    assert (groups[edges.a] == groups[edges.b]).all()
    assert (edges.a < edges.b).all()
    found = set(zip(edges.a.tolist(), edges.b.tolist(), strict=True))
    assert len(found) == len(edges)
    exact = vectors @ vectors.T
    for i in range(60):
        others = [j for j in np.flatnonzero(groups == groups[i]) if j != i]
        best = sorted(others, key=lambda j: -exact[i, j])[:k]
        assert all((min(i, j), max(i, j)) in found for j in best if exact[i, j] >= 0.1)
    assert len(edges.above(0.5)) == int((edges.weight >= 0.5).sum())


def test_edges_join_without_repeats() -> None:
    a = Edges(np.array([0, 1]), np.array([1, 2]), np.array([0.5, 0.6], np.float32))
    b = Edges(np.array([1, 3]), np.array([2, 4]), np.array([0.6, 0.7], np.float32))
    joined = a.join(b)
    assert list(zip(joined.a.tolist(), joined.b.tolist(), strict=True)) == [(0, 1), (1, 2), (3, 4)]


def cliques(sizes: list[int], bridge: float) -> tuple[int, Edges, NDArray[np.int64]]:
    """Complete groups with edges of 0.8, each joined to the next by one edge of ``bridge``."""
    starts = np.cumsum([0, *sizes])
    truth = np.repeat(np.arange(len(sizes)), sizes)
    pairs = [(i, j, 0.8) for i in range(starts[-1]) for j in range(i + 1, starts[-1]) if truth[i] == truth[j]]
    pairs += [(int(starts[k]) - 1, int(starts[k]), bridge) for k in range(1, len(sizes))]
    a, b, weight = zip(*pairs, strict=True)
    return int(starts[-1]), Edges(np.array(a), np.array(b), np.array(weight, np.float32)), truth


@given(st.lists(st.integers(4, 9), min_size=2, max_size=8))
@settings(deadline=None, max_examples=30)
def test_a_bridge_joins_no_clusters(sizes: list[int]) -> None:
    count, edges, truth = cliques(sizes, 0.6)
    assert np.array_equal(whisper(count, edges), truth)


def test_clusters_of_nothing() -> None:
    none = Edges(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32))
    assert whisper(3, none).tolist() == [0, 1, 2]
    apart = Edges(np.array([0]), np.array([1]), np.array([-0.5], np.float32))
    assert whisper(2, apart).tolist() == [0, 1]
