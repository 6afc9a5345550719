"""What a batch holds and in which order: sampling, loading ahead, the cache of crops."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest

from faceembed.engine.models.spec import ModelSpec
from faceembed.errors import DataError
from faceembed.trainer.batches.augment import generator
from faceembed.trainer.batches.dataset import CropCache, divide, open_crops
from faceembed.trainer.batches.loader import ahead
from faceembed.trainer.batches.sampling import batches, class_order
from faceembed.trainer.batches.tasks import ClassTask, PairTask
from faceembed.trainer.recipes.config import read_config
from faceembed.trainer.recipes.crops import Data

LABELS = np.repeat(np.arange(5), [1, 2, 4, 8, 16])
MakeCrops = Callable[..., str]


def test_every_photo_once() -> None:
    order = class_order(LABELS, Data(), generator(0))
    assert sorted(order.tolist()) == list(range(31))
    assert not np.array_equal(order, class_order(LABELS, Data(), generator(1)))
    assert np.array_equal(order, class_order(LABELS, Data(), generator(0)))


def test_every_person_equally_often() -> None:
    order = class_order(LABELS, Data(sampling="people"), generator(0))
    people = Counter(LABELS[order].tolist())
    assert len(order) == 31 and max(people.values()) - min(people.values()) <= 1
    assert max(Counter(order[LABELS[order] == 3].tolist()).values()) == 1  # 6 or 7 of 8 photos, none twice


def test_groups_stay_together() -> None:
    order = class_order(LABELS, Data(sampling="groups", group=4), generator(0))
    groups = LABELS[order].reshape(-1, 4)
    assert (groups == groups[:, :1]).all()
    assert len(order) == 32
    whole = [row for row in order.reshape(-1, 4) if LABELS[row[0]] >= 2]
    assert all(len(set(row.tolist())) == 4 for row in whole)


@pytest.mark.parametrize(("count", "size", "processes"), [(100, 8, 1), (100, 8, 3), (24, 8, 3), (5, 8, 1)])
def test_batches_are_shared_out(count: int, size: int, processes: int) -> None:
    shares = [batches(count, size=size, processes=processes, process=process) for process in range(processes)]
    assert len({len(share) for share in shares}) == 1
    flat = np.concatenate([part for step in zip(*shares, strict=True) for part in step])
    assert np.array_equal(flat, np.arange(len(flat)))
    assert count - len(flat) < size * processes


def test_too_few_for_several_processes() -> None:
    with pytest.raises(DataError, match="5 items are fewer than one batch of 8 for each of 2 processes"):
        batches(5, size=8, processes=2)


def test_ahead_keeps_the_order_and_the_bound() -> None:
    begun: list[int] = []
    most: list[int] = []

    def make(item: int) -> int:
        begun.append(item)
        time.sleep(0.001 * (item % 3))
        return item * item

    for taken, result in enumerate(ahead(range(30), make, threads=3, depth=2)):
        assert result == taken * taken
        most.append(len(begun) - taken)
    assert max(most) <= 6  # 3 in the making, 2 ready, 1 taken


def test_ahead_raises_in_its_place_and_ends_its_threads() -> None:
    def make(item: int) -> int:
        if item == 2:
            raise ValueError("two")
        return item

    results = ahead(range(10), make, threads=2)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ValueError, match="two"):
        next(results)
    left = ahead(range(100), make, threads=2)
    next(left)
    left.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("faceembed-loader")]


def test_the_cache_holds_no_more_than_it_may(make_crops: MakeCrops, tiny: ModelSpec) -> None:
    crops = open_crops(Data(crops=(make_crops("a"),)), tiny)
    cache = CropCache(crops, limit_mb=1)
    cache._room = 3
    first = [cache[index].copy() for index in range(10)]
    assert len(cache._kept) == 3
    assert all(np.array_equal(cache[index], first[index]) for index in range(10))
    assert cache[0] is cache[0] and cache[9] is not cache[9]
    assert not cache[0].flags.writeable


def test_epochs_are_functions_of_seed_and_number(make_crops: MakeCrops, tiny: ModelSpec) -> None:
    real, fakes = make_crops("a"), make_crops("f", methods=("swap", "blend"))
    overrides = [f"data.crops=['{real}']", f"data.fakes=['{fakes}']", "loop.batch_size=8", "augment.noise_share=1"]
    for command, kind in (("pretrain", ClassTask), ("finetune", PairTask)):
        config = read_config(command, overrides=overrides)
        crops = open_crops(config.data, tiny)
        parts = divide(crops, config)
        assert not set(crops.person[parts.train]) & set(crops.person[parts.validate])
        tasks = [kind(CropCache(crops, limit_mb=limit), parts.train, config) for limit in (0, 8)]
        plans = [task.plan(3) for task in tasks]
        for one, two in zip(*plans, strict=True):
            a, b = tasks[0].load(one), tasks[1].load(two)
            assert a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)
        again = tasks[0].plan(4)
        assert any(not np.array_equal(x.crops, y.crops) for x, y in zip(plans[0], again, strict=True))


def test_pairs_hold_what_they_say(make_crops: MakeCrops, tiny: ModelSpec) -> None:
    real, fakes = make_crops("a"), make_crops("f", methods=("swap",))
    config = read_config(
        "finetune", overrides=[f"data.crops=['{real}']", f"data.fakes=['{fakes}']", "loop.batch_size=8"]
    )
    crops = open_crops(config.data, tiny)
    task = PairTask(CropCache(crops, limit_mb=8), divide(crops, config).train, config)
    arrays = [task.load(batch) for batch in task.plan(1)]
    same, fake = (np.concatenate([a[name] for a in arrays]) for name in ("same", "fake"))
    assert same.mean() == pytest.approx(0.5, abs=0.1) and fake.mean() == pytest.approx(0.125, abs=0.05)
    for batch in arrays:
        first, second = np.split(batch["labels"], 2)
        assert np.array_equal(batch["same"], first == second)  # a fake has a label of its own
        assert not batch["fake"][: len(first)].any()
        assert (batch["labels"][batch["fake"]] >= len(crops.persons)).all()


def test_labels_are_those_of_people_with_enough_photos(make_crops: MakeCrops, tiny: ModelSpec) -> None:
    crops = open_crops(Data(crops=(make_crops("a", photos=3), make_crops("b", people=(20, 21), photos=2))), tiny)
    config = read_config("pretrain", overrides=["data.min_photos=3", "loop.batch_size=4"])
    task = ClassTask(CropCache(crops, limit_mb=8), np.arange(len(crops)), config)
    assert task.classes == 8
    seen = {(crops.samples[task.crops[i]].person, int(label)) for i, label in enumerate(task._labels)}
    assert sorted(seen) == [(f"p{number:02d}", number) for number in range(8)]


def test_both_people_of_a_fake_are_on_one_side(make_crops: MakeCrops, tiny: ModelSpec) -> None:
    real, fakes = make_crops("a"), make_crops("f", methods=("swap",), others=True)
    config = read_config("finetune", overrides=[f"data.crops=['{real}']", f"data.fakes=['{fakes}']"])
    crops = open_crops(config.data, tiny)
    parts = divide(crops, config)
    for part in (parts.train, parts.validate):
        inside = {crops.samples[index].person for index in part}
        assert all(crops.samples[index].other in inside for index in part if crops.fake[index])
    assert len(parts.train) + len(parts.validate) < len(crops)  # fakes across the border are used by neither
