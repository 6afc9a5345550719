"""Aligners of kind `yunet`: OpenCV's YuNet, looked through in the way of `oneshot`.

The network's outputs are `level_8`, `level_16` and `level_32`, each (N, 16, H/stride, W/stride), as `models.yunet` cuts them. With
column and row of a cell:

| channel | what                                                                                                        |
| ------- | ----------------------------------------------------------------------------------------------------------- |
| 0, 1    | is it a face, is there anything: logits; the score is the root of the product of both probabilities         |
| 2, 3    | x and y of the box's centre, from (column, row), in strides                                                 |
| 4, 5    | logarithm of its width and height, in strides                                                               |
| 6 to 15 | x and y of left eye, right eye, nose tip, left and right mouth corner, from (column, row), in strides       |

Source: OpenCV modules/objdetect/src/face_detect.cpp, `postProcess`; `decode` gives what OpenCV's FaceDetectorYN does. Beyond it,
answers for one face are averaged, it is looked twice, and the landmarks are made exact by the refiner in the same file.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from faceembed.engine.detect import refine
from faceembed.engine.detect.boxes import overlaps
from faceembed.engine.detect.detections import Detections
from faceembed.engine.detect.interface import Photos
from faceembed.engine.detect.oneshot import OneShotDetector, OneShotSettings
from faceembed.engine.models.oneshot import STRIDES
from faceembed.engine.models.spec import Model
from faceembed.engine.native import _native
from faceembed.engine.runtimes.base import RuntimeChoice, Session
from faceembed.engine.runtimes.watch import SILENT, Watch

_REACH = 6.0  # of the logarithm of a side, so that nothing overflows


@dataclasses.dataclass(frozen=True)
class YunetSettings(OneShotSettings):
    """Sides of the looks, and thresholds: those of `faceembed-align` where none is given here, measured on training photos (docs/yunet.md).

    A first look of 320 pixels in place of 160 finds one more of 900 photos' faces and takes more than twice the time.
    """

    window: float = 16.0
    """Side of the smallest face that the network finds, in pixels of what it sees: of people_wild's 1,806 training photos 10 have no
    face with 16, and 16 with 12. With 20 they are 9, and pictures without people have 5 false faces in place of 3."""
    candidate_score: float = 0.3
    """Least score of an answer."""
    score: float = 0.3
    """Least score of a face. It is the network's alone: the refiner knows no masks, and takes half of them for no face."""
    passes: int = 2
    """How often landmarks are refined: of an error that only 1 in 10 exceed, once leaves 5.5 % of the eyes' distance, twice 4.8 %."""


class YunetDetector(OneShotDetector):
    """YuNet and the looks around it; arguments as for `OneShotDetector`."""

    settings: YunetSettings

    turns = confirms = False  # its scores of turned faces were not measured

    def __init__(
        self,
        model: Model,
        choice: RuntimeChoice,
        *,
        threads: int,
        settings: YunetSettings | None = None,
        sessions: tuple[Session, Session] | None = None,
        min_score: float = 0.0,
        watch: Watch = SILENT,
    ) -> None:
        chosen = settings or YunetSettings()
        super().__init__(
            model, choice, threads=threads, settings=chosen, sessions=sessions, min_score=min_score, watch=watch
        )

    def exact(self) -> YunetDetector:
        """The same detector in fp32, on one thread."""
        choice = dataclasses.replace(self.choice, precision="fp32")
        return type(self)(self.model, choice, threads=1, settings=self.settings, min_score=self.min_score)

    def detect(self, photos: Photos, min_faces: Sequence[float], *, only_largest: bool) -> Detections:
        """Find faces, as `Detector.detect` says."""
        return self._refined(photos, super().detect(photos, min_faces, only_largest=only_largest))

    def sharpened(self, photo: NDArray[np.uint8], faces: Detections) -> Detections:
        """As `Detector.sharpened`: what the refiner says of finer pixels."""
        return self._refined([photo], faces)

    def _read(
        self, levels: Sequence[NDArray[np.float32]], scales: NDArray[np.float32], owner: NDArray[np.int32]
    ) -> Detections:
        settings = self.settings
        found = merged(self._decoded(levels), overlap=settings.overlap, blend=settings.blend)
        scale = scales[found.photo]  # (F, 2)
        return Detections(
            owner[found.photo],
            (found.boxes / np.tile(scale, 2)).astype(np.float32),
            found.landmarks / scale[:, None],
            found.scores,
        )

    def _decoded(self, levels: Sequence[NDArray[np.float32]]) -> Detections:
        """The network's answers that may be faces, in pixels of the canvas; ``photo`` is the canvas."""
        return decode(levels, self.settings.candidate_score)

    def _judged(self, photos: Photos, faces: Detections) -> Detections:
        """As they are: the refiner has no say in scores, so it need not see what a look finds and nobody wants."""
        return faces

    def _refined(self, photos: Photos, faces: Detections) -> Detections:
        """Exact landmarks; those that span no face stay, and `align` says so."""
        landmarks = faces.landmarks
        for _ in range(self.settings.passes):
            again = refine.refine(self._refiner, photos, dataclasses.replace(faces, landmarks=landmarks)).landmarks
            sound = np.asarray(np.isfinite(again).all(axis=(1, 2)), np.bool_)
            landmarks = np.where(sound[:, None, None], again, landmarks)
        return dataclasses.replace(faces, landmarks=landmarks)


def decode(levels: Sequence[NDArray[np.float32]], score: float) -> Detections:
    """The network's answers above a score.

    Args:
        levels: float32 (N, 16, H/stride, W/stride) for each of `STRIDES`.
        score: the least score, above 0.

    Returns:
        One face a cell, in pixels of the canvas; ``photo`` is the canvas.
    """
    parts = []
    # Neither probability is above 1, so each must be the score's square at least: most cells end here.
    least = float(np.log(score**2 / (1 - score**2)))
    for stride, level in zip(STRIDES, levels, strict=True):
        image, row, column = np.nonzero((level[:, 0] >= least) & (level[:, 1] >= least))
        answers = level[image, :, row, column]  # (F, 16)
        scores = np.sqrt(_sigmoid(answers[:, 0]) * _sigmoid(answers[:, 1]))
        sure = scores >= score
        image, answers, scores = image[sure], answers[sure], scores[sure]
        corner = np.stack([column[sure], row[sure]], 1).astype(np.float32)
        centre = (corner + answers[:, 2:4]) * stride
        half = np.exp(np.minimum(answers[:, 4:6], _REACH)) * (stride / 2)
        landmarks = (corner[:, None] + answers[:, 6:].reshape(-1, 5, 2)) * stride
        boxes = np.concatenate([centre - half, centre + half], 1)
        parts.append(
            Detections(
                image.astype(np.int32),
                boxes.astype(np.float32),
                landmarks.astype(np.float32),
                scores.astype(np.float32),
            )
        )
    return Detections.concatenate(parts)


def merged(found: Detections, *, overlap: float, blend: float) -> Detections:
    """One face of all answers for it: the best one's place in the order and score, and the mean of those that agree, weighted by score.

    Args:
        found: the answers.
        overlap: intersection over union of boxes that are one face.
        blend: and from which on an answer is averaged into it.
    """
    kept = found.take(_native.nms(found.boxes, found.scores, found.photo, overlap, "union"))
    if len(kept) == 0:
        return kept
    weight = found.scores * (kept.photo[:, None] == found.photo) * (overlaps(kept.boxes, found.boxes) >= blend)
    weight = (weight / weight.sum(axis=1, keepdims=True)).astype(np.float32)  # (kept, found)
    boxes = weight @ found.boxes
    landmarks = (weight @ found.landmarks.reshape(-1, 10)).reshape(-1, 5, 2)
    return Detections(kept.photo, boxes, landmarks, kept.scores)


def _sigmoid(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    values: NDArray[np.float64] = 1 / (1 + np.exp(-np.clip(logits.astype(np.float64), -80, 80)))
    return values
