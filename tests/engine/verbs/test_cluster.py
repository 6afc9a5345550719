"""What `cluster` leaves of people who are in the index no more: nothing, however they went."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from faceembed.engine.index.clusters.output import read_clusters
from faceembed.engine.index.lock import writing
from faceembed.engine.index.store import FaceIndex
from faceembed.engine.verbs.cluster import ClusterReport, ClusterSettings, cluster
from faceembed.engine.verbs.relocate import relocate
from faceembed.engine.verbs.remove import remove
from faceembed.errors import DataError, IndexBusyError, UsageError
from tests.engine.verbs.albums import album, run

pytestmark = pytest.mark.usefixtures("counted")
Change = Callable[[Path, Path], object]


@pytest.fixture
def index(tmp_path: Path) -> Path:
    album(tmp_path / "nas", 6)
    run(tmp_path / "nas", tmp_path / "p.faiss")
    return tmp_path / "p.faiss"


def grouped(index: Path, *, least_faces: int = 1, fresh: bool = False, name: str = "who.parquet") -> ClusterReport:
    settings = ClusterSettings(threshold=0.999, duplicates=False, least_faces=least_faces, fresh=fresh)
    return cluster(index, index.with_name(name), settings=settings, links=index.with_name("by-person"))


def links(index: Path) -> list[str]:
    """Where the links lead; each must lead somewhere."""
    found = list(index.with_name("by-person").glob("person-*/*"))
    assert all(link.exists() for link in found)
    return sorted(os.path.basename(os.readlink(link)) for link in found)


def emptied(nas: Path, index: Path) -> None:
    shutil.rmtree(nas)
    nas.mkdir()
    run(nas, index, prune=True)


def pruned(nas: Path, index: Path) -> None:
    for number in range(4):
        (nas / f"{number:05d}.png").unlink()
    run(nas, index, prune=True)


def moved(nas: Path, index: Path) -> None:
    nas.rename(nas.with_name("new"))
    relocate(index, nas, nas.with_name("new"))


@pytest.mark.parametrize(("name", "fresh"), [("who.parquet", False), ("who.json", True)])
@pytest.mark.parametrize(
    ("change", "left"),
    [
        (emptied, 0),
        (lambda nas, index: remove(index, [nas]), 0),
        (lambda nas, index: remove(index, [nas / "00001.png", nas / "00002.png"]), 4),
        (pruned, 2),
        (moved, 6),
    ],
)
def test_no_link_leads_nowhere(index: Path, tmp_path: Path, name: str, change: Change, left: int, fresh: bool) -> None:
    grouped(index, name=name)
    assert len(links(index)) == 6
    change(tmp_path / "nas", index)
    report = grouped(index, name=name, fresh=fresh)
    rows, about = read_clusters(tmp_path / name)
    assert (report.faces, report.clusters, report.links, len(links(index)), len(rows)) == (left,) * 5
    assert about.next_cluster == (left if fresh else 6), "no number is used twice"
    assert left or not list((tmp_path / "by-person").glob("person-*"))


def test_nobody_is_left_and_only_the_links_were(index: Path, tmp_path: Path) -> None:
    """The clusters' file was deleted, or has another name now: the links go in any case."""
    grouped(index)
    (tmp_path / "who.parquet").unlink()
    emptied(tmp_path / "nas", index)
    assert grouped(index, name="new.parquet").faces == 0
    assert links(index) == [] and len(read_clusters(tmp_path / "new.parquet")[0]) == 0


def test_an_emptied_index_grows_again(index: Path, tmp_path: Path) -> None:
    grouped(index)
    emptied(tmp_path / "nas", index)
    grouped(index)
    album(tmp_path / "nas", 2, first=50)
    run(tmp_path / "nas", index)
    report = grouped(index)
    assert (report.new_clusters, report.threshold) == (2, 0.999)
    assert sorted(path.name for path in (tmp_path / "by-person").glob("person-*")) == ["person-000006", "person-000007"]


def test_everybody_is_too_few(index: Path) -> None:
    assert grouped(index).links == 6
    assert grouped(index, least_faces=2).links == 0
    assert links(index) == []


def test_nothing_was_left_to_be_emptied(index: Path, tmp_path: Path) -> None:
    emptied(tmp_path / "nas", index)
    with pytest.raises(DataError, match="holds no faces"):
        grouped(index)
    assert not (tmp_path / "by-person").exists() and not (tmp_path / "who.parquet").exists()


def test_a_folder_of_somebody_else_is_left_alone(index: Path, tmp_path: Path) -> None:
    """Also by an index without faces, and in a folder that looks like ours."""
    emptied(tmp_path / "nas", index)
    theirs = tmp_path / "by-person" / "person-000001" / "1-photo.png"
    theirs.parent.mkdir(parents=True)
    theirs.symlink_to("nowhere")
    (tmp_path / "who.parquet").unlink(missing_ok=True)
    with pytest.raises(UsageError, match="holds other files"):
        grouped(index)
    assert os.readlink(theirs) == "nowhere"


def test_links_below_the_archive_are_no_photos_of_it(index: Path, tmp_path: Path) -> None:
    """Each photo would be in the index twice from the next run on; a person's folder that is named is taken."""
    nas = tmp_path / "nas"
    settings = ClusterSettings(threshold=0.999, duplicates=False, least_faces=1)
    cluster(index, tmp_path / "who.parquet", settings=settings, links=nas / "people")
    report = run(nas, index)
    assert (report.images, report.faces, report.copies) == (6, 6, 0)
    assert report.excluded == {".faceembed-links": 7}
    assert run(nas / "people" / "person-000002", tmp_path / "one.faiss").faces == 1
    assert run(nas / "people", tmp_path / "all.faiss").faces == 6


def test_a_link_to_an_index_is_that_index(index: Path, tmp_path: Path) -> None:
    """With its lock and its other files, whichever verb is given it."""
    link = tmp_path / "elsewhere" / "link.faiss"
    link.parent.mkdir()
    link.symlink_to(index)
    album(tmp_path / "more", 2, first=50)
    assert run(tmp_path / "more", link).faces == 8
    cluster(link, tmp_path / "who.parquet", settings=ClusterSettings(threshold=0.999, duplicates=False))
    with writing(index), pytest.raises(IndexBusyError):
        remove(link, [tmp_path / "more"])
    assert remove(link, [tmp_path / "more"]).left == 6
    assert len(FaceIndex(link)) == len(FaceIndex(index)) == 6
    assert [path.name for path in link.parent.iterdir()] == ["link.faiss"] and link.is_symlink()
