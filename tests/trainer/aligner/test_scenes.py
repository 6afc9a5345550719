"""Scenes: what the labels say is where the pixels have it, whatever was cut, scaled, turned and mirrored."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from faceembed.trainer.aligner.labels import LabelledPhoto
from faceembed.trainer.aligner.scenes import Composer, SceneSettings, mirrored
from faceembed.trainer.batches.augment import generator

from .conftest import DOTS, centre_of

PLAIN = SceneSettings(side=192, cuts=0, least=0.2, hidden_share=0.0, background=0.0, turned_share=0.3)


def composer(photos: list[LabelledPhoto], settings: SceneSettings = PLAIN, *, memory: float = 1.0) -> Composer:
    return Composer(photos, {"photos": 1.0}, settings, memory=memory)


def test_labels_lie_on_their_dots(some: list[LabelledPhoto]) -> None:
    """One photo a scene: every landmark that is in view has its colour's dot there."""
    ours, apart = composer(some), []
    for index in range(60):
        scene = ours.compose(generator(3, index))
        if len(scene.boxes) != 1:
            continue
        side = np.sqrt((scene.boxes[0, 2:] - scene.boxes[0, :2]).prod())
        inside = ((scene.landmarks[0] > side / 10) & (scene.landmarks[0] < 192 - side / 10)).all(axis=1)
        for point, colour, seen in zip(scene.landmarks[0], DOTS, inside, strict=True):
            if seen and side > 40:
                corner = np.maximum(np.round(point - side / 10), 0).astype(int)
                around = scene.pixels[corner[1] :, corner[0] :][: round(side / 5), : round(side / 5)]
                apart.append(np.linalg.norm(centre_of(around, colour) + corner - point) / side)
    assert len(apart) > 60
    assert np.nanmax(apart) < 0.03  # of the face's side: dots are 0.07 wide and drawn at whole pixels


def test_mirrored_scene_matches_its_pixels(some: list[LabelledPhoto]) -> None:
    scene = next(s for s in (composer(some).compose(generator(5, i)) for i in range(50)) if len(s.boxes) == 1)
    turned = mirrored(scene)
    back = mirrored(turned)
    np.testing.assert_array_equal(back.pixels, scene.pixels)
    np.testing.assert_allclose(back.landmarks, scene.landmarks, atol=1e-4)
    np.testing.assert_allclose(back.boxes, scene.boxes, atol=1e-4)
    # left stays left as seen in the image, although the dots have changed sides
    np.testing.assert_allclose(turned.landmarks[0, 0, 0], 192 - scene.landmarks[0, 1, 0], atol=1e-4)
    assert turned.landmarks[0, 0, 0] < turned.landmarks[0, 1, 0] or scene.landmarks[0, 0, 0] > scene.landmarks[0, 1, 0]


def test_same_draw_same_scene_with_and_without_memory(some: list[LabelledPhoto]) -> None:
    settings = dataclasses.replace(PLAIN, cuts=8, hidden_share=0.5, background=0.3)
    kept, read = composer(some, settings), composer(some, settings, memory=0.0)
    for index in range(5):
        a, b = kept.compose(generator(1, index)), read.compose(generator(1, index))
        np.testing.assert_array_equal(a.pixels, b.pixels)
        np.testing.assert_array_equal(a.boxes, b.boxes)
    assert not np.array_equal(kept.compose(generator(1, 0)).pixels, kept.compose(generator(2, 0)).pixels)


def test_faces_of_all_sizes(some: list[LabelledPhoto]) -> None:
    ours = composer(some, SceneSettings(side=192))
    boxes = np.concatenate([ours.compose(generator(0, index)).boxes for index in range(150)])
    sides = np.sqrt((boxes[:, 2:] - boxes[:, :2]).prod(axis=1))
    assert sides.min() < 14 and sides.max() > 150
    assert (sides >= 8).all()


def test_what_is_hardly_seen_is_doubtful(dotted: Callable[..., LabelledPhoto]) -> None:
    """A face of which less than half is in view is neither learnt nor background."""
    photo = dotted("one", 200, 200, 60, 60, 80)
    ours = composer([photo], dataclasses.replace(PLAIN, whole_share=0.0, largest=1.0))
    kinds = {"learnt": 0, "doubtful": 0}
    for index in range(80):
        scene = ours.compose(generator(9, index))
        kinds["learnt"] += len(scene.boxes)
        kinds["doubtful"] += len(scene.doubtful)
        assert len(scene.boxes) + len(scene.doubtful) == 1  # its centre was put in view
        if len(scene.boxes):
            box = scene.boxes[0]
            seen = np.clip(box.reshape(2, 2), 0, 192)
            assert (seen[1] - seen[0]).prod() >= 0.49 * (box[2:] - box[:2]).prod()
    assert kinds["learnt"] > 40 and kinds["doubtful"] > 3
