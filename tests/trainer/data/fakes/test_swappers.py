"""Swappers: each kind is fed and read as its authors do, and a wrong file is one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from faceembed.engine.models.spec import ARCFACE_TEMPLATE
from faceembed.errors import ModelError
from faceembed.trainer.data.fakes.identity import Identity
from faceembed.trainer.data.fakes.make import make_fakes
from faceembed.trainer.data.fakes.manifest import read_fakes
from faceembed.trainer.data.fakes.methods import Shot
from faceembed.trainer.data.fakes.settings import FakeSettings
from faceembed.trainer.data.fakes.swappers import SWAPPERS, Ghost, InSwapper, SimSwap, open_swapper
from faceembed.trainer.data.people import read_people

MakeShot = Callable[..., Shot]
SHIFT = 7  # the identity map of our inswapper moves each number on by so many


def network(path: Path, side: int, scale: float, *, emap: bool, swapped: bool = False, identity: int = 512) -> Path:
    """A swapper that gives the target's picture times the identity's first number times ``scale``."""
    first = numpy_helper.from_array(np.array([0], np.int64), "first")
    factor = numpy_helper.from_array(np.array(scale, np.float32), "factor")
    shape = numpy_helper.from_array(np.array([1, 1, 1, 1], np.int64), "shape")
    weights = [first, factor, shape]
    if emap:  # times 3, for what comes out to be normalised
        weights.append(numpy_helper.from_array(np.roll(np.eye(512, dtype=np.float32), SHIFT, axis=1) * 3, "emap"))
    nodes = [
        helper.make_node("Gather", ["source", "first"], ["one"], axis=1),
        helper.make_node("Mul", ["one", "factor"], ["scaled"]),
        helper.make_node("Reshape", ["scaled", "shape"], ["times"]),
        helper.make_node("Mul", ["target", "times"], ["output"]),
    ]
    inputs = [
        helper.make_tensor_value_info("target", TensorProto.FLOAT, [1, 3, side, side]),
        helper.make_tensor_value_info("source", TensorProto.FLOAT, [1, identity]),
    ]
    output = helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, 3, side, side])
    graph = helper.make_graph(nodes, "swapper", inputs[::-1] if swapped else inputs, [output], weights)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    proto.ir_version = 8
    onnx.save(proto, str(path))
    return path


def encoder(path: Path, dimension: int = 512, side: int = 112) -> Path:
    """An embedder whose first three numbers are the channels' means, and the rest a tenth of the red one."""
    weight = np.zeros((3, dimension), np.float32)
    weight[0, 3:] = 0.1
    weight[:3, :3] = np.eye(3)
    graph = helper.make_graph(
        [
            helper.make_node("GlobalAveragePool", ["input"], ["pooled"]),
            helper.make_node("Flatten", ["pooled"], ["flat"]),
            helper.make_node("MatMul", ["flat", "weight"], ["embedding"]),
        ],
        "encoder",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", 3, side, side])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["N", dimension])],
        [numpy_helper.from_array(weight, "weight")],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    proto.ir_version = 8
    onnx.save(proto, str(path))
    return path


@pytest.fixture(scope="module")
def identity(tmp_path_factory: pytest.TempPathFactory) -> Identity:
    return Identity(str(encoder(tmp_path_factory.mktemp("identity") / "arcface.onnx")), threads=1)


def unit(place: int) -> NDArray[np.float32]:
    return np.eye(512, dtype=np.float32)[place]


@pytest.fixture
def crop() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (256, 256, 3)).astype(np.uint8)


def test_inswapper(tmp_path: Path, identity: Identity, crop: NDArray[np.uint8]) -> None:
    swapper = InSwapper(network(tmp_path / "in.onnx", 128, 1.0, emap=True), identity)
    crop = crop[:128, :128]
    # The vector goes through the map and is normalised: only what lands on the first place counts, as exactly 1.
    np.testing.assert_allclose(swapper.swap(crop, unit(512 - SHIFT), 20.0), crop, atol=1e-3)
    assert np.abs(swapper.swap(crop, unit(0), 20.0)).max() == 0
    np.testing.assert_allclose(swapper.encode_identity(unit(1), 20.0), unit(1 + SHIFT), atol=1e-6)
    template = np.array(swapper.template())
    np.testing.assert_allclose(template, np.array(ARCFACE_TEMPLATE) + np.array([8, 0]))


def test_inputs_are_told_apart_by_their_shape(tmp_path: Path, identity: Identity, crop: NDArray[np.uint8]) -> None:
    swapper = InSwapper(network(tmp_path / "in.onnx", 128, 1.0, emap=True, swapped=True), identity)
    np.testing.assert_allclose(swapper.swap(crop[:128, :128], unit(512 - SHIFT), 1), crop[:128, :128], atol=1e-3)


@pytest.mark.parametrize("side", [224, 256])
def test_simswap(tmp_path: Path, identity: Identity, crop: NDArray[np.uint8], side: int) -> None:
    swapper = SimSwap(network(tmp_path / "sim.onnx", side, 1.0, emap=False), identity)
    crop = crop[:side, :side]
    given = crop / np.float32(255)
    if side == 256:  # normalised on its way in, not on its way out
        given = (given - np.array([0.485, 0.456, 0.406])) / np.array([0.229, 0.224, 0.225])
    np.testing.assert_allclose(swapper.swap(crop, unit(0), 20.0), np.clip(given, 0, 1) * 255, atol=1e-2)
    np.testing.assert_allclose(swapper.template()[0], np.array([39.73, 51.138]) * side / 112)


def test_ghost(tmp_path: Path, identity: Identity, crop: NDArray[np.uint8]) -> None:
    swapper = Ghost(network(tmp_path / "ghost.onnx", 256, 1 / 20, emap=False), identity)
    # The identity keeps its length: 20 here, which the network divides away.
    np.testing.assert_allclose(swapper.swap(crop, unit(0), 20.0), crop, atol=1e-2)
    np.testing.assert_allclose(swapper.swap(crop, unit(1), 20.0), np.full_like(crop, 127.5, np.float32), atol=1e-2)


def test_identity_follows_arcface(identity: Identity, make_shot: MakeShot) -> None:
    """RGB, (pixel - 127.5) / 127.5; the length before normalisation is given, too."""
    shot = make_shot(3)
    pixels = np.broadcast_to(np.array([255, 0, 191], np.uint8), shot.pixels.shape)
    vector, norm = identity.embed(Shot(np.ascontiguousarray(pixels), shot.mesh))
    expected = np.r_[1, -1, 191 / 127.5 - 1, np.full(509, 0.1)]
    np.testing.assert_allclose(vector * norm, expected, atol=1e-4)
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ("kind", "side", "scale"), [("inswapper", 128, 1.0), ("simswap", 224, 1.0), ("ghost", 256, 1 / 20)]
)
def test_paste_back(
    tmp_path: Path, identity: Identity, make_shot: MakeShot, kind: str, side: int, scale: float
) -> None:
    source, target = make_shot(1), make_shot(2)
    swapper = SWAPPERS[kind](network(tmp_path / "a.onnx", side, scale, emap=kind == "inswapper"), identity)
    place = 512 - SHIFT if kind == "inswapper" else 0

    class Same(Identity):
        def __init__(self) -> None: ...

        def embed(self, shot: Shot) -> tuple[NDArray[np.float32], float]:
            return unit(place), 20.0

    swapper.identity = Same()  # the network then gives the target's own crop: what returns must lie where it was
    made = swapper(source, target, np.random.default_rng(0))
    assert np.array_equal(made.pixels[made.mask == 0], target.pixels[made.mask == 0])
    assert made.mask.max() > 0.9
    assert np.abs(made.pixels.astype(int) - target.pixels)[made.mask > 0].max() <= (3 if kind != "simswap" else 4)
    x, y = np.rint(target.mesh.points[2]).astype(int)
    assert made.mask[y, x] > 0.9
    # Another identity gives another face there, and the same photo elsewhere.
    swapper.identity = identity
    other = swapper(source, target, np.random.default_rng(0))
    assert np.abs(other.pixels.astype(int) - target.pixels)[made.mask > 0.9].mean() > 5
    assert np.array_equal(other.pixels[other.mask == 0], target.pixels[other.mask == 0])


def text_file(path: Path) -> Path:
    path.write_text("not a model")
    return path


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (text_file, "is not an ONNX file"),
        (lambda path: path, "cannot be read: No such file"),
        (encoder, "is no inswapper swapper: it takes input"),
        (lambda path: network(path, 100, 1.0, emap=True), "it takes pictures of 100x100; expected 128x128"),
        (lambda path: network(path, 128, 1.0, emap=False), "its last initialiser has shape"),
        (lambda path: network(path, 128, 1.0, emap=True, identity=256), r"an identity \(1, 512\)"),
    ],
)
def test_a_wrong_file_is_one_line(tmp_path: Path, identity: Identity, build: Any, message: str) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        InSwapper(build(tmp_path / "file.onnx"), identity)
    assert "\n" not in str(caught.value)


def test_a_wrong_embedder_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="gives 128 numbers, a swapper takes 512"):
        Identity("dlib-resnet", threads=1)
    with pytest.raises(ModelError, match="takes 96x96 pixels"):
        Identity(str(encoder(tmp_path / "small.onnx", side=96)), threads=1)
    with pytest.raises(ModelError, match="no model 'nobody-knows-it'"):
        Identity("nobody-knows-it", threads=1)


def test_a_swapper_is_a_method(tmp_path: Path, people: Path, reuse_pipeline: object) -> None:
    file = network(tmp_path / "ghost.onnx", 256, 1 / 20, emap=False)
    swapper = open_swapper("ghost", file, embedder=str(encoder(tmp_path / "arcface.onnx")))
    settings = FakeSettings(methods=("ghost",), count=3)
    report = make_fakes(read_people(people), tmp_path / "fakes", settings, methods={"ghost": swapper})
    assert report.methods == {"ghost": 3}
    assert all('"swapper": "ghost.onnx"' in row.params for row in read_fakes(tmp_path / "fakes"))
