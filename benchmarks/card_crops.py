"""Crops for `card_train.py`: packed as JPEG beside what teachers say of them, and changed on the card as `trainer/batches/augment.py` does.

Turns, shifts and zooms are one bilinear sampling of each crop; brightness, contrast and colour, loss of resolution and covered rectangles follow.
"""

from __future__ import annotations

import dataclasses
import math
import zipfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import torch
from common import BenchmarkError
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from faceembed.cores import available_cores

_QUALITY = 90


@dataclasses.dataclass(frozen=True)
class Store:
    """All crops, on one device."""

    pixels: Tensor
    """uint8 RGB (n, H, W, 3)."""
    vectors: Tensor
    """float16 (n, D)."""

    def __len__(self) -> int:
        return len(self.pixels)

    def split(self, every: int) -> tuple[Tensor, Tensor]:
        """Numbers of one crop in so many, at least one, and of the others."""
        rows = torch.arange(len(self), device=self.pixels.device)
        held = rows % every == 0
        return rows[held], rows[~held]


def write_parts(folder: Path, paths: Sequence[str], vectors: NDArray[np.float32], *, part_bytes: int) -> list[int]:
    """Write crops in files of at most so many bytes each.

    Args:
        folder: made if need be; holds ``part-00.npz`` and so on.
        paths: of the crops.
        vectors: float32 (n, D).
        part_bytes: of a file.

    Returns:
        The files' sizes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    sizes: list[int] = []
    waiting: list[bytes] = []
    weight = begun = 0

    def write(end: int) -> None:
        nonlocal weight, begun
        ends = np.cumsum([len(data) for data in waiting])
        path = folder / f"part-{len(sizes):02d}.npz"
        np.savez(
            path,
            jpeg=np.frombuffer(b"".join(waiting), np.uint8),
            ends=ends,
            vectors=vectors[begun:end].astype(np.float16),
        )
        sizes.append(path.stat().st_size)
        waiting.clear()
        weight, begun = 0, end

    for number, path in enumerate(paths):
        pixels = cv2.cvtColor(read_crop(path), cv2.COLOR_RGB2BGR)
        data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1].tobytes()
        size = len(data) + 8 + 2 * vectors.shape[1]
        if waiting and weight + size > part_bytes - 1024:
            write(number)
        waiting.append(data)
        weight += size
    if waiting:
        write(len(paths))
    return sizes


def load_parts(folder: Path, device: torch.device) -> Store:
    """Every part of a folder, decoded.

    Raises:
        BenchmarkError: there is none, or one is damaged.
    """
    files = sorted(folder.glob("part-*.npz"))
    if not files:
        raise BenchmarkError(f"no part-*.npz in {folder}: pack crops, and carry the parts there")
    pixels: list[NDArray[np.uint8]] = []
    vectors: list[NDArray[np.float16]] = []
    for file in files:
        try:
            with file.open("rb") as opened, np.load(opened) as part:
                data, ends, said = part["jpeg"], part["ends"], part["vectors"]
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise BenchmarkError(f"{file} is damaged ({error}); carry it again") from error
        pieces = np.split(data, ends[:-1])
        with ThreadPoolExecutor(available_cores()) as pool:
            found = list(pool.map(_decoded, pieces))
        if any(crop is None for crop in found) or len(found) != len(said):
            raise BenchmarkError(f"{file} is damaged; carry it again")
        pixels += [crop for crop in found if crop is not None]
        vectors.append(said)
    return Store(torch.from_numpy(np.stack(pixels)).to(device), torch.from_numpy(np.concatenate(vectors)).to(device))


def read_crop(path: str) -> NDArray[np.uint8]:
    """uint8 RGB (H, W, 3).

    Raises:
        BenchmarkError: it cannot be read.
    """
    pixels = cv2.imread(path, cv2.IMREAD_COLOR)
    if pixels is None:
        raise BenchmarkError(f"{path} cannot be read")
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), np.uint8)


def _decoded(data: NDArray[np.uint8]) -> NDArray[np.uint8] | None:
    pixels = cv2.imdecode(data, cv2.IMREAD_COLOR)
    return None if pixels is None else cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)


@dataclasses.dataclass(frozen=True)
class Changes:
    """How far crops are changed: the recipe `taught`'s shares."""

    flip: float = 0.5
    turn: float = math.radians(4)
    """Standard deviation is half of it."""
    shift: float = 0.015
    """Of the side."""
    zoom: float = 0.02
    light: float = 0.25
    """Of brightness and of contrast."""
    grey: float = 0.08
    shrink: float = 0.25
    least: float = 0.2
    """Of the side, that a shrunk crop may lose resolution to."""
    erase: float = 0.15


def change(pixels: Tensor, how: Changes, generator: torch.Generator) -> Tensor:
    """Crops as they might have come: uint8 RGB (N, H, W, 3) to the same, on the same device."""
    count, height, width = pixels.shape[:3]
    device = pixels.device

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator, device=device)

    def share(of: float) -> Tensor:
        return uniform(count) < of

    def spread(by: float, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, device=device) * by

    angle, scale = spread(how.turn / 2, count), 1 + spread(how.zoom, count)
    mirror = 1 - 2 * share(how.flip).float()
    cosine, sine = scale * angle.cos(), scale * angle.sin()
    ratio = width / height
    rows = torch.stack([cosine * mirror, -sine / ratio, spread(2 * how.shift, count)], 1)
    columns = torch.stack([sine * ratio * mirror, cosine, spread(2 * how.shift, count)], 1)
    grid = F.affine_grid(torch.stack([rows, columns], 1), [count, 3, height, width], align_corners=False)
    x = F.grid_sample(pixels.permute(0, 3, 1, 2).float(), grid, padding_mode="reflection", align_corners=False)
    x = _shrunk(x, share(how.shrink), how.least, generator)
    mean = x.mean((1, 2, 3), keepdim=True)
    contrast, light = (1 + how.light * (2 * uniform(2, count, 1, 1, 1) - 1)).unbind()
    x = ((x - mean) * contrast + mean) * light
    x = torch.where(share(how.grey)[:, None, None, None], x.mean(1, keepdim=True), x)
    x = _erased(x, share(how.erase), uniform(count, 4), uniform(count, 3))
    return x.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)


def _shrunk(x: Tensor, which: Tensor, least: float, generator: torch.Generator) -> Tensor:
    """Some crops made small and large again: all of a batch to one size, as sizes differ from batch to batch."""
    share = least + (0.7 - least) * float(torch.rand(1, generator=generator, device=x.device))
    size = [max(int(side * share), 8) for side in x.shape[2:]]
    small = F.interpolate(x, size, mode="area")
    large = F.interpolate(small, list(x.shape[2:]), mode="bilinear", align_corners=False)
    return torch.where(which[:, None, None, None], large, x)


def _erased(x: Tensor, which: Tensor, place: Tensor, colour: Tensor) -> Tensor:
    """A rectangle of an eighth to half of each side, of one colour."""
    rows = torch.arange(x.shape[2], device=x.device)[None, :, None] / x.shape[2]
    columns = torch.arange(x.shape[3], device=x.device)[None, None, :] / x.shape[3]
    high, wide = (0.125 + 0.375 * place[:, :2]).unbind(1)
    top, left = place[:, 2] * (1 - high), place[:, 3] * (1 - wide)
    inside = (rows >= top[:, None, None]) & (rows < (top + high)[:, None, None])
    inside = inside & (columns >= left[:, None, None]) & (columns < (left + wide)[:, None, None])
    inside = (inside & which[:, None, None])[:, None]
    return torch.where(inside, 255 * colour[:, :, None, None], x)
