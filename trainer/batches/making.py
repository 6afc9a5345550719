"""Deepfakes made while training, out of the crops that are trained on: no two epochs see the same, so none is learnt by heart.

    maker = FakeMaker(template, methods=("selfblend", "swap"))
    real, fake = maker.pair(crop, other_person, rng)

They are the methods of `faceembed data fakes`, on aligned faces instead of whole photos, and those of `quick_fakes.py`. A photo and the fake made of it come out of
one camera: both are resized, compressed and resized back alike, so that what tells them apart is the fake and not its file.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from faceembed.errors import DataError
from faceembed.trainer.batches.quick_fakes import QUICK_METHODS
from faceembed.trainer.data.fakes.make import METHODS
from faceembed.trainer.data.fakes.mesh import fit_meshes
from faceembed.trainer.data.fakes.methods import Shot

Pixels = NDArray[np.uint8]

MADE_METHODS = ("selfblend", "swap", "transplant", "reenact")
"""Those that leave the pretended person recognisable from one crop of theirs; `morph` wants whole photos of both."""
ALL_METHODS = (*MADE_METHODS, *QUICK_METHODS)
_SHARES = {"selfblend": 2.0}  # against 1: it has the most to learn from, as nothing but the blend gives it away
_JITTER = 0.02  # of the distance between the eyes: how far an aligner's landmarks are from the template
_MESHES = 64
_TRIES = 8
_SCALES = (0.7, 2.2)
_QUALITIES = (60, 98)
_RESIZED, _COMPRESSED = 0.8, 0.9  # how often


class FakeMaker:
    """Makes deepfakes of crops; may be used by several threads at once.

    Args:
        template: (5, 2) where the landmarks lie in a crop, (x, y) in pixels, pixel centres at whole numbers.
        methods: some of `ALL_METHODS`, each for once as many; self-blends twice.

    Raises:
        DataError: no method at all.
    """

    def __init__(self, template: Sequence[tuple[float, float]], *, methods: Sequence[str] = MADE_METHODS) -> None:
        if not methods:
            raise DataError("there is no method left to make deepfakes by; leave data.made at 0")
        self._methods = tuple(methods)
        shares = np.array([_SHARES.get(name, 1.0) for name in self._methods])
        self._shares = shares / shares.sum()
        points = np.asarray(template, np.float64)
        eyes = float(np.linalg.norm(points[1] - points[0]))
        self._points = points + np.random.Generator(np.random.SFC64(0)).normal(0, _JITTER * eyes, (_MESHES, 5, 2))
        self._meshes = fit_meshes(self._points + 0.5)  # a mesh has pixel centres at half numbers

    def pair(self, crop: Pixels, other: Pixels, rng: np.random.Generator) -> tuple[Pixels, Pixels]:
        """A photo and a deepfake of the same person.

        Args:
            crop: uint8 RGB (H, W, 3), the person.
            other: uint8 RGB (H, W, 3), another one, whose photo, parts or pose is used.
            rng: its state alone decides what happens.

        Returns:
            The photo and the fake, both uint8 RGB (H, W, 3), through one camera.

        Raises:
            DataError: no fake could be made, in several tries.
        """
        for _ in range(_TRIES):
            name = self._methods[int(rng.choice(len(self._methods), p=self._shares))]
            places = [int(place) for place in rng.integers(_MESHES, size=2)]
            try:
                fake = self._fake(name, crop, other, places, rng)
            except (cv2.error, np.linalg.LinAlgError) as error:
                reason = " ".join(str(error).split())[:160]
                continue
            photographed = _camera((crop, fake), rng)
            return photographed[0], photographed[1]
        raise DataError(f"no deepfake could be made of a crop, the last by {name}: {reason}")

    def _fake(self, name: str, crop: Pixels, other: Pixels, places: list[int], rng: np.random.Generator) -> Pixels:
        if name in QUICK_METHODS:
            return QUICK_METHODS[name](crop, other, self._points[places[0]], rng)
        source = Shot(crop, self._meshes[places[0]])
        target = source if name == "selfblend" else Shot(other, self._meshes[places[1]])
        return METHODS[name](source, target, rng).pixels


def _camera(crops: Sequence[Pixels], rng: np.random.Generator) -> list[Pixels]:
    """The same for all: another resolution, a JPEG of that, and back; or some of it."""
    height, width = crops[0].shape[:2]
    resized, compressed = rng.uniform() < _RESIZED, rng.uniform() < _COMPRESSED
    scale = float(np.exp(rng.uniform(*np.log(_SCALES)))) if resized else 1.0
    x, y = rng.uniform(0, 8, 2)  # of the larger picture: blocks of its JPEG lie anywhere
    quality = int(rng.integers(_QUALITIES[0], _QUALITIES[1] + 1))
    matrix = np.array([[scale, 0, x], [0, scale, y]])
    size = (round(width * scale) + 8, round(height * scale) + 8)
    made = []
    for crop in crops:
        flags = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
        picture = cv2.warpAffine(crop, matrix, size, flags=flags, borderMode=cv2.BORDER_REFLECT_101)
        if compressed:
            # Both ends take the channels for BGR: they come back in the order they went in, with luma of the wrong weights.
            picture = cv2.imdecode(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], 1)
        back = cv2.warpAffine(
            picture,
            matrix,
            (width, height),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REFLECT_101,
        )
        made.append(np.asarray(back, np.uint8))
    return made
