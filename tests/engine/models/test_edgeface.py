"""EdgeFace rewritten: held to the network as its paper draws it, written here in PyTorch with weights drawn by chance."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from faceembed.engine.models import edgeface
from faceembed.engine.models.edgeface import build
from faceembed.engine.models.edgeface_shapes import ARCHITECTURES
from faceembed.engine.models.import_file import import_edgeface
from faceembed.errors import ModelError
from tests.edgeface_weights import random_state, save

torch = pytest.importorskip("torch")
F = torch.nn.functional
REAL = Path(__file__).resolve().parents[3].parent / "shared" / "models"


def layer_norm(x: torch.Tensor, state: Mapping[str, torch.Tensor], name: str) -> torch.Tensor:
    return F.layer_norm(x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"], 1e-6)


def linear(x: torch.Tensor, state: Mapping[str, torch.Tensor], name: str) -> torch.Tensor:
    if f"{name}.linear1.weight" in state:
        return F.linear(
            F.linear(x, state[f"{name}.linear1.weight"]), state[f"{name}.linear2.weight"], state[f"{name}.linear2.bias"]
        )
    return F.linear(x, state[f"{name}.weight"], state.get(f"{name}.bias"))


def depthwise(x: torch.Tensor, state: Mapping[str, torch.Tensor], name: str) -> torch.Tensor:
    weight = state[f"{name}.weight"]
    return F.conv2d(x, weight, state[f"{name}.bias"], padding=weight.shape[-1] // 2, groups=len(weight))


def perceptron(x: torch.Tensor, state: Mapping[str, torch.Tensor], name: str) -> torch.Tensor:
    """On (N, H, W, C)."""
    y = linear(F.gelu(linear(layer_norm(x, state, f"{name}.norm"), state, f"{name}.mlp.fc1")), state, f"{name}.mlp.fc2")
    return state[f"{name}.gamma"] * y


def positions(state: Mapping[str, torch.Tensor], name: str, side: int) -> torch.Tensor:
    """Place by place: the encoding of rows, then of columns, sine and cosine in turn, 32 each."""
    grid = torch.zeros(64, side, side)
    for place in range(32):
        wave = 10000 ** (2 * (place // 2) / 32)
        for at in range(side):
            angle = (at + 1) / (side + 1e-6) * 2 * math.pi / wave
            value = math.cos(angle) if place % 2 else math.sin(angle)
            grid[place, at, :] = value
            grid[32 + place, :, at] = value
    return F.conv2d(grid[None], state[f"{name}.weight"], state[f"{name}.bias"])


def split_block(x: torch.Tensor, state: Mapping[str, torch.Tensor], name: str) -> torch.Tensor:
    count = sum(key.startswith(f"{name}.convs.") and key.endswith("weight") for key in state)
    groups = x.chunk(count + 1, 1)
    made: list[torch.Tensor] = []
    for number in range(count):
        given = groups[number] if number == 0 else made[-1] + groups[number]
        made.append(depthwise(given, state, f"{name}.convs.{number}"))
    y = torch.cat([*made, groups[-1]], 1)
    n, c, h, w = y.shape
    if f"{name}.pos_embd.token_projection.weight" in state:
        y = y + positions(state, f"{name}.pos_embd.token_projection", h)
    tokens = y.flatten(2).transpose(1, 2)
    qkv = linear(layer_norm(tokens, state, f"{name}.norm_xca"), state, f"{name}.xca.qkv")
    query, key, value = qkv.reshape(n, h * w, 3, 4, c // 4).permute(2, 0, 3, 4, 1)
    likeness = F.normalize(query, dim=-1) @ F.normalize(key, dim=-1).transpose(-1, -2)
    mixed = (likeness * state[f"{name}.xca.temperature"]).softmax(-1) @ value
    mixed = linear(mixed.permute(0, 3, 1, 2).reshape(n, h * w, c), state, f"{name}.xca.proj")
    tokens = tokens + state[f"{name}.gamma_xca"] * mixed
    return x + perceptron(tokens.reshape(n, h, w, c), state, name).permute(0, 3, 1, 2)


def network(x: torch.Tensor, state: Mapping[str, torch.Tensor], depths: tuple[int, ...]) -> torch.Tensor:
    """EdgeNeXt with an embedding (arXiv 2206.10589, figure 2), as plain as it can be written."""

    def norm_2d(x: torch.Tensor, name: str) -> torch.Tensor:
        return layer_norm(x.permute(0, 2, 3, 1), state, name).permute(0, 3, 1, 2)

    x = norm_2d(F.conv2d(x, state["stem.0.weight"], state["stem.0.bias"], stride=4), "stem.1")
    for stage, depth in enumerate(depths):
        if stage:
            down = f"stages.{stage}.downsample"
            x = F.conv2d(norm_2d(x, f"{down}.0"), state[f"{down}.1.weight"], state[f"{down}.1.bias"], stride=2)
        for place in range(depth):
            name = f"stages.{stage}.blocks.{place}"
            if stage and place == depth - 1:
                x = split_block(x, state, name)
            else:
                y = depthwise(x, state, f"{name}.conv_dw").permute(0, 2, 3, 1)
                x = x + perceptron(y, state, name).permute(0, 3, 1, 2)
    return linear(layer_norm(x.mean((2, 3)), state, "head.norm"), state, "head.fc")


def embed(data: bytes, chips: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"input": chips})[0])


@pytest.mark.parametrize(("arch", "low_rank"), [("edgeface-xxs", False), ("edgeface-xs", False), ("edgeface-xs", True)])
def test_the_rewritten_network_is_the_same(tmp_path: Path, arch: str, low_rank: bool) -> None:
    state = random_state(arch, low_rank=low_rank)
    data, spec = build(save(state, tmp_path / "edge.pt"), arch)
    chips = np.random.default_rng(1).uniform(-1, 1, (3, 3, 112, 112)).astype(np.float32)
    with torch.no_grad():
        wanted = network(torch.from_numpy(chips), state, ARCHITECTURES[arch].depths).numpy()
    found = embed(data, chips)
    assert found.shape == (3, 512) and np.abs(wanted).max() > 1
    np.testing.assert_allclose(found, wanted, atol=3e-6 * np.abs(wanted).max())
    assert (spec.name, spec.dimension, spec.colour, spec.input_size) == (arch, 512, "rgb", (112, 112))
    assert {"MatMul", "Softmax"} < {node.op_type for node in onnx.load_from_string(data).graph.node}


def test_both_licence_statements_are_shown(tmp_path: Path, model_home: Path) -> None:
    path = save(random_state("edgeface-xxs"), tmp_path / "edge.pt")
    model = import_edgeface(path, arch="edgeface-xxs", name="mine")
    assert "BSD-3-Clause" in model.spec.licence and "CC BY-NC-SA 4.0" in model.spec.licence
    with pytest.raises(ModelError, match="--replace"):
        import_edgeface(path, arch="edgeface-xxs", name="mine")
    with pytest.raises(ModelError, match="name of a known model"):
        import_edgeface(path, arch="edgeface-xxs", name="edgeface-xxs")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("stages.1.blocks.0.gamma"), r"'stages\.1\.blocks\.0\.gamma' is missing"),
        (
            lambda state: state.update(extra=torch.zeros(3)),
            "holds 1 weights that 'edgeface-xxs' has not, such as 'extra'",
        ),
        (lambda state: state.update({"stem.0.weight": torch.zeros(32, 3, 4, 4)}), "it is 'edgeface-xs': give --arch"),
        (
            lambda state: state.update({"stem.0.weight": torch.zeros(31, 3, 4, 4)}),
            "no size of EdgeFace here has so many",
        ),
        (lambda state: state.update({"head.norm.bias": torch.zeros(9)}), "do not fit together"),
    ],
    ids=["missing", "extra", "other-size", "unknown-size", "misshapen"],
)
def test_other_weights_are_refused(tmp_path: Path, change: object, message: str) -> None:
    state = random_state("edgeface-xxs")
    change(state)  # type: ignore[operator]
    with pytest.raises(ModelError, match=message) as caught:
        build(save(state, tmp_path / "edge.pt"), "edgeface-xxs")
    assert "\n" not in str(caught.value)


def test_encoding_of_places() -> None:
    state = random_state("edgeface-xxs")
    weights = edgeface.Weights("file", {name: value.numpy() for name, value in state.items()})
    name = "stages.1.blocks.1.pos_embd.token_projection"
    found = edgeface._positions(weights, name, 14)
    wanted = positions(state, name, 14).flatten(2).transpose(1, 2).numpy()
    np.testing.assert_allclose(found, wanted, atol=1e-5)


@pytest.mark.data
@pytest.mark.parametrize(("arch", "file"), [("edgeface-xs", "edgeface_xs_q.pt"), ("edgeface-xxs", "edgeface_xxs_q.pt")])
def test_the_published_files_are_read(arch: str, file: str) -> None:
    """Quantised weights in packed layers, as PyTorch itself reads them."""
    if not (REAL / file).is_file():
        pytest.skip(f"{REAL / file} is not here")
    data, _ = build(REAL / file, arch)
    embedding = embed(data, np.zeros((1, 3, 112, 112), np.float32))
    assert np.isfinite(embedding).all() and np.linalg.norm(embedding) > 1
