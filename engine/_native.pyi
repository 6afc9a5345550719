import numpy as np
from numpy.typing import NDArray

def warp(
    image: NDArray[np.uint8],
    matrices: NDArray[np.float64],
    height: int,
    width: int,
    *,
    border: str = "constant",
    threads: int = 1,
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
) -> NDArray[np.uint8]: ...
def resize(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]: ...
def resize_into(
    image: NDArray[np.uint8],
    canvas: NDArray[np.uint8],
    y: int,
    x: int,
    height: int,
    width: int,
) -> None: ...
def nms(
    boxes: NDArray[np.float32],
    scores: NDArray[np.float32],
    groups: NDArray[np.int32],
    threshold: float,
    mode: str = "union",
) -> NDArray[np.int64]: ...
def fit_similarity(points: NDArray[np.float64], template: NDArray[np.float64]) -> NDArray[np.float64]: ...
