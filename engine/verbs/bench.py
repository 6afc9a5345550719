"""How fast each stage is by itself, how fast the pipeline is, and what that says.

Each stage is run alone: the same batches, on as many threads as the pipeline has, its input ready in memory. The pipeline
is then run over the same photos, models loaded, nothing written. Both are repeated in turns and the median of each is
taken, so that whatever else the machine does falls on all of them.

Two ratios follow. With r_i the photos a second of stage i alone:

* ``ratio_to_slowest`` = end-to-end / min r_i. Where every stage has hardware of its own (a decoder, a GPU), the slowest
  stage is the bound and the ratio can come near 1.
* ``ratio_to_bound`` = end-to-end / (1 / sum(1 / r_i)). On a CPU all stages share the same cores: a photo costs 1 / r_i of
  all of them in stage i, so no overlap can do more photos a second than 1 / sum(1 / r_i). What this ratio lacks to 1
  was lost in waiting; a little above 1 means that waiting inside a stage (for the disk) was put to use by others.

Not known here: start-up, loading of models, and writing of the index.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import itertools
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from faceembed.engine.photos.listing import list_photos
from faceembed.engine.photos.photo_file import PhotoFile
from faceembed.engine.pipeline import loading
from faceembed.engine.pipeline.batches import Pipeline
from faceembed.engine.pipeline.gpu import bench as on_device
from faceembed.engine.pipeline.gpu.bench import roofline
from faceembed.engine.pipeline.gpu.pipeline import DevicePipeline
from faceembed.engine.pipeline.progress import Progress
from faceembed.engine.pipeline.settings import EmbedSettings
from faceembed.errors import DataError, UsageError

LEAST_PHOTOS = 512
BATCHES_PER_WORKER = 4  # kept in memory at a time; fewer, and the last batch of a stage leaves cores idle
_MOST_BYTES = 1 << 30  # of decoded pixels kept at a time


@dataclasses.dataclass(frozen=True)
class BenchReport:
    """The figures of one machine on some photos; the fields of ``bench --json``. Rates are photos a second."""

    photos: int
    """Photos a round; fewer files than that are repeated."""
    files: int
    """Different files among them."""
    faces: int
    stages: dict[str, float]
    """Each stage alone, on all workers."""
    end_to_end: float
    slowest: str
    ratio_to_slowest: float
    sharing_bound: float
    """1 / sum(1 / rate): the most that stages can do that share their cores."""
    ratio_to_bound: float
    rounds: int
    workers: int
    batch_size: int
    device: str
    runtime: str
    precision: str
    encoder: str
    aligner: str
    roofline: dict[str, Any] | None = None
    """On a card: how near the encoder and the memory come to what it can do; see `gpu.bench`."""

    def to_json_dict(self) -> dict[str, Any]:
        """As a plain dictionary."""
        return dataclasses.asdict(self)


def bench(
    photos: Sequence[str | os.PathLike[str]],
    *,
    settings: EmbedSettings | None = None,
    count: int | None = None,
    rounds: int = 3,
    notice: Callable[[str], None] = lambda line: None,
    progress: Callable[[Progress], None] = lambda progress: None,
) -> BenchReport:
    """Measure every stage alone and the pipeline as a whole.

    Args:
        photos: folders and files.
        settings: models, faces, batches, runtime.
        count: photos a round, taken evenly from all of them; None for enough to keep all workers busy.
        rounds: the median of so many is taken.
        notice: called with lines for the user.
        progress: called after every part of the measurement.

    Raises:
        DataError: no photos, or none with a face.
        UsageError: less than one photo or round.
    """
    settings = settings or EmbedSettings()
    if (count is not None and count < 1) or rounds < 1:
        raise UsageError("a measurement needs at least one photo and one round")
    if settings.processes > 1:
        raise UsageError(f"--processes {settings.processes}: the stages of one process are measured; leave it out")
    listing = list_photos(photos)
    for line in listing.remarks(options=False):
        notice(line)
    listed = listing.photos
    if not listed:
        raise DataError("no photos in what was given; --sample measures with sample photos")
    models = loading.resolve_models(settings)
    chosen = _choose(listed, count or _enough(settings))
    pipeline = loading.open_pipeline(settings, models, listed, notice=notice, all_cards=False)
    return measure(pipeline, chosen, rounds=rounds, progress=progress)


def measure(
    pipeline: Pipeline,
    chosen: list[PhotoFile],
    *,
    rounds: int,
    progress: Callable[[Progress], None] = lambda progress: None,
) -> BenchReport:
    """The same for a pipeline that is open and photos that are chosen.

    Raises:
        DataError: no photo has a face.
    """
    total = len(chosen) * (2 * rounds + 1)
    done, faces = 0, 0

    def step(photos_done: int) -> None:
        nonlocal done
        done += photos_done
        progress(Progress(done, total, faces, 0))

    faces = sum(_run(pipeline, chosen, step)[1:])  # to warm up
    if not faces:
        raise DataError(f"no face in any of {len(chosen)} photos, so aligning and encoding cannot be measured")
    whole: list[float] = []
    alone: list[dict[str, float]] = []
    for _ in range(rounds):
        whole.append(len(chosen) / _run(pipeline, chosen, step)[0])
        spent = stage_seconds(pipeline, chosen, step)
        alone.append({stage: len(chosen) / seconds for stage, seconds in spent.items()})
    stages = {stage: statistics.median(rates[stage] for rates in alone) for stage in alone[0]}
    report = _report(pipeline, stages, statistics.median(whole), chosen, faces, rounds)
    return dataclasses.replace(report, roofline=_roofline(pipeline, report, chosen))


def _roofline(pipeline: Pipeline, report: BenchReport, chosen: list[PhotoFile]) -> dict[str, Any] | None:
    if not isinstance(pipeline, DevicePipeline):
        return None
    rate = report.stages["encode"]
    found = roofline(pipeline, chosen, encode_rate=rate, end_to_end=report.end_to_end, faces=report.faces)
    return found.to_json_dict()


def _report(
    pipeline: Pipeline, stages: dict[str, float], whole: float, chosen: list[PhotoFile], faces: int, rounds: int
) -> BenchReport:
    slowest = min(stages, key=lambda stage: stages[stage])
    bound = sharing_bound(stages)
    choice = pipeline.encoder.choice
    return BenchReport(
        photos=len(chosen),
        files=len({photo.path for photo in chosen}),
        faces=faces,
        stages={stage: round(rate, 1) for stage, rate in stages.items()},
        end_to_end=round(whole, 1),
        slowest=slowest,
        ratio_to_slowest=round(whole / stages[slowest], 4),
        sharing_bound=round(bound, 1),
        ratio_to_bound=round(whole / bound, 4),
        rounds=rounds,
        workers=pipeline.workers,
        batch_size=pipeline.batch_size,
        device=choice.device,
        runtime=choice.runtime,
        precision=choice.precision,
        encoder=pipeline.encoder.model.spec.name,
        aligner=pipeline.settings.aligner,
    )


def sharing_bound(rates: dict[str, float]) -> float:
    """The rate of stages that take turns on the same cores: 1 / sum(1 / rate)."""
    return 1 / sum(1 / rate for rate in rates.values())


def stage_seconds(
    pipeline: Pipeline, photos: Sequence[PhotoFile], step: Callable[[int], None] = lambda photos: None
) -> dict[str, float]:
    """Wall seconds of each stage alone over all photos, a bounded number of batches at a time."""
    if isinstance(pipeline, DevicePipeline):
        return on_device.stage_seconds(pipeline, photos, step)
    stages = pipeline.stages()
    read = stages.pop("read")
    seconds = dict.fromkeys(("read", *stages), 0.0)
    batches = iter(pipeline.batches(photos))
    with concurrent.futures.ThreadPoolExecutor(pipeline.workers, "faceembed-bench") as pool:

        def timed(stage: str, function: Callable[[Any], Any], given: list[Any]) -> list[Any]:
            started = time.perf_counter()
            result = list(pool.map(function, given))
            seconds[stage] += time.perf_counter() - started
            return result

        while some := list(itertools.islice(batches, BATCHES_PER_WORKER * pipeline.workers)):
            for part in _bounded(timed("read", read, some)):
                for stage, function in stages.items():
                    part = timed(stage, function, part)
            step(sum(map(len, some)))
    return seconds


def _run(pipeline: Pipeline, photos: Sequence[PhotoFile], step: Callable[[int], None]) -> tuple[float, int]:
    """Seconds and faces of the pipeline."""
    started = time.perf_counter()
    faces = 0
    with contextlib.closing(pipeline.run(photos)) as outcomes:
        for outcome in outcomes:
            faces += len(outcome.faces.photo)
            step(len(outcome.photos))
    return time.perf_counter() - started, faces


def _bounded(batches: list[list[Any]]) -> Iterator[list[list[Any]]]:
    """Read batches, as many at a time as memory may hold decoded."""
    part: list[list[Any]] = []
    size = 0
    for batch in batches:
        more = sum(getattr(item, "decoded_bytes", 0) for item in batch)
        if part and size + more > _MOST_BYTES:
            yield part
            part, size = [], 0
        part.append(batch)
        size += more
    yield part


def _enough(settings: EmbedSettings) -> int:
    return max(LEAST_PHOTOS, BATCHES_PER_WORKER * settings.runtime.thread_count * settings.photos_a_batch())


def _choose(photos: list[PhotoFile], count: int) -> list[PhotoFile]:
    """``count`` photos, evenly from all of them, or repeated where there are fewer."""
    if len(photos) >= count:
        return [photos[place * len(photos) // count] for place in range(count)]
    return list(itertools.islice(itertools.cycle(photos), count))
