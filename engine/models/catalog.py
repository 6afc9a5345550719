"""The models that faceembed knows by name, and where each comes from.

This is data: how a file is fetched is `fetch`, how a name becomes a model on disk is `registry`.
"""

from __future__ import annotations

import dataclasses

from faceembed.engine.models.spec import Task


@dataclasses.dataclass(frozen=True)
class Entry:
    """One known model."""

    name: str
    task: Task
    licence: str
    source: str
    """The page or package that a person would open."""
    dimension: int = 0
    importer: str = ""
    """Module with ``build() -> (onnx_bytes, ModelSpec)`` for a bootstrap model; empty for one from a hub."""


_BOOTSTRAP = (
    Entry(
        name="dlib-resnet",
        task="encoder",
        licence="CC0-1.0",
        source="PyPI face-recognition-models 0.3.0",
        dimension=128,
        importer="faceembed.engine.models.dlib_resnet",
    ),
    Entry(
        name="mtcnn",
        task="aligner",
        licence="MIT",
        source="PyPI mtcnn 1.0.0",
        importer="faceembed.engine.models.mtcnn",
    ),
)

CATALOG: dict[str, Entry] = {entry.name: entry for entry in _BOOTSTRAP}
