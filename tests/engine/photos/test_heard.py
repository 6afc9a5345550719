"""What libjpeg and libpng print about a file: never bare on the terminal, but the photo's, and the right one's."""

from __future__ import annotations

import ctypes
import os
import re
import struct
import sys
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest

from faceembed.engine.native import _native
from faceembed.engine.photos.decode import decode
from faceembed.engine.photos.heard import Hearing
from faceembed.errors import PhotoError
from tests.engine.photos import odd
from tests.engine.photos.odd import Array

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="nothing is heard there")


@pytest.fixture(scope="module")
def pixels() -> Array:
    return np.asarray(cv2.resize(np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8), (120, 90)), np.uint8)


def extraneous(jpeg: bytes, count: int) -> bytes:
    """With so many bytes too many before its end marker, as some cameras write them: no pixel is the worse for it."""
    return jpeg[:-2] + bytes(range(1, 1 + count)) + jpeg[-2:]


def print_as_c_does(line: bytes) -> None:
    library = ctypes.CDLL(None)
    library.fputs(line, ctypes.c_void_p.in_dll(library, "stderr" if sys.platform == "linux" else "__stderrp"))


def test_a_harmless_line_is_the_photos(pixels: Array, capfd: pytest.CaptureFixture[str]) -> None:
    jpeg = odd.encoded(pixels, "JPEG", quality=95)
    for count in (20, 40):
        photo = decode(extraneous(jpeg, count))
        assert re.fullmatch(r"Corrupt JPEG data: \d+ extraneous bytes before marker 0xd9", photo.said)
        assert (photo.pixels == decode(jpeg).pixels).all()
    assert decode(jpeg).said == ""
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("reduction", [1, 2, 8])
def test_damage_that_is_got_over(pixels: Array, capfd: pytest.CaptureFixture[str], reduction: int) -> None:
    jpeg = odd.encoded(pixels, "JPEG", quality=95)
    middle = len(jpeg) // 2
    photo = decode(jpeg[:middle] + bytes(range(1, 60)) + jpeg[middle + 59 :], reduction=reduction)
    assert photo.said.startswith("Corrupt JPEG data: ") and "\n" not in photo.said
    assert capfd.readouterr().err == ""


def test_the_line_is_the_reason_of_what_cannot_be_read(pixels: Array, capfd: pytest.CaptureFixture[str]) -> None:
    jpeg = odd.encoded(pixels, "JPEG", quality=95)
    scan = jpeg.index(b"\xff\xda")
    with pytest.raises(PhotoError, match="truncated JPEG: Corrupt JPEG data: 5 extraneous bytes before marker 0xda"):
        decode(jpeg[:scan] + bytes(range(1, 6)) + jpeg[scan : scan + 5] + b"\x09" + jpeg[scan + 6 :])
    assert capfd.readouterr().err == ""


def test_a_bad_colour_profile(pixels: Array, capfd: pytest.CaptureFixture[str]) -> None:
    png = odd.encoded(pixels, "PNG")
    body = b"iCCPbad\0\0" + zlib.compress(b"no profile at all" * 9)
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    data = png[:33] + chunk + png[33:]
    hearing = Hearing()
    with hearing:  # as it is, libpng would print
        cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert "iCCP" in hearing.said
    assert (decode(data).pixels == pixels).all() and decode(data).said == ""
    assert capfd.readouterr().err == ""


def test_everything_else_is_printed_as_ever(pixels: Array, capfd: pytest.CaptureFixture[str]) -> None:
    decode(extraneous(odd.encoded(pixels, "JPEG"), 3))
    print_as_c_does(b"a line of C\n")
    os.write(2, b"a line of the system's\n")
    hearing = Hearing()
    with hearing:
        other = threading.Thread(target=print_as_c_does, args=(b"another thread's\n",))
        other.start()
        other.join()
        print_as_c_does(b" this \t thread's\nand more\n")
    assert hearing.said == "this thread's"
    assert capfd.readouterr().err == "a line of C\na line of the system's\nanother thread's\n"


def test_each_thread_hears_its_own(pixels: Array, capfd: pytest.CaptureFixture[str]) -> None:
    jpeg = odd.encoded(pixels, "JPEG", quality=95)
    alone = {count: decode(extraneous(jpeg, count)).said for count in range(20, 70)}
    counts = [20 + n % 50 for n in range(400)]
    assert len(set(alone.values())) == 50  # libjpeg does not count the few that it has read ahead
    with ThreadPoolExecutor(8) as pool:
        said = list(pool.map(lambda count: decode(extraneous(jpeg, count)).said, counts))
    assert said == [alone[count] for count in counts]
    assert capfd.readouterr().err == ""


def test_thousands_of_lines_are_cut_off() -> None:
    assert _native.listen()
    for _ in range(1000):
        print_as_c_does(b"0123456789\n")
    heard = _native.heard()
    assert len(heard) == 4096 and heard.startswith(b"0123456789\n")
    assert _native.heard() == b""


def test_an_error_on_the_way_ends_it(capfd: pytest.CaptureFixture[str]) -> None:
    hearing = Hearing()
    with pytest.raises(ValueError, match="x"), hearing:
        print_as_c_does(b"before\n")
        raise ValueError("x")
    print_as_c_does(b"after\n")
    assert hearing.said == "before" and capfd.readouterr().err == "after\n"
