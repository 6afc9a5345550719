"""What is known of several encoders on one pair list. `report.encoders` shows it."""

from __future__ import annotations

import dataclasses
import os
from typing import Any

import numpy as np

from faceembed.engine.evaluate import metrics
from faceembed.engine.evaluate.encode_rates import Rate
from faceembed.engine.evaluate.figures import Evaluation
from faceembed.engine.evaluate.pairs import PairList
from faceembed.engine.evaluate.score_store import Scores
from faceembed.engine.models.spec import Model


@dataclasses.dataclass
class Row:
    """One encoder: its figures, or why there are none."""

    source: str
    """As it was given."""
    model: Model | None = None
    precision: str = ""
    scores: Scores | None = None
    evaluation: Evaluation | None = None
    rate: Rate | None = None
    reused: bool = False
    """Whether the similarities were kept from an earlier run."""
    reason: str = ""
    """Why it failed; empty where it did not."""

    @property
    def name(self) -> str:
        """The encoder's name, or what was given for it."""
        return self.model.spec.name if self.model else self.source

    @property
    def size_bytes(self) -> int | None:
        """Of the ONNX file."""
        return os.path.getsize(self.model.path) if self.model and os.path.isfile(self.model.path) else None

    def to_json_dict(self) -> dict[str, Any]:
        """As plain types; the fields of an encoder that failed are null, and what the data cannot tell is null, and ``cannot_tell`` says why."""
        spec = self.model.spec if self.model else None
        fields: dict[str, Any] = {
            "encoder": self.name,
            "source": self.source,
            "reason": self.reason or None,
            "dimension": spec.dimension if spec else None,
            "input_size": list(spec.input_size) if spec else None,
            "bytes": self.size_bytes,
            "licence": spec.licence if spec else None,
            "precision": self.precision or None,
            "faces_per_second": self.rate.median if self.rate else None,
            "faces_per_second_range": [self.rate.lowest, self.rate.highest] if self.rate else None,
            "reused": self.reused,
        }
        names = ["eer", "eer_ci", "eer_ci_how", "threshold", "eer_other", "eer_fake", "kinds", "auc", "auc_ci"]
        names += ["failure_to_enrol", "skipped_pairs", "repeated_pairs", "pairs_with_itself", "contradictory_pairs"]
        names += ["discard", "cannot_tell"]
        found = self.evaluation.to_json_dict() if self.evaluation else {}
        fields |= {name: found.get(name) for name in names}
        fields["tar_at_far"] = None
        if self.evaluation:
            rates = self.evaluation.fnmr_at_fmr
            fields["tar_at_far"] = {k: None if v is None else 1 - v for k, v in rates.items()}
        return fields


@dataclasses.dataclass(frozen=True)
class Comparison:
    """All encoders on one list."""

    pairs: PairList
    rows: list[Row]
    """In the order in which they were given."""
    rate_faces: int
    """Different faces that rates were measured on."""
    aligner: str
    runtime: dict[str, str]
    several: int | None = 0
    """Photos that show several faces, of which the largest was taken; None where an older version kept all similarities."""

    @property
    def failed(self) -> list[Row]:
        """The encoders without figures."""
        return [row for row in self.rows if row.reason]

    def curve(self, row: Row) -> metrics.Roc:
        """Error rates over the threshold of an encoder that did not fail."""
        assert row.scores is not None and row.evaluation is not None
        kept = ~row.scores.failed if row.evaluation.skipped_pairs else np.ones(len(self.pairs), np.bool_)
        return metrics.roc(row.scores.similarity[kept], self.pairs.labels[kept])

    def to_json_dict(self) -> dict[str, Any]:
        """The fields of ``compare --json``."""
        return {
            "pairs": len(self.pairs),
            "positives": int(self.pairs.labels.sum()),
            "negatives": int((~self.pairs.labels).sum()),
            "aligner": self.aligner,
            **self.runtime,
            "rate_faces": self.rate_faces,
            "failed": len(self.failed),
            "several_faces": self.several,
            "encoders": [row.to_json_dict() for row in self.rows],
        }


def size_text(size_bytes: int) -> str:
    """``22.4 MB``, or ``5 KB`` for what is less than a tenth of a megabyte."""
    return f"{size_bytes / 1e6:.1f} MB" if size_bytes >= 1e5 else f"{size_bytes / 1e3:.0f} KB"
