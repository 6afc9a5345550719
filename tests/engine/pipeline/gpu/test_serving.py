"""Photos in memory on a device: the faces of the CPU, chips and all, however they are given; memory that is short; many threads."""

from __future__ import annotations

import concurrent.futures
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

import faceembed
from faceembed.engine.detect.kinds import open_detector
from faceembed.engine.models.registry import resolve
from faceembed.engine.models.spec import Model
from faceembed.engine.photos.sample import sample_photos
from faceembed.engine.pipeline import loading
from faceembed.engine.pipeline.batches import Pipeline
from faceembed.engine.pipeline.encode import Encoder
from faceembed.engine.pipeline.gpu.cpu import CpuBackend
from faceembed.engine.pipeline.gpu.detect import DeviceOneShotDetector
from faceembed.engine.pipeline.gpu.lane import current_device
from faceembed.engine.pipeline.gpu.pipeline import DevicePipeline
from faceembed.engine.pipeline.serving import Embedder, SeenPhoto
from faceembed.engine.pipeline.settings import EmbedSettings
from faceembed.engine.runtimes.choose import RuntimeSettings
from faceembed.errors import DeviceError, PhotoError
from tests.engine.pipeline.gpu.conftest import CHOICE, SIDE
from tests.engine.pipeline.gpu.test_pipeline import Short

Open = Callable[..., DevicePipeline]
CUDA = RuntimeSettings(device="cuda", threads=1)


@pytest.fixture(scope="module")
def crops() -> list[np.ndarray[Any, Any]]:
    """Twelve smooth square pictures, RGB, of the encoder's own size."""
    rng = np.random.default_rng(7)
    coarse = rng.integers(0, 256, (12, 4, 4, 3)).astype(np.uint8)
    return [cv2.resize(picture, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC) for picture in coarse]


def png(picture: np.ndarray[Any, Any]) -> bytes:
    return bytes(cv2.imencode(".png", np.ascontiguousarray(picture[..., ::-1]))[1])


def assert_alike(ours: list[SeenPhoto], theirs: list[SeenPhoto]) -> None:
    assert [(seen.width, seen.height, seen.stage) for seen in ours] == [(s.width, s.height, s.stage) for s in theirs]
    for one, other in zip(ours, theirs, strict=True):
        assert len(one.faces) == len(other.faces) and one.chosen == other.chosen
        for a, b in zip(one.faces, other.faces, strict=True):
            np.testing.assert_allclose(a.embedding, b.embedding, atol=2e-3)
            assert a.chip.shape == b.chip.shape and a.chip.dtype == np.uint8
            assert np.abs(a.chip.astype(int) - b.chip).mean() < 1.5
            assert a.sharpness == pytest.approx(b.sharpness, rel=0.05)


def test_the_faces_of_the_cpu(open_tiny: Open, tiny_encoder: Model, crops: list[np.ndarray[Any, Any]]) -> None:
    """Files and arrays in one batch, and one that is damaged behind its header."""
    pipeline = open_tiny(batch_size=5)
    host = Pipeline(pipeline.settings, None, Encoder(tiny_encoder, CHOICE, threads=1), workers=1)
    seen = []
    for embedder in (Embedder.of(pipeline), Embedder.of(host)):
        whole = png(crops[0])
        broken = whole[:41] + bytes(len(whole) - 53) + whole[-12:]
        items = [embedder.take(png(crop)) if n % 2 else embedder.take_pixels(crop) for n, crop in enumerate(crops)]
        seen.append(embedder.embed([*items[:3], embedder.take(broken), *items[3:]]))
    assert [len(photo.faces) for photo in seen[0]] == [1, 1, 1, 0, *[1] * 9]
    assert seen[0][3].stage == "decode" and seen[0][3].reason
    assert_alike(*seen)
    with pytest.raises(PhotoError, match="text"):
        Embedder.of(pipeline).take(b"just text")
    assert Embedder.of(pipeline).embed([]) == []


def test_short_memory_halves_and_goes_on(open_tiny: Open, crops: list[np.ndarray[Any, Any]]) -> None:
    short = Short(most=2)
    pipeline, whole = open_tiny(on=short, batch_size=8), Embedder.of(open_tiny(batch_size=64))
    embedder = Embedder.of(pipeline)
    seen = embedder.embed([embedder.take(png(crop)) for crop in crops])
    assert pipeline.halvings >= 2 and short.released == pipeline.halvings
    assert_alike(seen, whole.embed([whole.take(png(crop)) for crop in crops]))


def test_a_fault_of_the_card_is_an_error_and_the_next_batch_is_not(
    open_tiny: Open, crops: list[np.ndarray[Any, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = CpuBackend()
    embedder = Embedder.of(open_tiny(on=backend))
    items = [embedder.take_pixels(crop) for crop in crops]
    with monkeypatch.context() as patch:
        patch.setattr(backend, "warp", lambda *_: (_ for _ in ()).throw(DeviceError("the card is lost")))
        with pytest.raises(DeviceError, match="the card is lost"):
            embedder.embed(items)
    assert len(embedder.embed(items)) == len(items)


def test_threads_take_turns(open_tiny: Open, crops: list[np.ndarray[Any, Any]]) -> None:
    embedder = Embedder.of(open_tiny(batch_size=4))
    items = [embedder.take_pixels(crop) for crop in crops]
    (alone,) = [[photo.faces[0].embedding for photo in embedder.embed(items)]]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for seen in pool.map(embedder.embed, [items] * 8):
            for photo, expected in zip(seen, alone, strict=True):
                np.testing.assert_array_equal(photo.faces[0].embedding, expected)


def test_the_public_class_on_a_card(
    open_tiny: Open,
    tiny_encoder: Model,
    crops: list[np.ndarray[Any, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`faceembed.Embedder` with the device of its settings: what is asked for reaches `open_pipeline`, and its pipeline is used."""
    asked: list[tuple[str, bool]] = []

    def open_pipeline(settings: EmbedSettings, *_: Any, all_cards: bool, **__: Any) -> DevicePipeline:
        asked.append((settings.runtime.device, all_cards))
        return open_tiny(batch_size=4)

    monkeypatch.setattr(loading, "resolve_models", lambda settings: loading.Models(tiny_encoder, None))
    monkeypatch.setattr(loading, "open_pipeline", open_pipeline)
    Image.fromarray(crops[0]).save(tmp_path / "a.png")
    settings = EmbedSettings(aligner="none", runtime=CUDA)
    with faceembed.Embedder(settings) as embedder:
        (face,) = embedder.represent(tmp_path / "a.png")
        assert face.chip.shape == (SIDE, SIDE, 3)
        assert embedder.similarity(tmp_path / "a.png", crops[0], colour="rgb") == pytest.approx(1, abs=1e-5)
        many = list(embedder.represent_all(crops * 3, colour="rgb"))
        assert [len(seen.faces) for seen in many] == [1] * 36
    assert asked == [("cuda", False)]


def test_without_a_card_it_is_one_line() -> None:
    if _has_card():
        pytest.skip("this machine has a card")
    with pytest.raises(DeviceError, match="NVIDIA") as raised:
        faceembed.Embedder(EmbedSettings(aligner="faceembed-align", runtime=CUDA))
    assert "\n" not in str(raised.value)


def _has_card() -> bool:
    try:
        current_device()
    except DeviceError:
        return False
    return True


def test_real_models(backend: CpuBackend, encoder_model: Model) -> None:
    """The one-shot aligner and the default encoder: the astronaut as on the CPU."""
    settings = EmbedSettings(faces="all", aligner="faceembed-align", runtime=RuntimeSettings(threads=2))
    aligner, encoder = resolve("faceembed-align", task="aligner"), Encoder(encoder_model, CHOICE, threads=2)
    host = open_detector(aligner, CHOICE, threads=2, detect_size=settings.detect_size, min_score=settings.min_score)
    device = DevicePipeline(settings, DeviceOneShotDetector(aligner, CHOICE, backend), encoder, backend, memory=1 << 30)
    data = (sample_photos() / "astronaut.png").read_bytes()
    pixels = np.asarray(Image.open(sample_photos() / "astronaut.png").convert("RGB"))
    ours, theirs = Embedder.of(device), Embedder.of(Pipeline(settings, host, encoder, workers=1))
    (expected,) = theirs.embed([theirs.take(data)])
    for item in (ours.take(data), ours.take_pixels(pixels)):
        (seen,) = ours.embed([item])
        assert (seen.width, seen.height, len(seen.faces), seen.chosen) == (512, 512, 1, 0)
        face, other = seen.faces[0], expected.faces[0]
        assert float(face.embedding @ other.embedding) > 0.99
        np.testing.assert_allclose(face.landmarks, other.landmarks, atol=4)
        assert np.abs(face.chip.astype(int) - other.chip).mean() < 8
        assert (face.real is None) == (other.real is None) and face.quality is not None
    assert dataclasses.asdict(seen.faces[0]).keys() == dataclasses.asdict(expected.faces[0]).keys()
