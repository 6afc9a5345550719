"""The contract of `Pipeline` on a device: every photo once and in order, bounded memory, and a device that is out of memory."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from faceembed.engine.models.spec import Model
from faceembed.engine.photos.photo_file import PhotoFile
from faceembed.engine.pipeline import loading
from faceembed.engine.pipeline.batches import Outcome
from faceembed.engine.pipeline.gpu.cpu import CpuBackend
from faceembed.engine.pipeline.gpu.pipeline import SLOTS, DevicePipeline
from faceembed.engine.pipeline.settings import EmbedSettings
from faceembed.engine.verbs.embed import embed
from faceembed.errors import DeviceError
from tests.engine.pipeline.gpu.conftest import faces_of, failures_of

Open = Callable[..., DevicePipeline]
MakeFaces = Callable[[Path, int], list[Path]]
COUNT = 24


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, make_faces: MakeFaces) -> Path:
    """24 square photos, three of them bad in different ways."""
    folder = tmp_path_factory.mktemp("album")
    paths = make_faces(folder, COUNT)
    paths[3].write_bytes(b"")
    paths[10].unlink()
    paths[10].symlink_to("nowhere")
    cv2.imwrite(str(paths[20]), np.full((200, 90, 3), 90, np.uint8))
    return folder


@pytest.fixture(scope="module")
def album(folder: Path) -> list[PhotoFile]:
    return [PhotoFile(str(path), 1000, 0) for path in sorted(folder.iterdir())]


FAILURES = {"0003.jpg": "decode", "0010.jpg": "read", "0020.jpg": "detect"}


def assert_complete(outcomes: list[Outcome], album: list[PhotoFile]) -> None:
    assert [photo.path for outcome in outcomes for photo in outcome.photos] == [photo.path for photo in album]
    assert {name: stage for name, (stage, _) in failures_of(outcomes).items()} == FAILURES
    assert len(faces_of(outcomes)) == COUNT - 3
    for outcome in outcomes:
        assert len(outcome.faces.photo) + len(outcome.failures) == len(outcome.photos)
        np.testing.assert_allclose(np.linalg.norm(outcome.faces.embeddings, axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize(("batch_size", "boundary"), [(1, 0), (5, 0), (5, 7), (64, 0)])
def test_every_photo_comes_out_once_and_in_order(
    open_tiny: Open, album: list[PhotoFile], batch_size: int, boundary: int
) -> None:
    before = threading.active_count()
    outcomes = list(open_tiny(batch_size=batch_size).run(album, boundary=boundary))
    assert_complete(outcomes, album)
    assert max(len(outcome.photos) for outcome in outcomes) <= batch_size
    if boundary:
        assert {7, 14, 21} <= set(np.cumsum([len(outcome.photos) for outcome in outcomes]).tolist())
    assert set(outcomes[0].seconds) == {"read", "decode", "detect", "align", "encode", "copy"}
    assert threading.active_count() == before


def test_batches_change_nothing(open_tiny: Open, album: list[PhotoFile]) -> None:
    one, other = (faces_of(list(open_tiny(batch_size=size).run(album))) for size in (1, 64))
    for path, face in one.items():
        np.testing.assert_allclose(face.embedding, other[path].embedding, atol=1e-6)


def test_nothing_in_nothing_out(open_tiny: Open) -> None:
    assert list(open_tiny().run([])) == []


class Short(CpuBackend):
    """Is out of memory for more than so many photos at once, in decoding; ``ever`` so, however few."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most
        self.decoded: list[int] = []
        self.released = 0

    def decode(self, files: Any) -> list[Any]:
        self.decoded.append(len(files))
        if len(files) > self.most:
            raise RuntimeError("CUDA runtime API error cudaErrorMemoryAllocation (2): out of memory")
        return super().decode(files)

    def release(self) -> None:
        self.released += 1


def test_out_of_memory_halves_the_batch_and_goes_on(
    open_tiny: Open, album: list[PhotoFile], backend: CpuBackend
) -> None:
    whole = faces_of(list(open_tiny(batch_size=12).run(album)))
    short = Short(most=4)
    pipeline = open_tiny(on=short, batch_size=12)
    outcomes = list(pipeline.run(album * 15))
    assert [photo.path for outcome in outcomes for photo in outcome.photos] == [photo.path for photo in album * 15]
    assert len([failure for outcome in outcomes for failure in outcome.failures]) == 45
    for path, face in faces_of(outcomes).items():
        np.testing.assert_array_equal(face.embedding, whole[path].embedding)
    assert pipeline.halvings >= 1
    assert short.released == pipeline.halvings
    # It is learned from. Those in flight at the first refusal, at most SLOTS and one, are refused as well, with their halves of 6;
    # then as many of 6; after that nothing is refused any more.
    refused = [count for count in short.decoded if count > 4]
    assert len(refused) <= (SLOTS + 1) * 4
    assert max(short.decoded[-30:]) <= 4


@pytest.mark.parametrize("stage", ["look", "warp", "run", "host"])
def test_out_of_memory_in_any_stage(
    open_tiny: Open, album: list[PhotoFile], monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    """The second call fails once, whatever the stage."""
    backend = CpuBackend()
    real, calls = getattr(backend, stage), []

    def once(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise MemoryError
        return real(*arguments)

    monkeypatch.setattr(backend, stage, once)
    pipeline = open_tiny(on=backend, batch_size=8)
    assert_complete(list(pipeline.run(album)), album)
    assert pipeline.halvings == (0 if stage == "look" else 1)  # crops are not looked for


def test_out_of_memory_for_one_photo_ends_the_run(open_tiny: Open, album: list[PhotoFile]) -> None:
    """It is not the photo's fault, so it is no row of the errors file."""
    before = threading.active_count()
    with pytest.raises(DeviceError, match=r"out of memory even for .*0000.jpg \(200x200\) alone.*--max-pixels"):
        next(open_tiny(on=Short(most=0), batch_size=8).run(album))
    assert threading.active_count() == before


def test_a_large_photo_that_does_not_fit_is_a_row(open_tiny: Open, album: list[PhotoFile], tmp_path: Path) -> None:
    """A card that serves the others is not to blame."""
    giant = tmp_path / "giant.png"
    cv2.imwrite(str(giant), np.zeros((5000, 5000), np.uint8))

    class Full(CpuBackend):
        def decode(self, files: Any) -> list[Any]:
            if any(len(file) == giant.stat().st_size for file in files):
                raise RuntimeError("CUDA runtime API error cudaErrorMemoryAllocation (2): out of memory")
            return super().decode(files)

    photos = [*album[:3], PhotoFile(str(giant), giant.stat().st_size, 0), *album[3:]]
    outcomes = list(open_tiny(on=Full(), batch_size=8).run(photos))
    assert [photo.path for outcome in outcomes for photo in outcome.photos] == [photo.path for photo in photos]
    failures = {failure.photo.path: failure for outcome in outcomes for failure in outcome.failures}
    assert failures[str(giant)].stage == "memory" and "--max-pixels" in failures[str(giant)].reason


def test_any_other_error_ends_the_run(open_tiny: Open, album: list[PhotoFile], monkeypatch: pytest.MonkeyPatch) -> None:
    backend = CpuBackend()
    monkeypatch.setattr(backend, "warp", lambda *arguments: 1 / 0)
    before = threading.active_count()
    with pytest.raises(ZeroDivisionError):
        list(open_tiny(on=backend, batch_size=4).run(album))
    assert threading.active_count() == before


def test_what_is_in_flight_is_bounded(open_tiny: Open, album: list[PhotoFile], monkeypatch: pytest.MonkeyPatch) -> None:
    """By bytes, and, with a consumer that takes nothing, by batches."""
    pipeline = open_tiny(batch_size=1, memory=40 << 20)  # three photos
    assert len(list(pipeline.run(album))) == COUNT
    assert 0 < pipeline.peak_bytes <= 40 << 20
    backend = CpuBackend()
    decoded: list[int] = []
    real = backend.decode
    monkeypatch.setattr(backend, "decode", lambda files: (decoded.append(1), real(files))[1])
    run = open_tiny(on=backend, batch_size=1).run(album * 10)
    for taken in range(1, 6):
        next(run)
        assert len(decoded) <= taken + SLOTS
    run.close()  # type: ignore[attr-defined]
    assert len(decoded) <= 5 + SLOTS


def test_embed_runs_on_it_unchanged(
    open_tiny: Open,
    tiny_encoder: Model,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Shards, errors file and a second run: the verb does not know which pipeline it has."""
    monkeypatch.setattr(loading, "resolve_models", lambda settings: loading.Models(tiny_encoder, None))
    monkeypatch.setattr(loading, "open_pipeline", lambda *arguments, **options: open_tiny(batch_size=5))
    settings = EmbedSettings(aligner="none")
    report = embed(folder, tmp_path / "index.faiss", settings=settings)
    assert (report.images, report.faces, report.no_face, report.failed) == (COUNT, COUNT - 3, 1, 2)
    assert {"read", "decode", "detect", "align", "encode", "copy"} == set(report.stages)
    assert "0003.jpg" in (tmp_path / "index.faiss.errors.csv").read_text()
    again = embed(folder, tmp_path / "index.faiss", settings=settings)
    assert (again.embedded, again.faces) == (0, COUNT - 3)
