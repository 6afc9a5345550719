"""Photos into face labels: what `faceembed data faces` does.

    report = find_faces(paths, "labels.parquet", group="people", settings=EmbedSettings(aligner="mtcnn"), others=["yunet"])

Batches are labelled side by side, one a core. A photo that cannot be read is a row of ``labels.errors.csv``.
"""

from __future__ import annotations

import collections
import concurrent.futures
import dataclasses
import functools
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from faceembed.engine.detect.interface import Detector
from faceembed.engine.detect.kinds import open_detector
from faceembed.engine.models.spec import Model
from faceembed.engine.photos.decode import decode
from faceembed.engine.photos.failures import Failure, format_errors
from faceembed.engine.photos.listing import Listing
from faceembed.engine.photos.photo_file import PhotoFile, printable
from faceembed.engine.photos.reading import read_file
from faceembed.engine.pipeline import loading
from faceembed.engine.pipeline.progress import Progress
from faceembed.engine.pipeline.settings import EmbedSettings
from faceembed.engine.pipeline.shortage import REASON, in_halves
from faceembed.engine.runtimes.choose import choose
from faceembed.errors import DataError, PhotoError, UsageError
from faceembed.files import atomic_write
from faceembed.trainer.aligner.labels import LabelledPhoto, write_labels
from faceembed.trainer.aligner.teacher import TeacherSettings, label
from faceembed.trainer.aligner.teachers import Agreement, label_by_agreement
from faceembed.trainer.data.people import people_in_pairs
from faceembed.trainer.data.split import read_split


@dataclasses.dataclass(frozen=True)
class FacesReport:
    """What was found; the fields of ``data faces --json``."""

    photos: int
    """Photos labelled."""
    faces: int
    """Faces that the teacher is sure of."""
    doubtful: int
    """Boxes that may or may not hold a face."""
    without: int
    """Photos without any face that the teacher is sure of; a training leaves them out."""
    failed: int
    """Photos that could not be read."""
    aligner: str
    """The teacher, several joined by `` + ``; empty where none looked."""
    output: str

    def to_json_dict(self) -> dict[str, Any]:
        """As a plain dictionary."""
        return dataclasses.asdict(self)


def find_faces(
    photos: Sequence[PhotoFile],
    output: str | os.PathLike[str],
    *,
    group: str,
    settings: EmbedSettings,
    teacher: TeacherSettings | None = None,
    others: Sequence[str] = (),
    nobody: bool = False,
    notice: Callable[[str], None] = lambda line: None,
    progress: Callable[[Progress], None] = lambda progress: None,
) -> FacesReport:
    """Label the faces of photos.

    Args:
        photos: what to label.
        output: the file of labels.
        group: a name for these photos in trainings.
        settings: aligner (the teacher), runtime, batch size.
        teacher: views and how far they must agree.
        others: further aligners, by name or file: what two of all are sure of is a face.
        nobody: the photos are known to show no face; nothing looks at them.
        notice: called with lines for the user.
        progress: called after every batch.

    Raises:
        DataError: no photos, or none that can be read.
        UsageError: no aligner, or one that is named twice.
    """
    if not photos:
        raise DataError("no photos to look for faces in")
    workers = settings.runtime.thread_count
    detectors = [] if nobody else _open([settings.aligner, *others], settings, notice)
    labelled: list[LabelledPhoto] = []
    failures: list[Failure] = []
    size = settings.photos_a_batch()
    batches = [photos[start : start + size] for start in range(0, len(photos), size)]
    waiting: collections.deque[concurrent.futures.Future[tuple[list[LabelledPhoto], list[Failure]]]] = (
        collections.deque()
    )
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        for batch in batches:
            waiting.append(pool.submit(_label_all, detectors, batch, group, teacher or TeacherSettings(), settings))
        try:
            while waiting:
                done, failed = waiting.popleft().result()
                labelled += done
                failures += failed
                faces = sum(len(photo.boxes) for photo in labelled)
                progress(Progress(len(labelled) + len(failures), len(photos), faces, len(failures)))
        finally:  # also when interrupted
            pool.shutdown(wait=True, cancel_futures=True)
    if not labelled:
        raise DataError(f"none of {len(photos):,} photos can be read; the first: {failures[0].reason}")
    write_labels(output, labelled)
    errors = Path(output).with_suffix(".errors.csv")
    if failures:
        with atomic_write(errors, "w") as file:
            file.write(format_errors(failures))
    else:
        errors.unlink(missing_ok=True)
    return FacesReport(
        photos=len(labelled),
        faces=sum(len(photo.boxes) for photo in labelled),
        doubtful=sum(len(photo.doubtful) for photo in labelled),
        without=sum(len(photo.boxes) == 0 for photo in labelled),
        failed=len(failures),
        aligner=" + ".join(detector.model.spec.name for detector in detectors),
        output=os.fspath(output),
    )


def select(listing: Listing, *, exclude_pairs: str | None, split: str | None, part: str) -> list[PhotoFile]:
    """The photos of people who may be learnt from, by the names of their folders.

    Args:
        listing: all photos.
        exclude_pairs: a pair list whose people are left out.
        split: a split file of whose ``part`` people alone are taken.
        part: of the split.

    Raises:
        DataError: a folder that cannot be read, or nobody is left.
    """
    if listing.failures:
        path, reason = listing.failures[0]
        raise DataError(f"{printable(path)} cannot be read ({reason}); mend or move it: nobody is left out silently")
    unwanted = people_in_pairs(exclude_pairs) if exclude_pairs else frozenset()
    wanted = frozenset(read_split(split)[part]) if split else None
    chosen = []
    for photo in listing.photos:
        person = os.path.basename(os.path.dirname(photo.path))
        if person not in unwanted and (wanted is None or person in wanted):
            chosen.append(photo)
    if not chosen:
        raise DataError(f"none of {len(listing.photos):,} photos is of somebody who may be learnt from")
    return chosen


def _open(names: Sequence[str], settings: EmbedSettings, notice: Callable[[str], None]) -> list[Detector]:
    """The teachers."""
    exact = dataclasses.replace(settings.runtime, precision="fp32")  # labels are made once
    choice = choose(exact, cpu_only="labels are made on the CPU")
    workers = settings.runtime.thread_count
    models: list[Model] = []
    for name in names:
        aligner = loading.resolve_aligner(dataclasses.replace(settings, aligner=name))
        if aligner is None:
            raise UsageError("--aligner none finds no faces; name an aligner, such as mtcnn")
        if aligner.spec.sha256 in {model.spec.sha256 for model in models}:
            raise UsageError(
                f"--aligner {printable(name)} is given twice; a teacher that agrees with itself proves nothing"
            )
        models.append(aligner)
    called = " + ".join(model.spec.name for model in models)
    notice(f"{called}, {choice.runtime}, fp32; {workers} threads")
    return [open_detector(model, choice, threads=workers) for model in models]


def _label_all(
    detectors: Sequence[Detector],
    batch: Sequence[PhotoFile],
    group: str,
    teacher: TeacherSettings,
    limits: EmbedSettings,
) -> tuple[list[LabelledPhoto], list[Failure]]:
    """A batch; where memory is short, its halves, and a photo that does not fit by itself is a failure."""
    each = functools.partial(_label, detectors, group=group, teacher=teacher, limits=limits)
    parts = in_halves(each, batch, instead=lambda photo: Failure(photo, "memory", REASON))
    return [one for labelled, _ in parts for one in labelled], [one for _, failed in parts for one in failed]


def _label(
    detectors: Sequence[Detector],
    batch: Sequence[PhotoFile | Failure],
    *,
    group: str,
    teacher: TeacherSettings,
    limits: EmbedSettings,
) -> tuple[list[LabelledPhoto], list[Failure]]:
    paths, pixels, failures = [], [], []
    for photo in batch:
        if isinstance(photo, Failure):
            failures.append(photo)
            continue
        try:
            pixels.append(
                decode(read_file(photo.path, max_bytes=limits.max_bytes), max_pixels=limits.max_pixels).pixels
            )
            paths.append(photo.path)
        except PhotoError as error:
            failures.append(Failure(photo, error.stage, error.reason))
    if not paths:
        return [], failures
    if not detectors:
        none = np.zeros((0, 4), np.float32)
        return [LabelledPhoto(path, group, none, np.zeros((0, 5, 2), np.float32), none) for path in paths], failures
    if len(detectors) == 1:
        return label(detectors[0], paths, pixels, group=group, settings=teacher), failures
    return label_by_agreement(detectors, paths, pixels, group=group, settings=teacher, agreement=Agreement()), failures
