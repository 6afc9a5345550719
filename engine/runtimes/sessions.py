"""From a choice to a session: the model opened with the runtime that was chosen."""

from __future__ import annotations

from collections.abc import Sequence

from faceembed.engine.models.spec import Model
from faceembed.engine.runtimes.base import RuntimeChoice, Session
from faceembed.engine.runtimes.cards import index_of
from faceembed.engine.runtimes.choose import otherwise
from faceembed.engine.runtimes.cuda_memory import open_cuda
from faceembed.engine.runtimes.engine_session import kept_session
from faceembed.engine.runtimes.onnxruntime import OnnxRuntimeCudaSession, OnnxRuntimeSession
from faceembed.engine.runtimes.openvino import OpenVinoSession
from faceembed.engine.runtimes.watch import SILENT, Watch
from faceembed.errors import DeviceError


def open_session(
    model: Model, choice: RuntimeChoice, *, outputs: Sequence[str] = (), threads: int, watch: Watch = SILENT
) -> Session:
    """Load a model with the runtime chosen.

    Args:
        model: the model on disk.
        choice: from `choose`.
        outputs: names of the outputs wanted, in order; empty for all.
        threads: how many threads will call `run` side by side.
        watch: told of an engine that is unfit.

    Raises:
        DeviceError: the runtime refuses the model, computes it otherwise than ONNX defines it, or no engine of it is kept.
        ModelError: the file is damaged.
    """
    if choice.runtime in model.spec.unfit and choice.device == "cpu":
        raise DeviceError(f"{model.spec.name}: {otherwise(choice.runtime)}")
    if choice.runtime == "openvino":
        return OpenVinoSession(model, choice, outputs=outputs, threads=threads)
    if choice.runtime == "tensorrt":
        return kept_session(model, choice, outputs, watch)
    if choice.device != "cpu":
        cuda = open_cuda(index_of(choice.device))
        cuda.enter()
        return OnnxRuntimeCudaSession(model, choice, outputs=outputs, stream=cuda.stream())
    return OnnxRuntimeSession(model, choice, outputs=outputs, threads=threads)
