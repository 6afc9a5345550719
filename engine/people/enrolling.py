"""From photos of named people to the rows of a gallery."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from faceembed.engine.models.spec import Model, ModelSpec
from faceembed.engine.people.gallery import Gallery, Photo
from faceembed.engine.photos.photo_file import photo_file
from faceembed.engine.photos.rows import PHOTO_COLUMNS, file_columns
from faceembed.engine.pipeline import loading
from faceembed.engine.pipeline.looking import look
from faceembed.engine.pipeline.progress import Notify, OnProgress
from faceembed.engine.pipeline.settings import PREPROCESSING, EmbedSettings
from faceembed.errors import IndexFormatError
from faceembed.version import __version__

SEVERAL = ("refuse", "largest")
"""What becomes of a photo with several faces: it is not used, or its largest face is taken."""


def about_of(settings: EmbedSettings, models: loading.Models) -> dict[str, Any]:
    """What a gallery says of what made it."""
    return {
        "encoder": _model(models.encoder, settings.encoder),
        "aligner": None if models.aligner is None else _model(models.aligner, settings.aligner),
        "dimension": models.encoder.spec.dimension,
        "preprocessing": PREPROCESSING,
        "min_face": settings.min_face,
        "min_score": settings.min_score,
        "faceembed": __version__,
    }


def _model(model: Model, source: str) -> dict[str, str]:
    return {"name": model.spec.name, "sha256": model.spec.sha256, "source": source}


def settings_of(gallery: Gallery, settings: EmbedSettings) -> EmbedSettings:
    """These settings with the models that made a gallery."""
    aligner = gallery.about.get("aligner")
    return dataclasses.replace(
        settings,
        encoder=str(gallery.about["encoder"]["source"]),
        aligner="none" if aligner is None else str(aligner["source"]),
    )


def check_models(gallery: Gallery, path: str, models: loading.Models) -> None:
    """Refuse an encoder, or what cuts its chips, that did not make the gallery: similarities would mean nothing.

    Raises:
        IndexFormatError: naming both and what to do.
    """
    check_encoder_of(gallery, path, models.encoder.spec)


def check_encoder_of(gallery: Gallery, path: str, spec: ModelSpec) -> None:
    """The same for an encoder by its spec.

    Raises:
        IndexFormatError: naming both and what to do.
    """
    made = gallery.about["encoder"]
    if made["sha256"] == spec.sha256 and gallery.about["preprocessing"] == PREPROCESSING:
        return
    raise IndexFormatError(
        f"{path} was made with encoder {made['name']} ({made['sha256'][:12]}), not {spec.name} ({spec.sha256[:12]}); embed its photos again, "
        f"names stay: faceembed gallery update {path} --encoder {spec.name}"
    )


def embed_people(
    listed: Sequence[tuple[str, str]],
    settings: EmbedSettings,
    models: loading.Models,
    *,
    several: str = "refuse",
    min_quality: float = 0.0,
    notice: Notify = lambda line: None,
    progress: OnProgress = lambda progress: None,
) -> list[Photo]:
    """A row for each photo, in the order of the list; what cannot be used has its reason.

    Args:
        listed: name and absolute path.
        settings: models and runtime; all faces are looked for.
        models: from `loading.resolve_models`.
        several: of `SEVERAL`.
        min_quality: photos whose face has less are not used: the aligner's score, 0 to 1.
        notice, progress: called with lines for the user, and after every batch.

    Raises:
        DeviceError: what was asked for cannot serve.
    """
    photos = [photo_file(path) for path in dict.fromkeys(path for _, path in listed)]
    settings = dataclasses.replace(settings, faces="all")
    looked = look(photos, settings, models, notice=notice, progress=progress)
    found: dict[str, Photo] = {}
    for path, faces in looked.faces.items():
        row = faces[0].row  # of the largest
        if len(faces) > 1 and several == "refuse":
            found[path] = Photo("", {name: row[name] for name in PHOTO_COLUMNS}, None, _several(len(faces)))
        elif row["score"] < min_quality:
            said = f"its face has quality {row['score']:.2f}, less than --min-quality {min_quality:g}"
            found[path] = Photo("", {name: row[name] for name in PHOTO_COLUMNS}, None, said)
        else:
            found[path] = Photo("", row, faces[0].embedding)
    for path, failure in looked.failures.items():
        columns = {name: values[0] for name, values in file_columns([failure.photo]).items()}
        found[path] = Photo("", columns, None, failure.reason)
    return [dataclasses.replace(found[path], person=person) for person, path in listed]


def _several(count: int) -> str:
    return f"{count} faces, and which is theirs is not said; crop it, or take the largest with --several largest"
