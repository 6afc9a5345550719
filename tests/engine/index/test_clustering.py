"""Groups of faces: scores against their definitions, rank-order distances against the paper's, and what stays the same."""

from __future__ import annotations

import itertools
import json
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from faceembed.engine.index.clusters import group as grouping
from faceembed.engine.index.clusters.duplicates import find_duplicates
from faceembed.engine.index.clusters.group import all_lists, group, same_numbers, suggested_least
from faceembed.engine.index.clusters.links import MARK, Links, safe_name, write_links
from faceembed.engine.index.clusters.output import (
    About,
    check_output,
    clusters_table,
    known_clusters,
    read_clusters,
    write_clusters,
)
from faceembed.engine.index.clusters.rank_order import neighbour_lists, rank_order_edges
from faceembed.engine.index.clusters.scores import cluster_scores
from faceembed.engine.photos.rows import FACE_SCHEMA
from faceembed.errors import DataError, IndexFormatError, UsageError

Floats = NDArray[np.float32]


def crowd(people: int, photos: int, *, seed: int = 0, spread: float = 0.5) -> tuple[NDArray[np.int64], Floats]:
    """People and unit vectors (N, 32), in an order of their own."""
    rng = np.random.default_rng(seed)
    person = rng.permutation(np.repeat(np.arange(people), photos))
    vectors = rng.normal(size=(people, 32))[person] + spread * rng.normal(size=(len(person), 32))
    return person, np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


# ---------------------------------------------------------------------------------------------------------------- scores


def by_definition(people: list[int], groups: list[int]) -> tuple[float, ...]:
    """Pairwise and BCubed precision and recall, face by face and pair by pair."""
    pairs = list(itertools.combinations(range(len(people)), 2))
    joined = {p for p in pairs if groups[p[0]] == groups[p[1]]}
    belong = {p for p in pairs if people[p[0]] == people[p[1]]}
    both = len(joined & belong)
    precision, recall = [], []
    for i in range(len(people)):
        mine = {j for j in range(len(people)) if groups[j] == groups[i]}
        own = {j for j in range(len(people)) if people[j] == people[i]}
        precision.append(len(mine & own) / len(mine))
        recall.append(len(mine & own) / len(own))
    return (
        both / len(joined) if joined else 1.0,
        both / len(belong) if belong else 1.0,
        sum(precision) / len(precision),
        sum(recall) / len(recall),
    )


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(-1, 4)), min_size=1, max_size=25))
@settings(deadline=None, max_examples=150)
def test_scores_are_their_definitions(faces: list[tuple[int, int]]) -> None:
    people, groups = [person for person, _ in faces], [number for _, number in faces]
    scores = cluster_scores([f"name {person}" for person in people], np.array(groups))
    found = (scores.pairwise.precision, scores.pairwise.recall, scores.bcubed.precision, scores.bcubed.recall)
    assert found == pytest.approx(by_definition(people, groups), abs=1e-12)
    for each in (scores.pairwise, scores.bcubed):
        if each.precision + each.recall:
            assert each.f1 == pytest.approx(
                2 / (1 / max(each.precision, 1e-300) + 1 / max(each.recall, 1e-300)), abs=1e-9
            )


def test_scores_of_nothing() -> None:
    with pytest.raises(DataError, match="0 labels of people and 0 of groups"):
        cluster_scores([], [])
    with pytest.raises(DataError, match="2 labels of people and 1 of groups"):
        cluster_scores(["a", "b"], [1])


# ------------------------------------------------------------------------------------------------------------ rank order


def distance_by_definition(lists: list[list[int]], a: int, b: int) -> float:
    """Otto, Wang and Jain, equations 2 to 4."""

    def rank(of: int, face: int) -> int:
        return lists[of].index(face) if face in lists[of] else len(lists[of])

    def missed(of: int, until: int, by: int) -> int:
        return sum(face not in lists[by] for face in lists[of][: rank(of, until) + 1])

    return (missed(a, b, b) + missed(b, a, a)) / max(1, min(rank(a, b), rank(b, a)))


def test_rank_order_distances_are_the_papers() -> None:
    _, vectors = crowd(6, 7, spread=1.0)
    own = np.arange(len(vectors))
    lists = neighbour_lists(vectors, own, vectors, 8)
    exact = np.argsort(-(vectors @ vectors.T) - 2 * np.eye(len(own)), axis=1)[:, :8]
    assert np.array_equal(lists.ids, exact)
    edges, distance = rank_order_edges(lists, own, len(own), least=0.2)
    rows = exact.tolist()
    expected = {
        (min(a, b), max(a, b)): distance_by_definition(rows, a, b)
        for a in own.tolist()
        for b in rows[a][1:]
        if vectors[a] @ vectors[b] >= 0.2
    }
    found = dict(zip(zip(edges.a.tolist(), edges.b.tolist(), strict=True), distance.tolist(), strict=True))
    assert found == pytest.approx(expected)
    assert len(set(distance.tolist())) > 5


def test_a_face_leads_its_own_list_also_beside_copies() -> None:
    vectors = np.repeat(np.eye(3, 8, dtype=np.float32), 4, axis=0)
    lists = neighbour_lists(vectors, np.arange(12), vectors, 3)
    assert lists.ids[:, 0].tolist() == list(range(12))
    assert (lists.similarity[:, 0] == 1).all()


# ---------------------------------------------------------------------------------------------------------------- groups


def test_people_come_together_whatever_the_order() -> None:
    people, vectors = crowd(40, 9)
    groups = group(vectors, least=0.65)
    scores = cluster_scores(people, groups)
    assert scores.pairwise.f1 > 0.98
    assert np.array_equal(groups, group(vectors, least=0.65))
    assert groups[0] == 0 and set(groups.tolist()) == set(range(groups.max() + 1))


def test_a_person_of_many_photos_is_one_group() -> None:
    people, vectors = crowd(3, 250, spread=0.4)
    assert cluster_scores(people, group(vectors, least=0.6)).pairwise.f1 > 0.98


def test_few_faces() -> None:
    _, vectors = crowd(2, 2, spread=0.1)
    assert group(vectors[:0], least=0.65).tolist() == []
    assert group(vectors[:1], least=0.65).tolist() == [0]
    assert len(set(group(vectors, least=0.65).tolist())) == 2
    assert group(vectors, least=1.01).tolist() == [0, 1, 2, 3]


def test_new_faces_join_whom_they_show_and_nobody_else_moves() -> None:
    people, vectors = crowd(20, 8)
    first = people < 15  # five people are new altogether, and of the others half the photos
    first &= np.arange(len(people)) % 2 == 0
    known = np.full(len(people), -1)
    known[first] = group(vectors[first], least=0.65) + 100
    groups = group(vectors, least=0.65, known=known, unused=500)
    assert np.array_equal(groups[first], known[first])
    assert cluster_scores(people, groups).pairwise.f1 > 0.95
    assert (groups[people >= 15] >= 500).all()
    assert np.array_equal(group(vectors, least=0.65, known=groups), groups)


def test_numbers_stay_and_are_used_once() -> None:
    known = np.array([7, 7, 7, 3, 3, -1, -1, 9])
    now = np.array([0, 0, 1, 2, 2, 2, 3, 0])  # 7 lost a face, 9 was swallowed by it, one group is new
    assert same_numbers(now, known, unused=12).tolist() == [7, 7, 12, 3, 3, 3, 13, 7]
    assert same_numbers(now, np.full(8, -1)).tolist() == [0, 0, 1, 2, 2, 2, 3, 0]


def test_least_similarity_lies_above_the_threshold_as_far_as_strangers_lie_below() -> None:
    _, vectors = crowd(200, 2, spread=0.2)
    assert suggested_least(vectors, 0.5) == pytest.approx(0.5 + grouping.LIFT * 0.5, abs=0.02)
    _, alike = crowd(1, 50, spread=0.1)
    assert suggested_least(alike, 0.5) == 0.5
    assert suggested_least(alike[:1], 0.5) == 0.5
    assert suggested_least(vectors, 0.9) == pytest.approx(0.9 + grouping.LIFT * 0.1)


# ------------------------------------------------------------------------------------------------------------ duplicates


def test_only_what_is_near_is_looked_at_and_the_best_is_kept() -> None:
    vectors = np.eye(6, 8, dtype=np.float32)[[0, 0, 0, 1, 1, 2, 3]]
    asked = []

    def same(a: int, b: int) -> bool | None:
        asked.append((a, b))
        return None if 3 in (a, b) else True

    found = find_duplicates(all_lists(vectors), np.array([1, 3, 2, 1, 1, 1, 1], np.float32), same)
    assert found.of.tolist() == [1, -1, 1, -1, -1, -1, -1]
    assert found.not_compared == 1
    assert all(vectors[a] @ vectors[b] == 1 for a, b in asked)


# ---------------------------------------------------------------------------------------------------------------- output


def table(count: int, *, start: int = 0) -> pa.Table:
    rows = [
        {
            "face_id": start + i,
            "path": f"/photos/{i}.jpg",
            "face": 0,
            **dict.fromkeys("xywh", float(i)),
            "landmarks": [0.0] * 10,
            "score": 1.0,
            "norm": 1.0,
            "image_width": 9,
            "image_height": 9,
            "size": 5 + i,
            "mtime_ns": i,
        }
        for i in range(count)
    ]
    return pa.Table.from_pylist(rows, schema=FACE_SCHEMA)


@pytest.mark.parametrize("name", ["c.parquet", "c.json"])
def test_output_is_read_back(tmp_path: Path, name: str) -> None:
    rows = clusters_table(table(4, start=10), np.array([2, 2, 5, 2]), np.array([-1, 0, -1, -1]))
    about = About("an encoder", "abc", 0.935, 6)
    write_clusters(tmp_path / name, rows, about)
    again, read = read_clusters(tmp_path / name)
    assert read == about
    assert again.to_pylist() == rows.to_pylist()
    assert again.column("size").to_pylist() == [3, 3, 1, 3]
    assert again.column("duplicate_of").to_pylist() == [None, 10, None, None]


def test_a_face_is_known_by_its_photo_not_by_its_number() -> None:
    before = clusters_table(table(3), np.array([4, 5, 6]), np.full(3, -1))
    now = clusters_table(table(4, start=50), np.full(4, -1), np.full(4, -1))
    assert known_clusters(now, before).tolist() == [4, 5, 6, -1]
    changed = now.set_column(now.column_names.index("mtime_ns"), "mtime_ns", pa.array([0, 99, 2, 3]))
    assert known_clusters(changed, before).tolist() == [4, -1, 6, -1]


def test_output_that_is_something_else(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"ends in \.parquet or \.json"):
        check_output("clusters.txt")
    for name, text in (("a.json", "{}"), ("b.json", "no"), ("c.json", json.dumps({"format": 9, "faces": []}))):
        (tmp_path / name).write_text(text)
        with pytest.raises(IndexFormatError, match="is no file of clusters"):
            read_clusters(tmp_path / name)


# ----------------------------------------------------------------------------------------------------------------- links

HOSTILE = ["/p/../../etc/passwd", "/p/-rf; rm *.jpg", "/p/\udcff\n<b>.jpg", "/p/" + "ü" * 120 + ".jpg", "/p/$(id).jpeg"]


@pytest.mark.parametrize("path", HOSTILE)
def test_names_of_links_are_harmless(path: str) -> None:
    name = safe_name(path, 17)
    assert name.startswith("17-")
    assert not set(name) & set("/\\ \n\t;*$()<>&|'\"`")
    assert len(os.fsencode(name)) < 200


def test_links_are_made_anew_and_nothing_else_is_touched(tmp_path: Path) -> None:
    folder = tmp_path / "people"
    ids = np.arange(5)
    paths = [str(tmp_path / "p" / os.path.basename(path)) for path in HOSTILE]
    (tmp_path / "p").mkdir()
    for path in paths:
        Path(path).touch()
    assert write_links(folder, paths, ids, np.array([3, 3, 8, 8, 1])) == Links(2, 4, [])
    assert sorted(entry.name for entry in folder.iterdir()) == [MARK, "person-000003", "person-000008"]
    links = {os.readlink(link) for link in folder.glob("person-*/*")}
    assert links == set(paths[:4])
    twice = [paths[1], paths[1], paths[2], paths[1]]  # somebody in a mirror, too
    made = write_links(tmp_path / "twice", twice, np.array([9, 4, 5, 6]), np.array([1, 1, 1, 2]), least_faces=1)
    assert made == Links(2, 3, [])
    assert sorted(path.name for path in (tmp_path / "twice").glob("person-000001/*")) == sorted(
        [safe_name(paths[1], 9), safe_name(paths[2], 5)]
    )
    note = folder / "person-000008" / "note.txt"
    note.write_text("mine")
    assert write_links(folder, paths, ids, np.array([3, 3, 3, 4, 5]), least_faces=3) == Links(1, 3, [])
    assert sorted(path.name for path in folder.glob("person-*/*")) == sorted(
        ["note.txt", *(safe_name(path, i) for i, path in enumerate(paths[:3]))]
    )
    other = tmp_path / "photos"
    other.mkdir()
    (other / "a.jpg").touch()
    with pytest.raises(UsageError, match="holds other files"):
        write_links(other, HOSTILE, ids, np.zeros(5, np.int64))
    with pytest.raises(UsageError, match="is a file"):
        write_links(other / "a.jpg", HOSTILE, ids, np.zeros(5, np.int64))


def test_photos_that_are_not_there_get_no_link(tmp_path: Path) -> None:
    """A link that leads nowhere is no success; where all would, a disk is away, and what there was stays."""
    paths = [str(tmp_path / f"{number}.jpg") for number in range(4)]
    for path in paths[:3]:
        Path(path).touch()
    made = write_links(tmp_path / "people", paths, np.arange(4), np.array([0, 0, 1, 1]))
    assert made == Links(2, 3, [paths[3]])
    assert all(link.exists() for link in (tmp_path / "people").glob("person-*/*"))
    before = sorted((tmp_path / "people").rglob("*"))
    for path in paths[:3]:
        Path(path).unlink()
    with pytest.raises(DataError, match=r"none of the 4 photos .*not mounted\? .*relocate"):
        write_links(tmp_path / "people", paths, np.arange(4), np.array([0, 0, 1, 1]))
    assert sorted((tmp_path / "people").rglob("*")) == before


def test_somebody_twice_on_a_photo_gets_one_link(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").touch()
    made = write_links(
        tmp_path / "people", [str(tmp_path / "a.jpg")] * 3, np.arange(3), np.array([0, 0, 1]), least_faces=1
    )
    assert made == Links(2, 2, [])
    assert sorted(path.name for path in (tmp_path / "people").glob("person-*/*")) == ["0-a.jpg", "2-a.jpg"]


def test_a_moved_photo_keeps_its_cluster(tmp_path: Path) -> None:
    """Its faces have their ids still, and their boxes."""
    before = _rows(4).append_column("cluster", pa.array([5, 6, 7, 8]))
    moved = _rows(4, folder="/elsewhere", mtime=9)
    np.testing.assert_array_equal(known_clusters(moved, before), [5, 6, 7, 8])
    other = _rows(4, folder="/elsewhere", first_id=2)  # ids of another index
    np.testing.assert_array_equal(known_clusters(other, before), [-1, -1, -1, -1])


def _rows(count: int, *, folder: str = "/p", mtime: int = 1, first_id: int = 0) -> pa.Table:
    numbers = list(range(count))
    boxes = {name: [number + 0.5 for number in numbers] for name in "xywh"}
    return pa.table(
        {
            "face_id": [first_id + number for number in numbers],
            "path": [f"{folder}/{number}.jpg" for number in numbers],
            "face": [0] * count,
            "bytes": [100 + number for number in numbers],
            "mtime_ns": [mtime] * count,
            **boxes,
        }
    )
