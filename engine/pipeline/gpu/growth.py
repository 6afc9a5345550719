"""How many processes a card gets, by what is measured in the first seconds.

One process of Python may not feed a fast card, and more than it can use only take memory. So one more is tried as long as the rate
rises by a tenth.
"""

from __future__ import annotations

import math
from collections.abc import Callable

MOST = 4  # processes a card
GAIN = 1.1  # in rate, that one more process must have brought
SECONDS = 3.0  # that a rate is measured for
BUSY = 0.75  # of a core, from which on Python may be what bounds one process; below, the card or the disk does


class Growth:
    """Told of every photo that is done, says when to add a process.

    Args:
        most: processes that may be added.
        clock: seconds.
    """

    def __init__(self, most: int, clock: Callable[[], float]) -> None:
        self.left = most
        self.rates: list[float] = []
        """Photos a second, of each number of processes that was measured, the smallest first."""
        self._clock = clock
        self._since = math.nan
        self._photos = 0

    def begin(self) -> None:
        """From now on as many processes are at work as there are."""
        self._since, self._photos = self._clock(), 0

    def took(self, photos: int) -> bool:
        """So many photos more are done; whether a process is to be added. `begin` is to be called when that is at work."""
        self._photos += photos
        if math.isnan(self._since) or (elapsed := self._clock() - self._since) < SECONDS:
            return False
        self._since = math.nan
        self.rates.append(self._photos / elapsed)
        if self.left and (len(self.rates) < 2 or self.rates[-1] >= GAIN * self.rates[-2]):
            self.left -= 1
            return True
        return False

    def remark(self) -> list[str]:
        """What was measured, as a line for the user; none where it was not looked at."""
        if len(self.rates) < 2:
            return []
        told = ", ".join(f"{rate:,.0f} photos/s with {number}" for number, rate in enumerate(self.rates, 1))
        return [f"processes a card, measured: {told}; --processes sets their number"]
