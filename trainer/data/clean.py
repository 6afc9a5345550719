"""The verb `data clean`: which photos of a set of people show somebody else.

    cleaning = clean("people", "cleaned")
    people = only_kept(read_people("people"), cleaning.rows)

Embeddings, their neighbours (`graph`), what the folders tell about each other (`clean_findings`), how likely each label is
wrong (`clean_model`), a manifest (`clean_manifest`) and a page to look at. Photos are only read: nothing is moved or deleted.
"""

from __future__ import annotations

import dataclasses
import math
import os
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from faceembed.engine.photos.photo_file import encode_path, printable
from faceembed.engine.pipeline.progress import Progress
from faceembed.engine.pipeline.settings import EmbedSettings
from faceembed.engine.report.page import Thumbnails
from faceembed.errors import DataError, UsageError
from faceembed.outputs import check_folder
from faceembed.trainer.data import clean_figures, clean_model
from faceembed.trainer.data import clean_findings as findings
from faceembed.trainer.data.clean_faces import embed_people
from faceembed.trainer.data.clean_manifest import CSV, PARQUET, Row, write_manifest
from faceembed.trainer.data.clean_report import write_cleaning_report
from faceembed.trainer.data.identity import IDENTITY_ENCODER
from faceembed.trainer.data.people import Layout, People, check_people, read_people

REPORT = "report.html"
OUTLIER, SECOND, ALONE, DISAGREE = "outlier", "second identity", "only photo of its person", "photos disagree"
DUPLICATE = "duplicate of "
KEPT = ("", ALONE, DISAGREE)
FEW_PEOPLE = 10  # below, what strangers look like is a guess

Floats = NDArray[np.float32]
Notify = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class CleanSettings:
    """What goes."""

    sure: float = 0.5
    """A photo is removed from this probability of a wrong label on."""
    keep_duplicates: bool = False
    """Only report pictures that are in two people's folders, instead of keeping one."""

    def __post_init__(self) -> None:
        if not 0 < self.sure < 1:
            raise UsageError(f"--sure {self.sure:g} is no probability between 0 and 1")


@dataclasses.dataclass(frozen=True)
class Cleaning:
    """What was found; `to_json_dict` gives the fields of ``data clean --json``."""

    source: str
    output: str
    rows: tuple[Row, ...]
    """One for each photo, sorted by person and path."""
    persons: int
    share: float
    """Estimated share of wrong labels; NaN where nothing could be judged."""
    merged: tuple[tuple[str, str, float], ...]
    """Folders that seem to be one person's: person, person, similarity of their cores."""
    duplicates: tuple[tuple[str, str, float], ...]
    """Photos in two people's folders that are one picture: photo, photo, similarity."""
    centred: Mapping[str, Floats] = dataclasses.field(repr=False)
    """Photo to the vector about the mean of all people that the similarities are of."""
    encoder: str = ""
    seconds: float = 0.0

    @property
    def reasons(self) -> dict[str, int]:
        """How many photos were removed, by reason; all duplicates under one."""
        gone = (row.reason for row in self.rows if not row.kept)
        return dict(Counter("duplicate" if reason.startswith(DUPLICATE) else reason for reason in gone).most_common())

    @property
    def mixed(self) -> tuple[str, ...]:
        """People whose folder holds a second person with two photos or more."""
        return tuple(sorted({row.person for row in self.rows if row.reason == SECOND}))

    def to_json_dict(self) -> dict[str, Any]:
        """As plain types; paths are valid UTF-8."""
        kept = sum(row.kept for row in self.rows)
        return {
            "photos": len(self.rows),
            "persons": self.persons,
            "kept": kept,
            "removed": len(self.rows) - kept,
            "reasons": self.reasons,
            "not_judged": sum(row.kept and math.isnan(row.doubt) for row in self.rows),
            "suggested": sum(bool(row.suggested_person) for row in self.rows),
            "estimated_share": None if math.isnan(self.share) else round(self.share, 4),
            "merged": [[encode_path(a), encode_path(b), round(value, 4)] for a, b, value in self.merged],
            "second_identities": [encode_path(person) for person in self.mixed],
            "duplicates": [[encode_path(a), encode_path(b), round(value, 4)] for a, b, value in self.duplicates],
            "encoder": self.encoder,
            "seconds": round(self.seconds, 3),
            "manifest": encode_path(os.path.join(self.output, PARQUET)),
            "csv": encode_path(os.path.join(self.output, CSV)),
            "report": encode_path(os.path.join(self.output, REPORT)),
        }


def clean(
    source: str | os.PathLike[str] | People,
    output: str | os.PathLike[str],
    *,
    settings: EmbedSettings | None = None,
    choices: CleanSettings | None = None,
    index: str | os.PathLike[str] | None = None,
    layout: Layout = "auto",
    images: str | os.PathLike[str] | None = None,
    notice: Notify = lambda line: None,
    progress: Callable[[Progress], None] = lambda progress: None,
) -> Cleaning:
    """Find mislabelled photos, and write a manifest and a report.

    Args:
        source: a set of people, or what `read_people` reads.
        output: folder for ``clean.parquet``, ``clean.csv``, ``report.html`` and, without ``index``, the embeddings: a
            second run, or one after an interruption, embeds only what is new.
        settings: models and runtime; by default with `identity.IDENTITY_ENCODER`. Of a gated encoder only the identity is looked at.
        choices: what goes.
        index: an index of these photos made by `embed`, largest face of each.
        layout, images: as for `read_people`.
        notice, progress: called with lines for the user, and after every batch.

    Raises:
        DataError: no photos, one person only, no face at all, or photos that the index lacks.
        UsageError: an index of all faces, or a file in ``output`` that is not ours.
        IndexFormatError: the index is another encoder's.
    """
    started = time.perf_counter()
    check_folder(output, {PARQUET: "cleaning", CSV: "cleaning list", REPORT: "page"})
    settings, choices = settings or EmbedSettings(encoder=IDENTITY_ENCODER), choices or CleanSettings()
    people = source if isinstance(source, People) else read_people(source, layout=layout, images=images)
    for note in people.notes:
        notice(note)
    check_people(people, what="cleaning (strangers are seen by comparing people)", persons=2)
    if any(sample.fake for sample in people.samples):
        raise DataError(
            f"{printable(people.source)} holds fakes; cleaning looks at real photos, give a folder of those"
        )
    os.makedirs(output, exist_ok=True)
    faces = embed_people(people, output, settings, index, notice=notice, progress=progress)
    judged = judge(people, faces.vectors, faces.failures, choices, same=faces.pictures.same, notice=notice)
    seconds = time.perf_counter() - started
    cleaning = dataclasses.replace(
        judged, output=os.path.abspath(output), encoder=faces.encoder, seconds=round(seconds, 3)
    )
    write_manifest(output, cleaning.rows)
    notice("writing the report")
    write_report(os.path.join(output, REPORT), cleaning, faces.pictures.thumbnail)
    return dataclasses.replace(cleaning, seconds=time.perf_counter() - started)


def write_report(path: str | os.PathLike[str], cleaning: Cleaning, thumbnails: Thumbnails) -> None:
    """Write the page about a cleaning.

    Raises:
        OSError: the file cannot be written.
    """
    write_cleaning_report(
        path,
        cleaning.rows,
        cleaning.centred,
        thumbnails,
        title=f"Cleaning of {os.path.basename(os.path.normpath(cleaning.source))}",
        facts={"Encoder": cleaning.encoder, "Photos in": cleaning.source},
        persons=cleaning.persons,
        share=cleaning.share,
        reasons=cleaning.reasons,
        merged=cleaning.merged,
        duplicates=cleaning.duplicates,
    )


def judge(
    people: People,
    vectors: Mapping[str, Floats],
    failures: Mapping[str, str],
    choices: CleanSettings,
    *,
    same: Callable[[str, str], bool] = lambda a, b: False,
    notice: Notify = lambda line: None,
) -> Cleaning:
    """The judgement alone, of embeddings that are there; nothing is read or written.

    Args:
        people: the photos with their labels, real ones only.
        vectors: path to float32 (D,), unit length.
        failures: path to why there is no embedding, for every other photo.
        choices: what goes.
        same: whether the photos at two paths are one picture.
        notice: called with lines for the user.

    Raises:
        DataError: no embedding at all, or of one person's photos only.
    """
    samples = sorted(people.samples, key=lambda sample: (sample.person, sample.path))
    seen = [sample for sample in samples if sample.path in vectors]
    names = sorted({sample.person for sample in seen})
    if len(names) < 2:
        found = f"faces were found in photos of {names[0]!r} only" if names else "no face was found in any photo"
        reason = next(iter(failures.values()), "")
        raise DataError(f"{printable(people.source)}: {found}" + (f" ({reason})" if reason else ""))
    if len(names) < FEW_PEOPLE:
        notice(
            f"{len(names)} people are few to learn from what strangers look like; look at the report before using this"
        )
    number = {name: place for place, name in enumerate(names)}
    persons = np.array([number[sample.person] for sample in seen], np.int64)
    centred = clean_figures.centred(np.stack([vectors[sample.path] for sample in seen]).astype(np.float32), persons)
    notice(f"neighbours of {len(seen):,} faces")
    graph = findings.build(centred, persons)
    belief, groups = findings.parts(graph, persons)
    fit = clean_model.fit(centred, persons, belief, groups, cut=choices.sure)
    strange = np.zeros(len(persons), bool)
    for members, _ in findings.mixed(centred, persons, groups, fit):
        strange[members] = True
    fit = dataclasses.replace(fit, removed=fit.removed | strange)
    copies = findings.duplicates(graph, lambda a, b: same(seen[a].path, seen[b].path))
    reasons = _reasons(persons, graph, fit, strange)
    if not choices.keep_duplicates:
        _drop_copies(copies, reasons, fit, [sample.path for sample in seen])
    rows = {}
    for i, sample in enumerate(seen):
        kept = reasons[i] in KEPT
        suggested = -1 if kept else int(fit.suggested[i])
        rows[sample.path, sample.person] = Row(
            photo=sample.path,
            person=sample.person,
            kept=kept,
            reason=reasons[i],
            suggested_person=names[suggested] if suggested >= 0 else "",
            similarity=float(fit.own[i]),
            similarity_elsewhere=float(fit.rival[i]),
            doubt=float(fit.wrong[i]),
            cluster=int(graph.clusters[i]),
        )
    return Cleaning(
        source=people.source,
        output="",
        rows=tuple(
            rows.get((s.path, s.person)) or Row(s.path, s.person, False, failures.get(s.path, "not embedded"))
            for s in samples
        ),
        persons=len(people.persons),
        share=math.nan if np.isnan(fit.wrong).all() else fit.share,
        merged=tuple((names[a], names[b], value) for a, b, value in findings.merged(centred, persons, fit)),
        duplicates=tuple((seen[a].path, seen[b].path, value) for a, b, value in copies),
        centred={sample.path: centred[i] for i, sample in enumerate(seen)},
    )


def _reasons(
    persons: NDArray[np.int64], graph: findings.Graph, fit: clean_model.Fit, strange: NDArray[np.bool_]
) -> list[str]:
    """Why each photo goes or could not be judged; empty for one that fits."""
    photos = np.bincount(persons)
    companions = strange | findings.second_identities(graph, fit)
    reasons = [""] * len(persons)
    for i in np.flatnonzero(fit.removed | np.isnan(fit.wrong)).tolist():
        if fit.removed[i]:
            reasons[i] = SECOND if companions[i] else OUTLIER
        else:
            reasons[i] = ALONE if photos[persons[i]] == 1 or math.isnan(fit.own[i]) else DISAGREE
    return reasons


def _drop_copies(
    copies: list[tuple[int, int, float]], reasons: list[str], fit: clean_model.Fit, paths: list[str]
) -> None:
    """Of one picture in two folders the one stays that fits its folder better."""
    for a, b, _ in copies:
        if reasons[a] in KEPT and reasons[b] in KEPT:
            own = np.nan_to_num(fit.own[[a, b]], nan=-2.0)
            goes, stays = (a, b) if own[0] < own[1] else (b, a)
            reasons[goes] = DUPLICATE + paths[stays]
