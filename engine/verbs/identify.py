"""The verb `identify`: who is on photos, where most people may be of no gallery."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from faceembed.engine.models.spec import ModelSpec
from faceembed.engine.people import enrolling
from faceembed.engine.people.gallery import Gallery, is_gallery, read_gallery
from faceembed.engine.people.open_set import OpenSetLimit, carried, open_set_limit
from faceembed.engine.people.templates import RULE, Templates, template
from faceembed.engine.photos.left_out import Choice
from faceembed.engine.photos.listing import list_photos
from faceembed.engine.photos.photo_file import printable
from faceembed.engine.pipeline import loading
from faceembed.engine.pipeline.looking import look
from faceembed.engine.pipeline.progress import Notify, OnProgress
from faceembed.engine.pipeline.settings import EmbedSettings
from faceembed.engine.verbs.gallery import enrolled_in_memory
from faceembed.errors import DataError


@dataclasses.dataclass(frozen=True)
class Candidate:
    """Somebody of the gallery, and how alike a face is to them."""

    name: str
    similarity: float


@dataclasses.dataclass(frozen=True)
class Identified:
    """One face."""

    face: int
    """Its number in its photo, the largest is 0."""
    box: tuple[float, float, float, float]
    """x, y, width, height; continuous pixels of the upright photo."""
    name: str | None
    """Whose it is; None: nobody's of the gallery."""
    candidates: tuple[Candidate, ...]
    """Those whom it is most alike to, most alike first, whatever the threshold."""


@dataclasses.dataclass(frozen=True)
class SeenPeople:
    """Who is on one photo."""

    path: str
    faces: tuple[Identified, ...]
    """Largest first."""
    reason: str | None = None
    """Why nobody was looked for."""


@dataclasses.dataclass(frozen=True)
class Identification:
    """The answer."""

    photos: list[SeenPeople]
    people: int
    """In the gallery, of whom a photo can be used."""
    limit: OpenSetLimit


class Identifier:
    """A gallery ready to be asked. May be used from several threads.

    Args:
        gallery: from `read_gallery`.
        spec: its encoder.
        fpir, threshold: as for `identify`.
        rule: how several photos become a template.
    """

    def __init__(
        self,
        gallery: Gallery,
        spec: ModelSpec,
        *,
        fpir: float | None = None,
        threshold: float | None = None,
        rule: str = RULE,
    ) -> None:
        people = [person for person in gallery.people.values() if person.usable]
        self.names = [person.name for person in people]
        self._templates = Templates([template(person.embeddings, person.quality, rule) for person in people])
        limit = open_set_limit(spec, people=len(people), fpir=fpir, threshold=threshold)
        photos = [person.embeddings for person in people]
        self.limit = carried(limit, spec, np.concatenate(photos), self._templates) if photos else limit

    def candidates(self, faces: NDArray[np.float32], *, k: int = 3) -> list[tuple[str | None, tuple[Candidate, ...]]]:
        """Whose each face is, and whom it is most alike to.

        Args:
            faces: float32 (F, D), unit length.
            k: candidates of each.
        """
        found: list[tuple[str | None, tuple[Candidate, ...]]] = []
        for row in self._templates.scores(faces):
            order = np.argsort(-row, kind="stable")[:k]
            best = tuple(Candidate(self.names[at], float(row[at])) for at in order.tolist())
            known = bool(best) and best[0].similarity >= self.limit.threshold
            found.append((best[0].name if known else None, best))
        return found


def identify(
    gallery: str | os.PathLike[str],
    photos: Sequence[str | os.PathLike[str]],
    *,
    settings: EmbedSettings | None = None,
    fpir: float | None = None,
    threshold: float | None = None,
    k: int = 3,
    several: str | None = None,
    exclude: Sequence[str] = (),
    include: Sequence[str] = (),
    pages: bool = False,
    fps: float | None = None,
    notice: Notify = lambda line: None,
    progress: OnProgress = lambda progress: None,
) -> Identification:
    """Who is on photos.

    Args:
        gallery: made by `enrol`; or a folder of people, or a table ``name,path``, which is enrolled in memory.
        photos: files, folders and lists of them.
        settings: models and runtime; None: the models that made the gallery. All faces are looked for, whatever it says.
        fpir: the share of strangers who may be given a name; None is 1 %. The threshold follows from it, the gallery's size and the
            rates that were measured for the encoder.
        threshold: a similarity instead.
        k: candidates of each face.
        several: of a folder of people, what becomes of photos with several faces.
        exclude: which files of folders are left out.
        include: which are taken all the same.
        pages: whether the further pages of TIFFs are photos too.
        fps: frames a second of videos that are photos; None: none.
        notice: called with lines for the user.
        progress: called after every batch.

    Raises:
        DataError: no such gallery, nobody in it, or no photos.
        IndexFormatError: the gallery is damaged, or another encoder's.
        UsageError: an encoder without thresholds by rate, and none was given.

    Example:
        faceembed.identify("staff.gallery", ["party/"]).photos[0].faces[0].name
    """
    choice = Choice(tuple(exclude), tuple(include), pages, fps)
    listing = list_photos(photos, choice=choice)
    for line in listing.remarks():
        notice(line)
    for path, reason in listing.failures:
        notice(f"{printable(path)}: {reason}")
    if not listing.photos:
        raise DataError("no photos in what was given")
    opened: Gallery
    if os.path.isdir(gallery) or (os.path.isfile(gallery) and not is_gallery(gallery) and _is_text(gallery)):
        settings = settings or EmbedSettings()
        opened = enrolled_in_memory(gallery, settings=settings, several=several, choice=choice, notice=notice)
    else:
        opened = read_gallery(gallery)
        settings = settings or enrolling.settings_of(opened, EmbedSettings())
    settings = dataclasses.replace(settings, faces="all")
    models = loading.resolve_models(settings)
    enrolling.check_models(opened, printable(os.fspath(gallery)), models, notice)
    asked = Identifier(opened, models.encoder.spec, fpir=fpir, threshold=threshold)
    if not asked.names:
        raise DataError(f"{printable(os.fspath(gallery))}: nobody in it has a photo that can be used")
    looked = look(listing.photos, settings, models, notice=notice, progress=progress)
    seen = {path: SeenPeople(path, (), failure.reason) for path, failure in looked.failures.items()}
    for path, faces in looked.faces.items():
        answers = asked.candidates(np.stack([face.embedding for face in faces]), k=k)
        named = zip(faces, answers, strict=True)
        found = [Identified(int(face.row["face"]), face.box, name, best) for face, (name, best) in named]
        seen[path] = SeenPeople(path, tuple(found))
    return Identification([seen[photo.path] for photo in listing.photos], len(asked.names), asked.limit)


def _is_text(path: str | os.PathLike[str]) -> bool:
    """Whether a file may be a table of people: no binary zero in its start, but for UTF-16."""
    with open(path, "rb") as file:
        head = file.read(4096)
    return b"\0" not in head or head[:2] in (b"\xff\xfe", b"\xfe\xff")
