"""The parts of `card.py`, each run in a process of its own: what is measured, as JSON. What is compared with what is said in each."""

from __future__ import annotations

import dataclasses
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import card_path
import card_photos
import common
import numpy as np
from card_kernels import kernels
from card_path import Setup

from faceembed.engine.models.flops import count_flops
from faceembed.engine.models.oneshot import OUTPUTS, REFINED
from faceembed.engine.models.registry import resolve
from faceembed.engine.photos.decode import decode as by_opencv
from faceembed.engine.photos.probe import probe
from faceembed.engine.pipeline.gpu import compiler
from faceembed.engine.pipeline.gpu.decoder import Decoder, readable
from faceembed.engine.runtimes.base import RuntimeChoice
from faceembed.engine.runtimes.sessions import open_session
from faceembed.errors import FaceEmbedError, PhotoError


def versions(setup: Setup) -> dict[str, Any]:
    """What is installed, what the card is, and how long NVRTC takes for the kernels."""
    packages = ("torch", "cupy-cuda13x", "cuda-core", "cuda-bindings", "nvidia-nvimgcodec-cu13", "nvidia-nvjpeg")
    packages += ("nvidia-dali-cuda130", "tensorrt", "tensorrt-rtx", "onnxruntime", "onnx", "numpy")
    found: dict[str, Any] = {"machine": common.machine(), "packages": common.versions(*packages)}
    arch = "sm_89"
    if not setup.dry:
        from faceembed.engine.pipeline.gpu.lane import architecture, current_device
        from faceembed.engine.runtimes.cards import probe as probe_driver

        driver = probe_driver()
        found["driver"], found["card"] = driver.release, dataclasses.asdict(driver.card(0))
        arch = architecture(current_device())
    started = time.perf_counter()
    try:
        compiled = compiler.compile_kernels(arch)
    except FaceEmbedError as error:
        found["nvrtc"] = {"error": str(error)}
        return found
    found["nvrtc"] = {
        "version": compiler.nvrtc_version(),
        "arch": arch,
        "seconds": time.perf_counter() - started,
        "kernels": len(compiled.use),
        "spills": {use.name: use.spill_bytes for use in compiled.use if use.spill_bytes},
    }
    return found


def decode(setup: Setup) -> dict[str, Any]:
    """Each decoder against OpenCV: pixels of mixed files, and photos a second at each size."""
    variants = _decoders(setup)
    sources = [pixels[..., ::-1] for pixels in card_photos.sound(setup.photos, 8)]
    mixed = card_photos.mixed(card_photos.plain(setup.photos))
    files = {
        side: card_photos.at_side(sources, side, _batch_at(side, setup))
        for side in (card_photos.SIDES[:2] if setup.dry else card_photos.SIDES)
    }
    found: dict[str, Any] = {"bytes": {side: int(np.mean([len(one) for one in some])) for side, some in files.items()}}
    with card_path.decoding(setup) as host:
        for name, make in variants.items():
            try:
                decoder = make()
            except (FaceEmbedError, RuntimeError) as error:
                found[name] = {"error": str(error)}
                continue
            with host.lane(decoder):
                rates = {side: _rate(host, decoder, some, setup) for side, some in files.items()}
                found[name] = {"pixels": _apart(host, decoder, mixed), "photos_per_second": rates}
    found["OpenCV, one core"] = {
        side: len(some) / common_seconds(lambda some=some: [by_opencv(one) for one in some], 1)
        for side, some in files.items()
    }
    return found


def _batch_at(side: int, setup: Setup) -> int:
    return 2 if setup.dry else 128 if side < 1000 else 64 if side < 3000 else 16


def _decoders(setup: Setup) -> dict[str, Callable[[], Decoder]]:
    from faceembed.engine.pipeline.gpu.decoders import open_decoder
    from faceembed.engine.pipeline.gpu.nvimagecodec import NvImageCodec

    device = None if setup.dry else 0
    threads = common.available_cores()
    variants: dict[str, Callable[[], Decoder]] = {
        "nvImageCodec": lambda: open_decoder("nvimagecodec", device_id=device, threads=threads),
        "nvImageCodec, plain upsampling": lambda: NvImageCodec(
            device_id=device, threads=threads, options=":fancy_upsampling=0"
        ),
        "DALI": lambda: open_decoder("dali", device_id=device, threads=threads),
    }
    for kind in () if setup.dry else ("HW_GPU_ONLY", "GPU_ONLY", "HYBRID_CPU_GPU", "CPU_ONLY"):
        variants[f"nvImageCodec, {kind} alone"] = lambda kind=kind: NvImageCodec(  # type: ignore[misc]
            device_id=0, threads=threads, backends=(kind,)
        )
    return variants


def _apart(host: Any, decoder: Decoder, files: dict[str, bytes]) -> dict[str, Any]:
    """Of the mixed files that are given to a decoder: how far its pixels are from OpenCV's, and which it refuses."""
    given = {}
    for name, data in files.items():
        try:
            if readable(data, probe(data)):
                given[name] = data
        except PhotoError:
            continue
    ours = dict(zip(given, host.pixels(decoder, list(given.values())), strict=True))
    apart = {}
    for name, pixels in ours.items():
        try:
            expected = by_opencv(given[name]).pixels.astype(int)
        except PhotoError:
            continue
        if pixels is not None and pixels.shape == expected.shape:
            apart[name] = np.abs(pixels - expected)
    return {
        "files": len(given),
        "refused": sorted(name for name, pixels in ours.items() if pixels is None),
        "largest": max((int(one.max()) for one in apart.values()), default=-1),
        "mean": float(np.mean([one.mean() for one in apart.values()])) if apart else None,
        "farthest": max(apart, key=lambda name: float(apart[name].mean()), default=""),
        "turned or cut": sorted(name for name, pixels in ours.items() if pixels is not None and name not in apart),
    }


def _rate(host: Any, decoder: Decoder, files: Sequence[bytes], setup: Setup) -> float:
    turns = 1 if setup.dry else 5
    return len(files) / common_seconds(lambda: host.decode(decoder, files), turns)


def common_seconds(work: Callable[[], Any], turns: int) -> float:
    """The median of some runs, after one to warm up."""
    times = []
    for _ in range(turns + 1):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return statistics.median(times[1:])


def networks(setup: Setup) -> dict[str, Any]:
    """Each network at batches of 8 to 128: rate, share of the card's peak, cosine to FP32, and the time that a new shape takes."""
    found: dict[str, Any] = {}
    random = np.random.default_rng(7)
    for name, task, outputs, side in (
        ("faceembed-r29", "encoder", (), 0),
        ("faceembed-align", "aligner", OUTPUTS, 160),
        ("faceembed-align", "aligner", (REFINED,), 56),
    ):
        model = resolve(name, task=task)
        height, width = model.spec.input_size if task == "encoder" else (side, side)
        label = f"{name} {outputs[0] if outputs else 'embedding'} {width}x{height}"
        exact = open_session(
            model,
            RuntimeChoice("onnxruntime", "cpu", "fp32", "exact"),
            outputs=outputs,
            threads=common.available_cores(),
        )
        some = random.integers(0, 256, (8, height, width, 3), np.uint8)
        expected = np.concatenate([one.reshape(8, -1) for one in exact.run(some)], axis=1)
        entries = {}
        for batch in (8,) if setup.dry else (8, 16, 32, 64, 128):
            with card_path.network(setup, model, outputs, batch) as opened:
                pixels = np.ascontiguousarray(np.resize(some, (batch, height, width, 3)))
                started = time.perf_counter()
                told = np.concatenate([one[:8].reshape(8, -1) for one in opened.run(pixels)], axis=1)
                first = time.perf_counter() - started
                seconds = opened.seconds(pixels, 3 if setup.dry else 50)
                tops = None
                if task == "encoder" and opened.peak_tflops:
                    tops = count_flops(model) * batch / seconds / 1e12 / opened.peak_tflops
                entries[batch] = {
                    "per_second": batch / seconds,
                    "share_of_peak": tops,
                    "first_run_seconds": first,
                    "cosine_to_fp32": float(min(_cosines(told, expected))),
                }
        found[label] = entries
    return found


def _cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return np.asarray((a * b).sum(axis=1) / np.maximum(lengths, 1e-12))


def path(setup: Setup) -> dict[str, Any]:
    """The whole path with 1, 2 and 4 processes, against the processor's embeddings, and twice for equal bits."""
    photos = card_path.photo_files(setup)
    some = photos[: 8 if setup.dry else 256]
    host = card_path.embeddings(card_path.on_host(setup), some)
    found: dict[str, Any] = {"photos": len(photos), "processes": {}}
    first = card_path.pipeline(setup)
    alone, again = (card_path.embeddings(first, some) for _ in range(2))
    found["equal bits"] = alone.keys() == again.keys() and all(np.array_equal(alone[k], again[k]) for k in alone)
    both = sorted(alone.keys() & host.keys())
    found["faces"] = {"card": len(alone), "processor": len(host)}
    found["cosine_to_processor"] = float(min((alone[k] @ host[k] for k in both), default=0.0))
    for number in (1, 2) if setup.dry else (1, 2, 4):
        found["processes"][number] = card_path.rate(setup, first, photos, number)
    return found


def memory(setup: Setup) -> dict[str, Any]:
    """The card's memory taken away but for little: batches are halved, and every photo has its outcome."""
    photos = card_path.photo_files(setup)[: 64 if setup.dry else 2048]
    pipeline = card_path.pipeline(setup)
    with card_path.starved(setup, pipeline):
        outcomes = list(pipeline.run(photos))
    done = [photo.path for outcome in outcomes for photo in outcome.photos]
    return {
        "photos": len(photos),
        "all there, in order": done == [photo.path for photo in photos],
        "halvings": pipeline.halvings,
        "remarks": pipeline.remarks(),
    }


def lanes(setup: Setup) -> dict[str, Any]:
    """50 entries into each stage's lane: the card's free memory and the process's threads stay as they are."""
    photos = card_path.photo_files(setup)[: 8 if setup.dry else 256]
    pipeline = card_path.pipeline(setup)
    told = []
    for turn in range(3 if setup.dry else 50):
        for outcome in pipeline.run(photos):
            assert outcome.photos
        if turn in (1, 2, 25, 49):
            told.append(
                {"entries": turn + 1, "free": pipeline.backend.free_bytes(), "threads": threading.active_count()}
            )
    free = [one["free"] for one in told if one["free"] is not None]
    return {"told": told, "lost bytes": free[0] - free[-1] if free else 0}


PARTS: dict[str, tuple[Callable[[Setup], dict[str, Any]], float]] = {
    "versions": (versions, 45),
    "kernels": (lambda setup: kernels(dry=setup.dry), 60),
    "decode": (decode, 75),
    "networks": (networks, 75),
    "path": (path, 100),
    "memory": (memory, 45),
    "lanes": (lanes, 45),
}
"""What each part is, and its time-out in seconds on a card."""
