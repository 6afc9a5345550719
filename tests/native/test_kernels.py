"""The kernels themselves, launched as the engine launches them: all their threads on the CPU, and on a card if there is one.

What they compute is checked in test_kernel_functions.py, on the CPU build of the same functions. Here every kernel must give
what that build gives, for odd sizes, no faces, faces beyond the frame and photos larger than 2 GiB, whatever the order in
which threads run.
"""

from __future__ import annotations

import ctypes
import math
import mmap
import types
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from faceembed.engine.detect import canvas
from faceembed.engine.detect.align import similarity_matrices
from faceembed.engine.detect.refine import TEMPLATE
from faceembed.engine.models.spec import ARCFACE_TEMPLATE, ModelSpec
from faceembed.engine.native import _native
from faceembed.engine.pipeline.gpu import kernels, record
from faceembed.engine.pipeline.gpu import lane as lanes
from faceembed.engine.runtimes.arrays import DeviceArray
from faceembed.errors import DeviceError

THRESHOLDS = record.Thresholds(candidate_score=0.35, overlap=0.45, blend=0.6)
Lane = Any  # the fixtures' classes live in conftest.py
RNG = np.random.default_rng


def spec(colour: Any = "rgb", size: tuple[int, int] = (112, 112)) -> ModelSpec:
    return ModelSpec(
        "test", "encoder", size, colour, (127.5, 120.0, 99.5), 1 / 64, dimension=8, template=ARCFACE_TEMPLATE
    )


def noise(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    return RNG(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def similarity(scale: float, degrees: float, x: float, y: float) -> NDArray[np.float64]:
    c, s = scale * math.cos(math.radians(degrees)), scale * math.sin(math.radians(degrees))
    return np.array([[c, -s, x], [s, c, y]])


def assert_levels(actual: NDArray[Any], expected: NDArray[Any], lane: Lane) -> None:
    """On the CPU the very same; a card fuses multiply and add in sums of pixels, so that one may round to the next level."""
    if type(lane).__name__ == "EmulatedLane":
        np.testing.assert_array_equal(actual, expected)
    else:
        apart = np.abs(actual.astype(np.float64) - expected.astype(np.float64))
        assert apart.max(initial=0) <= 1 and np.count_nonzero(apart) <= 1e-3 * apart.size


# ---- chips ------------------------------------------------------------------------------------------------------------

PHOTOS = [noise(61, 83), noise(1, 1, seed=1), noise(7, 200, seed=2), noise(300, 2, seed=3)]
FACES = [
    (0, similarity(0.4, 12, 20, 10)),
    (0, similarity(1.0, 0, 3, 4)),
    (0, similarity(2.3, -30, -20, 5)),  # across the border
    (0, similarity(1.0, 0, 1e6, -1e6)),  # far beyond the frame
    (0, similarity(55.0, 45, 30, 30)),  # a footprint larger than the photo
    (1, similarity(0.1, 5, -1, -1)),
    (1, similarity(3.0, 0, 0, 0)),
    (2, similarity(1.7, 100, 50, 3)),
    (3, similarity(0.9, 179, 1, 150)),
    (0, np.full((2, 3), np.nan)),  # no face: black
    (0, np.array([[1.0, 0.5, 0.0], [0.0, 1.0, 0.0]])),  # no similarity: black
    (4, similarity(1.0, 0, 0, 0)),  # no such photo: black
    (-1, similarity(1.0, 0, 0, 0)),
]
OWNER = np.array([owner for owner, _ in FACES], np.int32)
MATRICES = np.array([matrix for _, matrix in FACES])


@pytest.mark.parametrize("dtype", ["float16", "float32", "uint8"])
@pytest.mark.parametrize("size", [(112, 112), (1, 1), (17, 33), (16, 16)])
def test_gather_equals_the_cpu_build(lane: Lane, size: tuple[int, int], dtype: str) -> None:
    for colour in ("rgb", "bgr"):
        model = spec(colour, size)
        chips = kernels.gather(lane, [lane.put(photo) for photo in PHOTOS], OWNER, MATRICES, model, dtype=dtype)
        mean = np.array(model.mean, np.float32)
        expected = _native.gather(
            PHOTOS, OWNER, MATRICES, *size, mean=mean, scale=model.scale, colour=colour, dtype=dtype
        )
        assert (chips.shape, chips.dtype) == (expected.shape, expected.dtype)
        assert_levels(lane.get(chips), expected, lane)


def test_gather_of_no_faces_and_no_photos(lane: Lane) -> None:
    nobody, nothing = np.zeros(0, np.int32), np.zeros((0, 2, 3))
    assert kernels.gather(lane, [lane.put(PHOTOS[0])], nobody, nothing, spec()).shape == (0, 3, 112, 112)
    assert kernels.gather(lane, [], nobody, nothing, spec(), dtype=np.uint8).shape == (0, 112, 112, 3)
    black = kernels.gather(lane, [], np.zeros(1, np.int32), similarity(1, 0, 0, 0)[None], spec(), dtype=np.uint8)
    assert not lane.get(black).any()


def sparse(size: int) -> tuple[mmap.mmap, int]:
    """Address space of which only what is touched takes memory."""
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0))
    return memory, ctypes.addressof(ctypes.c_char.from_buffer(memory))


def test_gather_reads_a_photo_of_more_than_4_gib(emulated: Lane) -> None:
    height, width = 40_000, 40_000  # 4.8 GB
    memory, address = sparse(3 * height * width)
    photo = DeviceArray(address, (height, width, 3), np.dtype(np.uint8), memory)
    part = noise(20, 20)
    for row in range(20):  # the last rows and columns lie beyond 2^32 bytes
        ctypes.memmove(address + 3 * ((height - 20 + row) * width + width - 20), part[row].tobytes(), 60)
    matrix = similarity(0.5, 0, width - 19, height - 19)[None]
    chip = kernels.gather(emulated, [photo], np.zeros(1, np.int32), matrix, spec(size=(16, 16)), dtype=np.uint8)
    expected = _native.warp_many([part], np.zeros(1, np.int32), similarity(0.5, 0, 1, 1)[None], 16, 16)
    np.testing.assert_array_equal(emulated.get(chip), expected)


def test_gather_writes_beyond_4_gib(emulated: Lane, monkeypatch: pytest.MonkeyPatch) -> None:
    faces = 58_000  # of 75,264 bytes
    memory, address = sparse(faces * 3 * 112 * 112 * 2)
    chips = DeviceArray(address, (faces, 3, 112, 112), np.dtype(np.float16), memory)
    owner = np.zeros(faces, np.int32)
    matrices = np.repeat(similarity(0.5, 3, 5, 6)[None], faces, axis=0)
    emulated.first = (faces - 1) * 49  # the last face's tiles only
    plain_empty = emulated.empty
    monkeypatch.setattr(
        emulated, "empty", lambda shape, dtype: chips if shape == chips.shape else plain_empty(shape, dtype)
    )
    got = kernels.gather(emulated, [emulated.put(PHOTOS[0])], owner, matrices, spec())
    last = emulated.get(got.rows(faces - 1, faces))
    mean = np.array(spec().mean, np.float32)
    expected = _native.gather(PHOTOS[:1], owner[:1], matrices[:1], 112, 112, mean=mean, scale=spec().scale)
    np.testing.assert_array_equal(last, expected)
    assert emulated.launched == [("fe_gather_f16", faces * 49)]


def test_gather_never_reads_outside_a_photo(emulated: Lane) -> None:
    """The photo ends, and another begins, at a page that nobody may touch: a read too far ends the process."""
    libc, page = ctypes.CDLL(None, use_errno=True), mmap.PAGESIZE
    photo = noise(31, 47)
    memory, address = sparse(8 * page)
    for forbidden in (0, 7):
        assert libc.mprotect(ctypes.c_void_p(address + forbidden * page), ctypes.c_size_t(page), 0) == 0
    try:
        first, last = address + page, address + 7 * page - photo.nbytes
        for place in (first, last):
            ctypes.memmove(place, photo.ctypes.data, photo.nbytes)
        views = [DeviceArray(place, photo.shape, photo.dtype, memory) for place in (first, last)]
        random = RNG(7)
        matrices = np.array(
            [
                similarity(scale, degrees, *random.uniform(-60, 60, 2))
                for scale in (0.2, 1.0, 1.4, 3.0, 40.0)
                for degrees in (0.0, 30.0, 200.0)
            ]
        )
        for index in (0, 1):
            owner = np.full(len(matrices), index, np.int32)
            chips = kernels.gather(emulated, views, owner, matrices, spec(size=(20, 20)), dtype=np.uint8)
            expected = _native.warp_many([photo], np.zeros(len(matrices), np.int32), matrices, 20, 20)
            assert np.abs(emulated.get(chips).astype(int) - expected).max() <= 1
    finally:
        for forbidden in (0, 7):
            libc.mprotect(ctypes.c_void_p(address + forbidden * page), ctypes.c_size_t(page), 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dtype": np.int8}, "dtype must be float16"),
        ({"owner": np.zeros(2, np.int32)}, r"owner must be int32 \(1,\)"),
        ({"owner": np.zeros(1, np.int64)}, "owner must be int32, but is int64"),
        ({"matrices": np.zeros((1, 3, 2))}, r"matrices must be float64 \(1, 2, 3\)"),
        ({"size": (0, 5)}, "at least one row"),
        ({"size": (1 << 24, 1 << 24)}, "too many for one launch"),
        ({"photos": [np.zeros((3, 3), np.uint8)]}, r"photos\[0\] must be uint8"),
    ],
)
def test_gather_says_what_is_wrong(emulated: Lane, change: dict[str, Any], message: str) -> None:
    given: dict[str, Any] = {"photos": PHOTOS[:1], "owner": np.zeros(1, np.int32), "matrices": MATRICES[:1]} | change
    photos = [emulated.put(photo) for photo in given.pop("photos")]
    with pytest.raises(ValueError, match=message):
        kernels.gather(emulated, photos, given.pop("owner"), given.pop("matrices"), spec(), **given)


# ---- canvases ---------------------------------------------------------------------------------------------------------


def test_paint_equals_the_canvas_of_the_cpu(lane: Lane) -> None:
    photos = [noise(61, 83), noise(1, 1), noise(400, 90), noise(2, 640), noise(96, 128)]
    shape, sides = canvas.Shape(96, 128), np.array([83.0, 1.0, 96.0, 128.0, 100.0])
    expected, scales = canvas.paint(shape, photos, sides)
    sizes = np.array(
        [(round(s[1] * p.shape[0]), round(s[0] * p.shape[1])) for s, p in zip(scales, photos, strict=True)]
    )
    painted = lane.get(kernels.paint(lane, [lane.put(photo) for photo in photos], sizes, (96, 128)))
    apart = np.abs(painted.astype(int) - expected)  # the CPU's loops add up in another order
    assert apart.max() <= 1 and np.count_nonzero(apart) < 1e-3 * apart.size
    assert (painted[1, 1:] == canvas.GREY).all() and (painted[1, :, 1:] == canvas.GREY).all()


def test_paint_of_odd_canvases_and_of_nothing(lane: Lane) -> None:
    assert kernels.paint(lane, [], np.zeros((0, 2), np.int64), (32, 32)).shape == (0, 32, 32, 3)
    tiny = lane.get(kernels.paint(lane, [lane.put(noise(5, 5))], np.array([[5, 5]]), (5, 7)))
    np.testing.assert_array_equal(tiny[0, :, :5], noise(5, 5))
    assert (tiny[0, :, 5:] == canvas.GREY).all()
    for sizes in ([[33, 5]], [[0, 5]], [[5, 5], [5, 5]]):
        with pytest.raises(ValueError, match="sizes must"):
            kernels.paint(lane, [lane.put(noise(5, 5))], np.array(sizes), (32, 32))


# ---- faces ------------------------------------------------------------------------------------------------------------


def outputs(
    count: int, height: int, width: int, *, seed: int, dense: float = 0.02, dtype: Any = np.float32
) -> list[Any]:
    """Outputs of a network that sees faces here and there, many of equal score."""
    random, levels = RNG(seed), []
    for stride in (8, 16, 32):
        level = random.normal(0, 0.5, (count, 15, height // stride, width // stride))
        level[:, 0] = np.where(random.random(level[:, 0].shape) < dense, random.integers(0, 4, level[:, 0].shape), -9)
        level[:, 1:5] += 0.7
        levels.append(level.astype(dtype))
    return levels


def cpu_faces(levels: list[Any], scales: NDArray[np.float32], owner: NDArray[np.int32]) -> tuple[Any, ...]:
    *faces, broken = _native.find_faces(
        levels, scales, owner, logit=THRESHOLDS.logit, overlap=THRESHOLDS.overlap, blend=THRESHOLDS.blend
    )
    assert broken == 0
    return tuple(faces)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize(
    ("count", "height", "width", "dense"),
    [(3, 160, 128, 0.05), (1, 32, 32, 1.0), (2, 96, 64, 0.0), (1, 32, 544, 0.5), (4, 64, 64, 0.9)],
)
def test_found_faces_equal_the_cpu_build(
    lane: Lane, count: int, height: int, width: int, dense: float, dtype: Any
) -> None:
    levels = outputs(count, height, width, seed=count, dense=dense, dtype=dtype)
    scales = RNG(0).uniform(0.2, 1, (count, 2)).astype(np.float32)
    owner = RNG(1).permutation(count).astype(np.int32)
    found = record.find_faces(lane, [lane.put(level) for level in levels], scales, owner, THRESHOLDS)
    photo, boxes, landmarks, scores = cpu_faces(levels, scales, owner)
    np.testing.assert_array_equal(found.photo, photo)
    np.testing.assert_allclose(found.scores, scores, rtol=1e-6)
    np.testing.assert_allclose(found.boxes, boxes, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(found.landmarks, landmarks, rtol=1e-5, atol=1e-4)
    assert (len(photo) > 0) == (dense > 0)


def test_the_order_of_threads_does_not_matter(emulated: Lane) -> None:
    """A barrier that were missing would show here."""
    levels = [emulated.put(level) for level in outputs(2, 192, 160, seed=3, dense=0.3)]
    results = []
    for emulated.order in (0, 1, 2):
        faces = record.find_faces(
            emulated, levels, np.ones((2, 2), np.float32), np.arange(2, dtype=np.int32), THRESHOLDS
        )
        chips = kernels.gather(emulated, [emulated.put(p) for p in PHOTOS], OWNER, MATRICES, spec(size=(33, 20)))
        results.append((faces.photo, faces.boxes, faces.landmarks, faces.scores, emulated.get(chips)))
    for other in results[1:]:
        for array, expected in zip(other, results[0], strict=True):
            np.testing.assert_array_equal(array, expected)


@pytest.mark.parametrize("room", [1, 40, 10_000])
def test_several_scans_in_one_record(emulated: Lane, room: int) -> None:
    """Of different shapes, each with its own photos; where the record has no room for all, it is made once more."""
    scans, expected = [], []
    shapes = [(3, 96, 64, 0.4), (2, 32, 32, 0.0), (2, 64, 64, 0.6)]
    counts = emulated.empty((7, 2), np.int32)
    first = 0
    for number, (count, height, width, dense) in enumerate(shapes):
        levels = outputs(count, height, width, seed=number, dense=dense)
        scales = RNG(number).uniform(0.2, 1, (count, 2)).astype(np.float32)
        owner = np.arange(first, first + count, dtype=np.int32)[::-1].copy()
        there = [emulated.put(level) for level in levels]
        scans.append(record.find(emulated, there, scales, owner, THRESHOLDS, counts.rows(first, first + count)))
        expected.append(cpu_faces(levels, scales, owner))
        first += count
    made: list[int] = []
    found = record.fetch(emulated, counts, scans, lambda faces: made.append(faces.photo.shape[0]), room=room)
    for got, parts in zip(
        (found.photo, found.boxes, found.landmarks, found.scores), zip(*expected, strict=True), strict=True
    ):
        np.testing.assert_allclose(got, np.concatenate(parts), rtol=1e-5, atol=1e-4)
    assert len(found) > 40
    assert made == [room] if room == 10_000 else (made[0] == room and made[1] >= len(found) and len(made) == 2)


def test_no_canvas_no_face(lane: Lane) -> None:
    levels = [lane.put(level) for level in outputs(0, 64, 64, seed=0)]
    assert len(record.find_faces(lane, levels, np.zeros((0, 2), np.float32), np.zeros(0, np.int32), THRESHOLDS)) == 0


@pytest.mark.parametrize(("channel", "value"), [(0, np.nan), (0, np.inf), (2, np.nan), (9, -np.inf), (14, np.nan)])
def test_answers_that_are_not_numbers_end_the_run(lane: Lane, channel: int, value: float) -> None:
    levels = outputs(3, 64, 64, seed=5, dense=0.3)
    row, column = np.argwhere(levels[0][1, 0] > 0)[0]
    levels[0][1, channel, row, column] = value
    with pytest.raises(DeviceError, match=r"outputs for 1 of 3 canvases are not numbers.*--precision fp32"):
        record.find_faces(
            lane, [lane.put(x) for x in levels], np.ones((3, 2), np.float32), np.arange(3, dtype=np.int32), THRESHOLDS
        )


def test_outputs_that_do_not_fit_are_refused(emulated: Lane) -> None:
    ones, owner = np.ones((1, 2), np.float32), np.zeros(1, np.int32)
    levels = [emulated.put(level) for level in outputs(1, 64, 64, seed=0)]
    for wrong, message in [
        ([levels[0], levels[0], levels[2]], "level_16 must be float32"),
        ([emulated.put(np.zeros((1, 15, 3, 4), np.float32)), *levels[1:]], "multiples of 32"),
        ([emulated.put(np.zeros((1, 15, 8, 8), np.int32)), *levels[1:]], "float16 or float32"),
    ]:
        with pytest.raises(ValueError, match=message):
            record.find_faces(emulated, wrong, ones, owner, THRESHOLDS)
    with pytest.raises(ValueError, match="scales and owner"):
        record.find_faces(emulated, levels, ones, np.zeros(2, np.int32), THRESHOLDS)


# ---- fit and refine ---------------------------------------------------------------------------------------------------


def landmarks(count: int) -> NDArray[np.float32]:
    points = TEMPLATE[None] * RNG(2).uniform(0.5, 30, (count, 1, 1)) + RNG(3).uniform(-500, 5000, (count, 1, 2))
    points += RNG(4).normal(0, 2, points.shape)
    points[count // 2 :: 7] = 3.0  # no face
    points[1::9, 2] = np.nan
    return points.astype(np.float32)


@pytest.mark.parametrize("count", [0, 1, 255, 256, 257])
def test_fit_equals_the_cpu(lane: Lane, count: int) -> None:
    points = landmarks(count)
    matrices = lane.get(kernels.fit(lane, points, np.array(ARCFACE_TEMPLATE)))
    np.testing.assert_allclose(matrices, similarity_matrices(points, spec()), rtol=1e-12, atol=1e-12)
    assert count < 2 or np.isnan(matrices).any()


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("count", [0, 1, 300])
def test_refine_equals_the_cpu(lane: Lane, count: int, dtype: Any) -> None:
    points = landmarks(count)
    scores = RNG(5).random(count).astype(np.float32)
    answers = RNG(6).normal(0, 3, (count, 11)).astype(dtype)
    matrices = _native.fit_similarity(points.astype(np.float64) - 0.5, TEMPLATE)
    new_scores, new_points = _native.refine(answers, matrices, TEMPLATE, scores, points)
    there = [lane.put(array) for array in (answers, matrices, scores, points)]
    kernels.refine(lane, there[0], there[1], TEMPLATE, scores=there[2], landmarks=there[3])
    np.testing.assert_allclose(lane.get(there[2]), new_scores, rtol=1e-6)
    np.testing.assert_allclose(lane.get(there[3]), new_points, rtol=1e-6)


# ---- launching --------------------------------------------------------------------------------------------------------


def test_arguments_as_cuda_core_lays_them_out(emulated: Lane, monkeypatch: pytest.MonkeyPatch) -> None:
    """The addresses that cuda-core would give the driver lead a kernel to the same result."""
    handler = pytest.importorskip("cuda.core._kernel_arg_handler", reason="cuda-core is not installed")

    def launch(kernel: str, blocks: int, arguments: Any) -> None:
        values = [a.pointer if isinstance(a, DeviceArray) else a for a in arguments]
        holder = handler.ParamHolder(values)
        addresses = (ctypes.c_uint64 * len(values)).from_address(holder.ptr)
        emulated.launch_at(kernel, blocks, list(addresses))

    monkeypatch.setattr(emulated, "launch", launch)
    test_gather_equals_the_cpu_build(emulated, (17, 33), "float16")
    test_found_faces_equal_the_cpu_build(emulated, 2, 64, 96, 0.1, np.float16)
    test_paint_of_odd_canvases_and_of_nothing(emulated)
    test_fit_equals_the_cpu(emulated, 257)
    test_refine_equals_the_cpu(emulated, 300, np.float32)


class HostCuda:
    """As much of cuda-core's device, and of the driver, as `CudaLane` asks for, in the host's memory."""

    device_id = 0
    compute_capability = types.SimpleNamespace(major=8, minor=9)

    def __init__(self, emulated: Lane) -> None:
        self.emulated = emulated
        self.launched: list[tuple[str, Any]] = []

    def create_stream(self, stream: Any) -> Any:
        return types.SimpleNamespace(handle=77, sync=lambda: None)

    def allocate(self, size: int, *, stream: Any) -> Any:
        array = self.emulated.empty((size,), np.uint8)
        return types.SimpleNamespace(handle=array.pointer, array=array)

    def driver(self, function: str, to: int, source: int, size: int, stream: int) -> None:
        assert stream == 77
        if function == "cuMemsetD8Async":
            ctypes.memset(to, source, size)
        else:
            assert function in ("cuMemcpyHtoDAsync", "cuMemcpyDtoHAsync", "cuMemcpyDtoDAsync")
            ctypes.memmove(to, source, size)

    def launch(self, stream: Any, config: Any, kernel: str, *values: Any) -> None:
        assert stream.handle == 77 and config.block == (256, 1, 1)
        arguments = [np.uint64(value) if isinstance(value, int) else value for value in values]
        self.launched.append((kernel, config.grid))
        self.emulated.launch(kernel, config.grid[0], arguments)


def test_a_cuda_lane_asks_cuda_core_for_the_right_things(emulated: Lane, monkeypatch: pytest.MonkeyPatch) -> None:
    core = pytest.importorskip("cuda.core", reason="cuda-core is not installed")
    cuda, compiled = HostCuda(emulated), list[str]()
    monkeypatch.setattr(lanes, "current_device", lambda: cuda)
    monkeypatch.setattr(lanes, "_library", lambda device, arch: compiled.append(arch))
    monkeypatch.setattr(lanes, "_kernel", lambda library, name: name)
    monkeypatch.setattr(lanes, "_driver", cuda.driver)
    monkeypatch.setattr(lanes, "pinned", lambda nbytes: np.zeros(max(nbytes, 1), np.uint8))
    monkeypatch.setattr(core, "launch", cuda.launch)
    lane = lanes.CudaLane()
    assert compiled == ["sm_89"]
    chips = kernels.gather(lane, [lane.put(photo) for photo in PHOTOS], OWNER, MATRICES, spec(), dtype=np.uint8)
    expected = kernels.gather(emulated, [emulated.put(p) for p in PHOTOS], OWNER, MATRICES, spec(), dtype=np.uint8)
    np.testing.assert_array_equal(lane.get(chips), emulated.get(expected))
    assert cuda.launched == [("fe_gather_u8", (49 * len(FACES), 1, 1))]
    nobody = kernels.gather(lane, [], OWNER[:0], MATRICES[:0], spec())
    assert lane.get(nobody).shape == (0, 3, 112, 112)
    assert len(cuda.launched) == 1  # no launch of no blocks, which CUDA refuses
    test_found_faces_equal_the_cpu_build(lane, 2, 64, 96, 0.1, np.float16)


def test_the_emulator_notices_barriers_that_not_all_threads_reach(emulated: Lane) -> None:
    out = emulated.empty((256,), np.int32)
    with pytest.raises(AssertionError, match="128 threads ended while 128 wait"):
        emulated.launch("fe_wrong_end", 1, [out])
    with pytest.raises(AssertionError, match="threads of a block wait at lines"):
        emulated.launch("fe_wrong_barriers", 1, [out])
    with pytest.raises(AssertionError, match="wrote outside an array of 64 bytes"):
        emulated.launch("fe_wrong_end_of_array", 1, [emulated.empty((16,), np.int32)])
