"""The network with its losses, optimisers, rates and averages."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn

from faceembed.engine.models.spec import ModelSpec
from faceembed.errors import UsageError
from faceembed.trainer.backbones import registry
from faceembed.trainer.batches.dataset import Crops
from faceembed.trainer.data.sampler import DrawnPairs
from faceembed.trainer.data.samples import Sample
from faceembed.trainer.loop.balance import balance_weights
from faceembed.trainer.loop.centre import centre_embeddings
from faceembed.trainer.loop.learner import Learner, make_learner
from faceembed.trainer.loop.optim import MovingAverage, Schedule, make_optimizer
from faceembed.trainer.loop.start import make_start
from faceembed.trainer.loop.validate import ValidationSet, check_leaks
from faceembed.trainer.recipes import settings, steps
from faceembed.trainer.recipes.config import read_config

BASE = ["model.start=''", "model.centre=0", "model.balance=false", "model.arch=tiny", "distillation.weight=0"]


def learner(task: str, *overrides: str, classes: int = 5) -> Learner:
    config = read_config(task, overrides=[*BASE, *overrides])
    torch.manual_seed(0)
    return make_learner(config, make_start(config.model), classes=classes)


def batch(pairs: int = 6, side: int = 24) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    chips = torch.randint(0, 256, (2 * pairs, side, side, 3), generator=generator).to(torch.uint8)
    fake = torch.zeros(2 * pairs, dtype=torch.bool)
    fake[-2:] = True
    same = torch.arange(pairs) < pairs // 2
    return {"chips": chips, "labels": torch.arange(2 * pairs) % 5, "same": same, "fake": fake}


def test_the_whole_loss_is_the_weighted_sum(tiny: ModelSpec) -> None:
    model = learner(
        "finetune", "loss.weight=2", "batch_loss.name=triplet", "batch_loss.weight=0.5", "adversarial.weight=0.25"
    )
    parts = model(**batch())
    assert list(parts) == ["loss", *model.part_names] == ["loss", "pair", "batch", "adversarial"]
    wanted = 2 * parts["pair"] + 0.5 * parts["batch"] + 0.25 * parts["adversarial"]
    assert float(parts["loss"].detach()) == pytest.approx(float(wanted), rel=1e-6)
    assert parts["adversarial"] > 2 * parts["pair"] + 0.5 * parts["batch"]  # the attack has made it worse
    parts["loss"].backward()
    assert all(parameter.grad is not None for parameter in model.body.parameters())


def test_losses_are_full_precision_under_autocast(tiny: ModelSpec) -> None:
    model = learner("finetune")
    with torch.autocast("cpu", torch.bfloat16):
        parts = model(**batch())
    assert {value.dtype for value in parts.values()} == {torch.float32}


def test_the_attack_leaves_statistics_alone(tiny: ModelSpec) -> None:
    plain, attacked = learner("pretrain"), learner("pretrain", "adversarial.weight=1e-9", "adversarial.steps=3")
    given = {name: batch()[name] for name in ("chips", "labels")}
    plain(**given)
    attacked(**given)
    one, two = plain.losses["class"].state_dict(), attacked.losses["class"].state_dict()
    assert one["batch_mean"] != 20
    # The attacked crops themselves count; the three looks for them do not.
    assert attacked.body[1].num_batches_tracked == 2 == 2 * plain.body[1].num_batches_tracked
    assert abs(float(two["batch_mean"] - one["batch_mean"])) < 0.5


def test_a_teacher_holds_real_photos_only(tiny: ModelSpec) -> None:
    config = read_config(
        "finetune", overrides=[*BASE, "distillation.weight=1", "model.start=x.pt", "model.batch_norm=train"]
    )
    start = make_start(settings.Model(arch="tiny"))
    model = make_learner(config, start, classes=5).eval()
    given = batch()
    held = model(**given)["distillation"]
    assert float(held) == pytest.approx(0, abs=1e-6)  # the student still is the teacher
    with torch.no_grad():
        model.body[7].weight.add_(torch.randn(model.body[7].weight.shape, generator=torch.Generator().manual_seed(0)))
    moved = float(model(**given)["distillation"])
    assert moved > 0.01
    given["chips"][-2:] = 255 - given["chips"][-2:]  # the fakes
    assert float(model(**given)["distillation"]) == pytest.approx(moved, rel=1e-6)
    assert not any("teacher" in name for name in model.state_dict())
    assert sum(p.numel() for p in model.parameters()) == sum(p.numel() for p in model.body.parameters())


def test_frozen_body(tiny: ModelSpec) -> None:
    config = read_config("finetune", overrides=["model.freeze=body", "model.start=x.pt", "distillation.weight=0"])
    model = make_learner(config, make_start(settings.Model(arch="tiny")), classes=5)
    assert [name for name, p in model.body.named_parameters() if p.requires_grad] == ["7.weight", "7.bias"]
    before = {name: value.clone() for name, value in model.body.state_dict().items()}
    model.train()
    optimizer = make_optimizer(steps.Optimizer(lr=0.1), model.body, model.losses)
    model(**batch())["loss"].backward()
    optimizer.step()
    changed = {name for name, value in model.body.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"7.weight", "7.bias"}


@pytest.mark.parametrize(("mode", "moves"), [("auto", False), ("frozen", False), ("train", True)])
def test_a_start_keeps_its_batch_statistics(tiny: ModelSpec, mode: str, moves: bool) -> None:
    config = read_config(
        "finetune", overrides=[f"model.batch_norm={mode}", "model.start=x.pt", "distillation.weight=0"]
    )
    model = make_learner(config, make_start(settings.Model(arch="tiny")), classes=5).train()
    before = model.body[1].running_mean.clone()
    model(**batch())
    assert torch.equal(model.body[1].running_mean, before) is not moves
    scratch = learner("finetune").train()  # auto, without a start
    scratch(**batch())
    assert not torch.equal(scratch.body[1].running_mean, torch.zeros(12))


@pytest.mark.data
def test_the_default_does_not_disturb_dlibs_network() -> None:
    """Its statistics are folded away: in training mode they must not be taken from a batch."""
    config = read_config("finetune", overrides=["distillation.weight=0"])
    start = make_start(config.model)
    chips = batch(pairs=2, side=150)["chips"]
    original = copy.deepcopy(start.body).eval()
    model = make_learner(config, start, classes=2)
    with torch.no_grad():
        wanted, got = model.embed(chips, body=original), model.train().embed(chips)
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-5)


def test_decay_is_for_matrices(tiny: ModelSpec) -> None:
    model = learner("pretrain")
    groups = make_optimizer(steps.Optimizer(lr=1, head_lr=2, weight_decay=0.1), model.body, model.losses).param_groups
    assert [(group["lr"], group["weight_decay"], len(group["params"])) for group in groups] == [
        (1, 0.1, 3),
        (1, 0, 5),
        (2, 0.1, 1),
    ]
    for parameter in model.body.parameters():
        parameter.requires_grad_(False)
    with pytest.raises(UsageError, match="nothing of the network may learn"):
        make_optimizer(steps.Optimizer(), model.body, nn.ModuleDict())


def _rates(config: steps.Schedule, steps: int, metrics: list[float] | None = None) -> list[float]:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=2.0)
    schedule = Schedule(config, optimizer, steps=steps)
    rates = []
    for step in range(steps):
        schedule.before_step(step)
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if metrics:
            schedule.after_epoch({"eer": metrics[step]}, step=step + 1)
    return rates


def test_cosine_with_warm_up() -> None:
    rates = _rates(steps.Schedule("cosine", warmup_steps=4, lr_end=0.1), 20)
    assert rates[:5] == [0.5, 1.0, 1.5, 2.0, 2.0]
    for step in range(4, 20):
        share = (step - 4) / 16
        assert rates[step] == pytest.approx(2 * (0.1 + 0.9 * (1 + math.cos(math.pi * share)) / 2), rel=1e-12)


def test_plateau() -> None:
    """Halved after `patience` epochs in a row without a fall of one part in 10,000, as PyTorch has it."""
    metrics = [0.5, 0.4, 0.39999, 0.39998, 0.39997, 0.3, 0.3, 0.3, 0.3]
    rates = _rates(steps.Schedule("plateau", patience=2, factor=0.5, threshold=1e-4), 9, metrics)
    assert rates == [2.0] * 5 + [1.0] * 4
    assert _rates(steps.Schedule("constant"), 3) == [2.0] * 3


def test_moving_average(tiny: ModelSpec) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    average = MovingAverage(model, decay=0.5)
    wanted = model[0].weight.detach().clone()
    for step in range(20):
        with torch.no_grad():
            model[0].weight.normal_()
        model(torch.randn(4, 2))
        decay = min(0.5, (1 + step) / (10 + step))
        wanted = decay * wanted + (1 - decay) * model[0].weight.detach()
        average.update(model, step=step)
    torch.testing.assert_close(average.model[0].weight, wanted)
    assert torch.equal(average.model[1].running_mean, model[1].running_mean)
    assert not average.model.training


def test_validation_counts_by_hand() -> None:
    kinds = np.array(["same", "same", "other", "fake", "fake"])
    pairs = DrawnPairs(np.array([3, 3, 3, 3, 3]), np.array([5, 7, 9, 11, 13]), kinds)
    cosines = [0.9, 0.1, 0.15, 0.5, -0.5]
    found = ValidationSet(pairs, ("blend", "swap"), np.array([-1, -1, -1, 0, 1]), np.array([3, 5, 7, 9, 11, 13]), 0.2)
    vectors = np.array([[1, 0], *([c, math.sqrt(1 - c * c)] for c in cosines)], np.float32) * 7
    row = found.measure(vectors)
    assert row["val_accuracy"] == pytest.approx(3 / 5)  # right: 0.9, 0.15, -0.5
    assert row["error_real_deepfake"] == pytest.approx(1 / 2)
    assert row["eer_other"] == pytest.approx(0.5)
    assert row["eer_fake:swap"] == 0 and row["eer_fake:blend"] == pytest.approx(0.5)
    assert list(row) == list(found.columns)


def test_leaks_count_the_second_person_of_a_fake() -> None:
    samples = [Sample("a", "ann"), Sample("b", "bob"), Sample("c", "ann"), Sample("f", "cat", True, "swap", "ann")]
    crops = Crops(tuple(samples), ("",) * 4, 8, 8)
    pairs = DrawnPairs(np.array([0]), np.array([2]), np.array(["same"]))
    found = ValidationSet(pairs, (), np.array([-1]), np.array([0, 2]), 0.2)
    check_leaks(crops, np.array([1]), found)
    with pytest.raises(Exception, match="1 people are in the validation pairs and trained on, the first is 'ann'"):
        check_leaks(crops, np.array([1, 3]), found)


@pytest.mark.parametrize("bias", [True, False])
def test_centring_takes_away_what_all_have_in_common(bias: bool) -> None:
    """Distances between embeddings stay, their mean goes, and new faces are centred with them."""
    generator = torch.Generator().manual_seed(0)
    body = nn.Sequential(nn.Flatten(), nn.Linear(48, 20), nn.ReLU(), nn.Linear(20, 6, bias=bias)).eval()
    with torch.no_grad():
        for parameter in body.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / 4)
        body[1].weight[0] = 0  # a feature that is the same for all: what stands for a bias can then be exact
        body[1].bias.fill_(3.0)
    seen, new = (torch.rand(300, 3, 4, 4, generator=generator) for _ in range(2))
    with torch.no_grad():
        before = body(new)
        done = centre_embeddings(body, "3.weight", seen.split(64))
        after = body(new)
    assert done.before > 0.9 and done.after < 0.15
    assert float(after.mean(0).norm()) < 0.1 * float(before.mean(0).norm())
    torch.testing.assert_close(after - after[0], before - before[0], rtol=1e-3, atol=1e-3)


def test_centring_needs_a_last_linear_layer() -> None:
    chips = torch.rand(8, 3, 4, 4)
    normed = nn.Sequential(nn.Flatten(), nn.Linear(48, 6), nn.BatchNorm1d(6)).eval()
    with torch.no_grad():
        normed[2].running_mean.fill_(5.0)
    with pytest.raises(UsageError, match=r"'1.weight' is not the last step of this network"):
        centre_embeddings(normed, "1.weight", [chips])
    with pytest.raises(UsageError, match="ends in a linear layer"):
        centre_embeddings(nn.Sequential(nn.Conv2d(3, 6, 4), nn.Flatten()), "0.weight", [chips])


@pytest.mark.parametrize("arch", ["tiny", "resnet29", "mobilefacenet"])
def test_balancing_changes_sizes_and_no_direction(tiny: ModelSpec, arch: str) -> None:
    torch.manual_seed(0)
    body = registry.build(arch).eval()
    architecture = registry.find(arch)
    with torch.no_grad():
        for module in body.modules():
            if isinstance(module, nn.Conv2d):
                module.weight.mul_(0.01)
            elif isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.01)
                module.running_var.uniform_(1e-4, 2e-4)
    chips = torch.randint(0, 256, (2, *architecture.spec.input_size, 3)).to(torch.uint8)
    inputs = registry.preprocess(chips, architecture.spec)
    with torch.no_grad():
        before = nn.functional.normalize(body(inputs))
        count = balance_weights(body, architecture.last, inputs[:1])
        after = nn.functional.normalize(body(inputs))
    convolutions = [module for module in body.modules() if isinstance(module, nn.Conv2d)]
    assert count >= 0.9 * len(convolutions)
    sizes = [float(c.weight.detach().square().mean().sqrt()) / math.sqrt(2 / c.weight[0].numel()) for c in convolutions]
    assert sum(abs(size - 1) < 1e-3 for size in sizes) >= 0.9 * len(sizes)
    torch.testing.assert_close(after, before, rtol=1e-3, atol=1e-4)
