"""What tests of runtimes and of pipelines share: an encoder that costs nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from faceembed.engine.models.graph import GraphWriter
from faceembed.engine.models.spec import ARCFACE_TEMPLATE, Model, ModelSpec
from faceembed.engine.models.store import file_sha256


@pytest.fixture
def tiny(tmp_path: Path) -> Model:
    """An encoder of 16x16 chips with random weights, in BGR with means that differ."""
    rng = np.random.default_rng(5)
    writer = GraphWriter("tiny")
    x = writer.conv(
        writer.input("chips", ["N", 3, 16, 16]), rng.normal(size=(8, 3, 3, 3)) / 5, rng.normal(size=8), stride=2
    )
    x = writer.node("Flatten", [writer.node("GlobalAveragePool", [writer.node("Relu", [x])])])
    x = writer.node("MatMul", [x, writer.constant(rng.normal(size=(8, 6)).astype(np.float32))])
    writer.output(x, "embedding", ["N", 6])
    path = tmp_path / "tiny.onnx"
    path.write_bytes(writer.serialise())
    spec = ModelSpec(
        "tiny",
        "encoder",
        (16, 16),
        "bgr",
        (120.0, 110.0, 100.0),
        1 / 100,
        6,
        template=ARCFACE_TEMPLATE,
        sha256=file_sha256(path),
    )
    path.with_suffix(".json").write_text(spec.to_json())
    return Model(spec, str(path))
