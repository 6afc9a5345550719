"""Minutes on a lent card, without one: parts hold what was packed, changed crops stay faces, and a dry run trains."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

card_crops = pytest.importorskip("card_crops")
card_train = pytest.importorskip("card_train")
BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def crops(tmp_path: Path) -> list[str]:
    """Smooth pictures, each of its own colour."""
    paths = []
    for number in range(9):
        rows, columns = np.mgrid[:40, :36]
        pixels = np.stack([rows * 5 + number, columns * 6, np.full_like(rows, 25 * number)], 2).astype(np.uint8)
        paths.append(str(tmp_path / f"{number}.png"))
        cv2.imwrite(paths[-1], pixels[..., ::-1])
    return paths


def test_parts_hold_what_was_packed(crops: list[str], tmp_path: Path) -> None:
    vectors = np.random.default_rng(1).normal(size=(9, 6)).astype(np.float32)
    sizes = card_crops.write_parts(tmp_path / "parts", crops, vectors, part_bytes=4000)
    assert len(sizes) > 1 and max(sizes) <= 4000
    store = card_crops.load_parts(tmp_path / "parts", torch.device("cpu"))
    assert store.pixels.shape == (9, 40, 36, 3)
    assert np.abs(store.vectors.float().numpy() - vectors).max() < 2e-3
    for number, path in enumerate(crops):
        sent = cv2.imread(path)[..., ::-1].astype(int)
        assert np.abs(store.pixels[number].numpy() - sent).mean() < 4


def test_a_damaged_part_is_said(crops: list[str], tmp_path: Path) -> None:
    with pytest.raises(card_crops.BenchmarkError, match="pack crops"):
        card_crops.load_parts(tmp_path, torch.device("cpu"))
    card_crops.write_parts(tmp_path, crops, np.zeros((9, 2), np.float32), part_bytes=1 << 20)
    part = tmp_path / "part-00.npz"
    part.write_bytes(part.read_bytes()[:500])
    with pytest.raises(card_crops.BenchmarkError, match=r"part-00\.npz is damaged"):
        card_crops.load_parts(tmp_path, torch.device("cpu"))


def test_without_changes_crops_are_what_they_were(crops: list[str]) -> None:
    pixels = torch.from_numpy(np.stack([cv2.imread(path) for path in crops]))
    none = card_crops.Changes(flip=0, turn=0, shift=0, zoom=0, light=0, grey=0, shrink=0, erase=0)
    assert torch.equal(card_crops.change(pixels, none, torch.Generator().manual_seed(1)), pixels)


def test_a_mirrored_crop_is_mirrored(crops: list[str]) -> None:
    pixels = torch.from_numpy(np.stack([cv2.imread(path) for path in crops]))
    mirrored = card_crops.Changes(flip=1, turn=0, shift=0, zoom=0, light=0, grey=0, shrink=0, erase=0)
    assert torch.equal(card_crops.change(pixels, mirrored, torch.Generator().manual_seed(1)), pixels.flip(2))


def test_changes_are_small_and_of_each_crop_its_own(crops: list[str]) -> None:
    pixels = torch.from_numpy(cv2.imread(crops[4]))[None].repeat(40, 1, 1, 1)
    how = card_crops.Changes(flip=0, grey=0, erase=0)
    changed = card_crops.change(pixels, how, torch.Generator().manual_seed(1))
    assert changed.dtype == torch.uint8 and changed.shape == pixels.shape
    apart = (changed.float() - pixels.float()).abs().mean((1, 2, 3))
    assert float(apart.min()) > 0 and float(apart.max()) < 60
    assert len({row.numpy().tobytes() for row in changed}) == 40
    covered = card_crops.change(
        pixels, card_crops.Changes(0, 0, 0, 0, 0, 0, 0, erase=1), torch.Generator().manual_seed(2)
    )
    share = (covered != pixels).any(3).float().mean((1, 2))
    assert float(share.min()) > 0.01 and float(share.max()) < 0.3


def test_dry_run(tmp_path: Path) -> None:
    words = [sys.executable, str(BENCHMARKS / "card_train.py"), "dry-run", "--arch", "mobilefacenet", "--json"]
    done = subprocess.run([*words, str(tmp_path / "a.json")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "a.json").read_text())
    assert found["dry"] and found["steps"] == 3 and found["parts"] > 1 and found["crops"] == 8
    assert found["crops_per_second"] > 0 and found["bytes"] < 16 * 2**20
    assert -1 <= found["cosine_after"] <= 1
