"""Aligners are opened by what their spec says of their outputs, never by name."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from faceembed.engine.detect.kinds import check_decoder, open_detector
from faceembed.engine.detect.mtcnn import MtcnnDetector
from faceembed.engine.models.registry import resolve
from faceembed.engine.models.spec import Model
from faceembed.engine.pipeline import loading
from faceembed.engine.pipeline.settings import EmbedSettings
from faceembed.engine.runtimes.base import RuntimeChoice
from faceembed.errors import ModelError, UsageError

EXACT = RuntimeChoice("openvino", "cpu", "fp32", "a test")


@pytest.fixture(scope="module")
def mtcnn() -> Model:
    return resolve("mtcnn", task="aligner")


def renamed(model: Model, folder: Path, **changes: str) -> Model:
    """The same network as a file of a user's own."""
    spec = dataclasses.replace(model.spec, **changes)  # type: ignore[arg-type]
    path = folder / "own.onnx"
    path.write_bytes(Path(model.path).read_bytes())
    path.with_suffix(".json").write_text(spec.to_json())
    return Model(spec, str(path))


def test_the_decoder_counts_not_the_name(mtcnn: Model, tmp_path: Path) -> None:
    own = renamed(mtcnn, tmp_path, name="somebody-elses")
    assert isinstance(open_detector(own, EXACT, threads=1), MtcnnDetector)
    resolved = loading.resolve_aligner(EmbedSettings(aligner=own.path))
    assert resolved is not None and resolved.spec.name == "somebody-elses"


@pytest.mark.parametrize(
    ("decoder", "message"),
    [("blazeface", "outputs of kind 'blazeface'"), ("", "no 'decoder' in its spec")],
)
def test_unreadable_outputs_are_refused(mtcnn: Model, tmp_path: Path, decoder: str, message: str) -> None:
    own = renamed(mtcnn, tmp_path, name="mtcnn", decoder=decoder)
    with pytest.raises(ModelError, match=message + ".*reads dfa, mtcnn, one-shot, retinaface, scrfd, yunet"):
        check_decoder(own)
    with pytest.raises(ModelError, match=message):
        loading.resolve_aligner(EmbedSettings(aligner=own.path))


def test_a_wrong_decoder_is_a_line(mtcnn: Model, tmp_path: Path) -> None:
    own = renamed(mtcnn, tmp_path, name="mtcnn", decoder="one-shot")
    with pytest.raises(ModelError, match=re.escape("has no output 'level_8'")):
        open_detector(own, EXACT, threads=1)


def test_detect_size_is_for_aligners_that_have_one(mtcnn: Model) -> None:
    with pytest.raises(UsageError, match="leave --detect-size out"):
        open_detector(mtcnn, EXACT, threads=1, detect_size=320)
    with pytest.raises(UsageError, match="--detect-size 20 is too small"):
        EmbedSettings(detect_size=20)
