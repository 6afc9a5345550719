"""From what the models saw to the API's JSON, as plain types. Numbers are rounded to what they carry."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from faceembed.cli.web.gallery import Found
from faceembed.engine.models.likelihood import probability, strangers_as_alike
from faceembed.engine.models.spec import ModelSpec
from faceembed.engine.pipeline.realness import Likeness, looks_altered
from faceembed.engine.pipeline.serving import Face, SeenPhoto

_VERDICTS = {True: "same", False: "different", None: None}
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


def face(found: Face) -> dict[str, Any]:
    """Where a face is and how good; its embedding or picture is added by those who need it."""
    return {
        "box": [round(value, 2) for value in found.box],
        "landmarks": [[round(x, 2), round(y, 2)] for x, y in found.landmarks.tolist()],
        "score": round(found.score, 4),
        "norm": round(found.norm, 4),
        **look(found.real),
    }


def look(real: float | None) -> dict[str, Any]:
    """How real a face looks to a gated encoder, and whether that is altered; both None where it is not known."""
    return {"real": None if real is None else round(real, 4), "altered": looks_altered(real)}


def comparison(similarity: float | None, identity: float | None, spec: ModelSpec) -> dict[str, Any]:
    """How alike two faces are, in every answer alike; what is not known is None. Without a face there is no similarity."""
    same = None if similarity is None or spec.threshold is None else similarity >= spec.threshold
    alike = None if similarity is None else strangers_as_alike(spec, similarity)
    odds = None if similarity is None else probability(spec, similarity)
    return {
        "similarity": None if similarity is None else round(similarity, 6),
        "identity": None if identity is None else round(identity, 6),
        "same": same,
        "verdict": "no_face" if similarity is None else _VERDICTS[same],
        "fmr": None if alike is None else float(f"{alike.rate:.3g}"),
        "fmr_side": None if alike is None else alike.side,
        "probability": None if odds is None else round(odds, 4),
    }


def hit(found: Found, spec: ModelSpec) -> dict[str, Any]:
    """One face of an index, beside the one that was looked for."""
    return {
        "path": found.path,
        "face": found.face,
        **comparison(found.similarity, found.likeness.identity, spec),
        **look(found.likeness.real_b),
        "thumbnail": data_url(found.thumbnail, "image/jpeg") if found.thumbnail else None,
    }


def embedded_face(found: Face) -> dict[str, Any]:
    """A face with its embedding."""
    return {**face(found), "embedding": np.round(found.embedding.astype(np.float64), 8).tolist()}


def pictured_face(found: Face) -> dict[str, Any]:
    """A face with its aligned picture."""
    return {**face(found), "chip": png_url(found.chip)}


def png_url(pixels: NDArray[np.uint8]) -> str:
    """RGB pixels (H, W, 3) as a ``data:`` address."""
    _, data = cv2.imencode(".png", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), _FAST_PNG)
    return data_url(data.tobytes(), "image/png")


def data_url(data: bytes, kind: str) -> str:
    """A picture's bytes as a ``data:`` address."""
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"


def similarities(faces: Sequence[Face | None]) -> list[list[float | None]]:
    """Cosines of each to each; None where one has no face."""
    table: list[list[float | None]] = [[None] * len(faces) for _ in faces]
    for row, a in enumerate(faces):
        for column, b in enumerate(faces):
            if a is not None and b is not None:
                table[row][column] = round(float(a.embedding @ b.embedding), 6)
    return table


def identities(faces: Sequence[Face | None], spec: ModelSpec) -> list[list[float | None]]:
    """Cosines of each one's identity to each; None where one has no face, and everywhere without a gate."""
    table: list[list[float | None]] = [[None] * len(faces) for _ in faces]
    for row, a in enumerate(faces):
        for column, b in enumerate(faces):
            if a is not None and b is not None:
                value = Likeness.of(a.embedding, b.embedding, spec).identity
                table[row][column] = None if value is None else round(value, 6)
    return table


def pairs(
    table: Sequence[Sequence[float | None]], identity: Sequence[Sequence[float | None]], spec: ModelSpec
) -> list[dict[str, Any]]:
    """Each pair of photos once."""
    return [
        {"a": a, "b": b, **comparison(table[a][b], identity[a][b], spec)}
        for a in range(len(table))
        for b in range(a + 1, len(table))
    ]
