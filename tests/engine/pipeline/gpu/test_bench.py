"""Measurements of the GPU path, on its CPU backend: every stage is there, and the arithmetic of the roofline."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from faceembed.engine.photos.listing import list_photos
from faceembed.engine.pipeline.gpu.bench import roofline
from faceembed.engine.pipeline.gpu.pipeline import DevicePipeline
from faceembed.engine.runtimes.cards import FLOPS_PER_CLOCK
from faceembed.engine.verbs.bench import measure

Open = Callable[..., DevicePipeline]
MakeFaces = Callable[[Path, int], list[Path]]


def test_measure(open_tiny: Open, tmp_path: Path, make_faces: MakeFaces) -> None:
    make_faces(tmp_path, 12)
    pipeline = open_tiny(batch_size=4)
    report = measure(pipeline, list_photos([tmp_path]).photos, rounds=1)
    assert list(report.stages) == ["read", "decode", "detect", "align", "encode", "copy"]
    assert all(rate > 0 for rate in report.stages.values())
    assert (report.photos, report.faces) == (12, 12)
    assert report.ratio_to_slowest == pytest.approx(report.end_to_end / report.stages[report.slowest], rel=0.02)
    line = report.to_json_dict()["roofline"]
    assert line["flops_per_face"] == 2 * 8 * 3 * 32 * 32
    assert line["peak_tflops"] is None
    assert line["share_of_peak"] is None
    assert line["decoded_by"]["device"] == 36  # to warm up, the whole, and the stages
    assert line["peak_memory_bytes"] > 0


def test_shares(open_tiny: Open, tmp_path: Path, make_faces: MakeFaces, monkeypatch: pytest.MonkeyPatch) -> None:
    make_faces(tmp_path, 1)  # 200 x 200
    pipeline = open_tiny()
    monkeypatch.setattr(pipeline.backend, "peak_tflops", lambda: 2.0)
    monkeypatch.setattr(pipeline.backend, "copy_bandwidth", lambda nbytes: 12e9)
    photos = list_photos([tmp_path]).photos
    line = roofline(pipeline, photos * 2, encode_rate=1e7, end_to_end=1e4, faces=4)
    assert line.encoder_tflops == pytest.approx(49152 * 1e7 * 2 / 1e12, abs=1e-4)
    assert line.share_of_peak == pytest.approx(line.encoder_tflops / 2, abs=1e-4)
    assert line.photo_megabytes == 0.12
    assert line.share_of_copy == pytest.approx(120_000 * 1e4 / 12e9)


@pytest.mark.parametrize(
    ("capability", "multiprocessors", "gigahertz", "tflops"),
    [  # data sheets: dense FP16 with FP16 accumulation
        ((7, 5), 68, 1.545, 107.6),  # RTX 2080 Ti
        ((8, 0), 108, 1.41, 312),  # A100
        ((8, 6), 82, 1.695, 142),  # RTX 3090
        ((8, 9), 128, 2.52, 330.3),  # RTX 4090
        ((9, 0), 132, 1.83, 989.4),  # H100 SXM
        ((12, 0), 170, 2.407, 419),  # RTX 5090
    ],
)
def test_peaks_are_those_of_the_data_sheets(
    capability: tuple[int, int], multiprocessors: int, gigahertz: float, tflops: float
) -> None:
    assert FLOPS_PER_CLOCK[capability] * multiprocessors * gigahertz / 1e3 == pytest.approx(tflops, rel=0.01)
