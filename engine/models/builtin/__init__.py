"""The models that travel inside faceembed: each an ONNX file, its spec (`.json`) and its card (`.md`) in this folder.

They need no download, no other package, and are in no store: a name found here means the file here.
"""

from __future__ import annotations

import functools
from pathlib import Path

from faceembed.engine.models.spec import Model, ModelSpec
from faceembed.engine.models.store import file_sha256
from faceembed.errors import ModelError
from faceembed.install import pip_install

FOLDER = Path(__file__).resolve().parent


def names() -> list[str]:
    """The names of the built-in models, sorted."""
    return sorted(path.stem for path in FOLDER.glob("*.onnx"))


@functools.cache
def find(name: str) -> Model | None:
    """A built-in model, verified by SHA-256; None if there is none of that name.

    Raises:
        ModelError: its files are damaged.
    """
    path = FOLDER / f"{name}.onnx"
    if name not in names():
        return None
    try:
        spec = ModelSpec.from_json(path.with_suffix(".json").read_text("utf-8"), where=f"{name}.json")
        sha256 = file_sha256(path)
    except (OSError, UnicodeDecodeError, ModelError) as error:
        raise ModelError(f"the model '{name}' inside faceembed is damaged ({error}); {_advice()}") from error
    if sha256 != spec.sha256:
        raise ModelError(
            f"the model '{name}' inside faceembed is damaged: its SHA-256 is {sha256}, expected {spec.sha256}; {_advice()}"
        )
    return Model(spec, str(path))


def _advice() -> str:
    return f"reinstall it, for instance with: {pip_install(again=True)}"
