"""How many of TensorRT's contexts 1,000 real photos of mixed shapes cost: those of the warm-up, and every batch after it is a replay."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from faceembed.engine.detect.detections import Detections
from faceembed.engine.detect.oneshot import OneShotSettings
from faceembed.engine.models.oneshot import OUTPUTS, REFINED, REFINED_CHANNELS, REFINED_SIDE
from faceembed.engine.models.registry import resolve
from faceembed.engine.photos.decode import min_face_of
from faceembed.engine.photos.probe import probe
from faceembed.engine.pipeline.gpu.detect import DeviceOneShotDetector
from faceembed.engine.pipeline.gpu.interface import Scan
from faceembed.engine.pipeline.gpu.opening import USUAL_SIDE
from faceembed.engine.pipeline.gpu.record import ROOM
from faceembed.engine.pipeline.settings import CARD_BATCH
from faceembed.engine.runtimes.arrays import DeviceArray
from faceembed.engine.runtimes.base import RuntimeChoice
from faceembed.engine.runtimes.networks import LARGEST_SIDE, graph_of, network_for, profiles_of
from faceembed.engine.runtimes.tensorrt import TensorRtSession
from tests.engine.runtimes.conftest import cuda  # noqa: F401 - a fixture
from tests.engine.runtimes.test_tensorrt import FakeContext, FakeEngine, facts_of, fake_flavour

CHOICE = RuntimeChoice("tensorrt", "cuda:0", "fp16", "a test")
PHOTOS = 1000


class Context(FakeContext):
    """Says what shapes come out, and computes nothing."""

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        if name.startswith("level_"):
            stride = int(name.removeprefix("level_"))
            return (self.shape[0], 15, self.shape[1] // stride, self.shape[2] // stride)
        return (self.shape[0], REFINED_CHANNELS if name == REFINED else 256)

    def execute_async_v3(self, stream: int) -> bool:
        self.engine.executed.append((stream, self.shape, self.profile))
        return True


class Engine(FakeEngine):
    def create_execution_context(self, config: Any) -> FakeContext:
        super().create_execution_context(config)
        self.contexts[-1] = Context(self)
        return self.contexts[-1]


class Backend:
    """Runs what a look runs; of each photo it finds none, one or several faces of any size."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self.random = np.random.default_rng(11)
        self.memory = np.zeros(64 << 20, np.uint8)

    def run(self, session: TensorRtSession, *shape: int) -> None:
        kind = np.dtype(np.uint8 if session.entry == "pixels" else np.float16)
        session.run_device(DeviceArray(self.memory.ctypes.data, shape, kind, self.memory), self.stream)

    def look(self, photos: Sequence[Any], scans: Sequence[Scan], detector: Any, refiner: Any, *_: Any) -> Detections:
        owners: list[int] = []
        for scan in scans:
            self.run(detector, len(scan.photo), scan.shape.height, scan.shape.width, 3)
            owners += np.repeat(scan.photo, self.random.choice(4, len(scan.photo), p=[0.2, 0.5, 0.2, 0.1])).tolist()
        self.run(refiner, -(-max(len(owners), 1) // ROOM) * ROOM, 3, REFINED_SIDE, REFINED_SIDE)
        sides = np.array([max(photos[owner].shape) for owner in owners]) * self.random.uniform(0.01, 0.7, len(owners))
        boxes = np.column_stack([np.zeros((len(owners), 2)), sides, sides]).astype(np.float32)
        scores = self.random.uniform(0.3, 1, len(owners)).astype(np.float32)
        return Detections(np.array(owners, np.int32), boxes, np.zeros((len(owners), 5, 2), np.float32), scores)


@pytest.mark.data
@pytest.mark.parametrize("package", ["tensorrt", "tensorrt_rtx"])
@pytest.mark.parametrize(("min_face", "largest", "most"), [(0, True, 6), (0, False, 6), (20, True, 8)])
def test_contexts_of_a_thousand_photos(
    data: Path,
    cuda: Any,  # noqa: F811
    package: str,
    min_face: int,
    largest: bool,
    most: int,
) -> None:
    paths = sorted((data / "people_wild").glob("*/*.jpg"))[:PHOTOS]
    headers = [probe(path.read_bytes()[: 1 << 17]) for path in paths]
    assert len({(header.width, header.height) for header in headers}) > PHOTOS / 10  # of mixed shapes
    engines: list[Any] = []
    flavour = fake_flavour(package, engines, Engine)

    def opened(name: str, task: Any, outputs: tuple[str, ...]) -> TensorRtSession:
        model = resolve(name, task=task)
        network = network_for(model, outputs)
        facts = facts_of(network, *profiles_of(network, (1, 64, 128)))
        return TensorRtSession(facts, graph_of(model, network, "fp16"), model.spec, CHOICE, flavour=flavour, cuda=cuda)

    stream, encode = cuda.named("detect"), cuda.named("encode")
    session, refiner = opened("faceembed-align", "aligner", OUTPUTS), opened("faceembed-align", "aligner", (REFINED,))
    encoder = opened("faceembed-r29", "encoder", ())
    for one in (session, refiner):
        one.warm(stream, side=0 if min_face else USUAL_SIDE)
    encoder.warm(encode)
    made = sum(len(engine.contexts) for engine in engines)
    assert made == most
    captures, replays = cuda.captures, cuda.replays
    launches = sum(len(engine.executed) for engine in engines)

    detector = DeviceOneShotDetector.__new__(DeviceOneShotDetector)
    detector.model, detector.choice, detector.settings = (
        resolve("faceembed-align", task="aligner"),
        CHOICE,
        OneShotSettings(),
    )
    detector._session, detector._refiner, detector.largest_side = session, refiner, float(LARGEST_SIDE)
    detector._backend = backend = Backend(stream)  # type: ignore[assignment]
    at_encoder = Backend(encode)
    faces = 0
    for start in range(0, PHOTOS, CARD_BATCH):
        some = headers[start : start + CARD_BATCH]
        photos = [SimpleNamespace(shape=(header.height, header.width, 3)) for header in some]
        smallest = [min_face_of(header.width, header.height, min_face) for header in some]
        found = detector.detect(photos, smallest, only_largest=largest)
        faces += len(found)
        at_encoder.run(encoder, len(found), 3, 150, 150)
    assert backend is detector._backend and faces > PHOTOS / 2
    assert sum(len(engine.contexts) for engine in engines) == made
    assert cuda.captures == captures
    launched = sum(len(engine.executed) for engine in engines) - launches
    assert launched >= 3 * PHOTOS / CARD_BATCH
    if package == "tensorrt":  # the other captures and replays by itself
        assert cuda.replays - replays == launched
