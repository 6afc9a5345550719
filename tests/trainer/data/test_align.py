"""Aligning: crops equal the engine's chips, no photo is lost, and a second or interrupted run does what is missing alone."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from faceembed.engine.models.spec import ModelSpec
from faceembed.engine.photos.failures import read_errors
from faceembed.engine.photos.photo_file import PhotoFile
from faceembed.engine.pipeline import loading
from faceembed.engine.pipeline.batches import Pipeline
from faceembed.engine.pipeline.chips import Cutter
from faceembed.engine.pipeline.progress import Progress
from faceembed.engine.pipeline.settings import EmbedSettings
from faceembed.errors import DataError, FaceEmbedError, ModelError, UsageError
from faceembed.trainer.batches.dataset import open_crops
from faceembed.trainer.data import align as module
from faceembed.trainer.data.align import AlignReport, align, encoder_spec
from faceembed.trainer.data.crops import read_crops, write_crops
from faceembed.trainer.data.people import People, exclude_people, read_people
from faceembed.trainer.data.samples import Sample
from faceembed.trainer.recipes.crops import Data

MakeFaces = Callable[[Path, int], list[Path]]
SETTINGS = EmbedSettings(batch_size=2)


@pytest.fixture(autouse=True)
def cut(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Runs take the session's detector; the names of the photos that are cut are noted."""
    photos: list[str] = []

    class Noting(Cutter):
        def cut_batch(self, read: Any, read_seconds: float) -> Any:
            photos.extend(os.path.basename(getattr(item, "photo").path) for item in read)  # noqa: B009
            return super().cut_batch(read, read_seconds)

    def open_cutter(settings: EmbedSettings, spec: ModelSpec, aligner: object, *_: object, **__: object) -> Cutter:
        return Noting(settings, pipeline.detector if aligner else None, spec, workers=2)

    monkeypatch.setattr(loading, "open_cutter", open_cutter)
    return photos


@pytest.fixture
def folder(tmp_path: Path, make_faces: MakeFaces) -> Path:
    """ann has three photos, bob two and one that is no photo, cid one without a face."""
    paths = make_faces(tmp_path / "made", 5)
    people = tmp_path / "people"
    for name, path in zip(("ann/0.jpg", "ann/1.jpg", "ann/2.jpg", "bob/0.jpg", "bob/1.jpg"), paths, strict=True):
        (people / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, people / name)
    (people / "bob" / "bad.jpg").write_bytes(b"not a picture")
    (people / "cid").mkdir()
    cv2.imwrite(str(people / "cid" / "wall.png"), np.full((200, 200, 3), 90, np.uint8))
    return people


def run(people: Path | People, output: Path, **options: Any) -> AlignReport:
    options = {"settings": SETTINGS, **options}
    return align(people if isinstance(people, People) else read_people(people), output, **options)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def assert_alike(one: Path, other: Path) -> None:
    """The same crop set, but for a hundredth of a pixel of the landmarks, which depends on how many photos a network saw at once."""
    first, second = contents(one), contents(other)
    assert first.keys() == second.keys()
    for name in first.keys() - {"crops.parquet"}:
        if name.endswith(".jpg"):
            off = np.abs(pixels(one / name).astype(int) - pixels(other / name))
            assert off.max() <= 16 and off.mean() < 0.3, name
        else:
            assert first[name] == second[name], name
    for row, twin in zip(read_crops(one).rows, read_crops(other).rows, strict=True):
        np.testing.assert_allclose(row.landmarks, twin.landmarks, atol=1e-2)
        assert abs(row.score - twin.score) < 1e-3
        assert dataclasses.replace(row, landmarks=twin.landmarks, score=twin.score) == twin


def pixels(path: str | Path) -> np.ndarray:
    read = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)
    return cv2.cvtColor(read, cv2.COLOR_BGR2RGB)


def test_crops_are_the_engines_chips(folder: Path, tmp_path: Path, pipeline: Pipeline) -> None:
    report = run(folder, tmp_path / "crops", format="png")
    assert (report.photos, report.crops, report.people, report.no_face, report.failed) == (7, 5, 2, 1, 1)
    assert (report.aligned, report.skipped, report.removed) == (7, 0, 0)
    crops = read_crops(tmp_path / "crops")
    assert [(s.person, os.path.relpath(s.path, crops.folder)) for s in crops.samples] == [
        ("ann", "ann/0.png"),
        ("ann", "ann/1.png"),
        ("ann", "ann/2.png"),
        ("bob", "bob/0.png"),
        ("bob", "bob/1.png"),
    ]
    spec = pipeline.encoder.model.spec
    assert (crops.height, crops.width, crops.template) == (*spec.input_size, spec.template)
    photos = [PhotoFile(path, os.path.getsize(path), 0) for path in crops.photos]
    (outcome,) = pipeline.run(photos)
    for sample, row, chip, points, embedding in zip(
        crops.samples,
        crops.rows,
        pipeline.chips(photos, 9),
        outcome.faces.landmarks,
        outcome.faces.embeddings,
        strict=True,
    ):
        assert np.abs(pixels(sample.path).astype(int) - chip).max() <= 3  # another batch, another rounding
        assert np.allclose(np.reshape(row.landmarks, (5, 2)), points, atol=1e-2)
        assert (row.width, row.height) == pixels(row.photo).shape[1::-1]
        assert pipeline.encoder.encode(pixels(sample.path)[None])[0][0] @ embedding > 0.9999
    errors = {os.path.basename(f.photo.path): f.stage for f in read_errors(tmp_path / "crops" / "errors.csv")}
    assert errors == {"bad.jpg": "decode", "wall.png": "detect"}


def test_jpeg_crops_are_close_and_of_their_quality(folder: Path, tmp_path: Path) -> None:
    run(folder, tmp_path / "png", format="png")
    run(folder, tmp_path / "fine")
    run(folder, tmp_path / "coarse", quality=40)
    exact, fine, coarse = (
        pixels(tmp_path / name).astype(int) for name in ("png/ann/0.png", "fine/ann/0.jpg", "coarse/ann/0.jpg")
    )
    assert np.abs(fine - exact).mean() < 2 < np.abs(coarse - exact).mean()
    data = (tmp_path / "fine/ann/0.jpg").read_bytes()
    frame = data.index(b"\xff\xc0")
    assert data[frame + 11] == 0x11  # sampling factors of the first component: 4:4:4


def test_a_second_run_does_what_is_new_or_changed(
    folder: Path, tmp_path: Path, make_faces: MakeFaces, cut: list[str]
) -> None:
    crops = tmp_path / "crops"
    run(folder, crops)
    before = contents(crops)
    cut.clear()
    lines: list[str] = []
    report = run(folder, crops, notice=lines.append)
    assert (report.skipped, report.aligned, report.crops, cut) == (7, 0, 5, [])
    assert lines == ["nothing new or changed"]
    assert contents(crops) == before
    new = make_faces(tmp_path / "more", 9)
    shutil.copy(new[7], folder / "ann" / "1.jpg")  # changed
    shutil.copy(new[8], folder / "cid" / "new.jpg")  # new
    (folder / "ann" / "2.jpg").unlink()  # gone
    os.unlink(crops / "bob" / "0.jpg")  # its crop is
    report = run(folder, crops)
    assert sorted(cut) == ["0.jpg", "1.jpg", "new.jpg"]
    assert (report.aligned, report.skipped, report.crops, report.removed, report.people) == (3, 4, 5, 1, 3)
    run(folder, tmp_path / "clean")
    assert_alike(crops, tmp_path / "clean")


class Stop(Exception):
    """The run is killed here."""


def test_an_interrupted_run_goes_on(folder: Path, tmp_path: Path, cut: list[str]) -> None:
    whole, crops = tmp_path / "whole", tmp_path / "crops"
    run(folder, whole)
    for stop_after in (2, 4):

        def stop(progress: Progress, stop_after: int = stop_after) -> None:
            if progress.done >= stop_after:
                raise Stop

        with pytest.raises(Stop):
            run(folder, crops, progress=stop)
        assert not (crops / "crops.parquet").exists()
        with pytest.raises(DataError, match="is not a crop set"):
            read_crops(crops)
    with (crops / "unfinished.jsonl").open("ab") as file:
        file.write(b'{"crop": {"crop": "ann/')  # a line that was cut short
    cut.clear()
    seen: list[Progress] = []
    report = run(folder, crops, progress=seen.append)
    assert report.skipped >= 4
    assert len(cut) == report.aligned == 7 - report.skipped
    assert (seen[-1].done, seen[-1].total, seen[-1].faces, seen[-1].failures) == (7, 7, 5, 2)
    assert_alike(crops, whole)


def test_a_photo_that_changes_while_a_run_is_interrupted(folder: Path, tmp_path: Path, make_faces: MakeFaces) -> None:
    def stop(progress: Progress) -> None:
        if progress.done >= 4:
            raise Stop

    with pytest.raises(Stop):
        run(folder, tmp_path / "crops", progress=stop)
    shutil.copy(make_faces(tmp_path / "more", 9)[8], folder / "ann" / "0.jpg")
    (folder / "ann" / "1.jpg").unlink()
    run(folder, tmp_path / "crops")
    run(folder, tmp_path / "clean")
    assert_alike(tmp_path / "crops", tmp_path / "clean")


def test_other_folders_stay_and_excluded_people_go(folder: Path, tmp_path: Path, make_faces: MakeFaces) -> None:
    make_faces(tmp_path / "others" / "dee", 1)
    crops = tmp_path / "crops"
    run(folder, crops)
    report = run(tmp_path / "others", crops)
    assert (report.photos, report.aligned, report.crops, report.people, report.removed) == (1, 1, 6, 3, 0)
    assert len(read_errors(crops / "errors.csv")) == 2
    report = run(exclude_people(read_people(folder), ["bob"]), crops)
    assert (report.crops, report.removed) == (4, 2)
    assert {sample.person for sample in read_crops(crops).samples} == {"ann", "dee"}
    assert not (crops / "bob").exists()
    assert [os.path.basename(f.photo.path) for f in read_errors(crops / "errors.csv")] == ["wall.png"]


def test_other_settings_are_refused_and_fresh_starts_over(folder: Path, tmp_path: Path) -> None:
    crops = tmp_path / "crops"
    run(folder, crops)
    before = contents(crops)
    for options, message in (
        ({"quality": 90}, "made with quality 95, this run has 90"),
        ({"format": "png"}, "made with format 'jpg', this run has 'png'"),
        ({"settings": dataclasses.replace(SETTINGS, min_face=40)}, "made with min_face 0, this run has 40"),
        (
            {"settings": dataclasses.replace(SETTINGS, encoder="cvlface-ir18-webface4m")},
            rf"made with template {SETTINGS.encoder} \(150x150\), this run has cvlface-ir18-webface4m \(112x112\)",
        ),
    ):
        with pytest.raises(DataError, match=message):
            run(folder, crops, **options)  # type: ignore[arg-type]
    assert contents(crops) == before
    (crops / "ann" / "mine.txt").write_text("the user's own")
    run(folder, crops, format="png", fresh=True)
    assert sorted(contents(crops)) == sorted(
        [
            *(name.replace(".jpg", ".png") for name in before),
            "ann/mine.txt",
        ]
    )


def test_fakes_keep_their_labels_beside_the_real_ones(folder: Path, tmp_path: Path) -> None:
    real = read_people(folder)
    fakes = (
        Sample(str(folder / "ann" / "0.jpg"), "bob", True, "swap", "ann"),
        Sample(str(folder / "bob" / "0.jpg"), "bob", True, "selfblend"),
    )
    moved = []
    for fake in fakes:
        path = tmp_path / "fakes" / fake.method / "0.jpg"
        path.parent.mkdir(parents=True)
        shutil.copy(fake.path, path)
        moved.append(dataclasses.replace(fake, path=str(path)))
    people = People("all", (*real.samples, *moved), (), (*real.roots, str(tmp_path / "fakes")))
    report = run(people, tmp_path / "crops")
    assert report.crops == 7
    shown = [
        (s.person, s.fake, s.method, s.other, os.path.basename(s.path)) for s in read_crops(tmp_path / "crops").samples
    ]
    assert shown[3:] == [
        ("bob", False, "", "", "0.jpg"),
        ("bob", False, "", "", "1.jpg"),
        ("bob", True, "selfblend", "", "selfblend~0.jpg"),
        ("bob", True, "swap", "ann", "swap~0.jpg"),
    ]


def test_odd_names(tmp_path: Path, make_faces: MakeFaces) -> None:
    """Two photos of one stem, signs that file systems refuse, bytes that are not UTF-8: each has a crop of its own."""
    paths = make_faces(tmp_path / "made", 6)
    people = tmp_path / "people"
    names = ("ann/a.jpg", "ann/a.jpeg", "ann/A.JPG", "ann/..:*?.jpg", "j\udce9/\udcff\n.jpg", f"ann/{'x' * 240}.jpg")
    for name, path in zip(names, paths, strict=True):
        os.makedirs(people / os.path.dirname(name), exist_ok=True)
        shutil.copy(path, people / name)
    report = run(people, tmp_path / "crops")
    assert (report.crops, report.people) == (6, 2)
    crops = read_crops(tmp_path / "crops")
    assert set(crops.photos) == {str(people / name) for name in names}
    assert {sample.person for sample in crops.samples} == {"ann", "j\udce9"}
    names_of_crops = [row.crop for row in crops.rows]
    assert len({name.casefold() for name in names_of_crops}) == 6
    assert all(name.encode().decode().isprintable() and len(name) < 200 for name in names_of_crops)
    assert all(os.path.getsize(sample.path) for sample in crops.samples)
    assert run(people, tmp_path / "crops").skipped == 6


def test_a_photo_that_could_not_be_read_is_tried_again(folder: Path, tmp_path: Path, cut: list[str]) -> None:
    people = read_people(folder)
    (folder / "ann" / "2.jpg").rename(tmp_path / "away.jpg")
    assert run(people, tmp_path / "crops").failed == 2
    (tmp_path / "away.jpg").rename(folder / "ann" / "2.jpg")
    cut.clear()
    assert run(people, tmp_path / "crops").failed == 1
    assert cut == ["2.jpg"]


def test_no_face_at_all(tmp_path: Path) -> None:
    for person in ("ann", "bob"):
        (tmp_path / "people" / person).mkdir(parents=True)
        cv2.imwrite(str(tmp_path / "people" / person / "wall.png"), np.full((99, 99, 3), 9, np.uint8))
    with pytest.raises(
        DataError, match=r"not one of 2 photos has given a crop; the first is .*wall.png: no face of 20 px"
    ):
        run(tmp_path / "people", tmp_path / "crops")
    assert len(read_errors(tmp_path / "crops" / "errors.csv")) == 2


def test_places_that_are_none_for_crops(folder: Path, tmp_path: Path) -> None:
    before = contents(folder)
    for output in (folder, folder / "ann", folder / "crops", tmp_path):
        with pytest.raises(UsageError, match=r"cannot go to|holds other files"):
            run(folder, output)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("")
    with pytest.raises(UsageError, match="mine holds other files; give a new folder"):
        run(folder, tmp_path / "mine")
    with pytest.raises(UsageError, match=r"notes.txt is a file"):
        run(folder, tmp_path / "mine" / "notes.txt")
    with pytest.raises(UsageError, match="--quality 0"):
        run(folder, tmp_path / "crops", quality=0)
    assert contents(folder) == before


@pytest.mark.parametrize("name", ["crops.json", "crops.parquet", "unfinished.jsonl", "errors.csv"])
def test_damaged_sets_say_so_and_fresh_mends_them(folder: Path, tmp_path: Path, name: str) -> None:
    crops = tmp_path / "crops"
    run(folder, crops)
    (crops / name).write_text("[]\n" if name != "errors.csv" else "a\n1\n")
    with pytest.raises(FaceEmbedError, match=f"{name} .*--fresh"):
        run(folder, crops)
    assert run(folder, crops, fresh=True).crops == 5


def test_a_table_that_names_files_elsewhere_deletes_nothing(folder: Path, tmp_path: Path) -> None:
    crops = tmp_path / "crops"
    run(folder, crops)
    victim = tmp_path / "victim.jpg"
    victim.write_bytes(b"precious")
    found = read_crops(crops)
    rows = [dataclasses.replace(row, crop="../victim.jpg") if row.crop == "ann/0.jpg" else row for row in found.rows]
    write_crops(crops, rows, found.info)
    (folder / "ann" / "0.jpg").unlink()
    with pytest.raises(DataError, match="names a file outside of it"):
        run(folder, crops)
    assert victim.read_bytes() == b"precious"


def test_disk_full_leaves_no_half_crop(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = module.write_crop

    def full(path: str, *args: Any, **options: Any) -> None:
        if path.endswith("bob/0.jpg"):
            raise OSError(28, "No space left on device")
        write(path, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(module, "write_crop", full)
        with pytest.raises(OSError, match="No space left"):
            run(folder, tmp_path / "crops")
    assert run(folder, tmp_path / "crops").crops == 5
    run(folder, tmp_path / "clean")
    assert_alike(tmp_path / "crops", tmp_path / "clean")


def test_which_encoder() -> None:
    assert encoder_spec("dlib-resnet").input_size == (150, 150)
    assert encoder_spec("cvlface-ir18-webface4m").input_size == (112, 112)  # known, though it is not on this machine
    assert encoder_spec("resnet29").template == encoder_spec("dlib-resnet").template
    assert encoder_spec(EmbedSettings().encoder).name == EmbedSettings().encoder
    with pytest.raises(ModelError, match="no encoder 'ir19'; did you mean ir18"):
        encoder_spec("ir19")


@pytest.mark.parametrize(("first", "second"), [("dlib-resnet", "faceembed-r29"), ("faceembed-r29", "dlib-resnet")])
def test_crops_for_our_encoder_and_for_dlibs_are_the_same(
    folder: Path, tmp_path: Path, cut: list[str], first: str, second: str
) -> None:
    """Either goes on with the other's set, and a training that starts from either takes it."""
    run(folder, tmp_path / "crops", settings=dataclasses.replace(SETTINGS, encoder=first))
    before, cut[:] = contents(tmp_path / "crops"), []
    report = run(folder, tmp_path / "crops", settings=dataclasses.replace(SETTINGS, encoder=second))
    assert (report.crops, report.aligned, cut) == (5, 0, [])
    assert {name: data for name, data in contents(tmp_path / "crops").items() if name.endswith(".jpg")} == {
        name: data for name, data in before.items() if name.endswith(".jpg")
    }
    for encoder in (first, second):
        assert len(open_crops(Data(crops=(str(tmp_path / "crops"),)), encoder_spec(encoder)).samples) == 5


@pytest.mark.data
def test_people_in_the_wild(data: Path, tmp_path: Path) -> None:
    persons = read_people(data / "people_wild").persons[:4]
    for person in persons:
        (tmp_path / "people").mkdir(exist_ok=True)
        (tmp_path / "people" / person).symlink_to(data / "people_wild" / person)
    people = read_people(tmp_path / "people")
    assert people.persons == persons
    report = run(people, tmp_path / "crops", settings=EmbedSettings())
    assert report.photos == len(people.samples) > 30
    assert report.crops + report.no_face == report.photos
    assert report.no_face <= 2
    assert all(pixels(sample.path).shape == (150, 150, 3) for sample in read_crops(tmp_path / "crops").samples)


def test_recompressed_photos_give_crops_of_their_jpeg(folder: Path, tmp_path: Path) -> None:
    """A share of 1 changes every crop a little and keeps its place; of a half, always the same ones; fakes are left alone."""
    plain, every, half = (tmp_path / name for name in ("plain", "every", "half"))
    run(folder, plain, format="png")
    report = run(folder, every, format="png", recompress=1.0)
    run(folder, half, format="png", recompress=0.5)
    assert report.crops == 5 and report.failed == 1
    before, after, mixed = (contents(path) for path in (plain, every, half))
    crops = [name for name in before if name.endswith(".png")]
    assert len(crops) == 5 and all(before[name] != after[name] for name in crops)
    for name in crops:
        assert np.abs(pixels(plain / name).astype(int) - pixels(every / name)).mean() < 12
        assert mixed[name] in (before[name], after[name])
    assert 0 < sum(mixed[name] == after[name] for name in crops) < 5
    with pytest.raises(DataError, match=r"was made with recompressed 0\.5, this run has 1\.0"):
        run(folder, half, format="png", recompress=1.0)
    people = read_people(folder)
    fakes = dataclasses.replace(
        people, samples=tuple(dataclasses.replace(s, fake=True, method="swap") for s in people.samples)
    )
    run(fakes, tmp_path / "fakes", format="png", recompress=1.0)
    for row in read_crops(tmp_path / "fakes").rows:
        assert (pixels(tmp_path / "fakes" / row.crop) == pixels(plain / row.crop.replace("swap~", ""))).all()
