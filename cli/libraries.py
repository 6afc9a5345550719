"""What libraries are told before a command imports them: where to keep files of their own, and to be sparing with memory and time.

Files lie in FACEEMBED_HOME, so that nothing is left anywhere else: matplotlib keeps a list of fonts, numba what it compiled for
`project --method umap`, PyTorch makes a folder for what it might compile.
A program that calls faceembed from Python has its own places for these: they are chosen for commands alone.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import sys
from pathlib import Path

from faceembed.cores import available_cores
from faceembed.engine.models.store import home

_FOLDERS = {
    "MPLCONFIGDIR": "matplotlib",
    "NUMBA_CACHE_DIR": "numba",
    "TORCHINDUCTOR_CACHE_DIR": "torchinductor",
}

_ARROW_POOL = "ARROW_DEFAULT_MEMORY_POOL"
_M_ARENA_MAX = -8  # mallopt(3)
_FEW_CORES = 4


def keep_small() -> None:
    """Have memory that was given back used again, whoever gave it back: `embed` of 2,000 photos peaks at 384 in place of 439 MiB.

    Arrow takes its memory where everybody does, and not from a pool of its own. The C library of Linux gives each thread an arena of
    its own, and what is free in one is of no use in another: up to four cores there is one for all, which cost no time on two; on
    more cores it was not measured, and nothing is changed. What is set already stays.
    """
    os.environ.setdefault(_ARROW_POOL, "system")
    if sys.platform == "linux" and available_cores() <= _FEW_CORES and "MALLOC_ARENA_MAX" not in os.environ:
        with contextlib.suppress(AttributeError):  # another C library than GNU's
            ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)


def sleep_soon() -> None:
    """Have OpenBLAS's threads sleep where they have nothing to do: they run idle for 2^26 cycles first, 40 ms of a core at every start."""
    os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")


def keep_at_home() -> None:
    """Name the folders to the libraries, before they are imported. What is set already stays.

    A home that cannot be written is not named: the libraries then do as they are used to, and matplotlib does not say so.
    """
    folder = home()
    if _writable(folder):
        for variable, name in _FOLDERS.items():
            os.environ.setdefault(variable, str(folder / name))
    else:
        logging.getLogger("matplotlib").setLevel(logging.ERROR)


def _writable(folder: Path) -> bool:
    """Whether a folder, which need not be there yet, can be written."""
    here = next((path for path in (folder, *folder.parents) if path.exists()), folder)
    return here.is_dir() and os.access(here, os.W_OK)
