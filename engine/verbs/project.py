"""The verb `project`: the faces of an index as a map to look at.

report = project("people.faiss", "map.html", settings=ProjectSettings(clusters="people.clusters.parquet"))
"""

from __future__ import annotations

import collections
import dataclasses
import os
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from faceembed.engine.index.clusters.output import read_clusters
from faceembed.engine.index.derived import PAGES, note
from faceembed.engine.index.files import read_whole
from faceembed.engine.index.manifest import read_manifest
from faceembed.engine.index.pictures import CHIP, index_pictures
from faceembed.engine.index.projection import METHODS, project_vectors
from faceembed.engine.index.store import load_faces
from faceembed.engine.photos.photo_file import decode_path, encode_path
from faceembed.engine.photos.places import is_below
from faceembed.engine.report.page import shown
from faceembed.engine.report.project import Grouping, make_sprites, write_project_html
from faceembed.errors import DataError, UsageError

AUTO_FACES = 10_000  # up to which `auto` takes t-SNE: a minute or two on one core
_ALONE = "alone"

Notify = Callable[[str], None]
OnPictures = Callable[[int, int], None]


@dataclasses.dataclass(frozen=True)
class ProjectSettings:
    """How the map is made."""

    method: str = "auto"
    """``pca``, ``tsne``, ``umap``; ``auto``: t-SNE up to 10,000 faces, PCA above."""
    clusters: str | None = None
    """A file that `cluster` wrote for this index: colours by cluster as well."""
    fakes: tuple[str, ...] = ()
    """Folders whose photos are deepfakes: colours by real and fake as well."""
    thumbnails: int = 1000
    """Faces that are in the page as small pictures, spread over the map; each takes about 2 kB."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.method not in ("auto", *METHODS):
            raise UsageError(f"--method '{self.method}' is none of auto, {', '.join(METHODS)}")
        if self.thumbnails < 0:
            raise UsageError(f"--thumbnails {self.thumbnails} must be 0 or more")


@dataclasses.dataclass(frozen=True)
class ProjectReport:
    """What was made; the fields of ``project --json``."""

    output: str
    faces: int
    method: str
    groupings: tuple[str, ...]
    """What the page can colour by."""
    thumbnails: int
    unreadable: int
    """Photos that were to be shown and cannot be read."""
    bytes: int
    """Of the page."""
    seconds: float

    def to_json_dict(self) -> dict[str, Any]:
        """As plain types; paths are valid UTF-8."""
        return {**dataclasses.asdict(self), "output": encode_path(self.output), "groupings": list(self.groupings)}


def project(
    index: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    settings: ProjectSettings | None = None,
    notice: Notify = lambda line: None,
    pictures: OnPictures = lambda done, total: None,
) -> ProjectReport:
    """Draw the faces of an index as a map: one self-contained HTML file.

    Args:
        index: made by `embed`.
        output: the page.
        settings: how.
        notice: called with lines for the user.
        pictures: called with how many thumbnails are done, and of how many.

    Raises:
        DataError: no such index, fewer than 3 faces, or clusters of other faces.
        UsageError: a method whose package is not installed.
        OSError: the page cannot be written.
    """
    started = time.perf_counter()
    settings = settings or ProjectSettings()
    files, manifest, faces = read_whole(
        index, lambda files: (files, read_manifest(files, notice=notice), load_faces(files))
    )
    paths = [decode_path(path) for path in faces.rows.column("path").to_pylist()]
    groupings = _groupings(faces.rows, paths, settings)
    method = settings.method
    if method == "auto":
        method = "tsne" if len(faces) <= AUTO_FACES else "pca"
        notice(f"{method} of {len(faces):,} faces (auto: t-SNE up to {AUTO_FACES:,}, PCA above)")
    places = project_vectors(faces.vectors, method, seed=settings.seed)
    chosen = _spread(places, settings.thumbnails, settings.seed)
    source = index_pictures(faces, CHIP)
    sprites = make_sprites(chosen, lambda row: source.thumbnail(str(row)), progress=pictures)
    if sprites.unreadable:
        notice(f"{sprites.unreadable:,} of {len(chosen):,} photos to be shown cannot be read any more")
    write_project_html(
        output,
        places,
        paths,
        groupings,
        sprites,
        title=f"Map of {shown(files.faiss.name)}",
        method=method,
        encoder=str(manifest["encoder"].get("name")),
    )
    note(index, PAGES, output, notice)
    return ProjectReport(
        output=os.path.abspath(output),
        faces=len(faces),
        method=method,
        groupings=tuple(grouping.name for grouping in groupings),
        thumbnails=len(sprites.rows),
        unreadable=sprites.unreadable,
        bytes=os.path.getsize(output),
        seconds=round(time.perf_counter() - started, 3),
    )


def _groupings(rows: Any, paths: Sequence[str], settings: ProjectSettings) -> list[Grouping]:
    folders = [os.path.dirname(path) for path in paths]
    common = os.path.commonpath(folders) if folders else ""
    found = [Grouping("folder", tuple(os.path.relpath(folder, common) for folder in folders))]
    if settings.clusters is not None:
        found.insert(0, Grouping("cluster", _clusters(rows, settings.clusters)))
    if settings.fakes:
        roots = [os.path.abspath(folder) for folder in settings.fakes]
        kinds = tuple("fake" if is_below(path, roots) else "real" for path in paths)
        if "fake" not in kinds:
            raise DataError(f"no photo of the index is below {shown(roots[0])}; give the folder that was embedded")
        found.insert(0, Grouping("real or fake", kinds))
    return found


def _clusters(rows: Any, path: str) -> tuple[str, ...]:
    if not os.path.exists(path):
        raise DataError(f"no clusters at {shown(path)}; make them with: faceembed cluster INDEX -o {shown(path)}")
    table = read_clusters(path)[0]
    numbers = dict(
        zip(
            zip(table.column("path").to_pylist(), table.column("face").to_pylist(), strict=True),
            table.column("cluster").to_pylist(),
            strict=True,
        )
    )
    keys = list(zip(rows.column("path").to_pylist(), rows.column("face").to_pylist(), strict=True))
    missing = sum(key not in numbers for key in keys)
    if missing:
        raise DataError(
            f"{shown(path)} lacks {missing:,} of the index's {len(keys):,} faces; run faceembed cluster again first"
        )
    sizes = collections.Counter(numbers[key] for key in keys)
    return tuple(_ALONE if sizes[numbers[key]] == 1 else f"person {numbers[key]}" for key in keys)


def _spread(places: NDArray[np.float32], count: int, seed: int) -> list[int]:
    """Rows of faces that are spread over the map: one of each occupied cell in turn, in an order drawn by the seed."""
    order = np.random.default_rng(seed).permutation(len(places))
    side = max(1, int(np.sqrt(count)) * 2)
    cells = np.minimum((places[order] * side).astype(np.int64), side - 1)
    cell = cells[:, 0] * side + cells[:, 1]
    by_cell = np.argsort(cell, kind="stable")
    turn = np.empty(len(order), np.int64)
    first = np.flatnonzero(np.r_[True, cell[by_cell][1:] != cell[by_cell][:-1]])
    turn[by_cell] = np.arange(len(order)) - np.repeat(first, np.diff([*first, len(order)]))
    return [int(row) for row in order[np.argsort(turn, kind="stable")][:count]]
