"""Strangers laid apart: lengths stay, cosines move to another scale, and order stays but for what is written down."""

from __future__ import annotations

import dataclasses

import numpy as np
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from faceembed.errors import UsageError
from faceembed.trainer.backbones.apart import LaidApart, laid_apart
from faceembed.trainer.backbones.branched import SPEC, BranchedResNet29
from faceembed.trainer.backbones.registry import build, find
from faceembed.trainer.export.graph import to_onnx
from faceembed.trainer.loop.start import Start, reshaped
from faceembed.trainer.recipes.settings import Model


def cone(count: int, dimension: int, *, common: float, seed: int) -> Tensor:
    """Embeddings in a cone, of lengths 5 to 7, a fifth of them pairs of one person."""
    rng = np.random.default_rng(seed)
    own = rng.normal(size=(count, dimension)) / np.sqrt(dimension)
    own[1::5] = own[::5][: len(own[1::5])] + 0.4 * own[1::5]
    own[:, 0] += common
    return torch.from_numpy(own / np.linalg.norm(own, axis=1, keepdims=True) * rng.uniform(5, 7, (count, 1))).float()


def cosines(embeddings: Tensor) -> Tensor:
    units = F.normalize(embeddings.double())
    return units @ units.T


def spearman(one: Tensor, two: Tensor) -> float:
    ranks = [torch.argsort(torch.argsort(values)).double() for values in (one, two)]
    return float(torch.corrcoef(torch.stack(ranks))[0, 1])


@settings(max_examples=25)
@given(common=st.floats(0.5, 3), dimension=st.integers(4, 40), clamped=st.floats(0.0, 0.2), seed=st.integers(0, 99))
def test_the_new_cosine_is_what_is_written(common: float, dimension: int, clamped: float, seed: int) -> None:
    embeddings = cone(4 * dimension, dimension, common=common, seed=seed)
    try:
        body = laid_apart(nn.Identity(), embeddings, clamped=clamped)
    except UsageError as error:
        assert "share no direction" in str(error) and common < 1.5
        return
    folded = body(embeddings)
    along = F.normalize(embeddings.double()) @ body.direction.double()
    square = float(body.common)
    kept = along > square**0.5 * (1 + 1e-4)
    assert folded.shape == embeddings.shape and float((~kept).double().mean()) <= clamped + 2 / len(embeddings)
    lengths = [vectors[kept].norm(dim=1) for vectors in (folded, embeddings)]
    assert torch.allclose(*lengths, rtol=1e-4)
    angle = torch.acosh(along[kept] / square**0.5)
    expected = (cosines(embeddings[kept]) - square * torch.cosh(angle[:, None] - angle)) / (1 - square)
    assert torch.allclose(cosines(folded[kept]), expected, atol=2e-3 / (1 - square))


def test_strangers_come_near_0_and_keep_their_order() -> None:
    embeddings = cone(1200, 64, common=1.6, seed=3)
    folded = laid_apart(nn.Identity(), embeddings)(embeddings)
    upper = torch.triu(torch.ones(len(embeddings), len(embeddings)), 1).bool()
    before, after = cosines(embeddings)[upper], cosines(folded)[upper]
    centred = cosines(embeddings - embeddings.mean(0))[upper]
    assert before.median() > 0.65 and abs(after.median()) < 0.25
    assert spearman(before, after) > 0.95 and spearman(before, after) > spearman(before, centred) + 0.02


def test_few_photos_and_no_cone_are_refused() -> None:
    with pytest.raises(UsageError, match=r"127 embeddings of 64 numbers are too few .* give 128"):
        laid_apart(nn.Identity(), cone(127, 64, common=1.6, seed=0))
    around = torch.randn(400, 16, generator=torch.Generator().manual_seed(1))
    with pytest.raises(UsageError, match="share no direction"):
        laid_apart(nn.Identity(), around)


def test_a_fresh_one_takes_weights_and_runs_elsewhere() -> None:
    """The architecture by name, its state, and its graph in ONNX Runtime; the fold's numbers are part of the state."""
    name = "resnet29+apart+gate"
    assert find(name).last == "identity.body.fc.weight" and find(name).spec.gated
    body = build("resnet29+apart", dimension=16)
    assert isinstance(body, LaidApart)
    made = laid_apart(body.body, cone(200, 16, common=1.5, seed=2))
    body.load_state_dict(made.state_dict())
    embeddings = cone(9, 16, common=1.5, seed=5)
    assert torch.equal(body.fold(embeddings), made.fold(embeddings))

    whole = LaidApart(nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 16)), 16)
    whole.load_state_dict({**whole.state_dict(), **{k: v for k, v in made.state_dict().items() if "body" not in k}})
    graph = to_onnx(whole.eval(), dataclasses.replace(find(name).spec, input_size=(8, 8)))
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    chips = torch.randn(5, 3, 8, 8) + 0.3
    (found,) = session.run(None, {"chips": chips.numpy()})
    np.testing.assert_allclose(found, whole(chips).detach().numpy(), atol=1e-4)


def test_a_start_is_cut_and_laid_apart() -> None:
    torch.manual_seed(0)
    whole = BranchedResNet29().eval()
    batches = [torch.randn(64, 3, 105, 105, generator=torch.Generator().manual_seed(n)) for n in range(4)]
    start = Start(whole, SPEC, "resnet29-branch")
    made = reshaped(start, Model(start="branch.pt", reduce=24, apart=True), batches)
    assert (made.arch, made.spec.dimension) == ("resnet29-branch-128+apart", 24)
    again = build(made.arch, dimension=24)
    again.load_state_dict(made.body.state_dict())
    with torch.no_grad():
        cut, folded = made.body.body(batches[0]), made.body(batches[0])
        assert torch.allclose(again.eval()(batches[0]), folded, atol=1e-5)
        assert torch.allclose(cosines(cut), cosines(whole(batches[0])), atol=0.02)
    assert cosines(folded).median() < cosines(cut).median() - 0.1
    with pytest.raises(
        UsageError, match=r"model.reduce is for resnet29-branch, and branch.pt is resnet29-branch-128\+apart"
    ):
        reshaped(made, Model(start="branch.pt", reduce=24), batches[:1])
    for name, value in (("apart", True), ("reduce", 128)):
        with pytest.raises(UsageError, match=f"model.{name} without model.start"):
            Model(arch="resnet29", **{name: value})
