"""Photos in memory give what the pipeline gives for files, and what cannot be served is refused."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from faceembed.engine.photos.listing import list_photos
from faceembed.engine.pipeline.batches import Pipeline
from faceembed.engine.pipeline.serving import Embedder, open_embedder
from faceembed.engine.pipeline.settings import EmbedSettings
from faceembed.engine.runtimes.choose import RuntimeSettings
from faceembed.errors import DeviceError, PhotoError


def test_the_same_as_from_files(
    pipeline: Pipeline, make_faces: Callable[[Path, int], list[Path]], tmp_path: Path, astronaut: NDArray[np.uint8]
) -> None:
    make_faces(tmp_path, 3)
    cv2.imwrite(str(tmp_path / "0003.png"), np.full((90, 120, 3), 255, np.uint8))
    (tmp_path / "0004.jpg").write_bytes((tmp_path / "0000.jpg").read_bytes()[:700])
    listed = list_photos([tmp_path]).photos
    (outcome,) = pipeline.run(listed)
    embedder = Embedder.of(pipeline)
    seen = embedder.embed([embedder.take(Path(photo.path).read_bytes()) for photo in listed])
    assert len(seen) == 5
    for number in range(3):
        (face,) = seen[number].faces
        (row,) = np.flatnonzero(outcome.faces.photo == number)
        left, top, right, bottom = outcome.faces.boxes[row]
        np.testing.assert_allclose(face.embedding, outcome.faces.embeddings[row], atol=1e-5)
        np.testing.assert_allclose(face.box, (left, top, right - left, bottom - top), atol=1e-3)
        assert (seen[number].width, seen[number].height) == tuple(outcome.faces.sizes[row])
        assert (seen[number].chosen, seen[number].reason) == (0, None)
        assert face.chip.shape == (*embedder.spec.input_size, 3)
    blank, damaged = seen[3:]
    assert (blank.width, blank.height, blank.faces, blank.chosen, blank.stage) == (120, 90, (), None, "detect")
    assert blank.reason and "no face" in blank.reason
    assert (damaged.width, damaged.height, damaged.stage) == (0, 0, "decode")


def test_the_most_prominent_face_is_chosen(pipeline: Pipeline, astronaut: NDArray[np.uint8]) -> None:
    """A face in the middle goes before a somewhat larger one in the corner."""
    head = astronaut[0:240, 110:350]
    picture = np.full((720, 960, 3), 128, np.uint8)
    picture[240:480, 360:600] = head
    picture[460:720, 700:960] = cv2.resize(head, (260, 260))
    every = Pipeline(
        dataclasses.replace(pipeline.settings, faces="all"), pipeline.detector, pipeline.encoder, workers=1
    )
    embedder = Embedder.of(every)
    data = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1].tobytes()
    (seen,) = embedder.embed([embedder.take(data)])
    assert len(seen.faces) == 2
    assert seen.faces[0].box[0] > 600
    assert seen.chosen == 1


def test_what_is_no_photo_is_refused_before_anything_is_decoded(pipeline: Pipeline) -> None:
    with pytest.raises(PhotoError, match="text"):
        Embedder.of(pipeline).take(b"just text")


def test_a_card_is_refused_in_words() -> None:
    with pytest.raises(DeviceError, match="--device cpu"):
        open_embedder(EmbedSettings(runtime=RuntimeSettings(device="cuda")))
