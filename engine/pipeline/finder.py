"""Where the faces are in decoded photos, and chips cut from as many of a photo's own pixels as they need."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from faceembed.engine.detect.align import similarity_matrices, warp_chips
from faceembed.engine.detect.confirm import confirmed
from faceembed.engine.detect.detections import Detections
from faceembed.engine.detect.interface import Detector
from faceembed.engine.detect.tiles import detect_every
from faceembed.engine.detect.tilted import look_tilted
from faceembed.engine.detect.turned import look_again
from faceembed.engine.detect.upside_down import turned_over
from faceembed.engine.models.spec import ModelSpec
from faceembed.engine.photos.decode import Photo, decode, min_face_of
from faceembed.engine.pipeline.batch import Item, whole_crops
from faceembed.engine.pipeline.settings import EmbedSettings

_MEASURED = 0.8  # of its side is what a detector may give a face that is just large enough


class Finder:
    """Finds faces and cuts them out.

    Args:
        settings: which faces are wanted, and how small they may be.
        detector: finds them; None where photos are aligned crops already.
        spec: the encoder that the chips are for.
    """

    def __init__(self, settings: EmbedSettings, detector: Detector | None, spec: ModelSpec) -> None:
        self.settings = settings
        self.detector = detector
        self.spec = spec

    @property
    def only_largest(self) -> bool:
        """Whether one face a photo is enough."""
        return self.settings.faces == "largest"

    def smallest(self, photos: Sequence[Photo]) -> list[float]:
        """The smallest face looked for in each photo, in its decoded pixels."""
        asked, tiles = self.settings.min_face, self._in_tiles
        part = _MEASURED if tiles and not asked else 1.0
        return [part * min_face_of(photo.width, photo.height, asked, every=tiles) / photo.reduction for photo in photos]

    def _smallest(self, photo: Photo) -> float:
        return min_face_of(photo.width, photo.height, self.settings.min_face, every=self._in_tiles)

    @property
    def _in_tiles(self) -> bool:
        """Whether small faces are looked for in large photos: where every face is wanted and no size is given to look in; not on a card."""
        host = self.detector is not None and self.detector.choice.device == "cpu" and self.detector.tiles
        return host and not self.only_largest and not self.settings.detect_size

    def find(self, photos: Sequence[Photo]) -> tuple[Detections, dict[int, str]]:
        """Faces, largest first in each photo, and the reason for each photo without one."""
        if not photos:
            return Detections.none(), {}
        if self.detector is None:
            return whole_crops(photos)
        smallest = self.smallest(photos)
        least = self.detector.min_score
        pixels = [photo.pixels for photo in photos]
        if self._in_tiles:
            faces = detect_every(self.detector, pixels, smallest)
        else:
            faces = self.detector.detect(pixels, smallest, only_largest=self.only_largest)
        if self.detector.confirms and not self.only_largest:
            faces = confirmed(self.detector, pixels, faces)
        if self.detector.turns and self.only_largest:
            faces = turned_over(self.detector, pixels, faces)
        if self.detector.turns:
            faces = look_again(self.detector, pixels, smallest, faces, only_largest=self.only_largest)
            faces = look_tilted(self.detector, pixels, smallest, faces, only_largest=self.only_largest)
        faces = faces.take(np.lexsort((-faces.sides(), faces.photo)))
        without = self._without(photos, faces, least)
        return faces.take(faces.scores >= np.float32(least)), without

    def _without(self, photos: Sequence[Photo], faces: Detections, least: float) -> dict[int, str]:
        """Why photos have no face, in pixels of the photo: nothing was found in them, or nothing that is sure."""
        reasons = {}
        without = np.ones(len(photos), np.bool_)  # not np.setdiff1d: it imports masked arrays, 20 ms of a start
        without[faces.photo[faces.scores >= np.float32(least)]] = False
        for index in np.flatnonzero(without).tolist():
            photo = photos[index]
            mine = np.flatnonzero(faces.photo == index)
            best = mine[faces.scores[mine].argmax()] if len(mine) else None
            if best is None:
                side = self._smallest(photo)
                reasons[index] = f"no face of {side:.0f} px or more found{_damage(photo)}"
            else:
                side, score = float(faces.sides()[best]) * photo.reduction, _below(float(faces.scores[best]), least)
                reasons[index] = (
                    f"no sure face: the best, of {side:.0f} px, scores {score}, below the limit of {least:g}{_damage(photo)}"
                )
        return reasons

    def align(
        self, photos: list[Photo], items: Sequence[Item], faces: Detections
    ) -> tuple[Detections, NDArray[np.uint8], list[int]]:
        """Chips of all faces.

        Args:
            photos: decoded.
            items: what each was decoded from: where a chip would be magnified from a reduced decode, it is decoded once more.
            faces: F of them, in decoded pixels.

        Returns:
            The faces whose landmarks are not degenerate; their chips, uint8 RGB (F, H, W, 3); and the photos that lost all
            of theirs.
        """
        matrices = similarity_matrices(faces.landmarks, self.spec)
        sound = np.asarray(np.isfinite(matrices).all(axis=(1, 2)), np.bool_)
        if not sound.all():
            lost = set(faces.photo[~sound].tolist()) - set(faces.photo[sound].tolist())
            faces, matrices = faces.take(sound), matrices[sound]
        else:
            lost = set()
        pixels = [photo.pixels for photo in photos]
        for index in _too_coarse(photos, faces, matrices):
            mine = np.flatnonzero(faces.photo == index)
            finest = float(np.sqrt(np.abs(np.linalg.det(matrices[mine, :, :2]))).min())
            finer = self._reread(items[index], finest)
            faces, matrices[mine] = self._again(photos[index], finer, faces, mine)
            pixels[index] = finer.pixels
        return faces, warp_chips(pixels, faces.photo, matrices, self.spec), sorted(lost)

    def _reread(self, item: Item, scale: float) -> Photo:
        """Decode a photo again, finely enough that no chip is magnified from a reduced decode where more is in the file."""
        reduction = item.reduction
        while reduction > 1 and scale < 1:
            reduction, scale = reduction // 2, scale * 2
        return decode(item.data, reduction=reduction, max_pixels=self.settings.max_pixels)

    def _again(
        self, coarse: Photo, finer: Photo, faces: Detections, mine: NDArray[np.int64]
    ) -> tuple[Detections, NDArray[np.float64]]:
        """Look at some faces of a photo once more where it is decoded finer.

        Returns:
            All faces, landmarks of ``mine`` exact now; and the matrices of ``mine``, from chips to the finer pixels.
        """
        zoom = coarse.reduction / finer.reduction
        shift = (np.array(finer.offset) - np.array(coarse.offset)) / finer.reduction
        found = faces.take(mine)
        found = Detections(
            np.zeros(len(mine), np.int32),
            np.asarray(found.boxes * zoom + np.tile(shift, 2), np.float32),
            np.asarray(found.landmarks * zoom + shift, np.float32),
            found.scores,
        )
        if self.detector is not None:
            found = self.detector.sharpened(finer.pixels, found)
        landmarks = faces.landmarks.copy()
        landmarks[mine] = (found.landmarks - shift) / zoom
        everything = dataclasses.replace(faces, landmarks=landmarks)
        return everything, similarity_matrices(found.landmarks, self.spec)


def _damage(photo: Photo) -> str:
    """What its decoder said of it, for a reason."""
    said = getattr(photo, "said", "")  # pixels on a card have none: what a library says there is not heard
    return f"; the file is damaged: {said}" if said else ""


def _below(score: float, least: float) -> str:
    """A score that is below the limit, with as many digits as show that it is."""
    return next(text for digits in range(2, 18) if float(text := f"{score:.{digits}f}") < least)


def _too_coarse(photos: Sequence[Photo], faces: Detections, matrices: NDArray[np.float64]) -> list[int]:
    """Photos decoded at reduced size, of which a chip would be magnified."""
    magnified = np.abs(np.linalg.det(matrices[:, :, :2])) < 1
    return [index for index in sorted(set(faces.photo[magnified].tolist())) if photos[index].reduction > 1]
