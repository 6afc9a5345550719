"""`faceembed cluster` and `faceembed project`, on an index of made-up faces and on one of the sample photos."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest

from faceembed.cli.project import METHODS
from faceembed.engine.index.files import IndexFiles
from faceembed.engine.index.manifest import read_manifest
from faceembed.engine.index.projection import METHODS as ENGINES
from faceembed.engine.index.shards import FaceTable
from faceembed.engine.index.store import write_index
from faceembed.engine.models.registry import resolve
from faceembed.engine.photos.rows import FACE_SCHEMA
from faceembed.engine.pipeline.settings import EmbedSettings


def made_up(index: Path, built: Path, people: list[int], photos: Path) -> Path:
    """An index in the manner of `built`, of a face a photo, each person's alike; the photos are there, and each is another."""
    import pyarrow as pa

    photos.mkdir(exist_ok=True)
    rng, dimension = np.random.default_rng(0), read_manifest(IndexFiles.of(built))["dimension"]
    centres, rows, vectors = rng.normal(size=(50, dimension)), [], []
    for number, person in enumerate(people):
        path = photos / f"{number:02d}.jpg"
        noise = np.random.default_rng(number)
        if not path.exists():
            cv2.imwrite(str(path), cv2.resize(noise.integers(0, 255, (8, 8, 3)).astype(np.uint8), (96, 96)))
        info = path.stat()
        points = [30.0, 40.0, 60.0, 40.0, 45.0, 55.0, 33.0, 70.0, 57.0, 70.0]
        rows.append(
            {
                "face_id": number, "path": str(path), "face": 0, "x": 10.0, "y": 10.0, "w": 70.0, "h": 75.0,
                "landmarks": points, "score": 1.0, "norm": 1.0, "image_width": 96, "image_height": 96,
                "size": info.st_size, "mtime_ns": info.st_mtime_ns,
            }
        )  # fmt: skip
        vectors.append(centres[person] + 0.1 * noise.normal(size=dimension))
    values = np.array(vectors, np.float32)
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    manifest = {**read_manifest(IndexFiles.of(built)), "faces": len(rows), "next_face_id": len(rows)}
    manifest.pop("format")
    faces = FaceTable(pa.Table.from_pylist(rows, schema=FACE_SCHEMA), values)
    write_index(IndexFiles.of(index), faces, [], manifest, "flat")
    return index


PEOPLE = [0, 0, 0, 1, 1, 2, 3, 3, 0, 4]


@pytest.fixture
def crowd(tmp_path: Path, built: Path) -> Path:
    return made_up(tmp_path / "crowd.faiss", built, PEOPLE, tmp_path / "photos")


def numbers(path: Path) -> list[int]:
    if path.suffix == ".json":
        return [row["cluster"] for row in json.loads(path.read_text())["faces"]]
    return list(pq.read_table(path).column("cluster").to_pylist())


@pytest.mark.parametrize("name", ["c.parquet", "c.json"])
def test_people_and_links(run_json: Any, crowd: Path, tmp_path: Path, name: str) -> None:
    report = run_json("cluster", crowd, "-o", tmp_path / name, "--links", tmp_path / "people")
    assert numbers(tmp_path / name) == PEOPLE
    assert (report["clusters"], report["single"], report["largest"], report["links"]) == (5, 2, 4, 3)
    assert report["new_faces"] == report["faces"] == 10
    assert report["duplicates"] == 0 and report["moved"] == 0
    spec = resolve(EmbedSettings().encoder, task="encoder").spec
    assert spec.threshold is not None and report["threshold"] > spec.threshold
    assert report["threshold_source"] == f"by the threshold of {spec.name}, {spec.threshold:g}"
    assert len(list((tmp_path / "people" / "person-000000").iterdir())) == 4
    assert {os.readlink(link) for link in (tmp_path / "people").glob("person-000001/*")} == {
        str(tmp_path / "photos" / f"{n:02d}.jpg") for n in (3, 4)
    }


@pytest.mark.parametrize("keep", [(), ("--keep",)])
def test_numbers_stay_when_photos_come(run_json: Any, built: Path, tmp_path: Path, keep: tuple[str, ...]) -> None:
    index, photos, out = tmp_path / "a.faiss", tmp_path / "photos", tmp_path / "c.parquet"
    run_json("cluster", made_up(index, built, [0, 0, 0, 1, 1, 2], photos), "-o", out)
    assert numbers(out) == [0, 0, 0, 1, 1, 2]
    (photos / "03.jpg").write_bytes((photos / "05.jpg").read_bytes())  # a changed photo is a new one
    made_up(index, built, [0, 0, 0, 7, 1, 2, 2, 9, 1, 9], photos)
    report = run_json("cluster", index, "-o", out, *keep, "--no-duplicates")
    found = numbers(out)
    assert found[:3] == [0, 0, 0] and found[4:7] == [1, 2, 2] and found[8] == 1
    assert found[3] >= 3 and found[7] == found[9] >= 3 and found[7] != found[3]
    assert (report["new_faces"], report["moved"], report["new_clusters"]) == (5, 0, 2)
    assert report["threshold_source"] == "as in the earlier run"
    made_up(index, built, [0, 0, 0], photos)
    run_json("cluster", index, "-o", out)
    made_up(index, built, [0, 0, 0, 20], photos)
    run_json("cluster", index, "-o", out)
    assert numbers(out)[3] >= 5  # a number is never used again
    run_json("cluster", index, "-o", out, "--fresh")
    assert numbers(out) == [0, 0, 0, 1]


def test_copies_are_marked(run_json: Any, built: Path, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    made_up(tmp_path / "a.faiss", built, [0, 0, 1], photos)
    cv2.imwrite(str(photos / "01.jpg"), cv2.imread(str(photos / "00.jpg")), [cv2.IMWRITE_JPEG_QUALITY, 60])
    index = made_up(tmp_path / "a.faiss", built, [0, 0, 1, 1], photos)
    (photos / "03.jpg").unlink()
    report = run_json("cluster", index, "-o", tmp_path / "c.json")
    rows = json.loads((tmp_path / "c.json").read_text())["faces"]
    assert [row["duplicate_of"] for row in rows] == [None, 0, None, None]
    assert report["duplicates"] == 1 and report["not_compared"] == 1


def test_text(run: Any, crowd: Path, tmp_path: Path) -> None:
    lines = run("cluster", crowd, "-o", tmp_path / "c.json", "--links", tmp_path / "l").stdout.splitlines()
    assert lines[0].endswith("3 people with two faces or more, the largest has 4; 2 alone")
    assert "10 faces in" in lines[0]
    assert lines[-1] == f"look: {tmp_path / 'c.json'}"


def test_bad_input(run: Any, crowd: Path, tmp_path: Path) -> None:
    assert "ends in .parquet or .json" in run("cluster", crowd, "-o", tmp_path / "c.txt", code=2).stderr
    assert "no cosine" in run("cluster", crowd, "-o", tmp_path / "c.json", "--threshold", "2", code=2).stderr
    assert "--keep keeps" in run("cluster", crowd, "-o", tmp_path / "c.json", "--keep", "--fresh", code=2).stderr
    assert "no index at" in run("cluster", tmp_path / "nix.faiss", "-o", tmp_path / "c.json", code=1).stderr
    assert "holds other files" in run("cluster", crowd, "-o", tmp_path / "c.json", "--links", tmp_path, code=2).stderr
    (tmp_path / "d.json").write_text("[]")
    assert (
        "is not a file of clusters that faceembed wrote"
        in run("cluster", crowd, "-o", tmp_path / "d.json", code=2).stderr
    )
    damaged = {"format": 9, "encoder_sha256": "", "next_cluster": 0, "faces": []}
    (tmp_path / "d.json").write_text(json.dumps(damaged))
    assert "is no file of clusters" in run("cluster", crowd, "-o", tmp_path / "d.json", code=1).stderr
    manifest = json.loads(crowd.with_suffix(".faiss.json").read_text())
    run("cluster", crowd, "-o", tmp_path / "c.json")
    manifest["encoder"] = {"name": "another", "sha256": "1" * 64}
    crowd.with_suffix(".faiss.json").write_text(json.dumps(manifest))
    said = run("cluster", crowd, "-o", tmp_path / "c.json", code=1).stderr
    assert f"holds faces of encoder {EmbedSettings().encoder} " in said
    message = run("cluster", crowd, "-o", tmp_path / "e.json", code=2).stderr
    assert "encoder another is not here any more; give the least similarity" in message
    run("cluster", crowd, "-o", tmp_path / "e.json", "--threshold", "0.9")


def test_map(run: Any, run_json: Any, crowd: Path, tmp_path: Path) -> None:
    run("cluster", crowd, "-o", tmp_path / "c.json")
    page = tmp_path / "map.html"
    (tmp_path / "photos" / "09.jpg").unlink()
    report = run_json(
        "project",
        crowd,
        "-o",
        page,
        "--method",
        "pca",
        "--clusters",
        tmp_path / "c.json",
        "--fakes",
        tmp_path / "photos",
    )
    assert report["groupings"] == ["real or fake", "cluster", "folder"]
    assert (report["faces"], report["thumbnails"], report["unreadable"]) == (10, 9, 1)
    assert report["bytes"] == page.stat().st_size
    assert "person 0" in page.read_text() and "alone" in page.read_text()
    assert "10 faces by pca" in run("project", crowd, "-o", page, "--method", "pca", "--thumbnails", "0").stdout


def test_map_of_bad_input(run: Any, crowd: Path, built: Path, tmp_path: Path) -> None:
    page = tmp_path / "map.html"
    run("cluster", crowd, "-o", tmp_path / "c.json")
    made_up(crowd, built, [*PEOPLE, 5], tmp_path / "photos")
    stderr = run("project", crowd, "-o", page, "--method", "pca", "--clusters", tmp_path / "c.json", code=1).stderr
    assert "lacks 1 of the index's 11 faces; run faceembed cluster again" in stderr
    assert "no clusters at" in run("project", crowd, "-o", page, "--clusters", tmp_path / "x.json", code=1).stderr
    assert "no photo of the index is below" in run("project", crowd, "-o", page, "--fakes", "nix", code=1).stderr
    made_up(crowd, built, [1, 2], tmp_path / "photos")
    assert "at least 3 faces" in run("project", crowd, "-o", page, code=1).stderr


def test_methods_are_the_engines() -> None:
    assert ("auto", *ENGINES) == METHODS
