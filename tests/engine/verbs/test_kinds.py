"""A kind of index that cannot be made of the photos: told before they are read where that can be known; nothing computed is lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from faceembed.engine.index.store import FaceIndex
from faceembed.engine.pipeline import loading
from faceembed.engine.pipeline.settings import EmbedSettings
from faceembed.engine.verbs.embed import embed
from faceembed.engine.verbs.relocate import relocate
from faceembed.errors import UsageError
from tests.engine.verbs.albums import Counted, album, paths_of, run

pytestmark = pytest.mark.usefixtures("counted")


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("IVF2,PQ16", "needs 256 different faces"),
        ("ITQ64,LSH", "needs 64 different faces"),
        ("OPQ16_64,IVF2,PQ16", "needs 256 different faces"),
        ("IVF33,Flat", "needs 33 different faces"),
        ("PQ7", "multiple of the number of subquantizers"),
        ("flatt", "could not parse index string flatt"),
        ("IVF2,PQ16,", "could not parse"),
    ],
)
def test_told_before_a_photo_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, reason: str) -> None:
    """32 photos, one face each at most. The message is one line of ours, without places in FAISS's sources."""
    folder = album(tmp_path / "nas", 32)
    monkeypatch.setattr(loading, "open_pipeline", lambda *_, **__: pytest.fail("too late"))
    with pytest.raises(UsageError, match=reason) as caught:
        run(folder, tmp_path / "p.faiss", index_type=kind)
    words = str(caught.value)
    assert words.startswith(f"--index '{kind}' ") and "\n" not in words
    assert not any(part in words for part in ("/project/", "Error in", "failed:", ".cpp"))
    if "needs" in reason:
        assert "there are 32 photos, of each of which one face is taken at most" in words and "--index flat" in words
    assert sorted(path.name for path in tmp_path.iterdir() if not path.name.startswith(".")) in (
        ["nas"],
        ["nas", "p.faiss.lock"],
    )


def test_photos_of_an_earlier_run_count(tmp_path: Path) -> None:
    """Those of another folder that the index holds, too."""
    run(album(tmp_path / "a", 20), tmp_path / "p.faiss")
    assert run(album(tmp_path / "b", 20, first=50), tmp_path / "p.faiss", index_type="IVF30,Flat").faces == 40


def test_what_was_embedded_is_kept(tmp_path: Path, counted: Counted) -> None:
    """Copies say nothing before the work: 40 photos, 20 different faces."""
    folder = album(tmp_path / "nas", 20)
    for path in list(folder.iterdir()):
        (folder / f"copy-{path.name}").write_bytes(path.read_bytes() + b"x")
    words = (
        "needs 30 different faces to be trained on, and there are 20; .* what was embedded is kept, and the next run"
    )
    for _ in range(2):
        with pytest.raises(UsageError, match=words):
            run(folder, tmp_path / "p.faiss", index_type="IVF30,Flat")
        assert counted.photos == 40
    report = run(folder, tmp_path / "p.faiss", index_type="IVF4,Flat")
    assert (counted.photos, report.embedded, report.faces) == (40, 0, 40)
    assert not (tmp_path / "p.faiss.partial").exists()


def test_all_faces_of_a_photo_may_be_enough(tmp_path: Path, counted: Counted) -> None:
    """With --faces all the number of photos says nothing, so it is looked at afterwards."""
    folder = album(tmp_path / "nas", 10)
    settings = EmbedSettings(aligner="none", batch_size=16, faces="all")
    with pytest.raises(UsageError, match=r"needs 30 different faces to be trained on, and there are 10; .* is kept"):
        embed(folder, tmp_path / "p.faiss", settings=settings, index_type="IVF30,Flat")
    assert counted.photos == 10


def test_photos_go_although_the_kind_cannot_be_made_of_the_rest(tmp_path: Path) -> None:
    """Nobody asked for the kind now: a flat index, which is said, in place of an error with which deleted photos would stay."""
    index, folder = tmp_path / "p.faiss", album(tmp_path / "nas", 40)
    run(folder, index, index_type="IVF30,Flat")
    for path in sorted(folder.iterdir())[20:]:
        path.unlink()
    lines: list[str] = []
    report = run(folder, index, prune=True, notice=lines.append)
    assert (report.faces, FaceIndex(index).manifest["index"]) == (20, "flat")
    assert any(
        line.startswith("--index 'IVF30,Flat' needs 30") and line.endswith("flat one from now on") for line in lines
    )
    assert paths_of(index) == sorted(map(str, folder.iterdir()))


def test_so_does_relocate(tmp_path: Path) -> None:
    """Photos that are known in the new place already are one photo from then on."""
    index = tmp_path / "p.faiss"
    run([album(tmp_path / "a", 20), album(tmp_path / "b", 12, first=100)], index, index_type="IVF30,Flat")
    (tmp_path / "a").rename(tmp_path / "b" / "a")
    assert relocate(index, tmp_path / "a", tmp_path / "b" / "a").photos == 20
    assert FaceIndex(index).manifest["index"] == "IVF30,Flat"
