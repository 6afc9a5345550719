"""Whether an index finds what is there, tried on some of its own faces against exact search before it is written."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from faceembed.engine.index.effort import SAMPLE, Effort, Floats, Ints, Searcher, calibrate, unlinked_in
from faceembed.engine.index.kinds import effort_name, faiss_reason, refined, stores_exactly
from faceembed.errors import UsageError

LEAST = 0.9
"""Share of the 10 nearest below which an index is refused: it would not be one."""
_SELF = 1e-3  # how far from 1 a face's similarity to itself may lie


def tried(index: Any, vectors: Floats, index_type: str, *, exact: Callable[[Ints], Floats] | None) -> Effort:
    """How hard an index has to be searched, measured (`effort.calibrate`).

    Args:
        index: trained and filled, without an id map.
        vectors: float32 (N, D), unit length, by position.
        index_type: for the message.
        exact: as for `Searcher`.

    Raises:
        UsageError: FAISS has no search for this kind; or, with all effort, it does not find what is nearest, or a face does not find itself with a similarity of 1.
    """
    if stores_exactly(index) and not effort_name(index) and not refined(index):  # exact search itself
        return Effort()
    try:
        effort = calibrate(Searcher(index, Effort(), exact=exact), vectors)
    except RuntimeError as error:
        raise UsageError(
            f"--index '{index_type}' cannot be searched ({faiss_reason(error)}); use --index flat, hnsw or ivf"
        ) from error
    if not len(vectors):
        return effort
    effort = dataclasses.replace(effort, unlinked=unlinked_in(Searcher(index, effort, exact=exact), vectors))
    own = np.arange(0, len(vectors), max(1, len(vectors) // SAMPLE))[:SAMPLE]
    positions, similarity = Searcher(index, effort, exact=exact).nearest(vectors[own], 1)
    itself = float(np.mean(np.abs(similarity[:, 0] - 1) <= _SELF)) if positions.size else 0.0
    nearest = effort.steps[0].recall if effort.steps else 1.0
    if nearest < LEAST or itself < LEAST:
        raise UsageError(
            f"--index '{index_type}' does not find what is nearest: {100 * nearest:.0f} % of the {_ks(effort)[0]} nearest faces and, "
            f"for {100 * itself:.0f} % of faces, themselves, on {len(own)} of these faces; its codes are too coarse for them: "
            "use --index flat, hnsw or ivf, or longer codes"
        )
    return effort


def found_text(index_type: str, effort: Effort, stored: int) -> str:
    """A line for the user: how much a search finds."""
    parts = [f"{100 * step.recall:.1f} % of the {step.k:,} nearest" for step in effort.steps]
    return f"index {index_type}: finds {', '.join(parts)} (tried on {min(SAMPLE, stored)} of its faces against exact search)"


def _ks(effort: Effort) -> list[int]:
    return [step.k for step in effort.steps] or [1]
