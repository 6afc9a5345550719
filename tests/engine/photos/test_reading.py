"""What is read of a photo, and what is not: sparse giants, devices, pipes that are silent or endless, and no memory."""

from __future__ import annotations

import os
import stat
import threading
import tracemalloc
from pathlib import Path

import cv2
import numpy as np
import pytest

from faceembed.engine.photos import decode as decoding
from faceembed.engine.photos import reading
from faceembed.engine.photos.decode import decode
from faceembed.engine.photos.reading import MAX_BYTES, read_file
from faceembed.errors import PhotoError

JPEG = cv2.imencode(".jpg", np.full((40, 60, 3), 90, np.uint8))[1].tobytes()


def refused(path: Path | str, **limits: int) -> tuple[str, str]:
    with pytest.raises(PhotoError) as caught:
        read_file(str(path), **limits)
    assert "\n" not in caught.value.reason
    return caught.value.stage, caught.value.reason


def sparse(path: Path, size: int, head: bytes = b"") -> Path:
    with path.open("wb") as file:
        file.write(head)
        file.truncate(size)
    return path


def peak_of(path: Path) -> int:
    """Bytes that Python allocated at most while a file was refused."""
    tracemalloc.start()
    try:
        refused(path)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_sparse_giant_is_refused_before_it_is_read(tmp_path: Path) -> None:
    giant = sparse(tmp_path / "giant.jpg", 6 << 30, JPEG)
    assert refused(giant) == ("read", "6 GiB, over the limit of 400 MiB for a file (--max-bytes)")
    assert peak_of(giant) < 1 << 20


def test_of_a_large_file_the_head_is_looked_at_before_the_rest(tmp_path: Path) -> None:
    zeros = sparse(tmp_path / "zeros.jpg", 300 << 20)
    stage, reason = refused(zeros)
    assert stage == "decode" and "nothing but zeros" in reason
    assert peak_of(zeros) < 1 << 20
    picture = sparse(tmp_path / "picture.jpg", 20 << 20, JPEG)
    assert read_file(str(picture)) == JPEG + bytes((20 << 20) - len(JPEG))


@pytest.mark.parametrize(("size", "limit", "taken"), [(1000, 1000, True), (1001, 1000, False), (1000, MAX_BYTES, True)])
def test_the_limit_is_inclusive(size: int, limit: int, taken: bool, tmp_path: Path) -> None:
    file = sparse(tmp_path / "a.jpg", size, JPEG)
    if taken:
        assert len(read_file(str(file), max_bytes=limit)) == size
    else:
        assert refused(file, max_bytes=limit) == (
            "read",
            "1001 bytes, over the limit of 1000 bytes for a file (--max-bytes)",
        )


def test_a_file_that_does_not_say_its_size_is_limited_too() -> None:
    """As those of /proc, whose size is 0."""
    assert os.stat("/proc/self/maps").st_size == 0
    assert refused("/proc/self/maps", max_bytes=100)[0] == "read"


@pytest.mark.parametrize("device", ["/dev/zero", "/dev/null", "/dev/full", "/dev/urandom"])
def test_a_device_is_refused(device: str) -> None:
    assert refused(device) == ("read", "a device, not a file or a pipe")


@pytest.fixture
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "PIPE_SILENCE_SECONDS", 0.2)
    monkeypatch.setattr(reading, "PIPE_SECONDS", 0.6)


@pytest.mark.usefixtures("hurry")
def test_a_pipe_into_which_nobody_writes_is_left(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.jpg")
    assert refused(tmp_path / "a.jpg") == ("read", "a pipe into which nobody wrote for 0.2 seconds")


@pytest.mark.usefixtures("hurry")
@pytest.mark.parametrize(("pause", "reason"), [(0.02, "a pipe without an end"), (0.0, "a pipe with more than 200 KiB")])
def test_a_pipe_without_an_end_is_left(pause: float, reason: str, tmp_path: Path) -> None:
    fifo = tmp_path / "a.jpg"
    os.mkfifo(fifo)
    stop = threading.Event()

    def drip() -> None:
        with open(fifo, "wb", buffering=0) as file:
            while not stop.wait(pause):
                try:
                    file.write(bytes(1 if pause else 4096))
                except BrokenPipeError:
                    return

    writer = threading.Thread(target=drip)
    writer.start()
    try:
        assert refused(fifo, max_bytes=200 << 10)[1].startswith(reason)
    finally:
        stop.set()
        writer.join()


def test_a_pipe_is_read_to_its_end() -> None:
    """As the shell gives it: ``verify <(cat a.jpg) b.jpg``; in pieces larger than a pipe holds."""
    data = JPEG + bytes(300_000)
    out, into = os.pipe()

    def write() -> None:
        with os.fdopen(into, "wb") as file:
            file.write(data)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert read_file(f"/dev/fd/{out}") == data
    finally:
        writer.join()
        os.close(out)


def test_no_memory_to_read_is_a_photo_s_fault_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = sparse(tmp_path / "a.jpg", 1000, JPEG)

    def full(descriptor: int, max_bytes: int) -> bytes:
        raise MemoryError

    monkeypatch.setattr(reading, "_read", full)
    assert refused(file)[0] == "memory"
    assert len(os.listdir("/proc/self/fd")) < 200  # nothing stays open


@pytest.mark.parametrize("kind", ["python", "opencv"])
def test_no_memory_to_decode_is_said_so(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        if kind == "python":
            raise MemoryError
        raise no_memory

    no_memory = cv2.error("OpenCV(5) alloc.cpp: error: (-4:Insufficient memory) Failed to allocate 360000000 bytes")
    no_memory.code = cv2.Error.StsNoMem  # type: ignore[attr-defined]
    monkeypatch.setattr(decoding, "opencv", full)
    with pytest.raises(PhotoError, match="out of memory: 60x40 pixels") as caught:
        decode(JPEG)
    assert caught.value.stage == "memory"


def test_a_small_file_takes_no_more_memory_than_it_is_large(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(bytes(range(256)) * 64)
    tracemalloc.start()
    data = reading.read_file(str(tmp_path / "a.jpg"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(data) == 16384
    assert peak < 200_000


def test_a_file_that_grew_since_it_was_looked_at_is_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.jpg").write_bytes(b"0123456789" * 10)
    real = os.fstat

    def smaller(descriptor: int) -> os.stat_result:
        info = list(real(descriptor))
        info[stat.ST_SIZE] = 7
        return os.stat_result(info)

    monkeypatch.setattr(os, "fstat", smaller)
    assert reading.read_file(str(tmp_path / "a.jpg")) == b"0123456789" * 10
