"""The one-shot aligner where pixels stay on a device: the looks and decisions of `OneShotDetector`, the work on a `Backend`.

What comes to the host are the faces found, 64 bytes each and all of a look at once: which of them is a photo's subject, and whether
the photo needs a second look, is decided there. Canvases are square, and of few sizes (`networks.LOOKS`).

Each look is a wait of the host's. Where all faces are wanted, sizes alone say who is looked at twice: both looks are one record and one
wait. Where one face a photo is, what the first look found says it: batches with a photo that needs a second look wait once more. To do
without that, every photo whose smallest face is too small for the first look would get the second, nine times its canvas: 919 of 1,000
photos of people_wild (a median of 448 px), none of LFW's, which wait twice in any case.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from faceembed.engine.detect.canvas import Shape
from faceembed.engine.detect.detections import Detections
from faceembed.engine.detect.leading import Sighted
from faceembed.engine.detect.oneshot import Looks, OneShotDetector, OneShotSettings
from faceembed.engine.models.spec import Model
from faceembed.engine.pipeline.build_engine import ready
from faceembed.engine.pipeline.gpu.interface import Backend, Scan
from faceembed.engine.runtimes import networks
from faceembed.engine.runtimes.base import RuntimeChoice, Session
from faceembed.engine.runtimes.networks import LARGEST_SIDE
from faceembed.engine.runtimes.watch import SILENT, Watch


class DeviceOneShotDetector(OneShotDetector):
    """Takes photos of a backend, or of the host (for the parity gate), which it uploads.

    Args:
        model, choice, settings, min_score, watch: as for `OneShotDetector`.
        backend: where the photos are.
    """

    turns = confirms = tiles = (
        False  # they work on pixels of the host; nor does the CPU's backend do what a card does not
    )

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
        self.largest_side = float(LARGEST_SIDE)
        self._backend = backend

    @property
    def sessions(self) -> tuple[Session, Session]:
        """The network and its refiner, for those that prepare them."""
        return self._session, self._refiner

    def detect(self, photos: Sequence[Any], min_faces: Sequence[float], *, only_largest: bool) -> Detections:
        """Find faces, as `Detector.detect` says."""
        if not any(isinstance(photo, np.ndarray) for photo in photos):
            return super().detect(photos, min_faces, only_largest=only_largest)
        with self._backend.lane("detect"):
            uploaded = [self._backend.upload(photo) for photo in photos]
            return super().detect(uploaded, min_faces, only_largest=only_largest)

    def _look(self, photos: Sequence[Any], members: NDArray[np.int64], sides: NDArray[np.float64]) -> Detections:
        return self._shown(photos, self._scans(photos, members, sides))

    def _both(self, photos: Sequence[Any], looks: Looks, again: NDArray[np.int64]) -> Detections:
        everybody = np.arange(len(photos))
        scans = self._scans(photos, everybody, looks.first) + self._scans(photos, again, looks.second)
        return self._shown(photos, scans)

    def _shown(self, photos: Sequence[Any], scans: Sequence[Scan]) -> Detections:
        """The faces of some scans, refined. The host waits here, and nowhere else."""
        faces = self._backend.look(photos, scans, self._session, self._refiner, self.model.spec, self.settings)
        return faces.take(faces.scores >= self.settings.score)

    def _scans(self, photos: Sequence[Any], members: NDArray[np.int64], sides: NDArray[np.float64]) -> list[Scan]:
        looks = networks.looks_of(sides[members])
        return [
            self._scan_of(photos, side, group[start : start + count], sides)
            for look, (side, count) in enumerate(networks.LOOKS)
            for group in [members[looks == look]]
            for start in range(0, len(group), count)
        ]

    def _judged(self, photos: Sequence[Any], faces: Detections) -> Detections:
        """As they are: on a card the look has refined them all, in one go."""
        return faces

    def _seen(self, photos: Sequence[Any], members: NDArray[np.int64], sides: NDArray[np.float64]) -> Sighted:
        return Sighted.final(self._look(photos, members, sides))

    @staticmethod
    def _scan_of(photos: Sequence[Any], side: int, group: NDArray[np.int64], sides: NDArray[np.float64]) -> Scan:
        shapes = np.array([photos[index].shape[:2] for index in group.tolist()], np.int64)
        wanted = sides[group]
        factors = wanted / shapes.max(axis=1)
        sizes = np.maximum(1, np.rint(shapes * factors[:, None])).astype(np.int64)  # `canvas.copy_size` of each
        return Scan(np.asarray(group, np.int32), Shape(side, side), sizes, (sizes / shapes)[:, ::-1].astype(np.float32))
