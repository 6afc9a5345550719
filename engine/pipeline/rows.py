"""What a pipeline found, as rows of a table of faces."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from faceembed.engine.models.spec import ModelSpec
from faceembed.engine.photos.columns import column
from faceembed.engine.photos.rows import FACE_SCHEMA, file_columns
from faceembed.engine.pipeline.quality import percentile, pose
from faceembed.engine.pipeline.realness import realness

if TYPE_CHECKING:
    from faceembed.engine.pipeline.batches import Outcome


def face_rows(outcome: Outcome, spec: ModelSpec) -> pa.Table:
    """The rows of a batch that an encoder embedded; ``face_id`` is given when the index is written."""
    looks = realness(outcome.faces.embeddings, spec)
    faces = outcome.faces
    nothing = [None] * len(faces.photo)
    quality, (yaw, roll) = percentile(faces.norms, spec), pose(faces.landmarks)
    photos = [outcome.photos[index] for index in faces.photo.tolist()]
    columns = {
        "face_id": np.full(len(photos), -1, np.int64),
        "face": faces.face,
        "x": faces.boxes[:, 0],
        "y": faces.boxes[:, 1],
        "w": faces.boxes[:, 2] - faces.boxes[:, 0],
        "h": faces.boxes[:, 3] - faces.boxes[:, 1],
        "landmarks": pa.FixedSizeListArray.from_arrays(column(faces.landmarks.ravel(), pa.float32()), 10),
        "score": faces.scores,
        "norm": faces.norms,
        "image_width": faces.sizes[:, 0],
        "image_height": faces.sizes[:, 1],
        **file_columns(photos),
        "real": nothing if looks is None else looks,
        "quality": nothing if quality is None else quality,
        "sharpness": nothing if faces.sharpness is None else faces.sharpness,
        "yaw": yaw,
        "roll": roll,
    }
    arrays = [column(columns[field.name], field.type) for field in FACE_SCHEMA]
    return pa.Table.from_arrays(arrays, schema=FACE_SCHEMA)
