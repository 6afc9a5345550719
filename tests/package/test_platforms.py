"""The package imports where POSIX's own modules and functions are not, as on Windows and macOS; and a wheel of it stays small."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted(path for name in ("engine", "trainer", "cli", "src/faceembed") for path in (ROOT / name).rglob("*.py"))
MODULES = ("crypt", "fcntl", "grp", "posix", "pty", "pwd", "resource", "syslog", "termios", "tty")
FUNCTIONS = {
    "os": [
        "chown",
        "chroot",
        "fchmod",
        "fchown",
        "fork",
        "forkpty",
        "getegid",
        "geteuid",
        "getgid",
        "getgroups",
        "getloadavg",
        "getpgid",
        "getpgrp",
        "getppid",
        "getuid",
        "kill",
        "killpg",
        "lchown",
        "mkfifo",
        "mknod",
        "nice",
        "openpty",
        "O_DIRECTORY",
        "O_NOFOLLOW",
        "posix_fadvise",
        "posix_fallocate",
        "posix_spawn",
        "pread",
        "preadv",
        "pwrite",
        "sched_getaffinity",
        "sched_setaffinity",
        "sched_yield",
        "sendfile",
        "setpgid",
        "setsid",
        "setuid",
        "statvfs",
        "sync",
        "sysconf",
        "uname",
        "wait",
        "waitpid",
    ],
    "signal": [
        "SIGALRM",
        "SIGCHLD",
        "SIGHUP",
        "SIGKILL",
        "SIGPIPE",
        "SIGQUIT",
        "SIGSTOP",
        "SIGUSR1",
        "SIGUSR2",
        "alarm",
        "pause",
        "pthread_kill",
        "pthread_sigmask",
        "setitimer",
    ],
    "socket": ["AF_UNIX", "SO_REUSEPORT", "socketpair"],
}

_NAMES = re.compile(rf"\b(?:{'|'.join(name for names in FUNCTIONS.values() for name in names)})\b")

# In a process of its own: whoever of faceembed asks for one of the modules does not get it, libraries do.
HIDE = """
import builtins, importlib, pkgutil, sys
hidden, real = {hidden!r}, builtins.__import__
def without(name, globals=None, locals=None, fromlist=(), level=0):
    if name.partition(".")[0] in hidden and str((globals or {{}}).get("__name__")).partition(".")[0] == "faceembed":
        raise ModuleNotFoundError(f"No module named '{{name}}'", name=name)
    return real(name, globals, locals, fromlist, level)
builtins.__import__ = without
{first}
import faceembed
names = [m.name for m in pkgutil.walk_packages(faceembed.__path__, "faceembed.") if not m.name.endswith("__main__")]
for name in names:
    importlib.import_module(name)
print(len(names))
{then}
"""


def hidden(*, first: str = "", then: str = "") -> subprocess.CompletedProcess[str]:
    """Run some lines, import everything, and run others, all without POSIX's modules."""
    code = HIDE.format(hidden=set(MODULES), first=first, then=then)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_everything_imports_without_posix() -> None:
    """Every module, and a command runs."""
    pytest.importorskip("torch")
    done = hidden(then="from faceembed.cli.main import main; main(['models', 'list', '--json'], standalone_mode=False)")
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout.split()[0]) > 200
    assert "faceembed-align" in done.stdout


def test_a_module_of_posix_would_be_found() -> None:
    """The hiding hides: what asks for one is told that there is none."""
    done = hidden(first="exec('import fcntl', {'__name__': 'faceembed.engine.made_up'})")
    assert done.returncode == 1
    assert "No module named 'fcntl'" in done.stderr


def unguarded(text: str) -> Iterator[str]:
    """Names such as ``os.fork`` that are used where nothing has asked whether they are there.

    Asked is by ``hasattr(os, "fork")`` in the same function, or by ``getattr(os, "fork", …)`` in place of the name.
    """
    if not _NAMES.search(text):
        return
    tree = ast.parse(text)
    scopes = [node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
    inside = {id(node) for scope in scopes for node in ast.walk(scope)}
    for scope in (*scopes, tree):
        nodes = [node for node in ast.walk(scope) if scope is not tree or id(node) not in inside]
        asked = {
            arg.value
            for node in nodes
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "hasattr"
            for arg in node.args[1:]
            if isinstance(arg, ast.Constant)
        }
        for node in nodes:
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                name = f"{node.value.id}.{node.attr}"
                if node.attr in FUNCTIONS.get(node.value.id, ()) and node.attr not in asked:
                    yield name


def test_functions_of_posix_are_asked_for() -> None:
    """`os.sched_getaffinity` and its like are used only where a line before has looked whether they are there."""
    found = {
        (path.relative_to(ROOT).as_posix(), name) for path in SOURCES for name in unguarded(path.read_text("utf-8"))
    }
    assert len(SOURCES) > 200
    assert found == set()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("import os\ndef f():\n    return os.getuid()\n", ["os.getuid"]),
        ("import signal\nsignal.alarm(1)\n", ["signal.alarm"]),
        ("import os\ndef f():\n    return os.uname() if hasattr(os, 'uname') else None\n", []),
        ("import os\ndef f():\n    return getattr(os, 'O_NOFOLLOW', 0)\n", []),
        ("import os\ndef f():\n    hasattr(os, 'fork')\ndef g():\n    os.fork()\n", ["os.fork"]),
    ],
)
def test_the_search_for_them(text: str, found: list[str]) -> None:
    """It sees what is not guarded, and only that."""
    assert list(unguarded(text)) == found


def test_a_wheel_is_small(tmp_path: Path) -> None:
    """What a wheel holds beside its native module (0.2 MB) leaves room below 16 MB."""
    archive = tmp_path / "wheel.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for name in ("engine", "trainer", "cli", "src"):
            for path in (ROOT / name).rglob("*"):
                if path.is_file() and path.suffix not in (".cpp", ".pyc", ".so"):
                    file.write(path, path.relative_to(ROOT))
    assert 5e6 < archive.stat().st_size < 15.5e6


@pytest.mark.skipif(sys.version_info < (3, 11), reason="tomllib is new in 3.11")
def test_wheels_are_tried_before_they_are_kept() -> None:
    """cibuildwheel makes what is promised, and each wheel compares two photos."""
    import tomllib

    config = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["cibuildwheel"]
    assert config["linux"]["archs"] == ["x86_64", "aarch64"]
    assert config["macos"]["archs"] == ["arm64"]
    assert "verify --sample" in config["test-command"]
