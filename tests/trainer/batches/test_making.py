"""Deepfakes made while training: of real faces, new each time, and from their photo's own camera."""

from __future__ import annotations

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
from faceembed.trainer.batches.making import MADE_METHODS, FakeMaker
from faceembed.trainer.batches.tasks import PairTask
from faceembed.trainer.loop.devices import sharing_cores
from faceembed.trainer.recipes.config import read_config

MakeCrops = Callable[..., str]
TEMPLATE = dlib_resnet.TEMPLATE


@pytest.fixture(scope="module")
def faces() -> tuple[np.ndarray, np.ndarray]:
    """Two aligned faces, 150x150: the astronaut, and her mirrored and tinted in another person's stead."""
    from skimage import data

    face = np.ascontiguousarray(data.astronaut()[25:175, 150:300])
    return face, np.ascontiguousarray(face[:, ::-1] // 2 + np.array([70, 40, 20], np.uint8))


@pytest.mark.parametrize("method", MADE_METHODS)
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
        (["data.made=0.5", f"data.leave_out={[*MADE_METHODS]}"], "the fakes are of swap method|no method left"),
    ],
)
def test_refused(make_crops: MakeCrops, tiny: ModelSpec, overrides: list[str], message: str) -> None:
    with pytest.raises(FaceEmbedError, match=message):
        task_of(make_crops, tiny, *[text.replace("'", '"') for text in overrides])
