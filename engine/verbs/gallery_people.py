"""The verbs of a gallery that look at no photo: who is in it, and what they are called.

    list_people("staff.gallery"); rename("staff.gallery", "ann", "Ann Lee"); remove("staff.gallery", ["bob"])
    split("staff.gallery", "ann", "Eve", ["/photos/2.jpg"])

Each exchanges the file whole or not at all, while no other process writes it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

from faceembed.engine.index.lock import writing
from faceembed.engine.people.gallery import Gallery, Person, Photo, check_alike, good_name, read_gallery, write_gallery
from faceembed.engine.photos.photo_file import printable
from faceembed.errors import DataError, UsageError

Source = str | os.PathLike[str]


def list_people(gallery: Source) -> list[Person]:
    """Who is in a gallery, by name.

    Raises:
        DataError, IndexFormatError: as `read_gallery`.
    """
    return list(read_gallery(gallery).people.values())


def add_photos(gallery: Source, name: str, photos: Sequence[Photo]) -> int:
    """Add photos of somebody that are embedded already; one that is in the gallery under that name is exchanged.

    Args:
        gallery: must be there.
        name: whose they are.
        photos: with embeddings of the gallery's encoder.

    Returns:
        How many photos of theirs can be used now.

    Raises:
        DataError: no such gallery.
        UsageError: the name is none, or differs from another in capitals or spaces alone.
    """
    clean = good_name(name, "the name")
    with changing(gallery) as (opened, write):
        kept = {(photo.person, photo.path): photo for photo in opened.photos}
        kept |= {(clean, photo.path): dataclasses.replace(photo, person=clean) for photo in photos}
        check_alike(dict.fromkeys(person for person, _ in kept))
        new = opened.with_photos(kept.values())
        write(new)
    return len(new.people[clean].usable)


def remove(gallery: Source, names: Sequence[str]) -> list[Person]:
    """Take people out, with all that is kept of them.

    Returns:
        Those who were taken out.

    Raises:
        DataError: no such gallery, or nobody of one of these names; then nothing was changed.
    """
    with changing(gallery) as (opened, write):
        gone = [_person(opened, name, gallery) for name in dict.fromkeys(names)]
        out = {person.name for person in gone}
        write(opened.with_photos(photo for photo in opened.photos if photo.person not in out))
    return gone


def rename(gallery: Source, name: str, new: str, *, merge: bool = False) -> None:
    """Call somebody by another name.

    Args:
        merge: whether they are put together with somebody who has that name already.

    Raises:
        DataError: no such gallery, or nobody of that name.
        UsageError: the new name is somebody else's, or is none.
    """
    new = good_name(new, "the new name")
    with changing(gallery) as (opened, write):
        old = _person(opened, name, gallery).name
        if new != old and not merge:
            _check_free(opened, new, gallery)
        named = [dataclasses.replace(p, person=new) if p.person == old else p for p in opened.photos]
        check_alike(dict.fromkeys(photo.person for photo in named))
        write(opened.with_photos(named))


def split(gallery: Source, name: str, new: str, paths: Collection[str], *, merge: bool = False) -> tuple[int, int]:
    """Give some of somebody's photos to somebody else, as where two people were taken for one.

    Args:
        new: whose they are.
        paths: of the photos, as text (`encode_path`).
        merge: whether there may be somebody of the new name already, to whose photos these are added.

    Returns:
        How many photos can be used now of the new name, and of the old one.

    Raises:
        DataError: no such gallery, nobody of that name, or a photo that is not theirs; then nothing was changed.
        UsageError: no photo, or all of them, or the new name is somebody else's, or is none.
    """
    new, wanted = good_name(new, "the new name"), set(paths)
    with changing(gallery) as (opened, write):
        person = _person(opened, name, gallery)
        called = printable(person.name)
        if missing := sorted(wanted - {photo.path for photo in person.photos}):
            raise DataError(
                f"{printable(os.fspath(gallery))}: '{called}' has no photo {printable(missing[0])}; see: faceembed gallery list --json"
            )
        if not wanted or len(wanted) == len(person.photos):
            which = "all photos" if wanted else "no photo"
            raise UsageError(f"{which} of '{called}' would go to '{printable(new)}'; name some of them, or rename")
        if new == person.name:
            raise UsageError(f"these photos are of '{called}' already; give another name")
        if not merge:
            _check_free(opened, new, gallery)
        moved = [
            dataclasses.replace(photo, person=new) if photo.person == person.name and photo.path in wanted else photo
            for photo in opened.photos
        ]
        check_alike(dict.fromkeys(photo.person for photo in moved))
        kept = {
            (photo.person, photo.path): photo for photo in moved
        }  # a photo that the other had already is there once
        changed = opened.with_photos(kept.values())
        write(changed)
    return len(changed.people[new].usable), len(changed.people[person.name].usable)


def _check_free(gallery: Gallery, name: str, path: Source) -> None:
    """Refuse a name that somebody has.

    Raises:
        UsageError: saying so.
    """
    if name in gallery.people:
        raise UsageError(
            f"{printable(os.fspath(path))} has somebody called '{printable(name)}' already; give another name, or --merge if they are one person"
        )


@contextlib.contextmanager
def changing(gallery: Source) -> Iterator[tuple[Gallery, Callable[[Gallery], None]]]:
    """A gallery that is there, held for the block, and what writes it anew."""
    read_gallery(gallery)  # before a lock is left where there is none
    with writing(Path(os.path.abspath(gallery))):
        yield read_gallery(gallery), lambda new: write_gallery(gallery, new)


def _person(gallery: Gallery, name: str, path: Source) -> Person:
    """Somebody by their name.

    Raises:
        DataError: nobody is called so.
    """
    wanted = good_name(name, "the name")
    if wanted in gallery.people:
        return gallery.people[wanted]
    near = difflib.get_close_matches(wanted, gallery.people, n=3, cutoff=0.5)
    said = " or ".join(f"'{printable(other)}'" for other in near)
    raise DataError(
        f"{printable(os.fspath(path))} has nobody called '{printable(wanted)}'"
        + (f"; did you mean {said}?" if near else "; see: faceembed gallery list")
    )
