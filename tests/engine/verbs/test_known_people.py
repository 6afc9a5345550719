"""`cluster` with what people know: pairs, names that stay, and lists that cannot be read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from faceembed.engine.index.clusters.output import read_clusters
from faceembed.engine.verbs.cluster import ClusterReport, ClusterSettings, cluster
from faceembed.errors import FaceEmbedError
from tests.engine.verbs.albums import album, run

pytestmark = pytest.mark.usefixtures("counted")


@pytest.fixture
def index(tmp_path: Path) -> Path:
    album(tmp_path / "nas", 6)
    run(tmp_path / "nas", tmp_path / "p.faiss")
    return tmp_path / "p.faiss"


def grouped(index: Path, **options: Any) -> tuple[ClusterReport, dict[str, tuple[int, str | None]]]:
    """Everybody alone, as no two pictures are alike; and of each file its cluster and name."""
    settings = ClusterSettings(
        threshold=None if options.get("keep") else 0.999, duplicates=False, keep=options.pop("keep", False)
    )
    report = cluster(index, index.with_name("who.parquet"), settings=settings, **options)
    rows = read_clusters(index.with_name("who.parquet"))[0].to_pylist()
    return report, {Path(row["path"]).name[:5]: (row["cluster"], row["name"]) for row in rows}


def listed(index: Path, text: str) -> Path:
    path = index.with_name("list.csv")
    path.write_text(text)
    return path


@pytest.mark.parametrize("keep", [False, True])
def test_pairs(index: Path, keep: bool) -> None:
    before = grouped(index)[1]
    text = "path_a,path_b,link\nnas/00000.png,nas/00003.png,must\nnas/00003.png,nas/00004.png,same\nnas/00001.png,nas/00002.png,cannot\n"
    report, found = grouped(index, constraints=listed(index, text), keep=keep)
    assert report.constraints == 3 and report.clusters == 4
    assert found["00000"][0] == found["00003"][0] == found["00004"][0] == before["00000"][0]
    assert found["00001"] == before["00001"] and found["00002"] == before["00002"]
    assert grouped(index)[0].clusters == 6  # what is not said any more does not hold


def test_by_face_id(index: Path) -> None:
    report, _ = grouped(index, constraints=listed(index, "face_id_a;face_id_b;link\n0;1;1\n"))
    assert report.clusters == 5


def test_names_stay_from_run_to_run(index: Path) -> None:
    text = "path,name\nnas/00000.png,Ann\nnas/00001.png,Bob\nnas/00005.png,Ann\n"
    report, found = grouped(index, names=listed(index, text))
    assert report.named == 2 and report.clusters == 5
    assert found["00000"] == found["00005"] and found["00000"][1] == "Ann" and found["00001"][1] == "Bob"
    assert found["00002"][1] is None
    album(index.with_name("nas"), 2, first=6)
    run(index.with_name("nas"), index)
    report, again = grouped(index, keep=True)
    assert report.faces == 8 and {name: again[name] for name in found} == found
    _, renamed = grouped(index, names=listed(index, "path,name\nnas/00001.png,Robert\n"))
    assert renamed["00001"] == (found["00001"][0], "Robert") and renamed["00000"][1] == "Ann"


@pytest.mark.parametrize(
    ("option", "text", "message"),
    [
        (
            "constraints",
            "a,b\n1,2\n",
            "its first line must have the columns path_a,path_b,link or face_id_a,face_id_b,link",
        ),
        ("constraints", "", "its first line must have the columns"),
        (
            "constraints",
            "path_a,path_b,link\nnas/00000.png,nas/00001.png,maybe\n",
            "line 2: bad link 'maybe'; expected must or cannot",
        ),
        (
            "constraints",
            "path_a,path_b,link\nnas/00000.png,nas/none.png,must\n",
            "line 2: the index has no face 0 of .*none.png",
        ),
        ("constraints", "path_a,path_b,link\nnas/00000.png,nas/00000.png,must\n", "line 2: both are one face"),
        ("constraints", "face_id_a,face_id_b,link\n0,99,must\n", "line 2: there is no face_id '99' in the index"),
        (
            "constraints",
            "path_a,path_b,face_a,face_b,link\nnas/00000.png,nas/00001.png,x,0,must\n",
            "line 2: bad face 'x'",
        ),
        ("constraints", "path_a,path_b,link\nnas/00000.png\n", "line 2: expected 3 columns, got 1"),
        (
            "constraints",
            "face_id_a,face_id_b,link\n0,1,must\n1,0,cannot\n",
            "must be linked and cannot be: the constraints contradict each other",
        ),
        ("names", "path,name\nnas/00000.png,Ann\nnas/00000.png,Bob\n", "line 3: 'Bob' was 'Ann' in a line before"),
        ("names", "path,name\nnas/00000.png, \n", "is no name of a person"),
    ],
)
def test_bad_lists(index: Path, option: str, text: str, message: str) -> None:
    grouped(index)
    before = index.with_name("who.parquet").read_bytes()
    with pytest.raises(FaceEmbedError, match=message):
        grouped(index, **{option: listed(index, text)})
    assert index.with_name("who.parquet").read_bytes() == before
