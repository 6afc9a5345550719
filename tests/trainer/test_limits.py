"""The trainer reads photos as the engine does: what is too large, gone or too much for memory is named, and ends no more than it must."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from faceembed.engine.models.spec import ModelSpec
from faceembed.engine.photos.failures import Failure
from faceembed.engine.photos.photo_file import PhotoFile, photo_file
from faceembed.engine.pipeline.settings import EmbedSettings
from faceembed.errors import DataError, PhotoError
from faceembed.trainer.aligner import faces
from faceembed.trainer.aligner.labels import LabelledPhoto, bytes_of, pixels_of
from faceembed.trainer.batches import dataset
from faceembed.trainer.data.fakes import imports
from faceembed.trainer.recipes.crops import Data

GIANT = 6 << 30


@pytest.fixture
def giant(tmp_path: Path) -> str:
    """A sparse file of 6 GiB that begins as a picture does."""
    path = tmp_path / "giant.jpg"
    with path.open("wb") as file:
        file.write(cv2.imencode(".jpg", np.full((40, 60, 3), 90, np.uint8))[1].tobytes())
        file.truncate(GIANT)
    return str(path)


def labelled(path: str) -> LabelledPhoto:
    none = np.zeros((0, 4), np.float32)
    return LabelledPhoto(path, "set", none, np.zeros((0, 5, 2), np.float32), none)


@pytest.mark.parametrize("read", [lambda path: bytes_of(path), lambda path: pixels_of(labelled(path))])
def test_a_labelled_photo_that_cannot_be_used_any_more_is_named(read: Callable[[str], Any], giant: str) -> None:
    for path, reason in ((giant, "6 GiB, over the limit"), (giant + ".gone", "No such file")):
        with pytest.raises(DataError, match=reason) as caught:
            read(path)
        assert path in str(caught.value) and "faceembed data faces" in str(caught.value)


def test_a_giant_is_no_fake_to_import(giant: str) -> None:
    assert imports._problem(giant).startswith("6 GiB, over the limit")


@pytest.fixture
def album(tmp_path: Path, make_faces: Callable[[Path, int], list[Path]]) -> list[PhotoFile]:
    return [photo_file(str(path)) for path in make_faces(tmp_path / "album", 6)]


def test_labels_are_made_of_what_fits(album: list[PhotoFile], giant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No memory for more than two photos at once, and none at all for the third one."""

    def label(detector: object, paths: Sequence[str], pixels: Sequence[object], **_: object) -> list[LabelledPhoto]:
        if len(paths) > 2 or album[2].path in paths:
            raise MemoryError
        return [labelled(path) for path in paths]

    monkeypatch.setattr(faces, "label", label)
    photos = [*album, photo_file(giant)]
    done, failed = faces._label_all([None], photos, "set", faces.TeacherSettings(), EmbedSettings())  # type: ignore[list-item]
    assert [photo.path for photo in done] == [photo.path for photo in album if photo is not album[2]]
    assert [(failure.photo, failure.stage) for failure in failed] == [(album[2], "memory"), (photos[-1], "read")]
    assert all(isinstance(failure, Failure) for failure in failed)


def test_a_crop_that_does_not_fit_is_left_out_or_named(
    make_crops: Callable[..., str], tiny: ModelSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    crops = dataset.open_crops(Data(crops=(make_crops("real", people=range(2), photos=2),)), tiny)
    cache = dataset.CropCache(crops, limit_mb=0)
    read = dataset.read_file

    def full(path: str) -> bytes:
        if path == crops.samples[1].path:
            raise PhotoError("memory", "out of memory: its bytes do not fit")
        return read(path)

    monkeypatch.setattr(dataset, "read_file", full)
    assert cache.unreadable(np.arange(len(crops)), threads=2) == {1: "out of memory: its bytes do not fit"}
    with pytest.raises(DataError, match=r"cannot be used \(out of memory"):
        cache[1]
