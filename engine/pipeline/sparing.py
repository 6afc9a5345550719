"""What a run on processors may hold at a time, chosen from the memory that it is given: `EmbedSettings.memory`, ``--memory``.

What it takes was measured as peaks of whole `embed` runs with `faceembed-r29` in BF16, MiB, decoded pixels of people_wild left out:

| photos a batch, chips a run, batches beyond one a core | 1 core | 2 cores |
| --- | --- | --- |
| 32, 16, 1 | 330 | 385 |
| 16, 8, 0 | 318 | 348 |

Photos of one small size take less (LFW: 291, 336; 262, 291), as second looks of many shapes are missing. What is left of the given is for
decoded pixels. Not counted: larger encoders, and the table of a large index (4 KiB a photo). Batches of 8 photos and 4 chips took 7 MiB less.
"""

from __future__ import annotations

import dataclasses

from faceembed.errors import UsageError

_MIB = 1 << 20
LEAST_BYTES = 12 * _MIB
"""Of decoded pixels in a batch where memory is short: a photo of 4 megapixels."""


@dataclasses.dataclass(frozen=True)
class Spending:
    """How much is under way at a time."""

    workers: int
    """Cores, a batch each."""
    photos: int = 32
    """In a batch, at most."""
    chips: int = 16
    """In a run of the encoder: 8 take a tenth more of its time than 16."""
    spare: int = 1
    """Batches beyond one a core, so that a core has work while a thread waits for Python's lock."""
    decoded: int = 0
    """Bytes of decoded pixels in a batch; 0: `intake.BATCH_BYTES`."""


_LEVELS = ((32, 16, 1, 275, 55), (16, 8, 0, 288, 30))
"""Photos, chips, spare batches; MiB that a run takes without cores, and a core takes (see above)."""


def spending(memory: int, workers: int) -> Spending:
    """The fastest way that fits.

    Args:
        memory: bytes that a run may take; 0 for as many as it likes.
        workers: cores there are.

    Raises:
        UsageError: no way does.
    """
    if not memory:
        return Spending(workers)
    for cores in range(workers, 0, -1):  # a core more is worth more than larger batches
        for photos, chips, spare, base, each in _LEVELS:
            left = (memory - (base + each * cores) * _MIB) // (cores + spare)
            if left >= LEAST_BYTES:
                return Spending(cores, photos, chips, spare, left)
    base, each = _LEVELS[-1][3:]
    least = base + each + LEAST_BYTES // _MIB
    raise UsageError(f"--memory {memory / _MIB:.0f}M is too little: one core needs {least}M with the built-in models")
