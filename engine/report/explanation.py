"""The picture and the page of `faceembed explain`: both faces, their maps over them, and what the maps say."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from faceembed.engine.explain.deletion import Deletion
from faceembed.engine.explain.explained import Explained
from faceembed.engine.explain.occlusion import Chip, overlay
from faceembed.engine.report.page import short_names, shown, write_page
from faceembed.engine.report.pixels import png_bytes, png_source
from faceembed.files import atomic_write
from faceembed.marks import signed_png
from faceembed.outputs import check_output

_SIDE = 448  # px of each face in the picture, about
_GAP = 12
UNITS = {
    "occlusion": "cosine lost where a window covers",
    "gradient": "density of the cosine gained; its mean is the whole",
}


def write_explanation_png(path: str | os.PathLike[str], explained: Explained) -> None:
    """Write one PNG: above the faces, below their maps over them; left the first photo.

    Raises:
        OSError: the file cannot be written.
    """
    rows = [np.hstack(row) for row in zip(*[_padded(pair) for pair in _pairs(explained)], strict=True)]
    check_output(path, "picture")
    with atomic_write(path) as file:
        file.write(signed_png(png_bytes(np.vstack(rows)[_GAP:, _GAP:])))


def write_explanation_html(path: str | os.PathLike[str], explained: Explained) -> None:
    """Write one self-contained HTML file.

    Raises:
        OSError: the file cannot be written.
    """
    found, names, alike = explained.explanation, short_names(list(explained.photos)), explained.likeness
    facts = {
        "Similarity": f"{found.similarity:.4f}",
        "Same person from": "" if explained.threshold is None else f"{explained.threshold:.3f}",
        "By identity alone": "" if alike.identity is None else f"{alike.identity:.4f}",
        "How real the faces look": "" if alike.real_a is None else f"{alike.real_a:.2f} and {alike.real_b:.2f}",
        "Encoder": explained.encoder,
        "Maps of": "the identity, without the gate" if explained.gated else "",
        "Method": found.method,
        **{name.capitalize(): _plain(value) for name, value in {**found.details, **explained.runtime}.items()},
    }
    largest = max(abs(value) for parts in explained.parts for value in parts.values()) or 1.0
    faces = [
        {
            "name": names[photo],
            "chip": png_source(chip),
            "overlay": png_source(drawn),
            "parts": [(name, f"{1000 * value:+.2f}", value / largest) for name, value in parts.items()],
            "test": _test(test),
        }
        for photo, (chip, drawn), parts, test in zip(
            explained.photos, _pairs(explained), explained.parts, explained.deletions, strict=True
        )
    ]
    write_page(
        path,
        "explanation",
        title=shown(f"What makes {names[explained.photos[0]]} and {names[explained.photos[1]]} similar"),
        facts={name: shown(value) for name, value in facts.items() if value},
        faces=faces,
        units=UNITS[found.method],
        scale=f"{_scale(explained):.2g}",
    )


def _scale(explained: Explained) -> float:
    """The largest value of both maps."""
    found = explained.explanation
    return float(max(np.abs(found.map_a).max(), np.abs(found.map_b).max()))


def _pairs(explained: Explained) -> list[tuple[Chip, Chip]]:
    """Of each photo the face, and its map over it."""
    maps, scale = (explained.explanation.map_a, explained.explanation.map_b), _scale(explained)
    return [(chip, overlay(chip, values, scale=scale)) for chip, values in zip(explained.chips, maps, strict=True)]


def _padded(pictures: tuple[Chip, Chip]) -> list[Chip]:
    """Pictures made larger, with white above and to the left."""
    import cv2

    factor = max(1, _SIDE // pictures[0].shape[0])
    large = [cv2.resize(p, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC) for p in pictures]
    return [np.pad(p, ((_GAP, 0), (_GAP, 0), (0, 0)), constant_values=255) for p in large]


def _test(test: Deletion) -> dict[str, Any]:
    return {
        "share": f"{100 * test.share:g}",
        "before": f"{test.before:.4f}",
        "important": f"{test.important:.4f}",
        "random": f"{test.random_mean:.4f}",
        "spread": f"{min(test.random):.4f} to {max(test.random):.4f}",
        "trials": len(test.random),
        "faithful": test.important < test.random_mean,
    }


def _plain(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
