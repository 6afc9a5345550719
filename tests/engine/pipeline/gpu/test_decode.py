"""DALI's and nvImageCodec's pixels against OpenCV's for every kind of file, and bad files among good ones."""

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

from faceembed.engine.models.spec import Model
from faceembed.engine.photos.decode import decode as by_opencv
from faceembed.engine.photos.listing import list_photos
from faceembed.engine.photos.probe import probe
from faceembed.engine.pipeline.encode import Encoder
from faceembed.engine.pipeline.gpu import nvimagecodec
from faceembed.engine.pipeline.gpu.cpu import CpuBackend
from faceembed.engine.pipeline.gpu.dali import Dali, Undecodable, load
from faceembed.engine.pipeline.gpu.decoder import readable
from faceembed.engine.pipeline.gpu.pipeline import DevicePipeline
from faceembed.engine.pipeline.settings import DECODERS
from faceembed.install import pip_install
from tests.engine.pipeline.gpu.conftest import CHOICE, faces_of, failures_of

Open = Callable[..., DevicePipeline]


@pytest.fixture(scope="module")
def picture(astronaut: np.ndarray) -> Image.Image:
    """301 x 201: neither side a multiple of anything."""
    return Image.fromarray(astronaut[:201, 100:401])


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


@pytest.fixture(scope="module", params=DECODERS)
def either(request: pytest.FixtureRequest) -> CpuBackend:
    """The backend with each decoder in turn."""
    pytest.importorskip("nvidia.dali", reason="NVIDIA DALI, which brings nvImageCodec, is not installed")
    return CpuBackend(decoder=request.param)


@pytest.fixture
def by_dali() -> CpuBackend:
    pytest.importorskip("nvidia.dali")
    return CpuBackend(decoder="dali")


def pixels_of(backend: CpuBackend, *files: bytes) -> list[np.ndarray | None]:
    with backend.lane("decode"):
        return [None if tensor is None else np.array(tensor) for tensor in backend.decode(files)]


@pytest.fixture(scope="module")
def read_there(picture: Image.Image) -> dict[str, bytes]:
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


def test_pixels_are_those_of_opencv(either: CpuBackend, read_there: dict[str, bytes]) -> None:
    """On the CPU backend, bit for bit, orientation included: the largest and the mean difference are 0."""
    for name, data in read_there.items():
        assert readable(data, probe(data)), name
    for name, ours in zip(read_there, pixels_of(either, *read_there.values()), strict=True):
        np.testing.assert_array_equal(ours, by_opencv(read_there[name]).pixels, err_msg=name)


def test_cmyk_is_a_level_off_in_nvimagecodec(picture: Image.Image) -> None:
    """So it is OpenCV's. DALI's is farther off."""
    data = encoded(picture.convert("CMYK"), "JPEG")
    expected = by_opencv(data).pixels.astype(int)
    for name, most in (("nvimagecodec", 1), ("dali", 255)):
        (ours,) = pixels_of(CpuBackend(decoder=name), data)
        assert ours is not None and 0 < np.abs(ours - expected).max() <= most, name


@pytest.mark.data
def test_real_photos_give_the_same_embeddings(wild: list[Path], either: CpuBackend, encoder_model: Model) -> None:
    """Pixels and embeddings of whole photos, squeezed to chips: the decoder alone makes the difference, and there is none."""
    encoder = Encoder(encoder_model, CHOICE, threads=1)
    files = [path.read_bytes() for path in wild[:16]]
    ours = pixels_of(either, *files)
    theirs = [by_opencv(data).pixels for data in files]
    differences = [np.abs(one.astype(int) - other) for one, other in zip(ours, theirs, strict=True) if one is not None]
    assert len(differences) == len(files)
    assert max(int(difference.max()) for difference in differences) == 0
    side = encoder_model.spec.input_size[::-1]
    chips = [np.stack([cv2.resize(pixels, side) for pixels in some]) for some in (ours, theirs)]
    (one, _), (other, _) = (encoder.encode(some) for some in chips)
    assert (one * other).sum(axis=1).min() > 0.99999


@pytest.fixture(scope="module")
def left_to_opencv(picture: Image.Image) -> dict[str, bytes]:
    """Files that one of the two does not read, or not as OpenCV does."""
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


def test_a_bad_file_costs_that_file_only(
    open_tiny: Open, mixed: Path, either: CpuBackend, capfd: pytest.CaptureFixture[str]
) -> None:
    pipeline = open_tiny(on=either, batch_size=64)
    photos = list_photos([mixed]).photos
    outcomes = list(pipeline.run(photos))
    assert [photo.path for outcome in outcomes for photo in outcome.photos] == [photo.path for photo in photos]
    assert {name: stage for name, (stage, _) in failures_of(outcomes).items()} == BAD
    good = {Path(path).name for path in faces_of(outcomes)}
    assert good == {Path(photo.path).name for photo in photos} - set(BAD)
    # None is hidden: 20 JPEGs and the one that is not square by the decoder, five kinds that are OpenCV's.
    assert pipeline.decoded_by["device"] == 21
    assert pipeline.decoded_by["host: format"] == 5
    assert "nvimgcodec" not in capfd.readouterr().err  # it prints about damaged files unless it is told not to


def test_nvimagecodec_gives_none_for_each_bad_file(mixed: Path) -> None:
    """In one call, the others decoded."""
    files = {path.name: path.read_bytes() for path in sorted(mixed.iterdir())}
    ours = dict(zip(files, pixels_of(CpuBackend(decoder="nvimagecodec"), *files.values()), strict=True))
    assert {name for name, pixels in ours.items() if pixels is None} >= {
        "03 broken table.jpg",
        "05 no end.jpg",
        "07 empty.jpg",
        "08 text.png",
        "09 no end.png",
    }
    for number in range(20):
        pixels = ours[f"{number:02d}.jpg"]
        assert pixels is not None and np.array_equal(pixels, by_opencv(files[f"{number:02d}.jpg"]).pixels)


def test_what_nvimagecodec_refuses_opencv_tries(open_tiny: Open, mixed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = CpuBackend(decoder="nvimagecodec")
    decode = backend.decode
    hated = (mixed / "10.jpg").read_bytes()
    monkeypatch.setattr(
        backend,
        "decode",
        lambda files: [None if data == hated else one for data, one in zip(files, decode(files), strict=True)],
    )
    pipeline = open_tiny(on=backend, batch_size=64)
    photos = [photo for photo in list_photos([mixed]).photos if Path(photo.path).stem.isdigit()]
    assert len(faces_of(list(pipeline.run(photos)))) == 20
    assert pipeline.decoded_by == {"device": 19, "host: refused": 1}


def test_what_dali_refuses_opencv_tries(
    open_tiny: Open, mixed: Path, by_dali: CpuBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that only DALI refuses is not lost, and counted; the others of its batch stay with DALI."""
    assert isinstance(by_dali.decoder, Dali)
    decode = by_dali.decoder.decode_together
    calls: list[int] = []
    hated = (mixed / "10.jpg").read_bytes()

    def picky(files: list[bytes]) -> list[Any]:
        calls.append(len(files))
        if hated in files:
            raise Undecodable("something about a file")  # without its number, as for a header that DALI cannot parse
        return decode(files)

    monkeypatch.setattr(by_dali.decoder, "decode_together", picky)
    pipeline = open_tiny(on=by_dali, batch_size=64)
    photos = [photo for photo in list_photos([mixed]).photos if Path(photo.path).stem.isdigit()]
    assert len(faces_of(list(pipeline.run(photos)))) == 20
    assert pipeline.decoded_by == {"device": 19, "host: refused": 1}
    assert len(calls) < 12  # halved until it was alone, not decoded one by one


def test_a_named_sample_is_taken_out_at_once(
    open_tiny: Open, mixed: Path, by_dali: CpuBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(by_dali.decoder, Dali)
    decode = by_dali.decoder.decode_together
    calls: list[int] = []
    hated = (mixed / "10.jpg").read_bytes()

    def picky(files: list[bytes]) -> list[Any]:
        calls.append(len(files))
        if hated in files:
            raise Undecodable("Failed to decode sample", [files.index(hated)])
        return decode(files)

    monkeypatch.setattr(by_dali.decoder, "decode_together", picky)
    photos = [photo for photo in list_photos([mixed]).photos if Path(photo.path).stem.isdigit()]
    assert len(faces_of(list(open_tiny(on=by_dali, batch_size=64).run(photos)))) == 20
    assert calls == [20, 1, 19]


def test_dali_names_the_sample(by_dali: CpuBackend, picture: Image.Image) -> None:
    """The words that `Dali.decode` reads the number from are DALI's."""
    sound = encoded(picture, "JPEG")
    assert isinstance(by_dali.decoder, Dali)
    with by_dali.lane("decode"), pytest.raises(Undecodable) as refused:
        by_dali.decoder.decode_together([sound, sound[: len(sound) // 2], sound])
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


def test_without_nvimagecodec_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from faceembed.errors import DeviceError

    monkeypatch.delitem(sys.modules, "nvidia.nvimgcodec", raising=False)
    monkeypatch.setitem(sys.modules, "nvidia", None)
    with pytest.raises(DeviceError, match=rf"nvImageCodec cannot be loaded .*{re.escape(pip_install('gpu'))}"):
        nvimagecodec.load()


@pytest.fixture
def lost_dali(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    import sys

    with monkeypatch.context() as patch:
        for name in [name for name in sys.modules if name.startswith("nvidia.dali.experimental.dynamic")]:
            patch.delitem(sys.modules, name)
        patch.setitem(sys.modules, "nvidia.dali.experimental", None)
        yield
