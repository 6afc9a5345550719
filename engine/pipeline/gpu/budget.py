"""How much of a card's memory batches in flight may take, and what happens when it is not enough.

A batch is admitted when what it will take fits beside those in flight; one that is larger than everything runs alone. The
estimate is made from the photos' headers. Where it was too small the card says so: then the batch is halved and done again with
nothing else in flight, and so are all later ones.
"""

from __future__ import annotations

import threading

from faceembed.engine.photos.failures import Failure
from faceembed.engine.pipeline.amounts import parse_amount
from faceembed.engine.pipeline.batch import Item
from faceembed.errors import UsageError

DEFAULT_SHARE = 0.6  # of the memory that is free once the models are loaded
# Of what a batch takes beside each photo: a canvas of 1,024 pixels is 3 MiB and what its faces are read with 2.6, of 480 pixels a
# fifth of that, and a chip 75 kB. What the networks work in is the streams' own.
CHIP_BYTES = 4 << 20


def parse_bytes(text: str) -> int:
    """``"20G"``, ``"512M"``, ``"1.5GiB"`` or plain bytes, as a number; K, M, G and T are powers of 1024.

    Raises:
        UsageError: anything else, or less than 256 MiB.
    """
    amount = parse_amount(text, "--gpu-memory")
    if amount < 256 << 20:
        raise UsageError(f"--gpu-memory {text} is too little; a batch and the models need 256M at least, better 2G")
    return amount


def needed(entry: Item | Failure) -> int:
    """Bytes that a photo will take on a device: it is there whole, and once more while it is turned upright."""
    return 2 * 3 * entry.header.width * entry.header.height + CHIP_BYTES if isinstance(entry, Item) else 0


class Budget:
    """Bytes and batches in flight.

    Args:
        limit: bytes, for all batches in flight together.
        slots: batches in flight at most; a slot is taken until the result is.
        batch: photos in a batch at most.
    """

    def __init__(self, limit: int, *, slots: int, batch: int) -> None:
        self.limit = limit
        self.batch = batch
        self.peak = 0
        """Most bytes that were in flight."""
        self._slots = slots
        self._in_flight = 0
        self._bytes = 0
        self._paused = False
        self._closed = False
        self._changed = threading.Condition()

    def acquire(self, size: int) -> bool:
        """Wait until a batch of so many bytes may start; False when nothing may start any more."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._fits(size))
            if self._closed:
                return False
            self._in_flight += 1
            self._bytes += size
            self.peak = max(self.peak, self._bytes)
            return True

    def _fits(self, size: int) -> bool:
        room = self._bytes == 0 or self._bytes + size <= self.limit
        return not self._paused and self._in_flight < self._slots and room

    def free(self, size: int) -> None:
        """A batch's memory is free again."""
        with self._changed:
            self._bytes -= size
            self._changed.notify_all()

    def taken(self) -> None:
        """A batch's result was taken."""
        with self._changed:
            self._in_flight -= 1
            self._changed.notify_all()

    def alone(self) -> None:
        """Let nothing start any more, and wait until nothing has memory."""
        with self._changed:
            self._paused = True
            self._changed.wait_for(lambda: self._closed or self._bytes == 0)

    def resume(self, *, batch: int) -> None:
        """Go on after `alone`, with batches of at most so many photos and no more bytes in flight than half of before."""
        with self._changed:
            self._paused = False
            self.batch = max(1, min(self.batch, batch))
            self.limit = max(1, self.limit // 2)
            self._changed.notify_all()

    def close(self) -> None:
        """Nothing may start any more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
