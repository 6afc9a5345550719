"""Names and settings of losses, as a config gives them."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

from faceembed.errors import UsageError
from faceembed.trainer.losses import LOSSES, make_loss, make_settings


def test_names_and_kinds() -> None:
    assert {name: entry.kind for name, entry in LOSSES.items()} == {
        "adaface": "class",
        "arcface": "class",
        "cosface": "class",
        "magface": "class",
        "adaptive-margin": "pair",
        "contrastive": "pair",
        "triplet": "batch",
        "circle": "batch",
        "centre": "batch",
        "distillation": "distillation",
    }


@pytest.mark.parametrize("name", LOSSES)
def test_each_is_made_with_its_settings(name: str) -> None:
    loss = make_loss(name, dimension=8, classes=5)
    assert isinstance(loss, LOSSES[name].loss)
    assert loss.settings == LOSSES[name].settings()
    for field in dataclasses.fields(LOSSES[name].settings):
        assert isinstance(field.default, (float, bool, str, int)), field.name


def test_settings_arrive() -> None:
    loss = make_loss("adaptive_margin", {"m_b": 0.3, "s": 20, "negatives": "floor"})
    assert (loss.settings.m_b, loss.settings.s, loss.settings.negatives) == (0.3, 20, "floor")
    assert make_loss("AdaFace", {"m": 0.2}, dimension=3, classes=4).settings.m == 0.2


@pytest.mark.parametrize(
    "name, settings, message",
    [
        ("adafase", {}, "^unknown loss 'adafase'; did you mean 'adaface'[?]$"),
        ("adaptiv-margin", {}, "did you mean 'adaptive-margin'[?]$"),
        ("center", {}, "did you mean 'centre'[?]$"),
        ("xyz", {}, "^unknown loss 'xyz'; known are adaface, arcface, "),
        ("adaface", {"t_alfa": 0.1}, "^loss 'adaface' has no setting 't_alfa'; did you mean 't_alpha'[?]$"),
        ("triplet", {"margins": 0.1}, "did you mean 'margin'[?]$"),
        ("circle", {"xyz": 0.1}, "^loss 'circle' has no setting 'xyz'; known are m, gamma$"),
        ("adaface", {"m": "0.4"}, "^AdaFace: m = '0.4'; expected a number$"),
        ("adaface", {"m": True}, "^AdaFace: m = True; expected a number$"),
        ("adaface", {"s": float("nan")}, "^AdaFace: s = nan; expected a number$"),
        ("centre", {"detach_centres": 1}, "^Centre: detach_centres = 1; expected true or false$"),
        ("adaface", {"t_alpha": 0}, "^AdaFace: t_alpha = 0; expected more than 0, at most 1$"),
        ("adaface", {"h": 0}, "h = 0; expected more than 0"),
        ("adaface", {"m": 2}, "m = 2; expected 0 to below pi / 2"),
        ("arcface", {"m": -0.1}, "m = -0.1; expected 0 to below pi / 2"),
        ("arcface", {"s": 0}, "s = 0; expected more than 0"),
        ("cosface", {"m": 3}, "m = 3; expected 0 to below 2"),
        ("magface", {"u_a": 5}, "u_a = 5; expected more than l_a, 10.0"),
        ("magface", {"u_m": 0.1}, "u_m = 0.1; expected l_m, 0.45, to below pi / 2"),
        ("magface", {"lambda_g": -1}, "lambda_g = -1; expected 0 or more"),
        ("adaptive-margin", {"negatives": "none"}, "negatives = 'none'; expected given or floor or target"),
        ("adaptive-margin", {"form": "x"}, "form = 'x'; expected stable or given"),
        ("adaptive-margin", {"alpha": -1}, "alpha = -1; expected 0 or more"),
        ("contrastive", {"positive": -0.5}, "positive = -0.5; expected more than negative, 0.0, at most 1"),
        ("triplet", {"mining": "easy"}, "mining = 'easy'; expected all or violating or hard or semihard or batch-hard"),
        ("circle", {"m": 1}, "m = 1; expected more than 0, below 1"),
        ("distillation", {"angle": -1}, "angle = -1; expected 0 or more"),
        ("distillation", {"embedding": 0, "similarity": 0}, "are 0; one must count"),
    ],
)
def test_mistakes_are_one_line(name: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        make_loss(name, settings, dimension=8, classes=5)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", [name for name, entry in LOSSES.items() if entry.kind == "class"])
def test_a_head_needs_to_know_its_people(name: str) -> None:
    with pytest.raises(UsageError, match="it needs the dimension and the number of people"):
        make_loss(name)


def test_settings_alone() -> None:
    assert make_settings("triplet", {"margin": 1}) == LOSSES["triplet"].settings(margin=1)  # type: ignore[call-arg]


@pytest.mark.parametrize("name", ["adaface", "arcface", "cosface", "magface"])
def test_a_head_goes_on_from_its_state(name: str) -> None:
    torch.manual_seed(3)
    first, second = (make_loss(name, dimension=6, classes=4) for _ in range(2))
    embeddings, labels = 30 * torch.randn(5, 6), torch.tensor([0, 1, 2, 3, 1])
    first(embeddings, labels)
    second.load_state_dict(first.state_dict())
    assert torch.equal(first(embeddings, labels), second(embeddings, labels))
