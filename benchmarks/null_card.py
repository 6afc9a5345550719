"""A card that computes nothing and takes its time: `gpu_host` runs this in the build that is to be measured, of today or of long ago.

    python benchmarks/null_card.py photos --processes 1

What a card would do for a photo takes `SECONDS` of its streams, and whoever waits for it waits so long. Every photo has one face, which
the first look finds. All else is the real path: listing, reading, headers, batches, stages, rows, shards, index. The last line is
one JSON object. It must run in builds without `engine.pipeline`, so it asks for modules by both their names.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import importlib
import json
import multiprocessing
import os
import resource
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

SECONDS = {"decode": 1 / 25_000, "detect": 1 / 60_000, "encode": 1 / 60_000}
"""Of a photo: roofs of a fast card by counted operations, not measurements."""
SHAPE = (250, 250, 3)
BOX = (60.0, 60.0, 190.0, 190.0)
MARKS = ((100.0, 110.0), (150.0, 110.0), (125.0, 135.0), (105.0, 160.0), (145.0, 160.0))


def module(name: str) -> Any:
    """A module of the engine: ``gpu.stages`` is below `pipeline` nowadays."""
    try:
        return importlib.import_module(f"faceembed.engine.pipeline.{name}")
    except ModuleNotFoundError:
        return importlib.import_module(f"faceembed.engine.{name}")


class Clock:
    """When the parts of a card will be idle."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle = {"decoder": 0.0, "multiprocessors": 0.0}

    def work(self, part: str, after: float, seconds: float) -> float:
        """Queue work; when it will be done."""
        with self._lock:
            done = max(time.perf_counter(), after, self._idle[part]) + seconds
            self._idle[part] = done
            return done


@dataclasses.dataclass(frozen=True, slots=True)
class Pixels:
    """What was decoded."""

    shape: tuple[int, int, int] = SHAPE


class NullBackend:
    """`Backend` of today and of 8eaa0be."""

    device = "cuda:0"
    decoder = None

    def __init__(self) -> None:
        self._clock = Clock()
        self._local = threading.local()

    @contextlib.contextmanager
    def lane(self, name: str = "") -> Iterator[None]:
        self._local.done = 0.0
        yield

    def _work(self, part: str, seconds: float) -> None:
        self._local.done = self._clock.work(part, self._local.done, seconds)

    def decode(self, files: Sequence[bytes]) -> list[Pixels]:
        self._work("decoder", SECONDS["decode"] * len(files))
        return [Pixels() for _ in files]

    def _faces(self, owner: Any) -> Any:
        from faceembed.engine.detect.detections import Detections

        count = len(owner)
        boxes = np.tile(np.array(BOX, np.float32), (count, 1))
        landmarks = np.tile(np.array(MARKS, np.float32), (count, 1, 1))
        return Detections(np.asarray(owner, np.int32), boxes, landmarks, np.ones(count, np.float32))

    def look(self, photos: Any, scans: Any, *_: Any) -> Any:
        self._work("multiprocessors", SECONDS["detect"] * len(photos))
        self.wait()
        return self._faces(np.concatenate([scan.photo for scan in scans]))

    def canvases(self, photos: Any, shape: Any, sizes: Any) -> Any:  # of 8eaa0be
        return len(photos)

    def faces(self, levels: Any, scales: Any, settings: Any) -> Any:  # of 8eaa0be
        self._work("multiprocessors", SECONDS["detect"] * len(scales))
        self.wait()
        return self._faces(np.arange(len(scales)))

    def run(self, session: Any, pixels: Any) -> Any:
        return (np.zeros((pixels, session), np.float32),)

    def warp(self, photos: Any, owner: Any, matrices: Any, session: Any, *_: Any) -> int:
        return len(owner)

    def host(self, array: Any) -> Any:
        if array.shape[1] > 11:
            self._work("multiprocessors", SECONDS["encode"] * len(array))
            array[:, 0] = 1.0
            self.wait()
        else:
            array[:, 0] = 50.0  # the refiner agrees
        return array

    def finish(self) -> float:
        return float(self._local.done)

    def follow(self, mark: float) -> None:
        self._local.done = mark

    def wait(self) -> None:
        time.sleep(max(0.0, self._local.done - time.perf_counter()))

    def warm(self, *_: Any, **__: Any) -> None:
        return None

    def release(self) -> None:
        return None


def opened(settings: Any, models: Any) -> Any:
    """A pipeline on the null card."""
    gpu, oneshot = module("gpu.pipeline"), importlib.import_module("faceembed.engine.detect.oneshot")
    from faceembed.engine.runtimes.base import RuntimeChoice

    choice = RuntimeChoice("tensorrt", "cuda:0", "fp16", "a null card")
    backend = NullBackend()
    detecting = module("gpu.detect")
    oneshot.open_session = lambda *_, outputs, **__: 11
    detecting.ready = lambda *_: None
    detector = detecting.DeviceOneShotDetector(models.aligner, choice, backend)

    class Encoder:
        model, session, admitted = models.encoder, models.encoder.spec.dimension, True

    Encoder.choice = choice  # type: ignore[attr-defined]
    return gpu.DevicePipeline(settings, detector, Encoder(), backend, memory=8 << 30)


@dataclasses.dataclass(frozen=True)
class NullOpening:
    """An `Opening` that a worker's process can do."""

    settings: Any
    models: Any
    device: str = "cuda:0"

    def open(self) -> Any:
        return opened(self.settings, self.models)


def processor_seconds() -> float:
    """Of this process, and of its children, those that have ended and those at work."""
    parts = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    spent = sum(part.ru_utime + part.ru_stime for part in parts)
    for child in multiprocessing.active_children():
        with contextlib.suppress(OSError):
            words = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()
            spent += (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")
    return spent


def watched() -> list[Any]:
    """The crews of workers that this process will have, to see when they have loaded their models."""
    workers = module("gpu.workers")
    crews: list[Any] = []

    class Watched(workers.Crew):  # type: ignore[misc, name-defined]
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            crews.append(self)

    workers.Crew = Watched
    return crews


def measure(folder: Path, processes: int, index_type: str) -> dict[str, Any]:
    """The verb `embed` over a folder: from a quarter of its photos on, and later if a process still loads (it says if one did to the end), to the end of the index."""
    loading = module("loading")
    try:
        verb = importlib.import_module("faceembed.engine.verbs.embed")
    except ModuleNotFoundError:
        verb = importlib.import_module("faceembed.engine.embed")
    settings = module("settings").EmbedSettings()

    def open_pipeline(settings: Any, models: Any, photos: Any, **_: Any) -> Any:
        pipeline = opened(settings, models)
        if processes > 1:
            openings = [NullOpening(settings, models) for _ in range(processes)]
            pipeline = module("gpu.workers").ManyPipelines(pipeline, openings)
        return pipeline

    loading.open_pipeline = open_pipeline
    began: list[tuple[float, float, int]] = []
    last = [0.0]
    crews = watched() if processes > 1 else []

    def progress(now: Any) -> None:
        last[0] = time.perf_counter()
        ready = all(crew.ready == crew.size for crew in crews)
        if (not began and 4 * now.done >= now.total) or (began and not at_work and ready and now.done < now.total):
            began[:] = [(last[0], processor_seconds(), now.done)]
        if began and ready:
            at_work.append(True)

    at_work: list[bool] = []

    with tempfile.TemporaryDirectory(prefix="null-card-") as temporary:
        output = Path(temporary) / "index.faiss"
        report = verb.embed(folder, output, settings=settings, index_type=index_type, progress=progress)
        ended, spent = time.perf_counter(), processor_seconds()
    started, before, done = began[0]
    if report.faces != report.images:
        raise SystemExit(f"error: {report.faces} faces in {report.images} photos; the null card finds one in each")
    photos = report.images - done
    return {
        "photos": photos,
        "all_at_work": bool(at_work),
        "wall_seconds": ended - started,
        "processor_seconds": spent - before,
        "index_seconds": ended - last[0],
        "photos_per_second": photos / (ended - started),
        "photos_per_processor_second": photos / (spent - before),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--index", default="flat")
    args = parser.parse_args()
    first = next(path for path in sorted(args.folder.rglob("*")) if path.is_file())
    measure(first.parent, 1, "flat")  # everything is loaded
    print(json.dumps(measure(args.folder, args.processes, args.index)))


if __name__ == "__main__":
    main()
