"""`embed` and `bench` on a card: refused in one line where there is none, never replaced by the CPU."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from faceembed.cli.main import main
from faceembed.engine.runtimes import choose
from faceembed.errors import DeviceError


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(b"never opened")
    return folder


@pytest.fixture(autouse=True)
def no_card(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> None:
        raise DeviceError("no NVIDIA driver on this machine; install driver 580 or newer, or use --device cpu")

    monkeypatch.setattr(choose, "probe", none)


def run(*words: object) -> tuple[int, str]:
    result = CliRunner().invoke(main, [str(word) for word in words])
    return result.exit_code, result.stderr


@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
@pytest.mark.parametrize("command", ["embed", "bench"])
def test_no_card(photos: Path, tmp_path: Path, command: str, device: str) -> None:
    output = ["-o", tmp_path / "index.faiss"] if command == "embed" else []
    code, said = run(command, photos, *output, "--device", device, "--aligner", "none")
    assert code == 1
    assert said.count("\n") == 1
    assert "no NVIDIA driver on this machine" in said
    assert not list(tmp_path.glob("index.*"))


def test_an_aligner_that_has_no_way_onto_a_card(photos: Path, tmp_path: Path) -> None:
    code, said = run("embed", photos, "-o", tmp_path / "index.faiss", "--device", "cuda", "--aligner", "mtcnn")
    assert code == 1
    assert said.count("\n") == 1
    assert "aligner 'mtcnn' runs on the CPU only" in said
    assert "--aligner faceembed-align" in said


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--gpu-memory", "plenty"], "--gpu-memory 'plenty' is not an amount of memory"),
        (["--gpu-memory", "1M", "--device", "cuda"], "too little"),
        (["--gpu-memory", "8G", "--device", "cpu"], "--gpu-memory is for an NVIDIA card"),
        (["--decoder", "dali", "--device", "cpu"], "--decoder is for an NVIDIA card"),
        (["--decoder", "turbo"], "'turbo' is not one of 'nvimagecodec', 'dali'"),
        (["--processes", "2", "--device", "cpu"], "--processes is for an NVIDIA card"),
        (["--processes", "0"], "--processes"),
    ],
)
def test_wrong_memory(photos: Path, tmp_path: Path, words: list[str], message: str) -> None:
    code, said = run("embed", photos, "-o", tmp_path / "index.faiss", "--aligner", "none", *words)
    assert code == 2
    assert message in said


def test_bench_measures_one_process(photos: Path) -> None:
    code, said = run("bench", photos, "--device", "cuda", "--processes", "2")
    assert code == 2 and "the stages of one process are measured" in said


@pytest.mark.parametrize("option", [["--decoder", "dali"], ["--processes", "2"]])
def test_options_of_a_card_where_auto_finds_none(photos: Path, tmp_path: Path, option: list[str]) -> None:
    code, said = run("embed", photos, "-o", tmp_path / "index.faiss", "--aligner", "none", *option)
    assert code == 2 and f"{option[0]} is for an NVIDIA card, and this run computes on the CPU" in said


def test_memory_of_a_card_where_auto_finds_none(photos: Path, tmp_path: Path) -> None:
    """What was asked for is not dropped."""
    code, said = run("embed", photos, "-o", tmp_path / "index.faiss", "--aligner", "none", "--gpu-memory", "8G")
    assert code == 2
    assert "this run computes on the CPU" in said
