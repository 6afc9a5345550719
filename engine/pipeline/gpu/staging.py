"""Page-locked memory that pictures are uploaded from while the host goes on.

A copy from any other memory of the host makes the driver wait for the stream first, where it is large. What lies here must stay as it is
until the stream has come so far, which an event says: until then nobody else gets that piece, however its owner may end.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from faceembed.engine.runtimes.cuda_memory import pinned

LIMIT = 128 << 20  # bytes of the host's memory for each lane: five photos of 8 megapixels
LEAST = 1 << 20


class Staging:
    """That of one lane."""

    def __init__(self) -> None:
        self._pieces: list[tuple[NDArray[np.uint8], Any]] = []
        """Each with the event after which it is free."""

    @property
    def nbytes(self) -> int:
        return sum(piece.nbytes for piece, _ in self._pieces)

    def take(self, nbytes: int) -> NDArray[np.uint8] | None:
        """A piece of so many bytes or more, to be given to `keep` with what uses it; None: there is no room for it now."""
        done = [place for place, (_, event) in enumerate(self._pieces) if event.is_done]
        fitting = [place for place in done if self._pieces[place][0].nbytes >= nbytes]
        if fitting:
            return self._pieces.pop(min(fitting, key=lambda place: self._pieces[place][0].nbytes))[0]
        size = max(LEAST, 1 << (nbytes - 1).bit_length())
        for place in reversed(done):
            if self.nbytes + size > LIMIT:
                del self._pieces[place]
        return pinned(size) if self.nbytes + size <= LIMIT else None

    def keep(self, piece: NDArray[np.uint8], event: Any) -> None:
        """Take a piece back, free from ``event`` on."""
        self._pieces.append((piece, event))

    def release(self) -> None:
        """Give back what nobody reads any more."""
        self._pieces = [(piece, event) for piece, event in self._pieces if not event.is_done]
