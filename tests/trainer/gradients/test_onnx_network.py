"""ONNX graphs in PyTorch: the numbers of ONNX Runtime, the gradients of finite differences, and a line for what is refused."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from faceembed.engine.models.fp16 import to_fp16
from faceembed.engine.models.registry import resolve
from faceembed.engine.models.spec import Model, ModelSpec
from faceembed.errors import ModelError, UsageError
from faceembed.trainer.backbones.gated import GatedEncoder, TextureNet
from faceembed.trainer.export.encoder import convert, write
from faceembed.trainer.gradients.attack_gradient import fgsm, open_network
from faceembed.trainer.gradients.onnx_network import OnnxGraph, OnnxNetwork
from faceembed.trainer.gradients.onnx_ops import OPERATORS

Floats = NDArray[np.float32]
SIDE = 12
SPEC = ModelSpec("little", "encoder", (SIDE, SIDE), dimension=5, template=tuple((float(x), 0.0) for x in range(5)))
MANY = settings(max_examples=40, deadline=None)
SEEDS = st.integers(0, 10_000)


def graph(
    nodes: Sequence[Any], weights: dict[str, NDArray[Any]], output: str, *, opset: int = 18, shape: Any = None
) -> Any:
    """An ONNX model from ``x`` to ``output``, of any rank."""
    kind = TensorProto.FLOAT
    inputs = [helper.make_tensor_value_info("x", kind, shape or ["N", 3, SIDE, SIDE])]
    outputs = [helper.make_tensor_value_info(output, kind, None)]
    initial = [numpy_helper.from_array(np.asarray(values), name) for name, values in weights.items()]
    made = helper.make_model(
        helper.make_graph(nodes, "g", inputs, outputs, initial), opset_imports=[helper.make_opsetid("", opset)]
    )
    made.ir_version = 8
    return made


def saved(proto: Any, folder: Path, spec: ModelSpec = SPEC) -> Model:
    path = folder / "little.onnx"
    onnx.save(proto, str(path))
    return Model(spec, str(path))


def by_runtime(source: Any, x: Floats) -> Floats:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {session.get_inputs()[0].name: x})[0])


def check(op: str, x: Floats, weights: dict[str, NDArray[Any]] | None = None, *, opset: int = 18, **own: Any) -> None:
    """One operator gives what ONNX Runtime gives."""
    weights = weights or {}
    names = ["x", *weights]
    weights = {name: values for name, values in weights.items() if name}  # "" is an input that is not given
    proto = graph([helper.make_node(op, names, ["y"], **own)], weights, "y", opset=opset, shape=list(x.shape))
    expected = by_runtime(proto.SerializeToString(), x)
    found = OnnxGraph(proto, Path("little.onnx"))(torch.from_numpy(x))
    assert found.shape == expected.shape
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-4, atol=1e-5)


def normal(seed: int, *shape: int) -> Floats:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


pads = st.lists(st.integers(0, 2), min_size=4, max_size=4)
pair = st.lists(st.integers(1, 3), min_size=2, max_size=2)


@MANY
@given(
    seed=SEEDS,
    strides=pair,
    pads=pads,
    dilations=pair,
    kernel=pair,
    groups=st.sampled_from([1, 2, 4]),
    bias=st.booleans(),
)
def test_conv(
    seed: int, strides: list[int], pads: list[int], dilations: list[int], kernel: list[int], groups: int, bias: bool
) -> None:
    weights = {"w": normal(seed, 8, 4 // groups, *kernel)} | ({"b": normal(seed + 1, 8)} if bias else {})
    own = {"strides": strides, "pads": pads, "dilations": dilations, "kernel_shape": kernel, "group": groups}
    check("Conv", normal(seed, 2, 4, 9, 11), weights, **own)


@MANY
@given(strides=pair, kernel=pair, auto=st.sampled_from(["SAME_UPPER", "SAME_LOWER", "VALID"]), side=st.integers(7, 10))
def test_automatic_margins(strides: list[int], kernel: list[int], auto: str, side: int) -> None:
    x = normal(0, 2, 3, side, 8)
    check("Conv", x, {"w": normal(1, 2, 3, *kernel)}, strides=strides, auto_pad=auto, kernel_shape=kernel)
    if kernel >= strides and kernel[1] >= strides[1]:  # ONNX Runtime refuses the others
        check("MaxPool", x, strides=strides, auto_pad=auto, kernel_shape=kernel)


@MANY
@given(
    kernel=st.lists(st.integers(2, 3), min_size=2, max_size=2),
    strides=pair,
    pads=st.lists(st.integers(0, 1), min_size=4, max_size=4),
    whole=st.integers(0, 1),
    dilations=pair,
    ceil=st.integers(0, 1),
)
def test_pools(
    kernel: list[int], strides: list[int], pads: list[int], whole: int, dilations: list[int], ceil: int
) -> None:
    x = normal(kernel[0], 2, 3, 9, 11)
    window = {"kernel_shape": kernel, "strides": strides, "pads": pads}
    check("AveragePool", x, count_include_pad=whole, **window)
    check("MaxPool", x, dilations=dilations, ceil_mode=ceil, **window)


@MANY
@given(
    sizes=st.lists(st.integers(-2, 3), min_size=8, max_size=8),
    mode=st.sampled_from(["constant", "reflect", "edge"]),
    value=st.floats(-2, 2, width=32),
)
def test_pad(sizes: list[int], mode: str, value: float) -> None:
    if mode == "constant":
        check("Pad", normal(0, 5, 6, 6, 7), {"p": np.int64(sizes), "v": np.float32(value)})
        return
    last = [max(side, 0) for side in sizes[:4]]
    check("Pad", normal(0, 3, 4, 6, 7), {"p": np.int64(last), "": np.float32(0), "a": np.int64([2, -1])}, mode=mode)


@MANY
@given(
    turn_a=st.integers(0, 1),
    turn_b=st.integers(0, 1),
    alpha=st.sampled_from([1.0, 0.5]),
    beta=st.sampled_from([1.0, -2.0]),
    third=st.sampled_from([None, (), (5,), (4, 1), (4, 5)]),
)
def test_gemm(turn_a: int, turn_b: int, alpha: float, beta: float, third: Any) -> None:
    weights = {"b": normal(1, *((5, 3) if turn_b else (3, 5)))} | (
        {"c": normal(2, *third)} if third is not None else {}
    )
    own = {"transA": turn_a, "transB": turn_b, "alpha": alpha, "beta": beta}
    check("Gemm", normal(0, *((3, 4) if turn_a else (4, 3))), weights, **own)


@MANY
@given(
    op=st.sampled_from(["ReduceMean", "ReduceMax", "ReduceSum", "ReduceL2"]),
    axes=st.lists(st.integers(-3, 2), max_size=3, unique_by=lambda axis: axis % 3),
    keep=st.integers(0, 1),
    opset=st.sampled_from([12, 18]),
)
def test_reductions(op: str, axes: list[int], keep: int, opset: int) -> None:
    x = normal(len(axes), 3, 4, 5)
    if opset == 12:
        check(op, x, opset=opset, keepdims=keep, **({"axes": axes} if axes else {}))
    else:
        check(op, x, {"a": np.int64(axes)} if axes else {}, keepdims=keep)


@MANY
@given(start=st.integers(-9, 9), end=st.integers(-9, 9), step=st.sampled_from([1, 2, -1, -3]), axis=st.integers(-3, 2))
def test_slice(start: int, end: int, step: int, axis: int) -> None:
    places = range(6)[slice(start, end, step)]
    parts = {name: np.int64([value]) for name, value in zip("seat", (start, end, axis, step), strict=True)}
    if len(places):
        check("Slice", normal(0, 6, 6, 6), parts)


BATCH = {name: np.abs(normal(seed, 4)) + 0.1 for seed, name in enumerate("sbmv")}


@pytest.mark.parametrize(
    "op, weights, own",
    [
        ("Add", {"w": normal(1, 4, 1, 1)}, {}),
        ("Sub", {"w": normal(1, 6)}, {}),
        ("Mul", {"w": normal(1, 1)}, {}),
        ("Div", {"w": 1 + np.abs(normal(1, 5, 1))}, {}),
        ("BatchNormalization", BATCH, {"epsilon": 0.02}),
        ("PRelu", {"w": normal(1, 4, 1, 1)}, {}),
        ("Relu", {}, {}),
        ("Sigmoid", {}, {}),
        ("Tanh", {}, {}),
        ("Erf", {}, {}),
        ("Reciprocal", {}, {}),
        ("Softmax", {}, {}),
        ("Softmax", {}, {"axis": 1}),
        ("LayerNormalization", {"w": normal(1, 6)}, {"epsilon": 0.1}),
        ("LayerNormalization", {"w": normal(1, 5, 6), "b": normal(2, 5, 6)}, {"axis": 2}),
        ("Neg", {}, {}),
        ("Identity", {}, {}),
        ("GlobalAveragePool", {}, {}),
        ("GlobalMaxPool", {}, {}),
        ("Clip", {"low": np.float32(-0.5), "high": np.float32(0.25)}, {}),
        ("Clip", {"": np.float32(0), "high": np.float32(0.25)}, {}),
        ("Clip", {}, {"min": -0.5, "max": 0.25, "opset": 7}),
        ("Dropout", {}, {}),
        ("Cast", {}, {"to": TensorProto.FLOAT}),
        ("Flatten", {}, {"axis": 2}),
        ("Flatten", {}, {"axis": 0}),
        ("Transpose", {}, {"perm": [0, 2, 3, 1]}),
        ("Transpose", {}, {}),
        ("Reshape", {"s": np.int64([0, -1, 3])}, {}),
        ("Unsqueeze", {"a": np.int64([-1, 1])}, {}),
        ("Unsqueeze", {}, {"axes": [0, 2], "opset": 11}),
        ("Gather", {"i": np.int64([[2, -1], [0, 1]])}, {"axis": 1}),
        ("Gather", {"i": np.int64(-2)}, {"axis": 3}),
        ("Expand", {"s": np.int64([2, 1, 1, 5, 1])}, {}),
        ("MatMul", {"w": normal(1, 6, 3)}, {}),
        ("Pad", {}, {"pads": [0, 0, 1, 2, 0, 0, 0, 1], "value": 0.5, "opset": 9}),
        ("Slice", {}, {"starts": [1], "ends": [-1], "axes": [2], "opset": 9}),
        ("Concat", {"w": normal(1, 2, 4, 5, 2)}, {"axis": -1}),
    ],
)
def test_other_operators(op: str, weights: dict[str, Any], own: dict[str, Any]) -> None:
    check(op, normal(0, 2, 4, 5, 6), weights, **own)


def test_squeeze_sqrt_and_shape() -> None:
    check("Squeeze", normal(0, 2, 1, 3, 1), {"a": np.int64([-1, 1])})
    check("Squeeze", normal(0, 2, 1, 3, 1), axes=[1], opset=11)
    check("Sqrt", np.abs(normal(0, 2, 3)))
    nodes = [
        helper.make_node("Shape", ["x"], ["whole"]),
        helper.make_node("Constant", [], ["first"], value_int=0),
        helper.make_node("Gather", ["whole", "first"], ["n"]),
        helper.make_node("Unsqueeze", ["n", "axis"], ["n1"]),
        helper.make_node("Concat", ["n1", "rest"], ["to"], axis=0),
        helper.make_node("Reshape", ["x", "to"], ["y"]),
    ]
    proto = graph(nodes, {"axis": np.int64([0]), "rest": np.int64([-1])}, "y")
    network = OnnxGraph(proto, Path("little.onnx"))
    assert network(torch.zeros(4, 3, SIDE, SIDE)).shape == (4, 3 * SIDE * SIDE)


def encoder_graph(*, half: bool = False) -> Any:
    """A small encoder with most of what public files use."""
    weights = {
        "w": normal(0, 6, 3, 3, 3) / 4,
        "b": normal(1, 6),
        **{f"n{name}": np.abs(normal(seed, 6)) + 0.5 for seed, name in enumerate("sbmv")},
        "slope": np.full((6, 1, 1), 0.2, np.float32),
        "fc": normal(3, 6 * 9, 5) / 6,
        "bias": normal(4, 5),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["c", "ns", "nb", "nm", "nv"], ["n"]),
        helper.make_node("PRelu", ["n", "slope"], ["p"]),
        helper.make_node("AveragePool", ["p"], ["a"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Flatten", ["a"], ["f"]),
        helper.make_node("Dropout", ["f"], ["d"]),
        helper.make_node("Gemm", ["d", "fc", "bias"], ["g"]),
        helper.make_node("Sigmoid", ["g"], ["s"]),
        helper.make_node("Mul", ["g", "s"], ["y"]),
    ]
    proto = graph(nodes, weights, "y")
    proto.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 5]))
    if half:
        to_fp16(proto)
    return proto


@pytest.mark.parametrize("half", [False, True])
def test_gradients_are_finite_differences(half: bool, tmp_path: Path) -> None:
    """In float64, in which half precision weights are exact too and no cast on the way may round."""
    network = OnnxNetwork(saved(encoder_graph(half=half), tmp_path)).double()
    x = torch.from_numpy(normal(5, 2, 3, SIDE, SIDE)).double().requires_grad_(True)
    assert torch.autograd.gradcheck(network, (x,), eps=1e-6, atol=1e-6, rtol=1e-4)
    assert not list(network.parameters())


def same(model: Model, network: nn.Module, count: int, atol: float) -> None:
    """The embeddings of ONNX Runtime, and what a batch gives does not depend on its other chips."""
    x = np.random.default_rng(0).uniform(-1, 1, (count, 3, *model.spec.input_size)).astype(np.float32)
    with torch.no_grad():
        found = network(torch.from_numpy(x))
        alone = network(torch.from_numpy(x[1:2]))
    expected = torch.from_numpy(by_runtime(model.path, x))
    assert nn.functional.cosine_similarity(found, expected).min() > 0.99999
    assert (found - expected).abs().max() < atol
    torch.testing.assert_close(alone, found[1:2], rtol=1e-4, atol=1e-5)


def test_dlib(tmp_path: Path) -> None:
    model = resolve("dlib-resnet", task="encoder")
    same(model, OnnxNetwork(model), 3, 1e-5)


class Identity(nn.Module):
    """Of each kind of layer of the identity networks one."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 5, 4, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.act = nn.PReLU(8)
        self.depth = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.fc = nn.Linear(8, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.act(self.norm(self.conv(x)))
        x = nn.functional.pad(nn.functional.avg_pool2d(x, 2), (0, 1, 0, 1, 0, 2))[:, :8]
        x = x + nn.functional.hardtanh(self.depth(x))
        return self.fc(nn.functional.max_pool2d(x, 2).mean((2, 3)))  # type: ignore[no-any-return]


@pytest.fixture(scope="module", params=["fp32", "fp16"])
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Model, nn.Module]:
    """A small gated encoder, on disk and as it was."""
    torch.manual_seed(0)
    module = GatedEncoder(Identity(), TextureNet((4, 8, 16))).eval()
    spec = dataclasses.replace(SPEC, name="gated", dimension=12, gated=True, input_size=(48, 48))
    chips = np.random.default_rng(0).integers(0, 256, (4, 48, 48, 3)).astype(np.uint8)
    path = tmp_path_factory.mktemp("gated") / "gated.onnx"
    return write(convert(module, spec, chips, precision=request.param), path), module


def test_exports(exported: tuple[Model, nn.Module]) -> None:
    model, _ = exported
    same(model, OnnxNetwork(model), 4, 1e-3)  # ONNX Runtime rounds the chips to half precision, where the file says so


def test_gradients_of_an_export_are_those_of_its_network(exported: tuple[Model, nn.Module]) -> None:
    model, module = exported
    x = torch.from_numpy(normal(1, 2, 3, 48, 48)) / 2
    slopes = []
    for network in (module, OnnxNetwork(model)):
        pixels = x.clone().requires_grad_(True)
        (slope,) = torch.autograd.grad(network(pixels).sum(), pixels)
        slopes.append(slope.flatten(1))
    assert nn.functional.cosine_similarity(*slopes).min() > 0.99


def test_attacks_take_an_onnx_file(exported: tuple[Model, nn.Module]) -> None:
    network = open_network(exported[0].path, arch=None, device="cpu", batch=2)
    assert (network.name, network.spec.gated) == ("gated", True)
    chips = np.random.default_rng(1).integers(0, 256, (3, 48, 48, 3)).astype(np.uint8)
    clean = network.encode(chips)[0]
    changed = fgsm(network, chips, clean[::-1].copy(), np.ones(3, np.float32), levels=2)
    gained = (network.encode(changed)[0] * clean[::-1]).sum(1) - (clean * clean[::-1]).sum(1)
    assert gained[0] > 0 and gained[2] > 0


def test_an_architecture_is_for_checkpoints(exported: tuple[Model, nn.Module]) -> None:
    with pytest.raises(
        UsageError, match=r"^--arch ir18 is for checkpoints; .*gated\.onnx says itself .*leave --arch out$"
    ):
        open_network(exported[0].path, arch="ir18", device="cpu", batch=2)


def _change(op: str, **attributes: Any) -> Callable[[Any], None]:
    def change(proto: Any) -> None:
        (node,) = (node for node in proto.graph.node if node.op_type == op)
        node.attribute.extend(helper.make_attribute(name, value) for name, value in attributes.items())

    return change


def _rename(op: str, to: str, domain: str = "") -> Callable[[Any], None]:
    def change(proto: Any) -> None:
        (node,) = (node for node in proto.graph.node if node.op_type == op)
        node.op_type, node.domain = to, domain

    return change


def _fixed(proto: Any) -> None:
    proto.graph.node.insert(5, helper.make_node("Reshape", ["f"], ["r"]))
    proto.graph.node[5].input.append("shape")
    proto.graph.node[6].input[0] = "r"
    proto.graph.initializer.append(numpy_helper.from_array(np.int64([1, 54]), "shape"))


def _second_output(proto: Any) -> None:
    proto.graph.node[5].output.append("mask")
    proto.graph.node[8].input[1] = "mask"


@pytest.mark.parametrize(
    "change, message",
    [
        (_rename("Sigmoid", "Sign"), "Sign 's': this operator is not known"),
        (_rename("Sigmoid", "Sigmoid", "com.microsoft"), "Sigmoid 's': this operator is not known"),
        (_change("AveragePool", ceil_mode=1), "AveragePool 'a': attribute 'ceil_mode' is 1; only 0 is known"),
        (_change("Conv", auto_pad="SAME"), "Conv 'c': attribute 'auto_pad' is SAME"),
        (_change("Conv", colour=1), "Conv 'c': attribute 'colour' is not known"),
        (_change("BatchNormalization", training_mode=1), "'training_mode' is 1; only 0 is known"),
        (_change("BatchNormalization", spatial=0), "'spatial' is 0; only 1 is known"),
        (_fixed, "Reshape 'r': shape '[1, 54]' is invalid"),
        (_second_output, "Dropout 'd': its further output 'mask' is not known"),
        (lambda proto: proto.graph.node.pop(1), "PRelu 'p' reads 'n', which nothing before it makes"),
        (lambda proto: proto.graph.node.pop(8), "nothing makes its output 'y'"),
        (lambda proto: proto.graph.output.pop(), "it has 0 outputs (), expected one"),
        (lambda proto: setattr(proto.opset_import[0], "version", 6), "opset 6 is older than 7"),
        (lambda proto: proto.graph.node[6].input.pop(1), "Gemm 'g': "),
    ],
)
def test_what_is_not_known_is_refused_in_one_line(change: Callable[[Any], None], message: str, tmp_path: Path) -> None:
    proto = encoder_graph()
    change(proto)
    with pytest.raises(ModelError) as caught:
        OnnxNetwork(saved(proto, tmp_path))
    text = str(caught.value)
    assert text.startswith("little.onnx cannot run in PyTorch, which gradients need: ")
    assert message in text and "\n" not in text


def test_another_dimension_than_the_specs_is_refused(tmp_path: Path) -> None:
    model = saved(encoder_graph(), tmp_path, dataclasses.replace(SPEC, dimension=7))
    with pytest.raises(ModelError, match=r"2 chips give \(2, 5\), expected \(2, 7\)"):
        OnnxNetwork(model)


def test_the_table_is_sorted() -> None:
    assert list(OPERATORS) == sorted(OPERATORS)
