"""What an index remembers of the run that made it, so that other embeddings do not get in."""

from __future__ import annotations

from typing import Any

from faceembed.engine.detect.kinds import least_score
from faceembed.engine.pipeline import loading
from faceembed.engine.pipeline.settings import PREPROCESSING, EmbedSettings


def fingerprint_of(settings: EmbedSettings, models: loading.Models) -> dict[str, Any]:
    """What must be equal for embeddings to belong in one index. Precisions may mix: each passed the parity gate."""

    def entry(model: Any) -> dict[str, str]:
        return {"name": model.spec.name, "sha256": model.spec.sha256} if model else {"name": "none", "sha256": ""}

    return {
        "encoder": entry(models.encoder),
        "aligner": entry(models.aligner),
        "dimension": models.encoder.spec.dimension,
        "preprocessing": PREPROCESSING,
        "choice_of_faces": settings.faces,
        "min_face": settings.min_face,
        "detect_size": settings.detect_size,
        "min_score": least_score(models.aligner, settings.min_score) if models.aligner else 0.0,
    }
