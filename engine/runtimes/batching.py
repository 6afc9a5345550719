"""Runs any number of inputs through a session in a few fixed batch sizes.

A runtime prepares its kernels anew for every shape it meets, so free batch sizes would cost more than the padding does.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from faceembed.engine.runtimes.base import Session


def run_in_chunks(
    session: Session, pixels: NDArray[np.uint8], *, chunk: int, step: int
) -> tuple[NDArray[np.float32], ...]:
    """Run a batch in chunks of ``chunk``; the last one is zero-padded to a multiple of ``step`` or, below, a power of two.

    Args:
        session: what runs it.
        pixels: uint8 RGB (N, H, W, 3), N >= 1.
        chunk: the largest batch, a multiple of ``step``.
        step: the granularity of batch sizes from here on; a power of two where small batches are to cost little.

    Returns:
        The session's outputs for the N inputs.
    """
    parts: list[tuple[NDArray[np.float32], ...]] = []
    for start in range(0, len(pixels), chunk):
        part = pixels[start : start + chunk]
        missing = _padded(len(part), step) - len(part)
        if missing:
            padding = np.zeros((missing, *part.shape[1:]), np.uint8)
            outputs = session.run(np.concatenate([part, padding]))
            parts.append(tuple(output[: len(part)] for output in outputs))
        else:
            parts.append(session.run(np.ascontiguousarray(part)))
    return tuple(np.concatenate(column) for column in zip(*parts, strict=True))


def _padded(count: int, step: int) -> int:
    return min(1 << (count - 1).bit_length(), step) if count < step else -(-count // step) * step
