"""Where libraries keep files of their own while a command runs: in FACEEMBED_HOME, so that nothing is left anywhere else.

matplotlib keeps a list of fonts, numba what it compiled for `project --method umap`, PyTorch makes a folder for what it might compile.
A program that calls faceembed from Python has its own places for these: they are chosen for commands alone.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

from faceembed.engine.models.store import home

_FOLDERS = {
    "MPLCONFIGDIR": "matplotlib",
    "NUMBA_CACHE_DIR": "numba",
    "TORCHINDUCTOR_CACHE_DIR": "torchinductor",
}


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
