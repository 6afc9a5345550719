"""Every name that our code takes from NVIDIA's and ONNX Runtime's packages, looked up in the real ones: no card is needed for that.

Read from the code itself: each ``receiver.name`` of the files below must be an attribute of the class that the receiver is, and each call
must fit the signature that the package tells. So a stand-in of a test, which has whatever the test gave it, hides no misspelt name.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ENGINE = Path(__file__).parents[2] / "engine"
TRT = "tensorrt_rtx"
# File: what its names are. A receiver is written as in the code.
RECEIVERS: dict[str, dict[str, str]] = {
    "runtimes/tensorrt.py": {
        "trt": TRT,
        "engine": f"{TRT}:ICudaEngine",
        "self._engine": f"{TRT}:ICudaEngine",
        "self._runtime": f"{TRT}:Runtime",
    },
    "runtimes/tensorrt_lane.py": {
        "trt": TRT,
        "context": f"{TRT}:IExecutionContext",
        "self._context": f"{TRT}:IExecutionContext",
        "config": f"{TRT}:IRuntimeConfig",
        "self._engine": f"{TRT}:ICudaEngine",
    },
    "runtimes/trt_build.py": {
        "trt": TRT,
        "builder": f"{TRT}:Builder",
        "network": f"{TRT}:INetworkDefinition",
        "parser": f"{TRT}:OnnxParser",
        "config": f"{TRT}:IBuilderConfig",
        "made": f"{TRT}:IOptimizationProfile",
        "given": f"{TRT}:ITensor",
        "runtime": f"{TRT}:Runtime",
    },
    "runtimes/kernel_cache.py": {"config": f"{TRT}:IRuntimeConfig", "self._cache": f"{TRT}:IRuntimeCache"},
    "runtimes/flavours.py": {"self.module": TRT},
    "runtimes/cuda_memory.py": {
        "core": "cuda.core",
        "self._core": "cuda.core",
        "self._device": "cuda.core:Device",
        "self._device.memory_resource": "cuda.core:DeviceMemoryResource",
        "core.LegacyPinnedMemoryResource()": "cuda.core:LegacyPinnedMemoryResource",
        "driver": "cuda.bindings.driver",
        "stream": "cuda.core:Stream",
        "buffer": "cuda.core:Buffer",
        "builder": "cuda.core.graph:GraphBuilder",
        "graph": "cuda.core.graph:Graph",
    },
    "pipeline/gpu/lane.py": {
        "self._device": "cuda.core:Device",
        "device": "cuda.core:Device",
        "self.stream": "cuda.core:Stream",
        "buffer": "cuda.core:Buffer",
        "library": "cuda.core:ObjectCode",
    },
    "pipeline/gpu/cuda.py": {
        "lane.stream": "cuda.core:Stream",
        "self._lane.stream": "cuda.core:Stream",
        "driver.CUdevice_attribute": "cuda.bindings.driver:CUdevice_attribute",
    },
    "pipeline/gpu/compiler.py": {"program": "cuda.core:Program"},
    "pipeline/gpu/dali.py": {
        "self.dynamic": "nvidia.dali.experimental.dynamic",
        "self.dynamic.decoders": "nvidia.dali.experimental.dynamic.decoders",
        "self.dynamic.EvalMode": "nvidia.dali.experimental.dynamic:EvalMode",
        "decoded": "nvidia.dali.experimental.dynamic:Batch",
    },
    "pipeline/gpu/nvimagecodec.py": {
        "module": "nvidia.nvimgcodec",
        "module.ColorSpec": "nvidia.nvimgcodec:ColorSpec",
        "self._module": "nvidia.nvimgcodec",
        "self._decoder": "nvidia.nvimgcodec:Decoder",
    },
    "runtimes/onnxruntime.py": {
        "onnxruntime": "onnxruntime",
        "binding": "onnxruntime:IOBinding",
        "value": "onnxruntime:OrtValue",
        "self._session": "onnxruntime:InferenceSession",
    },
}
# Functions of ours that call one of the package by its name: the name, and whether more arguments follow it.
BY_NAME = {"_driver": "cuda.bindings.driver", "_ask_nvrtc": "cuda.bindings.nvrtc"}
VENDORS = ("cuda", "nvidia", "onnxruntime", "tensorrt", "tensorrt_rtx")
ELSEWHERE = {
    # What only the other package has, and the code asks for before it uses it.
    ("runtimes/trt_build.py", "trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED"),
}


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """nvImageCodec reads this once, when it is imported; other tests of this process see what it prints."""
    monkeypatch.setenv("PYNVIMGCODEC_VERBOSITY", "0")


def vendor(where: str) -> Any:
    """A module, or ``module:name``; the test is skipped where the package is not installed."""
    module, _, name = where.partition(":")
    package = pytest.importorskip(module.partition(".")[0] if module.startswith(TRT) else module)
    found = importlib.import_module(module) if module != package.__name__ else package
    return getattr(found, name) if name else found


def uses(file: str, receiver: str) -> Iterator[tuple[str, ast.Call | None, int]]:
    """Each attribute of a receiver that a file takes, with the call if it is called."""
    tree = ast.parse((ENGINE / file).read_text(encoding="utf-8"))
    called = {id(node.func): node for node in ast.walk(tree) if isinstance(node, ast.Call)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == receiver:
            yield node.attr, called.get(id(node)), node.lineno


def signatures(thing: Any) -> list[inspect.Signature] | None:
    """How a thing may be called, of each overload; None where it does not tell."""
    if isinstance(thing, type):
        thing = thing.__init__ if "__init__" in vars(thing) else thing
    text = inspect.getdoc(thing) or ""
    told = re.findall(r"^(?:\d+\. )?\w+\((self(?:: [\w.:]+)?.*)\) -> ", text, re.MULTILINE)  # as pybind11 writes
    if told:
        return [_parsed(arguments) for arguments in told if arguments != "*args, **kwargs"]
    try:
        return [inspect.signature(thing)]
    except (TypeError, ValueError):
        return None


def _parsed(arguments: str) -> inspect.Signature:
    """Names and defaults of pybind11's arguments; their types are left out."""
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    parameters = []
    for part in _split(arguments):
        if part == "*":
            kind = inspect.Parameter.KEYWORD_ONLY
            continue
        default = None if "=" in part else inspect.Parameter.empty
        parameters.append(inspect.Parameter(re.split(r"[:=]", part)[0].strip(), kind, default=default))
    return inspect.Signature(parameters)


def _split(arguments: str) -> list[str]:
    parts, depth, start = [], 0, 0
    for place, letter in enumerate(arguments):
        depth += (letter in "[(<") - (letter in "])>")
        if letter == "," and depth == 0:
            parts.append(arguments[start:place].strip())
            start = place + 1
    return [*parts, arguments[start:].strip()]


def fits(thing: Any, call: ast.Call, *, bound: bool, skip: int = 0) -> bool:
    """Whether a call as it is written fits one of the signatures."""
    told = signatures(thing)
    given = call.args[skip:]
    if told is None or any(isinstance(one, ast.Starred) for one in given):
        return True
    if any(word.arg is None for word in call.keywords):
        return True
    words = {word.arg: None for word in call.keywords if word.arg}
    for signature in told:
        own = bound and "self" in signature.parameters
        try:
            signature.bind(*([None] * (len(given) + own)), **words)
        except TypeError:
            continue
        return True
    return False


CASES = [(file, receiver) for file, names in RECEIVERS.items() for receiver in names]


@pytest.mark.parametrize(("file", "receiver"), CASES, ids=[f"{file}-{receiver}" for file, receiver in CASES])
def test_what_the_code_uses_is_there(file: str, receiver: str) -> None:
    owner = vendor(RECEIVERS[file][receiver])
    found = list(uses(file, receiver))
    assert found, f"{file} has no '{receiver}' any more: this test looks at nothing"
    ours = set(RECEIVERS[file])
    for name, call, line in found:
        if (file, f"{receiver}.{name}") in ELSEWHERE:
            continue
        assert hasattr(owner, name), f"{file}:{line}: {RECEIVERS[file][receiver]} has no '{name}'"
        if call is not None and f"{receiver}.{name}" not in ours:
            thing = getattr(owner, name)
            assert fits(thing, call, bound=True), f"{file}:{line}: {ast.unparse(call)} does not fit {signatures(thing)}"


def test_enumerations_have_their_members() -> None:
    """As in ``trt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE``."""
    trt = vendor(TRT)
    looked = 0
    for file in ("runtimes/tensorrt.py", "runtimes/tensorrt_lane.py", "runtimes/trt_build.py"):
        tree = ast.parse((ENGINE / file).read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            text = ast.unparse(node) if isinstance(node, ast.Attribute) else ""
            if re.fullmatch(r"trt\.[A-Z]\w+\.[A-Z_]+", text):
                _, kind, member = text.split(".")
                assert hasattr(getattr(trt, kind), member), text
                looked += 1
    wrong = trt.EngineInvalidityDiagnostics
    assert int(wrong.MALFORMED_ENGINE) and int(wrong.VERSION_MISMATCH)
    assert looked >= 5


def test_backends_by_name() -> None:
    """nvImageCodec's, as the code and `benchmarks/card.py` name them in text."""
    kinds = vendor("nvidia.nvimgcodec:BackendKind").__members__
    texts = [ENGINE / "pipeline/gpu/nvimagecodec.py", ENGINE.parent / "benchmarks/card_parts.py"]
    named = {name for path in texts for name in re.findall(r'"((?:CPU|GPU|HW_GPU|HYBRID_CPU)_\w+)"', path.read_text())}
    assert named == {"CPU_ONLY", "GPU_ONLY", "HW_GPU_ONLY", "HYBRID_CPU_GPU"} and named <= set(kinds)


@pytest.mark.parametrize("function", BY_NAME)
def test_functions_called_by_name(function: str) -> None:
    module = vendor(BY_NAME[function])
    found = 0
    for path in ENGINE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            called = isinstance(node, ast.Call) and ast.unparse(node.func) == function and node.args
            if called and isinstance(node.args[0], ast.Constant):
                thing = getattr(module, node.args[0].value)
                assert fits(thing, node, bound=False, skip=1), f"{path.name}:{node.lineno}: {ast.unparse(node)}"
                found += 1
    assert found >= 2


def test_imports_of_names() -> None:
    """``from cuda.core import Device``, and modules that are imported by name, in every file."""
    found = 0
    for path in ENGINE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in VENDORS:
                owner = vendor(str(node.module))
                for name in node.names:
                    there = hasattr(owner, name.name)
                    assert there or importlib.import_module(f"{node.module}.{name.name}"), f"{path.name}:{node.lineno}"
                    found += 1
    assert found >= 8


def test_it_can_fail(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A name that is misspelt, an argument too many, a keyword that is none."""
    trt = vendor(TRT)
    assert not hasattr(trt.IExecutionContext, "set_tensor_adress")
    for code, right in (
        ("context.set_input_shape(name, shape)", True),
        ("context.set_input_shape(name)", False),
        ("context.set_device_memory(start, size, stream)", False),
        ("context.execute_async_v3(stream_handle=stream)", True),
        ("context.execute_async_v3(stream=stream)", False),
    ):
        call = ast.parse(code, mode="eval").body
        assert isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute)
        assert fits(getattr(trt.IExecutionContext, call.func.attr), call, bound=True) is right, code
    device = vendor("cuda.core:Device")
    call = ast.parse("device.allocate(5, stream)", mode="eval").body
    assert isinstance(call, ast.Call) and not fits(device.allocate, call, bound=True)
