"""Scenes as they come in life: what is worn before a face, tight crops, wide turns, faces from the side, photos of nobody."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

from faceembed.errors import DataError
from faceembed.trainer.aligner.config import AlignerConfig, AlignerData
from faceembed.trainer.aligner.coverings import cover
from faceembed.trainer.aligner.false_alarms import mostly_empty
from faceembed.trainer.aligner.labels import LabelledPhoto, write_labels
from faceembed.trainer.aligner.refiner import Faces, RefinerSettings, cut_faces
from faceembed.trainer.aligner.scenes import Composer, SceneSettings, mirrored
from faceembed.trainer.aligner.train import composer
from faceembed.trainer.batches.augment import generator
from faceembed.trainer.recipes.crops import Augment

from .conftest import FACE

PLAIN = SceneSettings(side=160, cuts=0, least=0.5, hidden_share=0.0, background=0.0, turn=0.0)


@pytest.mark.parametrize("degrees", [0, 60, -90])
def test_coverings_stay_near_the_face_and_cover_all_of_its_parts(degrees: float) -> None:
    """Drawn often enough, every landmark is covered and left bare; what is far from the face never changes."""
    turn = np.deg2rad(degrees)
    middle = np.array([150, 150], np.float32)
    points = (FACE * 100 - 50) @ np.array([(np.cos(turn), np.sin(turn)), (-np.sin(turn), np.cos(turn))]) + middle
    box = np.concatenate([middle - 50, middle + 50]).astype(np.float32)
    hidden = np.zeros(5)
    for number in range(60):
        before = generator(2, number).integers(0, 256, (300, 300, 3), np.uint8)
        canvas = before.copy()
        cover(canvas, box, points.astype(np.float32), generator(1, number))
        changed = (canvas != before).any(axis=2)
        assert not changed[:40].any() or not changed[-40:].any()
        assert 0.002 < changed.mean() < 0.35
        x, y = np.round(points - 0.5).astype(int).T
        hidden += changed[y, x]
    assert (hidden > 5).all() and (hidden < 55).all()


def test_what_is_no_face_is_left_alone() -> None:
    canvas = np.full((40, 40, 3), 90, np.uint8)
    cover(canvas, np.array([0, 0, 20, 20], np.float32), np.full((5, 2), 10, np.float32), generator(1))
    assert (canvas == 90).all()


def test_dressed_scenes_keep_their_labels(some: list[LabelledPhoto]) -> None:
    bare = Composer(some, {"photos": 1.0}, PLAIN, memory=1.0)
    dressed = Composer(some, {"photos": 1.0}, dataclasses.replace(PLAIN, dressed_share=1.0), memory=1.0)
    differ = 0
    for index in range(10):
        a, b = bare.compose(generator(1, index)), dressed.compose(generator(1, index))
        np.testing.assert_array_equal(a.landmarks, b.landmarks)
        differ += not np.array_equal(a.pixels, b.pixels)
    assert differ >= 9


def test_tight_crops_are_filled_by_their_face(some: list[LabelledPhoto]) -> None:
    ours = Composer(some, {"photos": 1.0}, dataclasses.replace(PLAIN, tight_share=1.0, magnify=9.0), memory=1.0)
    overfull = 0
    for index in range(40):
        scene = ours.compose(generator(2, index))
        assert len(scene.boxes) + len(scene.doubtful) == 1
        left = (scene.pixels.reshape(-1, 3) != scene.pixels[-1, -1]).any(axis=1).reshape(160, 160)
        rows, columns = np.nonzero(left)
        crop = float(np.sqrt((np.ptp(rows) + 1) * (np.ptp(columns) + 1)))
        for box in scene.boxes:
            side = float(np.sqrt((box[2:] - box[:2]).prod()))
            overfull += side > crop
            assert side > 0.6 * crop
    assert overfull > 8


def test_wide_turns_and_weights_go_with_their_landmarks(some: list[LabelledPhoto]) -> None:
    weighted = [dataclasses.replace(p, weights=np.array([[0.1, 0.2, 0.3, 0.4, 0.5]], np.float32)) for p in some]
    ours = Composer(weighted, {"photos": 1.0}, dataclasses.replace(PLAIN, wide_share=1.0), memory=1.0)
    angles, turned = [], set()
    for index in range(60):
        scene = ours.compose(generator(3, index))
        if len(scene.boxes):
            along = scene.landmarks[0, 1] - scene.landmarks[0, 0]
            angles.append(float(np.degrees(np.arctan2(along[1], along[0]))))
            turned.add(tuple(np.round(scene.weights[0].tolist(), 3).tolist()))
            np.testing.assert_array_equal(mirrored(mirrored(scene)).weights, scene.weights)
    assert -45.1 <= min(angles) < -30 and 30 < max(angles) <= 45.1
    assert turned == {(0.1, 0.2, 0.3, 0.4, 0.5), (0.2, 0.1, 0.3, 0.5, 0.4)}  # as photos were mirrored or not


def test_faces_from_the_side_are_drawn_more_often(dotted: Callable[..., LabelledPhoto]) -> None:
    front = [dotted(f"f{index}", 200, 200, 60, 60, 80) for index in range(3)]
    side = dotted("side", 200, 200, 60, 60, 81)
    side.landmarks[0, 2, 0] = side.landmarks[0, 1, 0]  # the nose below an eye
    for times, expected in ((1.0, 0.25), (5.0, 5 / 8)):
        ours = Composer([*front, side], {"photos": 1.0}, dataclasses.replace(PLAIN, side_times=times), memory=1.0)
        scenes = [ours.compose(generator(4, index)) for index in range(200)]
        turned = [abs(float(s.landmarks[0, 2, 0] - s.landmarks[0, :2, 0].mean())) > 5 for s in scenes if len(s.boxes)]
        assert abs(np.mean(turned) - expected) < 0.12


def test_photos_of_nobody_are_background(some: list[LabelledPhoto], tmp_path: object) -> None:
    none = np.zeros((0, 4), np.float32)
    nobody = [
        dataclasses.replace(
            p,
            group="empty",
            boxes=none,
            landmarks=np.zeros((0, 5, 2), np.float32),
            weights=np.zeros((0, 5), np.float32),
        )
        for p in some
    ]
    path = f"{tmp_path}/l.parquet"
    write_labels(path, nobody)
    config = AlignerConfig(data=AlignerData((path,), empty=("empty",)), scenes=PLAIN)
    scene = composer(config, (path,)).compose(generator(1))
    assert len(scene.boxes) == len(scene.doubtful) == 0 and scene.pixels.std() > 0
    with pytest.raises(DataError, match="no faces of any group"):  # nobody said that they show nobody
        composer(AlignerConfig(data=AlignerData((path,)), scenes=PLAIN), (path,))


def test_the_refiner_learns_covered_faces_too(some: list[LabelledPhoto]) -> None:
    faces = cut_faces(some, 20.0)
    none = dataclasses.replace(faces, pixels=faces.pixels[:0], marks=faces.marks[:0])
    made = [
        Faces(faces, none, RefinerSettings(dressed_share=share), Augment(flip=0), seed=1, length=30) for share in (0, 1)
    ]
    before = faces.pixels.copy()
    differ = sum(not np.array_equal(made[0][index][0], made[1][index][0]) for index in range(30))
    assert differ > 20
    np.testing.assert_array_equal(faces.pixels, before)  # what is kept is not painted


@pytest.mark.parametrize(
    ("shares", "expected"),
    [((0.5, 0.3, 0.2), (0.625, 0.375, 1.0)), ((0.5, 0.5, 0.0), (0.5, 0.5, 0.0)), ((), ())],
)
def test_false_alarms_are_looked_for_where_nobody_is(shares: tuple[float, ...], expected: tuple[float, ...]) -> None:
    data = AlignerData(groups=("a", "b", "empty"), shares=shares, empty=("empty",))
    assert mostly_empty(data).shares == pytest.approx(expected)
