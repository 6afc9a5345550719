"""Which file a crop goes to: readable, safe on every file system, and never one that is another photo's.

    <person>/<stem of the photo>.jpg
    <person>/<method>~<stem of the photo>.jpg      a fake

Letters, digits and a few signs stay as they are; any other byte becomes ``%XX``. Two photos of one stem, or of names that
differ in case alone, are told apart by ``~2``, ``~3``, in the order of their paths.
"""

from __future__ import annotations

import hashlib
import os
import unicodedata
from collections.abc import Iterable

from faceembed.trainer.data.samples import Sample

_SIGNS = frozenset("_-+=@,() .")
_LONGEST_BYTES = 180  # of a name; file systems end at 255


def safe_name(text: str) -> str:
    """A name for a file or folder; distinct texts give distinct names."""
    parts = []
    for place, char in enumerate(text):
        edge = char in " ." and (place == 0 or place == len(text) - 1)
        if (char.isalnum() or char in _SIGNS) and not edge:
            parts.append(char)
        else:
            parts.append("".join(f"%{byte:02X}" for byte in os.fsencode(char)))
    name = "".join(parts) or "%"
    if len(name.encode()) > _LONGEST_BYTES:
        digest = hashlib.sha256(os.fsencode(text)).hexdigest()[:16]
        name = name.encode()[: _LONGEST_BYTES - 17].decode(errors="ignore") + "%" + digest
    return name


class CropNames:
    """Gives names, each once.

    Args:
        suffix: ``.jpg`` or ``.png``.
        taken: names that are in use already.
    """

    def __init__(self, suffix: str, taken: Iterable[str] = ()) -> None:
        self._suffix = suffix
        self._taken = {_folded(name) for name in taken}

    def name(self, sample: Sample) -> str:
        """A path relative to the crop set for this photo's crop."""
        stem = safe_name(os.path.splitext(os.path.basename(sample.path))[0])
        if sample.fake:
            stem = f"{safe_name(sample.method)}~{stem}"
        base = os.path.join(safe_name(sample.person), stem)
        name, number = base + self._suffix, 1
        while _folded(name) in self._taken:
            number += 1
            name = f"{base}~{number}{self._suffix}"
        self._taken.add(_folded(name))
        return name


def _folded(name: str) -> str:
    """What a file system may take for the same name."""
    return unicodedata.normalize("NFKC", name).casefold()
