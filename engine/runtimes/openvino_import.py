"""The one place that imports OpenVINO: without its telemetry, and without the converter of models that nothing here uses.

`import openvino` also imports ``openvino.tools.ovc``, which costs 80 of its 125 ms of processor time. Where that cannot be imported,
OpenVINO does without (it is optional to it); a program that wants ``openvino.convert_model`` in the same process gets it at the first call.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Any

from faceembed.telemetry import without_openvino_telemetry

_CONVERTER = "openvino.tools.ovc"


def openvino() -> Any:
    """The library, imported at its first use; nowhere else is it imported (a rule of ruff)."""
    with without_openvino_telemetry(), _without_converter():
        import openvino as library  # noqa: TID251
    if not hasattr(library, "convert_model"):
        library.convert_model = _convert_model
    return library


@contextlib.contextmanager
def _without_converter() -> Iterator[None]:
    """While the block runs, the converter cannot be imported; nothing happens where it is already."""
    if "openvino" in sys.modules:
        yield
        return
    sys.modules[_CONVERTER] = None  # type: ignore[assignment]  # how Python says "not to be found"
    try:
        yield
    finally:
        sys.modules.pop(_CONVERTER, None)


def _convert_model(*args: Any, **settings: Any) -> Any:
    """``openvino.convert_model``, imported when it is called."""
    library = sys.modules["openvino"]
    with without_openvino_telemetry():
        from openvino.tools.ovc import convert_model  # noqa: TID251
    library.convert_model = convert_model  # type: ignore[attr-defined]
    return convert_model(*args, **settings)
