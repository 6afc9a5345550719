"""Cores are counted within the quota of control groups, of both versions, as files of the kernel's form say it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from faceembed import cores
from faceembed.cli.main import main
from faceembed.engine.runtimes.choose import RuntimeSettings

V2 = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate"
V1 = "33 32 0:30 {root} /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct"
MEMORY = "35 32 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory"
CPU = "sys/fs/cgroup/cpu,cpuacct"


def v1(quota: str, period: str = "100000", folder: str = CPU) -> dict[str, str]:
    """The two files of one group of version 1."""
    return {f"{folder}/cpu.cfs_quota_us": f"{quota}\n", f"{folder}/cpu.cfs_period_us": f"{period}\n"}


CASES: dict[str, tuple[list[str], list[str], dict[str, str], float | None, int]] = {
    # own groups, mounts, files, quota, cores of 128
    "docker --cpus=2, version 2": (["0::/"], [V2], {"sys/fs/cgroup/cpu.max": "200000 100000\n"}, 2.0, 2),
    "no limit, version 2": (["0::/"], [V2], {"sys/fs/cgroup/cpu.max": "max 100000\n"}, None, 128),
    "a part of a core more is a core more": (["0::/"], [V2], {"sys/fs/cgroup/cpu.max": "150000 100000"}, 1.5, 2),
    "less than a core is one": (["0::/"], [V2], {"sys/fs/cgroup/cpu.max": "10000 100000"}, 0.1, 1),
    "more than there are": (["0::/"], [V2], {"sys/fs/cgroup/cpu.max": "25600000 100000"}, 256.0, 128),
    "the parent's limit counts": (
        ["0::/user.slice/run.scope"],
        [V2],
        {
            "sys/fs/cgroup/user.slice/run.scope/cpu.max": "max 100000\n",
            "sys/fs/cgroup/user.slice/cpu.max": "400000 100000\n",
        },
        4.0,
        4,
    ),
    "the smallest counts": (
        ["0::/a/b"],
        [V2],
        {"sys/fs/cgroup/a/b/cpu.max": "300000 100000", "sys/fs/cgroup/a/cpu.max": "800000 100000"},
        3.0,
        3,
    ),
    "a group outside of the namespace": (["0::/../x"], [V2], {"sys/fs/cgroup/cpu.max": "200000 100000"}, 2.0, 2),
    "another group's limit does not": (["0::/a"], [V2], {"sys/fs/cgroup/b/cpu.max": "100000 100000"}, None, 128),
    "a mount with a space": (
        ["0::/"],
        [V2.replace("/sys/fs/cgroup", "/sys/fs/my\\040groups")],
        {"sys/fs/my groups/cpu.max": "200000 100000"},
        2.0,
        2,
    ),
    "version 1, on the host": (
        ["4:cpu,cpuacct:/jobs/7", "5:memory:/jobs/7"],
        [V1.format(root="/"), MEMORY],
        v1("600000", folder=f"{CPU}/jobs/7"),
        6.0,
        6,
    ),
    "docker --cpus=2, version 1": (["4:cpuacct,cpu:/docker/ab"], [V1.format(root="/docker/ab")], v1("200000"), 2.0, 2),
    "version 1, with the host's path": (["4:cpu,cpuacct:/docker/ab"], [V1.format(root="/x")], v1("200000"), 2.0, 2),
    "no limit, version 1": (["4:cpu,cpuacct:/"], [V1.format(root="/")], v1("-1"), None, 128),
    "another period": (["4:cpu,cpuacct:/"], [V1.format(root="/")], v1("50000", "10000"), 5.0, 5),
    "both versions": (
        ["4:cpu,cpuacct:/", "0::/"],
        [V1.format(root="/"), V2.replace("/sys/fs/cgroup", "/sys/fs/cgroup/unified")],
        v1("300000"),
        3.0,
        3,
    ),
    "memory alone is limited": (["5:memory:/"], [MEMORY], {"sys/fs/cgroup/memory/limit": "1"}, None, 128),
    "half written": (["0::/"], [V2, "33 -", ""], {"sys/fs/cgroup/cpu.max": "200000"}, None, 128),
    "no control groups": ([], [], {}, None, 128),
}


def made(folder: Path, own: list[str], mounts: list[str], files: dict[str, str]) -> Path:
    """A root with these control groups."""
    contents = {"proc/self/cgroup": "\n".join(own), "proc/self/mountinfo": "\n".join(mounts), **files}
    for name, text in contents.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


@pytest.mark.parametrize("case", CASES)
def test_the_quota_bounds_the_cores(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """128 cores by affinity, and what the control groups leave of them."""
    own, mounts, files, quota, expected = CASES[case]
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(128)), raising=False)
    root = made(tmp_path, own, mounts, files)
    assert cores.cpu_quota(root) == quota
    assert cores.available_cores(root) == expected
    limits = {"OMP_NUM_THREADS": str(expected)} if expected < 128 else {}
    assert cores.thread_limits(root) == limits


def test_affinity_bounds_the_quota(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`taskset` to three cores under a quota of eight leaves three; no file says what it is where there is none."""
    root = made(tmp_path, ["0::/"], [V2], {"sys/fs/cgroup/cpu.max": "800000 100000"})
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {1, 5, 7}, raising=False)
    assert cores.available_cores(root) == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert cores.available_cores(tmp_path / "nothing") == 1


def test_everything_asks_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers, what the doctor says, and libraries that a command loads: all by the quota."""
    root = made(tmp_path, ["0::/"], [V2], {"sys/fs/cgroup/cpu.max": "300000 100000"})
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(128)), raising=False)
    for name in ("available_cores", "cpu_quota", "thread_limits"):
        function = getattr(cores, name)
        for module in ("engine.runtimes.choose", "engine.verbs.doctor", "cli.main"):
            monkeypatch.setattr(f"faceembed.{module}.{name}", lambda function=function: function(root), raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert RuntimeSettings().thread_count == 3
    assert "3 cores (the control group's quota: 3)" in CliRunner().invoke(main, ["doctor"]).output
    assert os.environ["OMP_NUM_THREADS"] == "3"
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # what a user has set stays
    CliRunner().invoke(main, ["models", "list", "-q"])
    assert os.environ["OMP_NUM_THREADS"] == "1"


def test_nothing_else_counts_cores() -> None:
    """No other file of the package asks the system how many cores there are."""
    root = Path(__file__).parents[2]
    files = [path for name in ("engine", "trainer", "cli", "src") for path in (root / name).rglob("*.py")]
    asks = [
        path.relative_to(root).as_posix()
        for path in files
        if any(word in path.read_text(encoding="utf-8") for word in ("sched_getaffinity", "cpu_count("))
    ]
    assert len(files) > 100
    assert [Path(path).name for path in asks] == ["cores.py"]
