"""The Kryptonite challenge's answer: ``pair_id,similarity`` for a folder of ``<pair_id>/{0,1}.jpg``.

    report = write_submission("kryptonite/test", "submission.csv", settings=EmbedSettings(encoder="mine"))

Its training folder is read by `people.read_people` and, as a pair list, by `engine.evaluate.pair_formats.read_pairs`.
"""

from __future__ import annotations

import csv
import dataclasses
import os
from collections.abc import Callable
from typing import Any

from faceembed.engine.evaluate.pair_formats import read_pairs
from faceembed.engine.photos.photo_file import encode_path, printable
from faceembed.engine.pipeline.progress import Progress
from faceembed.engine.pipeline.settings import EmbedSettings
from faceembed.engine.verbs.evaluate import similarities
from faceembed.errors import DataError, PairListError
from faceembed.files import atomic_write
from faceembed.outputs import check_output

HEADER = ("pair_id", "similarity")


@dataclasses.dataclass(frozen=True)
class SubmissionReport:
    """What was written; the fields of ``data submission --json``."""

    pairs: int
    failed_pairs: int
    """Pairs with a photo that has no face or cannot be read: they score -1."""
    failures: dict[str, str]
    """Photo to reason."""
    encoder: str
    output: str

    def to_json_dict(self) -> dict[str, Any]:
        """As a plain dictionary."""
        return dataclasses.asdict(self)


def write_submission(
    folder: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    settings: EmbedSettings | None = None,
    notice: Callable[[str], None] = lambda line: None,
    progress: Callable[[Progress], None] = lambda progress: None,
) -> SubmissionReport:
    """Score a test folder and write one row a pair, in the natural order of the pairs' numbers.

    Args:
        folder: holds ``<pair_id>/{0,1}.jpg``, itself or in ``images``.
        output: the CSV file.
        settings: models and runtime.
        notice, progress: called with lines for the user, and after every batch.

    Raises:
        PairListError: it is not such a folder.
        DataError: no pair could be scored.
    """
    pairs = read_pairs(folder)
    if any(pair.pair_id is None for pair in pairs):
        raise PairListError(
            f"{printable(os.fspath(folder))} is not a test folder of the challenge; expected <pair_id>/0.jpg and 1.jpg"
        )
    similarity, failed, embedded = similarities(pairs, settings=settings, notice=notice, progress=progress)
    if failed.all():
        photo, reason = next(iter(embedded.failures.items()))
        raise DataError(
            f"{printable(os.fspath(folder))}: not one of {len(pairs):,} pairs could be scored ({printable(photo)}: {reason})"
        )
    check_output(output, "answer")
    with atomic_write(output, "w") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(HEADER)
        for pair, score in zip(pairs, similarity.tolist(), strict=True):
            writer.writerow((encode_path(str(pair.pair_id)), f"{score:.8f}"))
    return SubmissionReport(
        len(pairs), int(failed.sum()), embedded.failures, embedded.encoder, os.path.abspath(os.fspath(output))
    )
