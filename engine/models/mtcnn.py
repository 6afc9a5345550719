"""Aligner `mtcnn`: the three networks of MTCNN (https://arxiv.org/abs/1604.02878), written as ONNX.

The weights (MIT) lie inside the PyPI wheel `mtcnn` 1.0.0 as joblib arrays in TensorFlow's layout; that package's own code
needs TensorFlow and is not run. All three networks go into one ONNX file, so that a model is one file:

| network | input                       | outputs                                                                    |
| ------- | --------------------------- | -------------------------------------------------------------------------- |
| PNet    | `pnet` (N, 3, H, W)         | `pnet_score` (N, 1, H', W'), `pnet_box` (N, 4, H', W')                     |
| RNet    | `rnet` (N, 3, 24, 24)       | `rnet_score` (N, 1), `rnet_box` (N, 4)                                     |
| ONet    | `onet` (N, 3, 48, 48)       | `onet_score` (N, 1), `onet_box` (N, 4), `onet_landmarks` (N, 10)           |

Scores are probabilities of a face; boxes are offsets (x1, y1, x2, y2) in units of the window's side; landmarks are five
x then five y in the same unit. Input is RGB, ``(pixel - 127.5) / 128``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from faceembed.engine.models.graph import GraphWriter
from faceembed.engine.models.packages import BOOTSTRAP, package_file
from faceembed.engine.models.spec import ModelSpec
from faceembed.errors import ModelError
from faceembed.install import pip_install

Weights = list[NDArray[np.float32]]

# The shapes of the three files, in order: a check that this is the package we know.
_SHAPES: dict[str, list[tuple[int, ...]]] = {
    "pnet": [(3, 3, 3, 10), (3, 3, 10, 16), (3, 3, 16, 32), (1, 1, 32, 4), (1, 1, 32, 2)],
    "rnet": [(3, 3, 3, 28), (3, 3, 28, 48), (2, 2, 48, 64), (576, 128), (128, 4), (128, 2)],
    "onet": [
        (3, 3, 3, 32),
        (3, 3, 32, 64),
        (3, 3, 64, 64),
        (2, 2, 64, 128),
        (1152, 256),
        (256, 4),
        (256, 10),
        (256, 2),
    ],
}


def load_weights(network: str) -> Weights:
    """The arrays of ``pnet``, ``rnet`` or ``onet`` in file order: kernel, bias and PReLU slope of each layer.

    Raises:
        ModelError: the package is missing, or its arrays are not the known ones.
    """
    path = package_file("mtcnn", f"assets/weights/{network}.lz4", extra=BOOTSTRAP)
    try:
        import joblib
        import lz4  # noqa: F401  # joblib needs it to read these files

        weights: Weights = [np.asarray(array, np.float32) for array in joblib.load(path)]
    except ImportError as error:
        raise ModelError(f"reading {path} needs joblib and lz4; run: {pip_install(BOOTSTRAP)}") from error
    except Exception as error:  # joblib raises anything on a damaged file
        raise ModelError(f"{path} is damaged ({error}); run: pip install --force-reinstall 'mtcnn==1.0.0'") from error
    kernels = [array.shape for array in weights if array.ndim in (2, 4)]
    if kernels != _SHAPES[network]:
        raise ModelError(f"{path} holds kernels {kernels}, expected {_SHAPES[network]}; install 'mtcnn==1.0.0'")
    return weights


class _Stack:
    """Takes a network's arrays from the front while its layers are written."""

    def __init__(self, writer: GraphWriter, weights: Weights) -> None:
        self._writer = writer
        self._weights = list(weights)

    def conv(self, x: str) -> str:
        """Unpadded convolution and PReLU (one slope a channel)."""
        kernel, bias, slope = (self._weights.pop(0) for _ in range(3))
        x = self._writer.conv(x, kernel.transpose(3, 2, 0, 1), bias)
        return self._writer.node("PRelu", [x, self._writer.constant(slope.reshape(-1, 1, 1))])

    def head(self, x: str, *, face_only: bool = False) -> str:
        """A 1x1 convolution without activation, or the face probability of a two-class softmax."""
        kernel, bias = (self._weights.pop(0) for _ in range(2))
        weight = kernel.transpose(3, 2, 0, 1)
        if not face_only:
            return self._writer.conv(x, weight, bias)
        # softmax over (no face, face) = sigmoid of the difference
        return self._writer.node("Sigmoid", [self._writer.conv(x, weight[1:] - weight[:1], bias[1:] - bias[:1])])

    def pool(self, x: str, size: int, *, same: bool) -> str:
        """Max pooling of stride 2; ``same`` pads at the end, as TensorFlow does on an even size."""
        mode = {"ceil_mode": 1} if same else {}
        return self._writer.node("MaxPool", [x], kernel_shape=[size, size], strides=[2, 2], **mode)

    def flatten(self, x: str) -> str:
        """NCHW to rows in the order width, height, channel, in which these weights were trained."""
        return self._writer.node("Flatten", [self._writer.node("Transpose", [x], perm=[0, 3, 2, 1])])

    def dense(self, x: str, *, activated: bool = False, face_only: bool = False) -> str:
        """A fully connected layer, with PReLU, bare, or as the face probability of a softmax."""
        kernel, bias = (self._weights.pop(0) for _ in range(2))
        if face_only:
            kernel, bias = kernel[:, 1:] - kernel[:, :1], bias[1:] - bias[:1]
        x = self._writer.node("Gemm", [x, self._writer.constant(kernel), self._writer.constant(bias)])
        if activated:
            return self._writer.node("PRelu", [x, self._writer.constant(self._weights.pop(0))])
        return self._writer.node("Sigmoid", [x]) if face_only else x


def write_graph(pnet: Weights, rnet: Weights, onet: Weights) -> bytes:
    """The ONNX bytes of the cascade; see the module's table for inputs and outputs."""
    writer = GraphWriter("mtcnn")
    _write_pnet(writer, _Stack(writer, pnet))
    _write_rnet(writer, _Stack(writer, rnet))
    _write_onet(writer, _Stack(writer, onet))
    return writer.serialise()


def _write_pnet(writer: GraphWriter, net: _Stack) -> None:
    x = net.pool(net.conv(writer.input("pnet", ["N", 3, "H", "W"])), 2, same=True)
    x = net.conv(net.conv(x))
    writer.output(net.head(x), "pnet_box", ["N", 4, "Ho", "Wo"])
    writer.output(net.head(x, face_only=True), "pnet_score", ["N", 1, "Ho", "Wo"])


def _write_rnet(writer: GraphWriter, net: _Stack) -> None:
    x = net.pool(net.conv(writer.input("rnet", ["M", 3, 24, 24])), 3, same=True)
    x = net.conv(net.pool(net.conv(x), 3, same=False))
    x = net.dense(net.flatten(x), activated=True)
    writer.output(net.dense(x), "rnet_box", ["M", 4])
    writer.output(net.dense(x, face_only=True), "rnet_score", ["M", 1])


def _write_onet(writer: GraphWriter, net: _Stack) -> None:
    x = net.pool(net.conv(writer.input("onet", ["K", 3, 48, 48])), 3, same=True)
    x = net.pool(net.conv(x), 3, same=False)
    x = net.conv(net.pool(net.conv(x), 2, same=True))
    x = net.dense(net.flatten(x), activated=True)
    writer.output(net.dense(x), "onet_box", ["K", 4])
    writer.output(net.dense(x), "onet_landmarks", ["K", 10])
    writer.output(net.dense(x, face_only=True), "onet_score", ["K", 1])


def build() -> tuple[bytes, ModelSpec]:
    """Import the cascade from the installed package.

    Returns:
        The ONNX bytes and the spec (its ``sha256`` still empty).

    Raises:
        ModelError: the package is not installed or its files are damaged.
    """
    spec = ModelSpec(
        name="mtcnn",
        task="aligner",
        input_size=(0, 0),
        colour="rgb",
        mean=(127.5, 127.5, 127.5),
        scale=1 / 128,
        decoder="mtcnn",
        # As `faceembed-align`'s card says how, on 600 and 800 photos drawn with seed 7 and 205 pictures: 2 and 0 photos lost, a face in 2 of
        # 191 pictures; measured: 0 of 800 photos of LFW's View 2, 0 of 391 of people_wild's test people, a face in 3 of 202 pictures.
        min_score=0.87,
        min_score_source="205 training pictures of no_faces, 600 photos of people_wild's 180 people, 800 of LFW outside View 2",
        licence="MIT",
        source="PyPI mtcnn 1.0.0: mtcnn/assets/weights",
    )
    return write_graph(load_weights("pnet"), load_weights("rnet"), load_weights("onet")), spec
