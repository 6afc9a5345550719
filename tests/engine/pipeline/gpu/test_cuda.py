"""What of the CUDA backend needs no card: the sizes of batches, and which aligners have a way onto a card."""

from __future__ import annotations

import pytest

from faceembed.engine.models.spec import Model, ModelSpec
from faceembed.engine.pipeline.gpu.cuda import padded_count
from faceembed.engine.pipeline.gpu.opening import check_aligner
from faceembed.errors import DeviceError


def test_batches_have_few_sizes() -> None:
    sizes = [padded_count(count) for count in range(1, 1025)]
    assert all(size >= count for count, size in enumerate(sizes, 1))
    assert sorted(set(sizes)) == [1, 2, 4, 8, 16, 32, *range(64, 1025, 64)]


def test_aligners() -> None:
    check_aligner(None)
    check_aligner(Model(ModelSpec("mine", "aligner", (0, 0), decoder="one-shot"), "mine.onnx"))
    with pytest.raises(DeviceError, match="'mtcnn' runs on the CPU only"):
        check_aligner(Model(ModelSpec("mtcnn", "aligner", (0, 0), decoder="mtcnn"), "mtcnn.onnx"))
