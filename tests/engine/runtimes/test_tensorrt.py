"""The TensorRT session with a stand-in for TensorRT that runs each plan, an ONNX file, in ONNX Runtime on memory of the host.

What this proves: shapes, profiles, batches, streams, addresses, captured graphs and copies. What it cannot: TensorRT itself.
"""

from __future__ import annotations

import ctypes
import types
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from faceembed.engine.models.spec import Model
from faceembed.engine.runtimes.base import RuntimeChoice
from faceembed.engine.runtimes.engine_file import NetworkFacts
from faceembed.engine.runtimes.flavours import Flavour
from faceembed.engine.runtimes.frontend import normalise
from faceembed.engine.runtimes.kernel_cache import KernelCache
from faceembed.engine.runtimes.networks import Network, graph_of, networks_of
from faceembed.engine.runtimes.profile import Profile
from faceembed.engine.runtimes.sessions import open_session
from faceembed.engine.runtimes.tensorrt import TensorRtSession
from faceembed.errors import DeviceError

CHOICE = RuntimeChoice("tensorrt", "cuda:0", "fp16", "test")
KINDS = {"tensor(float16)": np.float16, "tensor(uint8)": np.uint8, "tensor(float)": np.float32}


class FakeContext:
    def __init__(self, engine: FakeEngine) -> None:
        self.engine = engine
        self.addresses: dict[str, int] = {}
        self.shape: tuple[int, ...] = ()
        self.memory = (0, 0)
        self.profile = -1

    def set_optimization_profile_async(self, index: int, stream: int) -> bool:
        self.profile = index
        return True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self.shape = shape
        return name == self.engine.input

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        given = np.zeros(self.shape, self.engine.kind)
        return tuple(self.engine.session.run([name], {self.engine.input: given})[0].shape)

    def set_tensor_address(self, name: str, address: int) -> None:
        self.addresses[name] = address

    def update_device_memory_size_for_shapes(self) -> int:
        return 4096

    def set_device_memory(self, address: int, size: int) -> None:
        assert address % 256 == 0
        self.memory = (address, size)

    def execute_async_v3(self, stream: int) -> bool:
        if self.engine.fails:
            self.engine.log.log(1, "out of\n  luck")
            return False
        assert self.memory[1] == 4096 and stream
        count = int(np.prod(self.shape)) * np.dtype(self.engine.kind).itemsize
        view = (ctypes.c_uint8 * count).from_address(self.addresses[self.engine.input])
        given = np.frombuffer(bytes(view), self.engine.kind).reshape(self.shape)
        for name in self.engine.outputs:
            (result,) = self.engine.session.run([name], {self.engine.input: given})
            ctypes.memmove(self.addresses[name], np.ascontiguousarray(result).ctypes.data, result.nbytes)
        self.engine.executed.append((stream, self.shape, self.profile))
        return True


class FakeEngine:
    def __init__(self, plan: bytes, log: Any) -> None:
        self.session = onnxruntime.InferenceSession(plan, providers=["CPUExecutionProvider"])
        self.input = self.session.get_inputs()[0].name
        self.kind = KINDS[self.session.get_inputs()[0].type]
        self.outputs = [output.name for output in self.session.get_outputs()]
        self.log = log
        self.executed: list[tuple[int, tuple[int, ...], int]] = []
        self.configs: list[Any] = []
        self.contexts: list[FakeContext] = []
        self.fails = False
        self.num_io_tensors = 1 + len(self.outputs)

    def get_tensor_name(self, index: int) -> str:
        return [*self.outputs, self.input][index]  # TensorRT gives no order either

    def get_tensor_mode(self, name: str) -> str:
        return "in" if name == self.input else "out"

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        shape = self.session.get_inputs()[0].shape
        return tuple(length if isinstance(length, int) else -1 for length in shape)

    def create_runtime_config(self) -> Any:
        config = types.SimpleNamespace(strategy="")
        config.set_execution_context_allocation_strategy = lambda strategy: setattr(config, "strategy", strategy)
        self.configs.append(config)
        return config

    def create_execution_context(self, config: Any) -> FakeContext:
        assert config.strategy == "managed"
        self.contexts.append(FakeContext(self))
        return self.contexts[-1]


class Logger:
    ERROR = 1

    def __init__(self) -> None:
        pass


def fake_flavour(package: Any, engines: list[FakeEngine], kind: type[FakeEngine] = FakeEngine) -> Flavour:
    class Runtime:
        def __init__(self, log: Any) -> None:
            self.log = log

        def deserialize_cuda_engine(self, plan: bytes) -> FakeEngine | None:
            if plan == b"broken":
                self.log.log(1, "magic tag does not match")
                return None
            engines.append(kind(plan, self.log))
            return engines[-1]

    module = types.SimpleNamespace(
        ILogger=Logger,
        Runtime=Runtime,
        TensorIOMode=types.SimpleNamespace(INPUT="in"),
        ExecutionContextAllocationStrategy=types.SimpleNamespace(USER_MANAGED="managed"),
        CudaGraphStrategy=types.SimpleNamespace(WHOLE_GRAPH_CAPTURE="whole"),
        DynamicShapesKernelSpecializationStrategy=types.SimpleNamespace(EAGER="eager"),
    )
    return Flavour(package, "11.1", module)


def facts_of(network: Network, *profiles: Profile) -> NetworkFacts:
    return NetworkFacts(network.name, network.outputs, network.entry, profiles, "", "", 0)


@pytest.fixture(params=["tensorrt", "tensorrt_rtx"])
def opened(request: Any, tiny: Model, cuda: Any) -> tuple[TensorRtSession, FakeEngine]:
    engines: list[FakeEngine] = []
    (network,) = networks_of(tiny)
    flavour = fake_flavour(request.param, engines)
    facts = facts_of(network, Profile((1, 4, 8)))
    session = TensorRtSession(facts, graph_of(tiny, network, "fp16"), tiny.spec, CHOICE, flavour=flavour, cuda=cuda)
    return session, engines[0]


def chips(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 16, 16, 3), dtype=np.uint8)


def reference(model: Model, pixels: np.ndarray) -> np.ndarray:
    return open_session(model, RuntimeChoice("onnxruntime", "cpu", "fp32", ""), threads=1).run(pixels)[0]


@pytest.mark.parametrize("count", [1, 4, 8, 9, 21])  # more than the profile's largest batch too
def test_pixels_of_the_host(opened: Any, tiny: Model, count: int) -> None:
    session, _ = opened
    (output,) = session.run(chips(count))
    assert output.dtype == np.float32
    np.testing.assert_allclose(output, reference(tiny, chips(count)), rtol=0.01, atol=0.01)
    output[:] = 0  # it belongs to the caller


def test_pixels_on_the_card(opened: Any, tiny: Model, cuda: Any, to_card: Any, from_card: Any) -> None:
    session, engine = opened
    stream = cuda.stream()
    given = normalise(chips(19), tiny.spec)
    (output,) = session.run_device(to_card(given), stream)
    np.testing.assert_allclose(from_card(output), reference(tiny, chips(19)), rtol=0.01, atol=0.01)
    assert [shape[0] for _, shape, _ in engine.executed] == [8, 8, 8]  # the last is filled up
    assert stream.syncs <= 1  # nothing is waited for but the arena, once
    kept = from_card(output)
    session.run_device(to_card(given[::-1].copy()), stream)
    np.testing.assert_array_equal(from_card(output), kept)  # the caller's own memory


def test_launches_become_cuda_graphs(opened: Any, tiny: Model, cuda: Any, to_card: Any, from_card: Any) -> None:
    session, engine = opened
    stream = cuda.stream()
    for seed in range(4):
        given = normalise(chips(8, seed), tiny.spec)
        (output,) = session.run_device(to_card(given), stream)
        np.testing.assert_allclose(from_card(output), reference(tiny, chips(8, seed)), rtol=0.01, atol=0.01)
    if session._flavour.ahead_of_time:  # TensorRT for RTX captures by itself
        assert (cuda.captures, cuda.replays) == (0, 0)
        assert [config.cuda_graph_strategy for config in engine.configs] == ["whole"]
        assert engine.configs[0].dynamic_shapes_kernel_specialization_strategy == "eager"
    else:
        assert (cuda.captures, cuda.replays) == (1, 3)  # the first run is as it is
        assert not hasattr(engine.configs[0], "cuda_graph_strategy")


def test_each_stream_has_its_own_lane(opened: Any, tiny: Model, cuda: Any, to_card: Any, from_card: Any) -> None:
    session, engine = opened
    streams = [cuda.stream() for _ in range(3)]

    def work(number: int) -> bool:
        pixels = chips(5, number)
        (output,) = session.run_device(to_card(normalise(pixels, tiny.spec)), streams[number % 3])
        return np.allclose(from_card(output), reference(tiny, pixels), rtol=0.01, atol=0.01)

    with ThreadPoolExecutor(3) as pool:
        assert all(pool.map(work, range(24)))
    assert {handle for handle, _, _ in engine.executed} == {stream.handle for stream in streams}
    assert len(engine.configs) == 3  # a context for each stream


def test_threads_share_the_session(opened: Any, tiny: Model) -> None:
    session, _ = opened
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda seed: session.run(chips(3, seed))[0], range(12)))
    for seed, result in enumerate(results):
        np.testing.assert_allclose(result, reference(tiny, chips(3, seed)), rtol=0.01, atol=0.01)


def test_compiled_kernels_are_kept(tiny: Model, cuda: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of every context of a session in one cache, written once: when all shapes have run, or after a run that met a new one."""
    engines: list[FakeEngine] = []
    (network,) = networks_of(tiny)
    cache = types.SimpleNamespace(serialize=lambda: b"%d kernels" % len({shape for _, shape, _ in engines[0].executed}))
    caches: list[Any] = []
    written: list[int] = []

    class WithCache(FakeEngine):
        def create_runtime_config(self) -> Any:
            config = super().create_runtime_config()
            config.create_runtime_cache = lambda: cache
            config.set_runtime_cache = caches.append
            return config

    kept = KernelCache(tmp_path / "n.kernels", "a" * 64)
    real = kept.keep
    monkeypatch.setattr(kept, "keep", lambda: (written.append(1), real()))
    flavour = fake_flavour("tensorrt_rtx", engines, WithCache)
    facts = facts_of(network, Profile((1, 4, 64)))
    plan = graph_of(tiny, network, "fp16")
    session = TensorRtSession(facts, plan, tiny.spec, CHOICE, flavour=flavour, cuda=cuda, kernels=kept)
    assert not kept.path.exists()
    session.run(chips(4))
    assert kept.path.read_bytes().endswith(b"1 kernels") and len(written) == 1
    session.warm(cuda.named("encode"))
    assert kept.path.read_bytes().endswith(b"2 kernels") and len(written) == 2
    for count in (4, 40, 64, 70):
        session.run(chips(count))
    assert len(written) == 2 and caches == [cache, cache]


@pytest.mark.parametrize("package", ["tensorrt", "tensorrt_rtx"])
def test_few_contexts_for_any_batches(tiny: Model, cuda: Any, to_card: Any, package: str) -> None:
    """After `warm` none is made, and every launch is a replay; the contexts of a stream share one arena."""
    engines: list[FakeEngine] = []
    (network,) = networks_of(tiny)
    facts = facts_of(network, Profile((1, 64, 128)))
    session = TensorRtSession(
        facts, graph_of(tiny, network, "fp16"), tiny.spec, CHOICE, flavour=fake_flavour(package, engines), cuda=cuda
    )
    stream = cuda.named("encode")
    session.warm(stream)
    engine = engines[0]
    assert [shape[0] for _, shape, _ in engine.executed] == [32, 32, 128, 128] and len(engine.configs) == 2
    assert len({context.memory for context in engine.contexts}) == 1 and stream.syncs == 2
    captured, replayed = cuda.captures, cuda.replays
    for count in (*range(1, 40), 100, 128, 129, 300):
        session.run_device(to_card(normalise(chips(count), tiny.spec)), stream)
    assert len(engine.configs) == 2 and stream.syncs == 2 and cuda.captures == captured
    if package == "tensorrt":
        assert cuda.replays - replayed == 39 + 1 + 1 + 2 + 3
    session.run(chips(3))
    assert len(engine.configs) == 2  # on the same stream
    allocated = cuda.allocated
    session.release()
    assert cuda.arena(stream).nbytes == 0
    session.run_device(to_card(normalise(chips(2), tiny.spec)), stream)
    assert len(engine.configs) == 3 and cuda.allocated > allocated


def test_the_arena_moves_what_works_in_it(cuda: Any) -> None:
    """A larger context needs a larger one: all are told, before the old one goes."""
    stream = cuda.stream()
    told: list[tuple[str, int]] = []
    first, second = (lambda start, name=name: told.append((name, start)) for name in "ab")
    arena = cuda.arena(stream)
    arena.join(1000, first)
    arena.join(500, second)
    assert told[0][1] == told[1][1] and told[0][1] % 256 == 0 and stream.syncs == 1
    third = lambda start: told.append(("c", start))
    arena.join(5000, third)
    assert [name for name, _ in told[2:]] == ["a", "b", "c"] and len({start for _, start in told[2:]}) == 1
    assert stream.syncs == 2 and arena.nbytes == 5000
    for move in (first, second, third):
        arena.leave(move)
    assert arena.nbytes == 0


def test_what_does_not_fit(opened: Any, tiny: Model, cuda: Any, to_card: Any) -> None:
    session, engine = opened
    with pytest.raises(
        ValueError, match=r"'encode' takes float16 \(N, 3, H, W\), and was given uint8 \(2, 16, 16, 3\)"
    ):
        session.run_device(to_card(chips(2)), cuda.stream())
    engine.fails = True
    with pytest.raises(DeviceError, match=r"fails while it runs \(out of luck\)"):
        session.run(chips(2))


def test_a_plan_that_does_not_load(tiny: Model, cuda: Any) -> None:
    (network,) = networks_of(tiny)
    facts = facts_of(network, Profile((1, 4, 8)))
    with pytest.raises(
        DeviceError, match=r"does not load the engine of tiny \(magic tag does not match\); build it again"
    ):
        TensorRtSession(facts, b"broken", tiny.spec, CHOICE, flavour=fake_flavour("tensorrt", []), cuda=cuda)


def test_canvases_choose_their_profile(tiny: Model, cuda: Any, to_card: Any, from_card: Any) -> None:
    """A network of pixels and of any size, as a detector is, with a profile for each look."""
    engines: list[FakeEngine] = []
    network = Network("detect", ("embedding",), "pixels", (0, 0))
    graph = graph_of(tiny, network, "fp16")
    facts = facts_of(network, Profile((2, 4, 8), (4, 8, 8)), Profile((1, 1, 2), (8, 16, 16)))
    session = TensorRtSession(facts, graph, tiny.spec, CHOICE, flavour=fake_flavour("tensorrt_rtx", engines), cuda=cuda)
    (output,) = session.run_device(to_card(chips(3)), cuda.stream())
    np.testing.assert_allclose(from_card(output), reference(tiny, chips(3)), rtol=0.02, atol=0.02)
    assert [(shape[0], profile) for _, shape, profile in engines[0].executed] == [(2, 1), (2, 1)]
    with pytest.raises(
        DeviceError,
        match=r"takes pictures of 4 to 8 or 8 to 16 pixels, not of 128x128; build it again",
    ):
        session.run_device(to_card(np.zeros((3, 128, 128, 3), np.uint8)), cuda.stream())
