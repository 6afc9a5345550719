"""ONNX Runtime: on the CPU it runs everywhere and is the reference that other runtimes are compared with; on a card it is the
portable way, for cards that TensorRT does not serve.
"""

from __future__ import annotations

import contextlib
import functools
import io
import re
import subprocess
import sys
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from faceembed.engine.models.fp16 import rounded
from faceembed.engine.models.spec import Model
from faceembed.engine.runtimes.arrays import DeviceArray
from faceembed.engine.runtimes.base import DeviceSession, RuntimeChoice, Session
from faceembed.engine.runtimes.cards import index_of
from faceembed.engine.runtimes.frontend import CHIPS, PIXELS, normalise, with_pixel_input
from faceembed.engine.runtimes.networks import Network, graph_of, network_for
from faceembed.errors import DeviceError
from faceembed.install import pip_install

CUDA = "CUDAExecutionProvider"
_PACKAGES = ("onnxruntime", "onnxruntime-gpu")


def version() -> str:
    """The installed release."""
    import onnxruntime

    return str(onnxruntime.__version__)


def providers() -> tuple[str, ...]:
    """What the installed build can compute with, as ONNX Runtime names it; empty where it is not installed."""
    try:
        import onnxruntime
    except ImportError:
        return ()
    return tuple(onnxruntime.get_available_providers())


def check_alone() -> None:
    """Refuse an environment with both of ONNX Runtime's packages: they hold the same files, and the one installed last wins.

    Raises:
        DeviceError: both are here.
    """
    if len(here := [name for name in _PACKAGES if _is_installed(name)]) > 1:
        raise DeviceError(
            f"{' and '.join(here)} are installed beside each other, and each has overwritten files of the other; run: "
            f"pip uninstall -y {' '.join(here)}, then {pip_install('onnx-cuda')} (for a card) or {pip_install('cpu')}"
        )


def _is_installed(distribution: str) -> bool:
    import importlib.metadata  # where there is a card: every other start would pay 20 ms for it

    try:
        importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


@functools.cache
def load_cuda_libraries() -> str:
    """Load CUDA and cuDNN as pip installs them, in folders where the system's loader does not look; once for a process.

    Returns:
        What ONNX Runtime said of libraries that it did not find, a line each. It prints that on stdout, where results go.
    """
    import onnxruntime

    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        onnxruntime.preload_dlls()
    return said.getvalue().strip()


_TRY = """
import contextlib, io, sys
import onnxruntime
from onnx import TensorProto, helper
with contextlib.redirect_stdout(io.StringIO()):
    onnxruntime.preload_dlls()
sides = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "try", sides[:1], sides[1:])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
print(*onnxruntime.InferenceSession(model.SerializeToString(), providers=[sys.argv[1]]).get_providers())
"""
_TRY_SECONDS = 120.0
_REASON = re.compile(r"with error: (.+)|(?:CUDA failure \d+: )([^;\n]+)|(?:Error|error): (.+)")


def why_not_starting(provider: str = CUDA) -> str:
    """Why a provider of the installed build does not start here; empty if it does.

    Tried in a process of its own: ONNX Runtime says so on stderr alone, and what it has loaded stays loaded.
    """
    try:
        tried = subprocess.run(
            [sys.executable, "-c", _TRY, provider], capture_output=True, text=True, timeout=_TRY_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"it cannot be tried ({error})"
    if tried.returncode == 0 and provider in tried.stdout.split():
        return ""
    found = _REASON.search(tried.stderr)
    lines = tried.stderr.strip().splitlines()
    return (
        next((part.strip() for part in found.groups() if part), "")
        if found
        else "".join(lines[-1:]) or "no reason given"
    )


class OnnxRuntimeSession(Session):
    """One session on the CPU; arguments as for `OpenVinoSession`. Each calling thread computes its own batch."""

    def __init__(self, model: Model, choice: RuntimeChoice, *, outputs: Sequence[str] = (), threads: int) -> None:
        self._session = _load(model, with_pixel_input(model, outputs), ["CPUExecutionProvider"])
        self.choice = choice
        self._outputs = list(outputs) or None

    def run(self, pixels: NDArray[np.uint8]) -> tuple[NDArray[np.float32], ...]:
        return tuple(np.asarray(array, np.float32) for array in self._session.run(self._outputs, {PIXELS: pixels}))


class GraphSession(Session):
    """A network's graph as a card gets it, on the CPU, rounded as there: what it computes is checked where there is no card.

    Args:
        model: the model that it belongs to.
        network: which of its networks.
        graph: from `networks.graph_of`.
        choice: what to say of it.
    """

    def __init__(self, model: Model, network: Network, graph: bytes, choice: RuntimeChoice) -> None:
        import onnx

        checked = rounded(onnx.load_from_string(graph)).SerializeToString()
        self._session = _load(model, checked, ["CPUExecutionProvider"])
        self._spec = model.spec
        self.entry = network.entry
        self.choice = choice
        self._outputs = list(network.outputs) or None

    def run(self, pixels: NDArray[np.uint8]) -> tuple[NDArray[np.float32], ...]:
        return self.run_entry(pixels if self.entry == "pixels" else normalise(pixels, self._spec))

    def run_entry(self, given: NDArray[Any]) -> tuple[NDArray[np.float32], ...]:
        """Run one batch that is in the form that the graph takes: see `base.Entry`."""
        name = PIXELS if self.entry == "pixels" else CHIPS
        return tuple(np.asarray(array, np.float32) for array in self._session.run(self._outputs, {name: given}))


class OnnxRuntimeCudaSession(DeviceSession):
    """One session on a card, without TensorRT.

    Its work is queued on one stream of its own, which waits for the caller's and is waited for by it; so batches of several
    streams run one after another here.

    Args:
        model: the model on disk.
        choice: the card, and ``fp32`` or ``fp16``.
        outputs: names of the outputs wanted, in order; empty for all of them.
        stream: a cuda-core stream of the card.
    """

    def __init__(self, model: Model, choice: RuntimeChoice, *, outputs: Sequence[str] = (), stream: Any) -> None:
        network = network_for(model, outputs)
        self._index = index_of(choice.device)
        self._stream = stream
        check_alone()
        self._kind, provider = _device(self._index, int(stream.handle))
        load_cuda_libraries()
        self._session = _load(model, graph_of(model, network, choice.precision), [provider])
        _check_provider(self._session, provider)
        self.choice = choice
        self.entry = network.entry
        self._spec = model.spec
        self._outputs = [output.name for output in self._session.get_outputs()]
        self._order = list(outputs) or self._outputs
        self._lock = threading.Lock()

    def run(self, pixels: NDArray[np.uint8]) -> tuple[NDArray[np.float32], ...]:
        given = pixels if self.entry == "pixels" else normalise(pixels, self._spec)
        with self._lock:
            results = self._session.run(self._order, {self._input: given})
        return tuple(np.asarray(array, np.float32) for array in results)

    def run_device(self, pixels: DeviceArray, stream: Any) -> tuple[DeviceArray, ...]:
        import onnxruntime

        with self._lock:
            self._stream.wait(stream)
            binding = self._session.io_binding()
            binding.bind_input(self._input, self._kind, self._index, pixels.dtype, list(pixels.shape), pixels.pointer)
            for name in self._order:
                binding.bind_output(name, self._kind, self._index)
            options = onnxruntime.RunOptions()
            options.add_run_config_entry("disable_synchronize_execution_providers", "1")
            self._session.run_with_iobinding(binding, options)
            stream.wait(self._stream)
            values = binding.get_outputs()
        return tuple(
            DeviceArray(value.data_ptr(), tuple(value.shape()), np.dtype(np.float32), (value, pixels))
            for value in values
        )

    @property
    def _input(self) -> str:
        return PIXELS if self.entry == "pixels" else CHIPS


def _device(index: int, stream: int) -> tuple[str, Any]:
    """ONNX Runtime's name of the memory of a card, and its provider for it."""
    options = {"device_id": str(index), "user_compute_stream": str(stream), "cudnn_conv_algo_search": "HEURISTIC"}
    return "cuda", (CUDA, options)


def open_graph(graph: bytes) -> Any:
    """ONNX Runtime's own session of an ONNX file on the CPU, on one thread.

    Raises:
        DeviceError: it refuses the file.
    """
    return _open(graph, ["CPUExecutionProvider"], "the graph")


def _load(model: Model, graph: bytes, chosen: list[Any]) -> Any:
    return _open(graph, chosen, model.path)


def _open(graph: bytes, chosen: list[Any], what: str) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # batches run side by side in the caller's threads
    options.log_severity_level = 3
    if chosen != ["CPUExecutionProvider"]:
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    try:
        return onnxruntime.InferenceSession(graph, options, providers=chosen)
    except Exception as error:  # ONNX Runtime has a dozen classes of its own without a common base
        reason = str(error).strip().splitlines()[-1]
        raise DeviceError(f"ONNX Runtime cannot run {what}: {reason}") from error


def _check_provider(session: Any, provider: Any) -> None:
    """ONNX Runtime takes the CPU, with a line on stderr, where a card's provider does not start: an error for us."""
    wanted = provider if isinstance(provider, str) else provider[0]
    if wanted not in session.get_providers():
        raise DeviceError(
            f"ONNX Runtime's {wanted} does not start on this machine (its CUDA or cuDNN libraries are missing or of another "
            f"version); run: {pip_install('onnx-cuda')}, or use --device cpu"
        )
