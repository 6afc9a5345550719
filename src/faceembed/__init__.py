"""Folders of photos into a searchable face index, at the speed of the hardware.

The verbs of the command line, for Python:

    import faceembed

    faceembed.embed("photos", "people.faiss")
    faceembed.search("people.faiss", ["query.jpg"], k=5)
    faceembed.verify("a.jpg", "b.jpg").same
    faceembed.enrol("people", "staff.gallery")
    faceembed.identify("staff.gallery", ["party.jpg"]).photos[0].faces[0].name
    faceembed.matrix(["a.jpg", "b.jpg", "c.jpg"]).similarity
    faceembed.evaluate("pairs.csv").eer

    embedder = faceembed.Embedder()  # models kept warm, for a program that looks at photos one after another
    embedder.represent("a.jpg")[0].embedding
    embedder.verify("a.jpg", cv2.imread("b.jpg"), colour="bgr").same

Nothing heavy is imported before a verb is used, and next to nothing before the command handles Ctrl-C: until then it is Python's own,
with a traceback.
"""

from __future__ import annotations

from faceembed.errors import FaceEmbedError
from faceembed.telemetry import switch_off

switch_off()

TYPE_CHECKING = False  # typing's own takes as long to import as all else here
if TYPE_CHECKING:
    from typing import Any

    from faceembed.engine.pipeline.serving import Face
    from faceembed.engine.pipeline.settings import EmbedSettings
    from faceembed.engine.runtimes.choose import RuntimeSettings
    from faceembed.engine.verbs.embed import embed
    from faceembed.engine.verbs.embedder import Embedder
    from faceembed.engine.verbs.evaluate import evaluate_pairs as evaluate
    from faceembed.engine.verbs.gallery import enrol
    from faceembed.engine.verbs.identify import identify
    from faceembed.engine.verbs.matrix import matrix
    from faceembed.engine.verbs.search import search
    from faceembed.engine.verbs.verify import verify
    from faceembed.version import __version__

__all__ = [
    "EmbedSettings",
    "Embedder",
    "Face",
    "FaceEmbedError",
    "RuntimeSettings",
    "__version__",
    "embed",
    "enrol",
    "evaluate",
    "identify",
    "matrix",
    "search",
    "verify",
]

_HOMES = {
    "__version__": ("faceembed.version", "__version__"),
    "EmbedSettings": ("faceembed.engine.pipeline.settings", "EmbedSettings"),
    "Embedder": ("faceembed.engine.verbs.embedder", "Embedder"),
    "Face": ("faceembed.engine.pipeline.serving", "Face"),
    "RuntimeSettings": ("faceembed.engine.runtimes.choose", "RuntimeSettings"),
    "embed": ("faceembed.engine.verbs.embed", "embed"),
    "enrol": ("faceembed.engine.verbs.gallery", "enrol"),
    "identify": ("faceembed.engine.verbs.identify", "identify"),
    "evaluate": ("faceembed.engine.verbs.evaluate", "evaluate_pairs"),
    "matrix": ("faceembed.engine.verbs.matrix", "matrix"),
    "search": ("faceembed.engine.verbs.search", "search"),
    "verify": ("faceembed.engine.verbs.verify", "verify"),
}


def __dir__() -> list[str]:
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'faceembed' has no attribute '{name}'")
    from importlib import import_module

    module, attribute = _HOMES[name]
    return getattr(import_module(module), attribute)
