"""Deepfakes made while training: of real faces, new each time, and from their photo's own camera."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_info

from faceembed.engine.models import dlib_resnet
from faceembed.engine.models.spec import ModelSpec
from faceembed.errors import DataError, FaceEmbedError
from faceembed.trainer.batches import making
from faceembed.trainer.batches.augment import generator
from faceembed.trainer.batches.dataset import CropCache, divide, open_crops
from faceembed.trainer.batches.making import ALL_METHODS, MADE_METHODS, FakeMaker
from faceembed.trainer.batches.quick_fakes import QUICK_METHODS, face_mask
from faceembed.trainer.batches.tasks import PairTask
from faceembed.trainer.loop.devices import sharing_cores
from faceembed.trainer.recipes.config import read_config
from faceembed.trainer.recipes.crops import Augment

MakeCrops = Callable[..., str]
TEMPLATE = dlib_resnet.TEMPLATE


@pytest.fixture(scope="module")
def faces() -> tuple[np.ndarray, np.ndarray]:
    """Two aligned faces, 150x150: the astronaut, and her mirrored and tinted in another person's stead."""
    from skimage import data

    face = np.ascontiguousarray(data.astronaut()[25:175, 150:300])
    return face, np.ascontiguousarray(face[:, ::-1] // 2 + np.array([70, 40, 20], np.uint8))


@pytest.mark.parametrize("method", ALL_METHODS)
def test_a_fake_keeps_most_of_its_canvas(method: str, faces: tuple[np.ndarray, np.ndarray], monkeypatch: Any) -> None:
    monkeypatch.setattr(making, "_camera", lambda crops, rng: list(crops))
    face, other = faces
    changed = []
    for number in range(6):
        photo, fake = FakeMaker(TEMPLATE, methods=(method,)).pair(face, other, generator(number))
        assert photo is face and fake.shape == face.shape and fake.dtype == np.uint8
        canvas = other if method == "swap" else face
        changed.append((np.abs(fake.astype(int) - canvas) > 2).any(2))
    shares = [part.mean() for part in changed]
    assert all(share > 0.01 for share in shares)
    assert np.mean(shares) < 0.95 and all(part[75, 75] or part[45:105, 40:110].any() for part in changed)


@pytest.mark.parametrize("method", QUICK_METHODS)
def test_a_quick_fake_shows_whom_it_says(method: str, faces: tuple[np.ndarray, np.ndarray]) -> None:
    """Of the other face nothing is in `blend`, and where the outline lies everything in `paste`; `tint` is nearer in colour, `ghost` between."""
    face, _ = faces
    green = np.zeros_like(face)
    green[..., 1] = 200  # another "person", whom no colours of this photo look like
    points = np.array(TEMPLATE)
    fakes = [QUICK_METHODS[method](face, green, points, generator(number)) for number in range(8)]
    assert all(
        fake.shape == face.shape and fake.dtype == np.uint8 and not np.shares_memory(fake, face) for fake in fakes
    )
    moved = np.mean([np.abs(fake.astype(int) - face)[40:110, 40:110].mean() for fake in fakes])
    low, high = {"blend": (0.3, 20), "paste": (25, 140), "tint": (10, 90), "ghost": (4, 60)}[method]
    assert low < moved < high
    assert np.array_equal(fakes[3], QUICK_METHODS[method](face, green, points, generator(3)))


def test_outlines_are_ragged_and_within_the_face() -> None:
    masks = np.stack([face_mask(150, 150, np.array(TEMPLATE), generator(number)) for number in range(60)])
    assert masks.dtype == np.float32 and masks.min() >= 0 and masks.max() <= 1
    shares = masks.mean((1, 2))
    assert shares.min() > 0.02 and shares.max() < 0.7 and shares.std() > 0.05
    assert (masks[:, [0, 0, -1, -1], [0, -1, 0, -1]].mean(0) < 0.1).all()  # the chip is cut as tight as a face
    assert len(np.unique(shares.round(4))) > 55


def test_what_is_drawn_is_all_that_decides(faces: tuple[np.ndarray, np.ndarray]) -> None:
    maker, again = FakeMaker(TEMPLATE), FakeMaker(TEMPLATE)
    one, two = maker.pair(*faces, generator(7)), again.pair(*faces, generator(7))
    assert all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))
    assert not np.array_equal(one[1], maker.pair(*faces, generator(8))[1])
    assert all(not np.shares_memory(part, face) for part in one for face in faces)


def test_photo_and_fake_come_out_of_one_camera(faces: tuple[np.ndarray, np.ndarray]) -> None:
    """Where the fake left its photo alone, the two differ by no more than what their JPEGs' blocks carry over from elsewhere."""
    for number in range(12):
        photo, fake = FakeMaker(TEMPLATE, methods=("transplant",)).pair(*faces, generator(number))
        assert (
            np.array_equal(photo[:8, :8], fake[:8, :8]) or np.abs(photo[:8, :8].astype(int) - fake[:8, :8]).mean() < 2
        )
        assert not np.array_equal(photo, fake)


def test_the_camera_itself_leaves_the_picture_in_place(faces: tuple[np.ndarray, np.ndarray]) -> None:
    for number in range(20):
        seen = making._camera([faces[0]], generator(number))[0].astype(float)
        error = [np.abs(np.roll(seen, shift, 1) - faces[0])[8:-8, 8:-8].mean() for shift in (-1, 0, 1)]
        assert error[1] < 12 and error[1] < min(error[0], error[2])


def test_no_method(faces: tuple[np.ndarray, np.ndarray]) -> None:
    with pytest.raises(DataError, match="no method left"):
        FakeMaker(TEMPLATE, methods=())


def test_a_method_that_never_works_is_an_error(faces: tuple[np.ndarray, np.ndarray], monkeypatch: Any) -> None:
    def fail(*_: Any) -> None:
        raise np.linalg.LinAlgError("Singular matrix")

    monkeypatch.setattr(making, "METHODS", {"swap": fail})
    with pytest.raises(DataError, match="by swap: Singular matrix"):
        FakeMaker(TEMPLATE, methods=("swap",)).pair(*faces, generator(1))


def task_of(make_crops: MakeCrops, tiny: ModelSpec, *overrides: str) -> PairTask:
    real, fakes = make_crops("a"), make_crops("f", methods=("swap",))
    options = [f"data.crops=['{real}']", f"data.fakes=['{fakes}']", "loop.batch_size=8", "data.ratios=[30,40,30]"]
    config = read_config("finetune", overrides=[*options, *overrides])
    crops = open_crops(config.data, tiny)
    return PairTask(CropCache(crops, limit_mb=8), divide(crops, config).train, config)


def test_only_pairs_with_a_fake_are_made_anew(make_crops: MakeCrops, tiny: ModelSpec) -> None:
    plain, made = task_of(make_crops, tiny), task_of(make_crops, tiny, "data.made=1.0")
    plan = plain.plan(1)
    assert len(plan) > 1
    for batch in plan:
        one, two = plain.load(batch), made.load(batch)
        assert all(np.array_equal(one[name], two[name]) for name in ("labels", "same", "fake"))
        pair_of_fake = np.tile(one["fake"][len(one["fake"]) // 2 :], 2)
        differs = (one["chips"] != two["chips"]).any(axis=(1, 2, 3))
        assert not differs[~pair_of_fake].any()
        assert differs[one["fake"]].all()
        again = made.load(batch)
        assert np.array_equal(two["chips"], again["chips"])
        assert np.array_equal(one["collected"], pair_of_fake) and not two["collected"].any()


def test_everyday_changes_are_those_of_both_crops_of_a_pair(make_crops: MakeCrops, tiny: ModelSpec) -> None:
    """A photo beside itself stays beside itself, whatever happened to both."""
    none = {
        field.name: 0.0
        for field in dataclasses.fields(Augment)
        if field.type == "float" and field.name not in ("shrink", "night")
    }
    still = ["data.made=0.0", *(f"augment.{name}={share}" for name, share in none.items())]
    plain = task_of(make_crops, tiny, *still)
    changed = task_of(make_crops, tiny, *still, "augment.everyday_share=1.0", "augment.cover_share=0.3")
    batch = plain.plan(1)[0]
    twice = dataclasses.replace(batch, crops=np.tile(batch.crops[: len(batch.places)], 2))
    before, after = plain.load(twice)["chips"], changed.load(twice)["chips"]
    first, second = np.split(after, 2)
    assert np.array_equal(first, second)
    assert (after != before).any(axis=(1, 2, 3)).mean() > 0.4
    again = changed.load(dataclasses.replace(twice, epoch=2))["chips"]
    assert (again != after).any()


@pytest.mark.parametrize(("device", "making", "expected"), [("cpu", True, 2), ("cpu", False, 4), ("cuda", True, 4)])
def test_making_leaves_cores_to_those_who_make(device: str, making: bool, expected: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        with pytest.raises(KeyError), sharing_cores(torch.device(device), making=making):
            assert torch.get_num_threads() == expected
            blas = [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]
            assert blas and (not making or set(blas) == {1})
            raise KeyError
        assert torch.get_num_threads() == 4
    finally:
        torch.set_num_threads(before)


def test_a_share_of_them(make_crops: MakeCrops, tiny: ModelSpec) -> None:
    plain, half = task_of(make_crops, tiny), task_of(make_crops, tiny, "data.made=0.5")
    differs: list[bool] = []
    for epoch in range(1, 10):
        for batch in plain.plan(epoch):
            one, two = plain.load(batch), half.load(batch)
            differs += (one["chips"] != two["chips"]).any(axis=(1, 2, 3))[one["fake"]].tolist()
    assert len(differs) > 60 and np.mean(differs) == pytest.approx(0.5, abs=0.2)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data.made=1.5"], "data.made is 1.5; expected a share"),
        (["data.made=0.5", "data.methods=['wax']"], "data.methods: 'wax' is unknown; known are selfblend, .*ghost"),
        (["authenticity.collected_smoothing=0.5"], "authenticity.collected_smoothing is 0.5; expected in"),
        (["data.made=0.5", f"data.leave_out={[*MADE_METHODS]}"], "the fakes are of swap method|no method left"),
    ],
)
def test_refused(make_crops: MakeCrops, tiny: ModelSpec, overrides: list[str], message: str) -> None:
    with pytest.raises(FaceEmbedError, match=message):
        task_of(make_crops, tiny, *[text.replace("'", '"') for text in overrides])
