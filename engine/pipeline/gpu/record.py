"""From a detector's outputs to faces on the host: what several scans found goes into one record, and comes home with one wait.

    scans = [find(lane, levels, scales, thresholds, counts.rows(0, 128)), ...]      # nothing is waited for
    faces = fetch(lane, counts, scans, refined)                                     # here it is

The record has room for a number of faces that is guessed. Where there are more, which its counts tell, it is made once more, larger.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from faceembed.engine.detect.detections import Detections
from faceembed.engine.models.oneshot import CHANNELS, STRIDES
from faceembed.engine.pipeline.gpu.kernels import LETTER, check
from faceembed.engine.pipeline.gpu.lane import Argument, Lane
from faceembed.engine.runtimes.arrays import DeviceArray
from faceembed.errors import DeviceError

ROOM = 256  # faces of all scans of a look: 2 a photo
_FACE_BYTES = 4 * (1 + 4 + 10 + 1)  # photo, box, landmarks, score


@dataclasses.dataclass(frozen=True)
class Thresholds:
    """Of `find`; fields as in `OneShotSettings`."""

    candidate_score: float
    overlap: float
    blend: float

    @property
    def logit(self) -> float:
        """The least score as a logit."""
        return math.log(self.candidate_score / (1 - self.candidate_score))


@dataclasses.dataclass(frozen=True)
class Scan:
    """What was found on canvases of one shape, on the device."""

    found: DeviceArray
    """float32 (N, cells, 15), the faces of each canvas first."""
    owner: NDArray[np.int32]
    """(N,) each canvas's photo."""


@dataclasses.dataclass(frozen=True)
class Record:
    """Faces of all scans, on the device; rows that no face took are NaN, and their photo is -1."""

    photo: DeviceArray
    boxes: DeviceArray
    landmarks: DeviceArray
    scores: DeviceArray


def find(
    lane: Lane,
    levels: Sequence[DeviceArray],
    scales: NDArray[np.float32],
    owner: NDArray[np.int32],
    thresholds: Thresholds,
    counts: DeviceArray,
) -> Scan:
    """Read the one-shot network's outputs: decode, suppress what overlaps, average what agrees.

    Args:
        lane: where.
        levels: float16 or float32 (N, 15, H/stride, W/stride) for each stride.
        scales: (N, 2) canvas pixels per photo pixel, x then y.
        owner: (N,) each canvas's photo.
        thresholds: as in `OneShotSettings`.
        counts: int32 (N, 2), of the canvases of all scans, to be written: faces, and cells whose answer is not a number.

    Raises:
        ValueError: a wrong shape or dtype.
    """
    count, height, width = _check_levels(levels)
    if np.shape(scales) != (count, 2) or np.shape(owner) != (count,):
        raise ValueError(
            f"scales and owner must be ({count}, 2) and ({count},), are {np.shape(scales)}, {np.shape(owner)}"
        )
    check(counts, np.int32, (count, 2), "counts")
    cells = sum((height // stride) * (width // stride) for stride in STRIDES)
    found = lane.empty((count, cells, CHANNELS), np.float32)
    arguments: list[Argument] = [*levels, np.int32(height), np.int32(width), lane.put(np.asarray(scales, np.float32))]
    arguments += [np.float32(thresholds.logit), np.float64(thresholds.overlap), np.float64(thresholds.blend)]
    arguments += [
        lane.empty((count, CHANNELS, cells), np.float32),
        lane.empty((count, 2, cells), np.int32),
        found,
        counts,
    ]
    lane.launch(f"fe_find_{LETTER[levels[0].dtype]}", count, arguments)
    return Scan(found, np.asarray(owner, np.int32))


def _nothing(record: Record) -> None:
    return None


def fetch(
    lane: Lane,
    counts: DeviceArray,
    scans: Sequence[Scan],
    refined: Callable[[Record], None] = _nothing,
    *,
    room: int = ROOM,
) -> Detections:
    """Bring the faces of all scans home, packed.

    Args:
        lane: where.
        counts: int32 (N, 2) of the canvases of all scans, in their order.
        scans: from `find`.
        refined: changes the record on the device before it is fetched; puts work into the lane.
        room: for so many faces first.

    Returns:
        Faces in pixels of the photos, on the host, by canvas and then by falling score.

    Raises:
        DeviceError: the network's outputs are not all numbers.
    """
    while True:
        memory = lane.empty((counts.nbytes + room * _FACE_BYTES,), np.uint8)
        lane.fill(memory, 0xFF)
        record = _record(memory, counts.nbytes, room)
        lane.copy(DeviceArray(memory.pointer, counts.shape, counts.dtype, memory), counts)
        before = 0
        for scan in scans:
            canvases, cells, _ = scan.found.shape
            arguments: list[Argument] = [scan.found, counts, np.int32(before), lane.put(scan.owner), np.int32(cells)]
            arguments += [np.int32(room), record.photo, record.boxes, record.landmarks, record.scores]
            lane.launch("fe_collect", canvases, arguments)
            before += canvases
        refined(record)
        told = lane.get(memory)
        numbers = told[: counts.nbytes].view(np.int32).reshape(-1, 2)
        if numbers[:, 1].any():
            raise DeviceError(
                f"the aligner's outputs for {np.count_nonzero(numbers[:, 1])} of {len(numbers)} canvases are not numbers: it "
                "overflows in this precision; use --precision fp32"
            )
        total = int(numbers[:, 0].sum())
        if total <= room:
            return _on_host(told[counts.nbytes :], room, total)
        room = -(-total // ROOM) * ROOM


def find_faces(
    lane: Lane,
    levels: Sequence[DeviceArray],
    scales: NDArray[np.float32],
    owner: NDArray[np.int32],
    thresholds: Thresholds,
) -> Detections:
    """`find` and `fetch` for one scan."""
    if levels[0].shape[0] == 0:
        return Detections.none()
    counts = lane.empty((levels[0].shape[0], 2), np.int32)
    return fetch(lane, counts, [find(lane, levels, scales, owner, thresholds, counts)])


def _offsets(room: int) -> tuple[int, int, int, int]:
    """Where boxes, landmarks and scores begin behind the photos, and where all ends, in numbers of 4 bytes."""
    return room, 5 * room, 15 * room, 16 * room


def _record(memory: DeviceArray, start: int, room: int) -> Record:
    boxes, landmarks, scores, _ = _offsets(room)

    def part(number: int, shape: tuple[int, ...], kind: type) -> DeviceArray:
        return DeviceArray(memory.pointer + start + 4 * number, shape, np.dtype(kind), memory)

    return Record(
        part(0, (room,), np.int32),
        part(boxes, (room, 4), np.float32),
        part(landmarks, (room, 5, 2), np.float32),
        part(scores, (room,), np.float32),
    )


def _on_host(told: NDArray[np.uint8], room: int, total: int) -> Detections:
    boxes, landmarks, scores, end = _offsets(room)
    numbers = told.view(np.float32)
    return Detections(
        told.view(np.int32)[:total].copy(),
        numbers[boxes:landmarks].reshape(room, 4)[:total].copy(),
        numbers[landmarks:scores].reshape(room, 5, 2)[:total].copy(),
        numbers[scores:end][:total].copy(),
    )


def _check_levels(levels: Sequence[DeviceArray]) -> tuple[int, int, int]:
    """Canvases, height and width of outputs that fit each other."""
    count, _, rows, columns = levels[0].shape
    height, width, dtype = rows * STRIDES[0], columns * STRIDES[0], levels[0].dtype
    if dtype not in (np.float16, np.float32):
        raise ValueError(f"levels must be float16 or float32, but their dtype is {dtype}")
    if height % STRIDES[-1] or width % STRIDES[-1]:
        raise ValueError(f"canvases must have sides that are multiples of {STRIDES[-1]}, but are {height} x {width}")
    for stride, level in zip(STRIDES, levels, strict=True):
        check(level, dtype, (count, CHANNELS, height // stride, width // stride), f"level_{stride}")
    return count, height, width
