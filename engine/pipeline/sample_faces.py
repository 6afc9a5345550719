"""Faces of a folder's photos, cut for an encoder: what its precision is judged on, and what the scales of INT8 come from."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from faceembed.engine.detect.kinds import cpu_only, open_detector
from faceembed.engine.models.registry import resolve
from faceembed.engine.models.spec import ModelSpec
from faceembed.engine.photos.listing import list_photos
from faceembed.engine.photos.sample import sample_photos
from faceembed.engine.pipeline.chips import Cutter
from faceembed.engine.pipeline.settings import EmbedSettings
from faceembed.engine.runtimes.choose import RuntimeSettings, choose
from faceembed.errors import DataError

FACES = 32
CALIBRATION_FACES = 96
_PHOTOS = 64  # that are searched for `FACES`


def calibration_chips(
    spec: ModelSpec, photos: str | os.PathLike[str] | None
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Faces for the gate, and others for the scales of INT8; where there are few, the same for both.

    Args:
        spec: of the encoder that the chips are for.
        photos: a folder of photos with faces; the sample photos if None.

    Raises:
        DataError: there are none.
    """
    folder = sample_photos() if photos is None else Path(photos)
    chips = sample_chips(spec, folder, faces=FACES + CALIBRATION_FACES)
    rest = chips[FACES:]
    return chips[:FACES], rest if len(rest) >= FACES else chips


def sample_chips(spec: ModelSpec, folder: Path, *, faces: int = FACES) -> NDArray[np.uint8]:
    """Faces of a folder's photos, cut for an encoder: uint8 RGB (up to ``faces``, H, W, 3).

    Raises:
        DataError: there are none.
    """
    settings = EmbedSettings(runtime=RuntimeSettings(device="cpu", precision="fp32"))
    listed = list_photos([folder]).photos[: faces * _PHOTOS // FACES]
    aligner = resolve(settings.aligner, task="aligner")
    choice, threads = choose(settings.runtime, cpu_only=cpu_only(aligner)), settings.runtime.thread_count
    detector = open_detector(aligner, choice, threads=threads)
    chips = Cutter(settings, detector, spec, workers=threads).sample(listed, faces)[1]
    if len(chips) == 0:
        raise DataError(f"no face in the photos of {folder} to compare on; give others: --photos")
    return chips
