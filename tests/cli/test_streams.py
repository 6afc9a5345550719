"""Standard streams that are closed, full or left: a line that cannot be said ends nothing, a result that cannot be is said so."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from faceembed.files import atomic_write

# A command line of our kind whose one command says a line, and a result, and how the next file is numbered.
SMALL = """
import os, sys
import click
from faceembed.cli.group import Program
from faceembed.cli.options import output_options

@click.group(cls=Program)
def main(): pass

@main.command()
@output_options
@click.pass_context
def say(ctx, out):
    from faceembed.cli.group import OUTPUT
    ctx.meta[OUTPUT] = "people.faiss"
    with out.reporter() as reporter:
        reporter.notice("a notice")
    os.write(2, b"a library's line\\n") if "write" in sys.argv else None
    descriptor = os.open(os.devnull, os.O_RDONLY)
    with open("number", "w") as file:
        file.write(str(descriptor))
    out.result({"a": 1}, "a result")

main(prog_name="small")
"""


def shell(tmp_path: Path, redirections: str, *args: str, code: str = SMALL) -> subprocess.CompletedProcess[str]:
    (tmp_path / "small.py").write_text(code)
    line = f"{sys.executable} small.py {' '.join(args)} {redirections}"
    return subprocess.run(["bash", "-c", line], check=False, cwd=tmp_path, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("redirection", ["2>&-", "2>/dev/full", "2> >(exec 0<&-)"])
def test_a_line_that_cannot_be_said_ends_nothing(redirection: str, tmp_path: Path) -> None:
    done = shell(tmp_path, redirection, "say")
    assert (done.returncode, done.stdout) == (0, "a result\n")
    assert int((tmp_path / "number").read_text()) > 2  # no file of ours may be called "standard error"


@pytest.mark.parametrize(
    ("redirection", "reason"), [(">&-", "it is closed"), (">/dev/full", "No space left on device; free some space")]
)
@pytest.mark.parametrize("args", [["say"], ["say", "--json"], ["--help"], ["say", "--help"]])
def test_a_result_that_cannot_be_said_is_an_error_of_stdout(
    args: list[str], redirection: str, reason: str, tmp_path: Path
) -> None:
    done = shell(tmp_path, redirection, *args)
    assert done.returncode == 1
    lines = [line for line in done.stderr.splitlines() if line != "a notice"]
    assert len(lines) == 1 and lines[0].startswith(f"Error: standard output: {reason}"), done.stderr
    assert "people.faiss" not in done.stderr


@pytest.mark.parametrize("redirections", [">&- 2>&-", "<&- >&- 2>&-", ">/dev/full 2>/dev/full"])
def test_nothing_can_be_said_at_all(redirections: str, tmp_path: Path) -> None:
    assert shell(tmp_path, redirections, "say").returncode == 1
    assert int((tmp_path / "number").read_text()) > 2


def test_a_wrong_word_is_wrong_usage_heard_or_not(tmp_path: Path) -> None:
    assert [shell(tmp_path, how, "sey").returncode for how in ("2>&-", "2>/dev/full", "")] == [2, 2, 2]


def test_a_reader_that_leaves_ends_it_quietly(tmp_path: Path) -> None:
    code = SMALL.replace('"a result")', '"a result\\n" * 100_000)')
    done = shell(tmp_path, "| head -1", "say", "-q", code=code)
    assert (done.stdout, done.stderr) == ("a result\n", "")


@pytest.mark.parametrize("redirection", ["2>&-", "2>/dev/full", ">/dev/full"])
def test_an_index_is_made_whatever_can_be_heard(redirection: str, small: Path, tmp_path: Path) -> None:
    code = "from faceembed.cli.main import main; main(prog_name='faceembed')"
    done = shell(tmp_path, redirection, "embed", str(small), "-o", "people.faiss", code=code)
    assert done.returncode == (1 if redirection == ">/dev/full" else 0), done.stderr
    assert json.loads((tmp_path / "people.faiss.json").read_text())["faces"] == 2
    if redirection == ">/dev/full":
        assert done.stderr.splitlines()[-1].startswith("Error: standard output: No space left on device")


# --------------------------------------------------------------------------------------------------- names of outputs


OUTPUTS = {
    "embed": ["embed", "PHOTOS", "-o", "OUT.faiss"],
    "cluster": ["cluster", "INDEX", "-o", "OUT.parquet"],
    "links": ["cluster", "INDEX", "-o", "c.parquet", "--links", "OUT"],
    "project": ["project", "INDEX", "-o", "OUT.html"],
    "matrix": ["matrix", "PHOTOS", "--html", "OUT.html"],
    "picture": ["matrix", "PHOTOS", "--png", "OUT.png"],
    "align": ["data", "align", "PHOTOS", "-o", "OUT"],
    "split": ["data", "split", "PHOTOS", "-o", "OUT.json"],
}


@pytest.mark.parametrize("name", OUTPUTS)
@pytest.mark.parametrize(("place", "reason"), [("s3://bucket/x", "is an address"), ("n" * 300, "is too long a name")])
def test_an_output_that_can_be_no_file_is_refused_before_the_work(
    name: str,
    place: str,
    reason: str,
    run: Any,
    small: Path,
    index: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setattr("faceembed.engine.pipeline.loading.resolve_models", lambda *_, **__: pytest.fail("it began"))
    words = {"PHOTOS": str(small), "INDEX": str(index)}
    args = [words.get(word, word.replace("OUT", place)) for word in OUTPUTS[name]]
    result = run(*args, code=2)
    assert reason in result.stderr
    assert list(work.iterdir()) == []


@pytest.mark.parametrize(("letters", "taken"), [(230, True), (235, True), (236, False), (245, False)])
def test_an_index_name_leaves_room_for_what_lies_beside_it(
    letters: int, taken: bool, run: Any, small: Path, tmp_path: Path, reuse_pipeline: object
) -> None:
    """255 bytes a name, of which the longest ending takes 20."""
    index = tmp_path / ("n" * letters + ".faiss")
    result = run("embed", small, "-o", index, "--index", "SQ8", code=0 if taken else 2)
    if taken:
        assert index.exists()
    else:
        assert "too long a name" in result.stderr and list(tmp_path.iterdir()) == []


@hypothesis_settings(max_examples=40, deadline=None)
@given(st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=255))
def test_every_name_that_a_file_can_have_can_be_written(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    """A file system counts bytes: the name of the temporary file must not be the longer one."""
    while len(os.fsencode(name)) > 255:
        name = name[:-1]
    if name in (".", ".."):
        return
    path = os.path.join(tmp_path_factory.getbasetemp(), name)
    with atomic_write(path, sync=False) as file:
        file.write(b"whole")
    assert Path(path).read_bytes() == b"whole"
    os.unlink(path)


# --------------------------------------------------------------------------------------------------- nobody's home

NOBODY = """
import os, pwd
def unknown(number): raise KeyError(f"getpwuid(): uid not found: {number}")
pwd.getpwuid = unknown
os.environ.pop("HOME", None)
"""


@pytest.mark.parametrize("runtime", ["openvino", "onnxruntime"])
def test_a_user_without_an_account_and_a_home(
    runtime: str, small: Path, tmp_path: Path, start: Callable[..., subprocess.Popen[str]]
) -> None:
    environment = {name: value for name, value in os.environ.items() if name not in ("HOME", "FACEEMBED_HOME")}
    environment = {name: value for name, value in environment.items() if not name.startswith("XDG_")}
    photos = [small / "small.jpg", small / "cropped.jpg"]
    process = start("verify", *photos, "--runtime", runtime, "--json", code=NOBODY, env=environment, cwd=tmp_path)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0 and "Traceback" not in err, err
    assert json.loads(out)["same"] is True
    assert list(tmp_path.iterdir()) == []  # no folder that is called "~"


def test_what_must_be_kept_then_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    from faceembed.engine.models import store
    from faceembed.errors import ModelError

    def nobody(*_: object, **__: object) -> str:
        raise RuntimeError("could not determine the home directory")

    monkeypatch.delenv("FACEEMBED_HOME", raising=False)
    monkeypatch.setattr(store.platformdirs, "user_cache_dir", nobody)
    assert store.home() == Path("/nonexistent/faceembed")
    monkeypatch.setattr(store.platformdirs, "user_cache_dir", lambda name: f"~/.cache/{name}")
    assert store.home() == Path("/nonexistent/faceembed")
    monkeypatch.setattr(Path, "mkdir", lambda *_, **__: (_ for _ in ()).throw(PermissionError(13, "Permission denied")))
    with pytest.raises(ModelError, match="set FACEEMBED_HOME"), store.writing(store.home()):
        pass


def test_reading_a_table_starts_no_threads_of_arrow(index: Path, start: Callable[..., subprocess.Popen[str]]) -> None:
    """They abort a process now and then at its end (apache/arrow 34314); 3 of 50 scripts that embedded twice."""
    code = f"""
import os, sys
import pyarrow as pa
pa.set_cpu_count(4)
from faceembed.engine.photos.rows import read_parquet
before = len(os.listdir("/proc/self/task"))
table = read_parquet({str(index.with_suffix(".faiss.parquet"))!r}, advice="")
print(len(table), len(os.listdir("/proc/self/task")) - before)
if "fault" in sys.argv:
    import pyarrow.parquet as pq
    pq.read_table({str(index.with_suffix(".faiss.parquet"))!r})
    print(len(os.listdir("/proc/self/task")) > before)
sys.exit()
"""
    out, err = start("fault", code=code).communicate(timeout=60)
    assert out.split() == ["2", "0", "True"], err


REDIRECTED = """
import click
from faceembed.cli.group import Program
from faceembed.cli.options import file_argument, file_option, output_file_option, output_options

@click.group(cls=Program)
def main(): pass

@main.command()
@file_argument("photos", nargs=-1)
@file_option("-o", "--output")
@output_file_option("--scores", kind="scores")
@output_options
def say(photos, output, scores, out):
    out.result({"a": 1}, "a result")

main(prog_name="small")
"""


@pytest.mark.parametrize(
    ("args", "redirection", "path"),
    [
        ("-o p.faiss", "> p.faiss", "p.faiss"),
        ("-o p.faiss", "> p.faiss.json", "p.faiss.json"),
        ("-o ./p.faiss", "2>> p.faiss.parquet", "./p.faiss.parquet"),
        ("a.csv b.csv", "> b.csv", "b.csv"),
        ("a.csv", "> link.csv", "a.csv"),
        ("a.csv --scores s.csv", "> s.csv", "s.csv"),
    ],
)
def test_a_stream_that_goes_into_a_file_of_the_command(args: str, redirection: str, path: str, tmp_path: Path) -> None:
    """The shell has emptied it by then; what was done to it is said, in place of what its content is not."""
    (tmp_path / "a.csv").touch()
    (tmp_path / "link.csv").symlink_to("a.csv")
    done = shell(tmp_path, redirection, "say", args, code=REDIRECTED)
    name = "standard error" if redirection.startswith("2") else "standard output"
    said = done.stderr or (tmp_path / path).read_text()
    assert done.returncode == 2
    assert said == f"Error: {name} is redirected into {path}, a file of this command; redirect it into another one\n"


@pytest.mark.parametrize("redirection", ["> p.json", ">> q.faiss.json", "> a.csv.txt 2>&1", "> /dev/null"])
def test_other_redirections_are_none_of_its_business(redirection: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").touch()
    assert shell(tmp_path, redirection, "say", "a.csv -o p.faiss", code=REDIRECTED).returncode == 0


@pytest.mark.parametrize(("flags", "reason"), [(os.ST_RDONLY, "Read-only file system"), (0, "Permission denied")])
def test_why_an_output_cannot_be_written(
    flags: int, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As nobody is asked for a right that nobody has."""
    import click

    from faceembed.cli import options

    monkeypatch.setattr(os, "access", lambda path, mode: not (str(path) == str(tmp_path) and mode == os.W_OK))
    monkeypatch.setattr(os, "statvfs", lambda path: types.SimpleNamespace(f_flag=flags))
    command = click.Command("x")
    with pytest.raises(OSError, match=reason):
        options._writable(click.Context(command), click.Option(["-o"]), str(tmp_path / "a.parquet"))
