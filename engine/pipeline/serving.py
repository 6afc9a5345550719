"""Photos that are in memory, embedded in batches: what a server needs of the pipeline.

    embedder = open_embedder(settings, notice=print)
    items = [embedder.take(data) for data in uploads]    # refuses what is no picture, or too large, before anything is decoded
    seen = embedder.embed(items)                         # in one of several threads

Nothing here touches a file, or knows what a photo is called: names cannot leak into messages.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from faceembed.engine.detect.detections import Detections
from faceembed.engine.models.spec import ModelSpec
from faceembed.engine.photos.photo_file import PhotoFile
from faceembed.engine.pipeline import loading
from faceembed.engine.pipeline.batch import Cut, Item
from faceembed.engine.pipeline.batches import Look, Pipeline, looked_at
from faceembed.engine.pipeline.chips import Cutter
from faceembed.engine.pipeline.encode import Encoder
from faceembed.engine.pipeline.quality import percentile, pose, sharpness
from faceembed.engine.pipeline.realness import realness
from faceembed.engine.pipeline.settings import EmbedSettings
from faceembed.errors import DeviceError


@dataclasses.dataclass(frozen=True)
class Face:
    """One embedded face. Coordinates are continuous pixels of the full upright photo."""

    box: tuple[float, float, float, float]
    """x, y, width, height."""
    landmarks: NDArray[np.float32]
    """(5, 2)."""
    score: float
    norm: float
    """Length of the embedding before normalisation, a measure of quality for many encoders."""
    embedding: NDArray[np.float32]
    """(D,), unit length."""
    chip: NDArray[np.uint8]
    """(H, W, 3) RGB, the aligned face."""
    real: float | None = None
    """How real it looks to a gated encoder, 0 to 1."""
    quality: float | None = None
    """The share of training photos with a smaller norm, 0 to 1; None where the encoder keeps no table of them."""
    sharpness: float = 0.0
    """Variance of the chip's Laplacian."""
    yaw: float = 0.0
    """Degrees, an estimate from the landmarks, positive to the photo's right."""
    roll: float = 0.0
    """Degrees, of the line of the eyes."""


@dataclasses.dataclass(frozen=True)
class SeenPhoto:
    """What became of one photo."""

    width: int
    """Of the upright photo, in pixels; 0 if it could not be decoded."""
    height: int
    faces: tuple[Face, ...]
    """Largest first."""
    chosen: int | None
    """The most prominent face, which `verify` and `embed --faces largest` take; None without a face."""
    stage: str = ""
    """Without a face: where it ended, ``decode``, ``memory``, ``detect``, ``align`` or ``encode``."""
    reason: str | None = None
    """Without a face: why, in one line."""


class Embedder:
    """Both models, ready for photos that are in memory.

    Args:
        cutter: has passed its parity gate; its settings should say ``faces="all"`` where faces can be chosen.
        encoder: likewise.
        pipeline: theirs, where it is not the CPU that computes.
    """

    def __init__(self, cutter: Cutter, encoder: Encoder, pipeline: Pipeline | None = None) -> None:
        self.cutter = cutter
        self.encoder = encoder
        self.intake = pipeline.intake if pipeline else cutter.intake
        self.workers = pipeline.workers if pipeline else cutter.workers
        self._look = pipeline.look if pipeline else functools.partial(looked_at, cutter, encoder)
        self._number = itertools.count()  # stands for a path inside of a batch

    @classmethod
    def of(cls, pipeline: Pipeline) -> Embedder:
        """The models of an opened pipeline."""
        return cls(pipeline.cutter, pipeline.encoder, pipeline)

    @property
    def spec(self) -> ModelSpec:
        """The encoder's contract."""
        return self.encoder.model.spec

    def take(self, data: bytes) -> Item:
        """A photo's bytes, ready for `embed`. Reads the header alone.

        Raises:
            PhotoError: not a picture, cut off inside its header, or more pixels than the settings allow.
        """
        return self.intake.item(PhotoFile(str(next(self._number)), len(data), 0), data)

    def take_pixels(self, pixels: NDArray[np.uint8]) -> Item:
        """A photo that is decoded already, uint8 RGB (H, W, 3), upright, ready for `embed`.

        Raises:
            PhotoError: more pixels than the settings allow.
        """
        return self.intake.decoded(PhotoFile(str(next(self._number)), pixels.nbytes, 0), pixels)

    def embed(self, items: Sequence[Item]) -> list[SeenPhoto]:
        """Decode, detect, align and encode one batch. May be called from several threads at once; on a card their batches take turns.

        Returns:
            What became of each, in the order of ``items``.
        """
        return [photo for look in self._look(items) for photo in _seen(look, self.spec)]


def open_embedder(
    settings: EmbedSettings,
    *,
    gate: Sequence[PhotoFile] = (),
    cards: bool = False,
    notice: loading.Notice = lambda line: None,
) -> Embedder:
    """Load the models of ``settings``.

    Args:
        settings: models, runtime and what to look for; the device ``auto`` is the CPU.
        gate: photos to pass the gates of a fast precision on, where that is still to be done; without any, drawn faces
            decide.
        cards: whether a card may serve, where one is asked for.
        notice: called with lines for the user.

    Raises:
        ModelError, DeviceError: as `loading.open_pipeline`; or a card is asked for, and ``cards`` does not allow it.
    """
    if settings.runtime.device not in ("auto", "cpu"):
        if not cards:
            raise DeviceError(
                f"device '{settings.runtime.device}': photos in memory are served by the CPU; use --device cpu"
            )
    else:
        settings = dataclasses.replace(settings, runtime=dataclasses.replace(settings.runtime, device="cpu"))
    models = loading.resolve_models(settings)
    return Embedder.of(loading.open_pipeline(settings, models, gate, notice=notice, all_cards=False))


def _seen(look: Look, spec: ModelSpec) -> list[SeenPhoto]:
    cut, embeddings, norms = look.cut, look.embeddings, look.norms
    looks, quality = realness(embeddings, spec), percentile(norms, spec)
    sharp, poses = sharpness(cut.chips), pose(cut.faces.landmarks)
    faces, failures = cut.faces, {failure.photo.path: failure for failure in cut.failures}
    found = Detections(faces.photo, faces.boxes, faces.landmarks, faces.scores)
    prominence = found.prominence(cut.sizes.astype(np.float64)) if len(found) else np.zeros(0)
    seen = []
    for place, photo in enumerate(cut.photos):
        width, height = cut.sizes[place].tolist()
        mine = np.flatnonzero(faces.photo == place)
        failure = failures.get(photo.path)
        seen.append(
            SeenPhoto(
                width,
                height,
                tuple(_face(cut, index, embeddings, norms, looks, quality, sharp, poses) for index in mine.tolist()),
                int(prominence[mine].argmax()) if len(mine) else None,
                failure.stage if failure else "",
                failure.reason if failure else None,
            )
        )
    return seen


def _face(
    cut: Cut,
    index: int,
    embeddings: NDArray[np.float32],
    norms: NDArray[np.float32],
    looks: NDArray[np.float32] | None,
    quality: NDArray[np.float32] | None,
    sharp: NDArray[np.float32],
    poses: tuple[NDArray[np.float32], NDArray[np.float32]],
) -> Face:
    left, top, right, bottom = cut.faces.boxes[index].tolist()
    return Face(
        box=(left, top, right - left, bottom - top),
        landmarks=cut.faces.landmarks[index],
        score=float(cut.faces.scores[index]),
        norm=float(norms[index]),
        embedding=embeddings[index],
        chip=cut.chips[index],
        real=None if looks is None else float(looks[index]),
        quality=None if quality is None else float(quality[index]),
        sharpness=float(sharp[index]),
        yaw=float(poses[0][index]),
        roll=float(poses[1][index]),
    )
