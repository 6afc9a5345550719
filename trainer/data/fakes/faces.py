"""The faces of all photos, found once: through the engine's `embed`, whose index stays beside the fakes.

So finding is batched, resumed after an interruption, and not done again by a second run. The embeddings serve to give a
face to somebody of a similar look (`identity`). All is computed in fp32: the same photos give the same fakes at any precision.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from faceembed.engine.index.files import IndexFiles
from faceembed.engine.index.store import load_faces
from faceembed.engine.photos.failures import Failure, read_errors
from faceembed.engine.photos.photo_file import PhotoFile, decode_path
from faceembed.engine.photos.places import as_listed
from faceembed.engine.pipeline.progress import Progress
from faceembed.engine.pipeline.settings import EmbedSettings
from faceembed.engine.runtimes.choose import RuntimeSettings
from faceembed.engine.verbs.embed import embed
from faceembed.errors import DataError
from faceembed.trainer.data.fakes.manifest import FACES_FOLDER
from faceembed.trainer.data.fakes.mesh import Mesh, fit_meshes
from faceembed.trainer.data.identity import IDENTITY_ENCODER
from faceembed.trainer.data.people import People
from faceembed.trainer.data.samples import Sample

MIN_SCALE = 16.0  # pixels between the pupils: less is no face that a swap could be seen in
MAX_YAW = 50.0  # degrees; behind it lies a half of the face that five landmarks do not describe
MAX_RESIDUAL = 0.14  # distances between the pupils; 98 % of 1,790 faces of training people of `people_wild` have less


@dataclasses.dataclass(frozen=True)
class Face:
    """A face that fakes can be made of."""

    sample: Sample
    file: PhotoFile
    mesh: Mesh
    """In pixels of the full photo."""
    embedding: NDArray[np.float32]


def find_faces(
    people: People,
    folder: str,
    *,
    workers: int = 0,
    runtime: str = "auto",
    notice: Callable[[str], None] = lambda line: None,
    progress: Callable[[Progress], None] = lambda progress: None,
) -> tuple[list[Face], list[Failure]]:
    """The largest face of each real photo.

    Args:
        people: whose photos; fakes among them are left out.
        folder: of the fakes; the faces are kept in it.
        workers: threads; 0 for all cores.
        runtime: as the engine's.
        notice, progress: called with lines for the user, and after every batch.

    Returns:
        The faces in the order of the samples, and a failure for each photo without a usable one.

    Raises:
        DataError: there is no usable face at all.
    """
    samples = [sample for sample in people.samples if not sample.fake]
    files = IndexFiles.of(os.path.join(folder, FACES_FOLDER, "faces.faiss"))
    how = RuntimeSettings(runtime=runtime, precision="fp32", threads=workers)
    settings = EmbedSettings(encoder=IDENTITY_ENCODER, runtime=how)
    embed(people.roots, files.faiss, settings=settings, prune=True, notice=notice, progress=progress)
    table = load_faces(files)
    rows = {decode_path(path): index for index, path in enumerate(table.rows.column("path").to_pylist())}
    stamps = table.photos()
    widths, heights = (table.rows.column(name).to_pylist() for name in ("image_width", "image_height"))
    landmarks = np.array(table.rows.column("landmarks").to_pylist(), np.float64).reshape(-1, 5, 2)
    meshes = fit_meshes(landmarks)
    known = {failure.photo.path: failure for failure in read_errors(files.errors)}
    faces: list[Face] = []
    failures: list[Failure] = []
    for sample in samples:
        name = as_listed(sample.path, people.roots)
        index = rows.get(name)
        if index is None:
            missing = Failure(PhotoFile(sample.path, 0, 0), "read", "not among the photos that were looked at")
            failures.append(known.get(name, missing))
            continue
        mesh = meshes[index]
        if reason := unusable(mesh, widths[index], heights[index]):
            failures.append(Failure(stamps[index], "fake", reason))
        else:
            faces.append(Face(sample, stamps[index], mesh, table.vectors[index]))
    if not faces:
        first = f"; the first: {failures[0].reason}" if failures else ""
        raise DataError(f"none of {len(samples):,} photos has a face that a fake can be made of{first}")
    return faces, failures


def unusable(mesh: Mesh, width: int, height: int) -> str:
    """Why no fake can be made of a face in a photo of that size; empty if one can."""
    if mesh.residual > MAX_RESIDUAL:
        return f"the landmarks do not look like a face ({mesh.residual:.2f} off, at most {MAX_RESIDUAL})"
    if mesh.scale < MIN_SCALE:
        return f"the face is too small: {mesh.scale:.0f} px between the pupils, at least {MIN_SCALE:.0f} wanted"
    if abs(mesh.yaw) > MAX_YAW:
        return f"the face is turned away by {abs(mesh.yaw):.0f} degrees, at most {MAX_YAW:.0f} wanted"
    if mesh.inside(width, height) < 1:
        return "the face is cut off by the photo's edge"
    return ""


def poses(faces: Sequence[Face]) -> NDArray[np.float64]:
    """(F, 4) yaw, pitch and roll in degrees, and log2 of the scale."""
    return np.array([(f.mesh.yaw, f.mesh.pitch, f.mesh.roll, np.log2(f.mesh.scale)) for f in faces]).reshape(-1, 4)
