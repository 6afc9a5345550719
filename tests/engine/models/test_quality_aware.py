"""QMagFace's score: the published formula, and a fit that finds what quality is worth and no more."""

from __future__ import annotations

import numpy as np
import pytest

from faceembed.engine.models.quality_aware import fit_quality_aware, quality_aware
from faceembed.errors import DataError


def test_the_formula() -> None:
    """With the numbers that its authors publish, alpha 0.077428 and beta 0.125926."""
    alpha, beta = 0.077428, 0.125926
    for s, a, b in ((0.3, 20.0, 30.0), (0.6, 25.0, 21.0), (0.9, 20.0, 20.0)):
        expected = s + min(0, beta * s - alpha) * min(a, b)
        assert quality_aware(s, a, b, (alpha, beta)) == pytest.approx(expected)
    assert quality_aware(0.9, 20, 20, (alpha, beta)) == pytest.approx(0.9)  # w is not above 0


def people(
    seed: int, *, useful: bool
) -> tuple[np.ndarray[tuple[int, int], np.dtype[np.float32]], np.ndarray[tuple[int], np.dtype[np.float32]], list[str]]:
    """Poor photos of everybody drift towards one place, so that strangers' poor photos are alike; the norm says so, or nothing."""
    rng = np.random.default_rng(seed)
    centres = np.repeat(rng.normal(size=(60, 32)), 6, axis=0)
    quality = rng.uniform(0.2, 1, len(centres))
    rows = (
        centres * quality[:, None]
        + np.r_[3.0, np.zeros(31)] * (1 - quality)[:, None]
        + rng.normal(size=centres.shape) * 0.35
    )
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    norms = (20 * (quality if useful else rng.uniform(0.2, 1, len(rows)))).astype(np.float32)
    return rows, norms, [str(number // 6) for number in range(len(rows))]


def test_the_fit_recomputed() -> None:
    """Slowly, by the paper's words: the best weight at each rate, and a line through them."""
    rows, norms, who = people(0, useful=True)
    a, b = np.triu_indices(len(rows), 1)
    same = np.array(who)[a] == np.array(who)[b]
    s = np.einsum("nd,nd->n", rows[a], rows[b]).astype(np.float64)
    q = np.minimum(norms[a], norms[b])
    weights = np.linspace(-0.5 / q.max(), 0.5 / q.max(), 21)
    of_strangers = {weight: sorted(s[~same] + weight * q[~same], reverse=True) for weight in weights.tolist()}
    points = []
    for rate in np.logspace(-5, -2, 50):
        if rate * (~same).sum() < 1:
            continue
        best: tuple[float, float, float, float] | None = None
        for weight in weights.tolist():
            scores = s + weight * q
            limit = of_strangers[weight][max(int(rate * (~same).sum()) - 1, 0)]
            tried = (float((scores[same] <= limit).mean()), abs(weight), weight, limit)
            best = tried if best is None or tried[:2] < best[:2] else best
        assert best is not None
        points.append((best[3], best[2]))
    beta, intercept = np.polyfit(*zip(*points, strict=True), 1)
    assert fit_quality_aware(rows, norms, who) == pytest.approx((-intercept, beta), rel=1e-3, abs=1e-4)


def test_what_is_poor_counts_for_less() -> None:
    fitted = fit_quality_aware(*people(0, useful=True))
    scores = quality_aware(np.full(3, -0.2), np.array([1.0, 10, 20]), np.full(3, 20.0), fitted)
    assert (scores <= -0.2 + 1e-12).all()


def test_too_few() -> None:
    rows, norms, who = people(0, useful=True)
    with pytest.raises(DataError, match="a thousand pairs of strangers"):
        fit_quality_aware(rows[:12], norms[:12], who[:12])
    with pytest.raises(DataError, match="pairs of one person"):
        fit_quality_aware(rows, norms, [str(number) for number in range(len(rows))])
