"""Pages of TIFFs beyond the first and frames of videos: only where they are asked for, each with the right pixels."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from PIL import Image

from faceembed.engine.index.store import Track
from faceembed.engine.photos.archives.opened import open_archive
from faceembed.engine.photos.archives.video import Video
from faceembed.engine.photos.decode import decode
from faceembed.engine.photos.left_out import Choice
from faceembed.engine.photos.listing import list_photos
from faceembed.engine.photos.photo_file import photo_file
from faceembed.engine.photos.places import is_gone
from faceembed.engine.photos.reading import read_file
from faceembed.engine.verbs.embed import embed
from faceembed.engine.verbs.search import search, search_faces
from faceembed.errors import IndexFormatError, PhotoError, UsageError
from tests.engine.photos.odd import page, tiff
from tests.engine.verbs.albums import Counted, paths_of, run, without_networks

Array = NDArray[np.uint8]


def flat(level: int, size: tuple[int, int] = (48, 48)) -> Array:
    return np.full((*size, 3), level, np.uint8)


def names(paths: list[Any], folder: Path) -> list[str]:
    return [photo.path.removeprefix(f"{folder}/") for photo in paths]


@pytest.mark.parametrize("big", [False, True])
def test_pages_are_photos_where_that_is_asked_for(tmp_path: Path, big: bool) -> None:
    """Of four pages the second is a preview."""
    data = tiff(page(flat(10)), page(flat(60, (8, 8)), t254=(1,)), page(flat(120)), page(flat(200, (32, 48))), big=big)
    (tmp_path / "scan.TIF").write_bytes(data)
    (tmp_path / "one.tif").write_bytes(tiff(page(flat(5))))
    assert names(list_photos([tmp_path]).photos, tmp_path) == ["one.tif", "scan.TIF"]
    found = list_photos([tmp_path], choice=Choice(pages=True)).photos
    assert names(found, tmp_path) == ["one.tif", "scan.TIF", "scan.TIF::3", "scan.TIF::4"]
    levels = [int(decode(read_file(photo.path)).pixels[3, 3, 0]) for photo in found]
    assert levels == [5, 10, 120, 200]
    assert [photo_file(photo.path).stamp for photo in found] == [photo.stamp for photo in found]
    assert is_gone(f"{tmp_path}/scan.TIF::2") and not is_gone(f"{tmp_path}/scan.TIF::3")
    with pytest.raises(PhotoError, match="no page"):
        read_file(f"{tmp_path}/scan.TIF::9")


def test_a_damaged_tiff_is_one_row(tmp_path: Path) -> None:
    (tmp_path / "bad.tif").write_bytes(b"II*\0\xff\xff\xff\x7f")
    listing = list_photos([tmp_path], choice=Choice(pages=True))
    assert names(listing.photos, tmp_path) == ["bad.tif"] and listing.failures == []


def film(path: Path, *, frames: int = 35, rate: int = 10, gop: int = 8, size: tuple[int, int] = (64, 96)) -> Path:
    """Frame n is of one grey, 6 n; a key frame every ``gop``."""
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=rate)
        stream.height, stream.width = size
        stream.pix_fmt = "yuv420p"
        stream.codec_context.gop_size = gop
        stream.codec_context.options = {"sc_threshold": "1000000000"}
        for number in range(frames):
            for packet in stream.encode(av.VideoFrame.from_ndarray(flat(6 * number, size), format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


@pytest.mark.parametrize("kind", ["mp4", "mkv", "avi"])
def test_frames_are_photos_where_that_is_asked_for(tmp_path: Path, kind: str) -> None:
    path = film(tmp_path / f"party.{kind}")
    assert list_photos([tmp_path]).ignored == {f".{kind}": 1}
    listing = list_photos([tmp_path], choice=Choice(fps=1))
    found = listing.photos
    assert listing.failures == [] and not listing.ignored
    assert len(found) == 4  # of 3.5 seconds
    video = open_archive(str(path))
    assert isinstance(video, Video)
    keys = {time for time, key in video._times if key}
    for second, photo in enumerate(found):
        name = photo.path.rpartition("::")[2]
        time = float(name[6:])
        assert second <= time + 0.001 < second + 1 and name.startswith("00:00:0")
        if in_it := [key for key in keys if second <= key + 1e-3 < second + 1]:
            assert any(abs(time - key) < 2e-3 for key in in_it)
        data = read_file(photo.path)
        assert len(data) == photo.size
        pixels = decode(data).pixels
        assert pixels.shape == (64, 96, 3)
        assert abs(int(np.median(pixels)) - 6 * round(time * 10)) <= 4
    for photo in reversed(found):  # backwards too
        time = float(photo.path[-6:])
        assert abs(int(np.median(decode(read_file(photo.path)).pixels)) - 6 * round(time * 10)) <= 4
    assert len(list_photos([path], choice=Choice(fps=5)).photos) == 18
    assert is_gone(f"{path}::00:00:09.000") and not is_gone(found[0].path)


def test_what_is_no_video_is_a_row(tmp_path: Path) -> None:
    pytest.importorskip("av")
    (tmp_path / "a.mp4").write_bytes(b"no video")
    whole = film(tmp_path / "b.avi").read_bytes()
    (tmp_path / "b.avi").write_bytes(whole[: len(whole) // 8])
    listing = list_photos([tmp_path], choice=Choice(fps=2))
    reasons = dict(listing.failures)
    assert "no video, or a damaged one" in reasons[f"{tmp_path}/a.mp4"]
    for photo in listing.photos:
        assert decode(read_file(photo.path)).width == 96


def test_without_pyav_the_reason_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    (tmp_path / "a.mp4").write_bytes(b"whatever")
    ((_, reason),) = list_photos([tmp_path], choice=Choice(fps=1)).failures
    assert "a video, which needs one more package" in reason and "video" in reason


@pytest.mark.parametrize("fps", [0, -1, 1001])
def test_rates_that_are_none(fps: float) -> None:
    with pytest.raises(UsageError, match="--fps"):
        Choice(fps=fps)


def test_an_index_keeps_to_its_pages_and_frames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the option a run would take them for gone: it is refused, and nothing is lost."""
    counted: Counted = without_networks(monkeypatch)
    index, photos = tmp_path / "p.faiss", tmp_path / "photos"
    photos.mkdir()
    rng = np.random.default_rng(1)
    pages = [page(rng.integers(0, 256, (24, 24, 3), np.uint8)) for _ in range(3)]
    (photos / "scan.tif").write_bytes(tiff(*pages))
    film(photos / "party.mp4", size=(48, 48))
    report = run(photos, index, pages=True, fps=2)
    assert (report.faces + report.in_tracks, counted.photos) == (10, 10)
    assert (
        report.faces > 3 + 1
    )  # the pages, and darker and brighter frames, which are two people to what stands for an encoder here
    assert run(photos, index, pages=True, fps=2).embedded == 0
    for options, said in (
        ({}, "was made with --pages, this run has no --pages; use the same"),
        ({"pages": True}, "was made with --fps 2, this run has no --fps; use the same"),
        ({"pages": True, "fps": 1}, "was made with --fps 2, this run has --fps 1; use the same"),
    ):
        with pytest.raises(IndexFormatError, match=said):
            run(photos, index, **options)
    assert len(paths_of(index)) == report.faces


def turn(path: Path, matrix: tuple[int, int, int, int]) -> None:
    """Put a, b, c, d of a display matrix into the header of an MP4's track (ISO/IEC 14496-12, 8.3.2)."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40
    assert struct.unpack_from(">9i", data, at) == (1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    a, b, c, d = (value << 16 if value >= 0 else -(-value << 16) for value in matrix)
    struct.pack_into(">9i", data, at, a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("matrix", "quarters"), [((1, 0, 0, 1), 0), ((0, 1, -1, 0), 3), ((-1, 0, 0, -1), 2), ((0, -1, 1, 0), 1)]
)
def test_frames_come_as_the_camera_was_held(tmp_path: Path, matrix: tuple[int, int, int, int], quarters: int) -> None:
    """x' = a x + c y, y' = b x + d y: (0, 1, -1, 0) is a quarter with the clock, as phones write it that are held upright."""
    av = pytest.importorskip("av")
    shown = np.full((64, 96, 3), 40, np.uint8)
    shown[:24, :32] = 220
    path = tmp_path / "phone.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=5)
        stream.height, stream.width, stream.pix_fmt = 64, 96, "yuv420p"
        for _ in range(5):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(shown, format="rgb24")))
        container.mux(stream.encode())
    if quarters:
        turn(path, matrix)
    (found,) = list_photos([path], choice=Choice(fps=1)).photos
    pixels = decode(read_file(found.path)).pixels
    expected = np.rot90(shown, quarters)  # against the clock
    assert pixels.shape == expected.shape
    assert np.abs(pixels.astype(int) - expected).mean() < 8


def test_a_video_is_rows_of_tracks(
    tmp_path: Path, astronaut: Array, monkeypatch: pytest.MonkeyPatch, reuse_pipeline: object
) -> None:
    """She moves through the picture for four seconds, is away for seven, and comes back: two tracks, found by her photo."""
    av = pytest.importorskip("av")
    face = astronaut[:256, 96:352]
    path, index = tmp_path / "space.mp4", tmp_path / "s.faiss"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=2)
        stream.height, stream.width, stream.pix_fmt = 256, 384, "yuv420p"
        stream.bit_rate = 4_000_000
        for number in range(28):
            pixels = np.full((256, 384, 3), 128, np.uint8)
            if number < 8 or number >= 22:
                left = 14 * (number % 8)
                pixels[:, left : left + 256] = face
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    report = embed(path, index, fps=2)
    assert (report.images, report.faces, report.no_face, report.failed) == (28, 2, 14, 0)
    assert report.faces + report.no_face + report.in_tracks == 28
    rows = pq.read_table(f"{index}.parquet").select(["first_ms", "last_ms", "frames"]).to_pylist()
    assert [tuple(row.values()) for row in rows] == [(0, 3500, 8), (11000, 13500, 6)]
    again = embed(path, index, fps=2)
    assert (again.embedded, again.faces, again.in_tracks, again.failed) == (0, 2, 12, 0)
    Image.fromarray(astronaut).save(tmp_path / "her.png")
    ((_, hits),) = search(index, [tmp_path / "her.png"], k=5)
    assert not isinstance(hits, str) and {hit.track for hit in hits} == {Track(0, 3500, 8), Track(11000, 13500, 6)}
    assert min(hit.similarity for hit in hits) > 0.9
    lines: list[str] = []
    queries = search_faces(index, [path], k=1, fps=2, notice=lines.append)
    assert [query.track for query in queries] == [Track(0, 3500, 8), Track(11000, 13500, 6)]
    assert any("14 frames of videos that show faces have none" in line for line in lines)
    moved = tmp_path / "moved.mp4"
    path.rename(moved)
    report = embed(moved, index, fps=2)
    assert (report.embedded, report.moved, report.faces, report.in_tracks) == (0, 28, 2, 12)
    (tmp_path / "empty").mkdir()
    moved.unlink()
    assert embed([tmp_path / "her.png", tmp_path], index, fps=2, prune=True).in_tracks == 0
