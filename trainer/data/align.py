"""Photos of people into a crop set, through the engine's own detection and alignment; the encoder's network does not run.

    report = align(read_people("people"), "crops", settings=EmbedSettings(encoder="faceembed-r29"))

A second run cuts what is new or changed and drops what is gone; an interrupted one goes on with the batch it was in. Photos
of other folders that the crop set holds stay.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import hashlib
import os
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from faceembed.engine.models import builtin
from faceembed.engine.models.catalog import CATALOG
from faceembed.engine.models.registry import resolve
from faceembed.engine.models.spec import Model, ModelSpec
from faceembed.engine.models.store import find, is_name, names
from faceembed.engine.photos.decode import decode
from faceembed.engine.photos.failures import Failure, format_errors
from faceembed.engine.photos.photo_file import PhotoFile, photo_file, printable
from faceembed.engine.pipeline import loading
from faceembed.engine.pipeline.progress import Progress
from faceembed.engine.pipeline.settings import PREPROCESSING, EmbedSettings
from faceembed.errors import DataError, ModelError, PhotoError, UsageError
from faceembed.files import atomic_write
from faceembed.trainer.data.crop_names import CropNames
from faceembed.trainer.data.crop_update import Plan, check_output, discard, finish, known
from faceembed.trainer.data.crops import (
    ERRORS_FILE,
    Crop,
    CropInfo,
    Format,
    write_crop,
)
from faceembed.trainer.data.fakes.compress import compress
from faceembed.trainer.data.journal import Done, Journal
from faceembed.trainer.data.people import People
from faceembed.trainer.data.samples import Sample

if TYPE_CHECKING:
    from faceembed.engine.pipeline.batch import Item, Read
    from faceembed.engine.pipeline.chips import Cutter


@dataclasses.dataclass(frozen=True)
class AlignReport:
    """What a run did and what the crop set holds now; the fields of ``data align --json``."""

    photos: int
    """Photos of the people that were given."""
    people: int
    """People with at least one crop in the set."""
    crops: int
    """Crops in the set."""
    no_face: int
    """Photos given in which no face was found."""
    failed: int
    """Photos given that could not be read or decoded."""
    skipped: int
    """Photos given that were done by an earlier run."""
    aligned: int
    """Photos processed by this run."""
    removed: int
    """Crops that were in the set and are no longer."""
    seconds: float
    images_per_second: float
    """Photos processed by this run, per second of the whole run, loading included."""
    encoder: str
    height: int
    width: int
    aligner: str
    output: str

    def to_json_dict(self) -> dict[str, Any]:
        """As a plain dictionary."""
        return dataclasses.asdict(self)


def align(
    people: People,
    output: str | os.PathLike[str],
    *,
    settings: EmbedSettings | None = None,
    format: Format = "jpg",
    quality: int = 95,
    recompress: float = 0.0,
    fresh: bool = False,
    notice: Callable[[str], None] = lambda line: None,
    progress: Callable[[Progress], None] = lambda progress: None,
) -> AlignReport:
    """Cut the largest face out of each photo.

    Args:
        people: whose photos; real ones and fakes.
        output: the crop set's folder; created, or one that an earlier run made.
        settings: encoder (its template and size make the crops), aligner, batches, runtime.
        format: ``jpg`` or ``png``.
        quality: of JPEG files, 1 to 100.
        recompress: share of the real photos that are compressed once more before they are cut, in the ways that `data fakes`
            compresses: what is learned from such crops and from deepfakes cannot be the traces of a JPEG. Always the same photos.
        fresh: start over, deleting the crops that are there.
        notice: called with lines for the user.
        progress: called after every batch.

    Raises:
        DataError: the crop set there was made with other settings, or is damaged; or no photo has a face.
        UsageError: ``output`` is no place for a crop set.
        FaceEmbedError: any other bad set-up. Bad photos are rows of ``errors.csv`` instead.
    """
    started = time.perf_counter()
    settings = dataclasses.replace(settings or EmbedSettings(), faces="largest")
    folder = os.path.abspath(os.fspath(output))
    check_output(folder, people)
    spec = encoder_spec(settings.encoder)
    aligner = loading.resolve_aligner(settings)
    info = _info(settings, spec, aligner, format, quality, recompress)
    os.makedirs(folder, exist_ok=True)
    if fresh:
        discard(folder)
    before = known(folder, info)
    photos = {sample.path: photo_file(sample.path) for sample in people.samples}
    plan = Plan(folder, people, before, photos)
    names = CropNames(f".{format}", (crop.crop for crop in before.crops))
    new = Done([], [])
    if plan.todo:
        todo = [photos[sample.path] for sample in plan.todo]
        cutter = loading.open_cutter(settings, spec, aligner, todo, notice=notice)
        writer = _Writer(folder, cutter, {s.path: s for s in plan.todo}, plan.names(names), info)
        already = Progress(len(photos) - len(todo), len(photos), len(plan.kept.crops), len(plan.kept.failures))
        new = _cut_all(writer, todo, already, progress)
    elif before.crops or before.failures:
        notice("nothing new or changed")
    rows = [*plan.kept.crops, *new.crops]
    failures = [*plan.kept.failures, *new.failures]
    with atomic_write(os.path.join(folder, ERRORS_FILE), "w") as file:
        file.write(format_errors(sorted(failures, key=lambda failure: failure.photo.path)))
    if not rows:
        reason = f"; the first is {printable(failures[0].photo.path)}: {failures[0].reason}" if failures else ""
        raise DataError(f"not one of {len(photos):,} photos has given a crop{reason}")
    removed = finish(folder, rows, before.crops, info)
    seconds = time.perf_counter() - started
    given = [failure for failure in failures if failure.photo.path in photos]
    no_face = sum(failure.stage in ("detect", "align") for failure in given)
    return AlignReport(
        photos=len(photos),
        people=len({row.person for row in rows}),
        crops=len(rows),
        no_face=no_face,
        failed=len(given) - no_face,
        skipped=len(photos) - len(plan.todo),
        aligned=len(plan.todo),
        removed=removed,
        seconds=round(seconds, 3),
        images_per_second=round(len(plan.todo) / seconds, 2),
        encoder=info.encoder,
        height=info.height,
        width=info.width,
        aligner=info.aligner,
        output=folder,
    )


def encoder_spec(name: str) -> ModelSpec:
    """The contract of an encoder whose crops are wanted: a model of the engine (also one that is not fetched yet), a file, a
    checkpoint (``.pt``), or an architecture of the trainer.

    Raises:
        ModelError, UsageError: there is none of that name.
    """
    if name.endswith(".pt"):
        from faceembed.trainer.backbones.checkpoints import load_checkpoint  # optional: PyTorch

        return load_checkpoint(name).spec
    entry = CATALOG.get(name)
    if entry and entry.task == "encoder" and not entry.importer:
        return entry.spec()
    if entry is None and is_name(name) and name not in builtin.names() and find(name) is None:
        from faceembed.trainer.backbones.registry import ARCHITECTURES  # optional: PyTorch

        if name in ARCHITECTURES:
            return ARCHITECTURES[name].spec
        models = (model for model, entry in CATALOG.items() if entry.task == "encoder")
        known = sorted({*ARCHITECTURES, *builtin.names(), *models, *names()})
        near = difflib.get_close_matches(name.lower(), known, n=2)
        hint = f"did you mean {' or '.join(near)}? " if near else ""
        raise ModelError(
            f"no encoder '{name}'; {hint}give a model (see: faceembed models list) or an architecture: "
            f"{', '.join(ARCHITECTURES)}"
        )
    return resolve(name, task="encoder").spec


def _info(
    settings: EmbedSettings, spec: ModelSpec, aligner: Model | None, format: Format, quality: int, recompress: float
) -> CropInfo:
    if not 0 <= recompress <= 1:
        raise UsageError(f"--recompress {recompress}: expected a share, 0 to 1")
    if format == "jpg" and not 1 <= quality <= 100:
        raise UsageError(f"--quality {quality}: expected 1 to 100")
    height, width = spec.input_size
    return CropInfo(
        encoder=spec.name,
        template=spec.template,
        height=height,
        width=width,
        aligner=aligner.spec.name if aligner else "none",
        aligner_sha256=aligner.spec.sha256 if aligner else "",
        min_face=settings.min_face,
        preprocessing=PREPROCESSING,
        format=format,
        quality=quality if format == "jpg" else 0,
        recompressed=recompress,
    )


@dataclasses.dataclass(frozen=True)
class _Writer:
    """Cuts batches and writes their crops, in the thread that cuts."""

    folder: str
    cutter: Cutter
    samples: dict[str, Sample]
    names: dict[str, str]
    info: CropInfo

    def write(self, read: Read, read_seconds: float) -> Done:
        """The rows of one batch, whose crops are on disk then."""
        if self.info.recompressed:
            read = [self._compressed(entry) for entry in read]
        cut = self.cutter.cut_batch(read, read_seconds)
        faces = cut.faces
        crops = []
        for index, place in enumerate(faces.photo.tolist()):
            photo = cut.photos[place]
            sample, name = self.samples[photo.path], self.names[photo.path]
            path = os.path.join(self.folder, name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            write_crop(path, cut.chips[index], format=self.info.format, quality=self.info.quality)
            crops.append(
                Crop(
                    crop=name,
                    photo=photo.path,
                    person=sample.person,
                    fake=sample.fake,
                    method=sample.method,
                    other=sample.other,
                    score=float(faces.scores[index]),
                    landmarks=tuple(faces.landmarks[index].ravel().tolist()),
                    width=int(faces.sizes[index, 0]),
                    height=int(faces.sizes[index, 1]),
                    size=photo.size,
                    mtime_ns=photo.mtime_ns,
                )
            )
        return Done(crops, cut.failures)

    def _compressed(self, entry: Item | Failure) -> Item | Failure:
        """A photo, compressed once more if it is one of those that are."""
        sample = self.samples[entry.photo.path]
        if isinstance(entry, Failure) or sample.fake:
            return entry
        digest = hashlib.sha256(f"{sample.person}/{os.path.basename(sample.path)}".encode("utf-8", "surrogateescape"))
        rng = np.random.default_rng(int.from_bytes(digest.digest()[:8], "big"))
        if rng.uniform() >= self.info.recompressed:
            return entry
        try:
            whole = decode(entry.data, reduction=1, max_pixels=entry.header.pixels)
            return self.cutter.intake.item(entry.photo, compress(whole.pixels, rng)[0])
        except PhotoError as error:
            return Failure(entry.photo, error.stage, error.reason)


def _cut_all(
    writer: _Writer, todo: Sequence[PhotoFile], already: Progress, progress: Callable[[Progress], None]
) -> Done:
    new = Done([], [])
    with (
        contextlib.closing(Journal(writer.folder, writer.info)) as journal,
        contextlib.closing(writer.cutter.run(todo, writer.write)) as batches,
    ):
        for done in batches:
            journal.add(done)
            new.crops.extend(done.crops)
            new.failures.extend(done.failures)
            faces, failures = len(new.crops), len(new.failures)
            progress(
                Progress(
                    already.done + faces + failures, already.total, already.faces + faces, already.failures + failures
                )
            )
    return new
