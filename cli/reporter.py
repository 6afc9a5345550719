"""What a command says while it works, on stderr: a bar on a terminal, a line every few seconds in a log, or nothing."""

from __future__ import annotations

import dataclasses
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from faceembed.engine.photos.photo_file import printable

if TYPE_CHECKING:
    from faceembed.engine.pipeline.progress import Progress

EVERY_SECONDS = 5.0  # between lines in a log


@dataclasses.dataclass
class _Pace:
    """The rate since the first call, so that loading models does not count; unknown until a second has passed, as batches that
    were computed side by side come at once."""

    first: float | None = None
    started: float = 0.0

    def rate(self, done: float) -> float:
        """Units a second; 0 while unknown."""
        now = time.monotonic()
        if self.first is None:
            self.first, self.started = done, now
        passed = now - self.started
        return (done - self.first) / passed if passed >= 1 else 0.0


class Reporter:
    """Its methods are the library's callbacks; `close` it before the result is printed.

    Args:
        quiet: say nothing at all.
        every: seconds between lines where stderr is no terminal.
    """

    def __init__(self, *, quiet: bool, every: float = EVERY_SECONDS) -> None:
        self._quiet = quiet
        self._every = every
        self._terminal = sys.stderr.isatty()
        self._bar: Any = None
        self._task: Any = None
        self._pace = _Pace()
        self._last = time.monotonic()
        self._said = False

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def notice(self, line: str) -> None:
        """Say a line."""
        if self._quiet:
            return
        line = printable(line)
        if self._bar is not None:
            self._bar.console.print(line, markup=False, highlight=False, soft_wrap=True)
        else:
            click.echo(line, err=True)

    def progress(self, progress: Progress) -> None:
        """Say how far a run over photos is."""
        rate = self._pace.rate(progress.done)
        self._show(progress.done, progress.total, photo_status(progress, rate))

    def bytes(self, done: int, total: int | None) -> None:
        """Say how far a download is."""
        rate = self._pace.rate(done)
        parts = [f"{done / 1e6:.1f}/{total / 1e6:.1f} MB" if total else f"{done / 1e6:.1f} MB"]
        if rate > 0:
            parts.append(f"{rate / 1e6:.1f} MB/s")
            parts += [f"{clock((total - done) / rate)} left"] if total else []
        self._show(done, total, " · ".join(parts))

    def phase(self, name: str, share: float) -> None:
        """Say how far work of several phases is."""
        self._show(round(100 * share), 100, f"{100 * share:.0f} % · {name}")

    def _show(self, done: int, total: int | None, status: str) -> None:
        if self._quiet:
            return
        if self._terminal:
            self._show_bar(done, total, status)
            return
        now = time.monotonic()
        finished = total is not None and done >= total
        if now - self._last >= self._every or (finished and self._said):
            self._last, self._said = now, not finished
            click.echo(status, err=True)

    def _show_bar(self, done: int, total: int | None, status: str) -> None:
        if self._bar is None:
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn

            columns = (BarColumn(bar_width=24), TextColumn("{task.fields[status]}", markup=False))
            self._bar = Progress(*columns, console=Console(stderr=True), transient=True, refresh_per_second=4)
            self._task = self._bar.add_task("", total=total, status=status)
            self._bar.start()
        self._bar.update(self._task, completed=done, total=total, status=status)


def photo_status(progress: Progress, rate: float) -> str:
    """One line: ``12,800/13,233 photos · 312/s · 0:01 left · 12,790 faces · 4 failures``."""
    parts = [f"{progress.done:,}/{progress.total:,} photos"]
    if rate > 0:
        parts += [per_second(rate), f"{clock((progress.total - progress.done) / rate)} left"]
    parts.append(amount(progress.faces, "face"))
    if progress.failures:
        parts.append(amount(progress.failures, "failure"))
    return " · ".join(parts)


def amount(number: int, noun: str) -> str:
    """``1 face``, ``12,790 faces``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def per_second(rate: float) -> str:
    """``312/s``; with a decimal below ten."""
    return f"{rate:,.0f}/s" if rate >= 10 else f"{rate:.1f}/s"


def clock(seconds: float) -> str:
    """``0:01``, ``12:34``, ``1:02:03``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
