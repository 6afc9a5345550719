"""dlib's network with a branch: dlib's part stays dlib's whatever is learned, and lies where its teachers lay it."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from faceembed.errors import ModelError, UsageError
from faceembed.trainer.backbones.branched import BranchedResNet29, ReducedBranch, fit_parts, reduced
from faceembed.trainer.backbones.checkpoints import load_encoder
from faceembed.trainer.backbones.registry import build
from faceembed.trainer.backbones.resnet29 import ResNet29


@pytest.fixture(scope="module")
def body() -> BranchedResNet29:
    found, spec, arch = load_encoder("dlib-resnet", arch="resnet29-branch")
    assert isinstance(found, BranchedResNet29) and arch == "resnet29-branch" and spec.dimension == 256
    return found


@pytest.fixture(scope="module")
def dlib() -> ResNet29:
    found = load_encoder("dlib-resnet")[0]
    assert isinstance(found, ResNet29)
    return found


@pytest.fixture(scope="module")
def x() -> torch.Tensor:
    """Smooth pictures, each of its own."""
    torch.manual_seed(4)
    return F.interpolate(torch.randn(6, 3, 9, 9) / 3, (150, 150), mode="bicubic")


@torch.no_grad()
def test_the_start_is_dlib_twice(body: BranchedResNet29, dlib: ResNet29, x: torch.Tensor) -> None:
    embedding, features = body.parts(x)
    assert torch.allclose(embedding, dlib(x), atol=1e-5)
    assert torch.allclose(F.linear(features, dlib.fc.weight), embedding, atol=1e-5), (
        "the branch begins as dlib's blocks"
    )
    assert torch.allclose(F.normalize(body(x)[:, :128]), F.normalize(embedding), atol=1e-5)


def test_dlibs_part_does_not_learn(dlib: ResNet29, x: torch.Tensor) -> None:
    body = load_encoder("dlib-resnet", arch="resnet29-branch")[0]
    assert isinstance(body, BranchedResNet29)
    body.train()
    learning = [p for p in body.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(learning, lr=0.01, weight_decay=0.1)
    with torch.no_grad():
        before = body.parts(x)[1]
    for _ in range(2):
        optimizer.zero_grad()
        body(x).square().sum().backward()
        optimizer.step()
    with torch.no_grad():
        embedding, features = body.parts(x)
        assert torch.allclose(embedding, dlib(x), atol=1e-5)
    assert not torch.allclose(features, before, atol=1e-2)


@torch.no_grad()
def test_fit(dlib: ResNet29, x: torch.Tensor) -> None:
    """Both parts of targets that can be met are met."""
    body = load_encoder("dlib-resnet", arch="resnet29-branch")[0]
    assert isinstance(body, BranchedResNet29)
    units = F.normalize(dlib(x))
    shift = torch.randn(128) / 20
    targets = torch.cat([3 * units - shift, F.linear(body.parts(x)[1], torch.randn(128, 256)) / 9], 1)
    assert fit_parts(body, [x[:4], x[4:]], targets) > 0.99
    assert float(body.scale) == pytest.approx(3, rel=1e-3) and torch.allclose(body.shift, -shift, atol=1e-3)
    found = body(x)
    assert float(F.cosine_similarity(found, targets).min()) > 0.99
    lengths = torch.linalg.vector_norm(dlib(x), dim=1)
    assert torch.allclose(
        torch.linalg.vector_norm(found[:, :128] / lengths[:, None], dim=1), (3 * units - shift).norm(dim=1), rtol=1e-3
    )


@torch.no_grad()
def test_another_first_teacher_is_refused(body: BranchedResNet29, x: torch.Tensor) -> None:
    torch.manual_seed(1)
    with pytest.raises(UsageError, match="name dlib's index first"):
        fit_parts(body, [x], torch.randn(6, 256))
    with pytest.raises(UsageError, match="the teachers have 200 numbers, the network 256"):
        fit_parts(body, [x], torch.randn(6, 200))


def test_dimensions_and_starts() -> None:
    assert build("resnet29-branch", dimension=192)(torch.zeros(2, 3, 150, 150)).shape == (2, 192)
    with pytest.raises(UsageError, match="dimension is 128"):
        build("resnet29-branch", dimension=128)
    with pytest.raises(ModelError, match="dlib-resnet is a 'resnet29', not 'ir18'"):
        load_encoder("dlib-resnet", arch="ir18")


@torch.no_grad()
def test_reduced_keeps_cosines(body: BranchedResNet29, x: torch.Tensor) -> None:
    """All of them where nothing is cut off, and those of vectors that lie in few directions."""
    found = body(x)
    cosines = F.normalize(found) @ F.normalize(found).T
    every = found.repeat(50, 1)
    kept = F.normalize(reduced(body, every, dimension=256)(x))
    assert torch.allclose(kept @ kept.T, cosines, atol=1e-5)
    few = reduced(body, every, dimension=6)
    assert isinstance(few, ReducedBranch) and few(x).shape == (6, 6)
    kept = F.normalize(few(x))
    assert torch.allclose(kept @ kept.T, cosines, atol=1e-4)
    assert build("resnet29-branch-128+gate").eval()(x).shape == (6, 256)


def test_too_little_to_reduce_by(body: BranchedResNet29) -> None:
    with pytest.raises(UsageError, match="5 embeddings cannot say which 128 of 256"):
        reduced(body, torch.ones(5, 256))
    with pytest.raises(UsageError, match="which 0 of"):
        reduced(body, torch.ones(300, 256), dimension=0)
