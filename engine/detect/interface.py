"""The one interface that every kind of aligner fills."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from faceembed.engine.detect.detections import Detections
from faceembed.engine.models.spec import Model
from faceembed.engine.parity import memory as parity_memory
from faceembed.engine.parity.detectors import DetectionParity, compare
from faceembed.engine.runtimes.base import RuntimeChoice
from faceembed.errors import DeviceError

Photos = Sequence[NDArray[np.uint8]]


class Detector(abc.ABC):
    """Finds faces and their landmarks. `detect` may be called from several threads at once."""

    model: Model
    choice: RuntimeChoice

    @abc.abstractmethod
    def detect(self, photos: Photos, min_faces: Sequence[float], *, only_largest: bool) -> Detections:
        """Find faces.

        Args:
            photos: uint8 RGB (H, W, 3), any sizes.
            min_faces: for each photo the smallest face wanted, as a side in its pixels.
            only_largest: keep at most one face a photo: the one of highest `Detections.prominence`.

        Returns:
            The faces, in pixels of ``photos``.
        """

    @abc.abstractmethod
    def exact(self) -> Detector:
        """The same detector in fp32, on one thread."""

    @property
    def admitted(self) -> bool:
        """Whether the precision needs no parity check any more."""
        return self.choice.precision == "fp32" or bool(parity_memory.recall(self.model, self.choice))

    def admit(
        self, photos: Photos, min_faces: Sequence[float], *, only_largest: bool, remember: bool = True
    ) -> DetectionParity:
        """The parity gate: compare this precision with fp32, and remember the result on this machine.

        Arguments are those of `detect`; ``remember`` is false for what is no photo.

        Raises:
            DeviceError: faces are missed, or landmarks lie elsewhere.
        """
        fast = self.detect(photos, min_faces, only_largest=only_largest)
        parity = compare(fast, self.exact().detect(photos, min_faces, only_largest=only_largest))
        if not parity.passes:
            raise DeviceError(
                f"{self.model.spec.name} in {self.choice.precision} finds {100 * parity.found:.0f} % of {parity.faces} "
                f"faces that fp32 finds, landmarks {100 * parity.deviation:.1f} % of the eyes' distance apart; "
                "use --precision fp32"
            )
        if remember:
            parity_memory.remember(self.model, self.choice, dataclasses.asdict(parity))
        return parity
