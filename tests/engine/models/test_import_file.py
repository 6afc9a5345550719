"""A user's own ONNX files: the ones that work, and one clear line for each that does not."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from faceembed.engine.models.import_file import check_encoder, import_model
from faceembed.engine.models.registry import info, resolve
from faceembed.engine.models.spec import Model
from faceembed.errors import ModelError

pytestmark = pytest.mark.usefixtures("model_home")
Build = Callable[..., bytes]
TEMPLATE = ((50.0, 60.0), (100.0, 60.0), (75.0, 90.0), (55.0, 120.0), (95.0, 120.0))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "net.onnx"


def take(path: Path, **settings: Any) -> Model:
    return import_model(path, **{"name": "mine", "colour": "bgr", "mean": (127.5,) * 3, "scale": 1 / 127.5, **settings})


def test_an_imported_encoder_is_resolved_by_its_name(path: Path, tiny_encoder: Build) -> None:
    path.write_bytes(tiny_encoder())
    model = take(path, licence="MIT")
    assert resolve("mine", task="encoder") == model
    spec = model.spec
    assert (spec.input_size, spec.dimension, spec.normalised, spec.colour) == ((112, 112), 16, False, "bgr")
    assert Path(model.path).read_bytes() == path.read_bytes()  # nothing to change, so nothing was
    assert info("mine").licence == "MIT"


def test_a_fixed_batch_is_freed(path: Path, tiny_encoder: Build) -> None:
    path.write_bytes(tiny_encoder((1, 3, 112, 112)))
    encoder = check_encoder(path)
    graph = onnx.load_from_string(encoder.data).graph
    assert graph.input[0].type.tensor_type.shape.dim[0].dim_param == "N"


def test_a_batch_fixed_inside_is_refused(path: Path, tiny_encoder: Build) -> None:
    path.write_bytes(tiny_encoder((1, 3, 112, 112), batch=1))
    with pytest.raises(ModelError, match="does not run on a batch"):
        take(path)


def test_any_input_size_needs_one_said(path: Path, tiny_encoder: Build) -> None:
    path.write_bytes(tiny_encoder(("N", 3, "H", "W")))
    with pytest.raises(ModelError, match="--input-size"):
        take(path)
    assert take(path, input_size=(112, 112)).spec.input_size == (112, 112)


def test_other_sizes_need_their_own_template(path: Path, tiny_encoder: Build) -> None:
    path.write_bytes(tiny_encoder(("N", 3, 160, 150)))
    with pytest.raises(ModelError, match="takes 150x160 pixels, but the ArcFace template is for 112x112"):
        take(path)
    with pytest.raises(ModelError, match="takes 150x160 pixels, not 112x112"):
        take(path, input_size=(112, 112))
    with pytest.raises(ModelError, match="points outside of the 150x160"):
        take(path, template=(*TEMPLATE[:4], (149.0, 170.0)))
    assert take(path, template=TEMPLATE).spec.input_size == (160, 150)


def test_names_that_are_taken(path: Path, tiny_encoder: Build) -> None:
    path.write_bytes(tiny_encoder())
    with pytest.raises(ModelError, match="name of a known model"):
        take(path, name="sface")
    with pytest.raises(ModelError, match="cannot name a model"):
        take(path, name="My Model")
    old = take(path)
    path.write_bytes(tiny_encoder(seed=1))
    with pytest.raises(ModelError, match="--replace"):
        take(path)
    assert take(path, replace=True).spec.sha256 != old.spec.sha256


def test_aligners_cannot_be_imported(path: Path) -> None:
    with pytest.raises(ModelError, match="only encoders"):
        take(path, task="aligner")


def _zip() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", b"x")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"hello, this is text\n", "a text file"),
        (b"  <!DOCTYPE html><html>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "Git LFS pointer"),
        (_zip(), "PyTorch checkpoint"),
        (pickle.dumps({"state_dict": 1}), "pickled PyTorch checkpoint"),
        (b'\x10\0\0\0\0\0\0\0{"a":{"dtype":1}}\0', "safetensors"),
        (np.random.default_rng(0).bytes(1000), "not a valid ONNX file"),
        (b"\x08\x08", "not a valid ONNX file"),
    ],
    ids=["empty", "text", "html", "lfs", "zip", "pickle", "safetensors", "noise", "stub"],
)
def test_files_that_are_no_onnx(path: Path, content: bytes, message: str) -> None:
    path.write_bytes(content)
    with pytest.raises(ModelError, match=message) as caught:
        take(path)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)


def test_no_file_and_a_folder(tmp_path: Path) -> None:
    for path in (tmp_path / "none.onnx", tmp_path):
        with pytest.raises(ModelError, match="cannot read"):
            take(path)


@pytest.mark.parametrize("keep", [0.3, 0.9, 0.999])
def test_a_truncated_file(path: Path, tiny_encoder: Build, keep: float) -> None:
    data = tiny_encoder()
    path.write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(ModelError, match="is not a valid ONNX file, or is cut short"):
        take(path)


def test_weights_in_another_file_are_taken_in(path: Path, tiny_encoder: Build) -> None:
    proto = onnx.load_from_string(tiny_encoder())
    onnx.save(proto, str(path), save_as_external_data=True, location="net.bin", size_threshold=0)
    assert (path.parent / "net.bin").exists()
    model = take(path)
    (path.parent / "net.bin").unlink()
    assert onnx.load(model.path).graph.initializer[-1].raw_data  # whole without the other file
    with pytest.raises(ModelError) as caught:
        take(path, name="again")
    assert "\n" not in str(caught.value)


def graph(
    inputs: list[tuple[str, int, list[Any]]],
    nodes: list[tuple[str, list[str], list[str]]],
    outputs: list[tuple[str, list[Any]]],
) -> bytes:
    model = helper.make_model(
        helper.make_graph(
            [helper.make_node(op, names, made) for op, names, made in nodes],
            "g",
            [helper.make_tensor_value_info(name, kind, shape) for name, kind, shape in inputs],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    data: bytes = model.SerializeToString()
    return data


F = TensorProto.FLOAT
CHIPS = [("x", F, ["N", 3, 112, 112])]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (graph([("x", F, ["N", 112, 112, 3])], [("Flatten", ["x"], ["y"])], [("y", ["N", 37632])]), "NHWC"),
        (graph([("x", F, ["N", 1, 112, 112])], [("Flatten", ["x"], ["y"])], [("y", ["N", 12544])]), "expected .N, 3"),
        (graph([("x", F, ["N", 512])], [("Identity", ["x"], ["y"])], [("y", ["N", 512])]), "expected .N, 3"),
        (
            graph(
                [("x", TensorProto.UINT8, ["N", 3, 112, 112])], [("Cast", ["x"], ["y"])], [("y", ["N", 3, 112, 112])]
            ),
            "not a valid ONNX|takes uint8",
        ),
        (
            graph([*CHIPS, ("z", F, ["N", 3, 112, 112])], [("Add", ["x", "z"], ["y"])], [("y", ["N", 3, 112, 112])]),
            "has 2 inputs",
        ),
        (graph(CHIPS, [("Relu", ["x"], ["y"])], [("y", ["N", 3, 112, 112])]), "expected one output"),
        (
            graph(
                CHIPS,
                [("Flatten", ["x"], ["y"]), ("Flatten", ["x"], ["z"])],
                [("y", ["N", 37632]), ("z", ["N", 37632])],
            ),
            "expected one output",
        ),
    ],
    ids=["nhwc", "grey", "rank-2", "uint8", "two-inputs", "rank-4-output", "two-embeddings"],
)
def test_graphs_that_are_no_encoders(path: Path, data: bytes, message: str) -> None:
    path.write_bytes(data)
    with pytest.raises(ModelError, match=message) as caught:
        take(path)
    assert "\n" not in str(caught.value)


def test_a_second_small_output_is_cut(path: Path) -> None:
    """AdaFace's own export gives (embedding, norm)."""
    nodes = [("Flatten", ["x"], ["y"]), ("ReduceMax", ["y"], ["z"])]
    path.write_bytes(graph(CHIPS, nodes, [("y", ["N", 37632]), ("z", [1, 1])]))
    model = take(path)
    assert [output.name for output in onnx.load(model.path).graph.output] == ["y"]
    assert model.spec.dimension == 37632


def test_chips_that_disturb_each_other(path: Path) -> None:
    nodes = [("ReduceSum", ["x"], ["m"]), ("Mul", ["x", "m"], ["p"]), ("Flatten", ["p"], ["y"])]
    path.write_bytes(graph(CHIPS, nodes, [("y", ["N", 37632])]))
    with pytest.raises(ModelError, match="depends on the others"):
        take(path)


def test_a_unit_length_output_is_noticed(path: Path) -> None:
    nodes = [("Flatten", ["x"], ["f"]), ("LpNormalization", ["f"], ["y"])]
    path.write_bytes(graph(CHIPS, nodes, [("y", ["N", 37632])]))
    assert take(path).spec.normalised
