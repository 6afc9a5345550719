"""An archive in another place: paths change, nothing else does."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from faceembed.engine.index.clusters.links import MARK
from faceembed.engine.verbs.cluster import ClusterSettings, cluster
from faceembed.engine.verbs.relocate import relocate
from faceembed.errors import DataError
from tests.engine.verbs.albums import (
    Counted,
    album,
    faces_of,
    failures_of,
    ids_of,
    paths_of,
    picture,
    run,
    state_of,
)
from tests.engine.verbs.test_moved import as_before

pytestmark = pytest.mark.usefixtures("counted")


@pytest.fixture
def index(tmp_path: Path, counted: Counted) -> Path:
    album(tmp_path / "nas", 10)
    album(tmp_path / "nas" / "sub", 5, first=20)
    (tmp_path / "nas" / "bad.jpg").write_bytes(b"no picture")
    run(tmp_path / "nas", tmp_path / "p.faiss")
    counted.photos = 0
    return tmp_path / "p.faiss"


@pytest.mark.parametrize("older", [False, True])
@pytest.mark.parametrize("touched", [False, True])
def test_all_of_it(index: Path, tmp_path: Path, counted: Counted, older: bool, touched: bool) -> None:
    """Of an index that has no hashes, a photo of another time cannot be told."""
    if older:
        as_before(index)
    before, vectors = ids_of(index), faces_of(index).vectors
    shutil.move(tmp_path / "nas", tmp_path / "new")
    if touched:
        for path in (tmp_path / "new").rglob("*.png"):
            os.utime(path, ns=(5, 5))
    if older and touched:
        report = relocate(index, tmp_path / "nas", tmp_path / "new")
        assert (report.photos, report.changed) == (1, 15)
        return
    report = relocate(index, tmp_path / "nas", tmp_path / "new")
    assert (report.photos, report.missing, report.changed, report.read) == (16, 0, 0, 15 * touched)
    assert ids_of(index) == before
    np.testing.assert_array_equal(faces_of(index).vectors, vectors)
    assert paths_of(index) == sorted(map(str, (tmp_path / "new").rglob("*.png")))
    assert failures_of(index) == {"bad.jpg": "decode"}
    assert json.loads(Path(f"{index}.json").read_text())["roots"] == [str(tmp_path / "new")]
    assert run(tmp_path / "new", index).unread == 16
    assert counted.photos == 0


def test_a_part_of_it(index: Path, tmp_path: Path) -> None:
    """A folder of the archive, of which one photo did not come along and another is another one."""
    (tmp_path / "new").mkdir()
    shutil.move(tmp_path / "nas" / "sub", tmp_path / "new" / "sub")
    (tmp_path / "new" / "sub" / "00021.png").unlink()
    picture(tmp_path / "new" / "sub" / "00022.png", 999)
    lines: list[str] = []
    report = relocate(index, tmp_path / "nas" / "sub", tmp_path / "new" / "sub", notice=lines.append)
    assert (report.photos, report.missing, report.changed) == (3, 1, 1)
    assert lines == [f"1 photos are not in {tmp_path / 'new' / 'sub'}, 1 are other ones there"]
    assert str(tmp_path / "nas" / "sub" / "00021.png") in paths_of(index)


@pytest.mark.parametrize(("old", "new"), [("other", "nas"), ("nas", "empty"), ("nas", "none"), ("na", "nas")])
def test_nothing_of_it(index: Path, tmp_path: Path, old: str, new: str) -> None:
    (tmp_path / "empty").mkdir()
    before = state_of(tmp_path)
    with pytest.raises(DataError, match="nothing was changed"):
        relocate(index, tmp_path / old, tmp_path / new)
    assert state_of(tmp_path) == before


def test_links_lead_to_the_new_place(index: Path, tmp_path: Path) -> None:
    """Those that `cluster` made; not those that somebody put into a folder that is no longer its own."""
    folders = [tmp_path / "by-person", tmp_path / "taken-over"]
    for number, folder in enumerate(folders):
        settings = ClusterSettings(threshold=0.999, duplicates=False, least_faces=1)
        cluster(index, tmp_path / f"{number}.parquet", settings=settings, links=folder)
    (folders[1] / MARK).unlink()
    before = sorted(os.readlink(link) for link in folders[1].glob("person-*/*"))
    shutil.move(tmp_path / "nas", tmp_path / "new")
    lost = tmp_path / "new" / "00003.png"
    lost.unlink()
    assert relocate(index, tmp_path / "nas", tmp_path / "new").links == 14
    links = list(folders[0].glob("person-*/*"))
    assert len(links) == 15 and [link.name for link in links if not link.exists()] == ["3-00003.png"]
    assert not list(folders[0].glob("person-*/.*"))
    assert sorted(os.readlink(link) for link in folders[1].glob("person-*/*")) == before
