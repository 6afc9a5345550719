from typing import Any

import numpy as np
from numpy.typing import NDArray

def listen() -> bool: ...
def heard() -> bytes: ...
def warp(
    image: NDArray[np.uint8],
    matrices: NDArray[np.float64],
    height: int,
    width: int,
    *,
    border: str = "constant",
    threads: int = 1,
    exact: bool = True,
) -> NDArray[np.uint8]: ...
def warp_many(
    images: list[NDArray[np.uint8]],
    image_of: NDArray[np.int32],
    matrices: NDArray[np.float64],
    height: int,
    width: int,
    *,
    border: str = "constant",
    threads: int = 1,
    exact: bool = True,
) -> NDArray[np.uint8]: ...
def resize(image: NDArray[np.uint8], height: int, width: int, *, exact: bool = True) -> NDArray[np.uint8]: ...
def resize_into(
    image: NDArray[np.uint8],
    canvas: NDArray[np.uint8],
    y: int,
    x: int,
    height: int,
    width: int,
    *,
    exact: bool = True,
) -> None: ...
def paint(
    images: list[NDArray[np.uint8]], sizes: NDArray[np.int32], height: int, width: int, *, grey: int, exact: bool = True
) -> NDArray[np.uint8]: ...
def pack(
    pixels: NDArray[np.uint8], step: int, mean: NDArray[np.float32], scale: float, *, half: bool
) -> NDArray[Any]: ...
def sharpness(chips: NDArray[np.uint8]) -> NDArray[np.float32]: ...
def nms(
    boxes: NDArray[np.float32],
    scores: NDArray[np.float32],
    groups: NDArray[np.int32],
    threshold: float,
    mode: str = "union",
) -> NDArray[np.int64]: ...
def fit_similarity(points: NDArray[np.float64], template: NDArray[np.float64]) -> NDArray[np.float64]: ...
def gather(
    images: list[NDArray[np.uint8]],
    owner: NDArray[np.int32],
    matrices: NDArray[np.float64],
    height: int,
    width: int,
    *,
    mean: NDArray[np.float32],
    scale: float,
    colour: str = "rgb",
    dtype: str = "float16",
    threads: int = 1,
) -> NDArray[Any]: ...
def find_faces(
    levels: list[NDArray[Any]],
    scales: NDArray[np.float32],
    owner: NDArray[np.int32],
    *,
    logit: float,
    overlap: float,
    blend: float,
) -> tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.float32], NDArray[np.float32], int]: ...
def refine(
    answers: NDArray[Any],
    matrices: NDArray[np.float64],
    template: NDArray[np.float64],
    scores: NDArray[np.float32],
    landmarks: NDArray[np.float32],
) -> tuple[NDArray[np.float32], NDArray[np.float32]]: ...
def read_photos(
    paths: list[str], sizes: list[int], beside: str, threads: int = 1
) -> list[tuple[bytes, str, tuple[int, int, int, int], bool] | None]: ...
