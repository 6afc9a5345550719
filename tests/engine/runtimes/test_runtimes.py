"""Choosing a runtime is never silent; every runtime gives the same numbers; colours and sub-networks are as the spec says."""

from __future__ import annotations

import dataclasses
import importlib.util
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from faceembed.cores import available_cores
from faceembed.engine.models.graph import GraphWriter
from faceembed.engine.models.registry import resolve
from faceembed.engine.models.spec import ARCFACE_TEMPLATE, Colour, Model, ModelSpec
from faceembed.engine.runtimes import choose as module
from faceembed.engine.runtimes import openvino
from faceembed.engine.runtimes.base import RuntimeChoice, Session
from faceembed.engine.runtimes.batching import run_in_chunks
from faceembed.engine.runtimes.choose import RuntimeSettings, choose
from faceembed.engine.runtimes.frontend import with_pixel_input
from faceembed.engine.runtimes.sessions import open_session
from faceembed.errors import DeviceError, ModelError, UsageError

RUNTIMES = ("openvino", "onnxruntime")
MEAN = (10.0, 60.0, 110.0)
SCALE = 1 / 50


@pytest.fixture(scope="module")
def cascade() -> Model:
    """A file of three networks."""
    return resolve("mtcnn", task="aligner")


def choice(runtime: str) -> RuntimeChoice:
    return RuntimeChoice(runtime, "cpu", "fp32", "test")


def small_net(folder: Path, *, colour: Colour = "rgb", swap: bool = False, name: str = "net") -> Model:
    """A convolution over all pixels of an 8x8 chip, then a matrix; ``swap`` reverses the first layer's input channels."""
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(6, 3, 8, 8)).astype(np.float32) / 10
    writer = GraphWriter("small")
    x = writer.conv(writer.input("chips", ["N", 3, 8, 8]), kernel[:, ::-1] if swap else kernel, rng.normal(size=6))
    x = writer.node("Flatten", [writer.node("Relu", [x])])
    x = writer.node("MatMul", [x, writer.constant(rng.normal(size=(6, 4)).astype(np.float32))])
    writer.output(x, "embedding", ["N", 4])
    path = folder / f"{name}.onnx"
    path.write_bytes(writer.serialise())
    mean = MEAN[::-1] if colour == "bgr" else MEAN
    spec = ModelSpec(name, "encoder", (8, 8), colour, mean, SCALE, 4, template=ARCFACE_TEMPLATE)
    return Model(spec, str(path))


def pixels(count: int, side: int = 8) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def by_hand(chips: np.ndarray) -> np.ndarray:
    """`small_net` in float64."""
    rng = np.random.default_rng(0)
    kernel, bias = rng.normal(size=(6, 3, 8, 8)).astype(np.float32) / 10, rng.normal(size=6)
    x = np.maximum(np.einsum("nhwc,fchw->nf", (chips.astype(np.float64) - MEAN) * SCALE, kernel) + bias, 0)
    return x @ rng.normal(size=(6, 4))


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_preprocessing_is_the_specs(tmp_path: Path, runtime: str) -> None:
    session = open_session(small_net(tmp_path), choice(runtime), threads=1)
    (output,) = session.run(pixels(5))
    assert output.dtype == np.float32
    np.testing.assert_allclose(output, by_hand(pixels(5)), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_bgr_model_with_swapped_weights_is_the_rgb_one(tmp_path: Path, runtime: str) -> None:
    rgb = small_net(tmp_path)
    bgr = small_net(tmp_path, colour="bgr", swap=True, name="bgr")
    mixed_up = dataclasses.replace(bgr, spec=dataclasses.replace(bgr.spec, colour="rgb"))
    outputs = [open_session(model, choice(runtime), threads=1).run(pixels(4))[0] for model in (rgb, bgr, mixed_up)]
    np.testing.assert_allclose(outputs[1], outputs[0], rtol=1e-4, atol=1e-4)
    assert np.abs(outputs[2] - outputs[0]).max() > 0.1  # the difference that a wrong spec makes


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_swapped_first_layers_of_the_real_encoder(
    tmp_path: Path, encoder_model: Model, astronaut: np.ndarray, runtime: str
) -> None:
    proto = onnx.load(encoder_model.path)
    filters = {node.input[1] for node in proto.graph.node if node.op_type == "Conv"}
    for weight in proto.graph.initializer:
        if weight.name in filters and weight.dims[1] == 3:  # those that see colours: of a gated encoder there are two
            swapped = np.ascontiguousarray(onnx.numpy_helper.to_array(weight)[:, ::-1])
            weight.CopyFrom(onnx.numpy_helper.from_array(swapped, weight.name))
    path = tmp_path / "bgr.onnx"
    path.write_bytes(proto.SerializeToString())
    spec = dataclasses.replace(encoder_model.spec, colour="bgr", mean=encoder_model.spec.mean[::-1])
    chips = np.stack([astronaut[40:190, 150:300], astronaut[60:210, 140:290]])
    one, other = (
        open_session(model, choice(runtime), threads=1).run(chips)[0]
        for model in (encoder_model, Model(spec, str(path)))
    )
    np.testing.assert_allclose(other, one, atol=1e-4)


def test_runtimes_agree_on_the_cascade(cascade: Model, astronaut: np.ndarray) -> None:
    photo = np.ascontiguousarray(astronaut[None, :133, :171])
    names = ("pnet_score", "pnet_box")
    one, other = (open_session(cascade, choice(r), outputs=names, threads=1).run(photo) for r in RUNTIMES)
    for a, b in zip(one, other, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)


def test_cutting_keeps_only_what_the_outputs_need(cascade: Model) -> None:
    whole = onnx.load(cascade.path)
    assert {value.name for value in whole.graph.input} == {"pnet", "rnet", "onet"}
    for network, outputs in (("pnet", ["pnet_box", "pnet_score"]), ("onet", ["onet_landmarks"])):
        proto = onnx.load_from_string(with_pixel_input(cascade, outputs))
        onnx.checker.check_model(proto)
        assert [value.name for value in proto.graph.input] == ["pixels"]
        assert [value.name for value in proto.graph.output] == outputs
        assert len(proto.graph.node) < len(whole.graph.node)
        made = {name for node in proto.graph.node for name in node.output}
        used = {name for node in proto.graph.node for name in node.input}
        assert used - made - {entry.name for entry in proto.graph.initializer} == {"pixels"}
        assert {entry.name for entry in proto.graph.initializer} <= used
        assert network in made


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_outputs_come_in_the_order_asked_for(cascade: Model, runtime: str) -> None:
    photo = np.zeros((2, 48, 48, 3), np.uint8)
    for names in (["onet_landmarks", "onet_score"], ["onet_score", "onet_box", "onet_landmarks"]):
        outputs = open_session(cascade, choice(runtime), outputs=names, threads=1).run(photo)
        widths = {"onet_score": 1, "onet_box": 4, "onet_landmarks": 10}
        assert [output.shape for output in outputs] == [(2, widths[name]) for name in names]


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_what_is_not_a_usable_model(tmp_path: Path, cascade: Model, runtime: str) -> None:
    model = small_net(tmp_path)
    with pytest.raises(ModelError, match="has no output 'pnet_score'; is it a 'net' file"):
        open_session(model, choice(runtime), outputs=["pnet_score"], threads=1)
    with pytest.raises(ModelError, match="has 3 inputs, expected one"):
        open_session(cascade, choice(runtime), threads=1)
    for content in (b"", b"not ONNX at all" * 9, Path(model.path).read_bytes()[:-200]):
        broken = tmp_path / "broken.onnx"
        broken.write_bytes(content)
        with pytest.raises((ModelError, DeviceError), match=r"broken\.onnx"):
            open_session(Model(model.spec, str(broken)), choice(runtime), threads=1)
    with pytest.raises(ModelError, match=r"none\.onnx is not a readable ONNX file"):
        open_session(Model(model.spec, str(tmp_path / "none.onnx")), choice(runtime), threads=1)


def test_input_that_is_no_picture(tmp_path: Path) -> None:
    writer = GraphWriter("flat")
    writer.output(writer.node("Relu", [writer.input("x", ["N", 12])]), "y", ["N", 12])
    path = tmp_path / "flat.onnx"
    path.write_bytes(writer.serialise())
    with pytest.raises(ModelError, match=r"shape \['N', 12\]; expected \(N, 3, H, W\)"):
        with_pixel_input(Model(small_net(tmp_path).spec, str(path)))


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_threads_share_a_session(tmp_path: Path, runtime: str) -> None:
    session = open_session(small_net(tmp_path), choice(runtime), threads=2)
    batches = [pixels(count) for count in (1, 4, 8, 3) * 6]
    expected = [session.run(batch)[0] for batch in batches]
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda batch: session.run(batch)[0], batches))
    for got, wanted in zip(results, expected, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="affinities of threads are read from Linux's /proc")
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_no_thread_is_bound_to_a_core(tmp_path: Path, runtime: str) -> None:
    """OpenVINO binds threads by default, in every process to the same cores: two runs of one worker took turns on one core."""
    (tmp_path / "spec.json").write_text(small_net(tmp_path).spec.to_json())
    code = f"""
import contextlib, os, pathlib, threading
import numpy as np
from faceembed.engine.models.spec import Model, ModelSpec
from faceembed.engine.runtimes.base import RuntimeChoice
from faceembed.engine.runtimes.sessions import open_session
folder = pathlib.Path({str(tmp_path)!r})
model = Model(ModelSpec.from_json((folder / "spec.json").read_text()), str(folder / "net.onnx"))
session = open_session(model, RuntimeChoice({runtime!r}, "cpu", "fp32", ""), threads=1)
bound, busy = set(), True
def look():  # they are bound while they compute, and let go after
    while busy:
        for task in pathlib.Path("/proc/self/task").iterdir():
            with contextlib.suppress(ProcessLookupError):
                bound.add(len(os.sched_getaffinity(int(task.name))))
watch = threading.Thread(target=look)
watch.start()
for _ in range(100):
    session.run(np.zeros((512, 8, 8, 3), np.uint8))
busy = False
watch.join()
print(len(os.sched_getaffinity(os.getppid())), min(bound))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    cores, least = map(int, done.stdout.split())
    if cores == 1:
        pytest.skip("one core: nothing to bind to")
    assert least == cores


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_outputs_belong_to_the_caller(tmp_path: Path, runtime: str) -> None:
    session = open_session(small_net(tmp_path), choice(runtime), threads=1)
    first = session.run(pixels(4))[0]
    copy = first.copy()
    session.run(pixels(4)[::-1].copy())
    np.testing.assert_array_equal(first, copy)
    first[:] = 0  # writable


# --- chunks ---------------------------------------------------------------------------------------------------------


class Sums(Session):
    """Per-picture sums, and the batch sizes it was asked for."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def run(self, pixels: np.ndarray) -> tuple[np.ndarray, ...]:
        assert pixels.flags.c_contiguous
        self.sizes.append(len(pixels))
        total = pixels.reshape(len(pixels), -1).sum(1, dtype=np.float32)
        return total, np.stack([total, -total], 1)


@settings(max_examples=80, deadline=None, derandomize=True)
@given(st.integers(1, 70), st.integers(1, 5), st.integers(1, 8))
def test_chunks_are_the_whole(count: int, multiple: int, step: int) -> None:
    session, batch = Sums(), np.random.default_rng(count).integers(0, 256, (count, 2, 2, 3), dtype=np.uint8)
    totals, pairs = run_in_chunks(session, batch, chunk=multiple * step, step=step)
    np.testing.assert_array_equal(totals, batch.reshape(count, -1).sum(1))
    np.testing.assert_array_equal(pairs[:, 1], -totals)
    assert all(size <= multiple * step for size in session.sizes)
    few = {size for size in session.sizes if size % step}
    assert all(size < step and size & (size - 1) == 0 for size in few)  # powers of two, below a step only


@pytest.mark.parametrize(("count", "size"), [(1, 1), (2, 2), (3, 4), (5, 8), (8, 8), (9, 16), (17, 24)])
def test_a_few_pictures_are_padded_little(count: int, size: int) -> None:
    session = Sums()
    run_in_chunks(session, np.zeros((count, 2, 2, 3), np.uint8), chunk=32, step=8)
    assert session.sizes == [size]


# --- choosing -------------------------------------------------------------------------------------------------------


def installed(monkeypatch: pytest.MonkeyPatch, names: Sequence[str]) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        module.importlib.util, "find_spec", lambda name: find(name) if name not in RUNTIMES or name in names else None
    )
    monkeypatch.setattr(module, "probe", no_driver)


def no_driver() -> None:
    raise DeviceError("no NVIDIA driver on this machine; install one, or use --device cpu")


def test_auto_takes_openvino_then_onnxruntime(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "probe", no_driver)
    assert choose(RuntimeSettings()).runtime == "openvino"
    installed(monkeypatch, ["onnxruntime"])
    chosen = choose(RuntimeSettings())
    assert (chosen.runtime, chosen.precision, chosen.device) == ("onnxruntime", "fp32", "cpu")
    assert "OpenVINO is not installed" in chosen.why
    installed(monkeypatch, [])
    with pytest.raises(DeviceError, match=r"neither OpenVINO nor ONNX Runtime is installed; run: pip install"):
        choose(RuntimeSettings())


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_runtime_asked_for_is_that_or_an_error(monkeypatch: pytest.MonkeyPatch, runtime: str) -> None:
    monkeypatch.setattr(module, "probe", no_driver)
    assert choose(RuntimeSettings(runtime=runtime)).runtime == runtime
    installed(monkeypatch, [other for other in RUNTIMES if other != runtime])
    with pytest.raises(DeviceError, match=f"runtime '{runtime}' is not installed"):
        choose(RuntimeSettings(runtime=runtime))


def test_precision_asked_for_is_that_or_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "probe", no_driver)
    assert choose(RuntimeSettings(precision="fp32")).precision == "fp32"
    with pytest.raises(DeviceError, match="ONNX Runtime computes in fp32"):
        choose(RuntimeSettings(runtime="onnxruntime", precision="bf16"))
    monkeypatch.setattr(openvino, "supported_precisions", lambda: ("bf16", "fp32"))
    assert choose(RuntimeSettings(runtime="openvino")).precision == "bf16"
    assert choose(RuntimeSettings(runtime="openvino", precision="bf16")).precision == "bf16"
    assert choose(RuntimeSettings(runtime="onnxruntime")).precision == "fp32"
    monkeypatch.setattr(openvino, "supported_precisions", lambda: ("fp32",))
    assert choose(RuntimeSettings(runtime="openvino")).precision == "fp32"
    with pytest.raises(DeviceError, match="no native bf16"):
        choose(RuntimeSettings(runtime="openvino", precision="bf16"))


@pytest.mark.parametrize("bad", [{"runtime": "tensorflow"}, {"precision": "int4"}, {"threads": -1}])
def test_settings_that_make_no_sense(bad: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=str(next(iter(bad.values())))):
        RuntimeSettings(**bad)


def test_threads() -> None:
    assert RuntimeSettings(threads=3).thread_count == 3
    assert RuntimeSettings().thread_count == available_cores() >= 1
