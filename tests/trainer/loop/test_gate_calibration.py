"""How decided the gate is: parts of an embedding come back, what is chosen keeps the identity, and the weights hold it."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from faceembed.trainer.backbones.gated import GatedEncoder, TextureNet, gate
from faceembed.trainer.data.sampler import DrawnPairs
from faceembed.trainer.loop.gate_calibration import Calibration, calibrate, calibrated, joined, split
from faceembed.trainer.loop.validate import ValidationSet

PEOPLE, PHOTOS, FAKES = 40, 4, 2


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.floats(-14, 14), st.floats(0.1, 4), st.floats(-5, 5))
def test_parts_and_whole(seed: int, logit: float, slope: float, offset: float) -> None:
    e = torch.randn(3, 8, generator=torch.Generator().manual_seed(seed))
    logits = torch.tensor([logit, 0.0, -logit])
    identity, found = split(gate(e, logits).numpy())
    np.testing.assert_allclose(identity, e.numpy(), atol=1e-4)
    np.testing.assert_allclose(found, logits.numpy(), atol=2e-2)
    again = joined(gate(e, logits).numpy(), Calibration(slope, offset))
    np.testing.assert_allclose(again, gate(e, slope * logits + offset).numpy(), atol=2e-2)


def test_weights_hold_it() -> None:
    torch.manual_seed(0)
    body = GatedEncoder(
        torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 24 * 24, 6)), TextureNet((4, 8, 16))
    ).eval()
    chips = torch.randn(4, 3, 24, 24)
    with torch.no_grad():
        before = body(chips).numpy()
        after = calibrated(body, Calibration(3.0, -0.5))(chips).numpy()
        assert np.array_equal(body(chips).numpy(), before)  # a copy was changed
    np.testing.assert_allclose(after, joined(before, Calibration(3.0, -0.5)), atol=1e-4)


def a_validation(spread: float, apart: float, *, fakes: bool = True) -> tuple[ValidationSet, np.ndarray]:
    """People in random directions; logits of photos about ``apart``, of fakes about ``-apart``, both timid."""
    rng = np.random.default_rng(3)
    centres = rng.normal(size=(PEOPLE, 32))
    person = np.repeat(np.arange(PEOPLE), PHOTOS + FAKES)
    fake = np.tile(np.arange(PHOTOS + FAKES) >= PHOTOS, PEOPLE)
    identity = centres[person] + spread * rng.normal(size=(len(person), 32))
    logits = np.where(fake, -apart, apart) + 0.4 * rng.normal(size=len(person))
    embeddings = gate(torch.tensor(identity, dtype=torch.float32), torch.tensor(logits, dtype=torch.float32)).numpy()
    a, b, kinds = [], [], []
    for one in np.flatnonzero(~fake):
        for two in range(len(person)):
            mine, last = person[one] == person[two], two == (one + 97) % len(person)
            kind = "same" if mine and not fake[two] and two > one else "fake" if mine and fake[two] else ""
            kind = kind or ("other" if last and not mine and not fake[two] else "")
            if kind and (fakes or kind != "fake"):
                a.append(one), b.append(two), kinds.append(kind)
    pairs = DrawnPairs(np.array(a), np.array(b), np.array(kinds))
    method = np.where(pairs.kind == "fake", 0, -1)
    return ValidationSet(pairs, ("swap",), method, np.arange(len(person)), 0.2), embeddings


def test_a_timid_gate_becomes_decided_and_the_identity_stays() -> None:
    validation, embeddings = a_validation(spread=0.7, apart=1.0)
    identity = validation.measure(split(embeddings)[0])
    before = validation.measure(embeddings)
    chosen = calibrate(validation, embeddings, identity_cost=0.002)
    after = validation.measure(joined(embeddings, chosen))
    assert chosen.slope > 1
    assert identity["eer_fake"] is not None and before["eer"] is not None and after["eer"] is not None
    assert identity["eer_fake"] > 0.35  # without a gate a fake is the person
    assert after["eer"] < before["eer"] / 2
    assert after["eer_other"] is not None and identity["eer_other"] is not None
    assert after["eer_other"] <= identity["eer_other"] + 0.002


def test_a_gate_that_knows_nothing_costs_nothing() -> None:
    validation, embeddings = a_validation(spread=0.9, apart=0.0)
    identity = validation.measure(split(embeddings)[0])["eer_other"]
    after = validation.measure(joined(embeddings, calibrate(validation, embeddings, identity_cost=0.0)))["eer_other"]
    assert identity is not None and after is not None and after <= identity


def test_no_photo_lies_where_a_rounding_error_makes_another_face_of_it() -> None:
    """One photo by itself, well among the fakes: the gate stays away from it, however many fakes that lets pass."""
    validation, embeddings = a_validation(spread=0.7, apart=1.0)
    _, logits = split(embeddings)
    near = calibrate(validation, embeddings, identity_cost=0.002)
    middle = -near.offset / near.slope  # where the gate would be without that photo
    one = gate(torch.randn(1, 32, generator=torch.manual_seed(0)), torch.tensor([middle], dtype=torch.float32)).numpy()
    alone = np.array([len(embeddings)])
    both = dataclasses.replace(validation, crops=np.arange(len(embeddings) + 1), alone=alone)
    chosen = calibrate(both, np.vstack([embeddings, one]), identity_cost=0.002)

    def moved(calibration: Calibration) -> float:
        """What an error of a tenth of the logits' spread does to the photo's embedding."""
        p, q = (
            1 / (1 + np.exp(-calibration.slope * (middle + error) - calibration.offset))
            for error in (0, 0.1 * logits.std())
        )
        return float(1 - np.sqrt(p * q) - np.sqrt((1 - p) * (1 - q)))

    assert moved(near) > 0.001 > moved(chosen)


def test_photos_of_another_kind_are_not_paid_with() -> None:
    """Photos by themselves that look half like fakes: a gate chosen without them pushes them from each other, one chosen with them does not."""
    validation, embeddings = a_validation(spread=0.7, apart=1.0)
    rng = np.random.default_rng(4)
    e, logits = rng.normal(size=(200, 32)), -0.4 + 0.3 * rng.normal(size=200)
    more = gate(torch.tensor(e, dtype=torch.float32), torch.tensor(logits, dtype=torch.float32)).numpy()
    alone = np.arange(len(embeddings), len(embeddings) + 200)
    both = dataclasses.replace(validation, crops=np.arange(len(embeddings) + 200), alone=alone)
    embeddings = np.vstack([embeddings, more])
    blind = dataclasses.replace(both, alone=alone[:0])

    def lost(chosen: Calibration) -> float:
        """Share of couples of which the gate leaves less than 0.9 of the cosine."""
        p = 1 / (1 + np.exp(-chosen.slope * logits - chosen.offset))
        kept = np.sqrt(np.outer(p, p)) + np.sqrt(np.outer(1 - p, 1 - p))
        return float(np.mean(kept < 0.9))

    without, with_them = (calibrate(one, embeddings, identity_cost=0.002) for one in (blind, both))
    assert lost(without) > 0.05
    assert lost(with_them) < lost(without) / 5
    eers = [
        validation.measure(joined(embeddings[: len(validation.crops)], chosen))["eer"]
        for chosen in (without, with_them)
    ]
    assert eers[0] is not None and eers[1] is not None and eers[0] < eers[1]  # which has its price


def test_without_fakes_there_is_nothing_to_choose_by() -> None:
    validation, embeddings = a_validation(spread=0.7, apart=1.0, fakes=False)
    assert calibrate(validation, embeddings, identity_cost=0.002) == Calibration()


@pytest.mark.parametrize("logit", [-29.0, 29.0])
def test_the_surest_gate_still_gives_the_identity_back(logit: float) -> None:
    e = torch.randn(2, 8)
    identity, _ = split(gate(e, torch.full((2,), logit)).numpy())
    np.testing.assert_allclose(identity, e.numpy(), atol=1e-5)
