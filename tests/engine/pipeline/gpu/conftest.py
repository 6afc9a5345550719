"""What the tests of the GPU path share: the path on the CPU backend, with a tiny encoder, or with real models."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from faceembed.engine.detect import refine
from faceembed.engine.detect.detections import Detections
from faceembed.engine.detect.interface import Detector
from faceembed.engine.models.graph import GraphWriter
from faceembed.engine.models.oneshot import CHANNELS, OUTPUTS, REFINED, REFINED_CHANNELS, REFINED_SIDE, STRIDES
from faceembed.engine.models.spec import ARCFACE_TEMPLATE, Model, ModelSpec
from faceembed.engine.pipeline.batches import Outcome
from faceembed.engine.pipeline.encode import Encoder
from faceembed.engine.pipeline.gpu.cpu import CpuBackend
from faceembed.engine.pipeline.gpu.pipeline import DevicePipeline
from faceembed.engine.pipeline.settings import EmbedSettings
from faceembed.engine.runtimes.base import RuntimeChoice
from faceembed.engine.runtimes.choose import RuntimeSettings

CHOICE = RuntimeChoice("onnxruntime", "cpu", "fp32", "a test")
SIDE = 32


@pytest.fixture(scope="session")
def tiny_encoder(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A linear map of 32x32 chips to 8 numbers: enough to tell photos apart, and quick."""
    writer = GraphWriter("tiny")
    images = writer.input("images", ["N", 3, SIDE, SIDE])
    weight = np.random.default_rng(3).normal(size=(8, 3, SIDE, SIDE)) / SIDE
    writer.output(writer.node("Flatten", [writer.conv(images, weight, np.zeros(8))]), "embedding", ["N", 8])
    path = tmp_path_factory.mktemp("tiny") / "tiny.onnx"
    path.write_bytes(writer.serialise())
    template = tuple((x * SIDE / 112, y * SIDE / 112) for x, y in ARCFACE_TEMPLATE)
    return Model(ModelSpec("tiny", "encoder", (SIDE, SIDE), dimension=8, template=template), str(path))


@pytest.fixture(scope="session")
def white_cells(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A one-shot aligner that takes white cells for faces: box and landmarks fill the cell, the refiner agrees."""
    marks = (refine.TEMPLATE - refine.TEMPLATE.mean(axis=0)) / 64
    writer = GraphWriter("white")
    images = writer.input("images", ["N", 3, "H", "W"])
    for stride, output in zip(STRIDES, OUTPUTS, strict=True):
        weight = np.zeros((CHANNELS, 3, stride, stride))
        weight[0] = 20 / (3 * stride**2)
        bias = np.concatenate([[-10.0], np.full(4, np.log(0.5)), marks.reshape(10)])
        writer.output(writer.conv(images, weight, bias, stride=stride), output, ["N", CHANNELS, "h", "w"])
    weight = np.zeros((REFINED_CHANNELS, 3, REFINED_SIDE, REFINED_SIDE))
    crops = writer.input("faces", ["M", 3, REFINED_SIDE, REFINED_SIDE])
    agreed = writer.conv(crops, weight, np.concatenate([[20.0], np.zeros(10)]))
    writer.output(writer.node("Flatten", [agreed]), REFINED, ["M", REFINED_CHANNELS])
    path = tmp_path_factory.mktemp("white") / "white.onnx"
    path.write_bytes(writer.serialise())
    return Model(ModelSpec("white", "aligner", (0, 0), decoder="one-shot"), str(path))


@pytest.fixture(scope="session")
def backend() -> CpuBackend:
    pytest.importorskip("nvidia.dali", reason="NVIDIA DALI, which brings nvImageCodec, is not installed")
    return CpuBackend()


@pytest.fixture
def open_tiny(tiny_encoder: Model, backend: CpuBackend) -> Callable[..., DevicePipeline]:
    """A pipeline for square crops: ``open_tiny(batch_size=4)``, or with another backend or memory."""

    def opened(*, on: Any = None, memory: int = 1 << 30, **changes: Any) -> DevicePipeline:
        settings = EmbedSettings(aligner="none", runtime=RuntimeSettings(threads=1), **changes)
        return DevicePipeline(settings, None, Encoder(tiny_encoder, CHOICE, threads=1), on or backend, memory=memory)

    return opened


class OnHost(Detector):
    """A detector of the host's in the device path: what is compared then is decoding, warping and encoding alone."""

    def __init__(self, detector: Detector) -> None:
        self.model, self.choice, self._detector = detector.model, detector.choice, detector

    def detect(self, photos: Sequence[Any], min_faces: Sequence[float], *, only_largest: bool) -> Detections:
        views = [np.asarray(photo) for photo in photos]
        return self._detector.detect(views, min_faces, only_largest=only_largest)

    def exact(self) -> Detector:
        return self._detector.exact()


@dataclasses.dataclass(frozen=True)
class Face:
    """What a run says of a photo's first face."""

    embedding: np.ndarray
    landmarks: np.ndarray
    box: np.ndarray
    size: tuple[int, int]


def faces_of(outcomes: Sequence[Outcome]) -> dict[str, Face]:
    """By path."""
    found: dict[str, Face] = {}
    for outcome in outcomes:
        faces = outcome.faces
        for row, place in enumerate(faces.photo.tolist()):
            width, height = faces.sizes[row].tolist()
            face = Face(faces.embeddings[row], faces.landmarks[row], faces.boxes[row], (width, height))
            found.setdefault(outcome.photos[place].path, face)
    return found


def failures_of(outcomes: Sequence[Outcome]) -> dict[str, tuple[str, str]]:
    """File name to stage and reason."""
    return {Path(f.photo.path).name: (f.stage, f.reason) for outcome in outcomes for f in outcome.failures}
