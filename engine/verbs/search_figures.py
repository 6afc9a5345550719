"""The verb `eval` of a search, 1:N: probes against a gallery, from lists of photos or templates.

figures = evaluate_search("probes.csv", "gallery.csv")
figures.fnir_at_fpir["1e-2"].rate
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from faceembed.engine.evaluate.identification import Identification, identification
from faceembed.engine.evaluate.index_pairs import vectors_in
from faceembed.engine.evaluate.pairs import Pair, PairList
from faceembed.engine.evaluate.template_lists import (
    Box,
    ListedPhoto,
    ListedTemplate,
    TemplateList,
    read_templates_of,
)
from faceembed.engine.people.templates import RULE, Templates, template
from faceembed.engine.photos.photo_file import photo_file, printable
from faceembed.engine.pipeline import loading
from faceembed.engine.pipeline.looking import LookedFace, look
from faceembed.engine.pipeline.progress import Notify, OnProgress
from faceembed.engine.pipeline.settings import EmbedSettings
from faceembed.engine.report.search import write_search_report
from faceembed.errors import DataError

_LEAST_OVERLAP = 0.2  # of the listed place and a face that is found there, intersection over union
Faces = Mapping[ListedPhoto, tuple[NDArray[np.float32], float]]
"""Embedding and quality of each photo of which there are any."""


@dataclasses.dataclass(frozen=True)
class SearchFigures:
    """The figures and what they are of."""

    figures: Identification
    encoder: str
    template: str
    """The rule by which several photos become a template."""
    without: int
    """Templates of the gallery without a face: nobody can be found by them, and their probes are missed."""
    failures: dict[str, str]
    """Photo to the reason why it has no face."""

    def to_json_dict(self) -> dict[str, Any]:
        """The fields of ``eval --gallery --json``."""
        return {
            **self.figures.to_json_dict(),
            "encoder": self.encoder,
            "template": self.template,
            "gallery_without_face": self.without,
        }

    def write_report(self, path: str | os.PathLike[str], *, probes: str, gallery: str) -> None:
        """Write the figures and the DET curve as one HTML file; of the lists it has the names.

        Raises:
            OSError: the file cannot be written.
        """
        write_search_report(
            path,
            {self.encoder: self.figures},
            title=f"{self.encoder}: a search",
            facts={"Probes of": probes, "Gallery of": gallery, "Template": self.template},
            failures=self.failures,
            notes=[without_text(self.without)] if self.without else [],
        )


def evaluate_search(
    probes: str | os.PathLike[str],
    gallery: str | os.PathLike[str],
    *,
    root: str | os.PathLike[str] | None = None,
    settings: EmbedSettings | None = None,
    index: str | os.PathLike[str] | None = None,
    rule: str = RULE,
    notice: Notify = lambda line: None,
    progress: OnProgress = lambda progress: None,
) -> SearchFigures:
    """Measure a search.

    Args:
        probes: a list of templates or people (`read_templates_of`); of people each photo is a probe.
        gallery: likewise; of people all photos of a person are a template.
        root: what paths of tables are relative to.
        settings: models and runtime. A photo's largest face counts, or the one at the place that the list gives.
        index: take the embeddings that an index has, of the largest face of each photo; nothing is computed.
        rule: of `templates.RULES`.
        notice, progress: called with lines for the user, and after every batch.

    Raises:
        PairListError: a list cannot be read, or an index does not know its photos.
        DataError: nobody in the gallery has a face, a person is enrolled in two templates, or no probe shows anybody of the gallery.
    """
    known = read_templates_of(gallery, root=root, whole=True)
    asked = read_templates_of(probes, root=root, whole=False)
    for line in (*known.remarks, *asked.remarks):
        notice(line)
    subjects = [of.subject for of in known.templates]
    if twice := next((who for number, who in enumerate(subjects) if who in subjects[:number]), None):
        raise DataError(
            f"{printable(known.source)}: '{printable(twice)}' is enrolled in two templates; a gallery has one of each person"
        )
    if index is not None:
        faces, failures, encoder = _from_index(known, asked, index, notice)
    else:
        faces, failures, encoder = _looked_at(known, asked, settings or EmbedSettings(), notice, progress)
    rows = [_template(of, faces, rule) for of in known.templates]
    enrolled = [place for place, row in enumerate(rows) if row is not None]
    if not enrolled:
        raise DataError(f"{printable(known.source)}: no template of it has a face")
    dimension = next(row.shape[1] for row in rows if row is not None)
    # Who has no face stays in the gallery, alike to nobody: to leave them out would make strangers of their probes.
    held = Templates([np.zeros((1, dimension), np.float32) if row is None else row for row in rows])
    looked = [_template(of, faces, "mean" if rule == "max" else rule) for of in asked.templates]
    scores = held.scores(np.concatenate([np.zeros((1, dimension), np.float32) if r is None else r for r in looked]))
    for place in set(range(len(rows))) - set(enrolled):
        scores[:, place] = -1.0
    places = {subject: place for place, subject in enumerate(subjects)}
    figures = identification(
        scores,
        [places.get(of.subject, -1) for of in asked.templates],
        [of.subject for of in asked.templates],
        failed=[row is None for row in looked],
    )
    return SearchFigures(figures, encoder, rule, len(rows) - len(enrolled), failures)


def without_text(people: int) -> str:
    """How many of a gallery have no face, in words."""
    return f"{people:,} people of the gallery have no face: their probes are missed."


def _template(listed: ListedTemplate, faces: Faces, rule: str) -> NDArray[np.float32] | None:
    found = [faces[photo] for photo in listed.photos if photo in faces]
    if not found:
        return None
    return template(np.stack([vector for vector, _ in found]), np.array([q for _, q in found], np.float32), rule)


def _from_index(
    known: TemplateList, asked: TemplateList, index: str | os.PathLike[str], notice: Notify
) -> tuple[Faces, dict[str, str], str]:
    """Of an index's rows."""
    photos = dict.fromkeys([*known.photos, *asked.photos])
    listed = PairList(f"{known.source} and {asked.source}", tuple(Pair(path, path, None, None) for path in photos))
    vectors, failures, encoder, rows = vectors_in(listed, index, notice=notice)
    named = [photo for of in (*known.templates, *asked.templates) for photo in of.photos]
    if placed := next((photo for photo in named if photo.box is not None), None):
        raise DataError(
            f"{printable(placed.path)}: the list says where in the photo the face is, and an index is asked for the largest; leave --index out"
        )
    faces = {
        photo: (vectors[photo.path], max(float(rows[photo.path]["score"]), 1e-3))
        for photo in named
        if photo.path in vectors
    }
    return faces, failures, encoder


def _looked_at(
    known: TemplateList, asked: TemplateList, settings: EmbedSettings, notice: Notify, progress: OnProgress
) -> tuple[Faces, dict[str, str], str]:
    named = dict.fromkeys(photo for of in (*known.templates, *asked.templates) for photo in of.photos)
    placed = any(photo.box is not None for photo in named)
    settings = dataclasses.replace(settings, faces="all" if placed else "largest")
    models = loading.resolve_models(settings)
    photos = [photo_file(path) for path in dict.fromkeys(photo.path for photo in named)]
    looked = look(photos, settings, models, notice=notice, progress=progress)
    failures = {path: failure.reason for path, failure in looked.failures.items()}
    faces: dict[ListedPhoto, tuple[NDArray[np.float32], float]] = {}
    for photo in named:
        found = looked.faces.get(photo.path, [])
        meant = _meant(found, photo.box)
        if meant is not None:
            faces[photo] = (meant.embedding, max(float(meant.row["score"]), 1e-3))
        elif found:
            failures.setdefault(photo.path, "no face where the list says that one is")
    return faces, failures, models.encoder.spec.name


def _meant(faces: Sequence[LookedFace], box: Box | None) -> LookedFace | None:
    """The face at a place, or the largest where none is said."""
    if not faces or box is None:
        return faces[0] if faces else None
    overlaps = [_overlap(face.box, box) for face in faces]
    best = int(np.argmax(overlaps))
    return faces[best] if overlaps[best] >= _LEAST_OVERLAP else None


def _overlap(a: Box, b: Box) -> float:
    """Intersection over union of two boxes x, y, width, height."""
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    shared = max(width, 0.0) * max(height, 0.0)
    return shared / max(a[2] * a[3] + b[2] * b[3] - shared, 1e-9)
