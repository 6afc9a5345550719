"""MTCNN (https://arxiv.org/abs/1604.02878), batched over photos, pyramid levels and candidates.

Faces are looked for from large to small, in rounds. Where only the largest face of a photo is wanted, a photo is done as
soon as no face of a later round could be more prominent than the one it has: most photos never see the expensive fine
levels.

The networks know nothing of this module's canvases.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from faceembed.engine.detect import pyramid
from faceembed.engine.detect.detections import Detections
from faceembed.engine.detect.interface import Detector, Photos
from faceembed.engine.detect.pyramid import STRIDE, WINDOW, Layout
from faceembed.engine.models.spec import Model
from faceembed.engine.native import _native
from faceembed.engine.runtimes.base import RuntimeChoice, Session
from faceembed.engine.runtimes.batching import run_in_chunks
from faceembed.engine.runtimes.sessions import open_session

CANVAS_PIXELS = 4 << 20  # in one run of PNet, which takes some 150 bytes for each; a single larger canvas runs alone


@dataclasses.dataclass(frozen=True)
class MtcnnSettings:
    """Thresholds of the cascade: face probabilities and intersection over union.

    Those of the original implementation, but for `pnet_score` (0.6 there): on 1,024 training photos of `people_wild` both find
    1,009 faces, and 0.7 sends a fifth fewer windows on.
    """

    pnet_score: float = 0.7
    rnet_score: float = 0.7
    onet_score: float = 0.8
    level_overlap: float = 0.5
    overlap: float = 0.7
    max_candidates: int = 256
    """At most this many windows of one photo go from PNet to RNet, best first: a bound on the work for busy textures."""


class MtcnnDetector(Detector):
    """Three networks and the pyramid around them.

    Args:
        model: the imported cascade, one file.
        choice: runtime, device and precision.
        threads: how many threads will call `detect` side by side.
        settings: thresholds.
        min_score: as `Detector.min_score`.
    """

    def __init__(
        self,
        model: Model,
        choice: RuntimeChoice,
        *,
        threads: int,
        settings: MtcnnSettings | None = None,
        min_score: float = 0.0,
    ) -> None:
        def network(*outputs: str) -> Session:
            return open_session(model, choice, outputs=outputs, threads=threads)

        self.model = model
        self.choice = choice
        self.min_score = min_score
        self.settings = settings or MtcnnSettings()
        self._pnet = network("pnet_score", "pnet_box")
        self._rnet = network("rnet_score", "rnet_box")
        self._onet = network("onet_score", "onet_box", "onet_landmarks")

    def exact(self) -> MtcnnDetector:
        """The same detector in fp32, on one thread."""
        choice = dataclasses.replace(self.choice, precision="fp32")
        return MtcnnDetector(self.model, choice, threads=1, settings=self.settings, min_score=self.min_score)

    def detect(self, photos: Photos, min_faces: Sequence[float], *, only_largest: bool) -> Detections:
        """Find faces.

        Args:
            photos: uint8 RGB (H, W, 3), any sizes.
            min_faces: for each photo the smallest face wanted, as a side in its pixels.
            only_largest: keep at most one face a photo, and stop looking for smaller ones once it is found.

        Returns:
            The faces, in pixels of ``photos``.
        """
        sizes = np.array([photo.shape[1::-1] for photo in photos], np.float64)
        smallest = np.asarray(min_faces, np.float32)
        longer = sizes.max(axis=1)
        finest = [pyramid.finest_level(side, face) for side, face in zip(longer, min_faces, strict=True)]
        best = np.zeros(len(photos))  # the highest prominence so far
        waiting = list(range(len(photos)))
        found: list[Detections] = []
        rounds = pyramid.MOSAICS
        for number in itertools.count():
            levels = rounds[number] if number < len(rounds) else (number - len(rounds) + 1,)
            if number >= len(rounds):
                waiting = [index for index in waiting if finest[index] >= levels[0]]
            if only_largest:
                bound = [pyramid.largest_of_level(levels[-1], side) for side in longer]
                waiting = [index for index in waiting if best[index] < bound[index]]
            if not waiting:
                break
            faces = self._refine(photos, self._propose(photos, waiting, levels))
            faces = faces.take(faces.sides() >= smallest[faces.photo])
            sure = faces.take(faces.scores >= np.float32(self.min_score))
            np.maximum.at(best, sure.photo, sure.prominence(sizes))
            found.append(faces)
        faces = self._suppress(Detections.concatenate(found), self.settings.overlap, "min")
        return faces.largest(sizes, self.min_score) if only_largest else faces

    def _propose(self, photos: Photos, members: Sequence[int], levels: tuple[int, ...]) -> _Candidates:
        """Windows that PNet takes for faces, at one level or on a mosaic of several."""
        groups: dict[Layout, list[int]] = {}
        for index in members:
            layout = _mosaic(levels) if len(levels) > 1 else pyramid.single(levels[0], *photos[index].shape[:2])
            groups.setdefault(layout, []).append(index)
        parts = [
            self._scan(photos, layout, group[start : start + size])
            for layout, group in groups.items()
            for size in [_canvases_at_once(layout)]
            for start in range(0, len(group), size)
        ]
        boxes = np.concatenate([part.boxes for part in parts])
        scores = np.concatenate([part.scores for part in parts])
        owners = np.concatenate([part.photo for part in parts])
        keep = _native.nms(boxes, scores, owners, self.settings.overlap, "union")
        keep = _first_of_each(owners, keep, self.settings.max_candidates)
        return _Candidates(owners[keep], _square(boxes[keep]), scores[keep])

    def _scan(self, photos: Photos, layout: Layout, group: list[int]) -> _Candidates:
        """Run PNet over canvases and turn its hot windows into boxes in photo pixels."""
        canvases, scales = pyramid.paint(layout, [photos[index] for index in group])
        chunk = _canvases_at_once(layout)
        scores, offsets = run_in_chunks(self._pnet, canvases, chunk=chunk, step=min(chunk, 4))
        owner = _owners(layout)
        sample, row, column = np.nonzero((scores[:, 0] > self.settings.pnet_score) & (owner >= 0))
        slot = owner[row, column]
        corner = np.stack([column, row], 1) * STRIDE
        origin = np.array([(s.x, s.y) for s in layout.slots])[slot]
        start = (corner - origin)[:, [0, 1, 0, 1]] + np.array([0, 0, WINDOW, WINDOW])
        boxes = (start + offsets[sample, :, row, column] * WINDOW) / scales[sample, slot][:, [0, 1, 0, 1]]
        values = scores[sample, 0, row, column]
        boxes = np.ascontiguousarray(boxes, np.float32)
        groups = (sample * len(layout.slots) + slot).astype(np.int32)
        keep = _native.nms(boxes, values, groups, self.settings.level_overlap, "union")
        members = np.asarray(group, np.int32)[sample[keep]]
        return _Candidates(members, boxes[keep], values[keep])

    def _refine(self, photos: Photos, found: _Candidates) -> Detections:
        """RNet and ONet on the candidates."""
        if len(found.photo) == 0:
            return Detections.none()
        settings = self.settings
        scores, offsets = run_in_chunks(self._rnet, _crop(photos, found, 24), chunk=128, step=16)
        keep = np.flatnonzero(scores[:, 0] > settings.rnet_score)
        boxes = _shift(found.boxes[keep], offsets[keep])
        owners, values = found.photo[keep], np.ascontiguousarray(scores[keep, 0])
        keep = _native.nms(boxes, values, owners, settings.overlap, "union")
        found = _Candidates(owners[keep], _square(boxes[keep]), values[keep])
        if len(found.photo) == 0:
            return Detections.none()
        scores, offsets, points = run_in_chunks(self._onet, _crop(photos, found, 48), chunk=64, step=8)
        side = (found.boxes[:, 2:] - found.boxes[:, :2])[:, None]  # (M, 1, 2)
        landmarks = found.boxes[:, None, :2] + points.reshape(-1, 2, 5).transpose(0, 2, 1) * side
        faces = Detections(found.photo, _shift(found.boxes, offsets), landmarks, np.ascontiguousarray(scores[:, 0]))
        return self._suppress(faces.take(faces.scores > settings.onet_score), settings.overlap, "min")

    @staticmethod
    def _suppress(faces: Detections, overlap: float, mode: str) -> Detections:
        return faces.take(_native.nms(faces.boxes, faces.scores, faces.photo, overlap, mode))


@dataclasses.dataclass(frozen=True)
class _Candidates:
    """Windows on their way through the cascade: photo (M,) int32, boxes (M, 4) float32, scores (M,) float32."""

    photo: NDArray[np.int32]
    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]


@functools.cache
def _mosaic(levels: tuple[int, ...]) -> Layout:
    return pyramid.mosaic(levels)


def _canvases_at_once(layout: Layout) -> int:
    """How many canvases fit `CANVAS_PIXELS`: 1, or a multiple of 4 up to 32."""
    fitting = CANVAS_PIXELS // (layout.height * layout.width)
    return min(fitting - fitting % 4, 32) or 1


@functools.lru_cache(64)
def _owners(layout: Layout) -> NDArray[np.int8]:
    return layout.slot_of_window()


def _crop(photos: Photos, found: _Candidates, side: int) -> NDArray[np.uint8]:
    """Square crops (M, side, side, 3) of the candidates' boxes, antialiased; black outside the photo."""
    scale = (found.boxes[:, 2] - found.boxes[:, 0]).astype(np.float64) / side
    matrices = np.zeros((len(scale), 2, 3))
    matrices[:, 0, 0] = matrices[:, 1, 1] = scale
    matrices[:, :, 2] = found.boxes[:, :2] + scale[:, None] / 2 - 0.5  # pixel centres at whole numbers
    return _native.warp_many(list(photos), found.photo, matrices, side, side)


def _shift(boxes: NDArray[np.float32], offsets: NDArray[np.float32]) -> NDArray[np.float32]:
    """Move the corners of square boxes by offsets in units of their side."""
    return np.ascontiguousarray(boxes + offsets * (boxes[:, 2] - boxes[:, 0])[:, None], np.float32)


def _square(boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    """The square around each box's centre with its longer side, at least one pixel."""
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    half = np.maximum((boxes[:, 2:] - boxes[:, :2]).max(1, keepdims=True), 1) / 2
    return np.concatenate([centre - half, centre + half], 1).astype(np.float32)


def _first_of_each(groups: NDArray[np.int32], order: NDArray[np.int64], limit: int) -> NDArray[np.int64]:
    """The first ``limit`` entries of each group in ``order``, which is sorted by group."""
    members = groups[order]
    starts = np.flatnonzero(np.r_[True, members[1:] != members[:-1]]) if len(members) else np.zeros(0, np.int64)
    rank = np.arange(len(members)) - np.repeat(starts, np.diff(np.r_[starts, len(members)]))
    return order[rank < limit]
