"""Models kept warm for the verbs: loaded once, for many threads too; let go for others, after a fork, and when told."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import gc
import multiprocessing
import os
import weakref
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import faceembed
from faceembed import EmbedSettings, RuntimeSettings
from faceembed.engine.photos.sample import sample_photos
from faceembed.engine.pipeline import loading, warm
from faceembed.engine.pipeline.batches import Pipeline

FP32 = EmbedSettings(runtime=RuntimeSettings(device="cpu", precision="fp32", threads=1))


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """One entry for each time that models are loaded."""
    found: list[int] = []
    real = loading._opened
    monkeypatch.setattr(loading, "_opened", lambda *args: found.append(os.getpid()) or real(*args))
    yield found


@pytest.fixture(scope="module")
def photos() -> tuple[Path, Path]:
    return sample_photos() / "astronaut.png", sample_photos() / "quality_30.jpg"


def test_all_verbs_share_what_is_loaded_once(opened: list[int], photos: tuple[Path, Path], tmp_path: Path) -> None:
    a, b = photos
    first = faceembed.verify(a, b, settings=FP32)
    assert faceembed.verify(a, b, settings=FP32) == first
    assert faceembed.matrix([a, b], settings=FP32).similarity[0, 1] == pytest.approx(first.similarity, abs=1e-6)
    faceembed.embed([a], tmp_path / "p.faiss", settings=FP32)
    ((_, hits),) = faceembed.search(tmp_path / "p.faiss", [b], settings=FP32)
    assert hits[0].similarity == pytest.approx(first.similarity, abs=1e-3)  # type: ignore[union-attr]
    (tmp_path / "people").mkdir()
    (tmp_path / "people" / "Eileen.png").write_bytes(a.read_bytes())
    faceembed.enrol(tmp_path / "people", tmp_path / "s.gallery", settings=FP32)
    assert faceembed.identify(tmp_path / "s.gallery", [b], settings=FP32).photos[0].faces[0].name == "Eileen"
    with faceembed.Embedder(FP32) as embedder:
        assert embedder.similarity(a, b) == pytest.approx(first.similarity, abs=1e-3)
    assert len(opened) == 1


def test_sixteen_threads_load_once_and_get_the_same_bits(opened: list[int], photos: tuple[Path, Path]) -> None:
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda _: faceembed.verify(*photos, settings=FP32), range(16)))
    assert len(opened) == 1 and all(one == found[0] for one in found)


def _open(settings: EmbedSettings) -> Pipeline:
    return loading.open_pipeline(settings, loading.resolve_models(settings), [], notice=lambda line: None)


def test_other_settings_load_others_and_only_one_pair_is_kept(opened: list[int], photos: tuple[Path, Path]) -> None:
    other = dataclasses.replace(FP32, detect_size=320)
    pipeline = _open(FP32)
    kept = weakref.ref(pipeline.encoder)
    del pipeline
    gc.collect()
    assert kept() is not None
    _open(other)
    gc.collect()
    assert kept() is None and len(opened) == 2
    _open(dataclasses.replace(other, faces="all"))
    assert len(opened) == 2, "what is looked for is no other model"
    warm.let_go()
    _open(other)
    assert len(opened) == 3


def test_what_fails_leaves_nothing_behind() -> None:
    shelf, calls = warm.Shelf(), []

    def fail() -> Any:
        calls.append(1)
        raise OSError("no")

    for _ in range(2):
        with pytest.raises(OSError, match="no"):
            shelf.take("key", fail)
    assert len(calls) == 2
    pair: Any = (SimpleNamespace(admitted=True, lasting=True), None)
    assert shelf.take("key", lambda: pair) is pair and shelf.take("key", fail) is pair


def test_what_drawn_faces_let_pass_is_asked_again() -> None:
    shelf, opened = warm.Shelf(), list[Any]()

    def open_them() -> Any:
        opened.append((SimpleNamespace(admitted=False, lasting=False), None))
        return opened[-1]

    assert shelf.take("key", open_them) is shelf.take("key", open_them), "no gate was asked yet"
    opened[0][0].admitted = True
    assert shelf.take("key", open_them) is opened[1]
    opened[1][0].admitted = opened[1][0].lasting = True
    assert shelf.take("key", open_them) is opened[1]


def _verify_in_child(photos: tuple[Path, Path], queue: Any) -> None:
    queue.put(faceembed.verify(*photos, settings=FP32).similarity)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_fork_does_not_use_its_parents_models(photos: tuple[Path, Path]) -> None:
    """Also where another thread holds the shelf just then."""
    meant = faceembed.verify(*photos, settings=FP32).similarity
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    with warm.holding():
        child = context.Process(target=_verify_in_child, args=(photos, queue))
        child.start()
    try:
        assert queue.get(timeout=120) == meant
        child.join(60)
        assert child.exitcode == 0
    finally:
        child.kill()
    assert faceembed.verify(*photos, settings=FP32).similarity == meant
