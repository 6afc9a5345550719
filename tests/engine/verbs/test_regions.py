"""`regions`: names of other programs go to the faces at their places, and on to `cluster --names`."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from PIL import Image

from faceembed.engine.index.clusters.output import read_clusters
from faceembed.engine.verbs.cluster import ClusterSettings, cluster
from faceembed.engine.verbs.regions import regions
from faceembed.errors import DataError, UsageError
from tests.engine.photos.test_regions import ANN, packet
from tests.engine.verbs.albums import Counted, album, run

WHOLE = (
    ANN.replace('x="0.3"', 'x="0.5"')
    .replace('y="0.6"', 'y="0.5"')
    .replace('w="0.2"', 'w="0.9"')
    .replace('h="0.4"', 'h="0.8"')
)
CORNER = WHOLE.replace('x="0.5"', 'x="0.05"').replace('w="0.9"', 'w="0.1"').replace("Ann", "Nobody")


@pytest.fixture
def index(tmp_path: Path, counted: Counted) -> Path:
    run(album(tmp_path / "photos", 4), tmp_path / "p.faiss")
    return tmp_path / "p.faiss"


def sidecar(index: Path, number: int, items: str) -> None:
    with Image.open(index.with_name("photos") / f"{number:05d}.png") as picture:
        side = picture.size
    path = index.with_name("photos") / f"{number:05d}.png.xmp"
    path.write_bytes(packet(items, width=side[0], height=side[1]))


def test_names_go_to_faces_and_to_clusters(index: Path) -> None:
    sidecar(index, 0, WHOLE + CORNER)
    sidecar(index, 2, WHOLE)
    sidecar(index, 3, WHOLE.replace("Ann", "Bob"))
    (index.with_name("photos") / "00001.png").unlink()
    said: list[str] = []
    report = regions(index, index.with_name("names.csv"), notice=said.append)
    assert (report.photos, report.named, report.people, report.elsewhere, report.unread) == (4, 3, 2, 1, 1)
    assert any("00001.png" in line for line in said)
    with index.with_name("names.csv").open() as file:
        rows = [(Path(row["path"]).name, row["face"], row["name"]) for row in csv.DictReader(file)]
    assert rows == [("00000.png", "0", "Ann"), ("00002.png", "0", "Ann"), ("00003.png", "0", "Bob")]
    settings = ClusterSettings(threshold=0.999, duplicates=False)
    cluster(index, index.with_name("who.parquet"), settings=settings, names=index.with_name("names.csv"))
    table = read_clusters(index.with_name("who.parquet"))[0].to_pylist()
    assert [row["name"] for row in table] == ["Ann", None, "Ann", "Bob"] and table[0]["cluster"] == table[2]["cluster"]
    regions(index, index.with_name("names.csv"))  # what we wrote may be written again


def test_nothing_to_find(index: Path) -> None:
    sidecar(index, 0, CORNER)
    with pytest.raises(
        DataError, match=r"no face of it has a name in the metadata of its 4 photos.*1 names are elsewhere"
    ):
        regions(index, index.with_name("names.csv"))
    assert not index.with_name("names.csv").exists()
    index.with_name("mine.csv").write_text("mine")
    with pytest.raises(UsageError, match=r"is not a table of names"):
        regions(index, index.with_name("mine.csv"))
    with pytest.raises(DataError, match=r"no index"):
        regions(index.with_name("none.faiss"), index.with_name("names.csv"))
