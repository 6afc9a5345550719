"""One photo under two names: in a list, between a list and a gallery, or as two files of the same bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from faceembed.engine.people.gallery import Photo
from faceembed.engine.photos.photo_file import decode_path, encode_path, printable
from faceembed.engine.pipeline.progress import Notify
from faceembed.errors import UsageError


def not_anothers(
    listed: Sequence[tuple[str, str]], known: Mapping[tuple[str, str], Photo], notice: Notify
) -> list[tuple[str, str]]:
    """The list without photos that the gallery has under another name, where they were renamed, merged or moved: they stay so.

    Raises:
        UsageError: the list itself has one photo under two names.
    """
    named: dict[str, str] = {}
    for person, path in listed:
        if named.setdefault(path, person) != person:
            raise UsageError(
                f"{printable(path)} is of '{printable(named[path])}' and of '{printable(person)}'; a photo of somebody shows one person: "
                "crop it, or correct the list"
            )
    owners = {path: person for person, path in known}
    kept = [(person, path) for person, path in listed if owners.get(encode_path(path), person) == person]
    others = [entry for entry in listed if entry not in set(kept)]
    if others:
        person, path = others[0]
        notice(
            f"{len(others):,} photos are in the gallery under another name and stay so, the first is {printable(path)}: "
            f"'{printable(owners[encode_path(path)])}', here '{printable(person)}'"
        )
    return kept


def say_copies(photos: Sequence[Photo], notice: Notify) -> None:
    """One file under two names: one of them is wrong, and who looks so is taken for either."""
    first: dict[str, Photo] = {}
    for photo in photos:
        other = first.setdefault(str(photo.row["digest"]), photo) if photo.row.get("digest") else photo
        if other.person != photo.person and photo.embedding is not None:
            notice(
                f"{printable(decode_path(photo.path))} of '{printable(photo.person)}' is the very photo "
                f"{printable(decode_path(other.path))} of '{printable(other.person)}'; one of the names is wrong"
            )
