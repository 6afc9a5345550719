"""Convolutions on small maps: the same outputs and gradients as PyTorch's, in BF16 on a CPU, and PyTorch's own everywhere else."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from faceembed.trainer.backbones import small_maps
from faceembed.trainer.backbones.registry import build
from faceembed.trainer.backbones.small_maps import SmallMapConv2d, faster_on_small_maps


def gradients(conv: nn.Conv2d, x: Tensor, towards: Tensor, *, autocast: bool = True) -> tuple[Tensor, Tensor, Tensor]:
    x = x.clone().requires_grad_()
    conv.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        y = conv(x)
    (y.float() * towards).sum().backward()
    assert x.grad is not None and conv.weight.grad is not None
    return y.detach().float(), x.grad, conv.weight.grad


def apart(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max() / b.abs().max())


@pytest.mark.parametrize(
    ("stride", "padding", "side"), [(1, 1, 3), (1, 0, 3), (2, 0, 7), (2, 1, 8), (1, 1, 1), (2, 1, 5)]
)
def test_outputs_and_gradients(stride: int, padding: int, side: int) -> None:
    torch.manual_seed(side)
    conv = nn.Conv2d(256, 64, 3, stride, padding, bias=False).to(memory_format=torch.channels_last)
    x = torch.randn(3, 256, side, side).contiguous(memory_format=torch.channels_last)
    towards = torch.randn(conv(x).shape)
    exact = gradients(conv, x, towards, autocast=False)
    usual = gradients(conv, x, towards)
    fast = copy.deepcopy(conv)
    assert faster_on_small_maps(fast) == 1 and isinstance(fast, SmallMapConv2d)
    found = gradients(fast, x, towards)
    for ours, theirs, wanted in zip(found, usual, exact, strict=True):
        assert apart(ours, wanted) < max(1.5 * apart(theirs, wanted), 0.01)


def test_elsewhere_it_is_pytorchs(monkeypatch: pytest.MonkeyPatch) -> None:
    conv = nn.Conv2d(256, 8, 3, padding=1, bias=False)
    fast = copy.deepcopy(conv)
    faster_on_small_maps(fast)
    monkeypatch.setattr(small_maps._Convolution, "apply", None)
    x = torch.randn(2, 256, 3, 3)
    assert torch.equal(fast(x), conv(x))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(fast(x), conv(x))


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(64, 64, 3, bias=False),
        nn.Conv2d(256, 8, 3),
        nn.Conv2d(256, 8, 1, bias=False),
        nn.Conv2d(256, 256, 3, groups=256, bias=False),
        nn.Conv2d(256, 8, 3, dilation=2, bias=False),
        nn.Conv2d(256, 8, 3, stride=3, bias=False),
        nn.Conv2d(256, 8, 3, padding=1, padding_mode="reflect", bias=False),
    ],
)
def test_others_are_left_alone(conv: nn.Conv2d) -> None:
    assert faster_on_small_maps(conv) == 0 and type(conv) is nn.Conv2d


def test_a_network_keeps_its_names() -> None:
    body = build("resnet29-131")
    names = list(body.state_dict())
    assert faster_on_small_maps(body) == 7
    assert list(body.state_dict()) == names
