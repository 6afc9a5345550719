"""The page of `faceembed project`: a map of faces that can be zoomed, searched and coloured.

Unlike the other pages it runs a script, its own: the page's security policy names the script by its SHA-256, so nothing that a file
name might smuggle in could run, and it still loads nothing. Names are in the page as JSON text and become text nodes.
"""

from __future__ import annotations

import base64
import collections
import dataclasses
import hashlib
import os
from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from faceembed.engine.report.page import shown, write_page

TILE = 64  # side of a thumbnail, pixels
MOST_LABELS = 300  # in a legend; the smaller groups become one
_COLUMNS = 16  # of a sprite sheet, which has as many rows: 1024 pixels, small enough for any browser
_QUALITY = 72
_SCRIPT = os.path.join(os.path.dirname(__file__), "project.js")


@dataclasses.dataclass(frozen=True)
class Grouping:
    """Something to colour faces by."""

    name: str
    labels: tuple[str, ...]
    """One a face."""


@dataclasses.dataclass(frozen=True)
class Sprites:
    """Thumbnails in sheets."""

    rows: tuple[int, ...]
    """The face of each tile, sheet after sheet, row after row."""
    sheets: tuple[bytes, ...]
    """JPEGs."""
    unreadable: int


def make_sprites(
    rows: Sequence[int],
    thumbnail: Callable[[int], bytes | None],
    *,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Sprites:
    """Put thumbnails into sheets.

    Args:
        rows: the faces to show.
        thumbnail: a face's picture as a JPEG, None where it cannot be read.
        progress: called with how many are done, and of how many.
    """
    kept: list[int] = []
    tiles: list[NDArray[np.uint8]] = []
    sheets: list[bytes] = []
    for done, row in enumerate(rows, 1):
        data = thumbnail(row)
        picture = None if data is None else cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        if picture is not None:
            kept.append(row)
            tiles.append(_tile(np.asarray(picture, np.uint8)))
        if len(tiles) == _COLUMNS**2 or (tiles and done == len(rows)):
            sheets.append(_sheet(tiles))
            tiles = []
        progress(done, len(rows))
    return Sprites(tuple(kept), tuple(sheets), len(rows) - len(kept))


def write_project_html(
    path: str | os.PathLike[str],
    places: NDArray[np.float32],
    paths: Sequence[str],
    groupings: Sequence[Grouping],
    sprites: Sprites,
    *,
    title: str,
    method: str,
    encoder: str = "",
) -> None:
    """Write the page.

    Args:
        path: the file to write.
        places: float32 (N, 2) in [0, 1].
        paths: N photos; a face's place in the list is its number.
        groupings: what to colour by, the first one at the beginning.
        sprites: thumbnails of some faces.
        title, method, encoder: for the heading.

    Raises:
        OSError: the page cannot be written.
    """
    with open(_SCRIPT, encoding="utf-8") as file:
        script = file.read()
    digest = base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")
    folders = {folder: number for number, folder in enumerate(dict.fromkeys(os.path.dirname(p) for p in paths))}
    data = {
        "places": _packed(np.round(np.clip(places, 0, 1) * 65535), "<u2"),
        "folders": [shown(folder) for folder in folders],
        "folder": _packed([folders[os.path.dirname(p)] for p in paths], "<u4"),
        "names": [shown(os.path.basename(p)) for p in paths],
        "groupings": [_grouping(grouping) for grouping in groupings],
        "tile": TILE,
        "columns": _COLUMNS,
        "tiles": _packed(sprites.rows, "<u4"),
        "sheets": [f"data:image/jpeg;base64,{base64.b64encode(sheet).decode('ascii')}" for sheet in sprites.sheets],
    }
    write_page(
        path,
        "project",
        title=shown(title),
        facts={"Faces": f"{len(paths):,}", "Method": _NAMES.get(method, shown(method)), "Encoder": shown(encoder)},
        script=script,
        digest=digest,
        data=data,
    )


_NAMES = {"pca": "PCA", "tsne": "t-SNE", "umap": "UMAP"}


def _grouping(grouping: Grouping) -> dict[str, Any]:
    """Labels by size, the smallest as one, and the number of each face's label."""
    counts = collections.Counter(grouping.labels)
    ranked = sorted(counts, key=lambda label: (-counts[label], label))
    named = ranked if len(ranked) <= MOST_LABELS else ranked[: MOST_LABELS - 1]
    number = {label: place for place, label in enumerate(named)}
    sizes = [counts[label] for label in named]
    if rest := ranked[len(named) :]:
        sizes.append(sum(counts[label] for label in rest))
        number.update(dict.fromkeys(rest, len(named)))
    return {
        "name": grouping.name,
        "labels": [shown(label) for label in named],
        "rest": len(rest),
        "counts": sizes,
        "of": _packed([number[label] for label in grouping.labels], "<u2"),
    }


def _packed(values: Any, kind: str) -> str:
    return base64.b64encode(np.asarray(values).astype(kind).tobytes()).decode("ascii")


def _tile(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The middle square of a picture, (TILE, TILE, 3)."""
    height, width = picture.shape[:2]
    edge = min(height, width)
    top, left = (height - edge) // 2, (width - edge) // 2
    square = picture[top : top + edge, left : left + edge]
    return np.asarray(cv2.resize(square, (TILE, TILE), interpolation=cv2.INTER_AREA), np.uint8)


def _sheet(tiles: Sequence[NDArray[np.uint8]]) -> bytes:
    rows = -(-len(tiles) // _COLUMNS)
    sheet = np.zeros((rows * TILE, _COLUMNS * TILE, 3), np.uint8)
    for place, tile in enumerate(tiles):
        y, x = place // _COLUMNS * TILE, place % _COLUMNS * TILE
        sheet[y : y + TILE, x : x + TILE] = tile
    return bytes(cv2.imencode(".jpg", sheet, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1].tobytes())
