"""Aligners side by side: how fast they are, how many photos they find a face in, how many things that are none, how exactly.

    python benchmarks/detection.py                              # every set at hand; mtcnn, the built-in aligners, yunet if it is installed
    python benchmarks/detection.py --quick                      # 40 photos of each set, once: a look, no figure to quote
    python benchmarks/detection.py --set lfw people_wild --aligner mtcnn mine.onnx --photos 500 --json results/detection.json

A face counts from its aligner's own least score on (`min_score`). Of `lfw` and `people_wild` the first aligner is the reference: its
largest face is what the others' landmarks are compared with, in units of the distance between the eyes; a photo where the other's
largest face is another one counts as `other_face` and not in the error. A detection is false where the reference, shown the photo as it
is and mirrored with lower thresholds than it is used with, sees nothing there: an upper bound, because the reference misses faces too.
The other sets (`detection_sets`) say what is found: a face at all in profiles and masks; of turned photos the face that the reference
sees upright; of group photos the faces of 40 pixels and more that were put there, and what is none of them, every face looked for in
tiles, as `--faces all` does; of pictures without people those with a false face.

The sets are people whom `faceembed-align` was not trained on: the photos of LFW's View 2 list, and the people of `people_wild`
that the split of seed 7 sets aside to validate and to test. The rate is of detection alone, on decoded photos, in batches of 32,
one thread a core, the largest face of each photo wanted; it goes through all photos `--rounds` times and the best counts.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import common
import detection_sets
import numpy as np
from detection_matches import compare, unsupported
from numpy.typing import NDArray

from faceembed.engine.detect.confirm import confirmed
from faceembed.engine.detect.detections import Detections
from faceembed.engine.detect.interface import Detector
from faceembed.engine.detect.kinds import open_detector
from faceembed.engine.detect.mtcnn import MtcnnDetector, MtcnnSettings
from faceembed.engine.detect.tiles import detect_every
from faceembed.engine.models import builtin
from faceembed.engine.models.registry import info, resolve
from faceembed.engine.photos.decode import decode, min_face_of, reduction_for
from faceembed.engine.photos.probe import probe
from faceembed.engine.runtimes.choose import RuntimeSettings, choose

BATCH = 32
LOOSE = MtcnnSettings(pnet_score=0.6, rnet_score=0.5, onet_score=0.5)
QUICK = 40
TURNED = 1000  # photos, where --photos says nothing
GROUP_FACE, GROUP_LEAST = 40.0, 32.0  # sides in pixels: of faces that are to be found, and of the smallest looked for


def main() -> None:
    """Measure, print a table, then one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--aligner", nargs="+", default=_aligners(), help="names or .onnx paths")
    parser.add_argument("--set", dest="sets", nargs="+", choices=detection_sets.SETS, help="(default: those at hand)")
    parser.add_argument("--part", nargs="+", default=["validate", "test"], help="of people_wild's split")
    parser.add_argument("--photos", type=int, default=0, help="a random sample of so many of each set; 0: all")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK} photos of each set, one round")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=0, help="0: all cores")
    parser.add_argument("--precision", default="auto", choices=["auto", "fp32", "bf16"])
    parser.add_argument("--json", type=Path, help="also write the result here")
    common.run_and_report(parser.parse_args(), run, report)


def _aligners() -> list[str]:
    """The reference, the built-in ones, and YuNet where the package with its weights is installed."""
    known = map(builtin.find, builtin.names())
    inside = [model.spec.name for model in known if model and model.spec.task == "aligner"]
    return ["mtcnn", *inside, *(name for name in ("yunet",) if info(name).state == "ready")]


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Every aligner on every set."""
    settings = RuntimeSettings(device="cpu", precision=args.precision, threads=args.threads)
    choice = choose(settings)
    detectors = {
        Path(name).stem: open_detector(resolve(name, task="aligner"), choice, threads=settings.thread_count)
        for name in args.aligner
    }
    result: dict[str, Any] = {
        "machine": common.machine(),
        "choice": dataclasses.asdict(choice),
        "quick": args.quick,
        "min_score": {name: detector.min_score for name, detector in detectors.items()},
        "sets": {},
    }
    rounds, threads = (1 if args.quick else args.rounds), settings.thread_count
    wanted = QUICK if args.quick else args.photos
    for name in args.sets or detection_sets.at_hand():
        if name in ("lfw", "people_wild"):
            photos = _decoded(common.sample(detection_sets.people(name, args.part), wanted))
            common.say(f"{name}: {len(photos):,} photos")
            result["sets"][name] = _measure_set(detectors, photos, rounds, threads)
        elif name == "turned":
            upright = _decoded(common.sample(detection_sets.people("lfw", ()), wanted or TURNED))
            common.say(f"{name}: {len(upright):,} photos")
            result["sets"][name] = _measure_turned(detectors, upright, threads)
        elif name == "groups":
            paths, truth = detection_sets.groups(common.data_root())
            common.say(f"{name}: {len(paths):,} photos, {len(truth):,} faces")
            count = min(wanted or len(paths), len(paths))
            result["sets"][name] = _measure_groups(detectors, paths[:count], truth.take(truth.photo < count), threads)
        else:
            for part, paths in detection_sets.parts(name).items():
                photos = _decoded(common.sample(paths, wanted))
                common.say(f"{part}: {len(photos):,} photos")
                result["sets"][part] = _measure_found(detectors, photos, rounds, threads, every=name == "no_faces")
    return result


def _decoded(paths: Sequence[str]) -> list[NDArray[np.uint8]]:
    return [decode(Path(path).read_bytes()).pixels for path in paths]


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
            "false_per_photo": unsupported(everything, supported) / len(photos),
            **compare(found, wanted),
        }
    return rows


def _measure_found(
    detectors: dict[str, Detector], photos: list[NDArray[np.uint8]], rounds: int, threads: int, *, every: bool
) -> dict[str, Any]:
    """In how many photos a face is found: the largest, or any at all."""
    smallest = [min_face_of(photo.shape[1], photo.shape[0], 0) for photo in photos]
    rows: dict[str, Any] = {"photos": len(photos)}
    for name, detector in detectors.items():
        found = _detect(detector, photos, smallest, threads, only_largest=not every)
        share = len(np.unique(found.photo)) / len(photos)
        rows[name] = {
            **_rate(detector, photos, smallest, threads, rounds),
            ("false_photos" if every else "detection_rate"): share,
            "faces_per_photo": len(found) / len(photos),
        }
    return rows


def _measure_turned(detectors: dict[str, Detector], upright: list[NDArray[np.uint8]], threads: int) -> dict[str, Any]:
    """Photos that lie on their side or head: a face where the reference sees one upright."""
    smallest = [min_face_of(photo.shape[1], photo.shape[0], 0) for photo in upright]
    reference = _detect(next(iter(detectors.values())), upright, smallest, threads, only_largest=True)
    wanted = detection_sets.turned_boxes(reference, upright)
    photos = detection_sets.turned(upright)
    rows: dict[str, Any] = {"photos": len(photos)}
    for name, detector in detectors.items():
        found = _detect(detector, photos, smallest, threads, only_largest=True)
        right = len(found) - unsupported(found, wanted)
        rows[name] = {"detection_rate": right / max(len(wanted), 1), "faces_per_photo": len(found) / len(photos)}
    return rows


def _measure_groups(
    detectors: dict[str, Detector], paths: Sequence[str], truth: Detections, threads: int
) -> dict[str, Any]:
    """Of the faces of `GROUP_FACE` pixels and more those that are found, and what is found where none is. One photo at a time."""
    large = truth.take(truth.sides() >= GROUP_FACE)
    rows: dict[str, Any] = {"photos": len(paths), "faces": len(large)}
    spent = dict.fromkeys(detectors, 0.0)
    found: dict[str, list[Detections]] = {name: [] for name in detectors}
    for index, path in enumerate(paths):
        data = Path(path).read_bytes()
        header = probe(data)
        photo = decode(data, reduction=reduction_for(header, 0, every=True), header=header)
        for name, detector in detectors.items():
            began = time.process_time()
            faces = detect_every(detector, [photo.pixels], [GROUP_LEAST / photo.reduction])
            if detector.confirms:
                faces = confirmed(detector, [photo.pixels], faces)
            spent[name] += time.process_time() - began
            faces = faces.take(faces.scores >= np.float32(detector.min_score))
            boxes = faces.boxes * photo.reduction - np.tile(np.array(photo.offset, np.float32), 2)
            found[name].append(dataclasses.replace(faces, photo=faces.photo + np.int32(index), boxes=boxes))
    for name, parts in found.items():
        faces = Detections.concatenate(parts)
        rows[name] = {
            "detection_rate": 1 - unsupported(large, faces) / max(len(large), 1),
            "faces_per_photo": len(faces) / len(paths),
            "false_per_photo": unsupported(faces, truth) / len(paths),
            "core_seconds_per_photo": spent[name] / len(paths),
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
    """Faces in all photos that are sure, batches side by side."""

    def one(start: int) -> Detections:
        part = slice(start, start + BATCH)
        faces = detector.detect(photos[part], smallest[part], only_largest=only_largest)
        faces = faces.take(faces.scores >= np.float32(detector.min_score))
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


_COLUMNS = (
    ("photos/s", "photos_per_second", "{:,.0f}"),
    ("a core", "photos_per_core_second", "{:,.0f}"),
    ("detected", "detection_rate", "{:.2%}"),
    ("faces", "faces_per_photo", "{:.3f}"),
    ("false", "false_per_photo", "{:.3f}"),
    ("false photos", "false_photos", "{:.2%}"),
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
                cells = [form.format(values[key]) if key in values else "" for _, key, form in _COLUMNS]
                rows.append([f"{name} ({figures['photos']:,}), {aligner}", *cells])
    return common.table(["set, aligner", *(title for title, _, _ in _COLUMNS)], rows)


if __name__ == "__main__":
    main()
