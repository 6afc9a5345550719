"""What is known of several encoders on one pair list, and on several. `report.encoders` shows it."""

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
    quality_aware: bool = False
    """Whether the similarities are QMagFace's scores of an encoder that has another row."""

    @property
    def name(self) -> str:
        """The encoder's name, or what was given for it."""
        name = self.model.spec.name if self.model else self.source
        return f"{name}, quality-aware" if self.quality_aware else name

    @property
    def size_bytes(self) -> int | None:
        """Of the ONNX file."""
        return os.path.getsize(self.model.path) if self.model and os.path.isfile(self.model.path) else None

    def to_json_dict(self) -> dict[str, Any]:
        """As plain types; the fields of an encoder that failed are null, and what the data cannot tell is null, and ``cannot_tell`` says why."""
        spec = self.model.spec if self.model else None
        fields: dict[str, Any] = {
            "encoder": self.model.spec.name if self.model else self.source,
            "score": "quality-aware" if self.quality_aware else "cosine",
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
        names += ["fnmr_at_fmr", "fnmr_ci", "discard", "cannot_tell"]
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


@dataclasses.dataclass(frozen=True)
class Comparisons:
    """All encoders on several lists, in the order in which both were given."""

    lists: list[Comparison]

    @property
    def names(self) -> list[str]:
        """What each list is called: its file's name without the ending, and its folder's too where two are the same."""
        paths = [os.path.normpath(of.pairs.source) for of in self.lists]
        short = [os.path.splitext(os.path.basename(path))[0] for path in paths]
        long = [os.path.join(os.path.basename(os.path.dirname(p)), name) for p, name in zip(paths, short, strict=True)]
        chosen = [b if short.count(a) > 1 else a for a, b in zip(short, long, strict=True)]
        return [f"{name} ({n + 1})" if chosen.count(name) > 1 else name for n, name in enumerate(chosen)]

    def encoders(self) -> list[list[Row]]:
        """Each encoder's rows, one a list."""
        keys = dict.fromkeys((row.source, row.quality_aware) for of in self.lists for row in of.rows)
        by_list = [{(row.source, row.quality_aware): row for row in of.rows} for of in self.lists]
        return [[rows[key] for rows in by_list if key in rows] for key in keys]

    @property
    def failed(self) -> list[list[Row]]:
        """The encoders that have no figures of a list, or of any."""
        return [rows for rows in self.encoders() if any(row.reason for row in rows)]

    def to_json_dict(self) -> dict[str, Any]:
        """The fields of ``compare --json`` of several lists."""
        named = zip(self.names, self.lists, strict=True)
        lists = [{"list": name, "source": of.pairs.source, **of.to_json_dict()} for name, of in named]
        return {"failed": len(self.failed), "lists": lists}


def size_text(size_bytes: int) -> str:
    """``22.4 MB``, or ``5 KB`` for what is less than a tenth of a megabyte."""
    return f"{size_bytes / 1e6:.1f} MB" if size_bytes >= 1e5 else f"{size_bytes / 1e3:.0f} KB"
