"""Faces of a video's frames joined into tracks: one row for each time that somebody is seen, that of the frame that shows the face best.

Frames are gone through in the order of time. A face goes on with a track whose face is alike, or somewhat alike and in its place, the most alike
first; of a frame one face goes with a track at most. Linear in the faces of a video, times those seen side by side.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from faceembed.engine.detect.boxes import overlaps
from faceembed.engine.index.shards import FaceTable
from faceembed.engine.models.spec import ModelSpec
from faceembed.engine.models.thresholds import USUAL, threshold_of
from faceembed.engine.photos.archives.names import SEPARATOR, VIDEOS, split
from faceembed.engine.photos.archives.video import seconds_of
from faceembed.engine.photos.columns import column
from faceembed.engine.photos.failures import Failure
from faceembed.engine.photos.photo_file import decode_path

TRACK = "track"
"""The stage of frames whose faces are all in tracks that other frames show better."""
LOST_MS = 5000
"""A face that was not seen for so long begins another track."""
NEAR_MS = 2000
"""Within so long a face may be known by its place."""
PLACE = 0.3
"""Intersection over union of two boxes from which on a face is in its place. It and the times are plain choices: there was no video with names
to choose them on."""


@dataclasses.dataclass(frozen=True)
class TrackRule:
    """From which similarity on two faces of a video are one person's."""

    alike: float
    """Wherever they are."""
    likely: float
    """Where they are in the same place."""

    @classmethod
    def of(cls, spec: ModelSpec) -> TrackRule | None:
        """By an encoder's thresholds: the usual one, and the lowest of all; None where none was measured."""
        own, _ = threshold_of(spec)
        if own is None:
            return None
        usual = [level.threshold for level in spec.thresholds if level.fmr == USUAL]
        return cls(max([own, *usual]), min([own, *(level.threshold for level in spec.thresholds)]))


@dataclasses.dataclass(frozen=True)
class Seen:
    """F faces of frames."""

    paths: Sequence[str]
    """Of their frames; paths of photos are passed over."""
    boxes: NDArray[np.float32]
    """(F, 4) x1, y1, x2, y2 in pixels."""
    norms: Sequence[float]
    """The higher, the better a face is seen."""
    vectors: NDArray[np.float32]
    """(F, D), unit length."""


@dataclasses.dataclass
class Joined:
    """A track: faces by their places in `Seen`, in the order of time."""

    rows: list[int]
    best: int
    first_ms: int
    last_ms: int


def tracks_of(seen: Seen, rule: TrackRule) -> list[Joined]:
    """The tracks of all videos; each face of a frame is in one.

    Args:
        seen: faces of frames that are in no track yet, and of photos.
        rule: which faces are one person's.
    """
    return [track for rows, times in _videos(seen.paths).values() for track in _tracks(seen, rows, times, rule)]


def joined(faces: FaceTable, rule: TrackRule) -> tuple[FaceTable, list[Failure]]:
    """Join the faces of frames into tracks.

    Args:
        faces: of photos, and of frames that are in no track yet.
        rule: which faces are one person's.

    Returns:
        The same without what another row stands for; those of videos with ``first_ms``, ``last_ms`` and ``frames``. And a row for each
        frame that has no face of its own any more.
    """
    paths = [decode_path(text) for text in faces.rows.column("path").to_pylist()]
    if not _videos(paths):
        return faces, []
    x, y, width, height = (np.asarray(faces.rows.column(name).to_pylist(), np.float32) for name in "xywh")
    boxes = np.stack([x, y, x + width, y + height], axis=1)
    tracks = tracks_of(Seen(paths, boxes, faces.rows.column("norm").to_pylist(), faces.vectors), rule)
    kept = np.ones(len(faces), np.bool_)
    values: dict[str, list[int | None]] = {name: faces.rows.column(name).to_pylist() for name in _COLUMNS}
    gone: dict[str, str] = {}
    for track in tracks:
        kept[track.rows] = False
        kept[track.best] = True
        for name, value in zip(_COLUMNS, (track.first_ms, track.last_ms, len(track.rows)), strict=True):
            values[name][track.best] = value
        gone |= {paths[row]: paths[track.best] for row in track.rows if row != track.best}
    table = faces.rows
    for name in _COLUMNS:
        at = table.schema.get_field_index(name)
        table = table.set_column(at, table.schema.field(at), column(values[name], table.schema.field(at).type))
    there = {path for path, stays in zip(paths, kept, strict=True) if stays}
    files = {photo.path: photo for photo in faces.photos()}
    lost = [
        Failure(files[path], TRACK, f"its face is in the track that is shown best at {best.rpartition(SEPARATOR)[2]}")
        for path, best in gone.items()
        if path not in there
    ]
    return FaceTable(table, faces.vectors).take(kept), lost


class Joiner:
    """`joined` for faces that come in pieces, in the order of their paths: the last video of a piece may go on in the next, and waits for it.

    Args:
        rule: which faces are one person's; None: all stay as they are.
        dimension: of embeddings.
    """

    def __init__(self, rule: TrackRule | None, dimension: int) -> None:
        self._rule = rule
        self._dimension = dimension
        self._waiting: dict[str, list[FaceTable]] = {}

    def add(self, faces: FaceTable, failures: dict[str, Failure]) -> FaceTable:
        """Take a piece; returns what can be written of it and of earlier ones.

        Args:
            faces: of photos and frames.
            failures: by path; gets a row for each frame without a face of its own.
        """
        videos = _videos([decode_path(text) for text in faces.rows.column("path").to_pylist()]) if self._rule else {}
        if not videos:
            return faces
        last = max(videos, key=lambda name: videos[name][0][-1])
        ended = [table for name in videos if name != last for table in self._waiting.pop(name, [])]
        waits = np.zeros(len(faces), np.bool_)
        waits[videos[last][0]] = True
        self._waiting.setdefault(last, []).append(faces.take(waits))
        return self._joined([*ended, faces.take(~waits)], failures)

    def rest(self, failures: dict[str, Failure]) -> FaceTable:
        """What is left at the end; arguments as for `add`."""
        tables = [table for waiting in self._waiting.values() for table in waiting]
        self._waiting.clear()
        return self._joined(tables, failures)

    def _joined(self, tables: list[FaceTable], failures: dict[str, Failure]) -> FaceTable:
        faces = FaceTable.concatenate(tables, self._dimension)
        if self._rule is None:
            return faces
        faces, lost = joined(faces, self._rule)
        failures.update({failure.photo.path: failure for failure in lost})
        return faces


_COLUMNS = ("first_ms", "last_ms", "frames")


def _videos(paths: Sequence[str]) -> dict[str, tuple[list[int], dict[int, int]]]:
    """By video the places of its frames in the order of time, and the time of each in milliseconds."""
    found: dict[str, tuple[list[int], dict[int, int]]] = {}
    for row, path in enumerate(paths):
        inside = split(path) if SEPARATOR in path else None
        if inside is None or not inside[0].lower().endswith(VIDEOS):
            continue
        if (seconds := seconds_of(inside[1])) is not None:
            rows, times = found.setdefault(inside[0], ([], {}))
            rows.append(row)
            times[row] = round(1000 * seconds)
    for rows, times in found.values():
        rows.sort(key=lambda row: (times[row], row))
    return found


def _tracks(seen: Seen, rows: list[int], times: dict[int, int], rule: TrackRule) -> list[Joined]:
    """The tracks of one video."""
    done: list[Joined] = []
    going: list[Joined] = []
    for now, shown in _by_time(rows, times):
        done += [track for track in going if now - track.last_ms > LOST_MS]
        going = [track for track in going if now - track.last_ms <= LOST_MS]
        taken: set[int] = set()
        for place, row in _pairs(seen, going, shown, now, rule):
            track = going[place]
            if row not in taken and track.last_ms != now:
                taken.add(row)
                track.rows.append(row)
                track.last_ms = now
                track.best = max(track.best, row, key=lambda one: (seen.norms[one], -one))
        going += [Joined([row], row, now, now) for row in shown if row not in taken]
    return done + going


def _by_time(rows: list[int], times: dict[int, int]) -> Iterator[tuple[int, list[int]]]:
    """Each time with its rows."""
    groups: dict[int, list[int]] = {}
    for row in rows:
        groups.setdefault(times[row], []).append(row)
    yield from groups.items()


def _pairs(seen: Seen, tracks: list[Joined], shown: list[int], now: int, rule: TrackRule) -> list[tuple[int, int]]:
    """Tracks, by their places, and rows that may go on with them, the most alike first."""
    if not tracks:
        return []
    last, best = [track.rows[-1] for track in tracks], [track.best for track in tracks]
    these = seen.vectors[shown].T
    alike = np.maximum(seen.vectors[last] @ these, seen.vectors[best] @ these)
    near = np.array([now - track.last_ms <= NEAR_MS for track in tracks])
    in_place = (overlaps(seen.boxes[last], seen.boxes[shown]) >= PLACE) & near[:, None]
    fits = (alike >= rule.alike) | (in_place & (alike >= rule.likely))
    order = np.argsort(-alike, axis=None, kind="stable")
    every = (divmod(int(at), len(shown)) for at in order)
    return [(place, shown[at]) for place, at in every if fits[place, at]]
