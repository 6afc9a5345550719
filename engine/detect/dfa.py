"""Aligners of kind `dfa`: CVLface's differentiable face aligner, which says of every picture where its one face lies.

A photo is shown as their `dfa/preprocessor.py` has it: padded with black on both sides to a square, the photo in the middle, and scaled to
160x160 with corners on corners; where that makes it smaller, our antialiased warp stands in for their plain bilinear one. What the network
says (`models.dfa`) is a share of that square's side. The landmarks are then made exact by the refiner in the same file, as those of other
projects' aligners are.

It has no notion of a photo without a face and was trained on crops with one: there is one answer a photo, also where all faces are wanted,
and no look at anything larger or turned.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from faceembed.engine.detect import refine
from faceembed.engine.detect.detections import Detections
from faceembed.engine.detect.interface import Detector, Photos
from faceembed.engine.models.dfa import OUTPUT, SIDE
from faceembed.engine.models.oneshot import REFINED
from faceembed.engine.models.spec import Model
from faceembed.engine.native import _native
from faceembed.engine.runtimes.base import RuntimeChoice
from faceembed.engine.runtimes.batching import run_in_chunks
from faceembed.engine.runtimes.sessions import open_session

_PASSES = 2  # of the refiner, as for `yunet`


class DfaDetector(Detector):
    """The network, one picture a photo.

    Args:
        model: the network, one file.
        choice: runtime, device and precision.
        threads: how many threads will call `detect` side by side.
        min_score: as `Detector.min_score`.
    """

    tiles = False

    def __init__(self, model: Model, choice: RuntimeChoice, *, threads: int, min_score: float = 0.0) -> None:
        self.model = model
        self.choice = choice
        self.min_score = min_score
        self._network = open_session(model, choice, outputs=(OUTPUT,), threads=threads)
        self._refiner = open_session(model, choice, outputs=(REFINED,), threads=threads)

    def exact(self) -> DfaDetector:
        """The same detector in fp32, on one thread."""
        choice = dataclasses.replace(self.choice, precision="fp32")
        return DfaDetector(self.model, choice, threads=1, min_score=self.min_score)

    def detect(self, photos: Photos, min_faces: Sequence[float], *, only_largest: bool) -> Detections:
        """Find the face of each photo; arguments and result as for `Detector.detect`, one face a photo whatever is asked."""
        found = self.answers(photos)
        found = found.take(found.sides() >= np.asarray(min_faces, np.float32)[found.photo])
        landmarks = found.landmarks
        for _ in range(_PASSES):
            again = refine.refine(self._refiner, photos, dataclasses.replace(found, landmarks=landmarks)).landmarks
            sound = np.asarray(np.isfinite(again).all(axis=(1, 2)), np.bool_)
            landmarks = np.where(sound[:, None, None], again, landmarks)
        found = dataclasses.replace(found, landmarks=landmarks)
        sizes = np.array([photo.shape[1::-1] for photo in photos], np.float64).reshape(-1, 2)
        return found.largest(sizes, self.min_score) if only_largest else found

    def answers(self, photos: Photos) -> Detections:
        """What the network itself says of each photo, in the photo's pixels."""
        if not photos:
            return Detections.none()
        sizes = np.array([photo.shape[1::-1] for photo in photos], np.float64)
        squares = sizes.max(axis=1)
        before = (squares[:, None] - sizes) // 2  # columns and rows of black left and above
        matrices = np.zeros((len(photos), 2, 3))
        matrices[:, 0, 0] = matrices[:, 1, 1] = np.maximum(squares - 1, 1) / (SIDE - 1)
        matrices[:, :, 2] = -before
        index = np.arange(len(photos), dtype=np.int32)
        pictures = _native.warp_many(list(photos), index, matrices, SIDE, SIDE, exact=False)
        (said,) = run_in_chunks(self._network, pictures, chunk=32, step=8)
        places: NDArray[np.float64] = said[:, 1:].reshape(-1, 7, 2) * squares[:, None, None] - before[:, None]
        scores = 1 / (1 + np.exp(-np.clip(said[:, 0], -80, 80)))
        boxes = places[:, :2].reshape(-1, 4)
        return Detections(index, boxes.astype(np.float32), places[:, 2:].astype(np.float32), scores.astype(np.float32))
