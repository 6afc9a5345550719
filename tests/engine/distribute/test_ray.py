"""The seam that Ray fills: an actor that is killed, a driver that is killed, a photo that kills what reads it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from faceembed.engine.distribute import plan as planning
from faceembed.engine.distribute import worker as working
from faceembed.engine.distribute.on_ray import joined, on_ray
from faceembed.engine.distribute.plan import write_plan
from faceembed.engine.distribute.store import Access, Store
from faceembed.engine.distribute.worker import Done, Job, gate_photos
from faceembed.engine.photos.listing import list_photos
from faceembed.engine.pipeline.settings import EmbedSettings
from faceembed.errors import DeviceError, UsageError
from tests.engine.verbs.albums import album

pytest.importorskip("ray", reason="Ray is not installed: pip install 'faceembed[ray]'")
pytestmark = pytest.mark.filterwarnings("ignore")  # Ray's own
SETTINGS = EmbedSettings(aligner="none", batch_size=4)


class Slow(working.Worker):
    """Embeds crops without a network, a shard at a time; a file called ``deadly`` ends its process."""

    def _opened(self, notice: Any) -> Any:
        from types import SimpleNamespace

        import numpy as np

        from faceembed.engine.pipeline.batches import Pipeline

        class Encoder:
            def __init__(self, models: Any) -> None:
                self.model = models.encoder
                self.choice = SimpleNamespace(device="cpu", runtime="made up", precision="fp32")
                self.admitted = True

            def encode(self, chips: Any) -> Any:
                vectors = chips.reshape(len(chips), -1)[:, :256].astype(np.float32) + 1
                norms = np.linalg.norm(vectors, axis=1, keepdims=True)
                return vectors / norms, norms[:, 0]

        encoder: Any = Encoder(self._models)
        pipeline = Pipeline(self._job.settings, None, encoder, workers=1)
        reading = pipeline.intake.read_one

        def read_one(photo: Any) -> Any:
            if "deadly" in photo.path:
                os.kill(os.getpid(), signal.SIGKILL)
            return reading(photo)

        pipeline.intake.read_one = read_one  # type: ignore[method-assign]
        notice(f"made up, process {os.getpid()}")
        return pipeline

    def run(self, tasks: Any, *, skip: Any = None) -> Iterator[Done]:
        for done in super().run(tasks, skip=skip):
            time.sleep(0.05)
            yield done


@pytest.fixture(scope="module", autouse=True)
def started() -> Iterator[None]:
    """Ray, once for all tests: its start takes as long as they do."""
    ray = joined("local").module
    yield
    ray.shutdown()


@pytest.fixture(autouse=True)
def by_value(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    monkeypatch.setattr(planning, "_LEAST", 5)
    monkeypatch.setattr(planning, "_MOST", 15)
    monkeypatch.setattr(planning, "SHARD", 10)


def everything(photos: Path, output: Path, *, notice: Any = lambda line: None) -> list[Done]:
    store = Store.of(str(output))
    listed = list_photos([photos]).photos
    tasks = write_plan(store, listed, {"encoder": "made up"})
    job = Job(str(output), Access(), SETTINGS, "float32", gate_photos(listed))
    with on_ray("local", worker=Slow)(job, tasks, notice) as run:
        found = list(run)
    assert sorted(done.task.shard for done in found) == sorted(task.shard for task in tasks)
    return found


def names(output: Path) -> tuple[list[str], dict[str, str]]:
    import pyarrow.parquet as pq

    faces = [p for f in (output / "shards").glob("*.parquet") for p in pq.read_table(f)["path"].to_pylist()]
    failed: dict[str, str] = {}
    for f in (output / "errors").glob("*.parquet"):
        table = pq.read_table(f)
        failed.update(zip(table["path"].to_pylist(), table["stage"].to_pylist(), strict=True))
    return sorted(faces), failed


def test_a_killed_actor_loses_nothing(tmp_path: Path) -> None:
    photos = album(tmp_path / "p", 90)
    killed: list[int] = []

    def notice(line: str) -> None:
        if line.startswith("made up, process") and not killed:
            killed.append(int(line.split()[-1]))
            threading.Timer(0.3, os.kill, (killed[0], signal.SIGKILL)).start()

    found = everything(photos, tmp_path / "d", notice=notice)
    faces, failed = names(tmp_path / "d")
    assert killed and faces == sorted(str(path) for path in photos.iterdir()) and not failed
    assert sum(done.footer.photos for done in found) == 90


def test_a_deadly_photo_is_a_row(tmp_path: Path) -> None:
    photos = album(tmp_path / "p", 40)
    deadly = photos / "00017-deadly.png"
    (photos / "00017.png").rename(deadly)
    everything(photos, tmp_path / "d")
    faces, failed = names(tmp_path / "d")
    assert failed == {str(deadly): "crash"}
    assert faces == sorted(str(path) for path in photos.iterdir() if path != deadly)


def test_a_killed_driver_loses_nothing(tmp_path: Path) -> None:
    """The driver of a whole run ends by SIGKILL; no worker of its is left, and the next run ends what it began."""
    photos = album(tmp_path / "p", 60)
    script = textwrap.dedent(
        f"""
        import sys; sys.path.insert(0, {str(Path(__file__).parents[3])!r})
        from pathlib import Path
        import tests.engine.distribute.test_ray as t
        import ray; ray.cloudpickle.register_pickle_by_value(t)
        t.planning._LEAST, t.planning._MOST, t.planning.SHARD = 5, 15, 10
        t.everything(Path({str(photos)!r}), Path({str(tmp_path / "d")!r}), notice=lambda line: print(line, flush=True))
        """
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as driver:
        assert driver.stdout is not None
        line = driver.stdout.readline()
        worker = int(line.split()[-1])
        while not list((tmp_path / "d").glob("shards/*.parquet")):
            time.sleep(0.02)
        driver.kill()
    end = time.monotonic() + 60
    while time.monotonic() < end and Path(f"/proc/{worker}").exists():
        time.sleep(0.1)
    assert not Path(f"/proc/{worker}").exists()
    assert list((tmp_path / "d").glob("shards/*.parquet"))
    everything(photos, tmp_path / "d")
    faces, failed = names(tmp_path / "d")
    assert faces == sorted(str(path) for path in photos.iterdir()) and not failed


def test_a_cluster_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    def init(**options: Any) -> None:
        raise ConnectionError("Could not find any running Ray instance.\nMore.")

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", init)
    says = r"--ray auto: Ray cannot be reached \(Could not find any running Ray instance.\); start one"
    with (
        pytest.raises(DeviceError, match=says),
        on_ray("auto")(Job("x", Access(), SETTINGS, "float32"), [], print),
    ):
        raise AssertionError


def test_a_ray_that_is_too_old(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    monkeypatch.setattr(ray, "__version__", "2.9.3")
    with (
        pytest.raises(UsageError, match=r"Ray 2.9.3 is too old, --ray needs 2.40 or newer"),
        on_ray("local")(Job("x", Access(), SETTINGS, "float32"), [], print),
    ):
        raise AssertionError
