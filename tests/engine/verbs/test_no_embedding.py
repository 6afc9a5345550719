"""A face of which the encoder gives no embedding is a photo with a reason, in every verb: never a NaN, never a stranger."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from faceembed.cli.web import answers
from faceembed.engine.explain.subject import open_subject
from faceembed.engine.pipeline.batches import Pipeline
from faceembed.engine.pipeline.serving import Embedder
from faceembed.engine.pipeline.settings import EmbedSettings
from faceembed.engine.runtimes.base import Session
from faceembed.engine.runtimes.choose import RuntimeSettings
from faceembed.engine.runtimes.unit import NO_EMBEDDING
from faceembed.engine.verbs.embed import embed
from faceembed.engine.verbs.evaluate import evaluate_pairs
from faceembed.engine.verbs.matrix import matrix
from faceembed.engine.verbs.search import search
from faceembed.engine.verbs.verify import verify
from faceembed.errors import DataError

CROPS = EmbedSettings(aligner="none", batch_size=4, runtime=RuntimeSettings(precision="fp32", threads=1))


class Whitening(Session):
    """A network that divides by a chip's spread, as some do inside: of a flat one NaN, or zeros behind a rectifier."""

    def __init__(self, flat: float, dimension: int) -> None:
        self.flat, self.dimension = flat, dimension

    def run(self, pixels: NDArray[np.uint8]) -> tuple[NDArray[np.float32], ...]:
        rows = pixels[:, ::10, ::10].reshape(len(pixels), -1).astype(np.float32)[:, : self.dimension]
        spread = rows.std(1, keepdims=True)
        with np.errstate(invalid="ignore", divide="ignore"):
            white = (rows - rows.mean(1, keepdims=True)) / spread
        return (np.where(spread > 0, white, np.float32(self.flat)),)


@pytest.fixture(params=[np.nan, 0.0], ids=["nan", "zeros"])
def whitening(request: pytest.FixtureRequest, reuse_pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> Pipeline:
    encoder = reuse_pipeline.encoder
    monkeypatch.setattr(encoder, "_session", Whitening(request.param, encoder.model.spec.dimension))
    return reuse_pipeline


@pytest.fixture
def album(tmp_path: Path, pipeline: Pipeline) -> Path:
    """Crops of noise, and flat grey ones among them."""
    folder, (height, width) = tmp_path / "album", pipeline.encoder.model.spec.input_size
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(6):
        pixels = (
            rng.integers(0, 256, (height, width, 3), np.uint8)
            if number % 3
            else np.full((height, width, 3), 128, np.uint8)
        )
        cv2.imwrite(str(folder / f"{number}.png"), pixels)
    return folder


@pytest.mark.usefixtures("whitening")
def test_a_face_without_embedding_is_a_row_and_no_match(album: Path, tmp_path: Path) -> None:
    index, flat, good, other = tmp_path / "p.faiss", album / "0.png", album / "1.png", album / "2.png"
    report = embed(album, index, settings=CROPS)
    assert (report.faces, report.failed, report.no_face) == (4, 2, 0)
    with (tmp_path / "p.faiss.errors.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["path"], row["stage"], row["reason"]) for row in rows] == [
        (str(album / name), "encode", NO_EMBEDDING) for name in ("0.png", "3.png")
    ]
    assert embed(album, index, settings=CROPS).embedded == 0  # it is known, not tried again

    assert search(index, [flat], settings=CROPS) == [(str(flat), NO_EMBEDDING)]
    with pytest.raises(DataError, match=r"0\.png: the encoder gives no embedding"):
        verify(flat, good, settings=CROPS, threshold=0.5)
    table = matrix([flat, good, other], settings=CROPS)
    assert table.failures == {str(flat): NO_EMBEDDING}
    assert [row[0] for row in table.to_json_dict()["similarity"]] == [None] * 3
    with pytest.raises(DataError, match=r"0\.png: the encoder gives no embedding"):
        open_subject(CROPS, [str(flat), str(good)]).faces([str(flat), str(good)])

    pairs = tmp_path / "pairs.csv"
    pairs.write_text(f"path_a,path_b,label\n{good},{good},1\n{good},{other},0\n{flat},{good},1\n")
    result = evaluate_pairs(pairs, settings=CROPS)
    assert (result.pairs, result.failure_to_enrol) == (3, pytest.approx(1 / 3))
    json.dumps(result.to_json_dict(), allow_nan=False)


def test_a_server_says_it_too(album: Path, whitening: Pipeline) -> None:
    crops = Pipeline(CROPS, None, whitening.encoder, workers=1)
    embedder = Embedder.of(crops)
    flat, good = embedder.embed([embedder.take((album / name).read_bytes()) for name in ("0.png", "1.png")])
    assert (flat.stage, flat.reason, flat.faces, flat.chosen) == ("encode", NO_EMBEDDING, (), None)
    assert (flat.width, flat.height) == (good.width, good.height)
    assert len(good.faces) == 1
    assert answers.similarities([None, good.faces[0]])[1] == [None, pytest.approx(1, abs=1e-6)]
