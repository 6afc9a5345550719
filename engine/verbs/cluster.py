"""The verb `cluster`: the faces of an index grouped by person.

    report = cluster("people.faiss", "people.clusters.parquet", links="people")

How faces are grouped is in `clustering.group`. A second run takes its own file of the first as what is known: a person
keeps the number that most of their faces had, also where photos came, went or changed, and no number is used twice.
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from faceembed.engine.evaluate.known_people import links_of, read_constraints, read_names
from faceembed.engine.index.clusters.constraints import Constraints, constrained
from faceembed.engine.index.clusters.duplicates import find_duplicates
from faceembed.engine.index.clusters.group import all_lists, group, same_numbers, suggested_least
from faceembed.engine.index.clusters.links import Links, check_links, has_links, write_links
from faceembed.engine.index.clusters.output import (
    About,
    check_output,
    clusters_table,
    known_clusters,
    read_clusters,
    write_clusters,
)
from faceembed.engine.index.clusters.rank_order import Lists
from faceembed.engine.index.derived import CLUSTERS, LINKS, note
from faceembed.engine.index.files import read_whole
from faceembed.engine.index.graph import Ints
from faceembed.engine.index.manifest import read_manifest
from faceembed.engine.index.pictures import CHIP, index_pictures
from faceembed.engine.index.shards import FaceTable
from faceembed.engine.index.store import load_faces
from faceembed.engine.models.registry import resolve
from faceembed.engine.models.spec import ModelSpec
from faceembed.engine.photos.photo_file import decode_path, encode_path, printable
from faceembed.errors import DataError, IndexFormatError, ModelError, UsageError

Notify = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class ClusterSettings:
    """How faces are grouped."""

    threshold: float | None = None
    """Cosine below which two faces are never neighbours; None: what the earlier run had, else by `suggested_least`."""
    keep: bool = False
    """Faces that were grouped before stay where they are; only new ones are placed. Quicker, and less accurate."""
    fresh: bool = False
    """Forget an earlier run."""
    duplicates: bool = True
    """Look at photos that are nearly the same to the encoder, and mark those that are one picture."""
    least_faces: int = 2
    """Smaller clusters get no folder of links."""

    def __post_init__(self) -> None:
        if self.threshold is not None and not -1 <= self.threshold <= 1:
            raise UsageError(f"--threshold {self.threshold:g} is no cosine between -1 and 1")
        if self.keep and self.fresh:
            raise UsageError("--keep keeps what --fresh forgets; give one of them")
        if self.keep and self.threshold is not None:
            raise UsageError("--keep goes on with the threshold of the earlier run; leave --threshold out")
        if self.least_faces < 1:
            raise UsageError(f"--least-faces {self.least_faces} must be at least 1")


@dataclasses.dataclass(frozen=True)
class ClusterReport:
    """What was found; `to_json_dict` gives the fields of ``cluster --json``."""

    output: str
    faces: int
    new_faces: int
    clusters: int
    single: int
    """Clusters of one face."""
    largest: int
    """Faces in the largest cluster."""
    new_clusters: int
    moved: int
    """Faces that were in another cluster before."""
    duplicates: int
    """Faces whose picture is there already."""
    not_compared: int
    """Couples that look like one picture to the encoder and whose photos cannot be read now."""
    threshold: float
    threshold_source: str
    encoder: str
    named: int
    """Clusters that bear a name."""
    constraints: int
    """Pairs that must or cannot be one person, those of one photo and of names among them."""
    links: int
    """Folders of links."""
    links_missing: int
    """Photos that have no link, as they are not where the index says."""
    seconds: float

    @classmethod
    def nobody(cls, **about: Any) -> ClusterReport:
        """Of an index without faces; ``about`` are the fields that are no counts."""
        counts: dict[str, Any] = {field.name: 0 for field in dataclasses.fields(cls) if field.type == "int"}
        return cls(**counts, **about)

    def to_json_dict(self) -> dict[str, Any]:
        """As plain types; paths are valid UTF-8."""
        return {**dataclasses.asdict(self), "output": encode_path(self.output), "seconds": round(self.seconds, 3)}


def cluster(
    index: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    settings: ClusterSettings | None = None,
    links: str | os.PathLike[str] | None = None,
    constraints: str | os.PathLike[str] | None = None,
    names: str | os.PathLike[str] | None = None,
    notice: Notify = lambda line: None,
) -> ClusterReport:
    """Group the faces of an index by person.

    Args:
        index: made by `embed`.
        output: the file to write, ``.parquet`` or ``.json``. If it is there, it is what the last run found.
        settings: how.
        links: a folder for links to the photos of each cluster.
        constraints: a table of pairs that must or cannot be one person (`known_people.read_constraints`). Two faces of one photo cannot,
            unless it says that they must.
        names: a table of faces and whose they are (`known_people.read_names`): their clusters bear these names from then on, from run to
            run, faces of one name are one person and of two names two.
        notice: called with lines for the user.

    Raises:
        DataError: no such index, or no faces in it and nothing left of an earlier run, which would be emptied.
        IndexFormatError: ``output`` is something else, or of another encoder's faces.
        PairListError: ``constraints`` or ``names`` cannot be read, or are about faces that are not in the index.
        UsageError: constraints contradict each other; no threshold was given and the encoder has none, or ``output`` or ``links`` cannot be used.
        OSError: a file cannot be written.
    """
    started = time.perf_counter()
    settings = settings or ClusterSettings()
    check_output(output)
    if links is not None:
        check_links(links)
    files, manifest, faces = read_whole(
        index, lambda files: (files, read_manifest(files, notice=notice), load_faces(files))
    )
    encoder, digest = str(manifest["encoder"].get("name")), str(manifest["encoder"].get("sha256"))
    told = _told(faces, constraints, names)
    known, about, called = _before(output, faces, encoder, digest, settings)
    least, source = _threshold(faces, encoder, digest, settings, about)
    unused = about.next_cluster if about else 0
    if not len(faces):
        if not (os.path.exists(output) or (links is not None and has_links(links))):
            raise DataError(f"{files.faiss} holds no faces")
        notice(f"{files.faiss} holds no faces any more: what an earlier run left is emptied")
        none = np.zeros(0, np.int64)
        write_clusters(output, clusters_table(faces.rows, none, none), About(encoder, digest, least, unused))
        if links is not None:
            write_links(links, [], none, none)
        return ClusterReport.nobody(
            output=os.path.abspath(output),
            threshold=least,
            threshold_source=source,
            encoder=encoder,
            seconds=time.perf_counter() - started,
        )
    notice(f"neighbours of {len(faces):,} faces, from a similarity of {least:.4f} on ({source})")
    lists: Lists | None = None
    if settings.keep:
        groups = group(faces.vectors, least=least, known=known, unused=unused)
        if len(told.links):
            groups = same_numbers(constrained(faces.vectors, groups, told.links), groups, unused=int(groups.max()) + 1)
    else:
        lists = all_lists(faces.vectors)
        groups = group(faces.vectors, least=least, lists=lists)
        if len(told.links):
            groups = constrained(faces.vectors, groups, told.links)
        groups = same_numbers(groups, known, unused=unused)
    called |= {int(groups[row]): name for row, name in told.names.items()}
    of, not_compared = np.full(len(faces), -1, np.int64), 0
    if settings.duplicates:
        of, not_compared = _duplicates(faces, lists or all_lists(faces.vectors), notice)
    rows = clusters_table(faces.rows, groups, of, called)
    following = max(unused, int(groups.max()) + 1)
    write_clusters(output, rows, About(encoder, digest, least, following))
    note(index, CLUSTERS, output, notice)
    made = Links(0, 0, [])
    if links is not None:
        paths = [decode_path(path) for path in faces.rows.column("path").to_pylist()]
        ids = faces.rows.column("face_id").to_numpy()
        made = write_links(links, paths, ids, groups, least_faces=settings.least_faces)
        note(index, LINKS, links, notice)
        if made.inside:
            notice(f"{made.inside:,} photos lie in archives and have no link; the clusters' file has their paths")
        if made.missing:
            notice(
                f"{len(made.missing):,} photos are not where the index says and have no link, the first is {printable(made.missing[0])}; "
                "bring the index up to date with `embed`, or tell it where they are with `relocate`"
            )
    sizes = np.unique(groups, return_counts=True)[1]
    return ClusterReport(
        output=os.path.abspath(output),
        faces=len(faces),
        new_faces=int((known < 0).sum()),
        clusters=len(sizes),
        single=int((sizes == 1).sum()),
        largest=int(sizes.max()),
        new_clusters=len(np.unique(groups[groups >= unused])),
        moved=int(((known >= 0) & (known != groups)).sum()),
        duplicates=int((of >= 0).sum()),
        not_compared=not_compared,
        threshold=least,
        threshold_source=source,
        encoder=encoder,
        links=made.folders,
        links_missing=len(made.missing),
        named=len(set(called) & set(groups.tolist())),
        constraints=len(told.links),
        seconds=time.perf_counter() - started,
    )


@dataclasses.dataclass(frozen=True)
class _Told:
    """What the user knows of the faces."""

    links: Constraints
    names: dict[int, str]


def _told(faces: FaceTable, constraints: str | os.PathLike[str] | None, names: str | os.PathLike[str] | None) -> _Told:
    links, called = Constraints.none(), {}
    if constraints is not None:
        links = read_constraints(constraints, faces.rows)
    if names is not None:
        called = read_names(names, faces.rows)
        more = links_of(called)
        links = Constraints(np.concatenate([links.must, more.must]), np.concatenate([links.cannot, more.cannot]))
    paths = np.unique(np.array(faces.rows.column("path").to_pylist(), dtype=object), return_inverse=True)[1]
    return _Told(links.with_photos(paths.ravel().astype(np.int64)), called)


def _before(
    output: str | os.PathLike[str], faces: FaceTable, encoder: str, digest: str, settings: ClusterSettings
) -> tuple[Ints, About | None, dict[int, str]]:
    """What an earlier run left: each face's cluster, -1 for new ones, what made them, and the clusters' names."""
    nothing = np.full(len(faces), -1, np.int64)
    if settings.fresh or not os.path.exists(output):
        return nothing, None, {}
    before, about = read_clusters(output)
    if about.encoder_sha256 != digest:
        raise IndexFormatError(
            f"{os.fspath(output)} holds faces of encoder {about.encoder} ({about.encoder_sha256[:12]}), the index those of "
            f"{encoder} ({digest[:12]}); give another name, or --fresh"
        )
    named = zip(before.column("cluster").to_pylist(), before.column("name").to_pylist(), strict=True)
    names = {number: name for number, name in named if name is not None}
    return known_clusters(clusters_table(faces.rows, nothing, nothing), before), about, names


def _threshold(
    faces: FaceTable, encoder: str, digest: str, settings: ClusterSettings, about: About | None
) -> tuple[float, str]:
    if settings.threshold is not None:
        return settings.threshold, "given"
    if about is not None:
        return about.least, "as in the earlier run"
    try:
        spec: ModelSpec | None = resolve(encoder, task="encoder").spec
    except ModelError:
        spec = None
    if spec is None or spec.sha256 != digest or spec.threshold is None:
        why = "is not here any more" if spec is None or spec.sha256 != digest else "has no measured threshold"
        raise UsageError(f"encoder {encoder} {why}; give the least similarity of two neighbours with --threshold")
    return suggested_least(faces.vectors, spec.threshold), f"by the threshold of {encoder}, {spec.threshold:g}"


def _duplicates(faces: FaceTable, lists: Lists, notice: Notify) -> tuple[Ints, int]:
    """(N,) row of the face whose picture each one repeats, or -1; and how many couples could not be compared."""
    pictures = index_pictures(faces, CHIP)
    area = faces.rows.column("w").to_numpy() * faces.rows.column("h").to_numpy()
    found = find_duplicates(lists, area, lambda a, b: pictures.compare(str(a), str(b)))
    if found.not_compared:
        notice(f"{found.not_compared:,} couples of photos look the same to the encoder, but cannot be read any more")
    return found.of, found.not_compared
