"""`faceembed data`: from people to crops, splits and pairs by commands alone, and mistakes in one line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from faceembed.engine.evaluate.pair_formats import read_pairs

MakeFaces = Callable[[Path, int], list[Path]]


@pytest.fixture
def people(tmp_path: Path, make_faces: MakeFaces) -> Path:
    """Six people with three photos each."""
    folder = tmp_path / "people"
    for number, path in enumerate(make_faces(tmp_path / "made", 18)):
        person = folder / f"p{number // 3}"
        person.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, person / path.name)
    return folder


@pytest.fixture
def split(run: Any, people: Path, tmp_path: Path) -> Path:
    run("data", "split", people, "-o", tmp_path / "split.json", "--train", "2", "--validate", "2", "--test", "2")
    return tmp_path / "split.json"


@pytest.mark.usefixtures("reuse_pipeline")
def test_people_to_pairs(run: Any, run_json: Any, people: Path, split: Path, tmp_path: Path) -> None:
    crops = tmp_path / "crops"
    report = run_json("data", "align", people, "-o", crops, "--device", "cpu")
    assert (report["crops"], report["people"], report["output"]) == (18, 6, str(crops))
    again = run("data", "align", people, "-o", crops)
    assert again.stdout.splitlines()[0] == "0 photos to align, 18 done before"
    for source in (people, crops):
        made = run_json(
            "data", "pairs", source, "-o", tmp_path / "pairs", "--split", split, "--count", "24", "--ratios", "1,0,1"
        )
        assert made["kinds"]["test"] == {"same": 4, "fake": 0, "other": 4}
        listed = read_pairs(tmp_path / "pairs" / "test.csv")
        assert all(Path(photo).is_relative_to(source) for photo in listed.photos)
    text = run(
        "data", "pairs", people, "-o", tmp_path / "pairs", "--split", split, "--count", "24", "--ratios", "1,0,1"
    )
    assert text.stdout.splitlines()[2] == "test.csv: 8 pairs of 2 people (4 same, 0 fake, 4 other)"


def test_split(run: Any, run_json: Any, people: Path, tmp_path: Path) -> None:
    output = tmp_path / "s.json"
    result = run("data", "split", people, "-o", output, "--train", "2", "--validate", "1", "--test", "1", "--seed", "7")
    assert result.stdout.splitlines() == [
        f"2 to train, 1 to validate, 1 to test: {output}",
        "2 of 6 people are in no part",
    ]
    assert json.loads(output.read_text())["seed"] == 7
    shares = run_json("data", "split", people, "-o", output, "--train", "0.5", "--validate", "0.2", "--test", "0.3")
    assert (shares["train"], shares["validate"], shares["test"], shares["unused"]) == (3, 1, 2, 0)


def test_people_of_a_pair_list_are_left_out(run: Any, run_json: Any, people: Path, tmp_path: Path) -> None:
    pairs = tmp_path / "pairs.txt"
    pairs.write_text("1 1\np0 1 2\np1 1 p2 1\n")
    report = run_json("data", "split", people, "-o", tmp_path / "s.json", "--exclude-pairs", pairs, "--train", "3",
                      "--validate", "0", "--test", "0")  # fmt: skip
    assert report["people"] == 3
    assert json.loads((tmp_path / "s.json").read_text())["train"] == ["p3", "p4", "p5"]


@pytest.mark.usefixtures("reuse_pipeline")
def test_submission(run: Any, people: Path, tmp_path: Path) -> None:
    for number in (1, 10, 2):
        folder = tmp_path / "test" / str(number)
        folder.mkdir(parents=True)
        for place, photo in enumerate(sorted((people / "p0").iterdir())[:2]):
            shutil.copy(photo, folder / f"{place}.jpg")
    result = run("data", "submission", tmp_path / "test", "-o", tmp_path / "answer.csv")
    assert result.stdout == f"3 pairs in {tmp_path / 'answer.csv'}\n"
    assert [row.split(",")[0] for row in (tmp_path / "answer.csv").read_text().splitlines()] == [
        "pair_id",
        "1",
        "2",
        "10",
    ]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["data", "align", "none", "-o", "crops"], 1, "none does not exist; give a folder of people"),
        (["data", "align", "empty", "-o", "crops"], 1, "holds no photos of people; expected a folder for each person"),
        (["data", "align", "people", "-o", "people/crops"], 2, "the crops cannot go to"),
        (["data", "align", "people", "-o", "crops", "--encoder", "ir19"], 1, "no encoder 'ir19'; did you mean ir18"),
        (["data", "split", "people", "-o", "s.json", "--train", "9"], 2, "give numbers of people for all three"),
        (["data", "split", "people", "-o", "s.json", "--train", "many"], 2, "'many' is not a valid float"),
        (["data", "pairs", "people", "-o", "p", "--split", "none.json", "--count", "9"], 1, "none.json cannot be read"),
        (
            ["data", "pairs", "people", "-o", "p", "--split", "split.json", "--count", "9"],
            1,
            "train.csv: there are no pairs of kind fake",
        ),
        (
            ["data", "pairs", "people", "-o", "p", "--split", "split.json", "--count", "9", "--ratios", "1,2"],
            2,
            "--ratios '1,2': expected three shares",
        ),
        (["data", "submission", "people", "-o", "a.csv"], 1, "not a folder of pairs"),
    ],
)
def test_mistakes_are_one_line(
    run: Any,
    people: Path,
    split: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    code: int,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    result = run(*words, code=code)
    assert result.stdout == ""
    assert message in result.stderr.splitlines()[-1]
    assert split.exists() and people.exists()
