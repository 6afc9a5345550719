"""The imported cascade against a forward pass written here in float64 from the raw arrays, by TensorFlow's conventions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from faceembed.engine.models import mtcnn
from faceembed.engine.models.mtcnn import load_weights, write_graph
from faceembed.errors import ModelError

Array = np.ndarray


@pytest.fixture(scope="module")
def cascade() -> Callable[[dict[str, Array]], dict[str, Array]]:
    """Runs one network of the file; the inputs of the others get something small."""
    data = write_graph(load_weights("pnet"), load_weights("rnet"), load_weights("onet"))
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    spare = {
        name: np.zeros((1, 3, side, side), np.float32) for name, side in (("pnet", 12), ("rnet", 24), ("onet", 48))
    }

    def run(inputs: dict[str, Array]) -> dict[str, Array]:
        names = [output.name for output in session.get_outputs() if output.name.startswith(next(iter(inputs)))]
        return dict(zip(names, session.run(names, {**spare, **inputs}), strict=True))

    return run


def pixels(count: int, height: int, width: int) -> Array:
    """Preprocessed noise with some structure: (count, height, width, 3)."""
    rng = np.random.default_rng(height * width)
    coarse = rng.integers(0, 256, (count, -(-height // 4), -(-width // 4), 3)).repeat(4, 1).repeat(4, 2)
    return ((coarse[:, :height, :width] + rng.integers(-40, 40, (count, height, width, 3))) - 127.5) / 128


def conv(x: Array, kernel: Array, bias: Array) -> Array:
    """'valid' convolution; x (N, H, W, C), kernel (kh, kw, C, F)."""
    kh, kw = kernel.shape[:2]
    windows = np.lib.stride_tricks.sliding_window_view(x, (kh, kw), axis=(1, 2))  # (N, H', W', C, kh, kw)
    return np.einsum("nhwcij,ijcf->nhwf", windows, kernel.astype(np.float64)) + bias


def prelu(x: Array, slope: Array) -> Array:
    return np.where(x > 0, x, x * slope.reshape(-1))


def pool(x: Array, size: int, padding: str) -> Array:
    """Max pooling of stride 2. 'same': ceil(n / 2) outputs, the padding of minus infinity shared, the odd one at the end."""
    spans = []
    for axis in (1, 2):
        n = x.shape[axis]
        outputs = -(-n // 2) if padding == "same" else (n - size) // 2 + 1
        total = max((outputs - 1) * 2 + size - n, 0) if padding == "same" else 0
        spans.append((outputs, total // 2, total - total // 2))
    (rows, top, bottom), (columns, left, right) = spans
    x = np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=-np.inf)
    out = np.empty((len(x), rows, columns, x.shape[3]))
    for row in range(rows):
        for column in range(columns):
            out[:, row, column] = x[:, 2 * row : 2 * row + size, 2 * column : 2 * column + size].max((1, 2))
    return out


def softmax_face(x: Array) -> Array:
    exps = np.exp(x - x.max(-1, keepdims=True))
    return (exps / exps.sum(-1, keepdims=True))[..., 1:]


def layers(weights: list[Array]) -> Callable[[int], list[Array]]:
    queue = [np.asarray(array, np.float64) for array in weights]
    return lambda count: [queue.pop(0) for _ in range(count)]


def dense(x: Array, kernel: Array, bias: Array) -> Array:
    return x @ kernel + bias


def flat(x: Array) -> Array:
    """The trained order of a feature map's values: width, height, channel."""
    return x.transpose(0, 2, 1, 3).reshape(len(x), -1)


def reference_pnet(x: Array) -> dict[str, Array]:
    take = layers(load_weights("pnet"))
    kernel, bias, slope = take(3)
    x = pool(prelu(conv(x, kernel, bias), slope), 2, "same")
    for _ in range(2):
        kernel, bias, slope = take(3)
        x = prelu(conv(x, kernel, bias), slope)
    box, score = conv(x, *take(2)), conv(x, *take(2))
    return {"pnet_box": box.transpose(0, 3, 1, 2), "pnet_score": softmax_face(score).transpose(0, 3, 1, 2)}


def reference_small(x: Array, network: str, pools: list[tuple[int, str] | None]) -> dict[str, Array]:
    take = layers(load_weights(network))
    for step in pools:
        kernel, bias, slope = take(3)
        x = prelu(conv(x, kernel, bias), slope)
        if step:
            x = pool(x, *step)
    kernel, bias, slope = take(3)
    x = prelu(dense(flat(x), kernel, bias), slope)
    result = {f"{network}_box": dense(x, *take(2))}
    if network == "onet":
        result["onet_landmarks"] = dense(x, *take(2))
    return {**result, f"{network}_score": softmax_face(dense(x, *take(2)))}


def assert_equal(got: dict[str, Array], expected: dict[str, Array]) -> None:
    assert got.keys() == expected.keys()
    for name, array in expected.items():
        assert got[name].shape == array.shape, name
        np.testing.assert_allclose(got[name], array, atol=2e-5, rtol=1e-4, err_msg=name)


@pytest.mark.parametrize(("height", "width"), [(12, 12), (13, 12), (12, 15), (31, 44), (45, 33), (64, 64), (57, 57)])
def test_pnet(cascade: Any, height: int, width: int) -> None:
    x = pixels(2, height, width)
    assert_equal(cascade({"pnet": x.transpose(0, 3, 1, 2).astype(np.float32)}), reference_pnet(x))


def test_rnet(cascade: Any) -> None:
    x = pixels(5, 24, 24)
    expected = reference_small(x, "rnet", [(3, "same"), (3, "valid"), None])
    assert_equal(cascade({"rnet": x.transpose(0, 3, 1, 2).astype(np.float32)}), expected)


def test_onet(cascade: Any) -> None:
    x = pixels(5, 48, 48)
    expected = reference_small(x, "onet", [(3, "same"), (3, "valid"), (2, "same"), None])
    assert_equal(cascade({"onet": x.transpose(0, 3, 1, 2).astype(np.float32)}), expected)


def test_onet_knows_a_face(cascade: Any, astronaut: np.ndarray) -> None:
    """The order of channels and axes is the trained one: a face is a face, upside down or negated it is not."""
    import cv2

    crop = cv2.resize(astronaut[60:174, 166:280], (48, 48), interpolation=cv2.INTER_AREA)
    for view, is_face in ((crop, True), (crop[::-1], False), (255 - crop, False)):
        x = ((view.astype(np.float32) - 127.5) / 128).transpose(2, 0, 1)[None]
        assert (cascade({"onet": np.ascontiguousarray(x)})["onet_score"][0, 0] > 0.8) == is_face


@pytest.mark.parametrize("content", ["nothing", "text", "cut", "dictionary", "numbers", "shapes"])
def test_damaged_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str) -> None:
    import joblib

    from faceembed.engine.models.packages import package_file

    path = tmp_path / "pnet.lz4"
    good = package_file("mtcnn", "assets/weights/pnet.lz4", extra="").read_bytes()
    if content in ("nothing", "text", "cut"):
        path.write_bytes({"nothing": b"", "text": b"not found\n" * 50, "cut": good[: len(good) // 2]}[content])
    else:
        thing: Any = {"dictionary": {"a": 1}, "numbers": [1, 2.5], "shapes": load_weights("pnet")[3:]}[content]
        joblib.dump(thing, path, compress=("lz4", 3))
    monkeypatch.setattr(mtcnn, "package_file", lambda *_, **__: path)
    with pytest.raises(ModelError, match=r"pnet\.lz4 (is damaged|holds kernels).*mtcnn==1\.0\.0"):
        load_weights("pnet")


def test_same_bytes_every_time() -> None:
    nets = [load_weights(name) for name in ("pnet", "rnet", "onet")]
    assert write_graph(*nets) == write_graph(*nets)
