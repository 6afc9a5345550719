"""Several devices, a process each: one order, one index, nothing lost, and no process left behind."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from faceembed.engine.models.spec import Model
from faceembed.engine.photos.photo_file import PhotoFile
from faceembed.engine.pipeline.gpu.opening import Opening
from faceembed.engine.pipeline.gpu.pipeline import DevicePipeline
from faceembed.engine.pipeline.gpu.workers import ManyPipelines
from faceembed.engine.pipeline.settings import EmbedSettings
from faceembed.engine.runtimes.choose import RuntimeSettings
from faceembed.errors import DeviceError, ModelError
from tests.engine.pipeline.gpu.conftest import CHOICE, faces_of, failures_of

MakeFaces = Callable[[Path, int], list[Path]]


@pytest.fixture(scope="module")
def album(tmp_path_factory: pytest.TempPathFactory, make_faces: MakeFaces) -> list[PhotoFile]:
    """40 photos, one of them empty, listed three times over."""
    paths = make_faces(tmp_path_factory.mktemp("album"), 40)
    paths[7].write_bytes(b"")
    return [PhotoFile(str(path), 1000, 0) for path in paths] * 3


@pytest.fixture
def opening(tiny_encoder: Model, backend: object) -> Opening:
    settings = EmbedSettings(aligner="none", batch_size=4, runtime=RuntimeSettings(threads=1))
    return Opening(settings, tiny_encoder, None, CHOICE)


def test_two_workers_share_the_photos(opening: Opening, album: list[PhotoFile]) -> None:
    first: DevicePipeline = opening.open()
    alone = list(first.run(album, boundary=10))
    many = ManyPipelines(first, [opening, opening])
    outcomes = list(many.run(album, boundary=10))
    assert [photo.path for outcome in outcomes for photo in outcome.photos] == [photo.path for photo in album]
    assert failures_of(outcomes) == failures_of(alone)
    for path, face in faces_of(alone).items():
        np.testing.assert_array_equal(faces_of(outcomes)[path].embedding, face.embedding)
    ends = np.cumsum([len(outcome.photos) for outcome in outcomes])
    assert set(range(10, 121, 10)) <= set(ends.tolist())
    assert sum(many.photos_by.values()) == 120
    assert many.decoded_by == {"device": 117}
    assert not multiprocessing.active_children()


def test_a_worker_that_cannot_open_says_why(opening: Opening, album: list[PhotoFile], tmp_path: Path) -> None:
    missing = dataclasses.replace(opening, encoder=Model(opening.encoder.spec, str(tmp_path / "gone.onnx")))
    with pytest.raises(ModelError, match=r"gone.onnx"):
        list(ManyPipelines(opening.open(), [missing]).run(album))
    assert not multiprocessing.active_children()


def test_a_worker_that_is_killed_ends_the_run(opening: Opening, album: list[PhotoFile]) -> None:
    """And the caller too, at once: it does not wait for results that never come."""

    def kill() -> None:
        while not (children := multiprocessing.active_children()):
            time.sleep(0.01)
        pid = children[0].pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    many = ManyPipelines(opening.open(), [opening])
    killer.start()
    with pytest.raises(DeviceError, match=r"worker on cpu was killed by signal 9.*same command goes on"):
        list(many.run(album * 50))
    killer.join()
    assert not multiprocessing.active_children()


def test_stopping_early_leaves_no_process(opening: Opening, album: list[PhotoFile]) -> None:
    run = ManyPipelines(opening.open(), [opening]).run(album * 50)
    assert len(next(run).photos) == 4
    run.close()  # type: ignore[attr-defined]
    assert not multiprocessing.active_children()
