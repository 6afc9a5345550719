"""The page of `faceembed data clean`: figures, and every suspicious folder with its photos and their similarities."""

from __future__ import annotations

import collections
import dataclasses
import math
import os
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from faceembed.engine.report.page import Thumbnails, percent, short_names, shown, thumbnail_source, write_page
from faceembed.trainer.data.clean_manifest import Row

MOST_FOLDERS, MOST_PHOTOS, MOST_PAIRS, MOST_FAILURES, MOST_DOTS = 80, 16, 40, 60, 4000
_PLOT = 400  # side of the plot's square, in its own units
_MARGIN = 0.06  # of similarity, around the dots

Floats = NDArray[np.float32]
Source = Callable[[str], "str | None"]


@dataclasses.dataclass(frozen=True)
class Photo:
    """One photo as it is shown."""

    name: str
    thumbnail: str | None
    note: str
    """Why it goes or was not judged."""
    removed: bool
    suggested: str
    similarity: float | None


@dataclasses.dataclass(frozen=True)
class Folder:
    """One person's photos and their similarities."""

    person: str
    photos: list[Photo]
    matrix: list[list[float | None]]
    hidden: int
    """Photos that fit and are not shown."""


@dataclasses.dataclass(frozen=True)
class Pair:
    """Two folders, or two photos, side by side."""

    names: tuple[str, str]
    photos: tuple[list[Photo], list[Photo]]
    similarity: float
    note: str = ""


@dataclasses.dataclass(frozen=True)
class Dot:
    """One photo in the plot, in its units."""

    x: float
    y: float
    removed: bool


@dataclasses.dataclass(frozen=True)
class Plot:
    """Similarity to the own folder over that to the nearest other."""

    dots: list[Dot]
    across: list[tuple[float, str]]
    """Places and labels of the lines along x,"""
    up: list[tuple[float, str]]
    """and along y."""
    side: int
    left_out: int


def write_cleaning_report(
    path: str | os.PathLike[str],
    rows: Sequence[Row],
    vectors: Mapping[str, Floats],
    thumbnails: Thumbnails,
    *,
    title: str,
    facts: Mapping[str, str],
    persons: int,
    share: float,
    reasons: Mapping[str, int],
    merged: Sequence[tuple[str, str, float]] = (),
    duplicates: Sequence[tuple[str, str, float]] = (),
) -> None:
    """Write one self-contained HTML file.

    Args:
        path: the file to write.
        rows: one for each photo, sorted by person.
        vectors: photo to float32 (D,) unit length, centred as the judgement's similarities are.
        thumbnails: called once for each photo that is shown.
        title: heading of the page.
        facts: lines under it.
        persons: number of people.
        share: estimated share of wrong labels, NaN for unknown.
        reasons: removed photos by reason.
        merged: pairs of folders that seem to be one person's, with the similarity of their cores.
        duplicates: pairs of photos that are one picture.

    Raises:
        OSError: the file cannot be written.
    """
    source = thumbnail_source(thumbnails)
    folders = _by_person(rows)
    suspicious = _suspicious(folders)
    judged = [row for row in rows if not math.isnan(row.similarity)]
    failures = [row for row in rows if not row.kept and row.photo not in vectors]
    write_page(
        path,
        os.path.join(os.path.dirname(__file__), "clean_report"),
        title=shown(title),
        facts={name: shown(value) for name, value in facts.items() if value},
        counts={
            "photos": len(rows),
            "persons": persons,
            "kept": sum(row.kept for row in rows),
            "removed": sum(not row.kept for row in rows),
            "not_judged": sum(row.kept and math.isnan(row.doubt) for row in rows),
            "suggested": sum(bool(row.suggested_person) for row in rows),
            "suspicious": len(suspicious),
        },
        share=None if math.isnan(share) else percent(share),
        reasons=[(shown(name), count) for name, count in reasons.items()],
        plot=_plot(judged),
        folders=[_folder(person, folders[person], vectors, source) for person in suspicious[:MOST_FOLDERS]],
        merged=[_folders_side_by_side(a, b, value, folders, source) for a, b, value in merged[:MOST_PAIRS]],
        merged_hidden=max(0, len(merged) - MOST_PAIRS),
        duplicates=_copies(duplicates[:MOST_PAIRS], rows, source),
        duplicates_hidden=max(0, len(duplicates) - MOST_PAIRS),
        failures=[
            _photo(row, os.path.join(row.person, os.path.basename(row.photo)), source)
            for row in failures[:MOST_FAILURES]
        ],
        failures_hidden=max(0, len(failures) - MOST_FAILURES),
    )


def _by_person(rows: Sequence[Row]) -> dict[str, list[Row]]:
    folders: dict[str, list[Row]] = collections.defaultdict(list)
    for row in rows:
        folders[row.person].append(row)
    return folders


def _suspicious(folders: Mapping[str, Sequence[Row]]) -> list[str]:
    """People of whom a photo with a face goes, or whose photos disagree: those with the most of them first."""
    doubted = {
        person: sum((not row.kept and row.cluster >= 0) or (row.kept and bool(row.reason)) for row in rows)
        for person, rows in folders.items()
        if len(rows) > 1
    }
    return sorted((person for person, count in doubted.items() if count), key=lambda person: (-doubted[person], person))


def _folder(person: str, rows: Sequence[Row], vectors: Mapping[str, Floats], source: Source) -> Folder:
    """The folder's photos from the one that fits best to the one that fits least; only some of those that fit."""
    faces = [row for row in rows if row.photo in vectors]
    order = sorted(faces, key=lambda row: (not row.kept, math.isnan(row.similarity), -row.similarity, row.photo))
    fitting = [row for row in order if row.kept and not row.reason]
    rest = [row for row in order if not (row.kept and not row.reason)][:MOST_PHOTOS]
    room = max(3, MOST_PHOTOS - len(rest))
    chosen = fitting[:room] + rest
    stacked = np.stack([vectors[row.photo] for row in chosen])
    names = _names([row.photo for row in chosen])
    matrix = (stacked @ stacked.T).round(3)
    return Folder(
        person=shown(person),
        photos=[_photo(row, names[row.photo], source) for row in chosen],
        matrix=[[None if i == j else float(value) for j, value in enumerate(line)] for i, line in enumerate(matrix)],
        hidden=len(faces) - len(chosen),
    )


def _names(paths: list[str]) -> dict[str, str]:
    """File names where they tell the photos apart, else paths."""
    names = {path: shown(os.path.basename(path)) for path in paths}
    return names if len(set(names.values())) == len(names) else short_names(paths)


def _photo(row: Row, name: str, source: Source) -> Photo:
    return Photo(
        name=shown(name),
        thumbnail=source(row.photo),
        note=shown(row.reason),
        removed=not row.kept,
        suggested=shown(row.suggested_person),
        similarity=None if math.isnan(row.similarity) else row.similarity,
    )


def _folders_side_by_side(a: str, b: str, value: float, folders: Mapping[str, Sequence[Row]], source: Source) -> Pair:
    def best(person: str) -> list[Photo]:
        rows = [row for row in folders[person] if row.kept and row.cluster >= 0]
        rows.sort(key=lambda row: (math.isnan(row.similarity), -row.similarity, row.photo))
        return [_photo(row, os.path.basename(row.photo), source) for row in rows[:4]]

    return Pair((shown(a), shown(b)), (best(a), best(b)), value)


def _copies(pairs: Sequence[tuple[str, str, float]], rows: Sequence[Row], source: Source) -> list[Pair]:
    wanted = {path for a, b, _ in pairs for path in (a, b)}
    known = {row.photo: row for row in rows if row.photo in wanted}
    found = []
    for a, b, value in pairs:
        photos = tuple([_photo(known[path], os.path.basename(path), source)] for path in (a, b))
        names = (f"{known[a].person}/{os.path.basename(a)}", f"{known[b].person}/{os.path.basename(b)}")
        gone = [name for name, path in zip(names, (a, b), strict=True) if not known[path].kept]
        note = f"removed: {', '.join(shown(name) for name in gone)}" if gone else "both kept"
        found.append(Pair((shown(names[0]), shown(names[1])), (photos[0], photos[1]), value, note))
    return found


def _plot(rows: Sequence[Row]) -> Plot | None:
    """The dots, the removed on top; of very many that fit, every so-manieth."""
    if not rows:
        return None
    gone = [row for row in rows if not row.kept][:MOST_DOTS]
    fits = [row for row in rows if row.kept]
    step = math.ceil(len(fits) / MOST_DOTS) if fits else 1
    chosen = fits[::step] + gone
    across, across_ticks = _axis(np.array([row.similarity_elsewhere for row in chosen]))
    up, up_ticks = _axis(np.array([row.similarity for row in chosen]))
    dots = [Dot(x, round(_PLOT - y, 1), not row.kept) for x, y, row in zip(across, up, chosen, strict=True)]
    return Plot(dots, across_ticks, up_ticks, _PLOT, len(rows) - len(chosen))


def _axis(values: NDArray[np.float64]) -> tuple[list[float], list[tuple[float, str]]]:
    """Places of similarities in the plot's units, and of the round numbers among them."""
    low, high = float(values.min()) - _MARGIN, float(values.max()) + _MARGIN
    scale = _PLOT / (high - low)
    ticks = [tenth / 10 for tenth in range(-10, 11, 2) if low <= tenth / 10 <= high]
    return ((values - low) * scale).round(1).tolist(), [(round((t - low) * scale, 1), f"{t:.1f}") for t in ticks]
