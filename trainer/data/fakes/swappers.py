"""Face swappers in a user's own ONNX file: what each kind is fed, what it gives, and how its face returns into the photo.

Sources of the conventions, read for their numbers only:

    inswapper   InsightFace, python-package/insightface/model_zoo/inswapper.py and utils/face_align.py (`norm_crop2`)
    simswap     neuralchen/SimSwap, test_one_image.py and util/videoswap.py; the 256 px export: facefusion/facefusion,
                processors/modules/face_swapper
    ghost       ai-forever/ghost, utils/inference/core.py and faceshifter_run.py

All take two inputs, a picture (1, 3, S, S) and an identity (1, 512), and give a picture of the same size.
"""

from __future__ import annotations

import abc
import os
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from faceembed.cores import available_cores
from faceembed.engine.models.spec import ARCFACE_TEMPLATE, Points
from faceembed.engine.native import _native
from faceembed.errors import ModelError
from faceembed.install import pip_install
from faceembed.trainer.data.fakes import masks
from faceembed.trainer.data.fakes.blend import over
from faceembed.trainer.data.fakes.identity import DIMENSION, Identity
from faceembed.trainer.data.fakes.methods import Made, Region, Shot
from faceembed.trainer.data.fakes.warp import Floats, Pixels, invert

# The frontal one of InsightFace's five older templates (face_align.py, `src3`), 112 px: SimSwap and Ghost crop with these.
_FRONTAL: Points = ((39.730, 51.138), (72.270, 51.138), (56.000, 68.493), (42.463, 87.010), (69.537, 87.010))
_IMAGENET_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
_IMAGENET_DEVIATION = np.array([0.229, 0.224, 0.225], np.float32)


class Swapper(abc.ABC):
    """A swapper ready to run; it is called like the methods of `make.METHODS`, from several threads at once.

    Args:
        path: the ONNX file.
        identity: embeds the source's face.

    Raises:
        ModelError: the file is not ONNX, or not a swapper of this kind.
    """

    kind: str
    sides: tuple[int, ...] = ()
    """The sizes of picture that this kind comes in; empty for any."""

    def __init__(self, path: str | os.PathLike[str], identity: Identity) -> None:
        self.path = os.fspath(path)
        self.identity = identity
        proto = _load(self.path)
        self._session = _open(self.path)
        self.side, self._picture, self._vector, self._output = self._signature()
        self._prepare(proto)
        self._trial()

    def __call__(self, source: Shot, target: Shot, rng: np.random.Generator) -> Made:
        """The source's face in the target's photo, pasted back under a soft mask."""
        vector, norm = self.identity.embed(source)
        matrix = self._matrix(target)
        crop = _native.warp(target.pixels, matrix[None], self.side, self.side, border="replicate")[0]
        face = self.swap(crop, vector, norm)
        region = Region.of(target)
        softness = float(rng.uniform(0.2, 0.5))
        mask = masks.face_mask(
            region.points, target.mesh.scale, *region.size, rng, shape="hull", softness=softness, deform=0.0
        )
        shift = np.array([[1.0, 0, -region.x], [0, 1.0, -region.y]])
        back = np.concatenate([matrix[:, :2], matrix[:, 2:] + shift[:, 2:]], 1)  # from the crop to the region
        height, width = region.size
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        inverse = invert(back)
        pasted = cv2.warpAffine(face, inverse, (width, height), flags=flags, borderMode=cv2.BORDER_REPLICATE)
        inside = np.ones((self.side, self.side), np.float32)
        within = cv2.warpAffine(masks.soften(inside, 0.08 * self.side), inverse, (width, height), flags=flags)
        mask = mask * within  # the crop may end before the forehead does
        params = {"swapper": os.path.basename(self.path), "softness": softness, "side": self.side}
        return region.finish(over(pasted, region.pixels, mask), mask, params)

    def swap(self, crop: Pixels, vector: NDArray[np.float32], norm: float) -> Floats:
        """Run the network.

        Args:
            crop: uint8 RGB (S, S, 3), the target's face.
            vector: float32 (512,), the source's embedding, of unit length.
            norm: the length it had.

        Returns:
            float32 RGB (S, S, 3), 0 to 255.
        """
        picture = self.encode_picture(crop.astype(np.float32) / np.float32(255)).transpose(2, 0, 1)[None]
        given = {
            self._picture: np.ascontiguousarray(picture, np.float32),
            self._vector: np.asarray(self.encode_identity(vector, norm), np.float32)[None],
        }
        result = np.asarray(self._session.run([self._output], given)[0][0], np.float32)
        decoded: Floats = np.clip(self.decode_picture(result.transpose(1, 2, 0)), 0, 1) * 255
        return np.ascontiguousarray(decoded)

    @abc.abstractmethod
    def template(self) -> Points:
        """Where the five landmarks lie in the crop, pixel centres at whole numbers."""

    @abc.abstractmethod
    def encode_picture(self, rgb: Floats) -> Floats:
        """RGB (S, S, 3) of 0 to 1 as the network takes it."""

    @abc.abstractmethod
    def encode_identity(self, vector: NDArray[np.float32], norm: float) -> NDArray[np.float32]:
        """The identity (512,) as the network takes it."""

    def decode_picture(self, picture: Floats) -> Floats:
        """The network's output (S, S, 3) as RGB of 0 to 1."""
        return picture

    def _prepare(self, proto: Any) -> None:  # noqa: B027 (most kinds need nothing)
        """Take what else this kind needs from the file."""

    def _matrix(self, target: Shot) -> NDArray[np.float64]:
        points = target.mesh.landmarks[None] - 0.5
        matrix: NDArray[np.float64] = _native.fit_similarity(
            np.ascontiguousarray(points), np.array(self.template(), np.float64)
        )[0]
        if not np.isfinite(matrix).all():
            raise np.linalg.LinAlgError("the five landmarks do not span a face")
        return matrix

    def _refuse(self, reason: str) -> ModelError:
        return ModelError(f"{self.path} is no {self.kind} swapper: {reason}")

    def _signature(self) -> tuple[int, str, str, str]:
        """The picture's side, and the names of the inputs for picture and identity, and of the output."""
        inputs = {value.name: list(value.shape) for value in self._session.get_inputs()}
        pictures = [name for name, shape in inputs.items() if len(shape) == 4 and shape[1] == 3]
        vectors = [name for name, shape in inputs.items() if len(shape) == 2 and shape[1] == DIMENSION]
        if len(inputs) != 2 or len(pictures) != 1 or len(vectors) != 1:
            shown = ", ".join(f"{name} {tuple(shape)}" for name, shape in inputs.items())
            raise self._refuse(f"it takes {shown}; expected a picture (1, 3, S, S) and an identity (1, {DIMENSION})")
        shape = inputs[pictures[0]]
        side = shape[2]
        if not isinstance(side, int) or shape[3] != side or (self.sides and side not in self.sides):
            wanted = " or ".join(f"{size}x{size}" for size in self.sides) or "a fixed square"
            raise self._refuse(f"it takes pictures of {shape[3]}x{shape[2]}; expected {wanted}")
        outputs = [value.name for value in self._session.get_outputs() if len(value.shape) == 4]
        if not outputs:
            raise self._refuse("it gives no picture")
        return side, pictures[0], vectors[0], outputs[0]

    def _trial(self) -> None:
        """Run it once, so that a wrong file fails here and not at the first photo."""
        grey = np.full((self.side, self.side, 3), 128, np.uint8)
        vector = np.full(DIMENSION, DIMENSION**-0.5, np.float32)
        try:
            face = self.swap(grey, vector, 20.0)
        except Exception as error:  # ONNX Runtime has a dozen classes of its own without a common base
            raise self._refuse(" ".join(str(error).split())[:200]) from error
        if face.shape != grey.shape or not np.isfinite(face).all():
            raise self._refuse(
                f"it gives a picture of shape {face.shape} for one of {grey.shape}, or no finite numbers"
            )


class InSwapper(Swapper):
    """inswapper_128, as InsightFace and Roop run it: RGB of 0 to 1 in and out, ArcFace's crop widened to 128 pixels.

    The identity is the normalised embedding times the matrix that the file holds as its last initialiser, normalised.
    """

    kind = "inswapper"
    sides = (128, 256, 512)

    def template(self) -> Points:
        """ArcFace's, 8 pixels to the right in 128."""
        ratio = self.side / 128
        return tuple(((x + 8) * ratio, y * ratio) for x, y in ARCFACE_TEMPLATE)

    def encode_picture(self, rgb: Floats) -> Floats:
        """As it is."""
        return rgb

    def encode_identity(self, vector: NDArray[np.float32], norm: float) -> NDArray[np.float32]:
        """Through the file's matrix, of unit length."""
        latent = vector @ self._map
        return np.asarray(latent / max(float(np.linalg.norm(latent)), 1e-12), np.float32)

    def _prepare(self, proto: Any) -> None:
        from onnx import numpy_helper

        weights = proto.graph.initializer
        matrix = numpy_helper.to_array(weights[-1]) if weights else np.zeros(0)
        if matrix.shape != (DIMENSION, DIMENSION):
            raise self._refuse(
                f"its last initialiser has shape {matrix.shape}, expected the map of identities (512, 512)"
            )
        self._map = matrix.astype(np.float32)


class SimSwap(Swapper):
    """SimSwap: RGB of 0 to 1 out; in likewise (224 px, the authors'; 512 px), or normalised as for ImageNet (256 px export).

    The identity is the embedding of unit length; the authors' ArcFace, or one converted to it.
    """

    kind = "simswap"
    sides = (224, 256, 512)

    def template(self) -> Points:
        """The older frontal one."""
        return _scaled(_FRONTAL, self.side / 112)

    def encode_picture(self, rgb: Floats) -> Floats:
        """Normalised in the 256 px export alone."""
        return (rgb - _IMAGENET_MEAN) / _IMAGENET_DEVIATION if self.side == 256 else rgb

    def encode_identity(self, vector: NDArray[np.float32], norm: float) -> NDArray[np.float32]:
        """As it is."""
        return vector


class Ghost(Swapper):
    """Ghost's AEI-Net: RGB of -1 to 1 in and out, 256 px; the identity is the embedding with the length that it had."""

    kind = "ghost"
    sides = (256,)

    def template(self) -> Points:
        """The older frontal one."""
        return _scaled(_FRONTAL, self.side / 112)

    def encode_picture(self, rgb: Floats) -> Floats:
        """To -1 to 1."""
        return rgb * 2 - 1

    def encode_identity(self, vector: NDArray[np.float32], norm: float) -> NDArray[np.float32]:
        """As the encoder gave it."""
        return vector * np.float32(norm)

    def decode_picture(self, picture: Floats) -> Floats:
        """From -1 to 1."""
        return picture * 0.5 + 0.5


def _scaled(template: Points, ratio: float) -> Points:
    return tuple((x * ratio, y * ratio) for x, y in template)


SWAPPERS: dict[str, type[Swapper]] = {kind.kind: kind for kind in (InSwapper, SimSwap, Ghost)}


def open_swapper(kind: str, path: str | os.PathLike[str], *, embedder: str, threads: int = 0) -> Swapper:
    """Open a user's swapper.

    Args:
        kind: ``inswapper``, ``simswap`` or ``ghost``.
        path: the ONNX file.
        embedder: a model's name, or an ONNX file: the identity encoder.
        threads: that will call it; 0 for all cores.

    Raises:
        ModelError: a file is not what it should be; one line that says why.
    """
    return SWAPPERS[kind](path, Identity(embedder, threads=threads or available_cores()))


def _load(path: str) -> Any:
    import onnx
    from google.protobuf.message import DecodeError

    try:
        return onnx.load(path)
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror or error}") from error
    except (DecodeError, ValueError) as error:
        raise ModelError(f"{path} is not an ONNX file ({error}); export the swapper to ONNX first") from error


def _open(path: str) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise ModelError(f"running a swapper needs onnxruntime; run: {pip_install('cpu')}") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # fakes are made side by side
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # as above
        reason = " ".join(str(error).split())[:200]
        raise ModelError(f"{path} is not an ONNX model that ONNX Runtime can run ({reason})") from error
