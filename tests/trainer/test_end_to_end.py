"""From folders of people to an encoder in use, by the commands alone, on a few dozen real photos."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from faceembed.cli.main import main

PEOPLE, PHOTOS = 10, 4


def run(*arguments: object) -> Any:
    """The JSON document of a command that must succeed."""
    result = CliRunner().invoke(main, [*map(str, arguments), "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.fixture(scope="module")
def people(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten people, at most four photos each."""
    folder = tmp_path_factory.mktemp("people")
    for person in sorted((data / "people_wild").iterdir())[:PEOPLE]:
        (folder / person.name).mkdir()
        for photo in sorted(person.iterdir())[:PHOTOS]:
            shutil.copy(photo, folder / person.name)
    return folder


@pytest.mark.data
def test_people_to_encoder(people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run("data", "split", people, "-o", "split.json", "--train", 6, "--validate", 2, "--test", 2)
    run("data", "align", people, "-o", "crops", "--encoder", "resnet29")
    run("data", "fakes", people, "-o", "fakes", "--methods", "selfblend,swap", "--split", "split.json")
    run("data", "align", "fakes", "-o", "fake-crops", "--encoder", "resnet29")

    # Small steps of small batches: what is tested is the way through, not how far it leads.
    quick = ["--split", "split.json", "--crops", "crops", "--set", "loop.batch_size=8", "--set", "loop.device=cpu"]
    quick += ["--set", "loop.precision=fp32", "--set", "validation.count=40"]
    first = run("train", "pretrain", *quick, "-o", "first", "--epochs", 1, "--set", "schedule.warmup_steps=0")
    assert first["people"] == 6 and first["steps"] >= 2 and first["best_epoch"] == 1
    pairs = ["--set", "data.pairs_per_epoch=16", "--set", 'data.leave_out=["selfblend"]']
    tuned = run(
        "train",
        "finetune",
        *quick,
        *pairs,
        "--fakes",
        "fake-crops",
        "--start",
        first["best"],
        "-o",
        "tuned",
        "--epochs",
        1,
    )
    assert tuned["people"] == 6
    assert tuned["result"]["eer_fake:swap"] is not None and tuned["result"]["eer_fake:selfblend"] is not None
    assert len(run("train", "compare", "first")) == 1

    run("export", tuned["best"], "-o", "mine.onnx", "--photos", "crops")
    run("data", "pairs", people, "--fakes", "fakes", "-o", "pairs", "--split", "split.json", "--count", 60)
    judged = run("eval", "pairs/test.csv", "--encoder", "./mine.onnx")
    assert 0 <= judged["eer"] <= 1 and judged["eer_fake"] is not None and judged["pairs"] >= 4
    embedded = run("embed", people, "-o", "people.faiss", "--encoder", "./mine.onnx")
    assert embedded["faces"] + embedded["no_face"] == len(list(people.glob("*/*.jpg"))) and embedded["no_face"] <= 2
    assert embedded["encoder"].startswith("mine")
