"""`search`: hits or a reason for every query, and mix-ups refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from faceembed.engine.verbs.embed import embed
from faceembed.engine.verbs.search import search
from faceembed.errors import DataError, UsageError

MakeFaces = Callable[[Path, int], list[Path]]
pytestmark = pytest.mark.usefixtures("reuse_pipeline")


@pytest.fixture
def index(tmp_path: Path, make_faces: MakeFaces) -> Path:
    make_faces(tmp_path / "album", 6)
    embed(tmp_path / "album", tmp_path / "people.faiss")
    return tmp_path / "people.faiss"


def test_every_query_has_hits_or_a_reason(index: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"x")
    queries = [tmp_path / "album" / "0004.jpg", bad, tmp_path / "album" / "0001.jpg"]
    results = search(index, queries, k=2)
    assert [path for path, _ in results] == [str(path) for path in queries]
    first, reason, last = (hits for _, hits in results)
    assert isinstance(reason, str)
    assert "not a JPEG" in reason
    for hits, name in ((first, "0004.jpg"), (last, "0001.jpg")):
        assert not isinstance(hits, str)
        assert len(hits) == 2
        assert Path(hits[0].path).name == name


def test_a_folder_of_queries_and_only_bad_ones(index: Path, tmp_path: Path) -> None:
    assert len(search(index, [tmp_path / "album"], k=1)) == 6
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"")
    assert search(index, [bad]) == [(str(bad), "empty file (0 bytes)")]


def test_mistakes(index: Path, tmp_path: Path) -> None:
    (tmp_path / "nothing").mkdir()
    with pytest.raises(DataError, match="no query photos"):
        search(index, [tmp_path / "nothing"])
    with pytest.raises(DataError, match="no index at"):
        search(tmp_path / "other.faiss", [tmp_path / "album"])
    with pytest.raises(UsageError, match="k is 0"):
        search(index, [tmp_path / "album"], k=0)


def test_an_index_that_was_moved_still_answers(index: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    for suffix in (".faiss", ".faiss.parquet", ".faiss.json"):
        index.with_suffix(suffix).rename(tmp_path / "elsewhere" / f"p{suffix}")
    ((_, hits),) = search(tmp_path / "elsewhere" / "p.faiss", [tmp_path / "album" / "0002.jpg"], k=1)
    assert not isinstance(hits, str)
    assert Path(hits[0].path).name == "0002.jpg"
