"""How good a face is: sharpness falls with blur, pose is that of a head that is turned, a percentile means a share."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest

from faceembed.engine.models.registry import resolve
from faceembed.engine.models.spec import ModelSpec
from faceembed.engine.pipeline.quality import NOSE, percentile, pose, quality_of, sharpness
from faceembed.errors import ModelError

HEAD = np.array([[-0.5, 0, 0], [0.5, 0, 0], [0, 0.6, NOSE], [-0.4, 1.1, 0.1], [0.4, 1.1, 0.1]])
"""Eyes, nose tip and mouth corners of a head that looks at the camera: x to the right, y down, z to the camera; distances of the eyes."""


def turned(yaw: float, roll: float) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    y, r = np.radians(yaw), np.radians(roll)
    about = np.array([[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]])
    flat = (HEAD @ about.T)[:, :2] * 60 + 200
    lean = np.array([[np.cos(r), -np.sin(r)], [np.sin(r), np.cos(r)]])
    return (flat @ lean.T).astype(np.float32)


@pytest.mark.parametrize("yaw", [-50, -10, 0, 25, 60])
@pytest.mark.parametrize("roll", [-30, 0, 80])
def test_pose(yaw: float, roll: float) -> None:
    found = pose(turned(yaw, roll)[None])
    assert found[0] == pytest.approx([yaw], abs=0.5) and found[1] == pytest.approx([roll], abs=0.5)


def test_points_that_are_one() -> None:
    yaw, roll = pose(np.zeros((1, 5, 2), np.float32))
    assert np.isfinite(yaw).all() and np.isfinite(roll).all()


def test_sharpness_falls_with_blur(astronaut: np.ndarray[tuple[int, int, int], np.dtype[np.uint8]]) -> None:
    chip = np.ascontiguousarray(astronaut[60:210, 150:300])
    blurred = [cv2.GaussianBlur(chip, (0, 0), sigma) for sigma in (0.6, 1.2, 3)]
    values = sharpness(np.stack([chip, *blurred])).tolist()
    assert values == sorted(values, reverse=True) and values[0] > 10 * values[2]
    assert sharpness(np.zeros((0, 9, 9, 3), np.uint8)).shape == (0,)


@pytest.mark.parametrize("shape", [(2, 2), (3, 2), (112, 112), (7, 2100)])
def test_sharpness_is_opencvs(shape: tuple[int, int]) -> None:
    chips = np.random.default_rng(0).integers(0, 256, (3, *shape, 3)).astype(np.uint8)
    chips[1] = 255 * (np.indices(shape).sum(axis=0) % 2)[..., None]  # the largest that there is
    grey = [cv2.cvtColor(chip, cv2.COLOR_RGB2GRAY) for chip in chips]
    expected = [np.asarray(cv2.Laplacian(one, cv2.CV_32F), np.float64).var() for one in grey]
    assert sharpness(chips).tolist() == pytest.approx(expected, rel=1e-6)


def test_percentile() -> None:
    spec = resolve("faceembed-r29", task="encoder").spec
    shares = percentile(np.array([0, spec.norms[0], spec.norms[10], spec.norms[-1], 9], np.float32), spec)
    assert shares is not None and shares.tolist() == pytest.approx([0, 0, 0.5, 1, 1], abs=1e-6)
    assert percentile(np.ones(1, np.float32), dataclasses.replace(spec, norms=())) is None
    assert ModelSpec.from_json(spec.to_json()) == spec
    with pytest.raises(ModelError, match="norms are quantiles"):
        dataclasses.replace(spec, norms=(2.0, 1.0))


def test_an_index_has_the_columns(built_index: Path) -> None:
    row = pq.read_table(f"{built_index}.parquet").to_pylist()[0]
    assert 0 <= row["quality"] <= 1 and row["sharpness"] > 0 and abs(row["yaw"]) < 45 and abs(row["roll"]) < 20
    assert set(quality_of(row)) == {"score", "norm", "side", "frontal", "sharpness", "real"}
    assert "yaw" not in quality_of({**row, "yaw": None}) and "frontal" not in quality_of({**row, "yaw": None})


@pytest.fixture
def built_index(tmp_path: Path, reuse_pipeline: object) -> Path:
    from faceembed.engine.photos.sample import sample_photos
    from faceembed.engine.verbs.embed import embed

    embed([sample_photos() / "astronaut.png"], tmp_path / "p.faiss")
    return tmp_path / "p.faiss"
