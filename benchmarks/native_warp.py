"""The native warp and resize against OpenCV, on one thread.

    python benchmarks/native_warp.py
    python benchmarks/native_warp.py --repeats 100 --json native.json

What bounds it. A turned output pixel costs ceil(2 s)^2 source pixels at a reduction of s, and some address and weight
arithmetic; `cv2.warpAffine` always reads four source pixels, which is why it is faster, the more so the larger s, and why
it aliases. An upright crop or a resize reads every source byte twice, in vectors, and is bound by that.

How. Best of `--repeats` runs, ours and OpenCV's in turn, so that both meet the same machine. A ratio is OpenCV's time over
ours: above 1 we are faster. Accuracy beside each: the largest difference to the same filter in float64 NumPy, in levels
(0.5 is rounding alone), on an output cut to 24 x 24.

Not measured: threads, memory, decoding.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from faceembed.engine.native import _native

Pixels = NDArray[np.uint8]
ACCURACY_PX = 24


def best_seconds(functions: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """The shortest of `repeats` runs of each, taking turns."""
    best = dict.fromkeys(functions, math.inf)
    for _ in range(repeats + 1):  # the first is the warm-up; a minimum ignores it
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            best[name] = min(best[name], time.perf_counter() - start)
    return best


def photo(height: int, width: int) -> Pixels:
    """Smooth noise: what a photo costs does not depend on what it shows."""
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return np.asarray(cv2.GaussianBlur(noise, (0, 0), 2), np.uint8)


def matrix_about(image: Pixels, scale: float, degrees: float, size: int) -> NDArray[np.float64]:
    """The middle of a size x size output falls on the middle of the image; shape (1, 2, 3)."""
    c, s = scale * math.cos(math.radians(degrees)), scale * math.sin(math.radians(degrees))
    linear = np.array([[c, -s], [s, c]])
    middle = np.array([image.shape[1] / 2, image.shape[0] / 2]) - linear @ np.full(2, (size - 1) / 2)
    return np.concatenate([linear, middle[:, None]], axis=1)[None]


def exact(image: Pixels, matrix: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """The filter of `_native.warp`, written out in float64; (size, size, 3). Everything must lie inside the image."""
    radius = max(math.sqrt(abs(float(np.linalg.det(matrix[:, :2])))), 1.0)
    out = np.empty((size, size, 3))
    for y in range(size):
        for x in range(size):
            cx, cy = matrix @ (x, y, 1.0)
            columns = np.arange(math.floor(cx - radius), math.ceil(cx + radius) + 1)
            rows = np.arange(math.floor(cy - radius), math.ceil(cy + radius) + 1)
            wx = np.maximum(0.0, 1.0 - np.abs(columns - cx) / radius)
            wy = np.maximum(0.0, 1.0 - np.abs(rows - cy) / radius)
            patch = image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].astype(np.float64)
            out[y, x] = np.einsum("y,x,yxc->c", wy / wy.sum(), wx / wx.sum(), patch)
    return out


def measure_warp(image: Pixels, scale: float, degrees: float, size: int, repeats: int) -> dict[str, Any]:
    """One warp against `cv2.warpAffine`, bilinear; upright ones also against `cv2.resize` by area."""
    matrix = matrix_about(image, scale, degrees, size)
    runs: dict[str, Callable[[], object]] = {
        "ours": lambda: _native.warp(image, matrix, size, size),
        "bilinear": lambda: cv2.warpAffine(
            image, matrix[0], (size, size), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        ),
    }
    if degrees == 0.0 and scale > 1.0:
        x, y = matrix[0, :, 2].astype(int)
        crop = image[y : y + round(size * scale), x : x + round(size * scale)]
        runs["area"] = lambda: cv2.resize(crop, (size, size), interpolation=cv2.INTER_AREA)
    seconds = best_seconds(runs, repeats)
    small = _native.warp(image, matrix, ACCURACY_PX, ACCURACY_PX)[0]
    row: dict[str, Any] = {"what": f"warp {size} x {size}, {degrees:g} degrees, reduced {scale:g} times"}
    return row | ratios(seconds) | {"error_levels": float(np.abs(small - exact(image, matrix[0], ACCURACY_PX)).max())}


def measure_resize(image: Pixels, source: int, target: int, repeats: int) -> dict[str, Any]:
    """One resize into a canvas against `cv2.resize`."""
    crop, canvas, theirs = image[:source, :source].copy(), *np.empty((2, target, target, 3), np.uint8)
    seconds = best_seconds(
        {
            "ours": lambda: _native.resize_into(crop, canvas, 0, 0, target, target),
            "bilinear": lambda: cv2.resize(crop, (target, target), dst=theirs, interpolation=cv2.INTER_LINEAR),
            "area": lambda: cv2.resize(crop, (target, target), dst=theirs, interpolation=cv2.INTER_AREA),
        },
        repeats,
    )
    return {"what": f"resize {source} -> {target}"} | ratios(seconds) | {"error_levels": None}


def ratios(seconds: dict[str, float]) -> dict[str, float | None]:
    """Ours in microseconds, and OpenCV's time over ours."""
    area = seconds.get("area")
    return {
        "ours_us": seconds["ours"] * 1e6,
        "vs_bilinear": seconds["bilinear"] / seconds["ours"],
        "vs_area": area / seconds["ours"] if area else None,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=40, help="runs of each; the best counts")
    parser.add_argument("--json", type=Path, help="also write the result here")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    image = photo(1500, 2000)
    rows = [measure_warp(image, s, 12.0, 150, options.repeats) for s in (0.7, 1.0, 1.5, 2.0, 3.0, 4.0, 8.0)]
    rows += [measure_warp(image, s, 0.0, 24, options.repeats) for s in (0.3, 1.0, 3.0, 10.0, 20.0)]
    rows += [measure_warp(image, s, 0.0, 48, options.repeats) for s in (3.0, 10.0)]
    sizes = ((448, 96), (448, 112), (500, 355), (250, 178), (250, 500))
    rows += [measure_resize(image, source, target, options.repeats) for source, target in sizes]

    print(f"{'':48}{'ours, us':>10}{'bilinear':>10}{'area':>8}{'error':>8}")
    for row in rows:
        area = f"{row['vs_area']:.2f}" if row["vs_area"] else "-"
        error = f"{row['error_levels']:.4f}" if row["error_levels"] is not None else "-"
        print(f"{row['what']:48}{row['ours_us']:10.1f}{row['vs_bilinear']:10.2f}{area:>8}{error:>8}")
    print("bilinear, area: OpenCV's time over ours")
    result = json.dumps({"benchmark": "native_warp", "opencv": cv2.__version__, "rows": rows})
    if options.json:
        options.json.write_text(result + "\n")
    print(result)


if __name__ == "__main__":
    main()
