"""The threshold of a gallery: simulated, interpolated, carried over to templates."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from faceembed.engine.models.registry import resolve
from faceembed.engine.models.spec import ARCFACE_TEMPLATE, Level, ModelSpec
from faceembed.engine.models.strangers import write_templates
from faceembed.engine.people.open_set import carried, fmr_of, open_set_limit
from faceembed.engine.people.templates import Templates, template
from faceembed.errors import UsageError

D = 64
LEVELS = tuple(Level(rate, at, at, at) for rate, at in ((1e-2, 0.5), (1e-3, 0.6), (1e-4, 0.7)))
SPEC = ModelSpec("made", "encoder", (112, 112), dimension=D, template=ARCFACE_TEMPLATE, thresholds=LEVELS)


@pytest.mark.parametrize("people", [1, 10, 5000])
def test_the_rate_of_one_comparison(people: int) -> None:
    assert 1 - (1 - fmr_of(0.01, people)) ** people == pytest.approx(0.01, rel=1e-9)


def test_measured_rates_are_met_and_between_them_it_is_interpolated() -> None:
    assert open_set_limit(SPEC, people=1, fpir=0.001).threshold == pytest.approx(0.6, abs=1e-4)
    assert open_set_limit(SPEC, people=1, fpir=10**-2.5).threshold == pytest.approx(0.55, abs=1e-4)
    assert "beyond" not in open_set_limit(SPEC, people=1, fpir=0.001).source


def test_beyond_the_rates_is_said() -> None:
    far = open_set_limit(SPEC, people=1000, fpir=0.01)
    assert far.threshold == pytest.approx(0.8, abs=1e-2) and "beyond what was measured (0.0001)" in far.source
    assert open_set_limit(SPEC, people=10**9, fpir=1e-6).threshold == 1.0


def test_the_threshold_rises_with_the_gallery_and_falls_with_the_rate() -> None:
    spec = resolve("faceembed-r29", task="encoder").spec
    by_size = [open_set_limit(spec, people=people).threshold for people in (1, 10, 100, 1000)]
    assert by_size == sorted(by_size) and by_size[0] < by_size[-1]
    assert open_set_limit(spec, people=10, fpir=0.1).threshold < open_set_limit(spec, people=10, fpir=0.001).threshold


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fpir": 0.1, "threshold": 0.5}, "give one of them"),
        ({"fpir": 0.0}, "--fpir 0 is no share"),
        ({"fpir": 1.0}, "--fpir 1 is no share"),
        ({"threshold": 1.5}, "a threshold of 1.5 is no cosine"),
    ],
)
def test_mistakes(options: dict[str, float], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        open_set_limit(SPEC, people=3, **options)


def test_an_encoder_without_rates_needs_a_threshold() -> None:
    bare = dataclasses.replace(SPEC, thresholds=())
    with pytest.raises(UsageError, match=r"encoder made has no thresholds by rate.*--threshold"):
        open_set_limit(bare, people=3)
    assert open_set_limit(bare, people=3, threshold=0.4).threshold == 0.4


def test_means_do_not_let_more_strangers_in() -> None:
    """People lie around one direction, so that strangers are alike; the mean of five photos is nearer to everybody than one is."""
    rng = np.random.default_rng(0)

    def rows(count: int, each: int) -> np.ndarray[tuple[int, int, int], np.dtype[np.float32]]:
        centre = np.r_[3.0, np.zeros(D - 1)] + rng.normal(size=(count, 1, D)) * 0.25
        found = centre + rng.normal(size=(count, each, D)) * 0.25
        return (found / np.linalg.norm(found, axis=2, keepdims=True)).astype(np.float32)

    strangers, gallery, probes = rows(64, 1)[:, 0], rows(50, 5), rows(4000, 1)[:, 0]
    single = np.sort((rows(2000, 1)[:, 0] @ rows(500, 1)[:, 0].T).ravel())[::-1]
    levels = tuple(Level(rate, *[float(single[int(rate * single.size)])] * 3) for rate in (1e-2, 1e-3, 1e-4))
    spec = dataclasses.replace(SPEC, thresholds=levels, templates=write_templates(strangers))
    limit = open_set_limit(spec, people=50, fpir=0.05)
    templates = Templates([template(of, np.ones(5, np.float32), "mean") for of in gallery])
    best = templates.scores(probes).max(axis=1)
    kept = carried(limit, spec, gallery.reshape(-1, D), templates)
    assert (best >= limit.threshold).mean() > 0.15
    assert 0.02 < (best >= kept.threshold).mean() < 0.09
    assert f"{limit.threshold:g} for single photos" in kept.source
    assert (
        carried(open_set_limit(spec, people=50, threshold=0.9), spec, gallery.reshape(-1, D), templates).threshold
        == 0.9
    )
    bare = dataclasses.replace(spec, templates="")
    assert "keeps no strangers" in carried(limit, bare, gallery.reshape(-1, D), templates).source
