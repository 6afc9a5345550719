"""The verbs of a gallery that look at photos: `enrol` people, `add` to them, `update` them all; `gallery_people` has the others.

    enrol(["people"], "staff.gallery")
    add("staff.gallery", ["new"])
    update("staff.gallery", settings=EmbedSettings(encoder="sface"))      # another encoder: photos again, names stay

A gallery is one file, exchanged whole or not at all, by one writer at a time.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

from faceembed.engine.evaluate.people_lists import PeopleList, read_people_list
from faceembed.engine.index.lock import writing
from faceembed.engine.people import enrolling
from faceembed.engine.people.conflicts import not_anothers, say_copies
from faceembed.engine.people.gallery import (
    SENT,
    Gallery,
    check_alike,
    good_name,
    read_gallery,
    write_gallery,
)
from faceembed.engine.people.partial import Partial
from faceembed.engine.people.resumed import embed_todo, unchanged
from faceembed.engine.photos.left_out import Choice
from faceembed.engine.photos.photo_file import decode_path, encode_path, printable
from faceembed.engine.photos.places import is_photo_file
from faceembed.engine.pipeline import loading
from faceembed.engine.pipeline.progress import Notify, OnProgress
from faceembed.engine.pipeline.settings import EmbedSettings
from faceembed.engine.verbs.gallery_people import changing
from faceembed.errors import DataError, UsageError
from faceembed.outputs import check_output

Source = str | os.PathLike[str]
_NOBODY_MISSING = "put them back, or leave them out with --drop-missing; nothing was changed"


@dataclasses.dataclass(frozen=True)
class GalleryReport:
    """What a gallery holds after a change; the fields of ``--json``."""

    gallery: str
    people: int
    photos: int
    """Photos that can be used."""
    added: int
    """Of them, those that this run looked at."""
    unusable: list[dict[str, str]]
    """Photos of these people that cannot be used: ``person``, ``path``, ``reason``."""
    without: list[str]
    """People of whom no photo can be used: nobody can be taken for them."""


def enrol(
    people: Source | Sequence[Source],
    output: Source,
    *,
    settings: EmbedSettings | None = None,
    several: str | None = None,
    min_quality: float | None = None,
    root: Source | None = None,
    choice: Choice | None = None,
    notice: Notify = lambda line: None,
    progress: OnProgress = lambda progress: None,
) -> GalleryReport:
    """Make a gallery of people, or add them to one that is there.

    Args:
        people: folders of people and tables ``name,path`` (`read_people_list`).
        output: the gallery. If it is there, people are added, and photos that are in it and have not changed are not computed again.
        settings: models and runtime; None: those that made the gallery, or the defaults for a new one.
        several: what becomes of a photo with several faces: ``refuse``, a row with the reason, or ``largest``. None: what the gallery was
            made with; ``refuse`` for a new one.
        min_quality: photos whose face has less are not used: the aligner's score, 0 to 1. None: what the gallery was made with, or 0.
        root: what a table's paths are relative to.
        choice: what is left out of folders and what is taken.
        notice: called with lines for the user.
        progress: called after every batch.

    Raises:
        DataError: nobody is in what was given, or none of its photos can be used; then nothing was written.
        UsageError: two people of one name, a name that is none, a file of that name that is no gallery, or another rule (``several``,
            ``min_quality``) than that of the photos that are there.
        IndexFormatError: the gallery is damaged, or another encoder's.
        IndexBusyError: another process is writing it.
    """
    sources = [people] if isinstance(people, str | os.PathLike) else list(people)
    enrolling.rule_of(None, several, min_quality)  # said before anything is read
    check_output(output, "gallery", sources)
    listed = _listed(sources, root, choice, notice)
    with writing(Path(os.path.abspath(output))):
        old = read_gallery(output) if os.path.exists(output) and os.path.getsize(output) else None
        rule = enrolling.rule_of(old, several, min_quality)
        return _enrolled(old, listed, output, settings, rule, notice, progress)


def add(gallery: Source, people: Source | Sequence[Source], **options: object) -> GalleryReport:
    """`enrol` into a gallery that must be there; arguments and errors otherwise the same.

    Raises:
        DataError: there is no such gallery.
    """
    read_gallery(gallery)
    return enrol(people, gallery, **options)  # type: ignore[arg-type]


def update(
    gallery: Source,
    *,
    settings: EmbedSettings | None = None,
    several: str | None = None,
    min_quality: float | None = None,
    drop_missing: bool = False,
    notice: Notify = lambda line: None,
    progress: OnProgress = lambda progress: None,
) -> GalleryReport:
    """Embed all photos of a gallery again, as after a change of encoder; names stay.

    Args:
        settings: the models from now on; None: the defaults.
        several, min_quality: the rule from now on, as for `enrol`; None: as it was.
        drop_missing: leave out photos that are gone or cannot be read; else they end the run and nothing is changed.
        notice: called with lines for the user.
        progress: called after every batch.

    Raises:
        DataError: no such gallery, or photos that could be used before and cannot be looked at any more.
    """
    settings = settings or EmbedSettings()
    with changing(gallery) as (opened, write):
        models = loading.resolve_models(settings)
        rule = enrolling.rule_of(opened, several, min_quality)
        listed = [(photo.person, decode_path(photo.path)) for photo in opened.photos]
        gone = [
            n for n, photo in enumerate(opened.photos) if photo.embedding is not None and not _readable(listed[n][1])
        ]
        sent = sum(listed[number][1].startswith(SENT) for number in gone)
        if sent and not drop_missing:
            raise DataError(
                f"{sent} of {len(listed)} photos, the first of '{printable(next(name for name, path in listed if path.startswith(SENT)))}', "
                "were sent to a server, which keeps none; leave them out with --drop-missing, and send them again; nothing was changed"
            )
        if gone and not drop_missing:
            raise DataError(
                f"{len(gone)} of {len(listed)} photos are gone or cannot be read, the first is {printable(listed[gone[0]][1])} of "
                f"'{printable(listed[gone[0]][0])}'; {_NOBODY_MISSING}"
            )
        listed = [entry for number, entry in enumerate(listed) if number not in set(gone)]
        photos = enrolling.embed_people(listed, settings, models, rule=rule, notice=notice, progress=progress)
        new = Gallery(enrolling.about_of(settings, models, rule), tuple(photos))
        _check_usable(new, os.fspath(gallery))
        write(new)
    return _report(gallery, new, {photo.person for photo in photos}, len(photos))


def enrolled_in_memory(
    people: Source,
    *,
    settings: EmbedSettings,
    several: str | None,
    choice: Choice | None,
    notice: Notify,
    progress: OnProgress = lambda progress: None,
) -> Gallery:
    """A gallery that is written nowhere; arguments and errors as for `enrol`."""
    listed = _listed([people], None, choice, notice)
    models = loading.resolve_models(settings)
    rule = enrolling.rule_of(None, several, None)
    photos = enrolling.embed_people(listed, settings, models, rule=rule, notice=notice, progress=progress)
    made = Gallery(enrolling.about_of(settings, models, rule), tuple(photos))
    _check_usable(made, os.fspath(people))
    for photo in photos:
        if photo.reason is not None:
            notice(f"{printable(decode_path(photo.path))}: {photo.reason}")
    return made


def _enrolled(
    old: Gallery | None,
    listed: Sequence[tuple[str, str]],
    output: Source,
    settings: EmbedSettings | None,
    rule: enrolling.Rule,
    notice: Notify,
    progress: OnProgress,
) -> GalleryReport:
    if old is not None and settings is None:
        settings = enrolling.settings_of(old, EmbedSettings())
    settings = settings or EmbedSettings()
    models = loading.resolve_models(settings)
    if old is not None:
        enrolling.check_models(old, printable(os.fspath(output)), models, notice)
        enrolling.check_rule(old, printable(os.fspath(output)), rule)
    known = {(photo.person, photo.path): photo for photo in (old.photos if old else ())}
    check_alike(dict.fromkeys([*(person for person, _ in known), *(person for person, _ in listed)]))
    listed = not_anothers(listed, known, notice)
    todo = [entry for entry in dict.fromkeys(listed) if not unchanged(known.get((entry[0], encode_path(entry[1]))))]
    about = {**enrolling.about_of(settings, models, rule), **(old.about if old else {})}  # one of before gets its rule
    work = Partial(output, about)
    fresh = embed_todo(todo, settings, models, rule, work, notice, progress)
    merged = {**known, **{(photo.person, photo.path): photo for photo in fresh}}
    new = Gallery(about, tuple(merged.values()))
    _check_usable(new, ", ".join(sorted({person for person, _ in listed})[:3]))
    say_copies(fresh, notice)
    write_gallery(output, new)
    work.end()
    return _report(output, new, {person for person, _ in listed}, len(fresh))


def _listed(
    sources: Sequence[Source], root: Source | None, choice: Choice | None, notice: Notify
) -> list[tuple[str, str]]:
    """Name and path of every photo, with names as they are kept."""
    places: dict[str, str] = {}
    found: list[tuple[str, str]] = []
    for source in sources:
        listed: PeopleList = read_people_list(source, root=root, choice=choice)
        for line in listed.remarks:
            notice(line)
        for name in listed.empty:
            notice(
                f"{printable(os.path.join(listed.source, name))}: no photo is in it, so nobody can be taken for them"
            )
        clean = {name: good_name(name, listed.source) for name in dict.fromkeys(name for name, _ in listed.photos)}
        for name, place in listed.places.items():
            if places.setdefault(clean[name], place) != place:
                raise UsageError(
                    f"{printable(places[clean[name]])} and {printable(place)} are two people of one name, or one person in two places; "
                    "rename one, or enrol them one after the other"
                )
        found += [(clean[name], path) for name, path in listed.photos]
    check_alike(dict.fromkeys(name for name, _ in found))
    return found


def _check_usable(gallery: Gallery, what: str) -> None:
    if any(photo.embedding is not None for photo in gallery.photos):
        return
    first = gallery.photos[0] if gallery.photos else None
    why = f"; the first is {printable(decode_path(first.path))}: {first.reason}" if first else ""
    raise DataError(f"{printable(what)}: none of {len(gallery.photos)} photos of people can be used{why}")


def _readable(path: str) -> bool:
    return is_photo_file(path) and (
        os.access(path, os.R_OK) or not os.path.exists(path)
    )  # the second of one in an archive


def _report(path: Source, gallery: Gallery, about: set[str], added: int) -> GalleryReport:
    people = gallery.people
    unusable = [
        {"person": photo.person, "path": photo.path, "reason": photo.reason}
        for photo in gallery.photos
        if photo.reason is not None and photo.person in about
    ]
    return GalleryReport(
        gallery=encode_path(os.fspath(path)),
        people=len(people),
        photos=sum(len(person.usable) for person in people.values()),
        added=added,
        unusable=unusable,
        without=[name for name, person in people.items() if not person.usable],
    )
