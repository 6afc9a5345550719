"""What `data clean` found, applied: its manifest says of each photo whether it is kept."""

from __future__ import annotations

import dataclasses
import os

from faceembed.engine.errors import DataError, IndexFormatError
from faceembed.engine.photos import decode_path, printable
from faceembed.engine.rows import read_parquet
from faceembed.trainer.data.people import People

COLUMNS = ("photo", "person", "kept", "reason")


def keep_clean(people: People, manifest: str | os.PathLike[str]) -> People:
    """Leave out the photos that a manifest does not keep. Fakes are not in a manifest, and stay.

    Args:
        people: their photos are found in the manifest by path.
        manifest: parquet with the columns ``photo``, ``person``, ``kept`` and ``reason``.

    Raises:
        DataError: it cannot be read, it says nothing of some of the photos, or it leaves nobody.
    """
    where = printable(os.fspath(manifest))
    try:
        table = read_parquet(manifest, COLUMNS, advice="run data clean again")
    except IndexFormatError as error:
        raise DataError(str(error)) from error
    photos = [decode_path(photo) for photo in table.column("photo").to_pylist()]
    kept = dict(zip(photos, table.column("kept").to_pylist(), strict=True))
    real = [sample for sample in people.samples if not sample.fake]
    if unknown := [sample.path for sample in real if sample.path not in kept]:
        raise DataError(
            f"{where} says nothing of {len(unknown):,} of {len(real):,} photos, the first is {printable(unknown[0])}; "
            "is it the manifest of these people? Run data clean again if photos were added"
        )
    samples = tuple(sample for sample in people.samples if sample.fake or kept[sample.path])
    removed = len(people.samples) - len(samples)
    if removed == len(real):
        raise DataError(f"{where} keeps none of {len(real):,} photos")
    note = f"{removed:,} of {len(real):,} photos were left out, as {where} does not keep them"
    return dataclasses.replace(people, samples=samples, notes=(*people.notes, note))
