"""Similarities of encoders on a pair list, kept in a folder: what makes `compare` resumable.

A file ``<encoder>-<key>.npz`` holds one encoder's similarities. The key is a digest of all that they depend on: the encoder's and
the aligner's files, how they are run, the pairs, and size and time of every photo. What has changed is another file.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import os
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from faceembed.engine.detect.kinds import least_score
from faceembed.engine.evaluate.pairs import PairList
from faceembed.engine.photos.photo_file import encode_path, photo_file
from faceembed.engine.pipeline import loading
from faceembed.engine.pipeline.encode import Encoder
from faceembed.engine.pipeline.settings import PREPROCESSING, EmbedSettings
from faceembed.errors import UsageError
from faceembed.files import atomic_write


@dataclasses.dataclass(frozen=True)
class Scores:
    """One encoder's similarities."""

    similarity: NDArray[np.float64]
    """(n,) cosines; -1 where a photo has no face."""
    failed: NDArray[np.bool_]
    """(n,) whether one of the pair's photos has no face."""
    failures: dict[str, str]
    """Photo to the reason why it has none."""
    several: int | None = None
    """Photos that show several faces; None in files of older versions."""
    qualities: dict[str, dict[str, float]] | None = None
    """Photo to its measures of quality (`few_photos.Embedded.quality`); None in files of older versions."""


class Store:
    """The similarities of one list in one folder.

    Args:
        folder: created if need be; None keeps nothing.
        pairs: the list.
        settings: aligner, sizes and runtime.

    Raises:
        UsageError: ``folder`` is a file.
    """

    def __init__(self, folder: str | os.PathLike[str] | None, pairs: PairList, settings: EmbedSettings) -> None:
        self.folder = None if folder is None else Path(folder)
        if self.folder is None:
            return
        if self.folder.exists() and not self.folder.is_dir():
            raise UsageError(f"--save {self.folder} is a file; give a folder")
        self.folder.mkdir(parents=True, exist_ok=True)
        aligner = loading.resolve_aligner(settings)
        least = least_score(aligner, settings.min_score) if aligner else 0.0
        looked_for = (
            settings.min_face,
            settings.detect_size,
            settings.max_pixels,
            settings.max_bytes,
            settings.photos_a_batch(),
            least,
        )
        self._common = hashlib.sha256(
            json.dumps([PREPROCESSING, aligner.spec.sha256 if aligner else "none", looked_for]).encode()
        )
        for photo in pairs.photos:
            self._common.update(f"{encode_path(photo)}\0{photo_file(photo).stamp}\n".encode())
        for pair in pairs:
            self._common.update(f"{encode_path(pair.path_a)}\0{encode_path(pair.path_b)}\n".encode())

    def load(self, encoder: Encoder) -> Scores | None:
        """What was kept; None where there is nothing, or it cannot be read."""
        if self.folder is None:
            return None
        try:
            with np.load(io.BytesIO(self._file(encoder).read_bytes()), allow_pickle=False) as kept:
                several = int(kept["several"]) if "several" in kept else None
                qualities = json.loads(str(kept["qualities"])) if "qualities" in kept else None
                failures = json.loads(str(kept["failures"]))
                return Scores(kept["similarity"], kept["failed"], failures, several, qualities)
        except (OSError, ValueError, KeyError, zipfile.BadZipFile):  # cut short or not ours: computed anew
            return None

    def save(self, encoder: Encoder, scores: Scores) -> None:
        """Keep similarities, complete or not at all.

        Raises:
            OSError: the file cannot be written.
        """
        if self.folder is None:
            return
        target = io.BytesIO()
        arrays: dict[str, Any] = {"similarity": scores.similarity, "failed": scores.failed}
        arrays["failures"] = np.array(json.dumps(scores.failures))
        if scores.several is not None:
            arrays["several"] = np.array(scores.several)
        if scores.qualities is not None:
            arrays["qualities"] = np.array(json.dumps(scores.qualities))
        np.savez(target, **arrays)
        with atomic_write(self._file(encoder)) as file:
            file.write(target.getvalue())

    def _file(self, encoder: Encoder) -> Path:
        assert self.folder is not None
        spec, choice = encoder.model.spec, encoder.choice
        key = self._common.copy()
        key.update(json.dumps([dataclasses.asdict(spec), choice.device, choice.runtime, choice.precision]).encode())
        name = re.sub(r"[^A-Za-z0-9._-]+", "_", spec.name)[:60]
        return self.folder / f"{name}-{key.hexdigest()[:16]}.npz"
