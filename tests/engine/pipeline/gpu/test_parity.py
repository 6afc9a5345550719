"""The DALI path on its CPU backend against the OpenCV path, on real photos: the same faces, and cosines of at least 0.999."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from faceembed.engine.detect.interface import Detector
from faceembed.engine.detect.oneshot import OneShotDetector
from faceembed.engine.models.registry import resolve
from faceembed.engine.models.spec import Model
from faceembed.engine.parity.detectors import admit
from faceembed.engine.photos.listing import list_photos
from faceembed.engine.pipeline.batches import Pipeline
from faceembed.engine.pipeline.encode import Encoder
from faceembed.engine.pipeline.gpu.cpu import CpuBackend
from faceembed.engine.pipeline.gpu.detect import DeviceOneShotDetector
from faceembed.engine.pipeline.gpu.pipeline import DevicePipeline
from faceembed.engine.pipeline.settings import EmbedSettings
from faceembed.errors import ModelError
from tests.engine.pipeline.gpu.conftest import CHOICE, OnHost, faces_of, failures_of

SETTINGS = EmbedSettings(batch_size=16)


@pytest.fixture(scope="module")
def encoder(encoder_model: Model) -> Encoder:
    """The default encoder in ONNX Runtime."""
    return Encoder(encoder_model, CHOICE, threads=2)


def compare(paths: list[Path], host: Pipeline, device: Pipeline, *, most_lost: int = 0) -> np.ndarray:
    photos = list_photos(paths).photos
    expected, got = list(host.run(photos)), list(device.run(photos))
    assert [photo.path for outcome in got for photo in outcome.photos] == [photo.path for photo in photos]
    ours, theirs = faces_of(got), faces_of(expected)
    assert len(set(ours) ^ set(theirs)) <= most_lost
    both = sorted(set(ours) & set(theirs))
    for path in both:
        assert ours[path].size == theirs[path].size
    if not most_lost:
        assert failures_of(got).keys() == failures_of(expected).keys()
    return np.array([ours[path].embedding @ theirs[path].embedding for path in both])


@pytest.mark.data
def test_decoding_warping_and_encoding(
    wild: list[Path], encoder: Encoder, backend: CpuBackend, pipeline: Pipeline
) -> None:
    """With one detector for both, the default one."""
    detector = pipeline.detector
    assert detector is not None
    device = DevicePipeline(SETTINGS, OnHost(detector), encoder, backend, memory=1 << 30)
    cosines = compare(wild[:24], Pipeline(SETTINGS, detector, encoder, workers=2), device)
    assert len(cosines) >= 20
    assert cosines.min() >= 0.999


@pytest.fixture(scope="module")
def aligner() -> Model:
    """The one-shot aligner that comes with the package."""
    try:
        return resolve("faceembed-align", task="aligner")
    except ModelError as error:
        pytest.skip(str(error))


@pytest.mark.data
def test_the_whole_path(wild: list[Path], encoder: Encoder, backend: CpuBackend, aligner: Model) -> None:
    host = Pipeline(SETTINGS, OneShotDetector(aligner, CHOICE, threads=2), encoder, workers=2)
    device = DevicePipeline(SETTINGS, DeviceOneShotDetector(aligner, CHOICE, backend), encoder, backend, memory=1 << 30)
    cosines = compare(wild[:32], host, device)
    assert len(cosines) >= 28
    assert cosines.min() >= 0.999


@pytest.mark.data
def test_orientations(
    wild: list[Path], tmp_path: Path, encoder: Encoder, backend: CpuBackend, pipeline: Pipeline
) -> None:
    """One real photo stored in all eight ways of EXIF gives one embedding, on both paths."""
    turns = {2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE"}
    turns |= {6: "ROTATE_90", 7: "TRANSVERSE", 8: "ROTATE_270"}
    with Image.open(wild[0]) as image:
        upright = image.convert("RGB")
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[274] = orientation
        stored = upright.transpose(Image.Transpose[turns[orientation]]) if orientation > 1 else upright
        stored.save(tmp_path / f"{orientation}.jpg", exif=exif, quality=97, subsampling=0)
    assert pipeline.detector is not None
    device = DevicePipeline(SETTINGS, OnHost(pipeline.detector), encoder, backend, memory=1 << 30)
    faces = faces_of(list(device.run(list_photos([tmp_path]).photos)))
    assert len(faces) == 8
    vectors = np.array([faces[path].embedding for path in sorted(faces)])
    assert (vectors @ vectors[0]).min() > 0.99


def test_white_squares_are_found_where_they_are(
    white_cells: Model, tmp_path: Path, backend: CpuBackend, tiny_encoder: Model
) -> None:
    """The looks, coordinates and owners of the device's detector, with a network whose answers are known."""
    photos = {"a.png": (200, 300, [(32, 64, 32)]), "b.png": (400, 260, [(96, 160, 64)]), "c.png": (100, 100, [])}
    for name, (height, width, squares) in photos.items():
        pixels = np.zeros((height, width, 3), np.uint8)
        for left, top, side in squares:
            pixels[top : top + side, left : left + side] = 255
        cv2.imwrite(str(tmp_path / name), pixels)
    for faces in ("largest", "all"):
        settings = EmbedSettings(faces=faces, min_face=20)
        encoder = Encoder(tiny_encoder, CHOICE, threads=1)
        on_host = OneShotDetector(white_cells, CHOICE, threads=1)
        on_host.turns = on_host.confirms = on_host.tiles = False  # what a card does not do
        host = Pipeline(settings, on_host, encoder, workers=1)
        detector: Detector = DeviceOneShotDetector(white_cells, CHOICE, backend)
        device = DevicePipeline(settings, detector, encoder, backend, memory=1 << 30)
        listed = list_photos([tmp_path]).photos
        ours, theirs = faces_of(list(device.run(listed))), faces_of(list(host.run(listed)))
        assert {Path(path).name for path in ours} == {"a.png", "b.png"}
        for path, face in theirs.items():
            np.testing.assert_allclose(ours[path].box, face.box, atol=0.5)
            np.testing.assert_allclose(ours[path].landmarks, face.landmarks, atol=0.5)


def test_the_gate_takes_photos_of_the_host(white_cells: Model, backend: CpuBackend) -> None:
    """Parity is measured on pixels that OpenCV decoded: the device's detector uploads them."""
    pixels = np.zeros((160, 160, 3), np.uint8)
    pixels[64:96, 32:64] = 255
    detector = DeviceOneShotDetector(white_cells, CHOICE, backend)
    parity = admit(detector, [pixels], [20.0], only_largest=True)
    assert (parity.faces, parity.found) == (1, 1.0)
