"""A few photos, embedded in memory: the largest face of each, or all."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from faceembed.engine.models.spec import ModelSpec
from faceembed.engine.photos.photo_file import PhotoFile, photo_file
from faceembed.engine.pipeline import loading
from faceembed.engine.pipeline.batch import Faces
from faceembed.engine.pipeline.counting import count_faces
from faceembed.engine.pipeline.progress import Notify, OnProgress, Progress
from faceembed.engine.pipeline.quality import pose, quality_of
from faceembed.engine.pipeline.realness import realness
from faceembed.engine.pipeline.settings import EmbedSettings


@dataclasses.dataclass(frozen=True)
class Embedded:
    """Photos and the embedding of the largest face of each."""

    vectors: dict[str, NDArray[np.float32]]
    """Path to float32 (D,), unit length."""
    failures: dict[str, str]
    """Path to the reason why there is no embedding."""
    encoder: str
    threshold: float | None
    """The encoder's own threshold, if one was measured."""
    runtime: dict[str, str]
    spec: ModelSpec
    faces: dict[str, NDArray[np.float32]]
    """Path to float32 (F, D), the embeddings of all its faces that were asked for, largest first; one where that was ``largest``."""
    quality: dict[str, dict[str, float]]
    """Path to what is known of how good its largest face is: ``score``, ``norm``, ``side`` (the shorter one of its box, pixels), ``frontal``
    (minus the yaw, degrees), ``sharpness`` and ``real`` where they are known; the higher the better."""
    places: dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]]
    """Path to boxes, float32 (F, 4) x1, y1, x2, y2 in pixels of the photo, and norms, (F,), of `faces`."""
    found: dict[str, int]
    """Path to the number of its faces: of all, where they were counted; else of those seen on the way to the largest."""

    @property
    def several(self) -> int:
        """Photos that show several faces."""
        return sum(number > 1 for number in self.found.values())


def embed_photos(
    paths: Iterable[str],
    settings: EmbedSettings,
    *,
    every: bool = False,
    count: bool = False,
    notice: Notify = lambda line: None,
    progress: OnProgress = lambda progress: None,
) -> Embedded:
    """Embed the largest face of each photo, in memory.

    Args:
        paths: photo files; one that cannot be read is a failure, not an error.
        settings: models and runtime; ``faces`` is as ``every`` says.
        every: embed all faces; ``vectors`` holds the largest by its side then.
        count: count the faces of photos of which one is embedded, which looks at each a second time.
        notice: called with lines for the user.
        progress: called after every batch.
    """
    settings = dataclasses.replace(settings, faces="all" if every else "largest")
    models = loading.resolve_models(settings)
    photos = [photo_file(path) for path in dict.fromkeys(paths)]
    pipeline = loading.open_pipeline(settings, models, photos, notice=notice)
    parts: dict[str, list[NDArray[np.float32]]] = {}
    where: dict[str, list[tuple[NDArray[np.float32], np.float32]]] = {}
    failures: dict[str, str] = {}
    seen: dict[str, int] = {}
    quality: dict[str, dict[str, float]] = {}
    with contextlib.closing(pipeline.run(photos)) as outcomes:
        for outcome in outcomes:
            faces = outcome.faces
            rows = zip(faces.photo.tolist(), faces.beside.tolist(), faces.embeddings, strict=True)
            for row, (place, beside, vector) in enumerate(rows):
                parts.setdefault(outcome.photos[place].path, []).append(vector)
                where.setdefault(outcome.photos[place].path, []).append((faces.boxes[row], faces.norms[row]))
                seen[outcome.photos[place].path] = 1 + beside
            known_of = face_qualities(
                outcome.photos, faces, faces.norms, faces.embeddings, faces.sharpness, models.encoder.spec
            )
            for path, known in known_of:
                quality.setdefault(path, known)  # of several the largest is the first
            failures.update({failure.photo.path: failure.reason for failure in outcome.failures})
            progress(Progress(len(parts) + len(failures), len(photos), sum(map(len, parts.values())), len(failures)))
    spec, choice = models.encoder.spec, pipeline.encoder.choice
    runtime = {"device": choice.device, "runtime": choice.runtime, "precision": choice.precision}
    by_path = {path: np.stack(vectors) for path, vectors in parts.items()}
    found = {path: len(vectors) for path, vectors in by_path.items()} if every else seen
    if count and not every:
        found = count_faces(pipeline.cutter, [photo for photo in photos if photo.path in by_path])
    largest = {path: vectors[0] for path, vectors in by_path.items()}
    places = {
        path: (np.stack([box for box, _ in known]), np.array([norm for _, norm in known]))
        for path, known in where.items()
    }
    return Embedded(largest, failures, spec.name, spec.threshold, runtime, spec, by_path, quality, places, found)


def face_qualities(
    photos: Sequence[PhotoFile],
    faces: Faces,
    norms: NDArray[np.float32],
    embeddings: NDArray[np.float32],
    sharp: NDArray[np.float32] | None,
    spec: ModelSpec,
) -> Iterator[tuple[str, dict[str, float]]]:
    """Path and what is known of each face. As `rows.face_rows`, but without Arrow, which a comparison of two photos need not load.

    Args:
        photos: of one batch.
        faces: F of them.
        norms: (F,).
        embeddings: (F, D).
        sharp: (F,) as `quality.sharpness` has it, where it is known.
        spec: the encoder's.
    """
    looks, (yaw, _), sides = (
        realness(embeddings, spec),
        pose(faces.landmarks),
        faces.boxes[:, 2:] - faces.boxes[:, :2],
    )
    for number, place in enumerate(faces.photo.tolist()):
        row = {
            "score": faces.scores[number],
            "norm": norms[number],
            "w": sides[number, 0],
            "h": sides[number, 1],
            "yaw": yaw[number],
            "sharpness": None if sharp is None else sharp[number],
            "real": None if looks is None else looks[number],
        }
        yield photos[place].path, quality_of(row)
