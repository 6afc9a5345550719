"""The stages of a device alone, and how near the encoder and the memory come to what the hardware can do (the roofline).

Stages alone: batches are prepared up to the stage, the device is idle, then all of them go through that stage one after
another, and the clock stops when the device is idle again. Reading runs in as many threads as in the pipeline.

* ``share_of_peak``: floating-point operations a second of the encoder, counted from its graph, over what the card's tensor cores do
  at their nominal clock in FP16 (`runtimes.cards.FLOPS_PER_CLOCK`).
* ``share_of_copy``: bytes of decoded pixels a second at the end-to-end rate, written once and read once, over what a copy
  inside the device's memory reads and writes, measured.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import itertools
import time
from collections.abc import Callable, Sequence
from typing import Any

from faceembed.engine.models.flops import count_flops
from faceembed.engine.photos.photo_file import PhotoFile
from faceembed.engine.pipeline.batch import Item
from faceembed.engine.pipeline.gpu.pipeline import DevicePipeline
from faceembed.engine.pipeline.gpu.stages import Batch
from faceembed.engine.pipeline.intake import READERS

_COPY_BYTES = 256 << 20


@dataclasses.dataclass(frozen=True)
class Roofline:
    """What bounds the card, and how much of it is used."""

    device: str
    flops_per_face: int
    encoder_tflops: float
    """At the encode stage's own rate."""
    peak_tflops: float | None
    """None where it is not known."""
    share_of_peak: float | None
    photo_megabytes: float
    """Decoded pixels of a photo, on average."""
    copy_gigabytes_per_second: float
    share_of_copy: float
    peak_memory_bytes: int
    """Most that batches in flight were estimated to take."""
    decoded_by: dict[str, int]

    def to_json_dict(self) -> dict[str, Any]:
        """As a plain dictionary."""
        return dataclasses.asdict(self)


def stage_seconds(
    pipeline: DevicePipeline, photos: Sequence[PhotoFile], step: Callable[[int], None] = lambda photos: None
) -> dict[str, float]:
    """Wall seconds of each stage alone over all photos, as many batches at a time as the memory holds."""
    stages = pipeline.stages()
    read = stages.pop("read")
    seconds = dict.fromkeys(("read", *stages), 0.0)
    groups = iter(pipeline.batches(photos))
    with concurrent.futures.ThreadPoolExecutor(READERS) as readers:
        while some := list(itertools.islice(groups, READERS)):
            started = time.perf_counter()
            batches: list[Batch] = list(readers.map(read, some))
            seconds["read"] += time.perf_counter() - started
            for part in _within(batches, pipeline.memory):
                for name, stage in stages.items():
                    with pipeline.backend.lane(name):
                        pipeline.backend.wait()
                        started = time.perf_counter()
                        for batch in part:
                            stage(batch)
                        pipeline.backend.wait()
                        seconds[name] += time.perf_counter() - started
            step(sum(map(len, some)))
    return seconds


def _within(batches: Sequence[Batch], memory: int) -> list[list[Batch]]:
    """As many batches together as fit the memory, one at least."""
    parts: list[list[Batch]] = [[]]
    size = 0
    for batch in batches:
        if parts[-1] and size + batch.needed > memory:
            parts.append([])
            size = 0
        parts[-1].append(batch)
        size += batch.needed
    return parts


def roofline(
    pipeline: DevicePipeline, photos: Sequence[PhotoFile], *, encode_rate: float, end_to_end: float, faces: int
) -> Roofline:
    """Compare rates with the hardware.

    Args:
        pipeline: that was measured.
        photos: that it was measured on.
        encode_rate: photos a second of the encode stage alone.
        end_to_end: photos a second of the whole.
        faces: in those photos.
    """
    flops = count_flops(pipeline.encoder.model)
    entries = [pipeline.cutter.intake.read_one(photo) for photo in dict.fromkeys(photos)]
    pixels = [entry.header.pixels for entry in entries if isinstance(entry, Item)]
    photo_bytes = 3 * sum(pixels) / max(len(pixels), 1)
    achieved = flops * encode_rate * faces / max(len(photos), 1) / 1e12
    peak = pipeline.backend.peak_tflops()
    with pipeline.backend.lane("copy"):
        copy = pipeline.backend.copy_bandwidth(_COPY_BYTES)
    return Roofline(
        device=pipeline.backend.title(),
        flops_per_face=flops,
        encoder_tflops=round(achieved, 4),
        peak_tflops=round(peak, 1) if peak else None,
        share_of_peak=round(achieved / peak, 4) if peak else None,
        photo_megabytes=round(photo_bytes / 1e6, 3),
        copy_gigabytes_per_second=round(copy / 1e9, 2),
        share_of_copy=round(photo_bytes * end_to_end / copy, 4),
        peak_memory_bytes=pipeline.peak_bytes,
        decoded_by=pipeline.decoded_by,
    )
