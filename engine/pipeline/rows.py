"""What a pipeline found, as rows of a table of faces."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from faceembed.engine.models.spec import ModelSpec
from faceembed.engine.photos.columns import column
from faceembed.engine.photos.photo_columns import PhotoColumns
from faceembed.engine.photos.rows import FACE_SCHEMA, file_columns
from faceembed.engine.pipeline.quality import percentile, pose
from faceembed.engine.pipeline.realness import realness

if TYPE_CHECKING:
    from faceembed.engine.pipeline.batches import Outcome


def face_rows(outcomes: Sequence[Outcome], spec: ModelSpec) -> tuple[pa.Table, NDArray[np.float32]]:
    """The faces of some batches that an encoder embedded, one at least, made column by column.

    Returns:
        A table of `FACE_SCHEMA`, whose ``face_id`` is given when the index is written; and float32 (F, D), row for row.
    """

    def joined(name: str) -> NDArray[Any]:
        return np.concatenate([getattr(outcome.faces, name) for outcome in outcomes])

    vectors, boxes, landmarks, sizes = (joined(name) for name in ("embeddings", "boxes", "landmarks", "sizes"))
    photos = PhotoColumns.joined(
        PhotoColumns.of(outcome.photos).take(outcome.faces.photo.tolist()) for outcome in outcomes
    )
    looks, norms = realness(vectors, spec), joined("norms")
    quality, (yaw, roll) = percentile(norms, spec), pose(landmarks)
    nothing = pa.nulls(len(photos), pa.float32())
    columns = {
        "face_id": np.full(len(photos), -1, np.int64),
        "face": joined("face"),
        "x": boxes[:, 0],
        "y": boxes[:, 1],
        "w": boxes[:, 2] - boxes[:, 0],
        "h": boxes[:, 3] - boxes[:, 1],
        "landmarks": pa.FixedSizeListArray.from_arrays(column(landmarks.ravel(), pa.float32()), 10),
        "score": joined("scores"),
        "norm": norms,
        "image_width": sizes[:, 0],
        "image_height": sizes[:, 1],
        **file_columns(photos),
        "real": nothing if looks is None else looks,
        "quality": nothing if quality is None else quality,
        "sharpness": pa.concat_arrays([_sharpness(outcome) for outcome in outcomes]),
        "yaw": yaw,
        "roll": roll,
        **dict.fromkeys(("first_ms", "last_ms"), pa.nulls(len(photos), pa.int64())),
        "frames": pa.nulls(len(photos), pa.int32()),
    }
    arrays = [column(columns[field.name], field.type) for field in FACE_SCHEMA]
    return pa.Table.from_arrays(arrays, schema=FACE_SCHEMA), vectors


def _sharpness(outcome: Outcome) -> pa.Array:
    """Of a batch's faces; null where their pixels were not on the host."""
    known = outcome.faces.sharpness
    return pa.nulls(len(outcome.faces.photo), pa.float32()) if known is None else column(known, pa.float32())
