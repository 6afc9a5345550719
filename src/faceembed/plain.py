"""JSON as its standard has it: without NaN and infinities, which few readers besides Python's take."""

from __future__ import annotations

import json
import math
from typing import Any


def to_json(document: Any, **layout: Any) -> str:
    """A document as JSON text; numbers that are not finite become null.

    Args:
        document: plain types.
        layout: ``indent``, ``separators``, ``sort_keys`` of `json.dumps`.
    """
    try:
        return json.dumps(document, allow_nan=False, **layout)
    except ValueError:
        return json.dumps(finite(document), allow_nan=False, **layout)


def finite(document: Any) -> Any:
    """The same document with None for every float that is NaN or infinite."""
    if isinstance(document, float):
        return document if math.isfinite(document) else None
    if isinstance(document, dict):
        return {key: finite(value) for key, value in document.items()}
    if isinstance(document, (list, tuple)):
        return [finite(value) for value in document]
    return document
