"""The one-shot detector's own arithmetic, with a network whose answers are known: it takes white cells for faces."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from faceembed.engine.detect import canvas, refine
from faceembed.engine.detect.detections import Detections
from faceembed.engine.detect.oneshot import OneShotDetector, OneShotSettings, decode
from faceembed.engine.detect.yunet import merged
from faceembed.engine.models.graph import GraphWriter
from faceembed.engine.models.oneshot import CHANNELS, OUTPUTS, REFINED, REFINED_CHANNELS, REFINED_SIDE, STRIDES
from faceembed.engine.models.spec import Model, ModelSpec
from faceembed.engine.runtimes.base import RuntimeChoice
from faceembed.engine.runtimes.sessions import open_session

EXACT = RuntimeChoice("openvino", "cpu", "fp32", "a test")
Pixels = NDArray[np.uint8]
MARKS = (refine.TEMPLATE - refine.TEMPLATE.mean(axis=0)) / 64  # in strides, from a cell's point


@pytest.fixture(scope="module")
def white_cells(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A network: at each stride the score is the mean of the cell's pixels, the box the cell, all landmarks a small template in it."""
    writer = GraphWriter("white")
    images = writer.input("images", ["N", 3, "H", "W"])
    for stride, output in zip(STRIDES, OUTPUTS, strict=True):
        weight = np.zeros((CHANNELS, 3, stride, stride))
        weight[0] = 20 / (3 * stride**2)
        bias = np.concatenate([[-10.0], np.full(4, np.log(0.5)), MARKS.reshape(10)])  # white: logit 10, black: -30
        writer.output(writer.conv(images, weight, bias, stride=stride), output, ["N", CHANNELS, "h", "w"])
    write_refiner(writer, np.concatenate([[20.0], np.zeros(10)]))
    path = tmp_path_factory.mktemp("white") / "white.onnx"
    path.write_bytes(writer.serialise())
    return Model(ModelSpec("white", "aligner", (0, 0), decoder="one-shot"), str(path))


def write_refiner(writer: GraphWriter, offsets: NDArray[np.float64]) -> None:
    """A refiner that says the same of every face."""
    weight = np.zeros((REFINED_CHANNELS, 3, REFINED_SIDE, REFINED_SIDE))
    faces = writer.input("faces", ["M", 3, REFINED_SIDE, REFINED_SIDE])
    writer.output(writer.node("Flatten", [writer.conv(faces, weight, offsets)]), REFINED, ["M", REFINED_CHANNELS])


def detector(model: Model, **settings: float) -> OneShotDetector:
    return OneShotDetector(model, EXACT, threads=1, settings=OneShotSettings(**settings))  # type: ignore[arg-type]


def photo(height: int, width: int, *squares: tuple[int, int, int]) -> Pixels:
    """Black, with white squares (left, top, side)."""
    pixels = np.zeros((height, width, 3), np.uint8)
    for left, top, side in squares:
        pixels[top : top + side, left : left + side] = 255
    return pixels


def test_decode_reads_the_channels_as_documented() -> None:
    levels = [np.full((2, CHANNELS, 64 // stride, 96 // stride), -9.0, np.float32) for stride in STRIDES]
    reach, marks = np.array([1.0, 2.0, 3.0, 4.0]), np.arange(10) / 4 - 1
    levels[1][1, :, 2, 3] = np.concatenate([[0.3], np.log(reach), marks])
    found = decode(levels, 0.5)
    assert found.photo.tolist() == [1]
    x, y = 3.5 * 16, 2.5 * 16
    np.testing.assert_allclose(found.boxes[0], [x - 16, y - 32, x + 48, y + 64], rtol=1e-5)
    np.testing.assert_allclose(found.landmarks[0], marks.reshape(5, 2) * 16 + (x, y), rtol=1e-5)
    np.testing.assert_allclose(found.scores, 1 / (1 + np.exp(-0.3)), rtol=1e-5)
    assert len(decode(levels, 0.6)) == 0  # the score is 0.574


def test_decode_survives_absurd_answers() -> None:
    levels = [np.full((1, CHANNELS, 1, 1), 200.0, np.float32) for _ in STRIDES]
    with np.errstate(all="raise", under="ignore"):
        assert np.isfinite(decode(levels, 0.5).boxes).all()


@pytest.mark.parametrize(
    ("height", "width", "side", "shape"),
    [
        (250, 250, 160, (160, 160)),
        (448, 299, 160, (160, 128)),  # 160 x 107: three quarters of 160, rounded up to 32
        (299, 448, 320, (256, 320)),
        (448, 400, 160, (160, 160)),
        (90, 100, 100, (96, 128)),
        (20, 20, 20, (32, 32)),
        (3000, 10, 160, (160, 128)),
    ],
)
def test_canvas_is_the_smallest_that_fits(height: int, width: int, side: float, shape: tuple[int, int]) -> None:
    assert canvas.shape_for(height, width, side=side) == canvas.Shape(*shape)


@pytest.mark.parametrize(("side", "square"), [(160, 160), (150.2, 160), (129, 160), (128, 128), (20, 32)])
def test_small_canvases_are_square(side: float, square: int) -> None:
    assert canvas.square_for(side) == canvas.Shape(square, square)


def test_canvas_holds_the_photo_and_grey() -> None:
    pixels = np.full((50, 100, 3), 200, np.uint8)
    canvases, scales = canvas.paint(canvas.Shape(64, 64), [pixels], np.array([50.0]))
    assert (canvases[0, :25, :50] == 200).all()
    assert (canvases[0, 25:] == canvas.GREY).all() and (canvases[0, :, 50:] == canvas.GREY).all()
    np.testing.assert_allclose(scales, [[0.5, 0.5]])


def test_a_face_is_found_where_it_is(white_cells: Model) -> None:
    """A 32-pixel square in a photo of 320 is one cell of stride 16 in the first look, at half the size."""
    faces = detector(white_cells, first_side=160, blend=0.99).detect(
        [photo(320, 240, (64, 192, 32))], [20], only_largest=True
    )
    assert faces.photo.tolist() == [0]
    np.testing.assert_allclose(faces.boxes, [[64, 192, 96, 224]], atol=1e-3)
    np.testing.assert_allclose(faces.landmarks[0], MARKS * 32 + (80, 208), atol=1e-3)
    assert faces.scores[0] > 0.99


def test_small_faces_are_found_in_the_second_look(white_cells: Model) -> None:
    """8 pixels of 320: nothing in a look of 160, one cell of stride 8 in the photo's own pixels."""
    pixels = photo(320, 320, (80, 160, 8))
    assert (
        len(detector(white_cells, window=4).detect([pixels], [10], only_largest=False)) == 0
    )  # too small to be wanted
    faces = detector(white_cells, window=8).detect([pixels], [8], only_largest=True)
    np.testing.assert_allclose(faces.boxes, [[80, 160, 88, 168]], atol=1e-3)
    assert len(detector(white_cells, window=8, detect_side=160).detect([pixels], [8], only_largest=True)) == 0


def test_canvases_of_small_looks_are_square_and_of_larger_ones_few(
    white_cells: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the photos' forms: four of 256 make a run; above, sides come in steps of 96, 3/4 as high where that fits."""
    runs: list[tuple[int, int, int]] = []
    original = OneShotDetector._scan

    def spy(
        self: OneShotDetector, photos: list[Pixels], shape: canvas.Shape, group: list[int], sides: NDArray[np.float64]
    ) -> Detections:
        runs.append((len(group), shape.height, shape.width))
        return original(self, photos, shape, group, sides)

    monkeypatch.setattr(OneShotDetector, "_scan", spy)
    photos = [photo(250, 250), photo(180, 240), photo(256, 100), photo(250, 200), photo(230, 230), photo(200, 300)]
    detector(white_cells, window=12).detect(photos, [12.0] * 6, only_largest=False)
    assert runs == [(6, 160, 160), (4, 256, 256), (1, 256, 256), (1, 288, 384)]


def test_a_sure_face_ends_the_search(white_cells: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[list[int]] = []
    original = OneShotDetector._look

    def spy(
        self: OneShotDetector, photos: list[Pixels], members: NDArray[np.int64], sides: NDArray[np.float64]
    ) -> Detections:
        looks.append(members.tolist())
        return original(self, photos, members, sides)

    monkeypatch.setattr(OneShotDetector, "_look", spy)
    photos = [photo(320, 320, (128, 128, 64)), photo(320, 320), photo(320, 320, (128, 128, 64), (0, 0, 8))]
    ours = detector(white_cells, window=8, sure=16)
    assert ours.detect(photos, [8] * 3, only_largest=True).photo.tolist() == [0, 2]
    assert looks == [[0, 1, 2], [1]]
    looks.clear()
    faces = ours.detect(photos, [8] * 3, only_largest=False)
    assert looks == [[0, 1, 2], [0, 1, 2]]
    assert (faces.photo == 2).sum() > (faces.photo == 0).sum()


def test_a_photo_is_never_enlarged(white_cells: Model) -> None:
    faces = detector(white_cells, window=8).detect([photo(48, 40, (8, 16, 8))], [8], only_largest=True)
    np.testing.assert_allclose(faces.boxes, [[8, 16, 16, 24]], atol=1e-4)


def test_answers_that_agree_are_averaged() -> None:
    """Two boxes, 0.9 of the union shared: the score of the better, the mean of both weighted by score."""
    pair = Detections(
        np.zeros(3, np.int32),
        np.array([[0, 0, 10, 10], [1, 0, 10, 10], [100, 100, 110, 110]], np.float32),
        np.stack([np.full((5, 2), value, np.float32) for value in (4.0, 7.0, 105.0)]),
        np.array([0.8, 0.4, 0.6], np.float32),
    )
    blended = merged(pair, overlap=0.45, blend=0.6)
    np.testing.assert_allclose(blended.scores, [0.8, 0.6])
    np.testing.assert_allclose(blended.boxes[0], [1 / 3, 0, 10, 10], rtol=1e-5)
    np.testing.assert_allclose(blended.landmarks[0], 5.0, rtol=1e-5)
    np.testing.assert_allclose(blended.landmarks[1], 105.0)


def test_no_photo_no_face(white_cells: Model) -> None:
    ours = detector(white_cells)
    assert len(ours.detect([], [], only_largest=True)) == 0
    assert len(ours.detect([photo(40, 40)], [20], only_largest=True)) == 0


def test_batches_do_not_matter(white_cells: Model) -> None:
    rng = np.random.default_rng(4)
    photos = []
    for height, width in rng.integers(40, 400, (40, 2)).tolist():
        left, top = rng.integers(0, 30, 2).tolist()
        photos.append(photo(height, width, (left, top, 9 + len(photos))))
    ours = detector(white_cells, window=8)
    together = ours.detect(photos, [8] * 40, only_largest=False)
    alone = [ours.detect([pixels], [8], only_largest=False) for pixels in photos]
    assert len(together) > 40
    assert np.bincount(together.photo, minlength=40).tolist() == [len(faces) for faces in alone]
    np.testing.assert_allclose(together.boxes, np.concatenate([faces.boxes for faces in alone]), atol=1e-3)


def test_refined_landmarks_move_with_the_face(tmp_path: Path) -> None:
    """A face of twice the template's size, turned by 30 degrees; the refiner says: a face, each point a pixel to the right."""
    writer = GraphWriter("shift")
    write_refiner(writer, np.array([0.4] + [1.0, 0.0] * 5))
    (tmp_path / "shift.onnx").write_bytes(writer.serialise())
    model = Model(ModelSpec("shift", "aligner", (0, 0), decoder="one-shot"), str(tmp_path / "shift.onnx"))
    session = open_session(model, EXACT, outputs=(REFINED,), threads=1)
    angle = np.pi / 6
    turn = 2 * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    landmarks = (refine.TEMPLATE - 28) @ turn.T + (70, 60)
    flat = np.full((5, 2), 3.0)  # spans no face: it stays where it is, and its score is 0
    faces = Detections(
        np.array([1, 0], np.int32),
        np.zeros((2, 4), np.float32),
        np.stack([landmarks, flat]).astype(np.float32),
        np.array([0.9, 0.8], np.float32),
    )
    moved = refine.refine(session, [photo(50, 50), photo(120, 140)], faces)
    np.testing.assert_allclose(moved.landmarks[0], landmarks + turn @ (1, 0), atol=1e-3)
    np.testing.assert_array_equal(moved.landmarks[1], flat)
    np.testing.assert_allclose(moved.scores, [1 / (1 + np.exp(-0.4)), 0], rtol=1e-5)  # the lower of both
    sure = refine.refine(session, [photo(50, 50), photo(120, 140)], faces.take(np.array([True, False])))
    np.testing.assert_allclose(sure.scores, [0.598688], rtol=1e-5)
    assert len(refine.refine(session, [], Detections.none())) == 0
    np.testing.assert_allclose(np.linalg.norm(refine.TEMPLATE[1] - refine.TEMPLATE[0]), refine.EYES, rtol=1e-4)
    np.testing.assert_allclose(refine.TEMPLATE.mean(axis=0), (REFINED_SIDE - 1) / 2)
