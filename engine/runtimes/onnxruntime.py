"""ONNX Runtime on the CPU: runs everywhere, and is the reference that other runtimes are compared with."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from faceembed.engine.errors import DeviceError
from faceembed.engine.models.spec import Model
from faceembed.engine.runtimes.base import RuntimeChoice, Session
from faceembed.engine.runtimes.frontend import PIXELS, with_pixel_input


def version() -> str:
    """The installed release."""
    import onnxruntime

    return str(onnxruntime.__version__)


class OnnxRuntimeSession(Session):
    """One session; arguments as for `OpenVinoSession`. Each calling thread computes its own batch."""

    def __init__(self, model: Model, choice: RuntimeChoice, *, outputs: Sequence[str] = (), threads: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1  # batches run side by side in `threads` callers
        options.log_severity_level = 3
        graph = with_pixel_input(model, outputs)
        try:
            self._session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime has a dozen classes of its own without a common base
            reason = str(error).strip().splitlines()[-1]
            raise DeviceError(f"ONNX Runtime cannot run {model.path}: {reason}") from error
        self.choice = choice
        self._outputs = list(outputs) or None

    def run(self, pixels: NDArray[np.uint8]) -> tuple[NDArray[np.float32], ...]:
        return tuple(np.asarray(array, np.float32) for array in self._session.run(self._outputs, {PIXELS: pixels}))
