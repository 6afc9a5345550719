"""`faceembed embed -o FOLDER/`: photos into a dataset of shards, on this machine or on a cluster.

embed_dataset("photos", "s3://bucket/people", ray="auto")
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Sequence
from typing import Any

from faceembed.engine.distribute.dataset import (
    Footer,
    errors_name,
    open_manifest,
    read_footer,
    shard_name,
    write_failures,
    write_manifest,
)
from faceembed.engine.distribute.lease import leased
from faceembed.engine.distribute.plan import Task, Tasks, write_plan
from faceembed.engine.distribute.seam import Executor, here
from faceembed.engine.distribute.store import Access, Store
from faceembed.engine.distribute.worker import Job, gate_photos
from faceembed.engine.index.losses import COUNT, SHARE, YES
from faceembed.engine.photos.failures import Failure
from faceembed.engine.photos.left_out import Choice
from faceembed.engine.photos.listing import Listing, list_photos
from faceembed.engine.photos.photo_file import PhotoFile, encode_path
from faceembed.engine.photos.places import real_place
from faceembed.engine.photos.probe import READ
from faceembed.engine.pipeline import loading
from faceembed.engine.pipeline.fingerprint import fingerprint_of
from faceembed.engine.pipeline.progress import Progress
from faceembed.engine.pipeline.settings import EmbedSettings
from faceembed.errors import DataError, LossError
from faceembed.version import __version__


@dataclasses.dataclass(frozen=True)
class DatasetReport:
    """What a run did and what the dataset holds now; the fields of ``embed --json``. ``faces`` and rows of errors are of all shards."""

    images: int
    """Photos listed."""
    faces: int
    no_face: int
    failed: int
    """Photos that could not be read, or ended the process that read them."""
    skipped: int
    """Photos in shards that were done before."""
    embedded: int
    """Photos computed by this run, copies of work that a killed one had not finished included."""
    shards: int
    computed: int
    """Shards computed by this run."""
    dropped: int
    """Shards of before that are no more in the plan."""
    seconds: float
    images_per_second: float
    precisions: dict[str, int]
    """Shards by the precision that they were computed at."""
    nodes: int
    encoder: str
    aligner: str
    dataset: str

    def to_json_dict(self) -> dict[str, Any]:
        """As plain types; paths are valid UTF-8."""
        return {**dataclasses.asdict(self), "dataset": encode_path(self.dataset)}


def embed_dataset(
    photos: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    output: str,
    *,
    settings: EmbedSettings | None = None,
    ray: str = "",
    access: Access | None = None,
    dtype: str = "float32",
    fresh: bool = False,
    prune: bool = False,
    choice: Choice | None = None,
    notice: Callable[[str], None] = lambda line: None,
    progress: Callable[[Progress], None] = lambda progress: None,
) -> DatasetReport:
    """Embed photos into a dataset. A second run computes the shards whose photos are new or changed, and drops those that are gone.

    Args:
        photos: as for `embed`; on a cluster they must be reached under the same paths by every node.
        output: a folder, or an address (`store`).
        settings: models, faces, batches, runtime of each node.
        ray: ``local``, ``auto`` or a cluster's address; empty: this machine, without Ray.
        access: how object stores are reached.
        dtype: ``float32`` or ``float16``, of the embeddings on disk.
        fresh: start over.
        prune: go on although much of what the dataset holds is gone.
        choice: what is left out of folders.
        notice: called with lines for the user.
        progress: called after every shard.

    Raises:
        DataError: there are no photos in what was given, or the store cannot be reached.
        IndexFormatError: the dataset there was made by another encoder or with other settings.
        IndexBusyError: another run writes it.
        LossError: much of what it holds is gone, and ``prune`` was not given.
        FaceEmbedError: any other bad set-up. Bad photos are rows of the errors instead.
    """
    started = time.perf_counter()
    settings, access, choice = settings or EmbedSettings(), access or Access(), choice or Choice()
    roots = [photos] if isinstance(photos, (str, os.PathLike)) else list(photos)
    store = Store.of(output, access)
    models = loading.resolve_models(settings)
    fingerprint = {**fingerprint_of(settings, models), "pages": choice.pages, "fps": choice.fps}
    with leased(store):
        manifest = open_manifest(store, fingerprint, dtype=dtype, fresh=fresh)
        listing = list_photos(roots, place=real_place, choice=choice)
        for line in listing.remarks():
            notice(line)
        _check_losses(listing, {} if fresh else manifest, prune=prune)
        tasks = write_plan(store, listing.photos, fingerprint)
        write_failures(store, "listing", [Failure(PhotoFile(p, 0, 0), "list", why) for p, why in listing.failures])
        if fresh:
            _drop(store, set())
        done, todo = _sorted(store, tasks)
        total = sum(footer.photos for footer in done.values())
        report = _Sums(done, total, len(listing.photos))
        if todo:
            job = Job(output, access, settings, dtype, gate_photos(listing.photos))
            with _executor(ray)(job, todo, notice) as every:
                for one in every:
                    report.add(one.task.shard, one.footer, one.node)
                    progress(report.progress())
        else:
            notice("nothing new, changed or gone; no model was opened")
        dropped = _drop(store, {task.shard for task in tasks} | {"listing"})
        counts = report.counts(len(listing.failures))
        write_manifest(
            store,
            {
                **manifest,
                **counts,
                "photos": len(listing.photos),
                "shards": len(tasks),
                "roots": listing.roots,
                "faceembed": __version__,
            },
        )
    seconds = time.perf_counter() - started
    return DatasetReport(
        images=len(listing.photos) + len(listing.failures),
        **counts,
        skipped=total,
        embedded=report.embedded,
        shards=len(tasks),
        computed=len(todo),
        dropped=dropped,
        seconds=round(seconds, 3),
        images_per_second=round(report.embedded / seconds, 2),
        precisions=report.precisions(),
        nodes=len(report.nodes),
        encoder=models.encoder.spec.name,
        aligner=models.aligner.spec.name if models.aligner else "none",
        dataset=output,
    )


def _executor(ray: str) -> Executor:
    if not ray:
        return here
    from faceembed.engine.distribute.on_ray import on_ray  # optional: what [ray] installs

    return on_ray(ray)


def _check_losses(listing: Listing, manifest: dict[str, Any], *, prune: bool) -> None:
    before, now = int(manifest.get("photos", 0)), len(listing.photos)
    if not now and not before:
        raise DataError(f"no photos in {', '.join(listing.roots) or 'what was given'}: looked for {READ} files")
    gone = before - now
    if (not prune and gone > COUNT and gone > SHARE * before) or (not prune and before and not now):
        raise LossError(f"the dataset holds {before:,} photos, and {now:,} are there now: is a disk not mounted? {YES}")


def _sorted(store: Store, tasks: Tasks) -> tuple[dict[str, Footer], list[Task]]:
    """The shards that are done, and those that are not: not there, of another count, or with photos that could not be read then."""
    there = store.sizes("shards")
    done: dict[str, Footer] = {}
    todo: list[Task] = []
    for task in tasks:
        footer = read_footer(store, task.shard) if f"{task.shard}.parquet" in there else None
        if footer is not None and footer.photos == task.photos and not footer.transient:
            done[task.shard] = footer
        else:
            todo.append(task)
    return done, todo


def _drop(store: Store, kept: set[str]) -> int:
    """Remove the shards that are not in the plan."""
    dropped = 0
    for folder, name in (("shards", shard_name), ("errors", errors_name)):
        for stem in (file.removesuffix(".parquet") for file in store.sizes(folder)):
            if stem not in kept:
                store.delete(name(stem))
                dropped += folder == "shards"
    return dropped


class _Sums:
    """What is counted while shards come in: each once, however often it was computed."""

    def __init__(self, done: dict[str, Footer], skipped: int, photos: int) -> None:
        self._footers = done
        self._skipped, self._photos = skipped, photos
        self.embedded = 0
        self.nodes: set[str] = set()

    def add(self, shard: str, footer: Footer, node: str) -> None:
        self.embedded += footer.photos
        self._footers[shard] = footer
        self.nodes.add(node)

    def progress(self) -> Progress:
        footers = self._footers.values()
        return Progress(
            sum(f.photos for f in footers),
            self._photos,
            sum(f.faces for f in footers),
            sum(f.failures for f in footers),
        )

    def counts(self, unlisted: int) -> dict[str, int]:
        footers = self._footers.values()
        no_face = sum(f.no_face for f in footers)
        return {
            "faces": sum(f.faces for f in footers),
            "no_face": no_face,
            "failed": sum(f.failures for f in footers) - no_face + unlisted,
        }

    def precisions(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for footer in self._footers.values():
            found[footer.precision] = found.get(footer.precision, 0) + 1
        return found
