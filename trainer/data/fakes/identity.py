"""Whom a face swapper is to show: the embedding of the encoder that the swapper was trained with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from faceembed.engine.detect.align import similarity_matrices, warp_chips
from faceembed.engine.models.registry import resolve
from faceembed.engine.models.spec import ARCFACE_TEMPLATE, Model, ModelSpec
from faceembed.engine.models.trial import check_encoder
from faceembed.engine.pipeline.encode import Encoder
from faceembed.engine.runtimes.choose import RuntimeSettings, choose
from faceembed.errors import ModelError
from faceembed.trainer.data.fakes.methods import Shot

DIMENSION = 512  # of the embeddings that all known swappers take


class Identity:
    """The encoder that a swapper was trained with.

    Args:
        name: a model's name, or an ONNX file. A file without a spec beside it is taken for one of InsightFace's, such as
            ``w600k_r50.onnx``: RGB, 112x112, (pixel - 127.5) / 127.5.
        threads: how many threads will call it.

    Raises:
        ModelError: no such model, or its embeddings are not of 512 numbers.
    """

    def __init__(self, name: str, *, threads: int) -> None:
        model = _embedder(name)
        if model.spec.dimension != DIMENSION:
            raise ModelError(f"embedder {name} gives {model.spec.dimension} numbers, a swapper takes {DIMENSION}")
        self.spec = model.spec
        self._encoder = Encoder(
            model, choose(RuntimeSettings(device="cpu", precision="fp32"), unfit=model.spec.unfit), threads=threads
        )

    def embed(self, shot: Shot) -> tuple[NDArray[np.float32], float]:
        """The face's embedding, float32 (512,) of unit length, and the length it had."""
        points = shot.mesh.landmarks[None].astype(np.float32)
        matrices = similarity_matrices(points, self.spec)
        chips = warp_chips([shot.pixels], np.zeros(1, np.int32), matrices, self.spec)
        vectors, norms = self._encoder.encode(chips)
        return vectors[0], float(norms[0])


def _embedder(name: str) -> Model:
    path = Path(name)
    if not (name.endswith(".onnx") and path.is_file() and not path.with_suffix(".json").exists()):
        return resolve(name, task="encoder")
    found = check_encoder(path)
    if found.input_size != (112, 112):
        height, width = found.input_size
        raise ModelError(f"{name} takes {width}x{height} pixels; import it with its template: faceembed models import")
    spec = ModelSpec(path.stem, "encoder", (112, 112), dimension=found.dimension, template=ARCFACE_TEMPLATE)
    return Model(spec, str(path))
