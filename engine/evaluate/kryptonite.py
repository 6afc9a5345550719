"""The folders of the Kryptonite challenge, and the trap in them: keys are zero-padded in one place and not in another.

    train/images/<label>/<i>.jpg, train/meta.json    {"<label>/<i>.jpg": 0 real | 1 fake of that label's person}
    test/images/<pair_id>/{0,1}.jpg                  pairs without labels

Labels and photos are compared as numbers where they are numbers: ``0001/03.jpg`` and ``1/3.jpg`` are one photo.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable

from faceembed.errors import PairListError

PHOTO_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")


def real_and_fake(folder: str) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Photos by normalised label, real ones (0 in ``meta.json``) and fakes (1).

    Args:
        folder: holds ``images`` and ``meta.json``.

    Raises:
        PairListError: the two do not fit together, or one cannot be read.
    """
    where = os.path.join(folder, "meta.json")
    try:
        with open(where, encoding="utf-8-sig") as file:
            meta = json.load(file)
    except (OSError, ValueError) as error:
        raise PairListError(f"{where}: cannot be read as JSON ({error})") from error
    if not isinstance(meta, dict):
        raise PairListError(f'{where}: expected an object such as {{"0001/3.jpg": 0}}, got {type(meta).__name__}')
    images = os.path.join(folder, "images")
    on_disk: dict[str, dict[str, str]] = {}
    for name in folders_in(images):
        if (label := _unpadded(name)) in on_disk:
            raise PairListError(f"{images}: '{name}' and another folder are the same label but for leading zeros")
        on_disk[label] = photos_in(os.path.join(images, name))
    unlisted = {(label, index) for label, photos in on_disk.items() for index in photos}
    real: dict[str, list[str]] = {}
    fake: dict[str, list[str]] = {}
    for key, value in sorted(meta.items(), key=lambda item: natural(item[0])):
        label, _, name = key.replace("\\", "/").removeprefix("images/").partition("/")
        spot = (_unpadded(label), _unpadded(os.path.splitext(name)[0]))
        photo = on_disk.get(spot[0], {}).get(spot[1])
        if photo is None:
            raise PairListError(f"{where}: no photo in {images} for {key!r}; is the data set unpacked completely?")
        if str(value) not in ("0", "1"):
            raise PairListError(f"{where}: {key!r} is {value!r}; expected 0 (real) or 1 (fake)")
        if spot not in unlisted:
            raise PairListError(f"{where}: {key!r} is listed twice, with and without leading zeros")
        unlisted.remove(spot)
        (fake if str(value) == "1" else real).setdefault(spot[0], []).append(photo)
    if unlisted:
        label, index = min(unlisted)
        raise PairListError(
            f"{where}: {len(unlisted)} photos are not listed, one is {on_disk[label][index]!r}; add them as 0 or 1"
        )
    return real, fake


def folders_in(folder: str) -> list[str]:
    """The names of a folder's folders, in natural order; hidden ones are left out."""
    names = [entry.name for entry in _scan(folder) if entry.is_dir() and not entry.name.startswith(".")]
    return sorted(names, key=natural)


def photos_in(folder: str) -> dict[str, str]:
    """Normalised stem to path, in natural order."""
    found: dict[str, str] = {}
    for entry in sorted(_scan(folder), key=lambda entry: natural(entry.name)):
        stem, suffix = os.path.splitext(entry.name)
        if suffix.lower() in PHOTO_SUFFIXES and not stem.startswith("."):
            if (index := _unpadded(stem)) in found:
                raise PairListError(
                    f"{folder}: '{entry.name}' and {found[index]!r} are the same photo but for leading zeros"
                )
            found[index] = entry.path
    return found


def _scan(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        raise PairListError(f"{folder}: cannot list the folder ({error.strerror})") from error


def _unpadded(name: str) -> str:
    return str(int(name)) if name.isascii() and name.isdigit() else name


def natural(name: str) -> tuple[tuple[int, int, str], ...]:
    """Sort key under which 2 comes before 10."""
    parts: Iterable[str] = re.findall(r"[0-9]+|[^0-9]+", name)
    return tuple((0, int(part), part) if part[0] in "0123456789" else (1, 0, part) for part in parts)
