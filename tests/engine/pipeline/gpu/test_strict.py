"""`CudaBackend`, `CudaLane`, `CoreCuda` and TensorRT's session on a card that does nothing before it must (see strict.py): the whole path
gives what it gives where everything happens at once, and every wait and event that is taken out is noticed.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import inspect
import sys
import textwrap
import types
from collections.abc import Callable, Iterator
from typing import Any

import cv2
import numpy as np
import pytest

from faceembed.engine.detect import oneshot
from faceembed.engine.detect.oneshot import OneShotSettings
from faceembed.engine.models.spec import Model
from faceembed.engine.photos.listing import list_photos
from faceembed.engine.photos.photo_file import PhotoFile
from faceembed.engine.pipeline import encode
from faceembed.engine.pipeline.encode import Encoder
from faceembed.engine.pipeline.gpu import cuda, lane, nvimagecodec, pipeline, record, stages
from faceembed.engine.pipeline.gpu import detect as device_detect
from faceembed.engine.pipeline.gpu.cuda import CudaBackend
from faceembed.engine.pipeline.gpu.detect import DeviceOneShotDetector
from faceembed.engine.pipeline.gpu.pipeline import DevicePipeline
from faceembed.engine.pipeline.settings import EmbedSettings
from faceembed.engine.runtimes import cuda_memory, networks, tensorrt
from faceembed.engine.runtimes.base import RuntimeChoice
from faceembed.engine.runtimes.choose import RuntimeSettings
from faceembed.engine.runtimes.networks import graph_of, network_for, profiles_of
from faceembed.engine.runtimes.tensorrt import TensorRtSession
from faceembed.errors import DeviceError
from tests.engine.pipeline.gpu.conftest import faces_of
from tests.engine.pipeline.gpu.strict import Card
from tests.engine.runtimes.test_tensorrt import facts_of, fake_flavour
from tests.native.conftest import emulator  # noqa: F401 - a fixture

CHOICE = RuntimeChoice("tensorrt", "cuda:0", "fp32", "a test")
SETTINGS = EmbedSettings(faces="all", min_face=20, batch_size=2, runtime=RuntimeSettings(threads=1))
LOOKS = OneShotSettings(first_side=64)
LEAST = 2  # photos of the album whose square lies so that a cell sees it
Fit = Callable[..., Card]


@pytest.fixture
def fit(emulator: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fit]:  # noqa: F811
    """Fit a strict card into the machine: ``fit(eager=True)``."""

    def clear() -> None:
        for cached in (cuda_memory.open_cuda, lane._library, lane._kernel):
            cached.cache_clear()

    def fitted(**options: Any) -> Card:
        card = Card(emulator, **options)
        core, driver = card.core(), card.driver()
        bindings = types.SimpleNamespace(driver=driver)
        for name, module in {"cuda.core": core, "cuda.bindings": bindings, "cuda.bindings.driver": driver}.items():
            monkeypatch.setitem(sys.modules, name, module)
        import cuda as package

        monkeypatch.setattr(package, "core", core, raising=False)
        monkeypatch.setattr(package, "bindings", bindings, raising=False)
        monkeypatch.setattr(nvimagecodec, "load", card.nvimgcodec)
        monkeypatch.setattr(lane, "load_or_compile", lambda arch: b"")
        clear()
        return card

    yield fitted
    clear()


@pytest.fixture(scope="module")
def album(tmp_path_factory: pytest.TempPathFactory) -> list[PhotoFile]:
    """White squares, which are faces here, on photos of many shapes; one that the host decodes, and one that nobody does."""
    folder = tmp_path_factory.mktemp("squares")
    random = np.random.default_rng(4)
    for number in range(3):
        height, width = random.integers(100, 190, 2).tolist()
        pixels = random.integers(0, 60, (height, width, 3), dtype=np.uint8)
        left, top = (int(random.integers(0, length - 80)) for length in (width, height))
        pixels[top : top + 80, left : left + 80] = 255
        cv2.imwrite(str(folder / f"{number}.{'tiff' if number == 1 else 'png'}"), pixels)
    (folder / "3.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    return list_photos([folder]).photos


class Opened:
    """A pipeline on a card, and its engines."""

    def __init__(
        self,
        card: Card,
        aligner: Model,
        encoder: Model,
        monkeypatch: pytest.MonkeyPatch,
        package: str,
        room: int,
    ) -> None:
        self.card = card
        self.engines: list[Any] = []
        monkeypatch.setattr(record, "ROOM", room)
        monkeypatch.setattr(networks, "LOOKS", ((64, 2), (128, 2)))  # every thread of every block costs its time here
        flavour = fake_flavour(package, self.engines, card.engine())

        def open_session(model: Model, choice: Any, *, outputs: Any = (), **_: Any) -> TensorRtSession:
            network = network_for(model, outputs)
            facts = facts_of(network, *profiles_of(network, (1, 2, 2)))
            graph = graph_of(model, network, "fp32")
            return TensorRtSession(facts, graph, model.spec, choice, flavour=flavour, cuda=cuda_memory.open_cuda(0))

        for module in (oneshot, encode):
            monkeypatch.setattr(module, "open_session", open_session)
        for ready in (device_detect, encode):
            monkeypatch.setattr(ready, "ready", lambda *_: None)
        self.backend = CudaBackend(0)
        detector = DeviceOneShotDetector(aligner, CHOICE, self.backend, settings=LOOKS)
        self.encoder = Encoder(encoder, CHOICE, threads=1)
        self.pipeline = DevicePipeline(SETTINGS, detector, self.encoder, self.backend, memory=1 << 30)
        for session in detector.sessions:
            self.backend.warm("detect", session, side=128)
        self.backend.warm("encode", self.encoder.session)

    @property
    def contexts(self) -> int:
        return sum(len(engine.configs) for engine in self.engines)


@pytest.fixture
def opened(white_cells: Model, tiny_encoder: Model, fit: Fit, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Opened]:
    def make(package: str = "tensorrt_rtx", *, room: int = 8, **options: Any) -> Opened:
        return Opened(fit(**options), white_cells, tiny_encoder, monkeypatch, package, room)

    return make


@pytest.fixture(scope="module")
def known() -> dict[str, Any]:
    return {}


@pytest.fixture
def expected(opened: Callable[..., Opened], album: list[PhotoFile], known: dict[str, Any]) -> dict[str, Any]:
    """What the path gives where all work happens at once; found out once."""
    if not known:
        known.update(faces_of(list(opened(at_once=True).pipeline.run(album))))
    assert len(known) >= LEAST
    return known


def differences(outcomes: list[Any], expected: dict[str, Any]) -> int:
    found = faces_of(outcomes)
    return len(found.keys() ^ expected.keys()) + sum(
        not (
            np.array_equal(found[path].embedding, face.embedding)
            and np.array_equal(found[path].landmarks, face.landmarks)
        )
        for path, face in expected.items()
        if path in found
    )


@pytest.mark.parametrize(
    ("package", "eager", "room", "waits"),
    [
        ("tensorrt_rtx", False, 8, 3),  # the faces of both looks have no room in the record, which is fetched twice
        ("tensorrt_rtx", True, 128, 2),
        ("tensorrt", False, 128, 2),
        ("tensorrt", True, 8, 3),
    ],
)
def test_nothing_is_used_before_it_is_there(
    opened: Callable[..., Opened],
    expected: dict[str, Any],
    album: list[PhotoFile],
    package: str,
    eager: bool,
    room: int,
    waits: int,
) -> None:
    """Also: no context is made after the warm-up, every launch of TensorRT's is a graph, and the host waits as often as it is said."""
    path = opened(package, eager=eager, room=room)
    made, graphs = path.contexts, path.card.graphs
    assert made == 4 and graphs == (4 if package == "tensorrt" else 0)
    before = path.card.waits
    outcomes = list(path.pipeline.run(album))
    assert differences(outcomes, expected) == 0
    assert (path.contexts, path.card.graphs) == (made, graphs)
    batches = len(outcomes)
    assert batches == 2
    assert path.pipeline.decoded_by["host: format"] == 1  # its upload waits for nothing
    lanes = 5  # a wait as each lane is left
    assert path.card.waits - before == waits * batches + lanes
    assert {failure.stage for outcome in outcomes for failure in outcome.failures} == {"decode"}


def test_the_path_agrees_with_the_processors(
    opened: Callable[..., Opened], backend: Any, white_cells: Model, tiny_encoder: Model, album: list[PhotoFile]
) -> None:
    """Kernels, looks and refinement on the card against the CPU's backend, which shares none of them."""
    choice = RuntimeChoice("onnxruntime", "cpu", "fp32", "a test")
    detector = DeviceOneShotDetector(white_cells, choice, backend, settings=LOOKS)
    on_cpu = DevicePipeline(SETTINGS, detector, Encoder(tiny_encoder, choice, threads=1), backend, memory=1 << 30)
    theirs = all_faces(list(on_cpu.run(album)))
    ours = all_faces(list(opened(at_once=True).pipeline.run(album)))
    assert ours.keys() == theirs.keys() and len(ours) >= LEAST
    for path, (landmarks, embeddings) in theirs.items():
        np.testing.assert_allclose(ours[path][0], landmarks, atol=0.05)
        assert (ours[path][1] * embeddings).sum(axis=1).min() > 0.999


def all_faces(outcomes: list[Any]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Landmarks and embeddings of each photo's faces from left to right: cells of one size are as good as each other, to a rounding."""
    found: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for outcome in outcomes:
        for place, photo in enumerate(outcome.photos):
            mine = np.flatnonzero(outcome.faces.photo == place)
            if len(mine):
                points = outcome.faces.landmarks[mine]
                order = np.lexsort((points[:, 2, 1].round(), points[:, 2, 0].round()))
                found[photo.path] = points[order], outcome.faces.embeddings[mine][order]
    return found


MUTATIONS: list[tuple[Any, str, str, str]] = [
    (stages.Stages, "_timed", "self.backend.follow(batch.mark)", "pass"),
    (stages.Stages, "_timed", "batch.mark = self.backend.finish()", "pass"),
    (stages.Stages, "_timed", "stage(batch)\n", "batch.mark = self.backend.finish(); stage(batch); return\n"),
    (cuda.CudaBackend, "follow", "self._lane.stream.wait(mark)", "pass"),
    (nvimagecodec.NvImageCodec, "decode", "int(stream.handle)", "0"),
    (lane.CudaLane, "get", "self.stream.sync()", "pass"),
]


@pytest.mark.parametrize(
    ("owner", "method", "line", "instead"), MUTATIONS, ids=[f"{m[1]}: {m[2].strip()}" for m in MUTATIONS]
)
def test_a_wait_that_is_missing_is_noticed(
    opened: Callable[..., Opened],
    expected: dict[str, Any],
    album: list[PhotoFile],
    monkeypatch: pytest.MonkeyPatch,
    owner: Any,
    method: str,
    line: str,
    instead: str,
) -> None:
    path = opened()
    one_at_a_time(monkeypatch)
    monkeypatch.setattr(owner, method, mutated(owner, method, line, instead))
    try:
        wrong = differences(list(path.pipeline.run(album)), expected)
    except Exception as error:  # noqa: BLE001 - outputs of poison may be no numbers, or counts without end
        wrong = len(str(error))
    assert wrong > 0


def one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """One batch in flight: else what a stage waits for, for the batch before, may be what the next stage lacks, if threads run so."""
    budget = pipeline.Budget
    monkeypatch.setattr(pipeline, "Budget", lambda limit, *, slots, batch: budget(limit, slots=1, batch=batch))


def test_one_batch_at_a_time_is_right(
    opened: Callable[..., Opened],
    expected: dict[str, Any],
    album: list[PhotoFile],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one_at_a_time(monkeypatch)
    assert differences(list(opened().pipeline.run(album)), expected) == 0


@pytest.mark.parametrize("waits", [True, False])
def test_a_stage_that_fails_waits_before_its_batch_lets_go(
    opened: Callable[..., Opened], album: list[PhotoFile], monkeypatch: pytest.MonkeyPatch, waits: bool
) -> None:
    """Chips are cut, the stage fails, the batch's pixels are freed as early as they may be: the chips are of pixels, not of poison."""

    def chips(path: Opened, *, fails: bool) -> np.ndarray:
        kept: list[Any] = []
        align = stages.Stages.align

        def failing(self: Any, batch: Any) -> None:
            align(self, batch)
            kept.append(batch.chips)
            if fails:
                raise RuntimeError("a stage's own")

        monkeypatch.setattr(stages.Stages, "align", failing)
        work = path.pipeline._stages.all()
        monkeypatch.setattr(stages.Stages, "align", align)
        batch = stages.Batch(0, path.pipeline.intake.read_run(album[:1]))
        for name in ("decode", "detect"):
            with path.backend.lane(name):
                work[name](batch)
        with path.backend.lane("align"):
            with pytest.raises(RuntimeError, match="a stage's own") if fails else contextlib.nullcontext():
                work["align"](batch)
            batch.drop()
            gc.collect()
            with path.backend.lane("decode"):  # its stream runs ahead, to the freeing of the pixels
                path.backend.wait()
            with path.backend.lane("align"):
                return np.array(path.backend.host(kept[0]))

    right = chips(opened(at_once=True), fails=False)
    path = opened(eager=True)
    if not waits:
        monkeypatch.setattr(stages.Stages, "_timed", mutated(stages.Stages, "_timed", "self.backend.wait()", "pass"))
    assert np.array_equal(chips(path, fails=True), right) == waits


def mutated(owner: Any, method: str, line: str, instead: str) -> Any:
    """A method with one piece of its source in place of another."""
    source = textwrap.dedent(inspect.getsource(getattr(owner, method)))
    assert source.count(line) == 1, source
    space = dict(vars(sys.modules[owner.__module__]))
    exec(compile(source.replace(line, instead), f"<{method}, mutated>", "exec"), space)  # noqa: S102 - our own source
    return space[method]


def test_a_session_waits_for_its_answer(
    fit: Fit, tiny_encoder: Model, opened: Callable[..., Opened], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`run`, which gates and tools call: the answers are there, and would not be without its wait."""
    pixels = np.random.default_rng(2).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
    at_once = opened(at_once=True).encoder.session.run(pixels)[0]
    session = opened().encoder.session
    np.testing.assert_array_equal(session.run(pixels)[0], at_once)
    monkeypatch.setattr(TensorRtSession, "run", mutated(tensorrt.TensorRtSession, "run", "stream.sync()", "pass"))
    assert not np.array_equal(session.run(pixels + 1)[0], at_once)


def test_what_a_report_asks_of_a_card(opened: Callable[..., Opened], monkeypatch: pytest.MonkeyPatch) -> None:
    path = opened()
    card = types.SimpleNamespace(capability=(8, 9), multiprocessors=128)
    monkeypatch.setattr(cuda, "probe", lambda: types.SimpleNamespace(card=lambda index: card, release="580.1"))
    driver = sys.modules["cuda.bindings.driver"]
    clock = types.SimpleNamespace(CU_DEVICE_ATTRIBUTE_CLOCK_RATE=13)
    monkeypatch.setattr(driver, "CUdevice_attribute", clock, raising=False)
    monkeypatch.setattr(driver, "cuDeviceGetAttribute", lambda attribute, index: (0, 2_500_000), raising=False)
    assert path.backend.free_bytes() == 8 << 30
    assert path.backend.title().endswith("driver 580.1")
    per_clock = cuda.FLOPS_PER_CLOCK[(8, 9)]
    assert path.backend.peak_tflops() == pytest.approx(per_clock * 128 * 2.5e9 / 1e12)
    monkeypatch.setattr(driver, "cuDeviceGetAttribute", lambda attribute, index: (1, 0), raising=False)
    assert path.backend.peak_tflops() is None
    with path.backend.lane("copy"):
        assert path.backend.copy_bandwidth(1 << 16) > 0
        for count, padded in ((1, 1), (3, 4), (64, 64), (65, 128), (129, 192)):
            given = path.backend._lane.put(np.full((count, 4), 7, np.float32))
            filled = path.backend._padded(given)
            assert filled.shape == (padded, 4)
            assert (path.backend.host(filled)[:count] == 7).all()
    monkeypatch.setattr(driver, "cuMemGetInfo", lambda: (2, 0, 0))
    with pytest.raises(DeviceError, match=r"does not say how much memory is free.*--gpu-memory"):
        path.backend.free_bytes()


def test_fifty_entries_cost_nothing(opened: Callable[..., Opened]) -> None:
    """A lane is the same one every time it is entered: streams, contexts and memory stay as many."""
    path = opened()
    pixels = np.zeros((64, 64, 3), np.uint8)

    def enter(times: int) -> tuple[int, int, int]:
        for _ in range(times):
            for name in ("decode", "detect", "encode"):
                with path.backend.lane(name):
                    path.backend.upload(pixels)
                    path.backend.wait()
        gc.collect()
        path.card.streams[0].sync()
        return len(path.card.streams), path.contexts, path.card.live

    assert enter(1) == enter(50)


def test_release_gives_all_back(
    opened: Callable[..., Opened], album: list[PhotoFile], expected: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """DALI's memory, what cuda-core keeps, and contexts with their arena; what comes then prepares itself again."""
    path = opened()
    asked: list[str] = []
    monkeypatch.setitem(
        sys.modules, "nvidia.dali.backend", types.SimpleNamespace(ReleaseUnusedMemory=lambda: asked.append("dali"))
    )
    real = cuda_memory.CoreCuda.trim
    monkeypatch.setattr(cuda_memory.CoreCuda, "trim", lambda self: (asked.append("cuda"), real(self))[0])
    before = path.card.live
    path.backend.release()
    gc.collect()
    path.card.streams[0].sync()
    assert asked == ["dali", "cuda"] and path.card.live < before / 20
    assert differences(list(path.pipeline.run(album)), expected) == 0
