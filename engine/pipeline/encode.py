"""From chips to embeddings: L2-normalised rows whose inner product is the cosine similarity."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from faceembed.engine.models.spec import Model
from faceembed.engine.parity import memory as parity_memory
from faceembed.engine.parity import rule
from faceembed.engine.pipeline.build_engine import ready
from faceembed.engine.runtimes.base import RuntimeChoice, Session
from faceembed.engine.runtimes.batching import run_in_chunks
from faceembed.engine.runtimes.sessions import open_session
from faceembed.engine.runtimes.unit import to_unit
from faceembed.engine.runtimes.watch import SILENT, Watch
from faceembed.errors import DeviceError

_CHUNK = 16
"""Chips in one run of the network: 32 take 17 MiB more (`faceembed-r29`) and no less time a chip, 8 take more."""
_STEP = 4
"""Of the number of chips in a run: with 8, a server's batches, of 11 faces in the mean, were filled up to 16."""
_EXACT_LAYERS = (1, 2, 4, 6)
"""How many of the first layers are tried in fp32, one number after the other, where BF16 for all moves similarities too far."""


class Encoder:
    """An encoder ready to run. `encode` may be called from several threads at once.

    A precision below fp32 must first pass the precision gate (`admit`); `encode` refuses to run before.
    """

    def __init__(
        self, model: Model, choice: RuntimeChoice, *, threads: int, chunk: int = _CHUNK, watch: Watch = SILENT
    ) -> None:
        self.model = model
        self.choice = choice
        self._chunk = chunk
        ready(model, choice, watch)
        self._threads = threads
        if layers := int(self._remembered().get("exact_layers", 0)):
            self.choice = dataclasses.replace(choice, exact_layers=layers)
        self._session = open_session(model, self.choice, threads=threads, watch=watch)
        self._admitted = choice.precision == "fp32" or bool(self._remembered())

    def _remembered(self) -> dict[str, float]:
        """The figures of a gate that was passed here; empty where it must be asked."""
        if self.choice.precision == "fp32":
            return {}
        facts = parity_memory.recall(self.model, self.choice)
        return facts if rule.passed(facts, self.choice.precision) else {}

    @property
    def session(self) -> Session:
        """The network, for those that keep chips where they are instead of calling `encode`."""
        return self._session

    @property
    def admitted(self) -> bool:
        """Whether the precision needs no parity check any more."""
        return self._admitted

    @property
    def lasting(self) -> bool:
        """Whether a later run need not ask again: it is fp32, or passed on real faces. Drawn ones decide for one run alone."""
        return self.choice.precision == "fp32" or bool(self._remembered())

    def admit(self, chips: NDArray[np.uint8]) -> str:
        """The precision gate: compare with fp32, and remember on this machine what passed on real faces.

        Where BF16 moves similarities too far, its first layers are tried in fp32.

        Args:
            chips: uint8 RGB (N, H, W, 3), N >= 0, aligned faces; drawn ones are added where there are few.

        Returns:
            What was measured, as a line for the user.

        Raises:
            DeviceError: similarities move too far.
        """
        exact = RuntimeChoice(self.choice.runtime, self.choice.device, "fp32", "the reference")
        if self.choice.device != "cpu":  # an engine at fp32 would have to be built for this alone
            exact = RuntimeChoice("onnxruntime", "cpu", "fp32", "the reference")
        reference = open_session(self.model, exact, threads=1)
        gate = rule.Gate(self.model.spec, chips, lambda faces: _raw(reference, faces, self._chunk))
        first = change = gate.measure(lambda faces: _raw(self._session, faces, self._chunk))
        if not change.passes(self.choice.precision) and self.choice.runtime == "openvino":
            change = self._with_exact_layers(gate) or change
        precision = self.choice.precision
        if not change.passes(precision):
            raise DeviceError(f"{self.model.spec.name}: {rule.refusal(first, precision)}; use --precision fp32")
        if change.faces > change.drawn:
            facts = {**change.facts, "exact_layers": float(self.choice.exact_layers)}
            parity_memory.remember(self.model, self.choice, facts)
        self._admitted = True
        return f"{change.words(rule.said(precision, self.choice.exact_layers))}: used (measured on {change.source()})"

    def _with_exact_layers(self, gate: rule.Gate) -> rule.Change | None:
        """The fewest first layers in fp32 with which the rest passes, which is then what runs; None if none of those tried does."""
        for layers in _EXACT_LAYERS:
            choice = dataclasses.replace(self.choice, exact_layers=layers)
            try:
                session = open_session(self.model, choice, threads=self._threads)
            except DeviceError:  # it cannot be cut there
                continue
            change = gate.measure(lambda faces, session=session: _raw(session, faces, self._chunk))  # type: ignore[misc]
            if change.passes(choice.precision):
                self._session, self.choice = session, choice
                return change
        return None

    def encode(self, chips: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Embed aligned faces.

        Args:
            chips: uint8 RGB (N, H, W, 3) of the spec's input size.

        Returns:
            embeddings: float32 (N, D), unit length; zeros for a face that the network gives no direction for (`unit.is_sound`).
            norms: float32 (N,) the length before normalisation, a measure of quality for many encoders; 0 there.

        Raises:
            DeviceError: the precision gate has not been passed.
        """
        if not self._admitted:
            raise DeviceError(f"{self.choice.precision} has not passed the precision gate; call admit() first")
        if len(chips) == 0:
            return np.zeros((0, self.model.spec.dimension), np.float32), np.zeros(0, np.float32)
        return _embed(self._session, chips, self._chunk)


def _embed(session: Session, chips: NDArray[np.uint8], chunk: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    return to_unit(_raw(session, chips, chunk))


def _raw(session: Session, chips: NDArray[np.uint8], chunk: int) -> NDArray[np.float32]:
    return run_in_chunks(session, chips, chunk=chunk, step=_STEP)[0].reshape(len(chips), -1)
