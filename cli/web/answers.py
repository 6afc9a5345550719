"""From what the models saw to the API's JSON, as plain types. Numbers are rounded to what they carry."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from faceembed.engine.models.spec import ModelSpec
from faceembed.engine.pipeline.realness import Likeness
from faceembed.engine.pipeline.serving import SeenFace, SeenPhoto

_FAST_PNG = (cv2.IMWRITE_PNG_COMPRESSION, 1)


def photo(seen: SeenPhoto, name: str, faces: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One photo with its faces."""
    return {
        "name": name,
        "width": seen.width,
        "height": seen.height,
        "faces": list(faces),
        "faces_found": len(seen.faces),
        "reason": seen.reason,
    }


def face(found: SeenFace) -> dict[str, Any]:
    """Where a face is and how good; its embedding or picture is added by those who need it."""
    return {
        "box": [round(value, 2) for value in found.box],
        "landmarks": [[round(x, 2), round(y, 2)] for x, y in found.landmarks.tolist()],
        "score": round(found.score, 4),
        "norm": round(found.norm, 4),
        "real": None if found.real is None else round(found.real, 4),
    }


def embedded_face(found: SeenFace) -> dict[str, Any]:
    """A face with its embedding."""
    return {**face(found), "embedding": np.round(found.embedding.astype(np.float64), 8).tolist()}


def pictured_face(found: SeenFace) -> dict[str, Any]:
    """A face with its aligned picture."""
    return {**face(found), "chip": png_url(found.chip)}


def png_url(pixels: NDArray[np.uint8]) -> str:
    """RGB pixels (H, W, 3) as a ``data:`` address."""
    _, data = cv2.imencode(".png", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), _FAST_PNG)
    return data_url(data.tobytes(), "image/png")


def data_url(data: bytes, kind: str) -> str:
    """A picture's bytes as a ``data:`` address."""
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"


def similarities(faces: Sequence[SeenFace | None]) -> list[list[float | None]]:
    """Cosines of each to each; None where one has no face."""
    table: list[list[float | None]] = [[None] * len(faces) for _ in faces]
    for row, a in enumerate(faces):
        for column, b in enumerate(faces):
            if a is not None and b is not None:
                table[row][column] = round(float(a.embedding @ b.embedding), 6)
    return table


def identities(faces: Sequence[SeenFace | None], spec: ModelSpec) -> list[list[float | None]]:
    """Cosines of each one's identity to each; None where one has no face, and everywhere without a gate."""
    table: list[list[float | None]] = [[None] * len(faces) for _ in faces]
    for row, a in enumerate(faces):
        for column, b in enumerate(faces):
            if a is not None and b is not None:
                value = Likeness.of(a.embedding, b.embedding, spec).identity
                table[row][column] = None if value is None else round(value, 6)
    return table


def pairs(
    table: Sequence[Sequence[float | None]], identity: Sequence[Sequence[float | None]], threshold: float | None
) -> list[dict[str, Any]]:
    """The verdict on each pair: ``same``, ``different``, ``no_face``; None where there is no threshold."""

    def verdict(similarity: float | None) -> str | None:
        if similarity is None:
            return "no_face"
        if threshold is None:
            return None
        return "same" if similarity >= threshold else "different"

    return [
        {"a": a, "b": b, "similarity": table[a][b], "identity": identity[a][b], "verdict": verdict(table[a][b])}
        for a in range(len(table))
        for b in range(a + 1, len(table))
    ]
