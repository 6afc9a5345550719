"""Photos read in native code are those that Python reads, or are left to it."""

from __future__ import annotations

import dataclasses
import os
import struct
import threading
from pathlib import Path

import blake3
import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from faceembed.engine.native import _native
from faceembed.engine.photos.failures import Failure
from faceembed.engine.photos.photo_file import PhotoFile, photo_file
from faceembed.engine.photos.whole import is_whole
from faceembed.engine.pipeline.batch import Item
from faceembed.engine.pipeline.gpu.decoder import readable
from faceembed.engine.pipeline.intake import Intake
from faceembed.engine.pipeline.settings import EmbedSettings


def encoded(*flags: int, colours: int = 3, size: tuple[int, int] = (40, 60)) -> bytes:
    pixels = np.random.default_rng(1).integers(0, 256, (*size, colours), np.uint8)
    return cv2.imencode(".jpg", pixels, list(flags))[1].tobytes()


def exif(orientation: int, *, order: str = "<", kind: int = 3, prefix: bytes = b"", count: int = 1) -> bytes:
    """An EXIF segment with one tag."""
    value = struct.pack(order + ("HH" if kind == 3 else "I"), *([orientation, 0] if kind == 3 else [orientation]))
    entry = struct.pack(order + "HHI", 274, kind, 1) + value
    mark = b"II*\0" if order == "<" else b"MM\0*"
    body = b"Exif\0\0" + prefix + mark + struct.pack(order + "IH", 8, count) + entry
    return b"\xff\xe1" + struct.pack(">H", 2 + len(body)) + body


PLAIN = encoded()
FRAME = PLAIN.index(b"\xff\xc0")
HOLED = encoded(size=(200, 200))
HOLED = HOLED[: len(HOLED) // 2] + bytes(300) + HOLED[len(HOLED) // 2 + 300 :]
ORDINARY = {
    "plain": PLAIN,
    "grey": encoded(colours=1),
    "progressive": encoded(cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
    "restarts": encoded(cv2.IMWRITE_JPEG_RST_INTERVAL, 2),
    **{f"turned {n}": PLAIN[:2] + exif(n) + PLAIN[2:] for n in range(10)},
    "Motorola's order": PLAIN[:2] + exif(6, order=">") + PLAIN[2:],
    "a long tag": PLAIN[:2] + exif(6, kind=4) + PLAIN[2:],
    "Exif twice": PLAIN[:2] + exif(6, prefix=b"Exif\0\0") + PLAIN[2:],
    "a directory cut off": PLAIN[:2] + exif(300, count=9) + PLAIN[2:],
    "two segments": PLAIN[:2] + exif(3) + exif(6) + PLAIN[2:],
    "a comment": PLAIN[:2] + b"\xff\xfe\0\x05abc" + PLAIN[2:],
    "fill bytes": PLAIN[:2] + b"\xff\xff" + PLAIN[2:],
    "cut off in its scan": PLAIN[:-200],
    "something behind it": PLAIN + b"tail",
    "zeros in its data": HOLED,
}
ODD = {
    "empty": b"",
    "text": b"hello, world",
    "PNG": cv2.imencode(".png", np.zeros((5, 5, 3), np.uint8))[1].tobytes(),
    "cut off in its header": PLAIN[: FRAME + 6],
    "nothing behind its start": PLAIN[:3],
    "no frame": PLAIN[:2] + PLAIN[FRAME + 2 + int.from_bytes(PLAIN[FRAME + 2 : FRAME + 4], "big") :],
    "12 bits": PLAIN[: FRAME + 4] + b"\x0c" + PLAIN[FRAME + 5 :],
    "no height": PLAIN[: FRAME + 5] + b"\0\0" + PLAIN[FRAME + 7 :],
    "four colours": PLAIN[: FRAME + 9] + b"\x04" + PLAIN[FRAME + 10 :],
    "lossless": PLAIN[: FRAME + 1] + b"\xc3" + PLAIN[FRAME + 2 :],
    "hierarchical": PLAIN[: FRAME + 1] + b"\xc5" + PLAIN[FRAME + 2 :],
    "JPEG-LS": PLAIN[: FRAME + 1] + b"\xf7" + PLAIN[FRAME + 2 :],
    "no marker where one belongs": PLAIN[:2] + b"\xff\xfe\0\x04ab\0\0" + PLAIN[2:],
    "a length of 0": PLAIN[:2] + b"\xff\xfe\0\0" + PLAIN[2:],
    "DICOM's letters at 128": PLAIN[:2]
    + b"\xff\xfe"
    + struct.pack(">H", 200)
    + b"x" * 122
    + b"DICM"
    + b"x" * 72
    + PLAIN[2:],
    "an end before its scan": PLAIN[:FRAME] + b"\xff\xd9",
}


def intake(**asked: int) -> Intake:
    return Intake(EmbedSettings(**asked), reducing=False, on_card=True)  # type: ignore[arg-type]


def check(photos: list[PhotoFile], **asked: int) -> list[Item | Failure | None]:
    """What native code read of them, after it was compared with what Python reads, photo by photo."""
    ours = intake(**asked)
    found, slow = ours._ordinary(photos, 2), [ours.read_one(photo) for photo in photos]
    for quick, one in zip(found, slow, strict=True):
        if isinstance(quick, Item):
            assert isinstance(one, Item) and dataclasses.replace(quick, ordinary=False) == one
            assert quick.header.colours == one.header.colours
            assert not quick.ordinary or (is_whole(one.data, one.header) and readable(one.data, one.header))
        else:
            assert quick is None or quick == one
    read = ours.read_run(photos)
    assert [dataclasses.replace(r, ordinary=False) if isinstance(r, Item) else r for r in read] == slow
    return found


def saved(folder: Path, files: dict[str, bytes]) -> list[PhotoFile]:
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return [photo_file(str(folder / name)) for name in files]


def test_ordinary_files_are_read_here(tmp_path: Path) -> None:
    found = dict(zip(ORDINARY, check(saved(tmp_path, ORDINARY)), strict=True))
    assert all(isinstance(entry, Item) for entry in found.values())
    known = {name for name, entry in found.items() if isinstance(entry, Item) and not entry.ordinary}
    assert known == {"cut off in its scan", "something behind it", "zeros in its data"}


def test_odd_files_are_left_to_python(tmp_path: Path) -> None:
    assert check(saved(tmp_path, ODD)) == [None] * len(ODD)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damage_is_seen_as_python_sees_it(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Any bytes of a header changed, any cut: read alike or left alone."""
    folder = tmp_path_factory.mktemp("damage")
    jpeg = bytearray(ORDINARY[data.draw(st.sampled_from(sorted(ORDINARY)))])
    for at in data.draw(st.lists(st.integers(2, 200), max_size=4)):
        jpeg[at] = data.draw(st.integers(0, 255))
    cut = data.draw(st.one_of(st.none(), st.integers(1, len(jpeg))))
    check(saved(folder, {"a.jpg": bytes(jpeg[:cut])}))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 20_000), min_size=1, max_size=20), st.integers(1, 4))
def test_digests_are_blake3(tmp_path_factory: pytest.TempPathFactory, sizes: list[int], threads: int) -> None:
    """Of files of all lengths at once, blocks and chunks and trees of them cut anywhere."""
    folder = tmp_path_factory.mktemp("digests")
    photos = saved(folder, {f"{n}.jpg": PLAIN + os.urandom(size) for n, size in enumerate(sizes)})
    found = _native.read_photos([p.path for p in photos], [p.size for p in photos], ".xmp", threads)
    for photo, entry in zip(photos, found, strict=True):
        assert entry is not None and entry[0] == Path(photo.path).read_bytes()
        assert entry[1] == blake3.blake3(entry[0]).hexdigest(length=16)


@pytest.mark.parametrize("zeros", [255, 256, 257, 511, 700])
@pytest.mark.parametrize("before", [0, 1, 100, 255, 256])
def test_a_run_of_zeros_is_found_wherever_it_lies(tmp_path: Path, zeros: int, before: int) -> None:
    data = PLAIN[:-2] + b"x" * before + bytes(zeros) + b"x" + PLAIN[-2:]
    (entry,) = check(saved(tmp_path, {"a.jpg": data}))
    assert isinstance(entry, Item) and entry.ordinary == (bytes(256) not in data)


def test_what_is_no_plain_file_is_left_alone(tmp_path: Path) -> None:
    """Gone, a folder, grown or shrunk since it was listed, beside a note, not to be read, of a name that is no UTF-8."""
    names = ["grown", "shrunk", "noted", "gone", "folder", "a::b.jpg"]
    photos = saved(tmp_path, dict.fromkeys(names, PLAIN))
    (tmp_path / "grown").write_bytes(PLAIN + b"x")
    (tmp_path / "shrunk").write_bytes(PLAIN[:-1])
    (tmp_path / "noted.xmp").write_text('<x tiff:Orientation="6"/>')
    (tmp_path / "gone").unlink()
    (tmp_path / "folder").unlink()
    (tmp_path / "folder").mkdir()
    assert check(photos) == [None] * len(names)
    strange = tmp_path / os.fsdecode(b"\xff.jpg")
    strange.write_bytes(PLAIN)
    assert isinstance(check([photo_file(str(strange))])[0], Item)


def test_limits_hold(tmp_path: Path) -> None:
    (photo,) = saved(tmp_path, {"a.jpg": PLAIN})
    assert check([photo], max_bytes=len(PLAIN) - 1) == [None]
    (failure,) = check([photo], max_pixels=2399)
    assert isinstance(failure, Failure) and failure.photo.digest
    assert isinstance(check([photo], max_pixels=2400)[0], Item)


def test_a_pipe_is_not_opened(tmp_path: Path) -> None:
    """Who opens a pipe and lets go of it ends it for whoever writes."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(PLAIN,))
    writer.start()
    try:
        assert _native.read_photos([str(pipe)], [len(PLAIN)], ".xmp") == [None]
        entry = intake().read_one(PhotoFile(str(pipe), 0, 0))
    finally:
        writer.join(10)
    assert isinstance(entry, Item) and entry.data == PLAIN


def test_mistakes_are_told() -> None:
    with pytest.raises(ValueError, match="must be as many, but are 1 and 2"):
        _native.read_photos(["a"], [1, 2], ".xmp")
    with pytest.raises(ValueError, match="threads must be at least 1, but is 0"):
        _native.read_photos(["a"], [1], ".xmp", 0)
    with pytest.raises(TypeError):
        _native.read_photos([1], [1], ".xmp")  # type: ignore[list-item]
    assert _native.read_photos([], [], ".xmp") == []
    assert _native.read_photos(["a\0b", "gone"], [5, 1 << 40], ".xmp") == [None, None]
