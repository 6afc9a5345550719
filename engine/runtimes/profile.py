"""The shapes that an engine is built for."""

from __future__ import annotations

import dataclasses

from faceembed.errors import UsageError

BATCH = (1, 64, 128)
MAX_BATCH = 4096


@dataclasses.dataclass(frozen=True)
class Profile:
    """The shapes that an engine takes, and the one among them that it is tuned for."""

    batch: tuple[int, int, int]
    """Least, usual and largest number of inputs."""
    sides: tuple[int, int, int] = ()  # type: ignore[assignment]
    """The same for height and width in pixels; empty where the network's input has one size."""

    def __post_init__(self) -> None:
        least, usual, most = self.batch
        if not 1 <= least <= usual <= most <= MAX_BATCH:
            raise UsageError(
                f"--batch {least},{usual},{most}: give MIN,OPT,MAX with 1 <= MIN <= OPT <= MAX <= {MAX_BATCH}"
            )

    def takes(self, count: int, height: int, width: int) -> bool:
        """Whether an input of this shape fits."""
        sides = self.sides or (height, height, height)
        return self.batch[0] <= count <= self.batch[2] and all(sides[0] <= side <= sides[2] for side in (height, width))


def parse_batch(text: str) -> tuple[int, int, int]:
    """``MIN,OPT,MAX``, or one number for all three.

    Raises:
        UsageError: neither.
    """
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) == 1:
        numbers *= 3
    if len(numbers) != 3:
        raise UsageError(f"--batch '{text}': give MIN,OPT,MAX, as in 1,64,128, or one number")
    return Profile((numbers[0], numbers[1], numbers[2])).batch
