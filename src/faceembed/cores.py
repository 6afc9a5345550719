"""How many cores this process may compute on: its affinity, and the share of the processor that its control group leaves it.

`docker run --cpus=2` and a Kubernetes limit do not narrow the affinity: on a machine of 128 cores a process sees all of them and is stopped
for most of each period when it uses them. Formats: Linux `Documentation/admin-guide/cgroup-v2.rst` (``cpu.max``) and
`Documentation/scheduler/sched-bwc.rst` (``cpu.cfs_quota_us``, ``cpu.cfs_period_us``); `proc_pid_mountinfo(5)`.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

# What counts cores by itself: OpenMP (FAISS, PyTorch, Arrow) and the BLAS of NumPy and SciPy, which reads this too.
THREADS_VARIABLE = "OMP_NUM_THREADS"


def available_cores(root: Path = Path("/")) -> int:
    """Cores that this process may keep busy: those of its affinity, at most the quota of its control groups, rounded up; at least 1.

    Args:
        root: where ``proc`` and the control groups lie; another folder in tests.
    """
    quota = cpu_quota(root)
    cores = _affinity()
    return cores if quota is None else max(1, min(cores, math.ceil(quota)))


def cpu_quota(root: Path = Path("/")) -> float | None:
    """The cores' worth of time that control groups of version 1 or 2 leave this process; None where nothing limits it.

    A group's limit holds for all below it, so the smallest on the way to the root counts.

    Args:
        root: as in `available_cores`.
    """
    limits = [limit for folder in _groups(root) if (limit := _limit(folder)) is not None]
    return min(limits, default=None)


def thread_limits(root: Path = Path("/")) -> dict[str, str]:
    """Environment variables that keep libraries, which know the affinity alone, within the quota; empty where there is none.

    Args:
        root: as in `available_cores`.
    """
    cores = available_cores(root)
    return {THREADS_VARIABLE: str(cores)} if cores < _affinity() else {}


def _affinity() -> int:
    if hasattr(os, "sched_getaffinity"):  # neither on macOS nor on Windows
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _groups(root: Path) -> Iterator[Path]:
    """The folders of this process's control groups that may limit its time, from its own up to each hierarchy's root."""
    own = dict(_own_groups(_lines(root / "proc/self/cgroup")))
    for line in _lines(root / "proc/self/mountinfo"):
        left, dash, right = line.partition(" - ")
        fields, kind = left.split(), right.split()
        if not dash or len(fields) < 5 or len(kind) < 3 or kind[0] not in ("cgroup", "cgroup2"):
            continue
        controller = "" if kind[0] == "cgroup2" else "cpu"
        if controller not in own or (controller and controller not in kind[2].split(",")):
            continue
        mounted, path = PurePosixPath(_unescaped(fields[3])), PurePosixPath(own[controller])
        # In a container the mount shows the container's own group, whose path may be that of the host.
        inside = path.is_relative_to(mounted) and ".." not in path.parts
        below = path.relative_to(mounted) if inside else PurePosixPath()
        place = root / _unescaped(fields[4]).lstrip("/")
        yield from (place / part for part in (below, *below.parents))


def _own_groups(lines: list[str]) -> Iterator[tuple[str, str]]:
    """(controller, path) of ``/proc/self/cgroup``: ``0::/path`` of version 2, ``4:cpu,cpuacct:/path`` of version 1."""
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, colon, path = rest.partition(":")
        if colon:
            yield from ((controller, path) for controller in controllers.split(","))


def _limit(folder: Path) -> float | None:
    """Cores' worth of time of one group; None where it has no limit, or none that can be read."""
    words = " ".join(_lines(folder / "cpu.max")).split()
    if not words:
        quota, period = (_lines(folder / f"cpu.cfs_{name}_us") for name in ("quota", "period"))
        words = [*quota, *period]
    try:
        quota_us, period_us = (int(word) for word in words)
    except ValueError:  # "max 100000", or there are no such files
        return None
    return quota_us / period_us if quota_us > 0 and period_us > 0 else None


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return []


def _unescaped(field: str) -> str:
    """A path of mountinfo, in which a space is written as its octal code."""
    for code, char in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        field = field.replace(code, char)
    return field
