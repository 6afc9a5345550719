"""`embed` from folder to index: every photo is accounted for, a second run does only what changed, mix-ups are refused."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import faiss
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import faceembed
from faceembed.engine.index.store import VECTOR_ID, FaceIndex
from faceembed.engine.models.spec import ARCFACE_TEMPLATE, Model
from faceembed.engine.photos.rows import FACE_SCHEMA
from faceembed.engine.pipeline import loading
from faceembed.engine.pipeline.batches import Pipeline
from faceembed.engine.pipeline.progress import Progress
from faceembed.engine.pipeline.settings import EmbedSettings
from faceembed.engine.verbs.embed import EmbedReport, embed
from faceembed.engine.verbs.search import search
from faceembed.errors import DataError, IndexFormatError, LossError, ModelError, UsageError

MakeFaces = Callable[[Path, int], list[Path]]
pytestmark = pytest.mark.usefixtures("reuse_pipeline")


@pytest.fixture
def album(tmp_path: Path, make_faces: MakeFaces) -> Path:
    """Ten photos with a face, in two folders, and one bad file of each kind."""
    folder = tmp_path / "album"
    for path in make_faces(folder, 10)[6:]:
        (folder / "more").mkdir(exist_ok=True)
        path.rename(folder / "more" / path.name)
    good = (folder / "0000.jpg").read_bytes()
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "cut.jpg").write_bytes(good[:150])
    (folder / "letter.png").write_text("Dear all,\nthis is no picture.\n")
    (folder / "notes.txt").write_text("left out by its ending")
    cv2.imwrite(str(folder / "wall.png"), np.full((200, 300, 3), 140, np.uint8))
    (folder / "gone.jpg").symlink_to("nowhere.jpg")
    return folder


def run(photos: Any, output: Path, settings: EmbedSettings | None = None, **options: Any) -> EmbedReport:
    return embed(photos, output, settings=settings or EmbedSettings(), **options)


def rows_of(index: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(index.with_suffix(".faiss.parquet")).to_pylist()
    return rows


def errors_of(index: Path) -> dict[str, tuple[str, str]]:
    with open(index.with_suffix(".faiss.errors.csv"), encoding="utf-8", newline="") as file:
        return {Path(row["path"]).name: (row["stage"], row["reason"]) for row in csv.DictReader(file)}


def vectors_of(index: Path) -> np.ndarray:
    """(F, D) in the order of the parquet file, read with FAISS alone."""
    store = faiss.read_index(str(index))
    rows = rows_of(index)
    if not rows:
        return np.zeros((0, store.d), np.float32)
    return np.stack([store.reconstruct(row["face_id"]) for row in rows])


def test_every_photo_is_in_the_index_or_in_the_errors_file(album: Path, tmp_path: Path) -> None:
    index = tmp_path / "people.faiss"
    report = run(album, index)
    rows, errors = rows_of(index), errors_of(index)
    assert [Path(row["path"]).name for row in rows] == [f"{n:04d}.jpg" for n in range(10)]
    assert {name: stage for name, (stage, _) in errors.items()} == {
        "empty.jpg": "decode",
        "cut.jpg": "decode",
        "letter.png": "decode",
        "wall.png": "detect",
        "gone.jpg": "list",
    }
    assert all(reason and "\n" not in reason for _, reason in errors.values())
    assert (report.images, report.faces, report.no_face, report.failed) == (15, 10, 1, 4)
    assert report.faces + report.no_face + report.failed == report.images
    assert (report.embedded, report.skipped, report.removed) == (14, 0, 0)
    assert report.ignored == {".txt": 1}
    assert not index.with_suffix(".faiss.partial").exists()


def test_report_is_plain_json(album: Path, tmp_path: Path) -> None:
    fields = json.loads(json.dumps(run(album, tmp_path / "people.faiss").to_json_dict()))
    assert {"images", "faces", "no_face", "failed", "skipped", "seconds", "images_per_second", "stages"} < set(fields)
    assert {"device", "runtime", "precision", "encoder", "aligner"} < set(fields)
    assert (fields["encoder"], fields["aligner"]) == (EmbedSettings().encoder, EmbedSettings().aligner)
    assert fields["device"] == "cpu"
    assert set(fields["stages"]) == {"read", "decode", "detect", "align", "encode"}
    assert fields["images_per_second"] == pytest.approx(14 / fields["seconds"], rel=0.05)


def test_files_have_the_promised_columns_and_fields(album: Path, tmp_path: Path, encoder_model: Model) -> None:
    index = tmp_path / "people.faiss"
    run(album, index)
    table = pq.read_table(index.with_suffix(".faiss.parquet"))
    assert table.schema.remove_metadata() == FACE_SCHEMA.append(pa.field(VECTOR_ID, pa.int64()))
    assert table.column_names[:4] == ["face_id", "path", "face", "x"]
    for row in table.to_pylist():
        info = os.stat(row["path"])
        assert (row["size"], row["mtime_ns"]) == (info.st_size, info.st_mtime_ns)
        assert len(row["landmarks"]) == 10
        eyes, mouth = np.reshape(row["landmarks"], (5, 2))[:2], np.reshape(row["landmarks"], (5, 2))[3:]
        assert eyes[0, 0] < eyes[1, 0]
        assert eyes[:, 1].max() < mouth[:, 1].min()
        assert row["x"] < eyes[:, 0].min()
        assert row["x"] + row["w"] > eyes[:, 0].max()
        assert 0.8 < row["score"] <= 1
        assert row["norm"] > 0.5
        picture = cv2.imread(row["path"])
        assert (row["image_height"], row["image_width"]) == picture.shape[:2]
    manifest = json.loads(index.with_suffix(".faiss.json").read_text())
    assert manifest["encoder"] == {"name": encoder_model.spec.name, "sha256": encoder_model.spec.sha256}
    assert manifest["aligner"]["name"] == "faceembed-align"
    assert len(manifest["aligner"]["sha256"]) == 64
    assert manifest["dimension"] == encoder_model.spec.dimension
    assert (manifest["faces"], manifest["no_face"], manifest["failed"]) == (10, 1, 4)
    assert {"preprocessing", "runtime", "precision", "faceembed", "roots"} < set(manifest)


def test_faiss_file_is_an_id_map_of_unit_vectors(album: Path, tmp_path: Path) -> None:
    index = tmp_path / "people.faiss"
    run(album, index)
    store = faiss.read_index(str(index))
    assert type(store) is faiss.IndexIDMap2
    assert store.metric_type == faiss.METRIC_INNER_PRODUCT
    assert store.ntotal == 10
    np.testing.assert_allclose(np.linalg.norm(vectors_of(index), axis=1), 1, atol=1e-6)


def test_every_photo_finds_itself(album: Path, tmp_path: Path) -> None:
    index = tmp_path / "people.faiss"
    run(album, index)
    queries = [row["path"] for row in rows_of(index)]
    for query, hits in search(index, queries, k=3):
        assert not isinstance(hits, str)
        assert [hits[0].path, hits[0].face] == [query, 0]
        assert hits[0].similarity == pytest.approx(1, abs=1e-5)
        assert hits[0].similarity >= hits[1].similarity >= hits[2].similarity


def test_same_person_is_near_and_vectors_match_a_run_in_memory(album: Path, tmp_path: Path) -> None:
    index = tmp_path / "people.faiss"
    run(album, index)
    vectors = vectors_of(index)
    assert (vectors @ vectors.T).min() > 0.95
    paths = [row["path"] for row in rows_of(index)]
    table = faceembed.matrix(paths)
    np.testing.assert_allclose(table.similarity, vectors @ vectors.T, atol=2e-5)


# --- what a second run does -----------------------------------------------------------------------------------------


def test_unchanged_folder_is_not_touched(album: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = tmp_path / "people.faiss"
    first = run(album, index)
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.glob("people.*")}
    monkeypatch.setattr(loading, "open_pipeline", lambda *_, **__: pytest.fail("nothing is to be embedded"))
    second = run(album, index)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("people.*")} == stamps
    assert (second.embedded, second.skipped, second.removed) == (0, 14, 0)
    assert (second.images, second.faces, second.no_face, second.failed) == (first.images, 10, 1, 4)
    assert (second.device, second.runtime, second.precision) == (first.device, first.runtime, first.precision)


def test_added_changed_deleted_and_touched(album: Path, tmp_path: Path, make_faces: MakeFaces) -> None:
    index = tmp_path / "people.faiss"
    run(album, index)
    before = {Path(row["path"]).name: row["face_id"] for row in rows_of(index)}
    make_faces(tmp_path / "other", 14)
    shutil.copy(tmp_path / "other" / "0012.jpg", album / "new.jpg")
    shutil.copy(tmp_path / "other" / "0013.jpg", album / "0001.jpg")
    (album / "0002.jpg").unlink()
    os.utime(album / "0003.jpg", ns=(1, 1))
    shutil.copy(album / "0004.jpg", album / "empty.jpg")  # a failure that was mended
    (album / "letter.png").unlink()
    report = run(album, index)
    after = {Path(row["path"]).name: row["face_id"] for row in rows_of(index)}
    assert set(after) == set(before) - {"0002.jpg"} | {"new.jpg", "empty.jpg"}
    kept = set(before) - {"0001.jpg", "0002.jpg"}  # 0003 is the same photo with another time
    assert {name: after[name] for name in kept} == {name: before[name] for name in kept}
    fresh = [after[name] for name in ("0001.jpg", "new.jpg", "empty.jpg")]
    assert min(fresh) > max(before.values())  # an id never means another face
    assert len({*after.values()}) == len(after)
    assert (report.embedded, report.touched, report.copies) == (2, 1, 1)
    assert report.faces + report.no_face + report.failed == report.images
    assert set(errors_of(index)) == {"cut.jpg", "gone.jpg", "wall.png"}
    clean = tmp_path / "clean.faiss"
    run(album, clean)
    by_path = {row["path"]: vector for row, vector in zip(rows_of(index), vectors_of(index), strict=True)}
    for row, vector in zip(rows_of(clean), vectors_of(clean), strict=True):
        assert by_path[row["path"]] @ vector == pytest.approx(1, abs=1e-5)


def test_other_folders_stay_in_the_index(tmp_path: Path, make_faces: MakeFaces) -> None:
    index = tmp_path / "people.faiss"
    make_faces(tmp_path / "a", 3)
    make_faces(tmp_path / "ab", 4)  # its name begins like the other's
    (tmp_path / "ab" / "bad.jpg").write_bytes(b"")
    run(tmp_path / "ab", index)
    report = run([tmp_path / "a"], index)
    assert report.faces == 7
    assert set(errors_of(index)) == {"bad.jpg"}
    shutil.rmtree(tmp_path / "ab")
    assert run([tmp_path / "a"], index).faces == 7
    (tmp_path / "ab").mkdir()
    with pytest.raises(LossError, match="ab held 5 of the 8 photos in the index and holds none now"):
        run([tmp_path / "a", tmp_path / "ab"], index)
    assert len(rows_of(index)) == 7
    assert run([tmp_path / "a", tmp_path / "ab"], index, prune=True).faces == 3
    assert errors_of(index) == {}


def test_a_folder_that_cannot_be_read_now_keeps_its_faces(
    tmp_path: Path, make_faces: MakeFaces, monkeypatch: pytest.MonkeyPatch
) -> None:
    index, folder = tmp_path / "people.faiss", tmp_path / "album"
    make_faces(folder, 2)
    make_faces(folder / "locked", 3)
    assert run(folder, index).faces == 5
    scandir = os.scandir

    def refusing(path: Any) -> Any:
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    report = run(folder, index)
    assert (report.faces, report.removed) == (5, 0)
    assert errors_of(index) == {"locked": ("list", "Permission denied")}
    monkeypatch.undo()
    assert run(folder, index).faces == 5
    assert errors_of(index) == {}


def test_a_photo_that_could_not_be_read_is_tried_again(
    tmp_path: Path, make_faces: MakeFaces, monkeypatch: pytest.MonkeyPatch
) -> None:
    from faceembed.engine.pipeline import intake as module
    from faceembed.errors import PhotoError

    index, folder = tmp_path / "people.faiss", tmp_path / "album"
    make_faces(folder, 3)
    make_faces(tmp_path / "other", 1)
    read = module.read_file

    def failing(path: str, **limits: int) -> bytes:
        if path.endswith("album/0001.jpg"):
            raise PhotoError("read", "Input/output error")
        return read(path, **limits)

    with monkeypatch.context() as patch:
        patch.setattr(module, "read_file", failing)
        assert run(folder, index).failed == 1
    assert errors_of(index) == {"0001.jpg": ("read", "Input/output error")}
    report = run(tmp_path / "other", index)  # another folder's run does not forget the row
    assert errors_of(index) == {"0001.jpg": ("read", "Input/output error")}
    assert (report.faces, report.failed) == (3, 1)
    report = run(folder, index)
    assert (report.embedded, report.faces, report.failed) == (1, 4, 0)
    assert errors_of(index) == {}


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"faces": "all"}, "choice_of_faces"),
        ({"min_face": 40}, "min_face"),
        ({"detect_size": 320}, "detect_size"),
        ({"min_score": 0.5}, "min_score"),
        ({"aligner": "none"}, "aligner"),
    ],
)
def test_other_settings_are_refused(tmp_path: Path, make_faces: MakeFaces, changes: dict[str, Any], names: str) -> None:
    index = tmp_path / "people.faiss"
    make_faces(tmp_path / "album", 2)
    run(tmp_path / "album", index)
    before = {path: path.read_bytes() for path in tmp_path.glob("people.*")}
    with pytest.raises(IndexFormatError, match=f"made with {names} .*--fresh"):
        run(tmp_path / "album", index, EmbedSettings(**changes))
    assert {path: path.read_bytes() for path in tmp_path.glob("people.*")} == before


def test_an_index_older_than_a_setting_goes_on_without_it(tmp_path: Path, make_faces: MakeFaces) -> None:
    make_faces(tmp_path / "album", 2)
    run(tmp_path / "album", tmp_path / "people.faiss")
    manifest = json.loads((tmp_path / "people.faiss.json").read_text())
    del manifest["detect_size"]
    (tmp_path / "people.faiss.json").write_text(json.dumps(manifest))
    assert run(tmp_path / "album", tmp_path / "people.faiss").embedded == 0
    with pytest.raises(
        IndexFormatError, match="made with detect_size 0, this run has detect_size 320; use the same, another -o"
    ):
        run(tmp_path / "album", tmp_path / "people.faiss", settings=EmbedSettings(detect_size=320))


def test_an_index_older_than_the_least_score_goes_on_with_what_it_has(tmp_path: Path, make_faces: MakeFaces) -> None:
    album, index, said = tmp_path / "album", tmp_path / "people.faiss", list[str]()
    make_faces(album, 2)
    run(album, index)
    described = tmp_path / "people.faiss.json"
    manifest = json.loads(described.read_text())
    assert manifest.pop("min_score") == 0.6
    described.write_text(json.dumps(manifest))
    make_faces(album, 3)
    table = pq.read_table(tmp_path / "people.faiss.parquet")
    pq.write_table(table.drop_columns(["real"]), tmp_path / "people.faiss.parquet")  # older than that, too
    report = faceembed.embed(album, index, notice=said.append)
    assert (report.embedded, report.faces) == (1, 3)
    assert "people.faiss is older than --min-score: faces below 0.6 that it holds stay, until --fresh" in said
    assert json.loads(described.read_text())["min_score"] == 0.6
    real = pq.read_table(tmp_path / "people.faiss.parquet").column("real").to_pylist()
    assert real[:2] == [None, None] and 0.5 < real[2] <= 1
    hits = FaceIndex(index).search(np.ones((1, 256), np.float32) / 16)[0]
    assert sorted(hit.real is None for hit in hits) == [False, True, True]


def test_an_index_of_an_older_version_wants_a_fresh_start(tmp_path: Path, make_faces: MakeFaces) -> None:
    make_faces(tmp_path / "album", 2)
    run(tmp_path / "album", tmp_path / "people.faiss")
    manifest = json.loads((tmp_path / "people.faiss.json").read_text())
    manifest["preprocessing"] -= 1
    (tmp_path / "people.faiss.json").write_text(json.dumps(manifest))
    with pytest.raises(
        IndexFormatError, match=r"with preprocessing \d, this run has preprocessing \d; use another -o, or --fresh"
    ):
        run(tmp_path / "album", tmp_path / "people.faiss")
    assert run(tmp_path / "album", tmp_path / "people.faiss", fresh=True).embedded == 2


def test_another_encoder_is_refused_by_digest(
    tmp_path: Path, make_faces: MakeFaces, monkeypatch: pytest.MonkeyPatch, models: loading.Models
) -> None:
    index = tmp_path / "people.faiss"
    make_faces(tmp_path / "album", 2)
    run(tmp_path / "album", index)
    spec = dataclasses.replace(models.encoder.spec, sha256="0" * 64)  # same name, other weights
    other = loading.Models(Model(spec, models.encoder.path), models.aligner)
    monkeypatch.setattr(loading, "resolve_models", lambda _: other)
    with pytest.raises(IndexFormatError, match=rf"with encoder {spec.name} .* not {spec.name} \(000000000000\)"):
        run(tmp_path / "album", index)
    with pytest.raises(IndexFormatError, match="was made with encoder"):
        search(index, [tmp_path / "album"])


# --- kinds of index -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "inner", "lossy"),
    [
        ("flat", "IndexFlat", False),
        ("hnsw", "IndexHNSWFlat", False),
        ("ivf", "IndexIVFFlat", False),
        ("IVF2,Flat", "IndexIVFFlat", False),
        ("SQ8", "IndexScalarQuantizer", True),
        ("PQ8x4", "IndexPQ", True),
        ("SQfp16", "IndexScalarQuantizer", True),
    ],
)
def test_kinds_of_index(tmp_path: Path, make_faces: MakeFaces, kind: str, inner: str, lossy: bool) -> None:
    index, folder = tmp_path / "people.faiss", tmp_path / "album"
    make_faces(folder, 40)
    run(folder, index, index_type=kind)
    store = faiss.read_index(str(index))
    assert type(store) is faiss.IndexIDMap2
    assert type(faiss.downcast_index(store.index)).__name__.startswith(inner)
    assert store.metric_type == faiss.METRIC_INNER_PRODUCT
    assert index.with_suffix(".faiss.vectors.npy").exists() == lossy
    assert json.loads(index.with_suffix(".faiss.json").read_text())["index"] == kind
    query = folder / "0007.jpg"
    ((_, hits),) = search(index, [query], k=5)
    assert not isinstance(hits, str)
    assert hits[0].similarity == pytest.approx(1, abs=0.03 if lossy else 1e-5)
    assert str(query) in [hit.path for hit in hits]

    # The kind stays when nothing else is said, and adding loses nothing of the vectors, lossy or not.
    shutil.copy(folder / "0003.jpg", folder / "new.jpg")
    run(folder, index)
    assert json.loads(index.with_suffix(".faiss.json").read_text())["index"] == kind
    run(folder, index, index_type="flat")
    assert not index.with_suffix(".faiss.vectors.npy").exists()
    exact = tmp_path / "exact.faiss"
    run(folder, exact)
    a, b = vectors_of(index), vectors_of(exact)
    by_path = {row["path"]: vector for row, vector in zip(rows_of(exact), b, strict=True)}
    for row, vector in zip(rows_of(index), a, strict=True):
        assert by_path[row["path"]] @ vector == pytest.approx(1, abs=1e-6)


def test_unknown_kind_of_index_is_told_before_the_work(
    tmp_path: Path, make_faces: MakeFaces, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_faces(tmp_path / "album", 2)
    monkeypatch.setattr(loading, "open_pipeline", lambda *_, **__: pytest.fail("too late"))
    with pytest.raises(UsageError, match="--index 'flatt' is neither"):
        run(tmp_path / "album", tmp_path / "people.faiss", index_type="flatt")


def test_too_few_faces_to_train_keeps_the_work(tmp_path: Path, make_faces: MakeFaces) -> None:
    index = tmp_path / "people.faiss"
    make_faces(tmp_path / "album", 3)
    words = r"'PQ8x8' needs 256 different faces to be trained on, and there are 3; use --index flat .*what was embedded is kept"
    every = EmbedSettings(faces="all")
    with pytest.raises(UsageError, match=words):
        run(tmp_path / "album", index, every, index_type="PQ8x8")
    assert not index.exists()
    report = run(tmp_path / "album", index, every, index_type="flat")
    assert (report.embedded, report.skipped, report.faces) == (0, 3, 3)


def test_changing_the_kind_embeds_nothing_again(tmp_path: Path, make_faces: MakeFaces) -> None:
    index = tmp_path / "people.faiss"
    make_faces(tmp_path / "album", 5)
    run(tmp_path / "album", index)
    said: list[str] = []
    report = run(tmp_path / "album", index, index_type="hnsw", notice=said.append)
    assert (report.embedded, report.faces) == (0, 5)
    assert any(line.startswith("index hnsw: finds 100.0 % of the 4 nearest") for line in said)
    assert type(faiss.downcast_index(faiss.read_index(str(index)).index)) is faiss.IndexHNSWFlat


# --- starting over, and nothing to do -------------------------------------------------------------------------------


@pytest.mark.parametrize("fresh", [False, True])
def test_an_index_does_not_replace_what_describes_a_model(tmp_path: Path, make_faces: MakeFaces, fresh: bool) -> None:
    make_faces(tmp_path / "album", 1)
    (tmp_path / "mine.onnx").write_bytes(b"weights")
    (tmp_path / "mine.json").write_text('{"name": "mine"}')
    assert run(tmp_path / "album", tmp_path / "mine.faiss", fresh=fresh).faces == 1
    assert (tmp_path / "mine.json").read_text() == '{"name": "mine"}'


def test_fresh_starts_over_with_other_settings(tmp_path: Path, make_faces: MakeFaces) -> None:
    index = tmp_path / "people.faiss"
    make_faces(tmp_path / "album", 3)
    run(tmp_path / "album", index, index_type="SQ8")
    report = run(tmp_path / "album", index, EmbedSettings(faces="all"), fresh=True)
    assert (report.embedded, report.faces) == (3, 3)
    assert [row["face_id"] for row in rows_of(index)] == [0, 1, 2]
    assert not index.with_suffix(".faiss.vectors.npy").exists()
    assert json.loads(index.with_suffix(".faiss.json").read_text())["index"] == "flat"


@pytest.mark.parametrize("mistake", ["encoder", "folder", "empty", "index", "faces"])
def test_a_mistake_with_fresh_costs_nothing(tmp_path: Path, make_faces: MakeFaces, mistake: str) -> None:
    index = tmp_path / "people.faiss"
    make_faces(tmp_path / "album", 2)
    (tmp_path / "empty").mkdir()
    run(tmp_path / "album", index)
    before = {path: path.read_bytes() for path in tmp_path.glob("people.*")}
    with pytest.raises((DataError, ModelError, UsageError)):
        run(
            {"folder": tmp_path / "albun", "empty": tmp_path / "empty"}.get(mistake, tmp_path / "album"),
            index,
            EmbedSettings(encoder="dlib-resnett") if mistake == "encoder" else None,
            fresh=True,
            index_type="flatt" if mistake == "index" else "PQ8x8" if mistake == "faces" else None,
        )
    if mistake != "faces":  # that one is only seen at the end
        assert {path: path.read_bytes() for path in tmp_path.glob("people.*")} == before


def test_no_photos_at_all(tmp_path: Path) -> None:
    (tmp_path / "album").mkdir()
    (tmp_path / "album" / "notes.txt").write_text("x")
    with pytest.raises(DataError, match=r"no photos in .*album: looked for JPEG"):
        run(tmp_path / "album", tmp_path / "people.faiss")
    with pytest.raises(DataError, match="No such file or directory"):
        run(tmp_path / "albun", tmp_path / "people.faiss")
    assert not list(tmp_path.glob("people.*"))


def test_only_bad_photos_make_an_empty_index(tmp_path: Path) -> None:
    index, folder = tmp_path / "people.faiss", tmp_path / "album"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.jpg").write_bytes(b"")
    for kind in ("flat", "ivf", "hnsw", "SQ8"):
        report = run(folder, index, index_type=kind)
        assert (report.faces, report.failed, report.images) == (0, 3, 3)
        assert len(FaceIndex(index)) == 0
        assert rows_of(index) == []
    with pytest.raises(DataError, match="holds no faces"):
        FaceIndex(index).search(np.zeros((1, FaceIndex(index).manifest["dimension"]), np.float32))


def test_an_empty_index_grows(tmp_path: Path, make_faces: MakeFaces) -> None:
    index, folder = tmp_path / "people.faiss", tmp_path / "album"
    folder.mkdir()
    (folder / "bad.jpg").write_bytes(b"")
    run(folder, index)
    make_faces(folder, 2)
    assert run(folder, index).faces == 2
    shutil.rmtree(folder)
    folder.mkdir()
    with pytest.raises(LossError, match="held 3 of the 3"):  # everything is gone
        run(folder, index)
    report = run(folder, index, prune=True)
    assert (report.images, report.faces, report.failed, report.removed) == (0, 0, 0, 3)


def test_output_must_end_in_faiss(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"ends in \.faiss"):
        run(tmp_path, tmp_path / "people.index")


def test_output_folder_is_made(tmp_path: Path, make_faces: MakeFaces) -> None:
    make_faces(tmp_path / "album", 1)
    assert run(tmp_path / "album", tmp_path / "deep" / "er" / "p.faiss").faces == 1


# --- names, crops, several faces ------------------------------------------------------------------------------------


def test_any_file_name_survives_the_round_trip(tmp_path: Path, make_faces: MakeFaces) -> None:
    index, folder = tmp_path / "people.faiss", tmp_path / "album"
    (source,) = make_faces(tmp_path / "source", 1)
    names = [b"a b.jpg", b"-rf.jpg", b"new\nline.jpg", b"caf\xe9.jpg", "日本.jpg".encode(), b"\\udce9.jpg", b'q",;.jpg']
    folder.mkdir()
    for name in names:
        shutil.copy(source, os.path.join(os.fsencode(folder), name))
        with open(os.path.join(os.fsencode(folder), b"bad-" + name), "wb"):
            pass
    report = run(folder, index)
    assert (report.faces, report.failed) == (len(names), len(names))
    second = run(folder, index)
    assert (second.embedded, second.skipped, second.removed) == (0, 2 * len(names), 0)
    ((_, hits),) = search(index, [source], k=len(names))
    assert {os.path.basename(os.fsencode(hit.path)) for hit in hits if not isinstance(hit, str)} == set(names)
    results = search(index, [folder], k=1)
    assert len(results) == 2 * len(names)
    index.with_suffix(".faiss.errors.csv").read_bytes().decode("utf-8")  # valid, whatever the names


def test_photos_of_a_folder_with_a_strange_name(tmp_path: Path, make_faces: MakeFaces) -> None:
    folder = os.path.join(os.fsencode(tmp_path), b"\xff\xfe dir")
    make_faces(tmp_path / "source", 2)
    shutil.copytree(os.fsencode(tmp_path / "source"), folder)
    index = Path(os.fsdecode(folder)) / "p.faiss"
    assert run(Path(os.fsdecode(folder)), index).faces == 2
    assert run(Path(os.fsdecode(folder)), index).skipped == 2
    assert len(FaceIndex(index)) == 2


def test_all_faces_with_the_largest_first(tmp_path: Path, astronaut: np.ndarray) -> None:
    index, folder = tmp_path / "people.faiss", tmp_path / "album"
    folder.mkdir()
    face = cv2.cvtColor(astronaut[30:210, 130:310], cv2.COLOR_RGB2BGR)
    canvas = np.full((400, 640, 3), 128, np.uint8)
    canvas[20:110, 20:110] = cv2.resize(face, (90, 90), interpolation=cv2.INTER_AREA)
    canvas[60:360, 250:550] = cv2.resize(face, (300, 300), interpolation=cv2.INTER_AREA)
    cv2.imwrite(str(folder / "two.png"), canvas)
    cv2.imwrite(str(folder / "one.png"), face)
    report = run(folder, index, EmbedSettings(faces="all"))
    assert (report.images, report.faces, report.no_face) == (2, 3, 0)
    rows = {(Path(row["path"]).name, row["face"]): row for row in rows_of(index)}
    assert set(rows) == {("one.png", 0), ("two.png", 0), ("two.png", 1)}
    assert rows["two.png", 0]["w"] > 2 * rows["two.png", 1]["w"]
    assert 250 < rows["two.png", 0]["x"] < 550
    assert 20 < rows["two.png", 1]["x"] < 110
    ((_, hits),) = search(index, [folder / "one.png"], k=3)
    assert {(Path(hit.path).name, hit.face) for hit in hits if not isinstance(hit, str)} == set(rows)


def test_aligner_none_takes_aligned_crops(tmp_path: Path, astronaut: np.ndarray, encoder_model: Model) -> None:
    """A crop in ArcFace's template gives the embedding that the whole pipeline gives for the photo it was cut from."""
    from faceembed.engine.detect.align import similarity_matrices, warp_chips

    index, folder, whole = tmp_path / "crops.faiss", tmp_path / "crops", tmp_path / "whole.faiss"
    folder.mkdir()
    (tmp_path / "photo").mkdir()
    cv2.imwrite(str(tmp_path / "photo" / "a.png"), cv2.cvtColor(astronaut, cv2.COLOR_RGB2BGR))
    run(tmp_path / "photo", whole)
    points = np.array(rows_of(whole)[0]["landmarks"], np.float32).reshape(1, 5, 2)
    for side in (112, 224):
        template = tuple(tuple((v + 0.5) * side / 112 - 0.5 for v in point) for point in ARCFACE_TEMPLATE)
        spec = dataclasses.replace(encoder_model.spec, template=template, input_size=(side, side))
        chip = warp_chips([astronaut], np.zeros(1, np.int32), similarity_matrices(points, spec), spec)[0]
        cv2.imwrite(str(folder / f"{side}.png"), cv2.cvtColor(chip, cv2.COLOR_RGB2BGR))
    cv2.imwrite(str(folder / "oblong.png"), np.zeros((112, 96, 3), np.uint8))
    report = run(folder, index, EmbedSettings(aligner="none"))
    assert (report.faces, report.no_face, report.aligner) == (2, 1, "none")
    assert "not a square crop (96x112)" in errors_of(index)["oblong.png"][1]
    similarity = vectors_of(index) @ vectors_of(whole)[0]  # rows: 112, 224
    assert similarity[0] > 0.98
    assert similarity[1] > 0.99


def test_progress_counts_up_to_the_whole(album: Path, tmp_path: Path) -> None:
    seen: list[Progress] = []
    notices: list[str] = []
    run(album, tmp_path / "p.faiss", EmbedSettings(batch_size=4), progress=seen.append, notice=notices.append)
    assert [entry.done for entry in seen] == [4, 8, 12, 14]
    assert all(entry.total == 14 for entry in seen)
    assert (seen[-1].faces, seen[-1].failures) == (10, 4)
    assert any("1 files are no photos by ending and content" in line for line in notices)


def test_batch_size_and_workers_do_not_change_the_faces(
    tmp_path: Path, make_faces: MakeFaces, pipeline: Pipeline
) -> None:
    make_faces(tmp_path / "album", 12)
    results = []
    for size in (1, 5, 32):
        index = tmp_path / f"{size}.faiss"
        run(tmp_path / "album", index, EmbedSettings(batch_size=size))
        results.append(vectors_of(index))
    for other in results[1:]:
        np.testing.assert_allclose((results[0] * other).sum(1), 1, atol=1e-5)
