"""`faceembed embed`: what it prints and leaves behind, and each way in which it can be misused or cut off."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest

from faceembed.engine.index import shards
from faceembed.engine.photos.photo_file import decode_path
from faceembed.engine.pipeline.settings import EmbedSettings

FIELDS = {
    "images": int,
    "faces": int,
    "no_face": int,
    "failed": int,
    "in_tracks": int,
    "skipped": int,
    "embedded": int,
    "removed": int,
    "unread": int,
    "touched": int,
    "moved": int,
    "copies": int,
    "aliases": int,
    "vanished": int,
    "several_faces": int,
    "ignored": dict,
    "excluded": dict,
    "passed_over": int,
    "seconds": float,
    "images_per_second": float,
    "stages": dict,
    "device": str,
    "runtime": str,
    "precision": str,
    "encoder": str,
    "aligner": str,
    "index": str,
}


def one_line_error(result: Any, *words: str) -> None:
    """The last line of stderr says all of ``words``; stdout is empty."""
    assert result.stdout == ""
    line = result.stderr.strip().splitlines()[-1]
    assert line.startswith("Error: ")
    for word in words:
        assert word in line


# ---------------------------------------------------------------------------------------------------------- what it says


def test_json_document(run: Any, small: Path, tmp_path: Path) -> None:
    result = run("embed", small, "-o", tmp_path / "a.faiss", "--json")
    document = json.loads(result.stdout)
    assert {name: type(value) for name, value in document.items()} == FIELDS
    assert document["images"] == document["faces"] == document["embedded"] == 2
    assert document["index"] == str(tmp_path / "a.faiss")
    assert set(document["stages"]) == {"read", "decode", "detect", "align", "encode"}
    assert (document["encoder"], document["aligner"]) == (EmbedSettings().encoder, EmbedSettings().aligner)
    assert document["device"] == "cpu"
    assert document["device"] in result.stderr  # what `auto` chose


def test_second_run_and_summary(run: Any, index: Path, small: Path) -> None:
    result = run("embed", small, "-o", index)
    assert "2 done before" in result.stdout
    assert f"search it: faceembed search {index} QUERY.jpg" in result.stdout
    assert "nothing new" in result.stderr


def test_quiet(run: Any, small: Path, tmp_path: Path) -> None:
    assert run("embed", small, "-o", tmp_path / "a.faiss", "-q").output == ""
    result = run("embed", small, "-o", tmp_path / "b.faiss", "-q", "--json")
    assert result.stderr == ""
    assert json.loads(result.stdout)["faces"] == 2


def test_failures_are_counted_and_the_errors_file_named(run: Any, small: Path, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    shutil.copytree(small, photos)
    (photos / "text.jpg").write_text("no picture")
    result = run("embed", photos, "-o", tmp_path / "a.faiss")
    assert f"0 photos without a face, 1 unreadable: see {tmp_path / 'a.faiss.errors.csv'}" in result.stdout


@pytest.mark.skipif(sys.platform == "win32", reason="libjpeg is not heard there")
def test_damage_is_said_by_name_and_never_bare(small: Path, tmp_path: Path) -> None:
    photos, environment = tmp_path / "photos", dict(os.environ)
    photos.mkdir()
    face = min(small.iterdir())
    grey = np.full((80, 80, 3), 90, np.uint8)
    for name, pixels in (("a.jpg", cv2.imread(str(face))), ("b.jpg", cv2.imread(str(face))), ("grey.jpg", grey)):
        data = cv2.imencode(".jpg", pixels)[1].tobytes()
        (photos / name).write_bytes(data[:-2] + bytes(range(1, 60)) + data[-2:])
    command = [
        sys.executable,
        "-m",
        "faceembed",
        "embed",
        str(photos),
        "-o",
        str(tmp_path / "a.faiss"),
        "--device",
        "cpu",
    ]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    line = r"Corrupt JPEG data: \d\d extraneous bytes before marker 0xd9"
    (said,) = [found for found in done.stderr.splitlines() if "Corrupt" in found]
    assert re.fullmatch(
        rf"3 photos are damaged, and were taken as decoded: the first, {photos / 'a.jpg'} \({line}\)", said
    )
    (row,) = [found for found in (tmp_path / "a.faiss.errors.csv").read_text().splitlines() if "Corrupt" in found]
    assert re.search(rf"grey.jpg.*,no face of 20 px or more found; the file is damaged: {line},", row)


def test_no_faces_at_all(run: Any, run_json: Any, small: Path, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "white.png"), np.full((80, 80, 3), 255, np.uint8))
    document = run_json("embed", tmp_path / "white.png", "-o", tmp_path / "a.faiss")
    assert (document["images"], document["faces"], document["no_face"]) == (1, 0, 1)
    one_line_error(run("search", tmp_path / "a.faiss", small, code=1), "a.faiss")


def test_sample_can_be_searched(run: Any, run_json: Any, home: Path) -> None:
    text = run("embed", "--sample").stdout
    command = text.split("search it: faceembed ")[1].split()
    hits = run_json(*command, "-k", "3")[0]["hits"]
    assert Path(command[1]) == home / "sample/index.faiss"
    assert len(hits) == 3
    assert hits[0]["similarity"] > 0.99


def test_strange_names(run: Any, run_json: Any, small: Path, tmp_path: Path) -> None:
    folder, index = tmp_path / "photos", tmp_path / "a.faiss"
    folder.mkdir()
    raw = [b"two words.jpg", b"new\nline.jpg", b"\xff\xfe.jpg", b"\x1b[31mred.jpg", "é😀.jpg".encode()]
    paths = {str(folder / os.fsdecode(name)) for name in raw}
    for path in paths:
        shutil.copy(small / "small.jpg", path)
    assert run_json("embed", folder, "-o", index)["faces"] == len(raw)
    found = run_json("search", index, folder)
    assert {decode_path(entry["query"]) for entry in found} == paths
    assert {decode_path(hit["path"]) for hit in found[0]["hits"]} == paths
    text = run("search", index, folder, "-k", "1").stdout
    assert len(text.splitlines()) == 2 * len(raw)
    assert "\x1b" not in text


# ------------------------------------------------------------------------------------------------------ what it refuses


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["embed"], "--sample"),
        (["embed", "photos", "--sample"], "not both"),
        (["embed", "photos"], "-o people.faiss"),
        (["embed", "photos", "-o", "a.fais"], ".faiss"),
        (["embed", "", "-o", "a.faiss"], "empty"),
        (["embed", "photos", "-o", "a.faiss", "--workers", "0"], "--workers"),
        (["embed", "photos", "-o", "a.faiss", "--batch-size", "0"], "--batch-size"),
        (["embed", "photos", "-o", "a.faiss", "--min-face", "3"], "--min-face"),
        (["embed", "photos", "-o", "a.faiss", "--runtime", "nix"], "--runtime"),
    ],
)
def test_wrong_usage(run: Any, words: list[str], said: str) -> None:
    assert said in run(*words, code=2).stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--encoder", "dlib-resnt"], "did you mean dlib-resnet"),
        (["--encoder", "mtcnn"], "is an aligner"),
        (["--encoder", "nix.onnx"], "no model file at nix.onnx"),
        (["--device", "cuda"], "--device cpu"),
        (["--runtime", "onnxruntime", "--precision", "bf16"], "--precision fp32"),
    ],
)
def test_models_and_runtimes_that_cannot_serve(
    run: Any, small: Path, tmp_path: Path, words: list[str], said: str
) -> None:
    one_line_error(run("embed", small, "-o", tmp_path / "a.faiss", *words, code=1), said)


def test_nothing_to_embed(run: Any, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    one_line_error(run("embed", tmp_path / "empty", "-o", tmp_path / "a.faiss", code=1), "no photos in")
    one_line_error(run("embed", tmp_path / "nix", "-o", tmp_path / "a.faiss", code=1), "No such file", "nix")


def test_name_that_is_not_utf8_in_an_error(run: Any, tmp_path: Path) -> None:
    missing = tmp_path / os.fsdecode(b"\xff\n.jpg")
    one_line_error(run("embed", missing, "-o", tmp_path / "a.faiss", code=1), r"\udcff\n.jpg")


def test_index_of_another_encoder(run: Any, index: Path, small: Path) -> None:
    path = index.with_suffix(".faiss.json")
    manifest = json.loads(path.read_text())
    manifest["encoder"] = {"name": "other", "sha256": "0" * 64}
    path.write_text(json.dumps(manifest))
    one_line_error(run("embed", small, "-o", index, code=1), "made with encoder other", "--fresh")
    one_line_error(run("search", index, small, code=1), "made with encoder other")


def test_index_of_other_settings(run: Any, index: Path, small: Path) -> None:
    one_line_error(run("embed", small, "-o", index, "--faces", "all", code=1), "choice_of_faces")
    run("embed", small, "-o", index, "--faces", "all", "--fresh")


def test_output_that_cannot_be_written(run: Any, small: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    one_line_error(run("embed", small, "-o", tmp_path / "file/a.faiss", code=1), str(tmp_path / "file"))
    one_line_error(run("embed", small, "-o", "/proc/nix/a.faiss", code=1), "/proc/nix")


# ----------------------------------------------------------------------------------------------------- what cuts it off


def test_disk_full_while_embedding(run: Any, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object, **options: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    index = tmp_path / "a.faiss"
    with monkeypatch.context() as patch:
        patch.setattr(shards.pq, "write_table", full)
        one_line_error(run("embed", small, "-o", index, code=1), str(index), "No space left", "free some space")
    run("embed", small, "-o", index)


def test_disk_full_while_writing_the_index(
    run: Any, run_json: Any, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was embedded is kept: the next run only writes."""

    def full(*args: object, **options: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    index = tmp_path / "a.faiss"
    with monkeypatch.context() as patch:
        patch.setattr("faceembed.engine.index.assembly.format_errors", full)
        one_line_error(run("embed", small, "-o", index, code=1), str(index), "No space left")
    document = run_json("embed", small, "-o", index)
    assert (document["embedded"], document["skipped"], document["faces"]) == (0, 2, 2)


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 32 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=32k", "tmpfs", str(folder)]
    if sys.platform != "linux" or os.geteuid() != 0 or subprocess.run(mount, check=False).returncode:
        pytest.skip("mounting a file system needs root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_least_quality(run: Any, run_json: Any, small: Path, tmp_path: Path) -> None:
    """It is the aligner's least score, and part of the index's settings."""
    index = tmp_path / "a.faiss"
    document = run_json("embed", small, "-o", index, "--min-quality", "0.9999")
    assert document["faces"] == 0 and document["no_face"] == document["images"] > 0
    one_line_error(run("embed", small, "-o", index, code=1), "min_score")
    one_line_error(
        run("embed", small, "-o", index, "--min-quality", "0.5", "--min-score", "0.5", code=2),
        "--min-quality and --min-score are one setting; give one of them",
    )


def test_full_disk(run: Any, samples: Path, tiny_disk: Path) -> None:
    one_line_error(run("embed", samples, "-o", tiny_disk / "a.faiss", code=1), "a.faiss: No space left on device")
    assert not (tiny_disk / "a.faiss").exists()


def test_interrupt_and_go_on(start: Any, run_json: Any, small: Path, tmp_path: Path) -> None:
    folder, index = tmp_path / "photos", tmp_path / "a.faiss"
    folder.mkdir()
    for number in range(200):
        os.link(shutil.copy(small / "small.jpg", tmp_path / "one.jpg"), folder / f"{number:03}.jpg")
    shard = "import faceembed.engine.verbs.embed as embed; embed.SHARD = 32"
    process = start("embed", folder, "-o", index, "--json", code=shard)
    wait_for(lambda: list(tmp_path.glob("a.faiss.partial/*.parquet")), process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    assert out == ""
    assert err.strip().endswith("Interrupted. What was finished is kept; the same command goes on from there.")
    assert not index.exists()
    document = run_json("embed", folder, "-o", index)
    assert document["skipped"] >= 32
    assert document["skipped"] + document["embedded"] == document["images"] == document["faces"] == 200
    assert pq.read_table(index.with_suffix(".faiss.parquet")).num_rows == 200


def wait_for(condition: Any, process: Any, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.01)


def test_reader_that_leaves(start: Any) -> None:
    with start("models", "list") as process:
        process.stdout.close()
        assert process.stderr.read() == ""


def test_a_list_on_standard_input_and_patterns(tmp_path: Path) -> None:
    """`find … -print0 | faceembed embed - --exclude …`, whole process."""
    from tests.engine.verbs.albums import album

    nas = album(tmp_path / "nas", 3)
    names = "\0".join(str(path) for path in sorted(nas.iterdir()))
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "faceembed",
            "embed",
            "-",
            "-o",
            str(tmp_path / "p.faiss"),
            "--json",
            "--exclude",
            "00001.png",
        ],
        input=names.encode(),
        capture_output=True,
        check=False,
    )
    report = json.loads(done.stdout)
    assert (report["images"], report["no_face"], report["excluded"]) == (2, 2, {"--exclude 00001.png": 1})
