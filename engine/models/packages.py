"""Files that travel inside other PyPI packages, found without importing those packages."""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path

from faceembed.errors import ModelError
from faceembed.install import pip_install

BOOTSTRAP = "bootstrap"
"""What to install for the packages that carry the weights of `dlib-resnet` and `mtcnn`."""
ACCURATE = "accurate"
"""What to install for those of `sface` and `yunet`, and of the two encoders that `faceembed-accurate` joins."""


def package_file(module: str, relative: str, *, extra: str) -> Path:
    """The path of a file inside an installed package whose own code is not run.

    Args:
        module: the package's import name.
        relative: the file's path below the package's folder.
        extra: of ours, that brings it, for the message.

    Raises:
        ModelError: the package or the file is not there.
    """
    spec = importlib.util.find_spec(module)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder) / relative
        if path.is_file():
            return path
    raise ModelError(f"the weights in '{module}' are not installed; run: {pip_install(extra)}")


def verified_file(module: str, relative: str, sha256: str, *, extra: str, version: str) -> Path:
    """The same for a file whose digest is known.

    Args:
        module, relative, extra: as for `package_file`.
        sha256: what it must be.
        version: of the package (whose name is ``module``) that holds it, for the message.

    Raises:
        ModelError: the package or the file is not there, or it is another file.
    """
    path = package_file(module, relative, extra=extra)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror or error}") from error
    if (actual := hashlib.sha256(data).hexdigest()) != sha256:
        raise ModelError(
            f"{path} is damaged or another file: its SHA-256 is {actual}, expected {sha256}; "
            f"run: pip install --force-reinstall '{module}=={version}'"
        )
    return path
