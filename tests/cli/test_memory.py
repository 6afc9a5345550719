"""A command is sparing with memory and time: what one thread gave back, another takes, Arrow has no hoard of its own, nobody runs idle."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

THREADS = """
import ctypes, os, threading
{first}
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
ready, done = threading.Barrier(4), threading.Event()
def work():
    libc.malloc(1000)
    ready.wait()
    done.wait()
threads = [threading.Thread(target=work) for _ in range(3)]
[thread.start() for thread in threads]
ready.wait()
libc.malloc_stats()
done.set()
"""
SPARING = "from faceembed.cli import libraries; libraries._FEW_CORES = 1 << 20; libraries.keep_small()"


@pytest.mark.skipif(sys.platform != "linux", reason="arenas are those of GNU's C library")
@pytest.mark.parametrize(("first", "arenas"), [(SPARING, 1), (SPARING.replace("1 << 20", "0"), 4)])
def test_one_arena_for_all_threads(first: str, arenas: int) -> None:
    script = THREADS.format(first=first)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stderr.count("Arena ") == arenas, done.stderr


@pytest.mark.parametrize(("environment", "pool"), [("", "system"), ("mimalloc", "mimalloc")])
def test_arrows_pool(environment: str, pool: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ARROW_DEFAULT_MEMORY_POOL", raising=False)
    if environment:
        monkeypatch.setenv("ARROW_DEFAULT_MEMORY_POOL", environment)
    script = f"{SPARING}; import pyarrow; print(pyarrow.default_memory_pool().backend_name)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == pool


@pytest.mark.skipif(sys.platform != "linux", reason="a process's threads are read from /proc")
@pytest.mark.parametrize("environment", ["", "30"])
def test_idle_threads_sleep(environment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """NumPy's own threads of linear algebra compute nothing, so they take no time: 40 ms each without; what was set stays."""
    monkeypatch.delenv("OPENBLAS_THREAD_TIMEOUT", raising=False)
    if environment:
        monkeypatch.setenv("OPENBLAS_THREAD_TIMEOUT", environment)
    script = (
        "import glob, os, time; from faceembed.cli import libraries; libraries.sleep_soon(); import numpy; time.sleep(0.5)\n"
        "times = {path: open(path).read().split(')')[1].split()[11] for path in glob.glob('/proc/self/task/*/stat')}\n"
        "print(os.environ['OPENBLAS_THREAD_TIMEOUT'], *(t for path, t in times.items() if f'/{os.getpid()}/' not in path))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    timeout, *ticks = done.stdout.split()
    assert timeout == (environment or "4")
    if not environment:
        assert all(int(tick) <= 1 for tick in ticks)  # hundredths of a second


def test_embed_imports_nothing_that_it_does_not_need(small: Path, tmp_path: Path) -> None:
    """Half a second of one photo's second: what Arrow imports on the way where it is installed, and what other commands work with."""
    script = (
        "import sys; from faceembed.cli.main import main\n"
        f"main(['embed', {str(small)!r}, '-o', {str(tmp_path / 'p.faiss')!r}, '-q'], standalone_mode=False)\n"
        "print(*(name for name in ('pandas', 'pyarrow.compute', 'pyarrow.dataset', 'ray', 'torch', 'fastapi') if name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
