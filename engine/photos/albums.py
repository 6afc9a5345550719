"""Names of people that programs keep in files beside photos, in forms of their own: Picasa's ``.picasa.ini`` and Google Takeout's JSON.

    picasa_regions("IMG.jpg", contacts, orientation)      # names and places
    takeout_names("IMG.jpg")                              # names alone: nobody says whose face is where

Picasa's rectangles are of the picture as it is stored: ``rect64(hex)`` is left, top, right and bottom, four hexadecimal digits each, as shares of
65,535; leading zeros are left away. Names are behind a contact's number: in the ini's own ``[Contacts2]``, or in Picasa's ``contacts.xml``.
Takeout writes ``IMG.jpg.supplemental-metadata.json``, whose middle it cuts where the name grows long, and older ones ``IMG.jpg.json``; which photo
one is of, its ``title`` says.
"""

from __future__ import annotations

import json
import os
import re
import xml.etree.ElementTree as xml
from collections.abc import Mapping

from faceembed.engine.photos.turning import Region, turned
from faceembed.errors import DataError

_INI = (".picasa.ini", "Picasa.ini")
_FACE = re.compile(r"rect64\(([0-9a-fA-F]{1,16})\)\s*,\s*([0-9a-fA-F]+)")
_WHOLE = 65_535
_LARGEST = 16 << 20  # bytes of such a file
_KEPT = 46  # characters of a photo's name that Takeout keeps at least


def read_contacts(path: str | os.PathLike[str]) -> dict[str, str]:
    """Number of a contact to a name, from Picasa's ``contacts.xml``.

    Raises:
        DataError: it is no such file.
        OSError: it cannot be read.
    """
    data = _read(os.fspath(path))
    try:
        if b"<!ENTITY" in data:
            raise ValueError("it defines entities")
        root = xml.fromstring(data)
    except (xml.ParseError, ValueError, LookupError) as error:
        raise DataError(f"{os.fspath(path)} is no contacts.xml of Picasa ({str(error)[:80]})") from error
    found = {_number(one.get("id", "")): one.get("name") or one.get("display") or "" for one in root.iter("contact")}
    if not found:
        raise DataError(f"{os.fspath(path)} is no contacts.xml of Picasa (it has no contacts)")
    return {number: name.strip() for number, name in found.items() if name.strip()}


def picasa_regions(path: str, contacts: Mapping[str, str], orientation: int) -> tuple[list[Region], list[str]]:
    """The named faces that Picasa noted of a photo in its folder's ini.

    Args:
        path: of the photo.
        contacts: names by contact, from `read_contacts`; those in the ini itself go first.
        orientation: EXIF's, 1 to 8.

    Returns:
        The regions; and what was left out and why.
    """
    folder, name = os.path.split(path)
    text = next((read for ini in _INI if (read := _text(os.path.join(folder, ini))) is not None), None)
    if text is None:
        return [], []
    sections = _sections(text)
    known = {**contacts, **{_number(key): value.split(";")[0].strip() for key, value in _contacts(sections).items()}}
    found: list[Region] = []
    nameless = 0
    for rect, contact in _FACE.findall(sections.get(name, sections.get(name.lower(), {})).get("faces", "")):
        number = _number(contact)
        if not number.strip("f"):
            continue  # a face that nobody named
        if not known.get(number):
            nameless += 1
            continue
        digits = rect.zfill(16)
        left, top, right, bottom = (int(digits[at : at + 4], 16) / _WHOLE for at in range(0, 16, 4))
        if left < right and top < bottom:
            box = ((left + right) / 2, (top + bottom) / 2, right - left, bottom - top)
            found.append(Region(known[number], turned(box, orientation)))
    missing = f"{nameless} of its faces in Picasa's ini have names in contacts.xml alone; give it with --contacts"
    return found, [missing] if nameless else []


def _sections(text: str) -> dict[str, dict[str, str]]:
    """An ini's sections; by hand, as file names have brackets and percent signs, and keys may be there twice."""
    sections: dict[str, dict[str, str]] = {}
    current: dict[str, str] = {}
    for line in text.splitlines():
        if line.startswith("[") and line.rstrip().endswith("]"):
            current = sections.setdefault(line.strip()[1:-1], {})
            sections.setdefault(line.strip()[1:-1].lower(), current)
        elif "=" in line:
            key, _, value = line.partition("=")
            current[key.strip().lower()] = value.strip()
    return sections


def _contacts(sections: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    return {**sections.get("Contacts", {}), **sections.get("Contacts2", {})}


def _number(text: str) -> str:
    return text.strip().lower().lstrip("0")


def takeout_names(path: str) -> list[str]:
    """Who is on a photo, as Google Photos' export says; no places."""
    folder, name = os.path.split(path)
    try:
        beside = [entry for entry in os.listdir(folder or ".") if entry.endswith(".json")]
    except OSError:
        return []
    for entry in sorted(beside):
        if not entry.startswith(name[:_KEPT]):
            continue
        try:
            document = json.loads(_text(os.path.join(folder, entry)) or "")
        except (ValueError, RecursionError):
            continue
        if isinstance(document, dict) and document.get("title") == name and isinstance(document.get("people"), list):
            names = [str(one.get("name", "")).strip() for one in document["people"] if isinstance(one, dict)]
            return [one for one in dict.fromkeys(names) if one]
    return []


def _text(path: str) -> str | None:
    """A small file's text; None where there is none."""
    try:
        return _read(path).decode("utf-8-sig", "replace")
    except OSError:
        return None


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read(_LARGEST)
