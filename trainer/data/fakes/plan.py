"""Which fakes to make: for each photo and method a second photo of somebody else, near in pose, size and looks.

What is drawn for a fake depends on the seed, its method, its photo's name and its number alone, so that a part of a plan
made again, in any order and by any number of workers, gives the same pictures.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from faceembed.engine.photos.failures import Failure
from faceembed.engine.photos.photo_file import encode_path
from faceembed.trainer.data.crop_names import safe_name
from faceembed.trainer.data.fakes.faces import Face, poses

POOL = 2048  # photos that a partner is looked for among
NEAREST = 8  # of them the best, of which one is drawn
_FARTHEST = np.array(
    [22.0, 22.0, 40.0, 1.3]
)  # differences of yaw, pitch, roll (degrees) and size (octaves) put up with
_TURNED = 14.0  # degrees between the poses of a face and of the one that drives it
_LOOKS = 0.05  # cosines that count like one unit of pose: what the middle half of strangers spans (train people of `people_wild`)


@dataclasses.dataclass(frozen=True)
class Job:
    """One fake to make; ``source`` and ``target`` are positions in the list of faces."""

    method: str
    source: int
    target: int
    seed: int
    name: str
    """The picture's path below the folder."""


class Planner:
    """Finds a second photo for each.

    Args:
        faces: all usable ones.
        root: folder that photos are named relative to.
        parts: each person's part of the split; empty: all are in one. People in no part are not used.
        seed: of the run.
    """

    def __init__(self, faces: Sequence[Face], root: str, parts: Mapping[str, str], seed: int) -> None:
        self._faces = faces
        self._seed = seed
        self._names = [encode_path(os.path.relpath(face.sample.path, root)) for face in faces]
        self._poses = poses(faces)
        self._vectors = np.stack([face.embedding for face in faces])
        persons = {person: number for number, person in enumerate(sorted({face.sample.person for face in faces}))}
        self._person = np.array([persons[face.sample.person] for face in faces])
        self._part = np.array([parts.get(face.sample.person, "") for face in faces])
        self._members = {part: np.flatnonzero(self._part == part) for part in np.unique(self._part)}
        self.usable = [i for i in range(len(faces)) if not parts or faces[i].sample.person in parts]

    def order(self, method: str) -> list[int]:
        """The usable faces in an order of this method's own, for a number of fakes that is not one for each."""
        return sorted(self.usable, key=lambda index: self._digest("order", method, index, 0))

    def job(self, method: str, index: int, number: int) -> Job | Failure:
        """The ``number``-th fake of a photo by a method, or why there is none."""
        face = self._faces[index]
        target: int | None = index
        if method != "selfblend":
            rng = np.random.default_rng(int.from_bytes(self._digest("partner", method, index, number)[:8], "big"))
            target = self._partner(index, rng, apart=method == "reenact")
        if target is None:
            reason = f"{method}: no photo of anybody else with a face in a similar pose and size"
            return Failure(face.file, "fake", reason)
        digest = self._digest("fake", method, index, number)
        seed = int.from_bytes(digest[:8], "big") >> 1
        stem = os.path.splitext(os.path.basename(face.sample.path))[0]
        name = f"{safe_name(stem)}~{digest.hex()[:10]}.jpg"
        return Job(method, index, target, seed, os.path.join(method, safe_name(face.sample.person), name))

    def _digest(self, *what: object) -> bytes:
        purpose, method, index, number = what
        assert isinstance(index, int)
        text = "\0".join((str(self._seed), str(purpose), str(method), self._names[index], str(number)))
        return hashlib.sha256(text.encode()).digest()

    def _partner(self, index: int, rng: np.random.Generator, *, apart: bool) -> int | None:
        """A photo of another person of the same part: in a similar pose, or, ``apart``, in a somewhat different one."""
        members = self._members[self._part[index]]
        members = members[self._person[members] != self._person[index]]
        if len(members) > POOL:
            members = members[np.sort(rng.choice(len(members), POOL, replace=False))]
        difference = np.abs(self._poses[members] - self._poses[index])
        near = difference[:, 2] <= 180 if apart else (difference <= _FARTHEST).all(axis=1)
        members, difference = members[near], difference[near]
        if not len(members):
            return None
        cost = _turned(difference) if apart else (difference / (7, 8, 20, 0.5)) ** 2 @ np.ones(4)
        cost = cost + 3 * (1 - self._vectors[members] @ self._vectors[index]) / _LOOKS
        best = np.argsort(cost, kind="stable")[:NEAREST]
        return int(members[best[int(rng.integers(len(best)))]])


def _turned(difference: NDArray[np.float64]) -> NDArray[np.float64]:
    """How far the turn between two faces is from `_TURNED`."""
    cost: NDArray[np.float64] = ((np.hypot(difference[:, 0], difference[:, 1]) - _TURNED) / 4) ** 2
    return cost
