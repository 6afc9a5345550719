"""The imported ResNet against dlib itself on the same chips, and the importer on files that are cut off or garbled."""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from faceembed.engine.models import dlib_resnet, packages
from faceembed.engine.models.dlib_resnet import DlibReader, read_layers, write_graph
from faceembed.engine.models.packages import package_file
from faceembed.engine.models.spec import Model
from faceembed.engine.photos.photo_file import PhotoFile
from faceembed.engine.pipeline.batches import Pipeline
from faceembed.engine.pipeline.encode import Encoder
from faceembed.engine.runtimes import openvino
from faceembed.engine.runtimes.base import Precision, RuntimeChoice
from faceembed.errors import ModelError
from faceembed.install import pip_install

WEIGHTS = "models/dlib_face_recognition_resnet_model_v1.dat"


@pytest.fixture(scope="module")
def weights() -> bytes:
    return Path(package_file("face_recognition_models", WEIGHTS, extra="")).read_bytes()


@pytest.fixture(scope="module")
def views(astronaut: np.ndarray) -> np.ndarray:
    """Chips (16, 150, 150, 3): the astronaut's face at several crops, and noise, which no crop resembles."""
    rng = np.random.default_rng(0)
    chips = []
    for number in range(12):
        y, x, side = 30 + 3 * number, 120 + 4 * (number % 4), 160 + 5 * (number % 5)
        chips.append(cv2.resize(astronaut[y : y + side, x : x + side], (150, 150), interpolation=cv2.INTER_AREA))
    chips += [rng.integers(0, 256, (150, 150, 3), dtype=np.uint8) for _ in range(2)]
    chips += [np.zeros((150, 150, 3), np.uint8), np.full((150, 150, 3), 255, np.uint8)]
    return np.stack(chips)


@pytest.fixture(scope="module")
def real(pipeline: Pipeline, wild: list[Path]) -> np.ndarray:
    """Chips (48, 150, 150, 3) of 48 people."""
    return pipeline.chips([PhotoFile(str(path), path.stat().st_size, 0) for path in wild[:64]], 48)


@functools.cache
def dlib_network() -> Any:
    dlib = pytest.importorskip("dlib")
    return dlib.face_recognition_model_v1(str(package_file("face_recognition_models", WEIGHTS, extra="")))


def by_dlib(chips: np.ndarray) -> np.ndarray:
    """Unit-length descriptors by dlib's own code."""
    descriptors = np.array([dlib_network().compute_face_descriptor(chip) for chip in chips])
    return descriptors / np.linalg.norm(descriptors, axis=1, keepdims=True)


def encode(model: Model, runtime: str, precision: Precision, chips: np.ndarray) -> np.ndarray:
    encoder = Encoder(model, RuntimeChoice(runtime, "cpu", precision, "test"), threads=1)
    encoder._admitted = True
    return encoder.encode(chips)[0]


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_equals_dlib(dlib_model: Model, views: np.ndarray, runtime: str) -> None:
    cosine = (encode(dlib_model, runtime, "fp32", views) * by_dlib(views)).sum(1)
    assert cosine.min() >= 0.9999


@pytest.mark.data
@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_equals_dlib_on_real_faces(dlib_model: Model, real: np.ndarray, runtime: str) -> None:
    chips = real[:24]
    assert len(chips) == 24
    cosine = (encode(dlib_model, runtime, "fp32", chips) * by_dlib(chips)).sum(1)
    assert cosine.min() >= 0.99999


def test_bf16_is_close(dlib_model: Model, views: np.ndarray) -> None:
    if "bf16" not in openvino.supported_precisions():
        pytest.skip("this processor has no native bf16")
    cosine = (encode(dlib_model, "openvino", "bf16", views[:12]) * by_dlib(views[:12])).sum(1)
    assert cosine.min() >= 0.999
    assert cosine.min() < 1 - 1e-7  # it really computed in bf16


@pytest.mark.data
def test_bf16_is_close_on_real_faces(dlib_model: Model, real: np.ndarray) -> None:
    if "bf16" not in openvino.supported_precisions():
        pytest.skip("this processor has no native bf16")
    exact = encode(dlib_model, "openvino", "fp32", real)
    assert (encode(dlib_model, "openvino", "bf16", real) * exact).sum(1).min() >= 0.999


def test_colour_order_matters(dlib_model: Model, views: np.ndarray) -> None:
    """The parity above would notice swapped channels."""
    swapped = encode(dlib_model, "openvino", "fp32", np.ascontiguousarray(views[..., ::-1]))
    assert (swapped * by_dlib(views)).sum(1).min() < 0.999


def test_batch_does_not_matter(dlib_model: Model, views: np.ndarray) -> None:
    encoder = Encoder(dlib_model, RuntimeChoice("openvino", "cpu", "fp32", ""), threads=1)
    whole = encoder.encode(views)[0]
    for start, stop in ((0, 1), (1, 4), (4, 16)):
        np.testing.assert_allclose(encoder.encode(views[start:stop])[0], whole[start:stop], atol=1e-5)


# --- the importer ---------------------------------------------------------------------------------------------------


def test_layers_are_those_of_the_paper(weights: bytes) -> None:
    kinds = [layer.kind for layer in read_layers(weights)]
    assert kinds.count("con") == 29
    assert kinds.count("affine") == 29
    assert kinds.count("add") == 14
    assert kinds[-1] == "fc"


def test_same_bytes_every_time(weights: bytes) -> None:
    layers = read_layers(weights)
    assert write_graph(layers) == write_graph(layers)


def test_file_cut_off_anywhere(weights: bytes) -> None:
    rng = np.random.default_rng(0)
    offsets = [0, 1, 100, *range(280, 420, 9), *rng.integers(420, len(weights) - 2000, 25).tolist()]
    for offset in offsets:
        with pytest.raises(ModelError, match="dlib") as caught:
            read_layers(weights[:offset])
        assert "\n" not in str(caught.value)


def test_garbled_file_is_a_model_error_or_reads(weights: bytes) -> None:
    """Bytes around the beginnings and ends of layers, where everything but the weights is stored."""
    rng = np.random.default_rng(1)
    kinds = rb"\x01.(con_4|affine_|relu_|add_prev_|max_pool_2|avg_pool_2|fc_2)"
    heads = [match.start() for match in re.finditer(kinds, weights)]
    assert len(heads) > 90
    refused = 0
    for _ in range(40):
        garbled = bytearray(weights)
        start = heads[rng.integers(len(heads))] + rng.integers(-120, 50)
        garbled[start : start + 4] = rng.bytes(4)
        try:
            write_graph(read_layers(bytes(garbled)))
        except ModelError as error:
            refused += 1
            assert "\n" not in str(error)
    assert refused > 5


@pytest.mark.parametrize("data", [b"", b"\x7fELF", bytes(1000), b"\x01\x15input_rgb_image_sized"])
def test_another_file(data: bytes) -> None:
    with pytest.raises(ModelError, match="dlib"):
        read_layers(data)


def test_another_input_size(weights: bytes) -> None:
    at = weights.index(b"\x01\x96\x01\x96", weights.index(b"input_rgb_image_sized"))  # 150 and 150
    with pytest.raises(ModelError, match=r"input \(151, 150\).*expected 150x150"):
        read_layers(weights[:at] + b"\x01\x97" + weights[at + 2 :])


def test_layers_that_do_not_fit(weights: bytes) -> None:
    layers = read_layers(weights)
    con = layers[0]
    assert con.params is not None
    for broken in (
        layers[1:],
        layers[:-1],
        [dataclasses.replace(con, params=con.params[:-1]), *layers[1:]],
        [dataclasses.replace(con, settings=(32, 7, 7, 0, 0, *con.settings[5:])), *layers[1:]],
        [*layers[:-1], dataclasses.replace(layers[-1], settings=(127, 256))],
    ):
        with pytest.raises(ModelError, match="dlib network"):
            write_graph(broken)


@pytest.mark.parametrize(
    ("data", "value"),
    [(b"\x01\x05", 5), (b"\x81\x05", -5), (b"\x02\x00\x01", 256), (b"\x08" + b"\xff" * 8, 2**64 - 1), (b"\x01\x00", 0)],
)
def test_integers(data: bytes, value: int) -> None:
    reader = DlibReader(data)
    assert reader.integer() == value
    assert reader.offset == len(data)


@pytest.mark.parametrize("data", [b"", b"\x00", b"\x09" + bytes(9), b"\x02\x01"])
def test_bad_integers(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"no integer|the file ends"):
        DlibReader(data).integer()


def test_missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(packages.importlib.util, "find_spec", lambda name: None if "face_rec" in name else find(name))
    with pytest.raises(
        ModelError, match=rf"'face_recognition_models' are not installed; run: {re.escape(pip_install('bootstrap'))}$"
    ):
        dlib_resnet.build()
