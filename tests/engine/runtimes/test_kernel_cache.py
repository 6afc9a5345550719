"""Kernels that were compiled for a card come back at the next start; what is damaged or of another plan is said and made anew."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from faceembed.engine.runtimes.flavours import Flavour
from faceembed.engine.runtimes.kernel_cache import KernelCache, kernel_cache

PLAN = "a" * 64


class FakeRuntimeCache:
    """TensorRT for RTX's, as its Python module has it: kernels are lines, those of another driver are refused."""

    def __init__(self) -> None:
        self.kernels: list[bytes] = []

    def serialize(self) -> memoryview:
        return memoryview(b"driver 580\n" + b"\n".join(self.kernels) if self.kernels else b"")

    def deserialize(self, blob: bytes) -> bool:
        head, *kernels = bytes(blob).split(b"\n")
        if head != b"driver 580":
            return False
        self.kernels = kernels
        return True


class FakeConfig:
    def __init__(self) -> None:
        self.cache: Any = None

    def create_runtime_cache(self) -> FakeRuntimeCache:
        return FakeRuntimeCache()

    def set_runtime_cache(self, cache: FakeRuntimeCache) -> bool:
        self.cache = cache
        return True


def start(path: Path, plan: str = PLAN) -> tuple[KernelCache, FakeRuntimeCache, list[str]]:
    """What one start of the program sees."""
    heard: list[str] = []
    kept = KernelCache(path, plan, notice=heard.append)
    config, second = FakeConfig(), FakeConfig()
    kept.attach(config)
    kept.attach(second)
    assert config.cache is second.cache  # all contexts share it
    return kept, config.cache, heard


@pytest.fixture
def path(tmp_path: Path) -> Path:
    kept, cache, heard = start(tmp_path / "engines" / "n.kernels")
    assert cache.kernels == [] and heard == []
    cache.kernels.append(b"conv 64x128")
    kept.keep()
    return kept.path


def test_the_second_start_finds_them(path: Path) -> None:
    kept, cache, heard = start(path)
    assert cache.kernels == [b"conv 64x128"] and heard == []
    before = path.stat().st_mtime_ns
    kept.keep()
    assert path.stat().st_mtime_ns == before  # nothing new
    cache.kernels.append(b"conv 32x128")
    kept.keep()
    assert start(path)[1].kernels == [b"conv 64x128", b"conv 32x128"]
    assert [file.name for file in path.parent.iterdir()] == ["n.kernels"]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda data: data[:-1], "is damaged"),
        (lambda data: data.replace(b"64x128", b"64x129"), "is damaged"),
        (lambda data: b"", "is damaged"),
        (lambda data: b"x" * 500, "is damaged"),
        (lambda data: data.replace(b"a" * 64, b"b" * 64), "is of an engine that was built anew since"),
    ],
)
def test_what_does_not_fit_is_said_and_rewritten(path: Path, spoil: Any, message: str) -> None:
    path.write_bytes(spoil(path.read_bytes()))
    kept, cache, heard = start(path)
    assert cache.kernels == [] and heard == [f"{path} {message}; its kernels are compiled anew"]
    cache.kernels.append(b"again")
    kept.keep()
    kept, cache, heard = start(path)
    assert cache.kernels == [b"again"] and heard == []


def test_another_driver(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeRuntimeCache, "deserialize", lambda self, blob: False)
    assert start(path)[2] == [f"{path} is of another card, driver or TensorRT; its kernels are compiled anew"]


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "engines").write_bytes(b"a file where the folder should be")
    kept, cache, heard = start(tmp_path / "engines" / "n.kernels")
    cache.kernels.append(b"conv")
    kept.keep()
    kept.keep()
    assert len(heard) == 2 and all("n.kernels" in line for line in heard)  # once for reading, once for writing
    assert "compiled kernels are not kept" in heard[1]


def test_where_they_are_kept(tmp_path: Path) -> None:
    engine = tmp_path / "dlib-resnet-fp16-0123456789abcdef.engine"
    rtx, full = Flavour("tensorrt_rtx", "1.7", None), Flavour("tensorrt", "11", None)
    kept = kernel_cache(engine, "encode", PLAN, flavour=rtx, sm="sm89", notice=print)
    assert kept is not None and kept.path.name == "dlib-resnet-fp16-0123456789abcdef-encode-sm89.kernels"
    assert kernel_cache(engine, "encode", PLAN, flavour=full, sm="sm89", notice=print) is None


def test_the_names_are_tensorrts() -> None:
    """The stand-ins above are shaped like the real module, which only a card can run."""
    trt = pytest.importorskip("tensorrt_rtx")
    for kind, fake, names in (
        (trt.IRuntimeCache, FakeRuntimeCache, ("serialize", "deserialize")),
        (trt.IRuntimeConfig, FakeConfig, ("create_runtime_cache", "set_runtime_cache")),
    ):
        for name in names:
            assert callable(getattr(kind, name)) and callable(getattr(fake, name))
    assert "blob: typing_extensions.Buffer) -> bool" in trt.IRuntimeCache.deserialize.__doc__
    assert "IHostMemory" in trt.IRuntimeCache.serialize.__doc__
    assert "cache: nvinfer1::IRuntimeCache" in trt.IRuntimeConfig.set_runtime_cache.__doc__
    assert hasattr(trt.ICudaEngine, "create_runtime_config")
