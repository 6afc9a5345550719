"""The verb `compare`: several encoders on one pair list, in one table; `compare_lists` has several.

    comparison = compare_encoders(["faceembed-r29", "mine.onnx"], "pairs.csv")
    write_comparison("encoders.html", comparison)        # report.encoders

Encoders that take faces of one template and size share detection and alignment: each photo is read once for all of them, and
no chip is kept. Rates are measured afterwards, with nothing else under way: those encoders on the same faces, in turns, so that
whatever else the machine does falls on all of them; encoders of another template or size follow in the same run. An encoder that fails is a row with its reason.

With a folder to save to, each encoder's similarities are kept there, and a second run computes what is missing or has changed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from faceembed.engine.evaluate.comparison import Comparison, Row
from faceembed.engine.evaluate.encode_rates import measure_rates
from faceembed.engine.evaluate.figures import FAILED_SCORE, evaluate, failed_pairs
from faceembed.engine.evaluate.pair_formats import read_pairs
from faceembed.engine.evaluate.pairs import PairList, check_files
from faceembed.engine.evaluate.quality_scores import quality_aware_scores
from faceembed.engine.evaluate.score_store import Scores, Store
from faceembed.engine.models.registry import resolve
from faceembed.engine.photos.photo_file import photo_file
from faceembed.engine.pipeline import loading
from faceembed.engine.pipeline.chips import Cutter
from faceembed.engine.pipeline.encode import Encoder
from faceembed.engine.pipeline.encodes import Chips
from faceembed.engine.pipeline.few_photos import face_qualities
from faceembed.engine.pipeline.progress import Notify, OnProgress, Progress
from faceembed.engine.pipeline.quality import sharpness
from faceembed.engine.pipeline.settings import EmbedSettings
from faceembed.engine.runtimes.choose import choose
from faceembed.engine.runtimes.unit import NO_EMBEDDING, is_sound
from faceembed.engine.runtimes.watch import spoken
from faceembed.errors import DataError, FaceEmbedError, UsageError

RATE_FACES = 256
_ATTEMPT = (FaceEmbedError, OSError, RuntimeError, ValueError)  # what a broken model brings about in a runtime
T = TypeVar("T")


def compare_encoders(
    encoders: Sequence[str],
    pairs: str | os.PathLike[str] | PairList,
    *,
    root: str | os.PathLike[str] | None = None,
    settings: EmbedSettings | None = None,
    skip_failures: bool = False,
    quality_aware: bool = False,
    rates: bool = True,
    save: str | os.PathLike[str] | None = None,
    notice: Notify = lambda line: None,
    progress: OnProgress = lambda progress: None,
) -> Comparison:
    """Measure encoders on a labelled pair list.

    Args:
        encoders: names, or paths of ONNX files; those given twice are measured once.
        pairs: a list in one of the formats that `read_pairs` knows.
        root: the folder that its photos lie in, where the list does not say.
        settings: aligner, batches and runtime; its ``encoder`` is not looked at.
        skip_failures: leave out pairs with a photo without a face, instead of scoring them -1.
        quality_aware: QMagFace's score too, as a row of its own, of the encoders that it was fitted for.
        rates: measure faces a second.
        save: a folder for similarities; a second run takes what is there.
        notice, progress: called with lines for the user, and after every batch.

    Raises:
        PairListError: the list cannot be read or names photos that are not there.
        DataError: no labels, or pairs of one class only.
        UsageError: no encoder.
    """
    settings = dataclasses.replace(settings or EmbedSettings(), faces="largest")
    if not encoders:
        raise UsageError("give at least one encoder")
    listed = pairs if isinstance(pairs, PairList) else read_pairs(pairs, root=root)
    check_list(listed)
    rows = [Row(source) for source in dict.fromkeys(encoders)]
    for row in rows:
        row.model = _attempt(row, functools.partial(resolve, row.source, task="encoder"))
    run = _Run(listed, settings, Store(save, listed, settings), rates, notice, progress)
    for group in _groups(row for row in rows if row.model):
        run.measure(group)
    if quality_aware:
        rows = [row for known in rows for row in (known, *_quality_aware(known, listed, notice))]
    for row in rows:
        if scores := row.scores:
            judge = functools.partial(
                evaluate, failures=scores.failures, skip_failures=skip_failures, qualities=scores.qualities
            )
            row.evaluation = _attempt(row, functools.partial(judge, listed, scores.similarity))
    counts = [row.scores.several for row in rows if row.scores and row.scores.several is not None]
    return Comparison(listed, rows, run.rate_faces, settings.aligner, run.runtime, max(counts, default=None))


def check_list(listed: PairList) -> None:
    """Refuse a list that encoders cannot be compared on.

    Raises:
        PairListError: it names photos that are not there.
        DataError: no labels, or pairs of one class only.
    """
    check_files(listed)
    if not 0 < listed.labels.sum() < len(listed):
        raise DataError(f"{listed.source}: error rates need pairs of one person and pairs that are not one person")


def _quality_aware(known: Row, pairs: PairList, notice: Notify) -> Iterator[Row]:
    """The row of QMagFace's score beside an encoder's own; none, and a line, where it was not fitted."""
    if known.reason or known.model is None or known.scores is None:
        return
    if known.model.spec.quality_aware is None:
        notice(f"{known.name}: QMagFace's score was not fitted for it, and has no row")
        return
    row = dataclasses.replace(known, quality_aware=True)
    if known.scores.qualities is None:
        row.scores, row.reason = (
            None,
            "its similarities were kept by an older version, without the norms; --save elsewhere",
        )
    else:
        scored = quality_aware_scores(pairs, known.scores.similarity, known.scores.qualities, known.model.spec)
        row.scores = dataclasses.replace(known.scores, similarity=scored)
    yield row


def _attempt(row: Row, step: Callable[[], T]) -> T | None:
    """What a step gives; None where the encoder fails, which is noted."""
    try:
        return step()
    except _ATTEMPT as error:
        row.reason = " ".join(str(error).split()) or type(error).__name__
        return None


def _groups(rows: Iterable[Row]) -> list[list[Row]]:
    """Encoders that take the same chips together."""
    groups: dict[object, list[Row]] = {}
    for row in rows:
        assert row.model is not None
        spec = row.model.spec
        groups.setdefault((spec.template, spec.input_size), []).append(row)
    return list(groups.values())


class _Run:
    """What the groups of one comparison share."""

    def __init__(
        self,
        pairs: PairList,
        settings: EmbedSettings,
        store: Store,
        rates: bool,
        notice: Notify,
        progress: OnProgress,
    ) -> None:
        self.pairs, self.settings, self.store, self.rates = pairs, settings, store, rates
        self.notice, self.progress = notice, progress
        self.aligner = loading.resolve_aligner(settings)
        self.photos = [photo_file(path) for path in pairs.photos]
        self.rate_faces = 0
        self.runtime: dict[str, str] = {}

    def measure(self, rows: list[Row]) -> None:
        """Similarities and rates of encoders that take the same chips."""
        assert rows[0].model is not None
        cutter = loading.open_cutter(self.settings, rows[0].model.spec, self.aligner, self.photos, notice=self.notice)
        sample = cutter.sample(self.photos, RATE_FACES)[1]
        if len(sample) == 0:
            raise DataError(f"{self.pairs.source}: no face in any of its photos")
        opened: dict[int, Encoder] = {}
        for number, row in enumerate(rows):
            if encoder := _attempt(row, functools.partial(self._open, row, sample)):
                opened[number] = encoder
        missing = []
        for number, encoder in opened.items():
            row = rows[number]
            row.scores = self.store.load(encoder)
            row.reused = row.scores is not None
            if not row.reused:
                missing.append((row, encoder))
        if missing:
            names = ", ".join(row.name for row, _ in missing)
            self.notice(f"{names}: {len(self.photos):,} photos")
            self._embed(cutter, missing)
        if not self.rates:
            return
        measured = {number: encoder for number, encoder in opened.items() if not rows[number].reason}
        rates = measure_rates(list(measured.values()), sample, workers=cutter.workers)
        for number, rate in zip(measured, rates, strict=True):
            rows[number].rate = rate
        self.rate_faces = max(self.rate_faces, len(sample))

    def _open(self, row: Row, sample: Chips) -> Encoder:
        """An encoder at the precision that it may run at."""
        assert row.model is not None
        choice = choose(self.settings.runtime, unfit=row.model.spec.unfit)
        threads = self.settings.runtime.thread_count
        watch = spoken(self.notice)
        encoder = Encoder(row.model, choice, threads=threads, watch=watch)
        if not encoder.admitted:
            try:
                self.notice(f"{row.name}: {encoder.admit(sample)}")
            except FaceEmbedError as error:
                if self.settings.runtime.precision != "auto":
                    raise
                self.notice(f"{error}; fp32 instead")
                choice = dataclasses.replace(choice, precision="fp32")
                encoder = Encoder(row.model, choice, threads=threads, watch=watch)
        row.precision = encoder.choice.precision
        self.runtime = {"device": choice.device, "runtime": choice.runtime}
        return encoder

    def _embed(self, cutter: Cutter, missing: list[tuple[Row, Encoder]]) -> None:
        """Read every photo once, for all of these encoders, and keep their similarities."""
        vectors: list[dict[str, NDArray[np.float32]]] = [{} for _ in missing]
        without: list[dict[str, str]] = [{} for _ in missing]  # faces that an encoder has no embedding of
        qualities: list[dict[str, dict[str, float]]] = [{} for _ in missing]
        failures: dict[str, str] = {}
        done = faces = several = 0
        with contextlib.closing(cutter.cut(self.photos)) as cuts:
            for cut in cuts:
                failures.update({failure.photo.path: failure.reason for failure in cut.failures})
                paths = [cut.photos[place].path for place in cut.faces.photo.tolist()]
                several += int((cut.faces.beside > 0).sum())
                sharp = sharpness(cut.chips)
                for (row, encoder), found, lost, known in zip(missing, vectors, without, qualities, strict=True):
                    if row.reason or not paths:
                        continue
                    embedded = _attempt(row, functools.partial(encoder.encode, cut.chips))
                    if embedded is not None:
                        found.update(zip(paths, embedded[0], strict=True))
                        spec = encoder.model.spec
                        known.update(face_qualities(cut.photos, cut.faces, embedded[1], embedded[0], sharp, spec))
                        lost.update(
                            (paths[place], NO_EMBEDDING) for place in np.flatnonzero(~is_sound(embedded[0])).tolist()
                        )
                done, faces = done + len(cut.photos), faces + len(paths)
                self.progress(Progress(done, len(self.photos), faces, len(failures)))
        for (row, encoder), found, lost, known in zip(missing, vectors, without, qualities, strict=True):
            if row.reason:
                continue
            if found and len(lost) == len(found):
                row.reason = (
                    "an embedding is not finite; is the model damaged, or its colour order, mean or scale wrong?"
                )
                continue
            reasons = {**failures, **lost}
            failed = failed_pairs(self.pairs, reasons)
            similarity = np.array(
                [
                    FAILED_SCORE if miss else float(found[pair.path_a] @ found[pair.path_b])
                    for pair, miss in zip(self.pairs, failed, strict=True)
                ]
            )
            row.scores = Scores(similarity, failed, reasons, several, known)
            self.store.save(encoder, row.scores)
