"""Aligners side by side: how fast they are, how many photos they find a face in, how many things that are none, how exactly.

    python benchmarks/detection.py                              # mtcnn and the built-in aligners
    python benchmarks/detection.py --aligner mtcnn mine.onnx --photos 500 --json results/detection.json

The first aligner is the reference. Its own largest face is what the others' landmarks are compared with, in units of the
distance between the eyes; a photo where the other's largest face is another one counts as `other_face` and not in the error. A
detection is false where the reference, shown the photo as it is and mirrored with lower thresholds than it is used with, sees
nothing there: an upper bound, because the reference misses faces too.

The sets are people whom `faceembed-align` was not trained on: the photos of LFW's View 2 list, and the people of `people_wild`
that the split of seed 7 sets aside to validate and to test. The rate is of detection alone, on decoded photos, in batches of 32,
one thread a core, the largest face of each photo wanted; it goes through all photos `--rounds` times and the best counts.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import dataclasses
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import common
import numpy as np
from numpy.typing import NDArray

from faceembed.engine.detect.detections import Detections
from faceembed.engine.detect.interface import Detector
from faceembed.engine.detect.kinds import open_detector
from faceembed.engine.detect.mtcnn import MtcnnDetector, MtcnnSettings
from faceembed.engine.evaluate.pairs import read_pairs
from faceembed.engine.models import builtin
from faceembed.engine.models.registry import resolve
from faceembed.engine.parity.detectors import SAME_FACE
from faceembed.engine.photos.decode import decode, min_face_of
from faceembed.engine.runtimes.choose import RuntimeSettings, choose
from faceembed.trainer.data.split import split_people

BATCH = 32
LOOSE = MtcnnSettings(pnet_score=0.6, rnet_score=0.5, onet_score=0.5)
TOUCHING = 0.2  # intersection over union from which on a detection is of something that the reference sees
SPLIT = {"train": 180, "validate": 20, "test": 40}
SPLIT_SEED = 7


def main() -> None:
    """Measure, print a table, then one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--aligner", nargs="+", default=["mtcnn", *_aligners()], help="names or .onnx paths")
    parser.add_argument("--set", dest="sets", nargs="+", default=["lfw", "people_wild"], choices=["lfw", "people_wild"])
    parser.add_argument("--part", nargs="+", default=["validate", "test"], help="of people_wild's split")
    parser.add_argument("--photos", type=int, default=0, help="a random sample of so many of each set; 0: all")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=0, help="0: all cores")
    parser.add_argument("--precision", default="auto", choices=["auto", "fp32", "bf16"])
    parser.add_argument("--json", type=Path, help="also write the result here")
    common.run_and_report(parser.parse_args(), run, report)


def _aligners() -> list[str]:
    """The built-in ones."""
    known = map(builtin.find, builtin.names())
    return [model.spec.name for model in known if model and model.spec.task == "aligner"]


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Every aligner on every set."""
    settings = RuntimeSettings(device="cpu", precision=args.precision, threads=args.threads)
    choice = choose(settings)
    detectors = {
        Path(name).stem: open_detector(resolve(name, task="aligner"), choice, threads=settings.thread_count)
        for name in args.aligner
    }
    result: dict[str, Any] = {"machine": common.machine(), "choice": dataclasses.asdict(choice), "sets": {}}
    for name in args.sets:
        paths = common.sample(_people(name, args.part), args.photos)
        photos = [decode(Path(path).read_bytes()).pixels for path in paths]
        common.say(f"{name}: {len(photos):,} photos")
        result["sets"][name] = _measure_set(detectors, photos, args.rounds, settings.thread_count)
    return result


def _people(name: str, parts: Sequence[str]) -> list[str]:
    """The photos of a set's people that nothing was trained on."""
    root = common.data_root()
    if name == "lfw":
        return sorted(read_pairs(root / "lfw_pairs.txt", root=root / "lfw").photos)
    folder = root / "people_wild"
    split = split_people(os.listdir(folder), **SPLIT, seed=SPLIT_SEED)
    return [str(folder / photo) for part in parts for person in split[part] for photo in _photos(folder, person)]


def _photos(folder: Path, person: str) -> list[str]:
    return [f"{person}/{photo}" for photo in common.list_photos(folder / person)]


def _measure_set(
    detectors: dict[str, Detector], photos: list[NDArray[np.uint8]], rounds: int, threads: int
) -> dict[str, Any]:
    smallest = [min_face_of(photo.shape[1], photo.shape[0], 0) for photo in photos]
    reference = next(iter(detectors.values()))
    wanted = _detect(reference, photos, smallest, threads, only_largest=True)
    supported = _supported(reference, photos, smallest, threads)
    rows: dict[str, Any] = {"photos": len(photos)}
    for name, detector in detectors.items():
        found = _detect(detector, photos, smallest, threads, only_largest=True)
        everything = _detect(detector, photos, smallest, threads, only_largest=False)
        rows[name] = {
            **_rate(detector, photos, smallest, threads, rounds),
            "detection_rate": len(np.unique(found.photo)) / len(photos),
            "faces_per_photo": len(everything) / len(photos),
            "false_per_photo": _unsupported(everything, supported) / len(photos),
            **_compare(found, wanted),
        }
    return rows


def _detect(
    detector: Detector,
    photos: Sequence[NDArray[np.uint8]],
    smallest: Sequence[float],
    threads: int,
    *,
    only_largest: bool,
) -> Detections:
    """Faces in all photos, batches side by side."""

    def one(start: int) -> Detections:
        part = slice(start, start + BATCH)
        faces = detector.detect(photos[part], smallest[part], only_largest=only_largest)
        return dataclasses.replace(faces, photo=faces.photo + np.int32(start))

    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        return Detections.concatenate(list(pool.map(one, range(0, len(photos), BATCH))))


def _rate(
    detector: Detector, photos: Sequence[NDArray[np.uint8]], smallest: Sequence[float], threads: int, rounds: int
) -> dict[str, float]:
    """Photos a second, and photos a second of processor time on one core, which a busy machine changes less."""
    best, best_core = 0.0, 0.0
    for _ in range(rounds):
        began, used = time.perf_counter(), time.process_time()
        _detect(detector, photos, smallest, threads, only_largest=True)
        best = max(best, len(photos) / (time.perf_counter() - began))
        best_core = max(best_core, len(photos) / (time.process_time() - used))
    return {"photos_per_second": best, "photos_per_core_second": best_core}


def _supported(
    reference: Detector, photos: Sequence[NDArray[np.uint8]], smallest: Sequence[float], threads: int
) -> Detections:
    """Everything that the reference takes for a face in any of two views, with low thresholds."""
    if isinstance(reference, MtcnnDetector):
        reference = MtcnnDetector(reference.model, reference.choice, threads=threads, settings=LOOSE)
    smaller = [0.7 * side for side in smallest]
    upright = _detect(reference, photos, smaller, threads, only_largest=False)
    turned = [np.ascontiguousarray(photo[:, ::-1]) for photo in photos]
    mirrored = _detect(reference, turned, smaller, threads, only_largest=False)
    width = np.array([photo.shape[1] for photo in photos], np.float32)[mirrored.photo]
    boxes = mirrored.boxes.copy()
    boxes[:, 0], boxes[:, 2] = width - mirrored.boxes[:, 2], width - mirrored.boxes[:, 0]
    return Detections.concatenate([upright, dataclasses.replace(mirrored, boxes=boxes)])


def _unsupported(found: Detections, supported: Detections) -> int:
    """How many detections touch nothing that the reference sees."""
    order = np.argsort(supported.photo, kind="stable")
    starts = np.searchsorted(supported.photo[order], found.photo)
    ends = np.searchsorted(supported.photo[order], found.photo, side="right")
    return sum(
        not (_overlap(box, supported.boxes[order[start:end]]) >= TOUCHING).any()
        for box, start, end in zip(found.boxes, starts, ends, strict=True)
    )


def _overlap(box: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float32]:
    """Intersection over union of one box with (N, 4) others."""
    low, high = np.maximum(box[:2], others[:, :2]), np.minimum(box[2:], others[:, 2:])
    shared = np.maximum(high - low, 0).prod(axis=1)
    areas = (others[:, 2:] - others[:, :2]).prod(axis=1) + (box[2:] - box[:2]).prod()
    overlap: NDArray[np.float32] = shared / np.maximum(areas - shared, 1e-6)
    return overlap


def _compare(found: Detections, wanted: Detections) -> dict[str, float]:
    """One aligner's largest faces against the reference's."""
    place = {int(photo): index for index, photo in enumerate(found.photo)}
    errors, other, missed = [], 0, 0
    for photo, points in zip(wanted.photo, wanted.landmarks, strict=True):
        index = place.get(int(photo))
        if index is None:
            missed += 1
            continue
        eyes = float(np.linalg.norm(points[0] - points[1]))
        error = float(np.linalg.norm(found.landmarks[index] - points, axis=1).mean()) / max(eyes, 1e-6)
        if error > SAME_FACE:
            other += 1
        else:
            errors.append(error)
    middle, high = np.quantile(errors, [0.5, 0.9]) if errors else (float("nan"),) * 2
    return {
        "landmark_error": float(middle),
        "landmark_error_90": float(high),
        "other_face": other / max(len(wanted), 1),
        "missed": missed / max(len(wanted), 1),
    }


_COLUMNS = (
    ("photos/s", "photos_per_second", "{:,.0f}"),
    ("a core", "photos_per_core_second", "{:,.0f}"),
    ("detected", "detection_rate", "{:.2%}"),
    ("faces", "faces_per_photo", "{:.3f}"),
    ("false", "false_per_photo", "{:.3f}"),
    ("landmarks", "landmark_error", "{:.2%}"),
    ("90 %", "landmark_error_90", "{:.2%}"),
    ("other face", "other_face", "{:.2%}"),
    ("missed", "missed", "{:.2%}"),
)


def report(document: dict[str, Any]) -> str:
    """The table."""
    rows = []
    for name, figures in document["sets"].items():
        for aligner, values in figures.items():
            if isinstance(values, dict):
                cells = [form.format(values[key]) for _, key, form in _COLUMNS]
                rows.append([f"{name} ({figures['photos']:,}), {aligner}", *cells])
    return common.table(["set, aligner", *(title for title, _, _ in _COLUMNS)], rows)


if __name__ == "__main__":
    main()
