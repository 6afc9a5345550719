"""What happens when there is not enough memory for a batch: it is done again in halves, and a photo that does not fit by itself is a row.

    outcomes = in_halves(process, read)       # one outcome, or several where memory was short

Each library has words of its own for it; `is_out_of_memory` knows them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

T = TypeVar("T")
E = TypeVar("E")

REASON = (
    "out of memory, alone in a batch; try again with fewer --workers, or refuse such photos at once with --max-pixels"
)
_OUT_OF_MEMORY = re.compile(
    r"out of memory|out_of_memory|bad_alloc|bad alloc|can't allocate|failed to allocate|alloc(ation)? failed|outofmemory"
    r"|insufficient memory",
    re.IGNORECASE,
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error, or what caused it, is a refusal of memory, by this machine or by a card."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, MemoryError) or _OUT_OF_MEMORY.search(f"{type(seen).__name__}: {seen}"):
            return True
        seen = seen.__cause__
    return False


def in_halves(process: Callable[[Sequence[E]], T], batch: Sequence[E], *, instead: Callable[[E], Any]) -> list[T]:
    """Process a batch; where memory is short, its halves one after the other.

    Args:
        process: of a batch.
        batch: one entry or more.
        instead: of an entry that does not fit by itself: what is processed in its place.

    Returns:
        The results, which together are those of the batch, in its order.

    Raises:
        MemoryError: what stands in an entry's place does not fit either: no photo is to blame.
    """
    try:
        return [process(batch)]
    except Exception as error:
        if not is_out_of_memory(error):
            raise
    # Here, and not in the handler: the error holds what the batch had allocated.
    if len(batch) > 1:
        half = len(batch) // 2
        return [result for part in (batch[:half], batch[half:]) for result in in_halves(process, part, instead=instead)]
    return [process([instead(batch[0])])]
