"""Puts what the engine's precision gate measures by into an exported encoder's spec: the strangers' spread, and template vectors.

    converted = with_strangers(convert(model, spec, chips), "crops", split="split.json")
    write(converted, "mine.onnx")

They come from training people alone: the split's, or everybody's whose crops there are.
"""

from __future__ import annotations

import dataclasses
import os
import tempfile
from pathlib import Path

import cv2
import numpy as np

from faceembed.engine.models.spec import Model
from faceembed.engine.pipeline.strangers import described
from faceembed.errors import DataError, UsageError
from faceembed.trainer.data.crops import read_crops
from faceembed.trainer.data.split import read_split
from faceembed.trainer.export.encoder import Converted

PHOTOS = 2048  # taken evenly from all: the spread of two million pairs does not become more certain by more


def with_strangers(
    converted: Converted, crops: str | os.PathLike[str], *, split: str | os.PathLike[str] | None = None
) -> Converted:
    """Measure strangers with an exported encoder.

    Args:
        converted: from `encoder.convert`.
        crops: a crop set of training people, made for the same template and size; deepfakes in it are left out.
        split: from `data split`: of the crops' people, its training part is taken.

    Raises:
        DataError: fewer than two people, or a crop that cannot be read.
        UsageError: crops of another template or size.
    """
    spec, found = converted.spec, read_crops(crops)
    if (found.height, found.width) != spec.input_size or found.template != spec.template:
        raise UsageError(
            f"the crops of {crops} were cut for '{found.info.encoder}', which takes other chips than '{spec.name}'"
        )
    allowed = None if split is None else set(read_split(split)["train"])
    samples = [one for one in found.samples if not one.fake and (allowed is None or one.person in allowed)]
    if not samples:
        raise DataError(f"{crops} has no crop of a training person to measure strangers on")
    places = np.linspace(0, len(samples) - 1, min(PHOTOS, len(samples))).astype(int)
    samples = [samples[place] for place in places]
    chips = []
    for sample in samples:
        if (pixels := cv2.imread(sample.path, cv2.IMREAD_COLOR)) is None:
            raise DataError(f"{sample.path} cannot be read; run data align again")
        chips.append(np.ascontiguousarray(pixels[:, :, ::-1], np.uint8))
    with tempfile.TemporaryDirectory(prefix="faceembed-") as folder:
        path = Path(folder) / "model.onnx"
        path.write_bytes(converted.data)
        people = [sample.person for sample in samples]
        source = f"training people of {Path(crops).name}"
        return dataclasses.replace(
            converted, spec=described(Model(spec, str(path)), np.stack(chips), people, source=source)
        )
