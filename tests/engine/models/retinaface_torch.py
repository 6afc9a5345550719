"""RetinaFace in PyTorch, written from its paper and the names of its published weights: what ours is compared with."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional


def conv_norm(given: int, out: int, side: int, stride: int = 1, *, leak: float | None, group: int = 1) -> nn.Sequential:
    layers: list[nn.Module] = [
        nn.Conv2d(given, out, side, stride, side // 2, groups=group, bias=False),
        nn.BatchNorm2d(out),
    ]
    return nn.Sequential(*layers, *([nn.LeakyReLU(leak)] if leak is not None else []))


def separable(given: int, out: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        *conv_norm(given, given, 3, stride, leak=0.1, group=given), *conv_norm(given, out, 1, leak=0.1)
    )


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stage1 = nn.Sequential(
            conv_norm(3, 8, 3, 2, leak=0.1),
            *(separable(*each) for each in ((8, 16, 1), (16, 32, 2), (32, 32, 1), (32, 64, 2), (64, 64, 1))),
        )
        self.stage2 = nn.Sequential(separable(64, 128, 2), *(separable(128, 128, 1) for _ in range(5)))
        self.stage3 = nn.Sequential(separable(128, 256, 2), separable(256, 256, 1))

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        first = self.stage1(x)
        second = self.stage2(first)
        return [first, second, self.stage3(second)]


class Bottleneck(nn.Module):
    def __init__(self, given: int, width: int, stride: int, *, widens: bool) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(given, width, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = nn.Conv2d(width, 4 * width, 1, bias=False), nn.BatchNorm2d(4 * width)
        self.downsample = (
            nn.Sequential(nn.Conv2d(given, 4 * width, 1, stride, bias=False), nn.BatchNorm2d(4 * width))
            if widens
            else None
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = functional.relu(self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x))))))
        y = self.bn3(self.conv3(y))
        return functional.relu(y + (self.downsample(x) if self.downsample is not None else x))


class Large(nn.Module):
    """ResNet-50 (https://arxiv.org/abs/1512.03385, table 1), with the names and the strides of torchvision."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64)
        given = 64
        for stage, blocks in enumerate((3, 4, 6, 3), 1):
            width, layers = 32 * 2**stage, []
            for block in range(blocks):
                stride = 2 if block == 0 and stage > 1 else 1
                layers.append(Bottleneck(given, width, stride, widens=block == 0))
                given = 4 * width
            self.add_module(f"layer{stage}", nn.Sequential(*layers))

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        x = functional.max_pool2d(functional.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        maps = []
        for stage in range(1, 5):
            x = self.get_submodule(f"layer{stage}")(x)
            maps.append(x)
        return maps[1:]


class Pyramid(nn.Module):
    def __init__(self, given: list[int], width: int, leak: float) -> None:
        super().__init__()
        self.output1, self.output2, self.output3 = (conv_norm(each, width, 1, leak=leak) for each in given)
        self.merge1, self.merge2 = (conv_norm(width, width, 3, leak=leak) for _ in range(2))

    def forward(self, maps: list[torch.Tensor]) -> list[torch.Tensor]:
        first, second, third = self.output1(maps[0]), self.output2(maps[1]), self.output3(maps[2])
        second = self.merge2(second + functional.interpolate(third, second.shape[2:]))
        first = self.merge1(first + functional.interpolate(second, first.shape[2:]))
        return [first, second, third]


class Context(nn.Module):
    def __init__(self, width: int, leak: float) -> None:
        super().__init__()
        half, quarter = width // 2, width // 4
        self.conv3X3 = conv_norm(width, half, 3, leak=None)
        self.conv5X5_1 = conv_norm(width, quarter, 3, leak=leak)
        self.conv5X5_2 = conv_norm(quarter, quarter, 3, leak=None)
        self.conv7X7_2 = conv_norm(quarter, quarter, 3, leak=leak)
        self.conv7x7_3 = conv_norm(quarter, quarter, 3, leak=None)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        five = self.conv5X5_1(x)
        parts = [self.conv3X3(x), self.conv5X5_2(five), self.conv7x7_3(self.conv7X7_2(five))]
        return functional.relu(torch.cat(parts, 1))


class Head(nn.Module):
    def __init__(self, width: int, numbers: int) -> None:
        super().__init__()
        self.conv1x1 = nn.Conv2d(width, 2 * numbers, 1)
        self.numbers = numbers

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        said: torch.Tensor = self.conv1x1(x).permute(0, 2, 3, 1)
        return said.reshape(len(x), -1, self.numbers)


class RetinaFace(nn.Module):
    def __init__(self, *, large: bool) -> None:
        super().__init__()
        width, leak = (256, 0.0) if large else (64, 0.1)
        self.body = Large() if large else Small()
        self.fpn = Pyramid([512, 1024, 2048] if large else [64, 128, 256], width, leak)
        self.ssh1, self.ssh2, self.ssh3 = (Context(width, leak) for _ in range(3))
        for name, numbers in (("ClassHead", 2), ("BboxHead", 4), ("LandmarkHead", 10)):
            self.add_module(name, nn.ModuleList(Head(width, numbers) for _ in range(3)))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        levels = [ssh(x) for ssh, x in zip((self.ssh1, self.ssh2, self.ssh3), self.fpn(self.body(x)), strict=True)]
        heads: Any = (self.BboxHead, self.ClassHead, self.LandmarkHead)
        boxes, scores, points = (torch.cat([h(x) for h, x in zip(head, levels, strict=True)], 1) for head in heads)
        return boxes, functional.softmax(scores, -1), points


def faces(network: RetinaFace, photo: NDArray[np.uint8], least: float) -> tuple[NDArray[np.float32], ...]:
    """Boxes, points and scores of every prior above a score; priors and variances as in the project's config."""
    height, width = photo.shape[:2]
    pixels = photo[:, :, ::-1].astype(np.float32) - np.array((104, 117, 123), np.float32)
    with torch.no_grad():
        boxes, scores, points = (
            x[0].numpy() for x in network.eval()(torch.from_numpy(pixels.transpose(2, 0, 1)[None].copy()))
        )
    priors = np.array(
        [
            ((column + 0.5) * stride, (row + 0.5) * stride, side, side)
            for stride, sides in ((8, (16, 32)), (16, (64, 128)), (32, (256, 512)))
            for row in range(-(-height // stride))
            for column in range(-(-width // stride))
            for side in sides
        ],
        np.float32,
    )
    centre = priors[:, :2] + boxes[:, :2] * 0.1 * priors[:, 2:]
    size = priors[:, 2:] * np.exp(boxes[:, 2:] * 0.2)
    found = np.concatenate([centre - size / 2, centre + size / 2], 1)
    marks = priors[:, None, :2] + points.reshape(-1, 5, 2) * 0.1 * priors[:, None, 2:]
    sure = scores[:, 1] >= least
    return found[sure], marks[sure], scores[sure, 1]


class Mlp(nn.Module):
    def __init__(self, given: int, hidden: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(given, hidden), nn.Linear(hidden, given)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        said: torch.Tensor = self.fc2(functional.gelu(self.fc1(x)))
        return said


class MixerBlock(nn.Module):
    """MLP-Mixer (https://arxiv.org/abs/2105.01601, figure 1), half as wide across places and four times across channels, as in timm."""

    def __init__(self, width: int, places: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = (nn.LayerNorm(width, eps=1e-6) for _ in range(2))
        self.mlp_tokens, self.mlp_channels = Mlp(places, width // 2), Mlp(width, 4 * width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.mlp_tokens(self.norm1(x).transpose(1, 2)).transpose(1, 2)
        x = x + self.mlp_channels(self.norm2(x))
        return x


class Dfa(RetinaFace):
    """CVLface's DFA (https://arxiv.org/abs/2403.14852): of 160x160 pixels one box, two scores and five points, (N, 16)."""

    priors: torch.Tensor

    def __init__(self, *, large: bool) -> None:
        super().__init__(large=large)
        self.aggregator = nn.Sequential(*(MixerBlock(16, 1050) for _ in range(3)), nn.Linear(16, 1))
        priors = [
            ((column + 0.5) * stride / 160, (row + 0.5) * stride / 160, side / 160, side / 160)
            for stride, sides in ((8, (64, 80)), (16, (96, 112)), (32, (128, 144)))
            for row in range(160 // stride)
            for column in range(160 // stride)
            for side in sides
        ]
        self.register_buffer("priors", torch.tensor(priors), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        levels = [ssh(x) for ssh, x in zip((self.ssh1, self.ssh2, self.ssh3), self.fpn(self.body(x)), strict=True)]
        heads: Any = (self.BboxHead, self.ClassHead, self.LandmarkHead)
        boxes, scores, points = (torch.cat([h(x) for h, x in zip(head, levels, strict=True)], 1) for head in heads)
        centre = self.priors[:, :2] + boxes[..., :2] * 0.1 * self.priors[:, 2:]
        size = self.priors[:, 2:] * torch.exp(boxes[..., 2:] * 0.2)
        first = centre - size / 2
        marks = self.priors[:, None, :2] + points.unflatten(2, (5, 2)) * 0.1 * self.priors[:, None, 2:]
        said = torch.cat([first, first + size, scores, marks.flatten(2)], 2)
        return (functional.softmax(self.aggregator(said), 1) * said).sum(1)
