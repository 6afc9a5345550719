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
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from faceembed.engine.models.fp16 import to_fp16
from faceembed.engine.models.graph import GraphWriter
from faceembed.engine.models.import_file import import_model
from faceembed.engine.models.registry import info, resolve
from faceembed.engine.models.spec import ARCFACE_TEMPLATE, Model
from faceembed.engine.models.trial import check_encoder
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


def test_a_batch_fixed_inside_is_freed(path: Path, tiny_encoder: Build) -> None:
    """A Reshape to the constant (1, 3) in the middle of the network."""
    path.write_bytes(tiny_encoder((1, 3, 112, 112), batch=1))
    assert_is_encoder(take(path), dimension=16, like=tiny_encoder())


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
    with pytest.raises(ModelError, match="only encoders and the aligners dfa, retinaface, scrfd, yunet"):
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


def test_an_encoder_that_sees_nothing(path: Path) -> None:
    """Two strangers would be one person, whoever they are."""
    nodes = [("Flatten", ["x"], ["f"]), ("Sub", ["f", "f"], ["d"]), ("Cos", ["d"], ["y"])]
    path.write_bytes(graph(CHIPS, nodes, [("y", ["N", 37632])]))
    with pytest.raises(ModelError, match="the same numbers for different pictures"):
        take(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"template": ((30.0, 50.0),) * 5}, "must be numbers and differ"),
        ({"template": ((float("nan"), 50.0), *ARCFACE_TEMPLATE[1:])}, "must be numbers and differ|outside"),
        ({"scale": 0.0}, "scale is 0; expected"),
        ({"scale": 1e-320}, "leaves something of a picture"),
        ({"scale": float("inf")}, "scale is inf"),
        ({"mean": (float("nan"), 0.0, 0.0)}, "mean is .nan"),
        ({"threshold": float("nan")}, "threshold is nan"),
        ({"threshold": 1.5}, "expected a cosine"),
    ],
)
def test_pixels_that_no_encoder_can_be_given(path: Path, changes: dict[str, Any], message: str) -> None:
    path.write_bytes(graph(CHIPS, [("Flatten", ["x"], ["y"])], [("y", ["N", 37632])]))
    with pytest.raises(ModelError, match=message) as caught:
        take(path, **changes)
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


def assert_is_encoder(model: Model, *, dimension: int, like: bytes) -> None:
    """The stored file gives a row a chip, the same as another file gives that was right from the start."""
    assert model.spec.dimension == dimension
    chips = np.random.default_rng(3).uniform(-1, 1, (5, 3, 112, 112)).astype(np.float32)
    mine = run_onnx(Path(model.path).read_bytes(), chips)
    assert mine.shape == (5, dimension)
    np.testing.assert_allclose(mine, run_onnx(like, chips).reshape(5, -1), atol=2e-3)


def run_onnx(data: bytes, chips: Any) -> Any:
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: chips})[0]


def last_reshape(shape: list[int], *, batch: int | str, as_node: bool = False) -> bytes:
    """A network that ends as the public exports of MobileFaceNet do: a Reshape of (N, 16, 1, 1) to a constant shape."""
    writer = GraphWriter("baked")
    x = writer.node("GlobalAveragePool", [writer.input("chips", [batch, 3, 112, 112])])
    weight = np.random.default_rng(5).normal(size=(16, 3, 1, 1)).astype(np.float32)
    x = writer.conv(x, weight, np.zeros(16))
    wanted = np.array(shape, np.int64)
    given = writer.node("Constant", [], value=numpy_helper.from_array(wanted)) if as_node else writer.constant(wanted)
    writer.output(writer.node("Reshape", [x, given]), "embedding", [batch, 16])
    return writer.serialise()


@pytest.mark.parametrize("as_node", [False, True], ids=["weight", "node"])
@pytest.mark.parametrize("shape", [[1, -1], [1, 16]], ids=str)
@pytest.mark.parametrize("batch", [1, "N"])
def test_a_last_reshape_to_one_row_is_mended(path: Path, shape: list[int], batch: int | str, as_node: bool) -> None:
    """Two chips gave (1, 32) and were taken for an encoder of 32 numbers, or did not run at all."""
    path.write_bytes(last_reshape(shape, batch=batch, as_node=as_node))
    assert_is_encoder(take(path), dimension=16, like=last_reshape([-1, 16], batch="N"))


def test_one_chip_deeper_inside_is_refused(path: Path) -> None:
    """All numbers of a batch in one row, and no Reshape to mend: (N, 16, 1, 1), (1, N, 16, 1), (1, 16 N)."""
    proto = onnx.load_from_string(last_reshape([-1, 16], batch=1))
    graph = proto.graph
    maps = graph.node[-2].input[0]
    graph.node[-2].CopyFrom(helper.make_node("Transpose", [maps], ["turned"], perm=[2, 0, 1, 3]))
    graph.node[-1].CopyFrom(helper.make_node("Flatten", ["turned"], ["embedding"]))
    path.write_bytes(proto.SerializeToString())
    wanted = r"gives embedding \(1, 48\) for 3 chips; expected one output \(3, dimension\), of 16 numbers or more a chip; .*one chip at a time"
    with pytest.raises(ModelError, match=wanted) as caught:
        take(path)
    assert "\n" not in str(caught.value)


def block_quantised(*, extra_inputs: int = 3) -> tuple[bytes, bytes]:
    """A network as OpenCV publishes SFace, and the same in plain float32.

    Whole numbers with a scale and a zero point for 4 of them, weights that are graph inputs too, inputs that nobody reads, and
    a weight that is brought into shape by a Reshape.
    """
    random = np.random.default_rng(11)
    values = random.integers(-128, 128, (16, 12)).astype(np.int8)
    scale = random.uniform(0.01, 0.02, (16, 3)).astype(np.float32)
    zero = random.integers(-9, 9, (16, 3)).astype(np.int8)
    whole = (values.astype(np.float32) - np.repeat(zero, 4, 1)) * np.repeat(scale, 4, 1)

    def network(quantised: bool) -> bytes:
        weights: dict[str, Any] = {"shape": np.array([16, 3, 2, 2], np.int64)}
        if quantised:
            weights |= {"q": values, "scale": scale, "zero": zero}
            nodes = [helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["flat"], axis=1, block_size=4)]
        else:
            weights["flat"] = whole
            nodes = []
        nodes += [
            helper.make_node("Reshape", ["flat", "shape"], ["kernel"]),
            helper.make_node("Conv", ["data", "kernel"], ["maps"], strides=[2, 2]),
            helper.make_node("GlobalAveragePool", ["maps"], ["mean"]),
            helper.make_node("Flatten", ["mean"], ["fc1"]),
        ]
        tensors = [numpy_helper.from_array(array, name) for name, array in weights.items()]
        inputs = [helper.make_tensor_value_info("data", F, [1 if quantised else "N", 3, 112, 112])]
        if quantised:
            inputs += [helper.make_tensor_value_info(t.name, t.data_type, list(t.dims)) for t in tensors]
            inputs += [helper.make_tensor_value_info(f"left_over_{k}", F, [1]) for k in range(extra_inputs)]
        outputs = [helper.make_tensor_value_info("fc1", F, [1 if quantised else "N", 16])]
        model = helper.make_model(
            helper.make_graph(nodes, "g", inputs, outputs, tensors),
            opset_imports=[helper.make_opsetid("", 21)],
            ir_version=10,
        )
        data: bytes = model.SerializeToString()
        return data

    return network(True), network(False)


def test_sface_as_opencv_publishes_it(path: Path) -> None:
    quantised, plain = block_quantised()
    path.write_bytes(quantised)
    model = take(path)
    assert_is_encoder(model, dimension=16, like=plain)
    stored = onnx.load(model.path).graph
    assert [value.name for value in stored.input] == ["data"]
    assert "DequantizeLinear" not in {node.op_type for node in stored.node}


def test_half_precision_inputs_are_taken(path: Path, tiny_encoder: Build) -> None:
    proto = onnx.load_from_string(tiny_encoder())
    to_fp16(proto, half_inputs=True)
    assert proto.graph.input[0].type.tensor_type.elem_type == TensorProto.FLOAT16
    path.write_bytes(proto.SerializeToString())
    assert_is_encoder(take(path), dimension=16, like=tiny_encoder())


def test_embeddings_with_a_height_and_width_of_one_are_taken(path: Path) -> None:
    proto = onnx.load_from_string(last_reshape([-1, 16, 1, 1], batch="N"))
    del proto.graph.output[0].type.tensor_type.shape.dim[:]
    path.write_bytes(proto.SerializeToString())
    assert_is_encoder(take(path), dimension=16, like=last_reshape([-1, 16], batch="N"))


def test_a_weight_that_only_a_branch_reads_stays(path: Path) -> None:
    """And an input that only a branch reads is an input: such a file has two."""

    def network(second: bool) -> bytes:
        taken = helper.make_node("Identity", ["w"], ["t"])
        otherwise = helper.make_node("Neg", ["w"], ["o"])
        inner = [
            helper.make_graph([node], "b", [], [helper.make_tensor_value_info(node.output[0], F, [16])])
            for node in (taken, otherwise)
        ]
        nodes = [
            helper.make_node("DequantizeLinear", ["q", "scale"], ["kernel"], axis=0),
            helper.make_node("Conv", ["x", "kernel"], ["maps"]),
            helper.make_node("GlobalAveragePool", ["maps"], ["mean"]),
            helper.make_node("Flatten", ["mean"], ["flat"]),
            helper.make_node("If", ["yes"], ["more"], then_branch=inner[0], else_branch=inner[1]),
            helper.make_node("Add", ["flat", "more"], ["y"]),
        ]
        weights: dict[str, Any] = {
            "q": np.arange(-24, 24, dtype=np.int8).reshape(16, 3, 1, 1),
            "scale": np.full(16, 0.1, np.float32),
            "yes": np.array(True),
        }
        inputs = [helper.make_tensor_value_info("x", F, ["N", 3, 112, 112])]
        if second:
            inputs.append(helper.make_tensor_value_info("w", F, [16]))
        else:
            weights["w"] = np.arange(16, dtype=np.float32)
        tensors = [numpy_helper.from_array(array, name) for name, array in weights.items()]
        made = helper.make_graph(nodes, "g", inputs, [helper.make_tensor_value_info("y", F, ["N", 16])], tensors)
        model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        data: bytes = model.SerializeToString()
        return data

    path.write_bytes(network(False))
    assert_is_encoder(take(path), dimension=16, like=network(False))
    path.write_bytes(network(True))
    with pytest.raises(ModelError, match="has 2 inputs"):
        take(path, name="two")
