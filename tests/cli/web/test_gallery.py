"""The index that a server searches follows its files, all at once."""

from __future__ import annotations

import os
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest

from faceembed.cli.web import gallery as module
from faceembed.cli.web.gallery import Gallery
from faceembed.engine.index.lock import writing
from faceembed.engine.pipeline import loading
from faceembed.engine.pipeline.settings import EmbedSettings
from tests.engine.verbs.albums import album, faces_of, run, without_networks


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    without_networks(monkeypatch)


@pytest.fixture
def index(tmp_path: Path) -> Path:
    run(album(tmp_path / "nas", 20), tmp_path / "p.faiss")
    return tmp_path / "p.faiss"


@pytest.fixture
def lines() -> list[str]:
    return []


@pytest.fixture
def gallery(index: Path, lines: list[str]) -> Gallery:
    return Gallery(index, loading.resolve_models(EmbedSettings()).encoder.spec, notice=lines.append)


def test_an_update_is_seen(index: Path, gallery: Gallery, tmp_path: Path, lines: list[str]) -> None:
    vector = faces_of(index).vectors[3]
    assert gallery.find(vector, 1)[0].path == "00003.png"
    (tmp_path / "nas" / "00003.png").unlink()
    album(tmp_path / "nas", 5, first=100)
    run(tmp_path / "nas", index)
    assert len(gallery) == 24
    assert gallery.find(vector, 1)[0].path != "00003.png"
    assert lines == [f"{index} has changed: 24 faces now"]
    new = faces_of(index)
    assert [gallery.find(vector, 1)[0].similarity for vector in new.vectors] == pytest.approx([1] * 24, abs=1e-5)


@pytest.mark.parametrize("damage", ["deleted", "cut", "of another encoder"])
def test_what_cannot_be_read_does_not_replace_what_there_was(
    index: Path, gallery: Gallery, damage: str, lines: list[str]
) -> None:
    vector = faces_of(index).vectors[3]
    manifest = Path(f"{index}.json")
    if damage == "deleted":
        for path in index.parent.glob("p.faiss*"):
            path.unlink()
    elif damage == "cut":
        index.write_bytes(index.read_bytes()[:100])
    else:
        manifest.write_text(manifest.read_text().replace('"sha256": "', '"sha256": "0'))
    for _ in range(3):
        assert gallery.find(vector, 1)[0].path == "00003.png"
    assert len(lines) == 1  # said once
    assert lines[0].endswith("the index as it was before is served on")


def test_others_go_on_while_one_reads(
    index: Path, gallery: Gallery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading, go_on = threading.Event(), threading.Event()
    real = module.FaceIndex

    def slow(path: object, **told: object) -> object:
        reading.set()
        assert go_on.wait(60)
        return real(index, **told)  # type: ignore[arg-type]

    album(tmp_path / "nas", 5, first=100)
    run(tmp_path / "nas", index)
    monkeypatch.setattr(module, "FaceIndex", slow)
    reader = threading.Thread(target=len, args=(gallery,))
    reader.start()
    assert reading.wait(60)
    assert len(gallery) == 20
    go_on.set()
    reader.join()
    assert len(gallery) == 25


def test_never_half_of_an_exchange(
    index: Path, gallery: Gallery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Read between the renames of a writer, who is slow: the old index or the new one, never files of both."""
    seen: list[int] = []
    replace = os.replace

    def watched(source: object, target: object) -> None:
        replace(source, target)  # type: ignore[call-overload]
        if str(target).startswith(str(index)) and not str(target).endswith(".writer"):
            shutil.copytree(tmp_path, tmp_path.with_name(f"{tmp_path.name}-{len(seen)}"), symlinks=True)
            seen.append(len(seen))

    album(tmp_path / "nas", 5, first=100)
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", watched)
        run(tmp_path / "nas", index)
    assert len(seen) >= 4
    spec = loading.resolve_models(EmbedSettings()).encoder.spec
    for number in seen:  # as a process that was killed there left it: a reader finishes the exchange
        copy = tmp_path.with_name(f"{tmp_path.name}-{number}") / index.name
        assert len(Gallery(copy, spec)) in (20, 25)
    with writing(index):
        assert np.isfinite(gallery.find(faces_of(index).vectors[0], 1)[0].similarity)
