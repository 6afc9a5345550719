"""Could five landmarks tell the pitch of a head? How far the guess differs between people, beside the yaw's.

    python benchmarks/pose.py lfw.faiss people_wild.faiss          # indexes of folders of people, made by `embed`

No photos of known pitch are at hand, so what can be measured is this: over a person's photos, poses average out, and what is left of an
angle's mean is the face's own. An angle that is read well has means near 0 for everybody. The pitch is read as the yaw is
(`quality.pose`): a nose that stands out by ``NOSE`` distances of the eyes moves along the line from eyes to mouth. Photos beyond 20 degrees of yaw are left out, and people
with fewer than `LEAST` photos.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import common
import numpy as np
from numpy.typing import NDArray

from faceembed.engine.index.files import IndexFiles
from faceembed.engine.index.store import load_faces
from faceembed.engine.photos.photo_file import decode_path
from faceembed.engine.pipeline.quality import NOSE, pose

LEAST, FRONTAL = 8, 20.0
Floats = NDArray[np.float64]


def would_be_pitch(landmarks: Floats, frontal: NDArray[np.bool_]) -> tuple[Floats, float]:
    """Degrees of each face, 0 for the middle of the frontal ones; and the middle of the ratio that they are read off."""
    eyes, mouth = landmarks[:, :2].mean(axis=1), landmarks[:, 3:].mean(axis=1)
    axis, distance = mouth - eyes, np.linalg.norm(landmarks[:, 1] - landmarks[:, 0], axis=1)
    length = np.linalg.norm(axis, axis=1)
    ratio = ((landmarks[:, 2] - eyes) * axis).sum(axis=1) / length**2
    middle = float(np.median(ratio[frontal]))
    return np.degrees(np.arctan((ratio - middle) / np.median(NOSE * distance[frontal] / length[frontal]))), middle


def spreads(angles: Floats, people: NDArray[np.str_]) -> dict[str, float]:
    """Standard deviations within and between people (one-way analysis of variance), of people with `LEAST` photos and more."""
    groups = [
        angles[people == name]
        for name, count in zip(*np.unique(people, return_counts=True), strict=True)
        if count >= LEAST
    ]
    within = sum(float(((of - of.mean()) ** 2).sum()) for of in groups) / (sum(map(len, groups)) - len(groups))
    means = np.array([of.mean() for of in groups])
    between = max(float(means.var(ddof=1)) - float(np.mean([within / len(of) for of in groups])), 0.0)
    return {
        "people": len(groups),
        "within": within**0.5,
        "between": between**0.5,
        "share": between / (within + between),
    }


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Both angles on every set."""
    sets = {}
    for index in args.indexes:
        rows = load_faces(IndexFiles.of(index)).rows
        landmarks = np.array(rows.column("landmarks").to_pylist(), np.float64).reshape(-1, 5, 2)
        people = np.array([Path(decode_path(path)).parent.name for path in rows.column("path").to_pylist()])
        yaw = pose(landmarks.astype(np.float32))[0].astype(np.float64)
        frontal = np.abs(yaw) < FRONTAL
        pitch, middle = would_be_pitch(landmarks, frontal)
        found = {name: spreads(of[frontal], people[frontal]) for name, of in (("pitch", pitch), ("yaw", yaw))}
        sets[index.name] = {"ratio": middle, **found}
    return {"what": "pitch", "machine": common.machine(), "sets": sets}


def report(document: dict[str, Any]) -> str:
    """A row an angle and set."""
    rows = [
        (
            name,
            angle,
            f"{of['ratio']:.3f}",
            *(f"{of[angle][key]:.1f}" for key in ("within", "between")),
            f"{of[angle]['share']:.2f}",
        )
        for name, of in document["sets"].items()
        for angle in ("pitch", "yaw")
    ]
    return common.table(("", "", "ratio", "within, degrees", "between people", "share of variance"), rows)


def main() -> None:
    """Measure, print a table, then one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("indexes", type=Path, nargs="+", metavar="FAISS", help="of folders of people")
    parser.add_argument("--json", type=Path, help="also write the result here")
    common.run_and_report(parser.parse_args(), run, report)


if __name__ == "__main__":
    main()
