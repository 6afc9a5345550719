"""How far a dataset is: `faceembed status FOLDER/`, beside whoever writes it."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

from faceembed.engine.distribute.dataset import fingerprint_of, read_footer, read_manifest
from faceembed.engine.distribute.plan import read_plan
from faceembed.engine.distribute.store import Access, Store
from faceembed.engine.photos.photo_file import encode_path
from faceembed.errors import DataError


@dataclasses.dataclass(frozen=True)
class Status:
    """How far a dataset is; the fields of ``status --json``."""

    photos: int
    done: int
    """Photos in shards that are there."""
    to_do: int
    faces: int
    no_face: int
    failed: int
    shards: int
    shards_done: int
    photos_per_second: float
    """Over the last shards that came; 0 where none came in the last ten minutes."""
    seconds_left: float | None
    dataset: str

    def to_json_dict(self) -> dict[str, Any]:
        """As plain types; paths are valid UTF-8."""
        return {**dataclasses.asdict(self), "dataset": encode_path(self.dataset)}


def status(output: str, *, access: Access | None = None) -> Status:
    """How far a dataset is, from what lies there: it may be written meanwhile, by anybody.

    Raises:
        DataError: there is none.
        IndexFormatError: it is damaged.
    """
    store = Store.of(output, access or Access())
    manifest = read_manifest(store)
    if manifest is None:
        raise DataError(f"no dataset at {output}; make one with: faceembed embed PHOTOS -o {output}")
    tasks = read_plan(store, fingerprint_of(manifest))
    times = store.times("shards")
    footers = {t.shard: f for t in tasks if f"{t.shard}.parquet" in times and (f := read_footer(store, t.shard))}
    recent = sorted((times[f"{shard}.parquet"], footer.photos) for shard, footer in footers.items())
    recent = [(when, photos) for when, photos in recent if when > time.time() - 600]
    span = recent[-1][0] - recent[0][0] if len(recent) > 1 else 0.0
    rate = sum(photos for _, photos in recent[1:]) / span if span > 0 else 0.0
    done = sum(footer.photos for footer in footers.values())
    left = tasks.photos - done
    no_face = sum(f.no_face for f in footers.values())
    return Status(
        photos=tasks.photos,
        done=done,
        to_do=left,
        faces=sum(f.faces for f in footers.values()),
        no_face=no_face,
        failed=sum(f.failures for f in footers.values()) - no_face,
        shards=len(tasks),
        shards_done=len(footers),
        photos_per_second=round(rate, 2),
        seconds_left=0.0 if not left else round(left / rate, 1) if rate else None,
        dataset=output,
    )
