"""The verb `embed`: photos into an index, resuming what was interrupted and redoing only what changed."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import os
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from faceembed.engine.index.files import IndexFiles
from faceembed.engine.index.kinds import check_index_type
from faceembed.engine.index.lock import writing
from faceembed.engine.index.looking import elsewhere, list_roots, roots_of, unreadable, vanished
from faceembed.engine.index.losses import Selection, alarm, merged
from faceembed.engine.index.manifest import FIELD
from faceembed.engine.index.merge import Merge
from faceembed.engine.index.recognise import recognise
from faceembed.engine.index.shards import FaceTable, Shard, ShardFolder
from faceembed.engine.index.tracks import TrackRule
from faceembed.engine.index.training import check_number
from faceembed.engine.index.update import Known
from faceembed.engine.photos.failures import Failure
from faceembed.engine.photos.left_out import Choice
from faceembed.engine.photos.photo_file import PhotoFile, printable
from faceembed.engine.photos.probe import READ
from faceembed.engine.pipeline import loading, warm
from faceembed.engine.pipeline.fingerprint import fingerprint_of
from faceembed.engine.pipeline.progress import Progress
from faceembed.engine.pipeline.rows import face_rows
from faceembed.engine.pipeline.settings import EmbedSettings
from faceembed.errors import DataError, LossError, UsageError
from faceembed.version import __version__

if TYPE_CHECKING:
    from faceembed.engine.pipeline.batches import Outcome, Pipeline

_KEPT = "; what was embedded is kept, and the next run goes on with it"
SHARD = 1024  # photos; what a killed run has to do again at most


@dataclasses.dataclass(frozen=True)
class EmbedReport:
    """What a run did and what the index holds now; the fields of ``embed --json``."""

    images: int
    """Photos listed."""
    faces: int
    """Faces in the index."""
    no_face: int
    """Listed photos without a face."""
    failed: int
    """Listed photos that could not be read or decoded."""
    in_tracks: int
    """Frames of videos without a row of their own: another one shows the same track better."""
    skipped: int
    """Listed photos that were done by an earlier run."""
    embedded: int
    """Photos processed by this run."""
    removed: int
    """Photos that were in the index and are gone or changed."""
    unread: int
    """Listed photos taken for unchanged by size and times, without reading them."""
    touched: int
    """Photos with another time and the same bytes; nothing was computed again for these, nor for the next two kinds."""
    moved: int
    """Photos that were known under another path, where they are no more."""
    copies: int
    """Photos with the bytes of one that is in the index, and stays there."""
    aliases: int
    """Listed photos that are in the index under another path of the same file."""
    vanished: int
    """Photos that were listed and went while the run worked."""
    several_faces: int
    """Photos processed by this run that show several faces, of which the largest was taken; 0 where all were."""
    ignored: dict[str, int]
    """Files left out, by their ending: neither that nor their first bytes are a photo's."""
    excluded: dict[str, int]
    """Files left out by their names or folders, by the rule: what systems keep beside photos, and what was asked for."""
    passed_over: int
    """Photos with faces in the index that are among the excluded now; without ``prune`` they stay."""
    seconds: float
    images_per_second: float
    """Photos processed by this run, per second of the whole run, loading included."""
    stages: dict[str, float]
    """Photos a second that each stage alone would do with all threads, from the time spent in it."""
    device: str
    runtime: str
    precision: str
    encoder: str
    aligner: str
    index: str

    def to_json_dict(self) -> dict[str, Any]:
        """As a plain dictionary."""
        return dataclasses.asdict(self)


def embed(
    photos: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    *,
    settings: EmbedSettings | None = None,
    index_type: str | None = None,
    fresh: bool = False,
    prune: bool = False,
    check: bool = False,
    exclude: Sequence[str] = (),
    include: Sequence[str] = (),
    pages: bool = False,
    fps: float | None = None,
    notice: Callable[[str], None] = lambda line: None,
    progress: Callable[[Progress], None] = lambda progress: None,
) -> EmbedReport:
    """Embed photos into a searchable index.

    A second run over the same folders embeds what is new or changed and drops what is gone; photos of other folders that
    the index holds stay. Photos that were moved, touched or copied are known again by their bytes. A run that was interrupted
    goes on after its last finished shard.

    Args:
        photos: folders (walked recursively), photo files, and lists of both (`FileList`).
        output: the index's name, ending in ``.faiss``; its other files lie beside it.
        settings: models, faces, batches, runtime.
        index_type: ``flat``, ``hnsw``, ``ivf`` or a FAISS factory string; None keeps what the index has, else ``flat``.
        fresh: start over, dropping an index and an unfinished run of that name.
        prune: drop what is gone however much it is, and what is left out now.
        check: read every photo and compare its bytes, also of those that look untouched.
        exclude: patterns (`photos.globs`) of files and folders that are left out.
        include: patterns of what is taken although it would be left out, also by default (`photos.left_out`).
        pages: whether the further pages of TIFFs are photos too.
        fps: frames a second of videos that are photos; None: none.
        notice: called with lines for the user.
        progress: called after every batch.

    Raises:
        DataError: a folder does not exist, or there are no photos in what was given.
        IndexFormatError: the index there was made by another encoder or with other settings.
        IndexBusyError: another process is writing the index.
        LossError: a folder has suddenly no photo any more, or much of what the index holds is gone, and ``prune`` was not given.
        FaceEmbedError: any other bad set-up. Bad photos are rows of the errors file instead.

    Example:
        faceembed.embed("photos", "index.faiss")
    """
    started = time.perf_counter()
    settings = settings or EmbedSettings()
    roots = [photos] if isinstance(photos, (str, os.PathLike)) else list(photos)
    choice = Choice(tuple(exclude), tuple(include), pages, fps)
    files = IndexFiles.of(output)
    files.faiss.parent.mkdir(parents=True, exist_ok=True)
    with writing(files.faiss):
        files = files.ready()
        return _embed(roots, files, settings, index_type, fresh, prune, check, choice, notice, progress, started)


def _embed(
    roots: Sequence[str | os.PathLike[str]],
    files: IndexFiles,
    settings: EmbedSettings,
    index_type: str | None,
    fresh: bool,
    prune: bool,
    check: bool,
    choice: Choice,
    notice: Callable[[str], None],
    progress: Callable[[Progress], None],
    started: float,
) -> EmbedReport:
    """`embed`, for the one who holds the index."""
    models = loading.resolve_models(settings)
    if index_type is not None:
        check_index_type(index_type, models.encoder.spec.dimension)
    fingerprint = {**fingerprint_of(settings, models), "pages": choice.pages, "fps": choice.fps}
    known = Known(files, None, {}, []) if fresh else Known.read(files, fingerprint, notice=notice)
    shards = ShardFolder(files.partial, fingerprint) if files.partial.exists() and not fresh else None
    earlier = known.add_shards(shards)
    listing = list_roots(roots, known, choice)
    for line in listing.remarks():
        notice(line)
    if known.manifest and "min_score" not in known.manifest:
        least = f"{fingerprint['min_score']:g}"
        notice(f"{files.faiss.name} is older than --min-score: faces below {least} that it holds stay, until --fresh")
    if not listing.photos and not known.photos:
        where = ", ".join(listing.roots) or f"what was given (the first is {printable(listing.failures[0][0])})"
        more = f"; {listing.excluded.total():,} files were left out by name or folder" if listing.excluded else ""
        raise DataError(f"no photos in {where}: looked for {READ} files{more}")
    selection = Selection(listing, known.selections, prune=prune)
    found = recognise(listing.photos, known.photos, check=check)
    merge = Merge(listing, selection, known, found, earlier)
    present = {photo.path for photo in listing.photos} | (known.photos.keys() - merge.gone - merge.passed_over)
    if not prune and (reason := alarm(merge.gone, known.photos, present, selection)):
        raise LossError(reason)
    if merge.passed_over:
        some = printable(min(merge.passed_over))
        notice(
            f"{len(merge.passed_over):,} photos in the index are among those left out now, the first is {some}; they stay, "
            "until --prune"
        )
    for line in (
        *found.remarks(known.photos.values(), check=check),
        *elsewhere(known, selection, merge.gone | found.moved),
        *unreadable(listing, known, merge.gone | merge.passed_over | set(found.moved)),
    ):
        notice(line)
    if index_type is not None and settings.faces == "largest":
        most = len(present)
        there = f"{most:,} photos, of each of which one face is taken at most (--faces largest)"
        check_number(index_type, models.encoder.spec.dimension, most, there=there)
    todo, run, new = found.todo, _Run(), []
    went: list[str] = []
    if todo:
        pipeline = loading.open_pipeline(settings, models, todo, notice=notice)
        if fresh:  # not before everything that can be asked for in error has been looked at
            files.discard()
        shards = shards or ShardFolder(files.partial, fingerprint)
        _embed_all(pipeline, todo, shards, run, progress, already=len(listing.photos) - len(todo))
        for line in pipeline.remarks():
            notice(line)
        del pipeline  # its memory is wanted for the index that is written now
        if len(present) > SHARD:
            warm.let_go()  # and that of its models, which stay warm beside a small index
        new = shards.files()[len(earlier) :]
        went = vanished(listing, known, selection, prune=prune, notice=notice)
        merge.drop(went)
    kept_type = known.manifest.get("index", "flat") if known.manifest else "flat"
    changed = todo or merge.changes or not known.manifest or index_type not in (None, kept_type)
    if changed:
        manifest = {
            **fingerprint,
            **run.choice(known.manifest),
            "index": index_type or kept_type,
            "roots": roots_of(listing, known),
            "selections": merged(known.selections, selection),
            FIELD: (known.manifest or {}).get(FIELD, {}),
            "faceembed": __version__,
        }
        kind = index_type or kept_type
        rule = TrackRule.of(models.encoder.spec)
        if choice.fps and rule is None:
            notice(
                f"{models.encoder.spec.name} has no threshold: faces of a video stay a row a frame, and no tracks are made"
            )
        given, dimension = index_type is not None, models.encoder.spec.dimension
        try:
            counts = merge.write(files, manifest, dimension, kind, new, or_flat=not given, rule=rule, notice=notice)
        except UsageError as error:
            raise UsageError(f"{error}{_KEPT if todo or earlier else ''}") from error
    else:
        counts = {key: (known.manifest or {})[key] for key in ("faces", "no_face", "failed")}
        counts["in_tracks"] = (known.manifest or {}).get("in_tracks", 0)
        notice(
            f"nothing new, changed or gone; {found.unread:,} photos were not read, as their size and times are the same"
        )
    seconds = time.perf_counter() - started
    computed = run.choice(known.manifest)
    return EmbedReport(
        images=len(listing.photos) + len(listing.failures),
        faces=counts["faces"],
        no_face=counts["no_face"],
        failed=counts["failed"],
        in_tracks=counts["in_tracks"],
        skipped=len(listing.photos) - len(todo),
        embedded=len(todo),
        removed=merge.removed,
        unread=found.unread,
        touched=found.touched,
        moved=len(found.moved),
        copies=found.copies,
        aliases=len(found.aliases),
        vanished=len(went),
        several_faces=run.several,
        ignored=dict(listing.ignored),
        excluded=dict(listing.excluded),
        passed_over=len(merge.passed_over),
        seconds=round(seconds, 3),
        images_per_second=round(len(todo) / seconds, 2),
        stages=run.rates(),
        **computed,
        encoder=models.encoder.spec.name,
        aligner=models.aligner.spec.name if models.aligner else "none",
        index=str(files.faiss),
    )


@dataclasses.dataclass
class _Run:
    """What this run computed with, and how long each stage took."""

    device: str = ""
    runtime: str = ""
    precision: str = ""
    at_once: int = 1
    """Batches under way side by side."""
    seconds: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    photos: int = 0
    several: int = 0

    def choice(self, manifest: dict[str, Any] | None) -> dict[str, str]:
        """Device, runtime and precision, of this run or, if it computed nothing, of the index."""
        if self.device:
            return {"device": self.device, "runtime": self.runtime, "precision": self.precision}
        return {key: (manifest or {}).get(key, "none") for key in ("device", "runtime", "precision")}

    def rates(self) -> dict[str, float]:
        """Photos a second of each stage, had it all threads to itself."""
        threads = {stage: 1 if stage == "read" else self.at_once for stage in self.seconds}
        return {s: round(self.photos * threads[s] / spent, 1) for s, spent in self.seconds.items() if spent > 0}


def _embed_all(
    pipeline: Pipeline,
    todo: list[PhotoFile],
    shards: ShardFolder,
    run: _Run,
    progress: Callable[[Progress], None],
    *,
    already: int,
) -> None:
    spec = pipeline.encoder.model.spec
    faces = failures = 0
    with contextlib.closing(pipeline.run(todo, boundary=SHARD)) as every:
        for outcomes in _by_shard(every):
            taken: list[Outcome] = []
            failed: list[Failure] = []
            for outcome in outcomes:
                taken.append(outcome)
                failed += outcome.failures
                run.seconds.update(outcome.seconds)
                run.photos += len(outcome.photos)
                run.several += int((outcome.faces.beside > 0).sum())
                faces += len(outcome.faces.photo)
                failures += len(outcome.failures)
                progress(Progress(already + run.photos, already + len(todo), faces, failures))
            shards.write(Shard(FaceTable(*face_rows(taken, spec)), failed))
    choice = pipeline.encoder.choice  # at the end: a card's pipeline may have become another one
    run.device, run.runtime, run.precision = choice.device, choice.runtime, choice.precision
    run.at_once = pipeline.batches_at_once


def _by_shard(outcomes: Iterator[Outcome]) -> Iterator[Iterator[Outcome]]:
    """Group outcomes into runs of `SHARD` photos; batches never reach across that boundary."""
    for first in outcomes:

        def shard(first: Outcome = first) -> Iterator[Outcome]:
            yield first
            count = len(first.photos)
            while count < SHARD and (outcome := next(outcomes, None)) is not None:
                count += len(outcome.photos)
                yield outcome

        yield shard()
