"""The one-shot aligner where pixels stay on a device: the looks and decisions of `OneShotDetector`, the work on a `Backend`.

What comes to the host are the faces found, a few hundred bytes each: which of them is a photo's subject, and whether the photo
needs a second look, is decided there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from faceembed.engine.detect import canvas, refine
from faceembed.engine.detect.canvas import Shape
from faceembed.engine.detect.detections import Detections
from faceembed.engine.detect.oneshot import OneShotDetector, OneShotSettings
from faceembed.engine.models.oneshot import REFINED_SIDE
from faceembed.engine.models.spec import Model
from faceembed.engine.native import _native
from faceembed.engine.pipeline.build_engine import ready
from faceembed.engine.pipeline.gpu.interface import Backend
from faceembed.engine.runtimes.base import RuntimeChoice
from faceembed.engine.runtimes.watch import SILENT, Watch


class DeviceOneShotDetector(OneShotDetector):
    """Takes photos of a backend, or of the host (for the parity gate), which it uploads.

    Args:
        model, choice, settings, min_score, watch: as for `OneShotDetector`.
        backend: where the photos are.
    """

    def __init__(
        self,
        model: Model,
        choice: RuntimeChoice,
        backend: Backend,
        *,
        settings: OneShotSettings | None = None,
        min_score: float = 0.0,
        watch: Watch = SILENT,
    ) -> None:
        ready(model, choice, watch)
        super().__init__(model, choice, threads=1, settings=settings, min_score=min_score, watch=watch)
        self._backend = backend

    def detect(self, photos: Sequence[Any], min_faces: Sequence[float], *, only_largest: bool) -> Detections:
        """Find faces, as `Detector.detect` says."""
        if not any(isinstance(photo, np.ndarray) for photo in photos):
            return super().detect(photos, min_faces, only_largest=only_largest)
        with self._backend.lane():
            uploaded = [self._backend.upload(photo) for photo in photos]
            return super().detect(uploaded, min_faces, only_largest=only_largest)

    def _look(self, photos: Sequence[Any], members: NDArray[np.int64], sides: NDArray[np.float64]) -> Detections:
        groups: dict[Shape, list[int]] = {}
        for index in members.tolist():
            shape = canvas.shape_for(*photos[index].shape[:2], side=float(sides[index]))
            groups.setdefault(shape, []).append(index)
        parts = [self._scan(photos, shape, group, sides) for shape, group in groups.items()]
        faces = self._exact(photos, Detections.concatenate(parts))
        return faces.take(faces.scores >= self.settings.score)

    def _scan(self, photos: Sequence[Any], shape: Shape, group: list[int], sides: NDArray[np.float64]) -> Detections:
        settings = self.settings
        shapes = np.array([photos[index].shape[:2] for index in group], np.int64)
        wanted = sides[group].tolist()
        sizes = np.array(
            [
                canvas.copy_size(height, width, side=side)
                for (height, width), side in zip(shapes.tolist(), wanted, strict=True)
            ],
            np.int64,
        )
        canvases = self._backend.canvases([photos[index] for index in group], shape, sizes)
        scales = (sizes / shapes)[:, ::-1].astype(np.float32)  # x, then y
        found = self._backend.faces(self._backend.run(self._session, canvases), scales, settings)
        owner = np.asarray(group, np.int32)[found.photo]
        return Detections(owner, found.boxes, found.landmarks, found.scores)

    def _exact(self, photos: Sequence[Any], faces: Detections) -> Detections:
        """`refine.refine`, with crops that are cut and judged on the device."""
        points = np.ascontiguousarray(faces.landmarks, np.float64) - 0.5
        matrices = _native.fit_similarity(points, refine.TEMPLATE)
        sound = np.flatnonzero(np.isfinite(matrices).all(axis=(1, 2)))
        scores = np.zeros(len(faces), np.float32)
        if len(sound) == 0:
            return Detections(faces.photo, faces.boxes, faces.landmarks, scores)
        matrices = np.ascontiguousarray(matrices[sound])
        owner = np.ascontiguousarray(faces.photo[sound])
        side = (REFINED_SIDE, REFINED_SIDE)
        crops = self._backend.warp(photos, owner, matrices, self._refiner, self.model.spec, side)
        answers = self._backend.host(self._backend.run(self._refiner, crops)[0])
        exact = refine.TEMPLATE + answers[:, 1:].reshape(-1, 5, 2)
        landmarks = faces.landmarks.copy()
        landmarks[sound] = exact @ matrices[:, :, :2].transpose(0, 2, 1) + matrices[:, None, :, 2] + 0.5
        scores[sound] = np.minimum(faces.scores[sound], 1 / (1 + np.exp(-np.clip(answers[:, 0], -80, 80))))
        return Detections(faces.photo, faces.boxes, landmarks, scores)
