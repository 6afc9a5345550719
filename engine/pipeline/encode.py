"""From chips to embeddings: L2-normalised rows whose inner product is the cosine similarity."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from faceembed.engine.models.spec import Model
from faceembed.engine.parity import memory as parity_memory
from faceembed.engine.pipeline.build_engine import ready
from faceembed.engine.runtimes.base import RuntimeChoice, Session
from faceembed.engine.runtimes.batching import run_in_chunks
from faceembed.engine.runtimes.sessions import open_session
from faceembed.engine.runtimes.watch import SILENT, Watch
from faceembed.errors import DeviceError

MIN_PARITY = 0.999  # smallest cosine between an embedding at a fast precision and at fp32
_PARITY_FACES = 32


class Encoder:
    """An encoder ready to run. `encode` may be called from several threads at once.

    A precision below fp32 must first pass the parity gate (`admit`) on real faces; `encode` refuses to run before.
    """

    def __init__(
        self, model: Model, choice: RuntimeChoice, *, threads: int, chunk: int = 32, watch: Watch = SILENT
    ) -> None:
        self.model = model
        self.choice = choice
        self._chunk = chunk
        ready(model, choice, watch)
        self._session = open_session(model, choice, threads=threads, watch=watch)
        self._admitted = (
            choice.precision == "fp32" or parity_memory.recall(model, choice).get("min_cosine", 0.0) >= MIN_PARITY
        )

    @property
    def session(self) -> Session:
        """The network, for those that keep chips where they are instead of calling `encode`."""
        return self._session

    @property
    def admitted(self) -> bool:
        """Whether the precision needs no parity check any more."""
        return self._admitted

    def admit(self, chips: NDArray[np.uint8]) -> float:
        """The parity gate: compare this precision with fp32 on real faces, and remember the result on this machine.

        Args:
            chips: uint8 RGB (N, H, W, 3), N >= 1, aligned faces.

        Returns:
            The smallest cosine.

        Raises:
            DeviceError: it is below `MIN_PARITY`.
        """
        chips = chips[:_PARITY_FACES]
        exact = dataclasses.replace(self.choice, precision="fp32")
        if self.choice.device != "cpu":  # an engine at fp32 would have to be built for this alone
            exact = RuntimeChoice("onnxruntime", "cpu", "fp32", "the reference")
        reference = _embed(open_session(self.model, exact, threads=1), chips, self._chunk)[0]
        lowest = float((_embed(self._session, chips, self._chunk)[0] * reference).sum(1).min())
        if not lowest >= MIN_PARITY:  # NaN fails too
            raise DeviceError(
                f"{self.model.spec.name} in {self.choice.precision}: an embedding differs from fp32 "
                f"(cosine {lowest:.5f}, at least {MIN_PARITY} wanted); use --precision fp32"
            )
        parity_memory.remember(self.model, self.choice, {"min_cosine": lowest, "faces": len(chips)})
        self._admitted = True
        return lowest

    def encode(self, chips: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Embed aligned faces.

        Args:
            chips: uint8 RGB (N, H, W, 3) of the spec's input size.

        Returns:
            embeddings: float32 (N, D), unit length.
            norms: float32 (N,) the length before normalisation, a measure of quality for many encoders.

        Raises:
            DeviceError: the parity gate has not been passed.
        """
        if not self._admitted:
            raise DeviceError(f"{self.choice.precision} has not passed the parity gate; call admit() with real faces")
        if len(chips) == 0:
            return np.zeros((0, self.model.spec.dimension), np.float32), np.zeros(0, np.float32)
        return _embed(self._session, chips, self._chunk)


def _embed(session: Session, chips: NDArray[np.uint8], chunk: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    raw = run_in_chunks(session, chips, chunk=chunk, step=8)[0].reshape(len(chips), -1)
    norms = np.linalg.norm(raw, axis=1)
    return raw / np.maximum(norms, 1e-12)[:, None], norms.astype(np.float32)
