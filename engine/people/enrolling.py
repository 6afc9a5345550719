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
from faceembed.errors import IndexFormatError, UsageError
from faceembed.version import __version__

SEVERAL = ("refuse", "largest")
"""What becomes of a photo with several faces: it is not used, or its largest face is taken."""


@dataclasses.dataclass(frozen=True)
class Rule:
    """Which photos of people a gallery uses; one for all of them, so that embedding them again uses the same."""

    several: str = "refuse"
    """Of `SEVERAL`."""
    min_quality: float = 0.0
    """Photos whose face has less are not used: the aligner's score, 0 to 1."""

    def __post_init__(self) -> None:
        if self.several not in SEVERAL:
            raise UsageError(f"--several '{self.several}' is none of {', '.join(SEVERAL)}")
        if not 0 <= self.min_quality <= 1:
            raise UsageError(f"--min-quality {self.min_quality:g} is not between 0 and 1")


def rule_of(gallery: Gallery | None, several: str | None, min_quality: float | None) -> Rule:
    """The rule that is asked for; what is not said is the gallery's (those of before kept none), or the default.

    Raises:
        UsageError: values that are none.
    """
    made = gallery.about if gallery else {}
    return Rule(
        several=made.get("several", Rule.several) if several is None else several,
        min_quality=made.get("min_quality", Rule.min_quality) if min_quality is None else min_quality,
    )


def check_rule(gallery: Gallery, path: str, rule: Rule) -> None:
    """Refuse another rule than that of the photos that are there.

    Raises:
        UsageError: naming both and what to do.
    """
    for name, option in (("several", "--several"), ("min_quality", "--min-quality")):
        made, asked = gallery.about.get(name), getattr(rule, name)
        if made is not None and made != asked:
            raise UsageError(
                f"{path} was made with {option} {made}, and one rule holds for all its photos; leave {option} out, or change it for all "
                f"of them: faceembed gallery update {path} {option} {asked}"
            )


def about_of(settings: EmbedSettings, models: loading.Models, rule: Rule) -> dict[str, Any]:
    """What a gallery says of what made it."""
    return {
        "encoder": _model(models.encoder, settings.encoder),
        "aligner": None if models.aligner is None else _model(models.aligner, settings.aligner),
        "dimension": models.encoder.spec.dimension,
        "preprocessing": PREPROCESSING,
        "min_face": settings.min_face,
        "min_score": settings.min_score,
        "several": rule.several,
        "min_quality": rule.min_quality,
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


def check_models(gallery: Gallery, path: str, models: loading.Models, notice: Notify) -> None:
    """Refuse an encoder, or what cuts its chips, that did not make the gallery: similarities would mean nothing. Another aligner is said.

    Raises:
        IndexFormatError: naming both and what to do.
    """
    check_encoder_of(gallery, path, models.encoder.spec)
    made, used = gallery.about.get("aligner"), models.aligner
    if made is not None and used is not None and made["sha256"] != used.spec.sha256:
        notice(
            f"the faces in {path} were aligned by {made['name']}, these are by {used.spec.name}: one person's are less alike than the "
            "thresholds expect, and people may not be recognised; leave --aligner out"
        )


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
    rule: Rule = Rule(),
    notice: Notify = lambda line: None,
    progress: OnProgress = lambda progress: None,
) -> list[Photo]:
    """A row for each photo, in the order of the list; what cannot be used has its reason.

    Args:
        listed: name and absolute path.
        settings: models and runtime; all faces are looked for.
        models: from `loading.resolve_models`.
        rule: which photos are used.
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
        if len(faces) > 1 and rule.several == "refuse":
            found[path] = Photo("", {name: row[name] for name in PHOTO_COLUMNS}, None, _several(len(faces)))
        elif row["score"] < rule.min_quality:
            said = f"its face has quality {row['score']:.2f}, less than --min-quality {rule.min_quality:g}"
            found[path] = Photo("", {name: row[name] for name in PHOTO_COLUMNS}, None, said)
        else:
            found[path] = Photo("", row, faces[0].embedding)
    for path, failure in looked.failures.items():
        columns = {name: values[0] for name, values in file_columns([failure.photo]).items()}
        found[path] = Photo("", columns, None, failure.reason)
    return [dataclasses.replace(found[path], person=person) for person, path in listed]


def _several(count: int) -> str:
    return f"{count} faces, and which is theirs is not said; crop it, or take the largest with --several largest"
