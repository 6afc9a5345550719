"""The verb `remove`: photos or people out of an index, at once and from every file that belongs to it.

    report = remove("people.faiss", ["photos/jane.jpg", "person-000003"])

The index is written anew without these vectors. Photos that are still on disk stay out of later runs, by a row of the
errors file; `--fresh` takes them in again.
"""

from __future__ import annotations

import collections
import dataclasses
import os
import re
from collections.abc import Callable, Sequence
from typing import Any

from faceembed.engine.index.clusters.output import read_clusters
from faceembed.engine.index.derived import (
    PAGES,
    derived,
    is_forgetful,
    known_clusters_of,
    without_faces,
    without_links,
)
from faceembed.engine.index.files import IndexFiles
from faceembed.engine.index.lock import writing
from faceembed.engine.index.losses import Selection
from faceembed.engine.index.merge import Merge
from faceembed.engine.index.recognise import Recognised
from faceembed.engine.index.shards import ShardFile, ShardFolder
from faceembed.engine.index.update import Known
from faceembed.engine.photos.listing import Listing
from faceembed.engine.photos.photo_file import PhotoFile, decode_path, encode_path
from faceembed.engine.photos.places import is_below, is_gone, real_place
from faceembed.engine.photos.rows import read_parquet
from faceembed.errors import DataError, UsageError
from faceembed.version import __version__

_PERSON = re.compile(r"person-(\d+)")


@dataclasses.dataclass(frozen=True)
class RemoveReport:
    """What was taken out; `to_json_dict` gives the fields of ``remove --json``."""

    index: str
    faces: int
    """Faces taken out."""
    photos: int
    """Photos of which no face is left."""
    left: int
    """Faces in the index now."""
    on_disk: int
    """Of the photos, those that are still there; later runs leave them out."""
    clusters: list[str]
    """Files of clusters that were written anew."""
    links: int
    """Links deleted."""
    pages: list[str]
    """Pages made from the index, which may show these faces; they are left for you to delete."""

    def to_json_dict(self) -> dict[str, Any]:
        """As plain types; paths are valid UTF-8."""
        fields = dataclasses.asdict(self)
        return {**fields, "index": encode_path(self.index), "clusters": [encode_path(path) for path in self.clusters]}


def remove(
    index: str | os.PathLike[str],
    what: Sequence[str | os.PathLike[str]],
    *,
    clusters: Sequence[str | os.PathLike[str]] = (),
    notice: Callable[[str], None] = lambda line: None,
) -> RemoveReport:
    """Take photos or people out of an index.

    Args:
        index: made by `embed`; an unfinished run of that name counts as well, and is joined with the index.
        what: paths of photos or folders, there or not; or ``person-000003``, as the folders of `cluster` are called.
        clusters: files of clusters beside those that the index knows of.
        notice: called with lines for the user.

    Raises:
        DataError: no such index, or nothing of that name in it; then nothing was changed.
        UsageError: people are named and there is no file of clusters, or there are several.
        IndexBusyError: another process is writing the index.
    """
    files = IndexFiles.of(index)
    if not files.faiss.parent.is_dir():
        raise DataError(f"no index at {files.faiss}")
    with writing(files.faiss):
        files = files.ready()
        known = Known.opened(files, notice=notice)
        manifest = known.manifest or {}
        shards, settings = ShardFolder.left(files.partial)
        earlier = known.add_shards(shards)
        about = list(known_clusters_of(manifest, [os.path.abspath(path) for path in clusters]))
        ids, photos = _chosen(known, earlier, [os.fspath(word) for word in what], about)
        listing = Listing([], [], collections.Counter(), [])
        merge = Merge(listing, Selection(listing, []), known, Recognised(), earlier)
        merge.take_out(photos, ids)
        description = {"index": "flat", "roots": [], **settings, **manifest, "faceembed": __version__}
        before = int(manifest.get("faces", 0)) + sum(len(shard.photos()) for shard in earlier)
        dimension, kind = int(description["dimension"]), str(description["index"])
        counts = merge.write(files, description, dimension, kind, [], or_flat=True, notice=notice)
        written = [path for path in about if without_faces(path, ids)]
        links = without_links(manifest, ids)
    if is_forgetful(manifest):
        notice(
            f"{files.json.name} was damaged once: name clusters that were made before with --clusters, and delete links and pages "
            "of before yourself"
        )
    return RemoveReport(
        index=str(files.faiss),
        faces=before - counts["faces"],
        photos=len(photos),
        left=counts["faces"],
        on_disk=sum(not is_gone(photo.path) for photo in photos),
        clusters=written,
        links=links,
        pages=[path for path in derived(manifest, PAGES) if os.path.exists(decode_path(path))],
    )


def _chosen(
    known: Known, earlier: Sequence[ShardFile], words: Sequence[str], clusters: Sequence[str]
) -> tuple[set[int], list[PhotoFile]]:
    """The faces that the words name, and the photos of which no face is left then."""
    rows: list[tuple[str, int]] = []
    if known.manifest:
        table = read_parquet(known.files.parquet, ("path", "face_id"), advice="make the index again with --fresh")
        paths, numbers = (table.column(name).to_pylist() for name in ("path", "face_id"))
        rows = list(zip(map(decode_path, paths), numbers, strict=True))
    everywhere = {path: photo for path, photo in known.photos.items()}
    everywhere |= {f.photo.path: f.photo for f in known.failures}
    everywhere |= {f.photo.path: f.photo for shard in earlier for f in shard.failures}
    ids: set[int] = set()
    whole: set[str] = set()
    for word in words:
        if person := _PERSON.fullmatch(word):
            found = _faces_of_person(int(person[1]), clusters, {number for _, number in rows})
            ids |= found
        else:
            names = (os.path.abspath(word), real_place(word))
            below = {path for path in everywhere if is_below(path, names)}
            if not below:
                raise DataError(f"{word}: no photo of that name is in {known.files.faiss}; nothing was changed")
            whole |= below
    ids |= {number for path, number in rows if path in whole}
    left = {path for path, number in rows if number not in ids}
    whole |= {path for path, number in rows if number in ids and path not in left}
    return ids, [everywhere[path] for path in sorted(whole)]


def _faces_of_person(number: int, clusters: Sequence[str], there: set[int]) -> set[int]:
    if len(clusters) != 1:
        which = ", ".join(clusters) or "none is known to the index"
        raise UsageError(
            f"people are numbered by one file of clusters ({which}); name it with --clusters, which `cluster` writes"
        )
    rows, _ = read_clusters(clusters[0])
    pairs = zip(rows.column("face_id").to_pylist(), rows.column("cluster").to_pylist(), strict=True)
    found = {face for face, cluster in pairs if cluster == number} & there
    if not found:
        raise DataError(f"person-{number:06d}: nobody of that number in {clusters[0]}; nothing was changed")
    return found
