"""The warm `Embedder`: whatever a photo is given as, the same face; mistakes in one line; many threads, the same bits."""

from __future__ import annotations

import concurrent.futures
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

import faceembed
from faceembed import Embedder
from faceembed.engine.photos.sample import sample_photos
from faceembed.engine.pipeline import loading
from faceembed.engine.pipeline.settings import EmbedSettings
from faceembed.engine.runtimes.choose import RuntimeSettings
from faceembed.errors import DataError, UsageError

FP32 = EmbedSettings(faces="all", batch_size=4, runtime=RuntimeSettings(device="cpu", precision="fp32", threads=2))


@pytest.fixture(scope="module")
def embedder() -> Iterator[Embedder]:
    with Embedder(FP32) as opened:
        yield opened


@pytest.fixture(scope="module")
def png(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A person's photo, without loss, so that every decoder gives the same pixels."""
    path = tmp_path_factory.mktemp("embedder") / "astronaut.png"
    Image.open(sample_photos() / "astronaut.png").convert("RGB").save(path)
    return path


@pytest.fixture(scope="module")
def vector(embedder: Embedder, png: Path) -> np.ndarray[Any, Any]:
    (face,) = embedder.represent(png)
    return face.embedding


WAYS: dict[str, Callable[[Path], Any]] = {
    "path": str,
    "bytes": Path.read_bytes,
    "bytearray": lambda path: bytearray(path.read_bytes()),
    "memoryview": lambda path: memoryview(path.read_bytes()),
    "bytes in a file": lambda path: io.BytesIO(path.read_bytes()),
    "picture": Image.open,
    "picture in memory": lambda path: Image.open(path).convert("RGBA"),
    "bgr": lambda path: cv2.imread(str(path)),
    "a view of an array": lambda path: cv2.imread(str(path))[::-1][::-1],
}


@pytest.mark.parametrize("way", WAYS)
def test_all_ways_give_the_same_bits(embedder: Embedder, png: Path, vector: Any, way: str) -> None:
    (face,) = embedder.represent(WAYS[way](png), colour="bgr")
    assert np.array_equal(face.embedding, vector)


def test_an_open_file(embedder: Embedder, png: Path, vector: Any) -> None:
    with png.open("rb") as file:
        (face,) = embedder.represent(file)
    assert np.array_equal(face.embedding, vector)


def test_an_rgb_array(embedder: Embedder, png: Path, vector: Any) -> None:
    (face,) = embedder.represent(np.asarray(Image.open(png)), colour="rgb")
    assert np.array_equal(face.embedding, vector)


def test_a_face_has_everything(embedder: Embedder, png: Path) -> None:
    (face,) = embedder.represent(png)
    x, y, width, height = face.box
    assert 150 < x < 220 and 50 < y < 110 and 60 < width < 130 and 60 < height < 160
    assert face.landmarks.shape == (5, 2) and face.landmarks.dtype == np.float32
    assert (face.landmarks > (x, y)).all() and (face.landmarks < (x + width, y + height)).all()
    assert face.chip.shape == (*embedder.spec.input_size, 3) and face.chip.dtype == np.uint8
    assert face.embedding.shape == (embedder.spec.dimension,) and abs(np.linalg.norm(face.embedding) - 1) < 1e-5
    assert face.score > 0.9 and face.norm > 0 and face.real is not None and face.real > 0.5


def test_grey_needs_no_colour(embedder: Embedder, png: Path, vector: Any) -> None:
    grey = cv2.imread(str(png), cv2.IMREAD_GRAYSCALE)
    (flat,), (deep,) = embedder.represent(grey), embedder.represent(grey[:, :, None])
    assert np.array_equal(flat.embedding, deep.embedding)
    assert 0.9 < flat.embedding @ vector < 0.9999


def test_a_picture_is_turned_upright(embedder: Embedder, png: Path, vector: Any, tmp_path: Path) -> None:
    picture = Image.open(png).convert("RGB").transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[274] = 6
    picture.save(tmp_path / "turned.png", exif=exif)
    (face,) = embedder.represent(Image.open(tmp_path / "turned.png"))
    assert np.array_equal(face.embedding, vector)


@pytest.mark.parametrize(
    ("photo", "colour", "message"),
    [
        (
            np.zeros((9, 9, 3), np.uint8),
            None,
            r"an array does not say the order of its colours.*colour='rgb', or 'bgr'",
        ),
        (np.zeros((9, 9, 3), np.float32), "rgb", "an array of float32; give uint8, 0 to 255"),
        (np.zeros((9, 9, 4), np.uint8), "rgb", r"an array of shape \(9, 9, 4\); give \(H, W, 3\)"),
        (np.zeros((0, 9, 3), np.uint8), "rgb", r"an array of shape \(0, 9, 3\)"),
        (np.zeros((9, 9, 3), np.uint8), "brg", "colour is 'brg'; give 'rgb' or 'bgr'"),
        (7, None, "a photo is a path, bytes, an open file, a uint8 array or a PIL image, not int"),
        (Image.new("I;16", (9, 9)), None, "a picture of mode 'I;16'"),
        (io.StringIO("text"), None, "open for text"),
    ],
)
def test_mistakes_are_refused(embedder: Embedder, photo: Any, colour: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        embedder.represent(photo, colour=colour)
    with pytest.raises(UsageError, match=message):
        list(embedder.represent_all([photo], colour=colour))


@pytest.mark.parametrize(
    ("photo", "message"),
    [
        ("nowhere.jpg", "nowhere.jpg: "),
        (b"no picture at all", "photo 1: "),
        (io.BytesIO(b""), "photo 1: "),
    ],
)
def test_what_cannot_be_read(embedder: Embedder, photo: Any, message: str) -> None:
    with pytest.raises(DataError, match=f"^{message}"):
        embedder.represent(photo)


def test_a_photo_of_nobody_has_no_faces(embedder: Embedder) -> None:
    wall = np.full((200, 300, 3), 128, np.uint8)
    assert embedder.represent(wall, colour="rgb") == []
    with pytest.raises(DataError, match=r"^photo 2: no face of 20 px or more found$"):
        embedder.similarity(sample_photos() / "astronaut.png", wall, colour="rgb")


def test_many_in_their_order_and_bad_ones_named(embedder: Embedder, png: Path, vector: Any) -> None:
    photos = [str(png), b"bad", png.read_bytes(), "nowhere.png", np.zeros((99, 99), np.uint8)] * 3
    seen = list(embedder.represent_all(photos))
    assert [len(one.faces) for one in seen] == [1, 0, 1, 0, 0] * 3
    assert [one.stage for one in seen[:5]] == ["", "decode", "", "read", "detect"]
    assert all(one.faces[0].embedding @ vector > 0.99999 for one in seen if one.faces)  # a batch rounds otherwise


def test_photos_are_taken_as_they_are_needed(embedder: Embedder, png: Path) -> None:
    taken = []

    def endless() -> Iterator[bytes]:
        while True:
            taken.append(1)
            yield png.read_bytes()

    looked = embedder.represent_all(endless())
    for _ in range(3):
        assert next(looked).faces
    looked.close()  # type: ignore[attr-defined]
    assert len(taken) < 40


def test_sixteen_threads_give_the_same_bits(embedder: Embedder, png: Path, vector: Any) -> None:
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda number: embedder.represent(png)[0].embedding, range(48)))
    assert all(np.array_equal(one, vector) for one in found)


def test_the_verdict_is_that_of_verify(embedder: Embedder, png: Path) -> None:
    other = sample_photos() / "quality_30.jpg"
    alone = faceembed.verify(png, other, settings=FP32)
    warm = embedder.verify(png, other)
    assert (warm.same, warm.threshold, warm.encoder, warm.faces) == (alone.same, alone.threshold, alone.encoder, (1, 1))
    assert warm.similarity == pytest.approx(alone.similarity, abs=1e-3)
    assert embedder.similarity(png, other) == warm.similarity
    face = embedder.represent(other)[0]
    assert embedder.verify(png, face).similarity == pytest.approx(warm.similarity, abs=1e-5)
    assert embedder.verify(png, other, threshold=0.9999).same is False


def test_models_are_opened_once(png: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []
    real = loading.open_pipeline
    monkeypatch.setattr(loading, "open_pipeline", lambda *args, **kwargs: opened.append(1) or real(*args, **kwargs))
    with Embedder(FP32) as embedder:
        embedder.represent(png)
        embedder.verify(png, png)
    assert opened == [1]
    with pytest.raises(RuntimeError, match="shutdown"):
        embedder.represent(png)


def test_the_largest_alone(png: Path) -> None:
    with Embedder(EmbedSettings(runtime=FP32.runtime)) as embedder:
        assert len(embedder.represent(png)) == 1
