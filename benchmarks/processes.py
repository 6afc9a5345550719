"""How a process is measured: from outside, as a user meets it.

Wall time from start to exit, processor time, and the peak of its memory. Memory is the sum of PSS over the program and all its
descendants, sampled every 50 ms from `/proc/PID/smaps_rollup`: PSS counts a page that n processes share as 1/n of a page in each, so a
sum over workers does not count a shared library twice. A peak shorter than a sample is missed; `max_rss_bytes`, kept by the kernel for
the largest single process, misses none and serves as a cross-check.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common import BenchmarkError, link_photos

EMBED = f"{shlex.quote(sys.executable)} -m faceembed embed"
WARM_UP_PHOTOS = 4
SAMPLE_SECONDS = 0.05


@dataclass(frozen=True)
class Measured:
    """One program, run from start to exit and seen from outside."""

    seconds: float
    cpu_seconds: float
    """User and system time of the program and of every descendant that it waited for."""
    peak_pss_bytes: int
    max_rss_bytes: int
    """Of the largest single process among them."""
    returncode: int
    stdout: str
    stderr: str

    def json(self) -> dict[str, Any]:
        """The last line of stdout, which the program promised to be one JSON document."""
        lines = self.stdout.strip().splitlines()
        try:
            document = json.loads(lines[-1] if lines else "")
        except json.JSONDecodeError as error:
            # A document may also be spread over several lines; then it is all of stdout.
            with suppress(json.JSONDecodeError):
                return dict(json.loads(self.stdout))
            raise BenchmarkError(f"stdout does not end with JSON: {self.stdout[-200:]!r}") from error
        return dict(document)


def measure(
    command: Sequence[str | os.PathLike[str]],
    *,
    kill_when: Callable[[float], bool] | None = None,
    check: bool = True,
    env: dict[str, str] | None = None,
) -> Measured:
    """Run a program to its end and measure it with all its descendants.

    Args:
        command: program and arguments.
        kill_when: given the processor seconds that the program and its descendants have used so far, about every 50 ms;
            SIGKILL is sent once it says true.
        check: raise when the program fails. A program killed by `kill_when` has not failed.
        env: variables to set on top of our own.

    Raises:
        BenchmarkError: the program failed; the message holds the end of its stderr.
    """
    arguments = [os.fspath(part) for part in command]
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        start = time.perf_counter()
        process = subprocess.Popen(
            arguments, stdout=out, stderr=err, env=os.environ | (env or {}), start_new_session=True
        )
        watch = _Watch(process.pid, kill_when)
        watch.start()
        try:
            # WNOWAIT leaves the process a zombie, so its id cannot be given to another before the watch has stopped.
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
            seconds = time.perf_counter() - start
        finally:
            watch.stop()
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0), err.seek(0)
        result = Measured(
            seconds=seconds,
            cpu_seconds=usage.ru_utime + usage.ru_stime,
            peak_pss_bytes=watch.peak_pss_bytes,
            max_rss_bytes=usage.ru_maxrss * 1024,
            returncode=process.returncode,
            stdout=out.read(),
            stderr=err.read(),
        )
    if check and result.returncode != 0 and not watch.killed:
        raise BenchmarkError(f"{' '.join(arguments)} ended with {result.returncode}: {result.stderr.strip()[-600:]}")
    return result


class _Watch(threading.Thread):
    """Samples the memory of one session of processes, and kills its leader when told to."""

    def __init__(self, session: int, kill_when: Callable[[float], bool] | None) -> None:
        super().__init__(daemon=True)
        self.session = session
        self.kill_when = kill_when
        self.peak_pss_bytes = 0
        self.killed = False
        self._ended = threading.Event()

    def run(self) -> None:
        while not self._ended.wait(SAMPLE_SECONDS):
            members = session_members(self.session)
            self.peak_pss_bytes = max(self.peak_pss_bytes, sum(map(pss_bytes, members)))
            if self.kill_when and not self.killed and self.kill_when(sum(map(cpu_seconds, members))):
                self.killed = True
                os.kill(self.session, signal.SIGKILL)

    def stop(self) -> None:
        self._ended.set()
        self.join()


def session_members(session: int) -> list[int]:
    """The processes of a session: a program started with `start_new_session` and its descendants, orphans too."""
    members = []
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        with suppress(OSError, ValueError):
            if os.getsid(int(entry.name)) == session:
                members.append(int(entry.name))
    return members


def pss_bytes(pid: int) -> int:
    """The proportional set size of one process now; 0 when it has just ended."""
    with suppress(OSError), open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
        for line in file:
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0


def cpu_seconds(pid: int) -> float:
    """User and system time of one process so far, without its children; 0 when it has just ended."""
    with suppress(OSError), open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
        fields = (
            file.read().rpartition(")")[2].split()
        )  # from the third field on: the second, the name, may hold spaces
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return 0.0


def pin_to_cores(count: int) -> int:
    """Keep this process and everything it starts on `count` cores, fewer where there are fewer; returns how many."""
    allowed = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, allowed[:count])
    return len(allowed[:count])


def embed_command(embed: str, folder: Path, index: Path) -> list[str | Path]:
    """The command line that is measured: `faceembed embed FOLDER -o INDEX --json`."""
    return [*shlex.split(embed), folder, "-o", index, "--json"]


def warm_up(embed: str, root: Path, names: Sequence[str]) -> Measured:
    """One run over a few photos: models fetched and converted, libraries in the page cache. Nobody measures a first run.

    Called once more, it is a measurement of the start-up.
    """
    few = names[:WARM_UP_PHOTOS]
    with tempfile.TemporaryDirectory(prefix="faceembed-warm-up-") as temporary:
        folder = link_photos(root, few, Path(temporary) / "photos")
        return measure(embed_command(embed, folder, Path(temporary) / "index.faiss"))
