"""Whether a network for a card agrees with the model at fp32, on real faces, before it is kept.

The reference is ONNX Runtime on the CPU at fp32. On a machine with a card the engine itself is compared; elsewhere the graph that
TensorRT was given is, in ONNX Runtime, each layer's result rounded as on a card: what differs is TensorRT's kernels.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from faceembed.engine.detect.oneshot import OneShotDetector
from faceembed.engine.models.spec import Model
from faceembed.engine.parity.detectors import compare
from faceembed.engine.parity.rule import FACES, Embed, Gate, loss, refusal
from faceembed.engine.photos.decode import decode, min_face_of
from faceembed.engine.photos.listing import list_photos
from faceembed.engine.photos.reading import read_file
from faceembed.engine.runtimes.base import RuntimeChoice, Session
from faceembed.engine.runtimes.batching import run_in_chunks
from faceembed.engine.runtimes.networks import Network, networks_of
from faceembed.engine.runtimes.sessions import open_session
from faceembed.errors import DataError, DeviceError, PhotoError

_PHOTOS = 64
_REFERENCE = RuntimeChoice("onnxruntime", "cpu", "fp32", "the reference")
OpenNetwork = Callable[[Network], Session]


def check_encoder(
    model: Model, precision: str, open_network: OpenNetwork, chips: NDArray[np.uint8]
) -> dict[str, float]:
    """The gate of an encoder.

    Args:
        model: the encoder.
        precision: of what is compared.
        open_network: opens its network as it is to run.
        chips: uint8 RGB (N, H, W, 3), N >= 1, faces cut for it.

    Returns:
        What was measured: the figures of `rule.Change`.

    Raises:
        DeviceError: it differs too much.
    """
    (network,) = networks_of(model)
    gate = Gate(model.spec, chips, embed_with(open_session(model, _REFERENCE, threads=1)))
    change = gate.measure(embed_with(open_network(network)))
    if not change.passes(precision):
        raise DeviceError(
            f"{model.spec.name}: {refusal(change, precision)}; use --precision {'fp32' if precision == 'fp16' else 'fp16'}"
        )
    return change.facts


def embed_with(session: Session) -> Embed:
    """How a session embeds faces, for a `Gate`."""
    return lambda chips: run_in_chunks(session, chips, chunk=FACES, step=1)[0]


def check_aligner(model: Model, precision: str, open_network: OpenNetwork, folder: Path) -> dict[str, float]:
    """The gate of a one-shot aligner.

    Args:
        model: the aligner.
        precision: of what is compared.
        open_network: opens one of its networks as it is to run.
        folder: of photos with faces.

    Returns:
        What was measured: ``found``, ``deviation`` and ``faces``.

    Raises:
        DataError: there is no face to compare on.
        DeviceError: it differs too much.
    """
    photos = _sample_pixels(folder)
    detect, refine = networks_of(model)
    sessions = (open_network(detect), open_network(refine))
    fast = OneShotDetector(model, dataclasses.replace(_REFERENCE, why="compared"), threads=1, sessions=sessions)
    exact = OneShotDetector(model, _REFERENCE, threads=1)
    smallest = [min_face_of(photo.shape[1], photo.shape[0], 0) for photo in photos]
    found = compare(*(one.detect(photos, smallest, only_largest=False) for one in (fast, exact)))
    if found.faces == 0:
        raise DataError(
            f"{model.spec.name} finds no face in the photos of {folder} to compare on; give others: --photos"
        )
    if not found.passes:
        raise DeviceError(
            f"{model.spec.name} in {precision} differs from fp32: it finds {100 * found.found:.0f} % of {found.faces} faces, landmarks "
            f"{100 * found.deviation:.1f} % of the eyes' distance apart; use --precision fp32"
        )
    return {"found": found.found, "deviation": found.deviation, "faces": found.faces}


def parity_line(precision: str, parity: dict[str, float]) -> str:
    """What the gate measured, in words."""
    faces = f"{parity['faces']:.0f} faces"
    if "rms" in parity:
        return f"{loss(parity['rms'], parity['largest'], precision)} on {faces}"
    if "min_cosine" in parity:  # of an engine that a version before this rule built
        return f"parity of {precision} with fp32: smallest cosine {parity['min_cosine']:.5f} on {faces}"
    return (
        f"parity of {precision} with fp32: {100 * parity['found']:.0f} % of {faces}, "
        f"landmarks {100 * parity['deviation']:.1f} % of the eyes' distance apart"
    )


def _sample_pixels(folder: Path) -> list[NDArray[np.uint8]]:
    pixels = []
    for photo in list_photos([folder]).photos[:_PHOTOS]:
        try:
            pixels.append(decode(read_file(photo.path)).pixels)
        except PhotoError:  # one of many to choose from; at least one must be sound
            continue
    if not pixels:
        raise DataError(f"no photo of {folder} can be read to compare on; give others: --photos")
    return pixels
