"""Sentences that several commands say in the same words."""

from __future__ import annotations

from collections.abc import Sequence

from faceembed.engine.photos.photo_file import printable


def largest_taken(photos: Sequence[str], faces: Sequence[int], advice: str = "") -> list[str]:
    """A line for each photo that has several faces, of which the largest was taken.

    Args:
        photos: paths.
        faces: how many faces each has.
        advice: what else could be done.
    """
    return [
        f"{printable(photo)} has {found} faces, and the largest was taken{advice}"
        for photo, found in zip(photos, faces, strict=True)
        if found > 1
    ]


def several_taken(count: int, advice: str = "") -> list[str]:
    """A line where photos show several faces, of which the largest was taken; ``advice`` is what else could be done."""
    shown = "1 photo shows" if count == 1 else f"{count:,} photos show"
    return [f"{shown} several faces; the largest was taken{advice}"] if count else []


def people(count: int) -> str:
    """So many people."""
    return "1 person" if count == 1 else f"{count:,} people"


def photos(count: int) -> str:
    """So many photos."""
    return "1 photo" if count == 1 else f"{count:,} photos"


def altered(real: float | None, so: bool | None) -> str:
    """Of a face that looks altered, how real it looks; else nothing."""
    return f"looks altered: {real:.2f}" if so and real is not None else ""


def likeness(identity: float | None, real: Sequence[float | None] | None) -> list[str]:
    """A line about two faces, where the encoder has a gate: how alike they are as people, and how real they look."""
    if identity is None or real is None:
        return []
    figures = " and ".join("?" if one is None else f"{one:.2f}" for one in real)
    return [f"by identity alone: {identity:.4f}; how real the faces look: {figures}"]


def moment(milliseconds: int) -> str:
    """A time in a video: ``0:05``, ``1:02:03``, to the second below."""
    minutes, seconds = divmod(milliseconds // 1000, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
