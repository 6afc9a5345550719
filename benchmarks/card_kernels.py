"""Every kernel on a card against the processor's build of the same functions, on random input; in a dry run thread by thread on the CPU."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from faceembed.engine.detect.refine import TEMPLATE
from faceembed.engine.models.oneshot import CHANNELS, REFINED_CHANNELS, STRIDES
from faceembed.engine.models.spec import ARCFACE_TEMPLATE, ModelSpec
from faceembed.engine.native import _native
from faceembed.engine.pipeline.gpu import kernels as ours
from faceembed.engine.pipeline.gpu import record
from faceembed.engine.pipeline.gpu.compiler import SOURCE

SPEC = ModelSpec("card", "encoder", (112, 112), dimension=8, template=ARCFACE_TEMPLATE)
THRESHOLDS = record.Thresholds(candidate_score=0.45, overlap=0.45, blend=0.6)
_TESTS = Path(__file__).parents[1] / "tests" / "native"


def kernels(*, dry: bool) -> dict[str, Any]:
    """The largest difference of each kernel, in levels, pixels or what its output is in, and the time of a launch with its copies."""
    lane = _emulated() if dry else _on_card()
    found = {}
    for name, check in CHECKS.items():
        started = time.perf_counter()
        apart, scale = check(lane)
        found[name] = {"largest": apart, "of": scale, "seconds": time.perf_counter() - started}
    return found


def _on_card() -> Any:
    from faceembed.engine.pipeline.gpu.lane import CudaLane

    return CudaLane()


def _emulated() -> Any:
    """kernels.cu as C++, from the tests' emulator."""
    sys.path.insert(0, str(_TESTS.parents[1]))
    from tests.native.conftest import EmulatedLane

    compiler = next(filter(None, map(shutil.which, ("c++", "g++", "clang++"))))
    library = Path(tempfile.mkdtemp(prefix="emulator-")) / "emulate.so"
    flags = ["-std=c++17", "-O2", "-ffp-contract=off", "-fPIC", "-shared", "-I", str(SOURCE.parent), "-I", str(_TESTS)]
    subprocess.run([compiler, *flags, str(_TESTS / "emulate.cpp"), "-o", str(library)], check=True)
    loaded = ctypes.CDLL(str(library))
    number = ctypes.c_uint
    loaded.emulate.argtypes = [ctypes.c_char_p, ctypes.c_void_p, number, number, number, number, ctypes.c_int]
    loaded.emulate.restype = ctypes.c_char_p
    return EmulatedLane(loaded)


def _photos() -> list[NDArray[np.uint8]]:
    random = np.random.default_rng(5)
    return [random.integers(0, 256, (*shape, 3), np.uint8) for shape in ((61, 83), (7, 200), (240, 180))]


def _faces() -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Owners and landmarks of 12 faces."""
    random = np.random.default_rng(6)
    owner = (np.arange(12) % 3).astype(np.int32)
    marks = np.array(ARCFACE_TEMPLATE, np.float32)[None] * random.uniform(0.2, 3, (12, 1, 1)) + random.normal(
        0, 2, (12, 5, 2)
    )
    return owner, marks.astype(np.float32)


def _difference(a: Any, b: Any) -> tuple[float, float]:
    """The largest, and the largest value; NaN equals NaN."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    assert a.shape == b.shape, (a.shape, b.shape)
    assert np.array_equal(np.isnan(a), np.isnan(b))
    return float(np.nanmax(np.abs(a - b), initial=0)), float(np.nanmax(np.abs(b), initial=0))


def _paint(lane: Any) -> tuple[float, float]:
    photos = _photos()
    sizes = np.array([[48, 64], [3, 64], [64, 48]])
    canvases = lane.get(ours.paint(lane, [lane.put(photo) for photo in photos], sizes, (64, 64)))
    expected = np.full((3, 64, 64, 3), 114, np.uint8)
    from faceembed.engine.detect.canvas import GREY

    expected[:] = GREY
    for canvas, photo, (rows, columns) in zip(expected, photos, sizes.tolist(), strict=True):
        _native.resize_into(photo, canvas, 0, 0, rows, columns)
    return _difference(canvases, expected)


def _gather(dtype: str) -> Callable[[Any], tuple[float, float]]:
    def check(lane: Any) -> tuple[float, float]:
        photos, (owner, marks) = _photos(), _faces()
        matrices = _native.fit_similarity(marks.astype(np.float64) - 0.5, np.array(ARCFACE_TEMPLATE, np.float64))
        chips = ours.gather(lane, [lane.put(photo) for photo in photos], owner, matrices, SPEC, dtype=dtype)
        mean = np.array(SPEC.mean, np.float32)
        return _difference(
            lane.get(chips), _native.gather(photos, owner, matrices, 112, 112, mean=mean, scale=SPEC.scale, dtype=dtype)
        )

    return check


def _fit(lane: Any) -> tuple[float, float]:
    _, marks = _faces()
    matrices = lane.get(ours.fit(lane, lane.put(marks), TEMPLATE))
    return _difference(
        matrices, _native.fit_similarity(marks.astype(np.float64) - 0.5, np.asarray(TEMPLATE, np.float64))
    )


def _refine(lane: Any) -> tuple[float, float]:
    _, marks = _faces()
    random = np.random.default_rng(8)
    answers = random.normal(0, 1, (12, REFINED_CHANNELS)).astype(np.float32)
    scores = np.full(12, 0.9, np.float32)
    matrices = _native.fit_similarity(marks.astype(np.float64) - 0.5, np.asarray(TEMPLATE, np.float64))
    there = [lane.put(array) for array in (answers, matrices, scores, marks)]
    ours.refine(lane, there[0], there[1], TEMPLATE, scores=there[2], landmarks=there[3])
    expected_scores, expected_marks = _native.refine(answers, matrices, np.asarray(TEMPLATE, np.float64), scores, marks)
    told = np.concatenate([lane.get(there[3]).ravel(), lane.get(there[2])])
    return _difference(told, np.concatenate([expected_marks.ravel(), expected_scores]))


def _find(lane: Any) -> tuple[float, float]:
    random = np.random.default_rng(9)
    levels = [random.normal(0, 1, (2, CHANNELS, 64 // stride, 64 // stride)).astype(np.float32) for stride in STRIDES]
    for level in levels:
        level[:, 0] -= 2.5  # most cells see nothing
    scales, owner = np.array([[0.5, 0.5], [2, 2]], np.float32), np.array([1, 0], np.int32)
    told = record.find_faces(lane, [lane.put(level) for level in levels], scales, owner, THRESHOLDS)
    photo, boxes, marks, scores, _ = _native.find_faces(
        levels, scales, owner, logit=THRESHOLDS.logit, overlap=THRESHOLDS.overlap, blend=THRESHOLDS.blend
    )
    assert np.array_equal(told.photo, photo) and len(photo)
    return _difference(
        np.concatenate([told.boxes.ravel(), told.landmarks.ravel(), told.scores]),
        np.concatenate([boxes.ravel(), marks.ravel(), scores]),
    )


CHECKS: dict[str, Callable[[Any], tuple[float, float]]] = {
    "fe_paint": _paint,
    "fe_gather_u8": _gather("uint8"),
    "fe_gather_f16": _gather("float16"),
    "fe_gather_f32": _gather("float32"),
    "fe_fit": _fit,
    "fe_refine_f32": _refine,
    "fe_find_f32, fe_collect": _find,
}


def names() -> Sequence[str]:
    """Of the kernels that are compared."""
    return [name for joined in CHECKS for name in joined.split(", ")]
