"""Aligners of kind `one-shot`: one fully convolutional network says at every cell of three grids whether a face is around.

The network's outputs are `level_8`, `level_16` and `level_32`, each (N, 15, H/stride, W/stride). A cell answers for the
point at its centre, ``((column + 0.5) * stride, (row + 0.5) * stride)``:

| channel | what                                                                                              |
| ------- | ------------------------------------------------------------------------------------------------- |
| 0       | score as a logit                                                                                  |
| 1 to 4  | logarithm of the distance to the left, top, right and bottom side, in strides                     |
| 5 to 14 | x and y of left eye, right eye, nose tip, left and right mouth corner, from the point, in strides |

A photo is looked at small first, where large faces are found; then as large as the smallest face wanted needs. Where only
the largest face of a photo is wanted, a photo is done when what it has is larger than anything the second look could add.

The same file holds a second, tiny network that makes the landmarks of what was found exact; see `refine`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from faceembed.engine.detect import canvas, refine
from faceembed.engine.detect.boxes import overlaps
from faceembed.engine.detect.canvas import Shape
from faceembed.engine.detect.detections import Detections
from faceembed.engine.detect.interface import Detector, Photos
from faceembed.engine.models.oneshot import OUTPUTS, REFINED, STRIDES
from faceembed.engine.models.spec import Model
from faceembed.engine.native import _native
from faceembed.engine.runtimes.base import RuntimeChoice, Session
from faceembed.engine.runtimes.batching import run_in_chunks
from faceembed.engine.runtimes.networks import LARGEST_SIDE, look_of
from faceembed.engine.runtimes.sessions import open_session
from faceembed.engine.runtimes.watch import SILENT, Watch

CANVAS_PIXELS = 1 << 18
"""In one run of the network; a single larger canvas runs alone. 1 << 20 takes 16 MiB more and no less time."""
_REACH = 6.0  # of the logarithm of a distance, so that nothing overflows


@dataclasses.dataclass(frozen=True)
class OneShotSettings:
    """Sides of the looks, and thresholds, chosen for `faceembed-align` on the 20 people of `people_wild` that its training is judged by."""

    first_side: int = 160
    """Longer side of a photo in the first look, in pixels."""
    detect_side: int = 0
    """Longer side in the second look at most; 0: as large as the smallest face wanted needs."""
    window: float = 12.0
    """Side of the smallest face that the network finds, in pixels of what it sees."""
    sure: float = 20.0
    """Side of the smallest face that a look finds as surely as a larger look would."""
    candidate_score: float = 0.45
    """Least score of the one-shot network. The highest that costs no face: 0.5 finds 0.1 % fewer of those that it learnt."""
    score: float = 0.2
    """Least score of a face: the lower of the one-shot network's and the refiner's. 0.3 misses one labelled face in 200 more."""
    overlap: float = 0.45
    """Intersection over union of boxes that are one face."""
    blend: float = 0.6
    """Intersection over union from which on other answers for a face are averaged into it."""


class OneShotDetector(Detector):
    """The network and the looks around it.

    Args:
        model: the network, one file.
        choice: runtime, device and precision.
        threads: how many threads will call `detect` side by side.
        settings: sides and thresholds.
        sessions: the network and its refiner, to use in place of those that `choice` opens.
        min_score: as `Detector.min_score`.
        watch: told of an engine that must be built first.
    """

    turns = True

    def __init__(
        self,
        model: Model,
        choice: RuntimeChoice,
        *,
        threads: int,
        settings: OneShotSettings | None = None,
        sessions: tuple[Session, Session] | None = None,
        min_score: float = 0.0,
        watch: Watch = SILENT,
    ) -> None:
        self.model = model
        self.choice = choice
        self.min_score = min_score
        self.settings = settings or OneShotSettings()
        self.largest_side = math.inf if choice.device == "cpu" else float(LARGEST_SIDE)
        """Of a canvas in pixels: engines are built for no larger one."""
        self._session, self._refiner = sessions or (
            open_session(model, choice, outputs=OUTPUTS, threads=threads, watch=watch),
            open_session(model, choice, outputs=(REFINED,), threads=threads, watch=watch),
        )

    def exact(self) -> OneShotDetector:
        """The same detector in fp32, on one thread; of a card's, on the processor: an engine in fp32 would be built for this alone."""
        choice = dataclasses.replace(self.choice, precision="fp32")
        if self.choice.device != "cpu":
            choice = RuntimeChoice("onnxruntime", "cpu", "fp32", "the reference")
        return OneShotDetector(self.model, choice, threads=1, settings=self.settings, min_score=self.min_score)

    def detect(self, photos: Photos, min_faces: Sequence[float], *, only_largest: bool) -> Detections:
        """Find faces, as `Detector.detect` says."""
        settings = self.settings
        sizes = np.array([photo.shape[1::-1] for photo in photos], np.float64).reshape(-1, 2)
        smallest = np.asarray(min_faces, np.float32)
        longer = sizes.max(axis=1)
        first = np.minimum(longer, settings.first_side)
        wanted = np.minimum(longer, settings.window * longer / smallest)
        if settings.detect_side:
            wanted = np.minimum(wanted, settings.detect_side)
        second = np.minimum(wanted, self.largest_side)
        faces = self._look(photos, np.arange(len(photos)), first)
        again = np.ceil(second / canvas.STEP) > np.ceil(first / canvas.STEP)
        if only_largest:
            best = np.zeros(len(photos))
            sure = faces.take(faces.scores >= np.float32(self.min_score))
            np.maximum.at(best, sure.photo, sure.prominence(sizes))
            again &= best < settings.sure * longer / first
        self.capped += int(np.count_nonzero(again & (wanted > second)))
        if again.any():
            faces = Detections.concatenate([faces, self._look(photos, np.flatnonzero(again), second)])
            faces = faces.take(_native.nms(faces.boxes, faces.scores, faces.photo, settings.overlap, "union"))
        faces = faces.take(faces.sides() >= smallest[faces.photo])
        return faces.largest(sizes, self.min_score) if only_largest else faces

    def sharpened(self, photo: NDArray[np.uint8], faces: Detections) -> Detections:
        """As `Detector.sharpened`: what the refiner says of finer pixels, unless it sees no face there.

        A face of 23 px in a photo of 6,401 px decoded at 1/8 has landmarks up to 2 px off in the photo's pixels, and its
        embedding is 0.997 of what it is from the photo of 900 px; with this 0.999 (the astronaut, `faceembed-align`). 30 photos
        of LFW, enlarged four times in photos of 12 megapixels: 0.9991 of the small photos' embeddings in the mean and 0.9934 at
        worst without it, 0.9995 and 0.9979 with it, for 2.1 ms of 61.
        """
        again = refine.refine(self._refiner, [photo], faces)
        kept = (again.scores >= self.settings.score) & np.isfinite(again.landmarks).all(axis=(1, 2))
        landmarks = np.where(kept[:, None, None], again.landmarks, faces.landmarks)
        return dataclasses.replace(faces, landmarks=landmarks)

    def _look(self, photos: Photos, members: NDArray[np.int64], sides: NDArray[np.float64]) -> Detections:
        """The faces in some photos, each shown with a longer side of ``sides`` pixels."""
        groups: dict[Shape, list[int]] = {}
        for index in members.tolist():
            shape = self._canvas(photos[index].shape, float(sides[index]))
            groups.setdefault(shape, []).append(index)
        parts = [
            self._scan(photos, shape, group[start : start + size], sides)
            for shape, group in groups.items()
            for size in [self._at_once(shape)]
            for start in range(0, len(group), size)
        ]
        faces = self._judged(photos, self._merge(Detections.concatenate(parts)))
        return faces.take(faces.scores >= self.settings.score)

    def _canvas(self, size: tuple[int, ...], side: float) -> Shape:
        """The canvas for a photo's copy: one of few on a card, which prepares itself for each."""
        if self.choice.device == "cpu":
            return canvas.shape_for(size[0], size[1], side=side)
        square, _ = look_of(side)
        return Shape(square, square)

    def _at_once(self, shape: Shape) -> int:
        """How many canvases make a run of the network."""
        return _canvases_at_once(shape) if self.choice.device == "cpu" else look_of(shape.height)[1]

    def _judged(self, photos: Photos, faces: Detections) -> Detections:
        """Faces of a look with their final scores, and exact landmarks."""
        return refine.refine(self._refiner, photos, faces)

    def _decoded(self, levels: Sequence[NDArray[np.float32]]) -> Detections:
        """The network's answers that may be faces, in pixels of the canvas; ``photo`` is the canvas."""
        return decode(levels, self.settings.candidate_score)

    def _scan(self, photos: Photos, shape: Shape, group: list[int], sides: NDArray[np.float64]) -> Detections:
        """Run the network over canvases of one shape and read its answers, in pixels of the photos."""
        canvases, scales = canvas.paint(shape, [photos[index] for index in group], sides[group])
        size = self._at_once(shape)
        levels = run_in_chunks(self._session, canvases, chunk=size, step=min(size, 4))
        found = self._decoded(levels)
        scale = scales[found.photo].astype(np.float32)  # (F, 2)
        owner = np.asarray(group, np.int32)[found.photo]
        return Detections(
            owner, (found.boxes / np.tile(scale, 2)).astype(np.float32), found.landmarks / scale[:, None], found.scores
        )

    def _merge(self, found: Detections) -> Detections:
        """One face of all answers for it: the best one's place in the order, and the weighted mean of those that agree."""
        keep = _native.nms(
            np.ascontiguousarray(found.boxes),
            np.ascontiguousarray(found.scores),
            found.photo,
            self.settings.overlap,
            "union",
        )
        kept = found.take(keep)
        if len(kept) == 0:
            return kept
        weight = (
            found.scores
            * (kept.photo[:, None] == found.photo)
            * (overlaps(kept.boxes, found.boxes) >= self.settings.blend)
        )
        weight = (weight / weight.sum(axis=1, keepdims=True)).astype(np.float32)  # (kept, found)
        boxes = weight @ found.boxes
        landmarks = (weight @ found.landmarks.reshape(-1, 10)).reshape(-1, 5, 2)
        return Detections(kept.photo, boxes, landmarks, kept.scores)


def decode(levels: Sequence[NDArray[np.float32]], score: float) -> Detections:
    """The network's answers above a score.

    Args:
        levels: float32 (N, 15, H/stride, W/stride) for each of `STRIDES`.
        score: the least score.

    Returns:
        One face a cell, in pixels of the canvas; ``photo`` is the canvas.
    """
    parts = []
    least = float(np.log(score / (1 - score)))
    for stride, level in zip(STRIDES, levels, strict=True):
        image, row, column = np.nonzero(level[:, 0] >= least)
        answers = level[image, :, row, column]  # (F, 15)
        point = np.stack([column + 0.5, row + 0.5], 1).astype(np.float32) * stride
        reach = np.exp(np.minimum(answers[:, 1:5], _REACH)) * stride
        boxes = np.concatenate([point - reach[:, :2], point + reach[:, 2:]], 1)
        landmarks = point[:, None] + answers[:, 5:].reshape(-1, 5, 2) * stride
        scores = (1 / (1 + np.exp(-answers[:, 0]))).astype(np.float32)
        parts.append(Detections(image.astype(np.int32), boxes, landmarks.astype(np.float32), scores))
    return Detections.concatenate(parts)


def _canvases_at_once(shape: Shape) -> int:
    """How many canvases fit `CANVAS_PIXELS`: 1, or a multiple of 4 up to 32."""
    fitting = CANVAS_PIXELS // (shape.height * shape.width)
    return min(fitting - fitting % 4, 32) or 1
