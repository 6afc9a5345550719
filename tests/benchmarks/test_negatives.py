"""The benchmark of where pairs come to rest: a short run of it."""

from __future__ import annotations

import json

import negatives
import pytest


def test_a_short_run(capsys: pytest.CaptureFixture[str]) -> None:
    negatives.main(["--dimensions", "8", "--steps", "3", "--seeds", "1"])
    document = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert [row["settings"] for row in document["rows"]] == list(negatives.CONSTANTS)
    assert all(-1 <= row[kind] <= 1 for row in document["rows"] for kind in negatives.KINDS)


def test_a_run_is_repeatable_and_begins_alike() -> None:
    first, second = (negatives.rest({}, dimension=8, steps=1, seed=4) for _ in range(2))
    assert first == second
    assert 0.5 < first["other"] < first["same"] <= 1 and first["fake"] > first["other"]


@pytest.mark.parametrize("words", [["--dimensions", "1"], ["--seeds", "0"], ["--steps", "0"]])
def test_wrong_usage(words: list[str]) -> None:
    with pytest.raises(SystemExit):
        negatives.main(words)
