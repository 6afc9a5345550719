"""Every architecture keeps its contract; those of other projects have all their names and shapes, and compute the same.

The lists of names and the forward passes here are written from the official sources (`net.py` of AdaFace and CVLface,
`inception_resnet_v1.py` of facenet-pytorch), apart from the networks under test.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from faceembed.cli.export import ARCHITECTURES as CLI_ARCHITECTURES
from faceembed.engine.models.spec import ARCFACE_TEMPLATE
from faceembed.errors import UsageError
from faceembed.trainer.backbones.ghostfacenet import GhostFaceNet
from faceembed.trainer.backbones.registry import ARCHITECTURES, build, find, preprocess

Shapes = Iterator[tuple[str, tuple[int, ...]]]
STAGES = {"ir18": (2, 2, 2, 2), "ir50": (3, 4, 14, 3), "ir101": (3, 13, 30, 3)}
NAMES = pytest.mark.parametrize("name", ARCHITECTURES)


def norm(name: str, channels: int, *, affine: bool = True) -> Shapes:
    for field in (*(("weight", "bias") if affine else ()), "running_mean", "running_var"):
        yield f"{name}.{field}", (channels,)
    yield f"{name}.num_batches_tracked", ()


def ir_blocks(name: str) -> Iterator[tuple[str, int, int, int]]:
    number, inputs = 0, 64
    for outputs, count in zip((64, 128, 256, 512), STAGES[name], strict=True):
        for repeat in range(count):
            yield f"body.{number}", inputs, outputs, 2 if repeat == 0 else 1
            number, inputs = number + 1, outputs


def ir_keys(name: str) -> Shapes:
    yield "input_layer.0.weight", (64, 3, 3, 3)
    yield from norm("input_layer.1", 64)
    yield "input_layer.2.weight", (64,)
    for block, inputs, outputs, _ in ir_blocks(name):
        if inputs != outputs:
            yield f"{block}.shortcut_layer.0.weight", (outputs, inputs, 1, 1)
            yield from norm(f"{block}.shortcut_layer.1", outputs)
        yield from norm(f"{block}.res_layer.0", inputs)
        yield f"{block}.res_layer.1.weight", (outputs, inputs, 3, 3)
        yield from norm(f"{block}.res_layer.2", outputs)
        yield f"{block}.res_layer.3.weight", (outputs,)
        yield f"{block}.res_layer.4.weight", (outputs, outputs, 3, 3)
        yield from norm(f"{block}.res_layer.5", outputs)
    yield from norm("output_layer.0", 512)
    yield "output_layer.3.weight", (512, 25088)
    yield "output_layer.3.bias", (512,)
    yield from norm("output_layer.4", 512, affine=False)


# Branches of an Inception block: chains of (inputs, outputs, height, width of the kernel).
Chain = tuple[tuple[int, int, int, int], ...]
B35: tuple[Chain, ...] = (
    ((256, 32, 1, 1),),
    ((256, 32, 1, 1), (32, 32, 3, 3)),
    ((256, 32, 1, 1), (32, 32, 3, 3), (32, 32, 3, 3)),
)
B17: tuple[Chain, ...] = (((896, 128, 1, 1),), ((896, 128, 1, 1), (128, 128, 1, 7), (128, 128, 7, 1)))
B8: tuple[Chain, ...] = (((1792, 192, 1, 1),), ((1792, 192, 1, 1), (192, 192, 1, 3), (192, 192, 3, 1)))
M6: tuple[Chain, ...] = (((256, 384, 3, 3),), ((256, 192, 1, 1), (192, 192, 3, 3), (192, 256, 3, 3)))
M7: tuple[Chain, ...] = (
    ((896, 256, 1, 1), (256, 384, 3, 3)),
    ((896, 256, 1, 1), (256, 256, 3, 3)),
    ((896, 256, 1, 1), (256, 256, 3, 3), (256, 256, 3, 3)),
)
STEM = {
    "1a": (3, 32, 3),
    "2a": (32, 32, 3),
    "2b": (32, 64, 3),
    "3b": (64, 80, 1),
    "4a": (80, 192, 3),
    "4b": (192, 256, 3),
}
RESIDUALS = [*((f"repeat_1.{i}", B35) for i in range(5)), *((f"repeat_2.{i}", B17) for i in range(10))]
RESIDUALS += [*((f"repeat_3.{i}", B8) for i in range(5)), ("block8", B8)]


def inception_keys() -> Shapes:
    for name, (inputs, outputs, side) in STEM.items():
        yield f"conv2d_{name}.conv.weight", (outputs, inputs, side, side)
        yield from norm(f"conv2d_{name}.bn", outputs)
    for block, branches in (*RESIDUALS, ("mixed_6a", M6), ("mixed_7a", M7)):
        for number, chain in enumerate(branches):
            for step, (inputs, outputs, height, width) in enumerate(chain):
                where = f"{block}.branch{number}" + (f".{step}" if len(chain) > 1 else "")
                yield f"{where}.conv.weight", (outputs, inputs, height, width)
                yield from norm(f"{where}.bn", outputs)
    for block, branches in RESIDUALS:
        joined, channels = sum(chain[-1][1] for chain in branches), branches[0][0][0]
        yield f"{block}.conv2d.weight", (channels, joined, 1, 1)
        yield f"{block}.conv2d.bias", (channels,)
    yield "last_linear.weight", (512, 1792)
    yield from norm("last_bn", 512)


OFFICIAL = {**{name: dict(ir_keys(name)) for name in STAGES}, "inception-resnet-v1": dict(inception_keys())}


@pytest.mark.parametrize("name", OFFICIAL)
def test_names_and_shapes_are_the_official_ones(name: str) -> None:
    with torch.device("meta"):
        model = build(name)
    assert {key: tuple(value.shape) for key, value in model.state_dict().items()} == OFFICIAL[name]


def test_ir101_has_the_size_of_the_published_file() -> None:
    """`minchul/cvlface_adaface_ir101_webface4m/model.safetensors` has 260,980,552 bytes, header and names included."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    rows = sorted(OFFICIAL["ir101"].items(), key=lambda row: (row[1] != (), row[0]))  # 8-byte counters first
    for name, shape in rows:
        start, end = end, end + (4 * int(np.prod(shape)) if shape else 8)
        kind = "F32" if shape else "I64"
        header[f"model.net.{name}"] = {"dtype": kind, "shape": list(shape), "data_offsets": [start, end]}
    text = len(json.dumps(header, separators=(",", ":")))
    assert 8 + text + -text % 8 + end == 260_980_552


def random_state(shapes: dict[str, tuple[int, ...]], *, seed: int = 0) -> dict[str, Tensor]:
    """Weights in float64 that keep activations near 1."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, shape in shapes.items():
        values = torch.randn(shape, generator=generator, dtype=torch.float64)
        if name.endswith("num_batches_tracked"):
            state[name] = torch.tensor(7)
        elif name.endswith("running_var"):
            state[name] = values.abs() + 0.5
        elif len(shape) > 1:
            state[name] = values / np.sqrt(np.prod(shape[1:]))
        else:
            state[name] = 0.2 * values + (1.0 if name.endswith("weight") else 0.0)
    return state


def bn(state: dict[str, Tensor], name: str, x: Tensor, eps: float = 1e-5) -> Tensor:
    mean, variance = state[f"{name}.running_mean"], state[f"{name}.running_var"]
    return F.batch_norm(x, mean, variance, state.get(f"{name}.weight"), state.get(f"{name}.bias"), eps=eps)


def ir_forward(state: dict[str, Tensor], x: Tensor, name: str) -> Tensor:
    def weight(of: str) -> Tensor:
        return state[f"{of}.weight"]

    x = bn(state, "input_layer.1", F.conv2d(x, weight("input_layer.0"), padding=1))
    x = F.prelu(x, weight("input_layer.2"))
    for block, inputs, outputs, stride in ir_blocks(name):
        if inputs == outputs:
            shortcut = x[:, :, ::stride, ::stride]
        else:
            shortcut = F.conv2d(x, weight(f"{block}.shortcut_layer.0"), stride=stride)
            shortcut = bn(state, f"{block}.shortcut_layer.1", shortcut)
        layer = f"{block}.res_layer"
        x = F.conv2d(bn(state, f"{layer}.0", x), weight(f"{layer}.1"), padding=1)
        x = F.prelu(bn(state, f"{layer}.2", x), weight(f"{layer}.3"))
        x = bn(state, f"{layer}.5", F.conv2d(x, weight(f"{layer}.4"), stride=stride, padding=1)) + shortcut
    x = bn(state, "output_layer.0", x).flatten(1)
    return bn(state, "output_layer.4", F.linear(x, weight("output_layer.3"), state["output_layer.3.bias"]))


def test_ir18_computes_what_the_official_network_does() -> None:
    state = random_state(OFFICIAL["ir18"])
    model = build("ir18").double().eval()
    model.load_state_dict(state)
    chips = torch.randn(1, 3, 112, 112, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(model(chips), ir_forward(state, chips, "ir18"))


def inception_forward(state: dict[str, Tensor], x: Tensor) -> Tensor:
    def conv(name: str, x: Tensor, stride: int = 1, pad: bool = False) -> Tensor:
        weight = state[f"{name}.conv.weight"]
        padding = (weight.shape[2] // 2, weight.shape[3] // 2) if pad else 0
        return F.relu(bn(state, f"{name}.bn", F.conv2d(x, weight, stride=stride, padding=padding), 1e-3))

    def branch(name: str, chain: Chain, x: Tensor, last_stride: int) -> Tensor:
        for step in range(len(chain)):
            final = step == len(chain) - 1
            stride = last_stride if final else 1
            x = conv(f"{name}.{step}" if len(chain) > 1 else name, x, stride, pad=stride == 1)
        return x

    def joined(name: str, branches: tuple[Chain, ...], x: Tensor, stride: int) -> Tensor:
        return torch.cat([branch(f"{name}.branch{i}", chain, x, stride) for i, chain in enumerate(branches)], 1)

    def residual(name: str, branches: tuple[Chain, ...], x: Tensor, scale: float) -> Tensor:
        y = F.conv2d(joined(name, branches, x, 1), state[f"{name}.conv2d.weight"], state[f"{name}.conv2d.bias"])
        return x + scale * y

    def mixed(name: str, branches: tuple[Chain, ...], x: Tensor) -> Tensor:
        return torch.cat([joined(name, branches, x, 2), F.max_pool2d(x, 3, 2)], 1)

    x = conv("conv2d_2b", conv("conv2d_2a", conv("conv2d_1a", x, 2)), pad=True)
    x = conv("conv2d_4b", conv("conv2d_4a", conv("conv2d_3b", F.max_pool2d(x, 3, 2))), 2)
    for i in range(5):
        x = F.relu(residual(f"repeat_1.{i}", B35, x, 0.17))
    x = mixed("mixed_6a", M6, x)
    for i in range(10):
        x = F.relu(residual(f"repeat_2.{i}", B17, x, 0.10))
    x = mixed("mixed_7a", M7, x)
    for i in range(5):
        x = F.relu(residual(f"repeat_3.{i}", B8, x, 0.20))
    x = residual("block8", B8, x, 1.0).mean((2, 3))
    return bn(state, "last_bn", F.linear(x, state["last_linear.weight"]), 1e-3)


def test_inception_computes_what_the_official_network_does() -> None:
    state = random_state(OFFICIAL["inception-resnet-v1"])
    model = build("inception-resnet-v1").double().eval()
    model.load_state_dict(state)
    chips = torch.randn(1, 3, 160, 160, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(model(chips), inception_forward(state, chips))


def test_bgr_pixels_and_flipped_weights_are_one() -> None:
    """The original AdaFace (BGR) is CVLface (RGB) with the first convolution's channels turned; mixing them up is not."""
    state = {name: value.float() for name, value in random_state(OFFICIAL["ir18"]).items()}
    state = {name: value.long() if name.endswith("tracked") else value for name, value in state.items()}
    model = build("ir18").eval()
    rgb = find("ir18").spec
    bgr = type(rgb)(**{**vars(rgb), "colour": "bgr"})
    chips = torch.randint(0, 256, (2, 112, 112, 3), generator=torch.Generator().manual_seed(1)).to(torch.uint8)
    with torch.no_grad():
        model.load_state_dict(state)
        adaface, mixed_up = model(preprocess(chips, bgr)), model(preprocess(chips, rgb))
        state["input_layer.0.weight"] = state["input_layer.0.weight"].flip(1)
        model.load_state_dict(state)
        cvlface = model(preprocess(chips, rgb))
    torch.testing.assert_close(adaface, cvlface, rtol=1e-4, atol=1e-4)
    assert F.cosine_similarity(adaface, mixed_up).max() < 0.999


@NAMES
def test_contract(name: str) -> None:
    architecture = find(name)
    spec = architecture.spec
    assert (spec.name, spec.task, spec.normalised) == (name, "encoder", False)
    height, width = spec.input_size
    assert all(0 < x < width and 0 < y < height for x, y in spec.template)
    assert (spec.template == ARCFACE_TEMPLATE) == (spec.input_size == (112, 112))
    fixed = 128 if name == "resnet29-branch" else 0  # dlib's own part comes first
    with torch.device("meta"):
        usual, other = build(name), build(name, dimension=fixed + 24)
        assert usual(torch.empty(2, 3, height, width)).shape == (2, spec.dimension)
        assert other(torch.empty(3, 3, height, width)).shape == (3, fixed + 24)
    assert other.get_parameter(architecture.last).shape[0] == 24


@pytest.mark.parametrize(("name", "millions"), [("mobilefacenet", 1.0), ("ghostfacenet", 4.06), ("resnet29", 5.61)])
def test_number_of_parameters(name: str, millions: float) -> None:
    with torch.device("meta"):
        model = build(name)
    assert sum(value.numel() for value in model.parameters()) / 1e6 == pytest.approx(millions, abs=0.005)


@pytest.mark.parametrize("name", ["mobilefacenet", "ghostfacenet"])
def test_light_networks_learn(name: str) -> None:
    torch.manual_seed(0)
    model = build(name, dimension=16)
    optimiser = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)
    chips, labels = 0.3 * torch.randn(4, 3, 112, 112), torch.arange(4) % 2
    chips[labels == 1, 0] += 0.5
    losses = []
    for _ in range(5):
        loss = F.cross_entropy(model(chips)[:, :2], labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]
    assert all(value.grad is not None for value in model.parameters())


def test_ghostfacenet_of_other_width_and_stride() -> None:
    with torch.device("meta"):
        model = GhostFaceNet(64, width=1.0, stride=2)
        assert model(torch.empty(2, 3, 112, 112)).shape == (2, 64)


def test_preprocess_is_what_the_spec_says() -> None:
    chips = torch.arange(2 * 2 * 2 * 3).reshape(2, 2, 2, 3).to(torch.uint8)
    spec = find("ir18").spec
    bgr = type(spec)(**{**vars(spec), "colour": "bgr", "mean": (1.0, 2.0, 3.0), "scale": 0.5})
    values = preprocess(chips, bgr)
    assert values.dtype == torch.float32 and values.shape == (2, 3, 2, 2)
    assert values[1, 0, 0, 1] == (17 - 1.0) * 0.5  # blue of pixel (0, 1) of the second chip
    assert values[1, 2, 0, 1] == (15 - 3.0) * 0.5  # red


def test_names_of_architectures() -> None:
    assert tuple(ARCHITECTURES) == CLI_ARCHITECTURES
    with pytest.raises(UsageError, match="no architecture 'ir_50'; did you mean 'ir50'"):
        find("ir_50")
    with pytest.raises(UsageError, match="dimension is 0"):
        build("ir18", dimension=0)
