"""The verb `compare` of a search, 1:N: several encoders on the same probes and gallery.

searches = compare_searches(["faceembed-r29", "mine.onnx"], "probes.csv", "gallery.csv")
searches.figures["faceembed-r29"].figures.rank["1"]
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from typing import Any

from faceembed.engine.models.registry import resolve
from faceembed.engine.pipeline.progress import Notify, OnProgress
from faceembed.engine.pipeline.settings import EmbedSettings
from faceembed.engine.report.search import write_search_report
from faceembed.engine.verbs.search_figures import SearchFigures, evaluate_search, without_text
from faceembed.errors import ModelError, UsageError


@dataclasses.dataclass(frozen=True)
class Searches:
    """The figures of each encoder, by what was given for it."""

    figures: dict[str, SearchFigures]
    reasons: dict[str, str]
    """Encoders without figures, and why."""

    def to_json_dict(self) -> dict[str, Any]:
        """The fields of ``compare --gallery --json``."""
        rows = [
            {"encoder": of.encoder, "source": name, "reason": None, **of.to_json_dict()}
            for name, of in self.figures.items()
        ]
        rows += [{"encoder": name, "source": name, "reason": reason} for name, reason in self.reasons.items()]
        return {"failed": len(self.reasons), "encoders": rows}

    def write_report(self, path: str | os.PathLike[str], *, probes: str, gallery: str) -> None:
        """Write one table of all, and their DET curves over each other, as one HTML file; of the lists it has the names.

        Raises:
            OSError: the file cannot be written.
        """
        found = list(self.figures.values())
        write_search_report(
            path,
            {name: of.figures for name, of in self.figures.items()},
            title=f"{len(self.figures) + len(self.reasons)} encoders in a search",
            facts={"Probes of": probes, "Gallery of": gallery, "Template": found[0].template if found else ""},
            reasons=self.reasons,
            failures=found[0].failures if found else {},
            notes=[without_text(found[0].without)] if found and found[0].without else [],
        )


def compare_searches(
    encoders: Sequence[str],
    probes: str | os.PathLike[str],
    gallery: str | os.PathLike[str],
    *,
    root: str | os.PathLike[str] | None = None,
    settings: EmbedSettings | None = None,
    notice: Notify = lambda line: None,
    progress: OnProgress = lambda progress: None,
) -> Searches:
    """Measure a search with each encoder. Photos are read once for each.

    Args:
        encoders: names, or paths of ONNX files; one that is unknown, absent or damaged has a reason in place of figures.
        probes, gallery, root, notice, progress: as of `evaluate_search`.
        settings: aligner, batches and runtime; its ``encoder`` is not looked at.

    Raises:
        UsageError: no encoder.
        PairListError, DataError: as `evaluate_search`, of lists that no encoder can be measured on.
    """
    if not encoders:
        raise UsageError("give at least one encoder")
    figures: dict[str, SearchFigures] = {}
    reasons: dict[str, str] = {}
    for name in dict.fromkeys(encoders):
        each = dataclasses.replace(settings or EmbedSettings(), encoder=name)
        try:
            resolve(name, task="encoder")
            notice(f"{name}:")
            figures[name] = evaluate_search(probes, gallery, root=root, settings=each, notice=notice, progress=progress)
        except ModelError as error:
            reasons[name] = " ".join(str(error).split())
    return Searches(figures, reasons)
