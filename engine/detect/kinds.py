"""From an aligner to the detector that reads its outputs, by what its spec says they are."""

from __future__ import annotations

from faceembed.engine.detect.anchored import RetinaFaceDetector, ScrfdDetector
from faceembed.engine.detect.dfa import DfaDetector
from faceembed.engine.detect.interface import Detector
from faceembed.engine.detect.mtcnn import MtcnnDetector
from faceembed.engine.detect.oneshot import OneShotDetector, OneShotSettings
from faceembed.engine.detect.yunet import YunetDetector, YunetSettings
from faceembed.engine.models.catalog import DECODERS
from faceembed.engine.models.spec import Model
from faceembed.engine.runtimes.base import RuntimeChoice
from faceembed.engine.runtimes.choose import for_aligner
from faceembed.engine.runtimes.watch import SILENT, Watch
from faceembed.errors import ModelError, UsageError

_LIKE_YUNET = {"yunet": YunetDetector, "scrfd": ScrfdDetector, "retinaface": RetinaFaceDetector}


def check_decoder(model: Model) -> None:
    """Refuse an aligner whose outputs nobody here reads.

    Raises:
        ModelError: its spec names no decoder, or one that this version does not have.
    """
    if model.spec.decoder not in DECODERS:
        kind = f"outputs of kind '{model.spec.decoder}'" if model.spec.decoder else "no 'decoder' in its spec"
        raise ModelError(
            f"aligner '{model.spec.name}' has {kind}; this version reads {', '.join(DECODERS)}; see: faceembed models list"
        )


def cpu_only(model: Model | None) -> str:
    """Why an aligner has no way onto a card; empty if it has, or if there is none."""
    if model is None or model.spec.decoder == "one-shot":
        return ""
    return (
        f"aligner '{model.spec.name}' runs on the CPU only; on a card use --aligner faceembed-align, another aligner of kind "
        "'one-shot', or --aligner none for aligned crops"
    )


def least_score(model: Model, given: float | None) -> float:
    """The score from which on what an aligner found is a face: what the user gave, else the aligner's own, else any."""
    return given if given is not None else model.spec.min_score or 0.0


def open_detector(
    model: Model,
    choice: RuntimeChoice,
    *,
    threads: int,
    detect_size: int = 0,
    min_score: float | None = None,
    watch: Watch = SILENT,
) -> Detector:
    """Load an aligner.

    Args:
        model: the model on disk.
        choice: runtime, device and precision.
        threads: how many threads will call `detect` side by side.
        detect_size: longer side, in pixels, in which photos are looked at, at most; 0: what the smallest face needs.
        min_score: score from which on a face is sure; None: the aligner's own.
        watch: told of an engine that must be built first.

    Raises:
        ModelError: as `check_decoder`.
        UsageError: a size for an aligner that has none.
    """
    check_decoder(model)
    sure = least_score(model, min_score)
    if model.spec.decoder == "one-shot":
        settings = OneShotSettings(detect_side=detect_size)
        return OneShotDetector(
            model, for_aligner(choice), threads=threads, settings=settings, min_score=sure, watch=watch
        )
    if (kind := _LIKE_YUNET.get(model.spec.decoder)) is not None:
        return kind(
            model, choice, threads=threads, settings=YunetSettings(detect_side=detect_size), min_score=sure, watch=watch
        )
    if model.spec.decoder == "dfa":
        if detect_size:
            raise UsageError(f"aligner '{model.spec.name}' takes pictures of one size; leave --detect-size out")
        return DfaDetector(model, choice, threads=threads, min_score=sure)
    if detect_size:
        raise UsageError(f"aligner '{model.spec.name}' looks at all sizes down to --min-face; leave --detect-size out")
    return MtcnnDetector(model, choice, threads=threads, min_score=sure)
