"""A search finds what is there: as many hits as there are, the nearest ones, copies and ties in one order, in every kind of index."""

from __future__ import annotations

import concurrent.futures
import json
from pathlib import Path

import faiss
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from faceembed.engine.index import graph
from faceembed.engine.index.copies import Groups, first_with
from faceembed.engine.index.effort import Effort, Searcher, Step, calibrate, unlinked_in
from faceembed.engine.index.files import IndexFiles
from faceembed.engine.index.kinds import check_index_type, effort_name, make
from faceembed.engine.index.shards import FaceTable
from faceembed.engine.index.store import FaceIndex, load_faces, write_index
from faceembed.engine.photos.rows import FACE_SCHEMA
from faceembed.errors import IndexFormatError, UsageError

D = 48
Floats = NDArray[np.float32]
PROMISED = {10: 0.995, 100: 0.98, 1000: 0.98}


def unit(values: Floats) -> Floats:
    return np.asarray(values / np.linalg.norm(values, axis=1, keepdims=True), np.float32)


def faces_like(count: int, seed: int = 0) -> Floats:
    """Vectors as encoders give them: a large mean that all share, a few directions that matter most, people of several photos."""
    rng = np.random.default_rng(seed)
    scale = 1 / np.sqrt(1 + np.arange(D))
    people = rng.normal(size=(max(1, count // 4), D)) * scale
    photos = people[rng.integers(len(people), size=count)] + 0.7 * rng.normal(size=(count, D)) * scale
    return unit((photos + 0.6).astype(np.float32))


def table(vectors: Floats) -> FaceTable:
    zeros = {field.name: "" if pa.types.is_string(field.type) else 0 for field in FACE_SCHEMA}
    rows = [{**zeros, "face_id": i, "path": f"/{i}.jpg", "landmarks": [0.0] * 10} for i in range(len(vectors))]
    return FaceTable(pa.Table.from_pylist(rows, FACE_SCHEMA), vectors)


def write(path: Path, vectors: Floats, kind: str, notices: list[str] | None = None) -> FaceIndex:
    manifest = {"encoder": {"name": "e", "sha256": "a"}, "dimension": D, "faces": len(vectors)}
    manifest |= {"no_face": 0, "failed": 0, "next_face_id": len(vectors)}
    say = [].append if notices is None else notices.append
    write_index(IndexFiles.of(path), table(vectors), [], manifest, kind, notice=say)
    return FaceIndex(path)


KINDS = [
    "flat",
    "hnsw",
    "ivf",
    "SQ8",
    "PCA32,IVF24,Flat",
    "IDMap,IVF24,Flat",
    "IVF24,PQ24x4fs,RFlat",
    "PCA32,Flat,RFlat",
]
KINDS += ["PCA32,Flat", "PCAR24,SQ8", "IVF24_HNSW16,SQ8", "HNSW16,SQ8", "ITQ32,LSH", "L2norm,Flat"]


@pytest.fixture(scope="module")
def crowd() -> Floats:
    return faces_like(1200)


@pytest.fixture(scope="module")
def strangers() -> tuple[Floats, Floats]:
    """Queries that are in no index, and their true similarities to the crowd, falling."""
    queries = faces_like(1240)[1200:]
    return queries, -np.sort(-(queries @ faces_like(1200).T), axis=1)


@pytest.mark.parametrize("kind", KINDS)
def test_the_nearest_are_found_and_as_many_as_there_are(
    tmp_path: Path, crowd: Floats, strangers: tuple[Floats, Floats], kind: str
) -> None:
    notices: list[str] = []
    try:
        index = write(tmp_path / "p.faiss", crowd, kind, notices)
    except UsageError as error:  # codes too coarse for these vectors are refused, with what was measured
        assert kind.startswith("ITQ")
        assert "does not find what is nearest" in str(error)
        assert not (tmp_path / "p.faiss").exists()
        return
    queries, true = strangers
    for k, promised in PROMISED.items():
        hits = index.search(queries, k=k)
        assert [len(row) for row in hits] == [k] * len(queries)
        found = np.array([[hit.similarity for hit in row] for row in hits])
        assert (np.diff(found, axis=1) <= 0).all()
        coarse = kind not in ("flat", "hnsw", "ivf")
        assert (found >= true[:, k - 1 : k] - 1e-6).mean() >= (0.9 if coarse else promised)
        assert np.allclose(found[:, 0], [queries[i] @ crowd[row[0].face_id] for i, row in enumerate(hits)], atol=1e-6)
    assert [len(row) for row in index.search(queries[:2], k=5000)] == [1200, 1200]
    own = index.search(crowd[:40], k=3)
    assert [row[0].face_id for row in own] == list(range(40))
    assert [row[0].similarity for row in own] == pytest.approx([1] * 40, abs=1e-5)
    assert bool(notices) == (kind != "flat")
    assert all("of the 10 nearest" in line and "against exact search" in line for line in notices)


@pytest.mark.parametrize("kind", ["hnsw", "ivf", "IVF24,PQ24x4fs,RFlat"])
def test_what_was_measured_is_kept_and_grows_with_k(tmp_path: Path, crowd: Floats, kind: str) -> None:
    write(tmp_path / "p.faiss", crowd, kind)
    steps = json.loads((tmp_path / "p.faiss.json").read_text())["search"]
    assert [step["k"] for step in steps] == [10, 100, 1000]
    assert [step["effort"] for step in steps] == sorted(step["effort"] for step in steps)
    effort = Effort.from_json(steps)
    values = [effort.at(k, 10**6)[0] for k in (1, 10, 30, 100, 500, 1000, 4000)]
    assert values == sorted(values)
    assert (values[1], values[3], values[5], values[6]) == (*(s["effort"] for s in steps), 4 * steps[2]["effort"])


@pytest.mark.parametrize("kind", ["flat", "hnsw", "ivf", "SQ8"])
def test_copies_hide_nobody(tmp_path: Path, kind: str) -> None:
    vectors = faces_like(700)
    vectors = np.concatenate([vectors, np.repeat(vectors[:1], 300, axis=0)])
    index = write(tmp_path / "p.faiss", vectors, kind)
    assert len(index) == 1000
    stored = faiss.read_index(str(tmp_path / "p.faiss")).ntotal
    assert stored == (1000 if kind == "flat" else 700)
    hits = index.search(vectors[:700], k=1)
    assert sum(row[0].face_id == number for number, row in enumerate(hits)) == 700
    (copies,) = index.search(vectors[:1], k=400)
    assert [hit.face_id for hit in copies[:301]] == [0, *range(700, 1000)]
    assert len({hit.similarity for hit in copies[:301]}) == 1
    assert len({hit.face_id for hit in copies}) == 400
    assert np.array_equal(load_faces(IndexFiles.of(tmp_path / "p.faiss")).vectors, vectors)


@pytest.mark.parametrize("kind", ["flat", "hnsw", "ivf"])
@pytest.mark.parametrize("where", [(3, 40, 77), (99, 5, 60)])
def test_ties_come_in_one_order_whatever_k_is(tmp_path: Path, kind: str, where: tuple[int, int, int]) -> None:
    vectors = faces_like(100)
    vectors[list(where)] = vectors[7]  # four copies of one photo
    # And others that are as alike to the query without being equal: unit vectors at right angles to it.
    axes = np.eye(D, dtype=np.float32)
    vectors = np.concatenate([vectors, axes])
    index = write(tmp_path / "p.faiss", vectors, kind)
    for query in (vectors[7], axes[0]):
        whole = [(hit.face_id, hit.similarity) for hit in index.search(query[None], k=148)[0]]
        assert whole == sorted(whole, key=lambda hit: (-hit[1], hit[0]))
        for k in range(1, 148, 5 if kind == "flat" else 29):
            some = [(hit.face_id, hit.similarity) for hit in index.search(query[None], k=k)[0]]
            assert [hit[0] for hit in some] == [hit[0] for hit in whole[:k]]
    copies = sorted({7, *where})
    assert [hit.face_id for hit in index.search(vectors[7][None], k=4)[0]] == copies


@given(st.lists(st.integers(0, 5), min_size=1, max_size=40), st.integers(0, 2**32 - 1))
@settings(max_examples=15, deadline=None)
def test_copies_are_found_and_expanded(kinds: list[int], seed: int) -> None:
    which = np.array(kinds)
    vectors = np.random.default_rng(seed).normal(size=(6, 8)).astype(np.float32)[which]
    ids = np.random.default_rng(seed).permutation(1000)[: len(which)].astype(np.int64)
    first = first_with(vectors, ids)
    assert [int(ids[which == kind].min()) for kind in kinds] == first.tolist()
    groups = Groups(ids, first)
    wanted = np.unique(groups.of(first))
    rows, place = groups.members(wanted)
    assert sorted(rows.tolist()) == list(range(len(which)))
    for number in range(len(wanted)):
        mine = rows[place == number]
        assert len(set(which[mine].tolist())) == 1
        assert ids[mine].tolist() == sorted(ids[mine].tolist())


def test_threads_with_other_ks_do_not_change_each_other(tmp_path: Path, crowd: Floats) -> None:
    index = write(tmp_path / "p.faiss", crowd, "ivf")
    alone = {k: [[hit.face_id for hit in row] for row in index.search(crowd[:20], k=k)] for k in (1, 10, 700)}
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            asked = [(k, pool.submit(index.search, crowd[:20], k=k)) for k in (1, 10, 700, 10, 1)]
            for k, answer in asked:
                assert [[hit.face_id for hit in row] for row in answer.result()] == alone[k]


def test_parts_that_nothing_leads_to_are_found_all_the_same(crowd: Floats) -> None:
    index = make("hnsw", D)
    index.add(crowd[:500])
    links = faiss.vector_to_array(index.hnsw.neighbors)
    links[:] = -1  # a graph without an edge
    faiss.copy_array_to_vector(links, index.hnsw.neighbors)
    assert (index.search(crowd[:3], 50)[1] < 0).any()
    found, similarity = Searcher(index, Effort((Step(10, 64, 1, 1.0),))).nearest(crowd[:3], 50)
    true = -np.sort(-(crowd[:3] @ crowd[:500].T), axis=1)[:, :50]
    assert np.allclose(similarity, true, atol=1e-6)
    assert (found >= 0).all()
    steps = calibrate(Searcher(index, Effort()), crowd[:500]).steps
    assert [step.recall for step in steps] == [1, 1, 1]


def test_a_face_that_no_link_leads_to_is_found(crowd: Floats) -> None:
    index = make("hnsw", D)
    index.add(crowd[:400])
    links = faiss.vector_to_array(index.hnsw.neighbors)
    for lost in (5, 300):
        links[links == lost] = lost + 1  # who led to it leads to another; a list ends at its first -1
    faiss.copy_array_to_vector(links, index.hnsw.neighbors)
    steps = (Step(10, 64, 1, 1.0),)
    effort = Effort(steps, unlinked_in(Searcher(index, Effort(steps)), crowd[:400]))
    assert {5, 300} <= set(effort.unlinked) and len(effort.unlinked) < 20
    found, similarity = Searcher(index, effort).nearest(crowd[:400], 10)
    assert (found == np.arange(400)[:, None]).any(axis=1).all()
    assert all(len(set(row)) == 10 for row in found.tolist())
    assert np.allclose(similarity[:, 9], -np.sort(-(crowd[:400] @ crowd[:400].T), axis=1)[:, 9], atol=1e-3)
    assert Effort.from_json(effort.to_json(), list(effort.unlinked)) == effort


@pytest.mark.parametrize("kind", ["hnsw", "ivf", "flat"])
def test_an_index_without_measured_efforts_is_read(tmp_path: Path, crowd: Floats, kind: str) -> None:
    """As versions before wrote it: no efforts, no ids of vectors."""
    import pyarrow.parquet as pq

    path = tmp_path / "p.faiss"
    write(path, crowd, kind)
    stored = json.loads((tmp_path / "p.faiss.json").read_text())
    del stored["search"]
    (tmp_path / "p.faiss.json").write_text(json.dumps({**stored, "format": 1}))
    pq.write_table(
        pq.read_table(tmp_path / "p.faiss.parquet").drop_columns(["vector_id"]), tmp_path / "p.faiss.parquet"
    )
    index = FaceIndex(path)
    queries = faces_like(1240)[1200:1220]
    true = -np.sort(-(queries @ crowd.T), axis=1)
    for k, least in ((10, 0.97), (1000, 0.95)):
        hits = index.search(queries, k=k)
        found = np.array([[hit.similarity for hit in row] for row in hits])
        assert found.shape == (20, k)
        assert (found >= true[:, k - 1 : k] - 1e-6).mean() >= least
    assert np.array_equal(load_faces(IndexFiles.of(path)).vectors, crowd)


@pytest.mark.parametrize("damage", ["x", [{}], [{"k": 0, "effort": 1, "candidates": 1, "recall": 1}], 7])
def test_damaged_efforts_are_one_line(tmp_path: Path, crowd: Floats, damage: object) -> None:
    write(tmp_path / "p.faiss", crowd[:50], "flat")
    stored = json.loads((tmp_path / "p.faiss.json").read_text())
    (tmp_path / "p.faiss.json").write_text(json.dumps({**stored, "search": damage}))
    with pytest.raises(IndexFormatError, match=r"p\.faiss\.json is damaged: 'search' in it") as caught:
        FaceIndex(tmp_path / "p.faiss")
    assert "\n" not in str(caught.value)


def test_a_lossy_index_without_its_vectors_is_one_line(tmp_path: Path, crowd: Floats) -> None:
    write(tmp_path / "p.faiss", crowd[:200], "SQ8")
    (tmp_path / "p.faiss.vectors.npy").unlink()
    with pytest.raises(IndexFormatError, match=r"p\.faiss needs p\.faiss\.vectors\.npy, which is gone"):
        FaceIndex(tmp_path / "p.faiss")


def test_an_index_with_faces_that_are_not_finite(tmp_path: Path, crowd: Floats) -> None:
    """As versions before wrote it: found are the others, and what needs all vectors says so in one line."""
    write(tmp_path / "p.faiss", crowd[:50], "flat")
    damaged = crowd[:50].copy()
    damaged[7] = np.nan
    flat = faiss.IndexFlatIP(D)
    store = faiss.IndexIDMap2(flat)
    store.add_with_ids(damaged, np.arange(50))
    faiss.write_index(store, str(tmp_path / "p.faiss"))
    (hits,) = FaceIndex(tmp_path / "p.faiss").search(crowd[:1], k=50)
    assert sorted(hit.face_id for hit in hits) == [number for number in range(50) if number != 7]
    with pytest.raises(IndexFormatError, match="holds 1 faces whose embedding is not finite"):
        load_faces(IndexFiles.of(tmp_path / "p.faiss"))


@pytest.mark.parametrize(("kind", "reason"), [("NSG16,Flat", "IndexNSG"), ("PCA24,NSG16,Flat", "IndexNSG")])
def test_kinds_that_cannot_give_any_number_are_refused(kind: str, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        check_index_type(kind, D)


def test_codes_that_rank_wrongly_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    vectors = unit(np.random.default_rng(0).normal(size=(1000, D)).astype(np.float32))  # no direction matters more
    with pytest.raises(
        UsageError, match=r"'PCA1,Flat' does not find what is nearest: \d+ % of the 10 nearest"
    ) as caught:
        write(tmp_path / "p.faiss", vectors, "PCA1,Flat")
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.glob("p.faiss"))


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("PCA24,IVF4,Flat", "nprobe"),
        ("IVF4,PQ24x4,RFlat", "nprobe"),
        ("PCA24,HNSW16,RFlat", "efSearch"),
        ("PCA32,Flat", ""),
    ],
)
def test_what_is_wrapped_is_seen(kind: str, name: str) -> None:
    assert effort_name(make(kind, D)) == name


def test_edges_of_clusters_are_found_as_well(crowd: Floats, monkeypatch: pytest.MonkeyPatch) -> None:
    exact = graph.neighbours(crowd, crowd, 17)[1]
    monkeypatch.setattr(graph, "_EXACT_WORK", 0)
    ids, near = graph.neighbours(crowd, crowd, 17)
    assert (ids >= 0).all()
    assert (near >= exact[:, -1:] - 1e-5).mean() >= 0.98
    assert np.allclose(near[:50, :5], np.einsum("qkd,qd->qk", crowd[ids[:50, :5]], crowd[:50]), atol=1e-5)
