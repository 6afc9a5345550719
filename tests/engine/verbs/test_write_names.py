"""`write-names`: names into sidecars, round and back; photos, archives and sidecars of others stay as they are."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from faceembed.engine.verbs.cluster import ClusterSettings, cluster
from faceembed.engine.verbs.regions import regions
from faceembed.engine.verbs.write_names import write_names
from faceembed.errors import DataError, PairListError
from tests.engine.photos.test_regions import ANN, packet
from tests.engine.verbs.albums import Counted, album, picture, run

NAMES = {"00000.png": "Ann", "00002.png": "Zoë & co"}


@pytest.fixture
def index(tmp_path: Path, counted: Counted) -> Path:
    run(album(tmp_path / "photos", 4), tmp_path / "p.faiss")
    return tmp_path / "p.faiss"


def listed(index: Path, names: dict[str, str]) -> Path:
    path = index.with_name("names.csv")
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("path", "name"), *((f"photos/{photo}", name) for photo, name in names.items())])
    return path


def state(index: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(index.with_name("photos").iterdir())}


def test_there_and_back(index: Path) -> None:
    before = state(index)
    report = write_names(index, listed(index, NAMES))
    assert (report.photos, report.named, report.people, report.changed, report.left) == (2, 2, 2, 2, 0)
    after = state(index)
    assert {name: after[name] for name in before} == before and set(after) - set(before) == {
        f"{name}.xmp" for name in NAMES
    }
    regions(index, index.with_name("found.csv"))
    with index.with_name("found.csv").open(encoding="utf-8") as file:
        assert {Path(row["path"]).name: row["name"] for row in csv.DictReader(file)} == NAMES
    assert write_names(index, index.with_name("found.csv")).changed == 0, (
        "what regions writes is taken, and there already"
    )
    report = write_names(index, listed(index, {"00002.png": "Zoë"}))
    assert (report.changed, report.named) == (2, 1), "one is another, one is not given any more"
    assert set(state(index)) - set(before) == {"00002.png.xmp"}


def test_names_of_clusters(index: Path) -> None:
    output = index.with_name("who.parquet")
    cluster(index, output, settings=ClusterSettings(threshold=0.999, duplicates=False), names=listed(index, NAMES))
    assert write_names(index, output).people == 2
    cluster(index, index.with_name("nobody.parquet"), settings=ClusterSettings(threshold=0.999, duplicates=False))
    with pytest.raises(DataError, match=r"nobody\.parquet: nobody in it has a name"):
        write_names(index, index.with_name("nobody.parquet"))


def test_what_is_left_alone_is_said(index: Path) -> None:
    photos = index.with_name("photos")
    (photos / "00000.png.xmp").write_bytes(packet(ANN))
    (photos / "00001.png").unlink()
    picture(photos / "00002.png", 77, side=30)
    before, said = state(index), list[str]()
    names = {f"{number:05d}.png": f"n{number}" for number in range(4)}
    report = write_names(index, listed(index, names), notice=said.append)
    assert (report.photos, report.left, report.changed) == (1, 3, 1)
    for name, why in (
        ("00000", "of another program"),
        ("00001", "is gone"),
        ("00002", "another photo than the index has"),
    ):
        assert any(name in line and why in line for line in said), said
    after = state(index)
    assert after.pop("00003.png.xmp") and after == before


def test_a_name_of_nobody_in_the_index(index: Path) -> None:
    with pytest.raises(PairListError, match=r"other\.png"):
        write_names(index, listed(index, {"other.png": "Ann"}))
    assert len(state(index)) == 4
