"""DALI's pixels against OpenCV's for every kind of file, and bad files among good ones."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from faceembed.engine.photos.decode import decode as by_opencv
from faceembed.engine.photos.listing import list_photos
from faceembed.engine.photos.probe import probe
from faceembed.engine.pipeline.gpu.cpu import CpuBackend
from faceembed.engine.pipeline.gpu.dali import load, readable
from faceembed.engine.pipeline.gpu.interface import Undecodable
from faceembed.engine.pipeline.gpu.pipeline import DevicePipeline
from faceembed.install import pip_install
from tests.engine.pipeline.gpu.conftest import faces_of, failures_of

Open = Callable[..., DevicePipeline]


@pytest.fixture(scope="module")
def picture(astronaut: np.ndarray) -> Image.Image:
    """301 x 201: neither side a multiple of anything."""
    return Image.fromarray(astronaut[:201, 100:401])


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def pixels_of(backend: CpuBackend, *files: bytes) -> list[np.ndarray]:
    with backend.lane("decode"):
        return [np.array(tensor) for tensor in backend.decode(files)]


@pytest.fixture(scope="module")
def read_by_dali(picture: Image.Image) -> dict[str, bytes]:
    veiled = picture.convert("RGBA")
    veiled.putalpha(Image.fromarray((np.indices((201, 301)).sum(0) % 256).astype(np.uint8)))
    deep = np.asarray(picture).astype(np.uint16) * 257
    files = {f"JPEG {kind}": encoded(picture, "JPEG", subsampling=kind, quality=92) for kind in range(3)}
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[274] = orientation
        for kind in ("JPEG", "PNG"):
            files[f"{kind}, orientation {orientation}"] = encoded(picture, kind, exif=exif)
    files |= {
        "progressive JPEG": encoded(picture, "JPEG", progressive=True),
        "grey JPEG": encoded(picture.convert("L"), "JPEG"),
        "JPEG and more": encoded(picture, "JPEG") + bytes(500),
        "PNG": encoded(picture, "PNG"),
        "grey PNG": encoded(picture.convert("L"), "PNG"),
        "grey PNG with alpha": encoded(picture.convert("LA"), "PNG"),
        "PNG with alpha": encoded(veiled, "PNG"),
        "PNG with palette": encoded(picture.quantize(64), "PNG"),
        "PNG of bits": encoded(picture.convert("1"), "PNG"),
        "PNG of 16 bits": cv2.imencode(".png", deep)[1].tobytes(),
        "BMP": encoded(picture, "BMP"),
        "BMP with palette": encoded(picture.quantize(64), "BMP"),
        "WebP": encoded(picture, "WEBP"),
        "lossless WebP": encoded(picture, "WEBP", lossless=True),
    }
    return files


def test_pixels_are_those_of_opencv(backend: CpuBackend, read_by_dali: dict[str, bytes]) -> None:
    """On the CPU backend, bit for bit, orientation included."""
    for name, data in read_by_dali.items():
        assert readable(data, probe(data)), name
    for name, ours in zip(read_by_dali, pixels_of(backend, *read_by_dali.values()), strict=True):
        np.testing.assert_array_equal(ours, by_opencv(read_by_dali[name]).pixels, err_msg=name)


@pytest.fixture(scope="module")
def left_to_opencv(picture: Image.Image) -> dict[str, bytes]:
    """Files that DALI does not read, or not as OpenCV does."""
    exif = Image.Exif()
    exif[274] = 6
    veiled = picture.convert("RGBA")
    veiled.putalpha(90)
    return {
        "cmyk.jpg": encoded(picture.convert("CMYK"), "JPEG"),
        "exif.webp": encoded(picture, "WEBP", exif=exif, lossless=True),
        "film.webp": encoded(picture, "WEBP", save_all=True, append_images=[picture.rotate(180)]),
        "veiled.tiff": encoded(veiled, "TIFF"),
        "plain.tiff": encoded(picture, "TIFF"),
    }


def test_other_kinds_are_known_by_their_header(left_to_opencv: dict[str, bytes]) -> None:
    for name, data in left_to_opencv.items():
        assert not readable(data, probe(data)), name


@pytest.fixture
def mixed(tmp_path: Path, picture: Image.Image, left_to_opencv: dict[str, bytes]) -> Path:
    """Sound square pictures, files for OpenCV, and every kind of bad file, in one folder."""
    square = picture.crop((40, 0, 241, 201))
    sound = encoded(square, "JPEG", quality=90)
    broken = bytearray(sound)
    table = sound.index(b"\xff\xc4")
    broken[table + 4 : table + 30] = (
        b"\xff" * 26
    )  # a Huffman table that none can be; begin and end are as they should be
    files = {f"{number:02d}.jpg": encoded(square.rotate(number), "JPEG") for number in range(20)}
    files |= {name: encode_square(data) for name, data in left_to_opencv.items()}
    files |= {
        "03 broken table.jpg": bytes(broken),
        "05 no end.jpg": sound[: len(sound) // 2],
        "07 empty.jpg": b"",
        "08 text.png": b"this is no picture",
        "09 no end.png": encoded(square, "PNG")[:3000],
        "11 broken.png": encoded(square, "PNG").replace(b"IDAT", b"IDAT\0\0\0\0", 1),
        "13 not square.jpg": encoded(picture, "JPEG"),
        "15 claims.jpg": claiming(sound, 60_000, 60_000),
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    return tmp_path


def encode_square(data: bytes) -> bytes:
    """The same kind of file, square, so that it passes for a crop."""
    with Image.open(io.BytesIO(data)) as image:
        kind, exif = image.format, image.getexif()
        frames = getattr(image, "n_frames", 1)
        square = image.crop((40, 0, 241, 201))
    options: dict[str, Any] = {"save_all": True, "append_images": [square.rotate(180)]} if frames > 1 else {}
    return encoded(
        square, str(kind), **options, **({"exif": exif, "lossless": True} if len(exif) and kind == "WEBP" else {})
    )


def claiming(data: bytes, width: int, height: int) -> bytes:
    at = data.index(b"\xff\xc0") + 5
    return data[:at] + height.to_bytes(2, "big") + width.to_bytes(2, "big") + data[at + 4 :]


BAD = {
    "03 broken table.jpg": "decode",
    "05 no end.jpg": "decode",
    "07 empty.jpg": "decode",
    "08 text.png": "decode",
    "09 no end.png": "decode",
    "11 broken.png": "decode",
    "13 not square.jpg": "detect",
    "15 claims.jpg": "decode",
}


def test_a_bad_file_costs_that_file_only(open_tiny: Open, mixed: Path) -> None:
    pipeline = open_tiny(batch_size=64)
    photos = list_photos([mixed]).photos
    outcomes = list(pipeline.run(photos))
    assert [photo.path for outcome in outcomes for photo in outcome.photos] == [photo.path for photo in photos]
    assert {name: stage for name, (stage, _) in failures_of(outcomes).items()} == BAD
    good = {Path(path).name for path in faces_of(outcomes)}
    assert good == {Path(photo.path).name for photo in photos} - set(BAD)
    # None is hidden: 20 JPEGs and the one that is not square by DALI, five kinds that are OpenCV's.
    assert pipeline.decoded_by["device"] == 21
    assert pipeline.decoded_by["host: format"] == 5


def test_what_the_decoder_refuses_opencv_tries(
    open_tiny: Open, mixed: Path, backend: CpuBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that only DALI refuses is not lost, and counted; the others of its batch stay with DALI."""
    decode = backend.decode
    calls: list[int] = []
    hated = (mixed / "10.jpg").read_bytes()

    def picky(files: list[bytes]) -> list[Any]:
        calls.append(len(files))
        if hated in files:
            raise Undecodable("something about a file")  # without its number, as for a header that DALI cannot parse
        return decode(files)

    monkeypatch.setattr(backend, "decode", picky)
    pipeline = open_tiny(batch_size=64)
    photos = [photo for photo in list_photos([mixed]).photos if Path(photo.path).stem.isdigit()]
    assert len(faces_of(list(pipeline.run(photos)))) == 20
    assert pipeline.decoded_by == {"device": 19, "host: refused": 1}
    assert len(calls) < 12  # halved until it was alone, not decoded one by one


def test_a_named_sample_is_taken_out_at_once(
    open_tiny: Open, mixed: Path, backend: CpuBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    decode = backend.decode
    calls: list[int] = []
    hated = (mixed / "10.jpg").read_bytes()

    def picky(files: list[bytes]) -> list[Any]:
        calls.append(len(files))
        if hated in files:
            raise Undecodable("Failed to decode sample", [files.index(hated)])
        return decode(files)

    monkeypatch.setattr(backend, "decode", picky)
    photos = [photo for photo in list_photos([mixed]).photos if Path(photo.path).stem.isdigit()]
    assert len(faces_of(list(open_tiny(batch_size=64).run(photos)))) == 20
    assert calls == [20, 1, 19]


def test_dali_names_the_sample(backend: CpuBackend, picture: Image.Image) -> None:
    """The words that `Dali.decode` reads the number from are DALI's."""
    sound = encoded(picture, "JPEG")
    with pytest.raises(Undecodable) as refused:
        pixels_of(backend, sound, sound[: len(sound) // 2], sound)
    assert refused.value.suspects == [1]


def test_loading_dali_does_not_load_torch() -> None:
    import subprocess
    import sys

    code = "from faceembed.engine.pipeline.gpu.dali import load; load(); import sys; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split()[-1] == "False"


def test_without_dali_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch, lost_dali: None) -> None:
    from faceembed.errors import DeviceError

    with pytest.raises(DeviceError, match=rf"DALI cannot be loaded .*{re.escape(pip_install('gpu'))}"):
        load()


@pytest.fixture
def lost_dali(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    import sys

    with monkeypatch.context() as patch:
        for name in [name for name in sys.modules if name.startswith("nvidia.dali.experimental.dynamic")]:
            patch.delitem(sys.modules, name)
        patch.setitem(sys.modules, "nvidia.dali.experimental", None)
        yield
