"""Aligners of kind `one-shot`: one fully convolutional network says at every cell of three grids whether a face is around.

The network's outputs are `level_8`, `level_16` and `level_32`, each (N, 15, H/stride, W/stride). A cell answers for the
point at its centre, ``((column + 0.5) * stride, (row + 0.5) * stride)``:

| channel | what                                                                                              |
| ------- | ------------------------------------------------------------------------------------------------- |
| 0       | score as a logit                                                                                  |
| 1 to 4  | logarithm of the distance to the left, top, right and bottom side, in strides                     |
| 5 to 14 | x and y of left eye, right eye, nose tip, left and right mouth corner, from the point, in strides |

A photo is looked at small first, where large faces are found; then as large as the smallest face wanted needs. Where only
the largest face of a photo is wanted, a photo is done when what it has is larger than anything the second look could add, the second look
is as large as that needs, and the refiner sees the leading face alone (`leading`).

The same file holds a second, tiny network that makes the landmarks of what was found exact; see `refine`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from faceembed.engine.detect import canvas, refine
from faceembed.engine.detect.canvas import Shape
from faceembed.engine.detect.detections import Detections
from faceembed.engine.detect.interface import Detector, Photos
from faceembed.engine.detect.leading import Leader, Sighted, every_one
from faceembed.engine.models.oneshot import OUTPUTS, REFINED, STRIDES
from faceembed.engine.models.spec import Model
from faceembed.engine.native import _native
from faceembed.engine.runtimes.base import RuntimeChoice, Session
from faceembed.engine.runtimes.batching import run_in_chunks
from faceembed.engine.runtimes.networks import LARGEST_SIDE, look_of
from faceembed.engine.runtimes.sessions import open_session
from faceembed.engine.runtimes.watch import SILENT, Watch
from faceembed.errors import DeviceError

CANVAS_PIXELS = 1 << 18
"""In one run of the network; a single larger canvas runs alone. 1 << 20 takes 16 MiB more and no less time."""
SQUARE_SIDE = 256
"""Longest side of square canvases on a processor, in pixels: four make a run of the network."""
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
    second_step: int = 96
    """Of the longer side of canvases in second looks: a runtime prepares its kernels anew for every shape it meets."""
    candidate_score: float = 0.45
    """Least score of the one-shot network. The highest that costs no face: 0.5 finds 0.1 % fewer of those that it learnt."""
    score: float = 0.2
    """Least score of a face: the lower of the one-shot network's and the refiner's. 0.3 misses one labelled face in 200 more."""
    overlap: float = 0.45
    """Intersection over union of boxes that are one face."""
    blend: float = 0.6
    """Intersection over union from which on other answers for a face are averaged into it."""


@dataclasses.dataclass(frozen=True)
class Looks:
    """How large P photos are looked at; sides in pixels."""

    sizes: NDArray[np.float64]
    """(P, 2) width and height."""
    longer: NDArray[np.float64]
    """(P,) the longer of both."""
    smallest: NDArray[np.float32]
    """(P,) side of the smallest face wanted."""
    first: NDArray[np.float64]
    """(P,) the longer side of a photo in the first look."""
    wanted: NDArray[np.float64]
    """(P,) and what the smallest face would need."""
    second: NDArray[np.float64]
    """(P,) the same, no larger than what computes takes."""
    again: NDArray[np.bool_]
    """(P,) whether that is more than the first look."""


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

    turns = confirms = True

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
        looks = self._looks(photos, min_faces)
        return self._largest(photos, looks) if only_largest else self._all(photos, looks)

    def glance(self, photos: Photos, min_faces: Sequence[float], least: float) -> Detections:
        """As `Detector.glance`: the refiner, which only ever lowers a score, sees those alone that have it before."""
        looks = self._looks(photos, min_faces)
        if looks.again.any():
            return super().glance(photos, min_faces, least)
        faces = self._look(photos, np.arange(len(photos)), looks.first)
        faces = self._judged(photos, faces.take(faces.scores >= np.float32(least)))
        return faces.take((faces.scores >= np.float32(least)) & (faces.sides() >= looks.smallest[faces.photo]))

    def _looks(self, photos: Photos, min_faces: Sequence[float]) -> Looks:
        settings = self.settings
        sizes = np.array([photo.shape[1::-1] for photo in photos], np.float64).reshape(-1, 2)
        smallest = np.asarray(min_faces, np.float32)
        longer = sizes.max(axis=1)
        first = np.minimum(longer, settings.first_side)
        wanted = np.minimum(longer, settings.window * longer / smallest)
        if settings.detect_side:
            wanted = np.minimum(wanted, settings.detect_side)
        second = np.minimum(wanted, self.largest_side)
        again = np.ceil(second / canvas.STEP) > np.ceil(first / canvas.STEP)
        return Looks(sizes, longer, smallest, first, wanted, second, again)

    def _all(self, photos: Photos, looks: Looks) -> Detections:
        """All faces: every photo is looked at as large as its smallest face needs."""
        self._count_capped(looks, looks.again)
        seen = self._both(photos, looks, np.flatnonzero(looks.again))
        faces = every_one(lambda some: self._judged(photos, some), seen, self.settings.score, self.settings.overlap)
        return faces.take(faces.sides() >= looks.smallest[faces.photo])

    def _both(self, photos: Photos, looks: Looks, again: NDArray[np.int64]) -> Detections:
        """The faces of all photos' first look and of the second of those at ``again``, not yet judged."""
        faces = self._look(photos, np.arange(len(photos)), looks.first)
        return Detections.concatenate([faces, self._look(photos, again, looks.second)]) if len(again) else faces

    def _largest(self, photos: Photos, looks: Looks) -> Detections:
        """One face a photo: the second look is left out where it could add no larger one, and is no larger than that needs."""
        settings = self.settings
        leader = Leader(
            lambda faces: self._judged(photos, faces), looks.sizes, self.min_score, settings.score, settings.overlap
        )
        seen = self._seen(photos, np.arange(len(photos)), looks.first)
        seen = leader.lead(seen, looks.again)
        best = np.zeros(len(photos))
        sure = seen.faces.take(seen.faces.scores >= np.float32(self.min_score))
        np.maximum.at(best, sure.photo, sure.prominence(looks.sizes))
        again = looks.again & (best < settings.sure * looks.longer / looks.first)
        self._count_capped(looks, again)
        if again.any():
            second = self._large_enough(looks, best)
            seen = seen.joined(self._seen(photos, np.flatnonzero(again), second))
        return leader.largest(seen.take(seen.faces.sides() >= looks.smallest[seen.faces.photo]))

    def _large_enough(self, looks: Looks, best: NDArray[np.float64]) -> NDArray[np.float64]:
        """(photos,) sides of second looks that find what is larger than ``best``, a side in pixels of each photo, as surely as any would."""
        if self.choice.device != "cpu":  # a card has its own few sizes
            return looks.second
        return np.minimum(looks.second, self.settings.sure * looks.longer / np.maximum(best, looks.smallest))

    def _count_capped(self, looks: Looks, again: NDArray[np.bool_]) -> None:
        self.capped += int(np.count_nonzero(again & (looks.wanted > looks.second)))

    def _sure_enough(self, faces: Detections) -> Detections:
        return faces.take(faces.scores >= self.settings.score)

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

    def _seen(self, photos: Photos, members: NDArray[np.int64], sides: NDArray[np.float64]) -> Sighted:
        return Sighted.new(self._look(photos, members, sides))

    def _look(self, photos: Photos, members: NDArray[np.int64], sides: NDArray[np.float64]) -> Detections:
        """The faces in some photos, each shown with a longer side of ``sides`` pixels, not yet judged."""
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
        return self._sure_enough(Detections.concatenate(parts))

    def _canvas(self, size: tuple[int, ...], side: float) -> Shape:
        """The canvas for a photo's copy: one of few on a card, which prepares itself for each.

        On a processor small ones are square: full batches of one shape cost less than what is left empty in them (three forms: 6 runs of a
        batch of `people_wild` in place of 4). Larger ones come one by one, have the form of the photo, and sides in larger steps.
        """
        if self.choice.device == "cpu":
            if side <= SQUARE_SIDE:
                return canvas.square_for(side)
            return canvas.shape_for(size[0], size[1], side=side, step=self.settings.second_step)
        square, _ = look_of(side)
        return Shape(square, square)

    def _at_once(self, shape: Shape) -> int:
        """How many canvases make a run of the network."""
        return _canvases_at_once(shape) if self.choice.device == "cpu" else look_of(shape.height)[1]

    def _judged(self, photos: Photos, faces: Detections) -> Detections:
        """Faces of a look with their final scores, and exact landmarks."""
        return refine.refine(self._refiner, photos, faces)

    def _scan(self, photos: Photos, shape: Shape, group: list[int], sides: NDArray[np.float64]) -> Detections:
        """Run the network over canvases of one shape and read its answers, in pixels of the photos."""
        canvases, scales = canvas.paint(shape, [photos[index] for index in group], sides[group])
        size = self._at_once(shape)
        levels = run_in_chunks(self._session, canvases, chunk=size, step=min(size, 4))
        return self._read(levels, scales.astype(np.float32), np.asarray(group, np.int32))

    def _read(
        self, levels: Sequence[NDArray[np.float32]], scales: NDArray[np.float32], owner: NDArray[np.int32]
    ) -> Detections:
        """The network's answers as faces: what `decode` gives, one face of all answers for it, in pixels of the photos.

        That one has the best answer's place in the order and its score; box and landmarks are the mean of those that agree, weighted
        by score.

        Args:
            levels: the network's outputs for N canvases.
            scales: (N, 2) canvas pixels per photo pixel, x then y.
            owner: (N,) each canvas's photo.

        Raises:
            DeviceError: the outputs are not all numbers.
        """
        settings = self.settings
        logit = math.log(settings.candidate_score / (1 - settings.candidate_score))
        photo, boxes, landmarks, scores, broken = _native.find_faces(
            list(levels), scales, owner, logit=logit, overlap=settings.overlap, blend=settings.blend
        )
        if broken:
            raise DeviceError("the aligner's outputs are not all numbers; is its file damaged?")
        return Detections(photo, boxes, landmarks, scores)


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
