"""What `faceembed train` says while it works."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from faceembed.cli.train import _TrainReporter
from faceembed.install import pip_install
from faceembed.trainer.loop.epochs import TrainProgress


def test_the_rate_of_an_epoch_is_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    reporter = _TrainReporter(quiet=True)
    monkeypatch.setattr(reporter, "_show", lambda done, total, line: lines.append(line))
    now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    for epoch in (1, 2, 3):
        for batch in range(1, 6):
            now += 2.0
            reporter.training(TrainProgress(epoch, 3, batch, 5, 64 * batch, "crops", 1.0, None))
        now += 100.0  # validation
    rates = [line.split("crops ")[1].split("/s")[0] for line in lines if "crops" in line]
    assert rates == ["32"] * 12  # four of each epoch: its first batch has nothing to compare with
    assert lines[3].startswith("epoch 1/3 · batch 4/5 · crops 32/s · 0:02 left in the epoch")


@pytest.mark.parametrize("package", ["torch", "accelerate"])
def test_without_the_extra_it_is_one_line(
    package: str, run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in [name for name in sys.modules if name == "faceembed.trainer.loop.train"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)  # its import fails as if it were not installed
    result = run("train", "pretrain", "--crops", tmp_path, "-o", tmp_path / "run", code=1)
    assert f"this needs '{package}', which is not installed; run: {pip_install('train')}" in result.stderr
