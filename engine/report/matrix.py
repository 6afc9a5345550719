"""The pairwise similarity table of `faceembed matrix`, as a page and as a picture."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from faceembed.engine.report.page import Thumbnails, short_names, shown, thumbnail_source, two_digits, write_page
from faceembed.errors import DataError, UsageError
from faceembed.files import atomic_write
from faceembed.marks import GENERATOR
from faceembed.outputs import check_output

MOST_PHOTOS = 300
NO_FACE = "no face found"

Pixels = npt.NDArray[np.uint8]
_NUMBERED = 40  # photos up to which the picture has room for numbers
_HEAD_PX, _LABEL_PX, _PAD_PX = 76, 240, 12
_WARM, _COLD = np.array([31, 111, 235]), np.array([194, 87, 12])
_EMPTY, _INK, _SOFT, _NOTE = 236, "#1b2430", "#67717e", "#8a5a00"


def write_matrix_html(
    path: str | os.PathLike[str],
    paths: Sequence[str],
    similarity: npt.ArrayLike,
    thumbnails: Thumbnails,
    *,
    reasons: Mapping[str, str] | None = None,
    threshold: float | None = None,
    title: str = "Similarity of photos",
    encoder: str = "",
    notes: Mapping[str, Sequence[str]] | None = None,
    remarks: Mapping[tuple[int, int], str] | None = None,
) -> None:
    """Write the table as one self-contained HTML file.

    Args:
        path: the file to write.
        paths: ``n`` photos.
        similarity: ``(n, n)`` cosine similarities; the row and column of a photo without a face are NaN.
        thumbnails: called once for each photo.
        reasons: photo to why it has no face; what is not in it is "no face found".
        threshold: similarities at or above it are marked as the same person.
        title: heading of the page.
        encoder: its name, for the heading.
        notes: photo to what else is to be said of it.
        remarks: pair (a, b) of photos, a < b, to a sentence about it; such pairs are marked.

    Raises:
        DataError: the shape does not fit ``paths``, or a similarity is not in [-1, 1].
        UsageError: more than 300 photos.
        OSError: the file cannot be written.
    """
    values = _checked(paths, similarity)
    source, names = thumbnail_source(thumbnails), _names(paths)
    heads = [
        {"name": names[photo], "thumbnail": source(photo), "reason": why, "notes": _notes(notes, photo)}
        for photo, why in zip(paths, _reasons(paths, values, reasons), strict=True)
    ]
    facts = {"Photos": str(len(paths)), "Encoder": shown(encoder)}
    if threshold is not None:
        facts["Same person from"] = f"{threshold:.3f}"
    write_page(
        path,
        "matrix",
        title=shown(title),
        facts={name: value for name, value in facts.items() if value},
        heads=heads,
        rows=[[None if np.isnan(value) else value for value in row] for row in values.tolist()],
        threshold=threshold,
        marked=bool(remarks),
        remarks=[
            [shown((remarks or {}).get((min(a, b), max(a, b)), "")) for b in range(len(paths))]
            for a in range(len(paths))
        ],
    )


def write_matrix_png(
    path: str | os.PathLike[str],
    paths: Sequence[str],
    similarity: npt.ArrayLike,
    thumbnails: Thumbnails,
    *,
    reasons: Mapping[str, str] | None = None,
    notes: Mapping[str, Sequence[str]] | None = None,
) -> None:
    """Write the table as one PNG; arguments and errors are those of `write_matrix_html`.

    Up to 40 photos the cells carry their numbers; above that colour alone.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    values = _checked(paths, similarity)
    cell = 56 if len(paths) <= _NUMBERED else 24
    head = min(_HEAD_PX, cell + 20)
    canvas = _canvas(paths, values, thumbnails, cell, head)
    height, width, _ = canvas.shape
    dpi = 100
    figure = Figure(figsize=(width / dpi, height / dpi), dpi=dpi)
    figure.figimage(canvas)
    left, top = _PAD_PX + _LABEL_PX + head, _PAD_PX + head  # px, of the first cell
    names = _names(paths)

    def write(x: float, y: float, text: str, **style: Any) -> None:
        figure.text(x / width, 1 - y / height, text, va="center", parse_math=False, **style)

    for i, (photo, why) in enumerate(zip(paths, _reasons(paths, values, reasons), strict=True)):
        middle = top + (i + 0.5) * cell
        note = "; ".join(_notes(notes, photo))
        shift = 8 if (why or note) and cell > 30 else 0
        write(_PAD_PX, middle - shift, _fitting(names[photo], 30), fontsize=8, color=_INK if not why else _SOFT)
        if shift:
            write(_PAD_PX, middle + shift, _fitting(why or note, 34), fontsize=7, color="#c02626" if why else _NOTE)
        for j in range(len(paths)) if cell > 30 else ():
            value = float(values[i, j])
            text, colour = (
                ("–", _SOFT) if np.isnan(value) else (two_digits(value), "white" if abs(value) > 0.85 else _INK)
            )
            write(left + (j + 0.5) * cell, middle, text, fontsize=9, color=colour, ha="center")
    check_output(path, "picture")
    with atomic_write(path, "wb") as file:
        FigureCanvasAgg(figure).print_png(file, metadata={"Software": GENERATOR})


def check_matrix_size(photos: int) -> None:
    """Refuse a table that nobody could read; worth asking before the photos are embedded.

    Raises:
        UsageError: more than 300 photos.
    """
    if photos > MOST_PHOTOS:
        raise UsageError(f"the table shows at most {MOST_PHOTOS} photos, got {photos}; take --json, or fewer photos")


def _checked(paths: Sequence[str], similarity: npt.ArrayLike) -> npt.NDArray[np.float64]:
    values = np.asarray(similarity, dtype=np.float64)
    if not paths or values.shape != (len(paths), len(paths)):
        raise DataError(f"expected similarities of shape (n, n) for {len(paths)} photos, n > 0, got {values.shape}")
    check_matrix_size(len(paths))
    known = values[~np.isnan(values)]
    if (np.abs(known) > 1.001).any():
        raise DataError(f"similarities must be cosines in [-1, 1] or NaN, got {known[np.argmax(np.abs(known))]}")
    return values


def _names(paths: Sequence[str]) -> dict[str, str]:
    """File names where they tell the photos apart, else paths."""
    names = {path: shown(os.path.basename(path)) for path in paths}
    return names if len(set(names.values())) == len(names) else short_names(list(paths))


def _reasons(paths: Sequence[str], values: npt.NDArray[np.float64], reasons: Mapping[str, str] | None) -> list[str]:
    """Why each photo has no similarities; an empty string where it has."""
    missing = np.isnan(np.diagonal(values))
    return [shown((reasons or {}).get(p, NO_FACE)) if gone else "" for p, gone in zip(paths, missing, strict=True)]


def _notes(notes: Mapping[str, Sequence[str]] | None, photo: str) -> list[str]:
    return [shown(note) for note in (notes or {}).get(photo, ())]


def _canvas(
    paths: Sequence[str], values: npt.NDArray[np.float64], thumbnails: Thumbnails, cell: int, head: int
) -> Pixels:
    """``(height, width, 3)`` uint8 RGB: coloured cells, with the photos above and to the left of them."""
    count = len(paths)
    left, top = _PAD_PX + _LABEL_PX + head, _PAD_PX + head
    canvas = np.full((top + count * cell + _PAD_PX, left + count * cell + _PAD_PX, 3), 255, np.uint8)
    strength = np.nan_to_num(np.abs(values))[..., None]  # (n, n, 1)
    colours = 255 + strength * (np.where(values[..., None] >= 0, _WARM, _COLD) - 255)
    colours[np.isnan(values)] = _EMPTY
    grid = np.repeat(np.repeat(colours.astype(np.uint8), cell, axis=0), cell, axis=1)
    gap = np.arange(count * cell) % cell == cell - 1
    grid[gap], grid[:, gap] = 255, 255
    canvas[top : top + count * cell, left : left + count * cell] = grid
    for i, photo in enumerate(paths):
        picture = _square(thumbnails(photo), cell - 2)
        along = i * cell
        canvas[top + along : top + along + cell - 2, left - cell : left - 2] = picture
        canvas[top - cell : top - 2, left + along : left + along + cell - 2] = picture
    return canvas


def _square(data: bytes | None, side: int) -> Pixels:
    """``(side, side, 3)`` uint8 RGB: the middle of a picture, or grey where there is none."""
    import cv2

    picture = None if data is None else cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if picture is None:
        return np.full((side, side, 3), _EMPTY, np.uint8)
    height, width = picture.shape[:2]
    edge = min(height, width)
    y, x = (height - edge) // 2, (width - edge) // 2
    square = cv2.resize(picture[y : y + edge, x : x + edge], (side, side), interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(square[:, :, ::-1])


def _fitting(name: str, length: int) -> str:
    """The end of a name, in characters that the picture's font has."""
    from matplotlib.font_manager import FontProperties, findfont, get_font

    glyphs = get_font(findfont(FontProperties(family="DejaVu Sans"))).get_charmap()
    text = "".join(c if ord(c) in glyphs else "?" for c in name)
    return text if len(text) <= length else "…" + text[1 - length :]
