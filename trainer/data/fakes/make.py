"""The verb behind `data fakes`: from people to a folder of deepfakes with their provenance.

    report = make_fakes(read_people("people"), "fakes", FakeSettings(methods=("swap", "morph"), seed=7))

A run that is interrupted goes on, and a second run makes what is missing; other methods may join those that are there.
"""

from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import dataclasses
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import threadpoolctl

from faceembed.cores import available_cores
from faceembed.engine.native import _native
from faceembed.engine.photos.decode import decode
from faceembed.engine.photos.failures import Failure, format_errors
from faceembed.engine.photos.photo_file import printable
from faceembed.engine.photos.places import is_below
from faceembed.engine.photos.probe import probe
from faceembed.engine.photos.sidecar import read_photo
from faceembed.engine.pipeline.progress import Progress
from faceembed.errors import DataError, PhotoError, UsageError
from faceembed.files import atomic_write
from faceembed.trainer.data.fakes import manifest
from faceembed.trainer.data.fakes.compress import compress
from faceembed.trainer.data.fakes.faces import Face, find_faces
from faceembed.trainer.data.fakes.manifest import Fake, Journal, read_fakes, write_fakes
from faceembed.trainer.data.fakes.methods import Method, Shot, morph, reenact, swap, transplant
from faceembed.trainer.data.fakes.plan import Job, Planner
from faceembed.trainer.data.fakes.selfblend import selfblend
from faceembed.trainer.data.fakes.settings import FakeSettings, FakesReport
from faceembed.trainer.data.people import FAKES_FILE, People
from faceembed.trainer.data.split import Split, part_of

METHODS: Mapping[str, Method] = {
    "selfblend": selfblend,
    "swap": swap,
    "morph": morph,
    "transplant": transplant,
    "reenact": reenact,
}
VERSION = 1  # raised whenever the same seed would give other pictures


def make_fakes(
    people: People,
    output: str | os.PathLike[str],
    settings: FakeSettings | None = None,
    *,
    split: Split | None = None,
    methods: Mapping[str, Method] = METHODS,
    fresh: bool = False,
    notice: Callable[[str], None] = lambda line: None,
    progress: Callable[[Progress], None] = lambda progress: None,
) -> FakesReport:
    """Make deepfakes of people.

    Args:
        people: whose photos; fakes among them are left out.
        output: the folder of fakes; created, or one that an earlier run made of the same people, seed and split.
        settings: methods, how many, seed.
        split: both people of a fake are in one part; people in no part are left out. None: all are in one.
        methods: how each name in ``settings.methods`` works; swappers of a user's file are added to `METHODS`.
        fresh: start over, deleting the fakes that the folder's own table names.
        notice: called with lines for the user.
        progress: called after every batch of photos and, in a second round, after every fake.

    Raises:
        UsageError: an unknown method, or ``output`` is no place for fakes.
        DataError: nobody to make fakes of, or the folder's fakes were made with other settings.
    """
    settings = settings or FakeSettings()
    if unknown := [name for name in settings.methods if name not in methods]:
        raise UsageError(f"method '{unknown[0]}' is unknown; known are {', '.join(methods)}")
    folder = os.path.abspath(os.fspath(output))
    _check_output(folder, people)
    os.makedirs(folder, exist_ok=True)
    if fresh:
        discard(folder)
    manifest.check_info(folder, _info(people, settings, split))
    faces, failures = find_faces(
        people, folder, workers=settings.workers, runtime=settings.runtime, notice=notice, progress=progress
    )
    started = time.perf_counter()
    parts = part_of(split) if split else {}
    planner = Planner(faces, people.roots[0] if people.roots else people.source, parts, settings.seed)
    if not planner.usable:
        raise DataError(f"nobody of {printable(people.source)} is in the split; was it made of other people?")
    if left_out := len(faces) - len(planner.usable):
        notice(f"{left_out:,} of {len(faces):,} photos show people who are in no part of the split, and were left out")
    jobs, without = _plan(planner, settings)
    failures += without
    rows = {row.fake: row for row in read_fakes(folder)}
    todo = [job for job in jobs if not _is_made(folder, job, rows, faces)]
    made = 0
    with contextlib.closing(Journal(folder)) as journal:
        for done in _make_all(_Maker(folder, faces, methods, settings), todo):
            if isinstance(done, Fake):
                journal.add(done)
                rows[done.fake] = done
                made += 1
            else:
                failures.append(done)
            progress(Progress(len(jobs) - len(todo) + made, len(jobs), made, len(failures)))
    write_fakes(folder, rows.values())
    with atomic_write(os.path.join(folder, manifest.ERRORS_FILE), "w") as file:
        file.write(format_errors(sorted(failures, key=lambda failure: (failure.photo.path, failure.reason))))
    if not rows:
        first = f"; the first: {printable(failures[0].photo.path)}: {failures[0].reason}" if failures else ""
        raise DataError(f"not one fake could be made of {len(faces):,} photos{first}")
    seconds = time.perf_counter() - started
    return FakesReport(
        photos=sum(not sample.fake for sample in people.samples),
        faces=len(faces),
        fakes=len(rows),
        made=made,
        skipped=len(jobs) - len(todo),
        failed=len(failures),
        methods=dict(sorted(collections.Counter(row.method for row in rows.values()).items())),
        seconds=round(seconds, 3),
        fakes_per_second=round(made / seconds, 2),
        output=folder,
    )


def _check_output(folder: str, people: People) -> None:
    manifest.check_folder(folder)
    for root in people.roots:
        if is_below(folder, [root]):
            raise UsageError(f"the fakes cannot go to {printable(folder)}, among the photos of {printable(root)}")


def _info(people: People, settings: FakeSettings, split: Split | None) -> dict[str, object]:
    """What must be equal for fakes to belong in one folder; methods and numbers may differ."""
    text = json.dumps({part: list(persons) for part, persons in split.items()}, sort_keys=True) if split else ""
    return {
        "people": people.source,
        "seed": settings.seed,
        "split": hashlib.sha256(text.encode()).hexdigest()[:16] if split else None,
        "max_side": settings.max_side,
        "version": VERSION,
    }


def discard(folder: str) -> None:
    """Delete the fakes that a folder's own tables name, and those tables."""
    names = [row.fake for row in read_fakes(folder)]
    for name in names:
        path = os.path.normpath(os.path.join(folder, name))
        if not is_below(path, [folder]):
            raise DataError(f"{printable(folder)}: its table names a file outside of it, {name!r}; is it damaged?")
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
    for name in (FAKES_FILE, manifest.JOURNAL_FILE, manifest.INFO_FILE, manifest.ERRORS_FILE):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(folder, name))


def _plan(planner: Planner, settings: FakeSettings) -> tuple[list[Job], list[Failure]]:
    """All fakes wanted, and the photos that have no partner."""
    jobs: list[Job] = []
    failures: list[Failure] = []
    for place, method in enumerate(settings.methods):
        if settings.count is None:
            wanted = [(index, number) for number in range(settings.per_photo) for index in planner.usable]
            enough = len(wanted)
        else:
            enough = (settings.count + len(settings.methods) - 1 - place) // len(settings.methods)
            order = planner.order(method)
            rounds = -(-enough // len(order))
            wanted = [(index, number) for number in range(rounds) for index in order]
        found = 0
        for index, number in wanted:
            if found == enough:
                break
            job = planner.job(method, index, number)
            if isinstance(job, Job):
                jobs.append(job)
                found += 1
            elif number == 0:
                failures.append(job)
    return jobs, failures


def _is_made(folder: str, job: Job, rows: Mapping[str, Fake], faces: Sequence[Face]) -> bool:
    row = rows.get(job.name)
    if row is None or row.seed != job.seed:
        return False
    photos = (faces[job.source].sample.path, faces[job.target].sample.path)
    return (row.source_photo, row.target_photo) == photos and os.path.isfile(os.path.join(folder, job.name))


@dataclasses.dataclass(frozen=True)
class _Maker:
    """Makes and writes one fake; may be called from several threads."""

    folder: str
    faces: Sequence[Face]
    methods: Mapping[str, Method]
    settings: FakeSettings

    def make(self, job: Job) -> Fake | Failure:
        """Decode, make, compress, write."""
        source, target = self.faces[job.source], self.faces[job.target]
        rng = np.random.default_rng(job.seed)
        try:
            shot = self._shot(source)
            made = self.methods[job.method](shot, shot if target is source else self._shot(target), rng)
        except PhotoError as error:
            return Failure(source.file, error.stage, f"{job.method}: {error.reason}")
        except MemoryError:
            return Failure(source.file, "memory", f"{job.method} with {target.sample.path}: out of memory")
        except (cv2.error, np.linalg.LinAlgError) as error:
            reason = " ".join(str(error).split())[:160]
            return Failure(source.file, "fake", f"{job.method} with {target.sample.path}: {reason}")
        data, quality, drawn = compress(made.pixels, rng)
        path = os.path.join(self.folder, job.name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:  # the journal says which are whole
            file.write(data)
        return Fake(
            fake=job.name,
            method=job.method,
            source_person=source.sample.person,
            source_photo=source.sample.path,
            target_person=target.sample.person,
            target_photo=target.sample.path,
            seed=job.seed,
            quality=quality,
            params=json.dumps(_rounded({**made.params, **drawn}), sort_keys=True),
        )

    def _shot(self, face: Face) -> Shot:
        """The photo, no larger than wanted, and its face."""
        data = read_photo(face.sample.path)
        header = probe(data)
        limit = self.settings.max_side
        reduction = max(r for r in (1, 2, 4, 8) if r == 1 or max(header.width, header.height) >= r * limit)
        photo = decode(data, reduction=reduction)
        pixels, mesh = photo.pixels, face.mesh.moved(*photo.offset).scaled(1 / photo.reduction)
        height, width = pixels.shape[:2]
        if max(height, width) > limit:
            factor = limit / max(height, width)
            size = (max(1, round(height * factor)), max(1, round(width * factor)))
            pixels = _native.resize(pixels, *size)
            mesh = mesh.scaled(factor)
        return Shot(pixels, mesh)


def _make_all(maker: _Maker, jobs: Sequence[Job]) -> Iterator[Fake | Failure]:
    """Results in the order of the jobs; only so many are under way at once."""
    workers = maker.settings.workers or available_cores()
    threads = cv2.getNumThreads()
    # Fakes are made side by side instead. With BLAS's own threads 160 photos take 8.6 s on two cores, without 6.4.
    cv2.setNumThreads(1)
    blas = threadpoolctl.threadpool_limits(1, user_api="blas")
    pool = concurrent.futures.ThreadPoolExecutor(workers, "faceembed-fakes")
    pending: collections.deque[concurrent.futures.Future[Fake | Failure]] = collections.deque()
    try:
        for job in jobs:
            pending.append(pool.submit(maker.make, job))
            if len(pending) > 4 * workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        cv2.setNumThreads(threads)
        blas.restore_original_limits()


def _rounded(params: dict[str, Any]) -> dict[str, Any]:
    def shorten(value: Any) -> Any:
        if isinstance(value, float):
            return round(value, 4)
        return [shorten(item) for item in value] if isinstance(value, (list, tuple)) else value

    return {name: shorten(value) for name, value in params.items()}
