"""What a command says while it works."""

from __future__ import annotations

from typing import Any

import pytest

from faceembed.cli.reporter import Reporter, clock, per_second, photo_status
from faceembed.engine.pipeline.progress import Progress


@pytest.mark.parametrize(
    ("progress", "rate", "line"),
    [
        (
            Progress(12800, 13233, 12790, 4),
            312.4,
            "12,800/13,233 photos · 312/s · 0:01 left · 12,790 faces · 4 failures",
        ),
        (Progress(1, 3, 1, 0), 0, "1/3 photos · 1 face"),
        (Progress(10, 20000, 9, 0), 2.5, "10/20,000 photos · 2.5/s · 2:13:16 left · 9 faces"),
    ],
)
def test_status(progress: Progress, rate: float, line: str) -> None:
    assert photo_status(progress, rate) == line


def test_clock_and_rate() -> None:
    assert [clock(s) for s in (0, 59.6, 3599.4, 3600)] == ["0:00", "1:00", "59:59", "1:00:00"]
    assert [per_second(r) for r in (0.04, 9.94, 10.4, 12345.6)] == ["0.0/s", "9.9/s", "10/s", "12,346/s"]


def test_a_log_gets_lines(capsys: Any) -> None:
    reporter = Reporter(quiet=False, every=0)
    for done in (1, 2):
        reporter.progress(Progress(done, 2, done, 0))
    reporter.notice("a\x1bb")
    reporter.close()
    out, err = capsys.readouterr()
    assert out == ""
    lines = err.splitlines()
    assert lines[0].startswith("1/2 photos")
    assert lines[1].startswith("2/2 photos")
    assert lines[2] == r"a\x1bb"


def test_a_short_run_gets_no_lines(capsys: Any) -> None:
    reporter = Reporter(quiet=False)
    reporter.progress(Progress(1, 1, 1, 0))
    assert capsys.readouterr().err == ""


def test_a_terminal_gets_a_bar(capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    reporter = Reporter(quiet=False)
    reporter.bytes(500_000, 1_000_000)
    reporter.notice("[bold]as it is[/bold]")
    reporter.bytes(1_000_000, 1_000_000)
    reporter.close()
    err = capsys.readouterr().err
    assert "━" in err
    assert "1.0/1.0 MB" in err
    assert "[bold]as it is[/bold]" in err


def test_quiet(capsys: Any) -> None:
    reporter = Reporter(quiet=True, every=0)
    reporter.notice("a")
    reporter.progress(Progress(1, 2, 1, 0))
    reporter.bytes(1, None)
    assert capsys.readouterr() == ("", "")


def test_no_rate_of_batches_that_come_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two batches a millisecond apart are not 8,000 photos a second: no rate before a second has passed."""
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    reporter = Reporter(quiet=True)
    lines: list[str] = []
    monkeypatch.setattr(reporter, "_show", lambda done, total, line: lines.append(line))
    for now[0], done in ((5.0, 32), (5.001, 40), (7.0, 80)):
        reporter.progress(Progress(done=done, total=80, faces=done, failures=0))
    assert lines == ["32/80 photos · 32 faces", "40/80 photos · 40 faces", "80/80 photos · 24/s · 0:00 left · 80 faces"]
