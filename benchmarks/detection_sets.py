"""The photos that `detection.py` measures aligners on, beyond people looking into the camera.

| set        | what                                                                    | where, under the data folder                              |
| ---------- | ----------------------------------------------------------------------- | --------------------------------------------------------- |
| turned     | 1,000 photos of LFW's View 2, turned by 90, 180 or 270 degrees            | `lfw`                                                     |
| profiles   | AFLW's faces by how far the nose lies from the eyes' middle               | `faces/aflw-mtfl/-/*.jpg`, points in `faces/aflw_points.txt` |
| masks      | face-mask-12k: half of the people wear a mask, many pictures are poor     | `faces/face-mask-12k/*/*`                                 |
| groups     | pictures of `make_groups.py`: heads of 20 to 400 px on pictures of 1 to 48 MP | `groups/*.jpg`, `groups/truth.csv`                    |
| no_faces   | pictures without a person, statues and drawings left out                  | `no_faces`                                                |

`aflw_points.txt` is `new_testing.txt` of the public repository that `faces.tsv` names for aflw-mtfl: a name and ten numbers a line, five x
and five y in pixels. It knows nothing of detectors.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from pathlib import Path

import common
import numpy as np
from numpy.typing import NDArray

from faceembed.engine.detect.detections import Detections
from faceembed.engine.evaluate.pair_formats import read_pairs
from faceembed.trainer.data.split import split_people

Pixels = NDArray[np.uint8]
HALF, PROFILE = 0.15, 0.45
"""Distance of the nose's tip from the eyes' middle, along the line of the eyes, in units of their distance: from here on a face is half
turned, or a profile."""
SETS = ("lfw", "people_wild", "turned", "profiles", "masks", "groups", "no_faces")
MASKS = 2000  # photos drawn
SPLIT, SPLIT_SEED = {"train": 180, "validate": 20, "test": 40}, 7
POSES = ("frontal", "half turned", "profile")


def turned(photos: Sequence[Pixels]) -> list[Pixels]:
    """Each photo turned against the clock by 90, 180, 270 degrees, the next one by 90 again."""
    return [np.ascontiguousarray(np.rot90(photo, turns(index))) for index, photo in enumerate(photos)]


def turns(index: int) -> int:
    """By how many quarters the photo at an index is turned."""
    return 1 + index % 3


def turned_boxes(faces: Detections, photos: Sequence[Pixels]) -> Detections:
    """Where the faces of upright photos lie in the turned ones; their landmarks are not moved."""
    boxes = faces.boxes.copy()
    for place, index in enumerate(faces.photo.tolist()):
        width, height = photos[index].shape[1], photos[index].shape[0]
        for _ in range(turns(index)):
            x1, y1, x2, y2 = boxes[place]
            boxes[place] = y1, width - x2, y2, width - x1
            width, height = height, width
    return Detections(faces.photo, boxes, faces.landmarks, faces.scores)


def poses(root: Path) -> dict[str, list[str]]:
    """AFLW's photos by pose.

    Raises:
        BenchmarkError: photos or points are not there.
    """
    folder, points = root / "faces" / "aflw-mtfl" / "-", root / "faces" / "aflw_points.txt"
    if not points.is_file():
        raise common.BenchmarkError(
            f"no {points}; see the head of benchmarks/detection_sets.py, or leave --set profiles out"
        )
    found: dict[str, list[str]] = {pose: [] for pose in POSES}
    for line in points.read_text("utf-8").splitlines():
        name, *numbers = line.split()
        path = folder / Path(name).name
        if len(numbers) == 10 and path.is_file():
            found[POSES[pose(np.array(numbers, float).reshape(2, 5).T)]].append(str(path))
    return {f"profiles: {name}": paths for name, paths in found.items() if paths}


def pose(points: NDArray[np.float64]) -> int:
    """Which of `POSES` five landmarks (5, 2) are."""
    eyes = points[1] - points[0]
    length = max(float(eyes @ eyes), 1e-9)
    off = abs(float((points[2] - points[:2].mean(axis=0)) @ eyes)) / length
    return int(off >= HALF) + int(off >= PROFILE)


def groups(root: Path) -> tuple[list[str], Detections]:
    """Group photos, and the faces in them; ``photo`` is a place in the list.

    Raises:
        BenchmarkError: they are not there.
    """
    truth = root / "groups" / "truth.csv"
    if not truth.is_file():
        raise common.BenchmarkError(f"no {truth}; make it with shared/data/make_groups.py, or leave --set groups out")
    with open(truth, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    names = sorted({row["picture"] for row in rows})
    place = {name: index for index, name in enumerate(names)}
    corners = np.array([[float(row[key]) for key in "xywh"] for row in rows], np.float32).reshape(-1, 4)
    corners[:, 2:] += corners[:, :2]
    count = len(rows)
    faces = Detections(
        np.array([place[row["picture"]] for row in rows], np.int32),
        corners,
        np.zeros((count, 5, 2), np.float32),
        np.ones(count, np.float32),
    )
    return [str(truth.parent / name) for name in names], faces


def without_people(root: Path) -> dict[str, list[str]]:
    """`no_faces` by half; what an aligner chose itself (`hard_crops`) and statues are left out."""
    return {
        f"no_faces: {half}": [
            str(root / "no_faces" / half / path)
            for path in common.list_photos(root / "no_faces" / half)
            if not path.startswith(("hard_crops", "statues_drawings"))
        ]
        for half in ("train", "test")
    }


def at_hand() -> list[str]:
    """The sets whose folders are there."""
    root = common.data_root()
    places = {
        "turned": "lfw",
        "profiles": "faces/aflw_points.txt",
        "masks": "faces/face-mask-12k",
        "groups": "groups/truth.csv",
    }
    return [name for name in SETS if (root / places.get(name, name)).exists()]


def parts(name: str) -> dict[str, list[str]]:
    """The pictures of a set that has no reference, by part."""
    root = common.data_root()
    if name == "profiles":
        return poses(root)
    if name == "no_faces":
        return without_people(root)
    folder = root / "faces" / "face-mask-12k"
    return {"masks": common.sample([str(folder / path) for path in common.list_photos(folder)], MASKS)}


def people(name: str, parts: Sequence[str]) -> list[str]:
    """The photos of a set's people that nothing was trained on."""
    root = common.data_root()
    if name == "lfw":
        return sorted(read_pairs(root / "lfw_pairs.txt", root=root / "lfw").photos)
    folder = root / "people_wild"
    split = split_people(os.listdir(folder), **SPLIT, seed=SPLIT_SEED)
    return [str(folder / photo) for part in parts for person in split[part] for photo in _photos(folder, person)]


def _photos(folder: Path, person: str) -> list[str]:
    return [f"{person}/{photo}" for photo in common.list_photos(folder / person)]
