"""NVRTC compiles every kernel for every architecture, without a card; the result is kept on disk under a key that holds."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from faceembed.engine.pipeline.gpu import compiler, lane
from faceembed.engine.pipeline.gpu.compiler import Compiled
from faceembed.errors import DeviceError
from faceembed.install import pip_install

ARCHITECTURES = ("sm_75", "sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120")
MOST_REGISTERS = 128  # two blocks of 256 threads fit a multiprocessor's 65,536
REGISTERS = {"fe_gather_f16": 80, "fe_gather_f32": 80, "fe_gather_u8": 80, "fe_paint": 80}  # three: the pixels' work


def kernel_names() -> set[str]:
    source = compiler.SOURCE.read_text()
    return set(re.findall(r"^FE_KERNEL (fe_\w+)\(", source, re.MULTILINE)) | set(
        re.findall(r"^FE_[A-Z]+\((fe_\w+),", source, re.MULTILINE)
    )


@pytest.fixture(scope="module")
def nvrtc() -> tuple[str, ...]:
    """What NVRTC knows."""
    try:
        return compiler.supported_architectures()
    except DeviceError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def compiled(nvrtc: tuple[str, ...]) -> dict[str, Compiled]:
    return {arch: compiler.compile_kernels(arch) for arch in ARCHITECTURES if arch in nvrtc}


def test_every_kernel_compiles_for_every_architecture(compiled: dict[str, Compiled]) -> None:
    assert len(kernel_names()) == 10
    assert {"sm_75", "sm_80", "sm_86", "sm_89", "sm_90"} <= set(compiled)
    for arch, result in compiled.items():
        assert result.cubin[:4] == b"\x7fELF"
        assert {use.name for use in result.use} == kernel_names(), arch
        assert all(name.encode() in result.cubin for name in kernel_names())


def test_no_kernel_spills(compiled: dict[str, Compiled]) -> None:
    for arch, result in compiled.items():
        for use in result.use:
            print(f"{arch:>6} {use.name:<14} {use.registers:>3} registers, {use.spill_bytes} bytes spilled, "
                  f"{use.stack_bytes} bytes of stack, {use.shared_bytes} bytes shared")  # fmt: skip
            assert 0 < use.registers <= REGISTERS.get(use.name, MOST_REGISTERS), (arch, use)
            assert use.spill_bytes == 0, (arch, use)
            assert use.stack_bytes == 0, (arch, use)
            assert use.shared_bytes <= 8192, (arch, use)


def test_what_ptxas_writes_is_read() -> None:
    log = """ptxas info    : 48 bytes gmem
ptxas info    : Compiling entry function 'two' for 'sm_90'
ptxas info    : Function properties for two
ptxas         .     40 bytes stack frame, 12 bytes spill stores, 16 bytes spill loads
ptxas info    : Used 255 registers, used 1 barriers, 2048 bytes smem, 448 bytes cmem[0]
ptxas info    : Compiling entry function 'one' for 'sm_90'
ptxas info    : Function properties for one
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 32 registers, used 0 barriers
"""
    assert compiler.parse_use(log) == (
        compiler.KernelUse("one", 32, 0, 0, 0),
        compiler.KernelUse("two", 255, 40, 28, 2048),
    )


def test_nvcc_compiles_them_too(tmp_path: Path) -> None:
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        pytest.skip("no nvcc on the path")
    target = tmp_path / "kernels.cubin"
    flags = ["-std=c++17", "-fmad=false", "-Werror", "all-warnings", "-arch=sm_80", "-cubin", "-Xptxas=-v"]
    done = subprocess.run(
        [nvcc, *flags, str(compiler.SOURCE), "-o", str(target)], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    use = compiler.parse_use(done.stderr)
    assert {kernel.name for kernel in use} == kernel_names()
    assert not any(kernel.spill_bytes for kernel in use)


# ---- the cache --------------------------------------------------------------------------------------------------------


@pytest.fixture
def counted(nvrtc: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A home of the test's own, and a list of what was compiled in place of NVRTC's work."""
    done: list[str] = []

    def compile_kernels(arch: str) -> Compiled:
        done.append(arch)
        return Compiled(arch, f"machine code {len(done)} for {arch}".encode(), ())

    monkeypatch.setenv("FACEEMBED_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(compiler, "compile_kernels", compile_kernels)
    return done


def test_the_second_time_it_comes_from_disk(counted: list[str], tmp_path: Path) -> None:
    first = compiler.load_or_compile("sm_80")
    assert compiler.load_or_compile("sm_80") == first
    assert compiler.load_or_compile("sm_90") != first
    assert counted == ["sm_80", "sm_90"]
    names = sorted(path.name for path in (tmp_path / "home" / "kernels").iterdir())
    assert [re.sub("-[0-9a-f]{32}", "", name) for name in names] == ["sm_80.cubin", "sm_90.cubin"]


def test_a_damaged_file_is_made_anew(counted: list[str], tmp_path: Path) -> None:
    compiler.load_or_compile("sm_80")
    (path,) = (tmp_path / "home" / "kernels").iterdir()
    whole = path.read_bytes()
    for damaged in (b"", whole[:-1], whole[:5] + b"?" + whole[6:], hashlib.sha256(b"x").digest()):
        path.write_bytes(damaged)
        made = compiler.load_or_compile("sm_80")
        assert made == f"machine code {len(counted)} for sm_80".encode()
    assert len(counted) == 5


def test_the_key_depends_on_sources_architecture_nvrtc_and_options(
    nvrtc: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "native"
    shutil.copytree(compiler.SOURCE.parent, folder)
    monkeypatch.setattr(compiler, "SOURCE", folder / "kernels.cu")
    keys = [compiler.cache_key("sm_80"), compiler.cache_key("sm_86")]
    (folder / "overlap.h").write_text((folder / "overlap.h").read_text() + "// changed\n")  # included by oneshot.h
    keys.append(compiler.cache_key("sm_80"))
    (folder / "nms.h").write_text("// not the kernels'\n")
    assert compiler.cache_key("sm_80") == keys[-1]
    monkeypatch.setitem(compiler.OPTIONS, "fma", True)
    keys.append(compiler.cache_key("sm_80"))
    monkeypatch.setattr(compiler, "nvrtc_version", lambda: "99.0")
    keys.append(compiler.cache_key("sm_80"))
    assert len(set(keys)) == len(keys) == 5


def test_a_home_that_cannot_be_written_costs_only_time(
    counted: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("FACEEMBED_HOME", str(tmp_path / "file"))
    assert compiler.load_or_compile("sm_80") == b"machine code 1 for sm_80"
    assert compiler.load_or_compile("sm_80") == b"machine code 2 for sm_80"


# ---- what is wrong, in one line ---------------------------------------------------------------------------------------


def one_line(error: pytest.ExceptionInfo[DeviceError]) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


def test_an_architecture_that_nvrtc_does_not_know(nvrtc: tuple[str, ...]) -> None:
    with pytest.raises(
        DeviceError, match=r"NVRTC [\d.]+ compiles for sm_\d+ to sm_\d+, not for sm_30; .*pip install -U"
    ) as error:
        compiler.compile_kernels("sm_30")
    one_line(error)


def test_a_source_that_does_not_compile(
    nvrtc: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = tmp_path / "wrong.cu"
    wrong.write_text('extern "C" __global__ void fe_wrong() { undeclared(); }\n')
    monkeypatch.setattr(compiler, "SOURCE", wrong)
    with pytest.raises(DeviceError, match=r"NVRTC .* could not compile wrong.cu for sm_80: .*undeclared") as error:
        compiler.compile_kernels("sm_80")
    one_line(error)


def test_no_nvrtc(monkeypatch: pytest.MonkeyPatch) -> None:
    bindings = pytest.importorskip("cuda.bindings.nvrtc", reason="cuda-core is not installed")

    def missing() -> None:
        raise RuntimeError("Failure finding libnvrtc.so.13\n  and a long list of where it was sought")

    monkeypatch.setattr(bindings, "nvrtcVersion", missing)
    compiler._ask_nvrtc.cache_clear()
    try:
        with pytest.raises(
            DeviceError, match=r"cannot be loaded \(Failure finding libnvrtc.so.13\).*pip install"
        ) as error:
            compiler.nvrtc_version()
    finally:
        compiler._ask_nvrtc.cache_clear()
    one_line(error)


def test_no_cuda_core(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("cuda", "cuda.core"):
        monkeypatch.setitem(sys.modules, name, None)
    compiler._ask_nvrtc.cache_clear()
    try:
        with pytest.raises(DeviceError, match=rf"need the package cuda-core .*{re.escape(pip_install('gpu'))}"):
            compiler.nvrtc_version()
        with pytest.raises(
            DeviceError, match=rf"need the package cuda-core .*{re.escape(pip_install('gpu'))}"
        ) as error:
            lane.CudaLane()
    finally:
        compiler._ask_nvrtc.cache_clear()
    one_line(error)


def test_no_driver() -> None:
    pytest.importorskip("cuda.core", reason="cuda-core is not installed")
    try:
        lane.CudaLane()
    except DeviceError as error:
        assert re.match(r"no NVIDIA card can be used \(.+\); install NVIDIA's driver.* --device cpu$", str(error))
    else:
        pytest.skip("there is a card")
