"""Operations counted from a graph against what the layers' sizes say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from faceembed.engine.models.flops import count_flops
from faceembed.engine.models.graph import GraphWriter
from faceembed.engine.models.spec import ARCFACE_TEMPLATE, Model, ModelSpec
from faceembed.errors import ModelError

SPEC = ModelSpec("counted", "encoder", (32, 48), dimension=10, template=ARCFACE_TEMPLATE)


def test_convolution_and_linear_layer(tmp_path: Path) -> None:
    writer = GraphWriter("counted")
    images = writer.input("images", ["N", 3, 32, 48])
    made = writer.conv(images, np.zeros((8, 3, 4, 4)), np.zeros(8), stride=4)  # (8, 8, 12)
    made = writer.conv(made, np.zeros((10, 8, 8, 12)), np.zeros(10))  # (10, 1, 1)
    writer.output(writer.node("Flatten", [made]), "embedding", ["N", 10])
    path = tmp_path / "counted.onnx"
    path.write_bytes(writer.serialise())
    convolution, linear = 2 * (8 * 8 * 12) * (3 * 4 * 4), 2 * 10 * (8 * 8 * 12)
    assert count_flops(Model(SPEC, str(path))) == convolution + linear


def test_dlibs_encoder(dlib_model: Model) -> None:
    """dlib's network has about 0.3 G multiply-adds at 150 x 150."""
    assert 0.5e9 < count_flops(dlib_model) < 0.8e9


def test_not_onnx(tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("no graph")
    with pytest.raises(ModelError, match=r"text\.onnx"):
        count_flops(Model(SPEC, str(tmp_path / "text.onnx")))
