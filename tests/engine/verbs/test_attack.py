"""Attacks: noise on any encoder, what is counted, and how it is shown; photos of the astronaut."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from faceembed.engine.evaluate.metrics import eer
from faceembed.engine.evaluate.pairs import Pair, PairList
from faceembed.engine.explain.attack_result import Case, figures
from faceembed.engine.photos.sample import sample_photos
from faceembed.engine.report import attack_picture
from faceembed.engine.report.attack import write_attack_report
from faceembed.engine.report.attack_picture import difference, write_cases
from faceembed.engine.verbs.attack import Attack, AttackSettings, Noise, Turn, attack_pairs, choose_pairs, noisy
from faceembed.errors import DataError


def test_noise_is_gaussian_repeatable_and_of_the_pair() -> None:
    chips = np.full((3, 100, 100, 3), 128, np.uint8)
    changed = noisy(chips, [4, 9, 5], deviation=12.75, seed=1)
    moved = changed.astype(int) - 128
    assert moved.std() == pytest.approx(12.75, rel=0.02) and abs(moved.mean()) < 0.2
    np.testing.assert_array_equal(noisy(chips[:1], [9], deviation=12.75, seed=1)[0], changed[1])
    assert (noisy(chips[:1], [9], deviation=12.75, seed=2)[0] != changed[1]).any()
    half = noisy(chips[:1], [4], deviation=6.375, seed=1)[0].astype(int) - 128
    assert np.abs(2 * half - moved[0]).max() <= 2  # the same draw, scaled and rounded
    dark = noisy(np.zeros((1, 50, 50, 3), np.uint8), [0], deviation=10, seed=0)
    assert 0.4 < (dark == 0).mean() < 0.6


def listed(kinds: str) -> PairList:
    names = {"s": "same", "o": "other", "f": "fake"}
    return PairList("x.csv", tuple(Pair(f"{i}a", f"{i}b", k == "s", names[k]) for i, k in enumerate(kinds)))  # type: ignore[arg-type]


def test_chosen_pairs_keep_the_shares_of_the_kinds() -> None:
    pairs = listed("s" * 50 + "o" * 30 + "f" * 20)
    chosen = choose_pairs(pairs, 10, seed=3)
    assert [(pairs.kinds[chosen] == kind).sum() for kind in ("same", "other", "fake")] == [5, 3, 2]
    assert chosen.tolist() == sorted(set(chosen.tolist())) == choose_pairs(pairs, 10, seed=3).tolist()
    assert chosen.tolist() != choose_pairs(pairs, 10, seed=4).tolist()
    assert len(choose_pairs(pairs, 1, seed=0)) == 3  # one of each kind at least
    assert choose_pairs(pairs, None, seed=0).tolist() == choose_pairs(pairs, 100, seed=0).tolist() == list(range(100))


def test_figures() -> None:
    kinds = np.array(["same", "same", "same", "other", "other", "fake", "same"])
    failed = np.array([False] * 6 + [True])
    before = np.array([0.9, 0.8, 0.7, 0.1, 0.3, 0.75, -1.0])
    after = np.array([0.5, 0.8, 0.7, 0.4, 0.3, 0.95, -1.0])
    attacked = np.array([True, False, True, True, True, True, False])
    threshold, (clean, row) = figures(
        np.stack([before, after]), kinds, failed=failed, attacked=attacked, epsilons=[0.03], levels=[3]
    )
    labels = kinds == "same"
    assert threshold == eer(before, labels)[1]
    assert 0.7 < threshold <= 0.75
    assert (clean.epsilon, clean.levels, clean.eer) == (0.0, 0, eer(before, labels)[0])
    assert set(clean.change.values()) == {0.0}
    assert row.similarity == pytest.approx({"same": 2 / 3, "other": 0.35, "fake": 0.95})  # without the failure
    assert row.change == pytest.approx({"same": -0.2, "other": 0.15, "fake": 0.2})  # of those attacked
    assert row.eer == eer(after, labels)[0]
    assert row.fnmr == 3 / 4  # the failure counts
    assert (row.fmr, row.fmr_other, row.fmr_fake) == (1 / 3, 0.0, 1.0)
    assert (row.eer_other, row.eer_fake) == (
        eer(after[kinds != "fake"], labels[kinds != "fake"])[0],
        eer(after[[0, 1, 2, 5, 6]], [1, 1, 1, 0, 1])[0],
    )


def test_a_kind_of_negatives_of_ones_own_is_shown() -> None:
    kinds = np.array(["same", "kin", "kin", "same"])
    scores = np.array([[0.9, 0.2, 0.4, 0.8], [0.7, 0.3, 0.5, 0.6]])
    nothing = np.zeros(4, bool)
    _, rows = figures(scores, kinds, failed=nothing, attacked=~nothing, epsilons=[1], levels=[1])
    assert rows[1].similarity == pytest.approx({"same": 0.65, "kin": 0.4})
    assert rows[1].change == pytest.approx({"same": -0.2, "kin": 0.1})
    assert (rows[1].eer_other, rows[1].eer_fake) == (None, None)


def test_figures_of_one_class() -> None:
    threshold, rows = figures(
        np.array([[0.5], [0.4]]),
        np.array(["same"]),
        failed=np.zeros(1, bool),
        attacked=np.ones(1, bool),
        epsilons=[1],
        levels=[1],
    )
    assert threshold is None
    assert rows[1].change == pytest.approx({"same": -0.1})
    assert (rows[1].eer, rows[1].fnmr, rows[1].fmr) == (None, None, None)


def test_lists_with_nothing_to_attack(pairs: Path, tmp_path: Path, reuse_pipeline: Any) -> None:
    header, *rows = pairs.read_text().splitlines()
    positives, blind = tmp_path / "positives.csv", tmp_path / "blind.csv"
    positives.write_text("\n".join([header, rows[0]]))
    blind.write_text("\n".join([header, rows[4]]))
    settings = AttackSettings(epsilons=(0.1,), goal="impersonate")
    with pytest.raises(DataError, match=r"positives.csv: no pair that --goal impersonate could attack$"):
        attack_pairs(positives, Noise(), settings=settings)
    with pytest.raises(DataError, match=r"blind.csv: no pair has a face in both photos; look at the failures"):
        attack_pairs(blind, Noise())


def test_a_list_without_labels(tmp_path: Path) -> None:
    for pair in ("1", "2"):
        (tmp_path / pair).mkdir()
        for name in ("0.jpg", "1.jpg"):
            (tmp_path / pair / name).write_bytes(b"")
    with pytest.raises(DataError, match="the list has no labels"):
        attack_pairs(tmp_path, Noise())


def case(kind: str, before: float, after: float) -> Case:
    original = np.full((8, 8, 3), 100, np.uint8)
    changed = original.copy()
    changed[0, 0], changed[7, 7] = 106, 97
    return Case(0.1, 3, kind, before, after, original, original, changed)


def test_the_difference_is_amplified_around_grey() -> None:
    drawn = difference(case("same", 0.9, 0.1))
    assert (drawn[0, 0, 0], drawn[3, 3, 0], drawn[7, 7, 0]) == (255, 128, 64)
    still = case("same", 0.9, 0.9)
    assert (difference(Case(0.1, 0, "same", 0.9, 0.9, still.original, still.original, still.original)) == 128).all()


@pytest.mark.parametrize(
    "kind, before, after, harm", [("same", 0.9, 0.2, 0.7), ("other", 0.1, 0.6, 0.5), ("fake", 0.5, 0.3, -0.2)]
)
def test_harm_is_the_attackers_gain(kind: str, before: float, after: float, harm: float) -> None:
    assert case(kind, before, after).harm == pytest.approx(harm)


def test_a_sheet_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attack_picture, "MOST_CASES", 3)
    write_cases(tmp_path / "x.png", [case("other", 0.1, 0.6)] * 30, threshold=None, title="a $ of $$ names")
    assert 3 * 140 < cv2.imread(str(tmp_path / "x.png")).shape[0] < 4 * 160
    with pytest.raises(DataError, match="no case to draw"):
        write_cases(tmp_path / "y.png", [], threshold=0.5, title="x")


class Darken(Attack):
    """Takes ``levels`` off every pixel, and notes what it was asked for."""

    method = "darken"

    def __init__(self) -> None:
        self.turns: list[Turn] = []

    def levels(self, epsilon: float) -> int:
        return round(255 * epsilon)

    def change(self, turn: Turn) -> NDArray[np.uint8]:
        self.turns.append(turn)
        assert turn.levels is not None
        return np.clip(turn.chips.astype(int) - turn.levels, 0, 255).astype(np.uint8)


def test_what_an_attack_is_asked_for_and_judged_by(pairs: Path, reuse_pipeline: Any) -> None:
    attack = Darken()
    settings = AttackSettings(epsilons=(0.1, 0.4), goal="dodge", skip_failures=True, batch_size=1)
    result = attack_pairs(pairs, attack, settings=settings)
    assert [(turn.epsilon, turn.levels, turn.numbers.tolist()) for turn in attack.turns] == [
        (0.1, 26, [0]),
        (0.1, 26, [1]),
        (0.4, 102, [0]),
        (0.4, 102, [1]),
    ]
    assert all((turn.sign == -1).all() for turn in attack.turns)
    encode = reuse_pipeline.encoder.encode
    for turn, after in zip(attack.turns, result.scores[1:, :2].ravel(), strict=True):
        dark = np.clip(turn.chips.astype(int) - (turn.levels or 0), 0, 255).astype(np.uint8)
        assert after == pytest.approx(float(encode(dark)[0][0] @ turn.references[0]), abs=1e-6)
    np.testing.assert_array_equal(result.scores[:, 2:], np.stack([result.scores[0, 2:]] * 3))  # not to be changed
    assert {case.kind for case in result.cases} == {"same"}
    assert [row.levels for row in result.rows] == [0, 26, 102]


def test_the_page_of_hostile_names(tmp_path: Path, reuse_pipeline: Any) -> None:
    names = ("<script>alert(1)<\u2044script>.jpg", "\"onerror='alert(2)' {{ 7 * 7 }}.jpg", "new\nline.png")
    for name, source in zip(names[:2], ("cropped.jpg", "small.jpg"), strict=True):
        (tmp_path / name).write_bytes((sample_photos() / source).read_bytes())
    cv2.imwrite(str(tmp_path / "grey.png"), np.full((80, 80, 3), 128, np.uint8))
    (tmp_path / "grey.png").rename(tmp_path / names[2])
    a, b, c = (str(tmp_path / name) for name in names)
    given = PairList("<b>list.csv", (Pair(a, b, True, "same"), Pair(b, a, False, "other"), Pair(a, c, False, "fake")))
    result = attack_pairs(given, Noise(), settings=AttackSettings(epsilons=(0.1, 0.4)))
    write_attack_report(tmp_path / "noise.html", result)
    page = (tmp_path / "noise.html").read_text(encoding="utf-8")
    assert "<script" not in page and "&lt;script&gt;alert(1)" in page and "{{ 7 * 7 }}" in page
    assert '"onerror' not in page and "new\\nline.png" in page and "&lt;b&gt;list.csv" in page
    assert page.count("<img ") == page.count('<img src="data:image/png;base64,') == 4 * len(result.cases) == 16
    for case in result.cases:
        assert f"{case.before:.3f} → {case.after:.3f}" in page
    assert "have a photo without a face: they score −1" in page
