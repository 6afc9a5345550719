"""Pages of TIFFs beyond the first and frames of videos: only where they are asked for, each with the right pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from faceembed.engine.photos.archives.opened import open_archive
from faceembed.engine.photos.archives.video import Video
from faceembed.engine.photos.decode import decode
from faceembed.engine.photos.left_out import Choice
from faceembed.engine.photos.listing import list_photos
from faceembed.engine.photos.photo_file import photo_file
from faceembed.engine.photos.places import is_gone
from faceembed.engine.photos.reading import read_file
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
    assert (report.faces, counted.photos) == (10, 10)
    assert run(photos, index, pages=True, fps=2).embedded == 0
    for options, said in (
        ({}, "was made with --pages, this run has no --pages; use the same"),
        ({"pages": True}, "was made with --fps 2, this run has no --fps; use the same"),
        ({"pages": True, "fps": 1}, "was made with --fps 2, this run has --fps 1; use the same"),
    ):
        with pytest.raises(IndexFormatError, match=said):
            run(photos, index, **options)
    assert len(paths_of(index)) == 10
