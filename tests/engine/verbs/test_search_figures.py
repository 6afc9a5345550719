"""`eval` of a search: lists of people and of templates, places in photos, an index's embeddings. Pictures stand for faces."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from faceembed.engine.evaluate.template_lists import read_templates_of
from faceembed.engine.pipeline.looking import LookedFace
from faceembed.engine.pipeline.settings import EmbedSettings
from faceembed.engine.verbs.compare_searches import compare_searches
from faceembed.engine.verbs.search_figures import _meant, evaluate_search
from faceembed.errors import DataError, PairListError, UsageError
from tests.engine.verbs.albums import Counted, picture, run
from tests.pages import Page

CROPS = EmbedSettings(aligner="none", batch_size=16)
HOSTILE = "<script>alert(1)</script> {{ 7 * 7 }}"


def photo(path: Path, person: int, number: int = 0) -> Path:
    picture(path, person)
    pixels = cv2.imread(str(path)).astype(np.int16) + 3 * number
    path.write_bytes(cv2.imencode(".png", np.clip(pixels, 0, 255).astype(np.uint8))[1].tobytes())
    return path


@pytest.fixture
def lists(tmp_path: Path, counted: Counted) -> tuple[Path, Path]:
    """Six people enrolled with two photos, a probe of each, and twelve strangers."""
    for person in range(6):
        for number in range(3):
            photo(tmp_path / "photos" / f"p{person}_{number}.png", person, number)
    for person in range(100, 112):
        photo(tmp_path / "photos" / f"s{person}.png", person)
    gallery = ["name,path", *(f"p{p},photos/p{p}_{n}.png" for p in range(6) for n in range(2))]
    probes = ["name,path", *(f"p{p},photos/p{p}_2.png" for p in range(6))]
    probes += [f"s{p},photos/s{p}.png" for p in range(100, 112)]
    (tmp_path / "gallery.csv").write_text("\n".join(gallery))
    (tmp_path / "probes.csv").write_text("\n".join(probes))
    return tmp_path / "probes.csv", tmp_path / "gallery.csv"


def test_people(lists: tuple[Path, Path]) -> None:
    found = evaluate_search(*lists, settings=CROPS)
    figures = found.figures
    assert (figures.gallery, figures.mated, figures.non_mated, figures.failures) == (6, 6, 12, 0)
    assert figures.rank == {"1": 1.0, "5": 1.0}
    at = figures.fnir_at_fpir["1e-1"]
    assert at is not None and at.rate == 0 and figures.fnir_at_fpir["1e-2"] is None
    assert found.encoder == "faceembed-r29" and found.without == 0


def test_an_index_gives_the_same(lists: tuple[Path, Path], tmp_path: Path, counted: Counted) -> None:
    run(tmp_path / "photos", tmp_path / "p.faiss")
    before = counted.photos
    found = evaluate_search(*lists, index=tmp_path / "p.faiss")
    assert counted.photos == before
    assert found.figures.rank == evaluate_search(*lists, settings=CROPS).figures.rank


def ijb(tmp_path: Path, probes: str, gallery: str) -> tuple[Path, Path]:
    (tmp_path / "probe.csv").write_text("TEMPLATE_ID,SUBJECT_ID,FILENAME\n" + probes)
    (tmp_path / "g1.csv").write_text("TEMPLATE_ID,SUBJECT_ID,FILENAME\n" + gallery)
    return tmp_path / "probe.csv", tmp_path / "g1.csv"


def test_templates_of_ijb(lists: tuple[Path, Path], tmp_path: Path) -> None:
    gallery = "".join(f"{p},{10 + p},photos/p{p}_{n}.png\n" for p in range(6) for n in range(2))
    probes = "900,10,photos/p0_2.png\n900,10,photos/p0_1.png\n901,77,photos/s100.png\n902,15,photos/gone.png\n"
    found = evaluate_search(*ijb(tmp_path, probes, gallery), settings=CROPS)
    assert (found.figures.mated, found.figures.non_mated, found.figures.failures) == (2, 1, 1)
    assert found.figures.rank["1"] == 0.5 and list(found.failures) == [str(tmp_path / "photos" / "gone.png")]


def test_who_has_no_face_in_the_gallery_is_missed(lists: tuple[Path, Path], tmp_path: Path) -> None:
    """Their probes do not become strangers."""
    gallery = "1,10,photos/p0_0.png\n2,11,photos/gone.png\n"
    found = evaluate_search(*ijb(tmp_path, "9,10,photos/p0_1.png\n8,11,photos/p1_0.png\n", gallery), settings=CROPS)
    assert found.without == 1 and (found.figures.mated, found.figures.non_mated) == (2, 0)
    assert found.figures.rank["1"] == 0.5


@pytest.mark.parametrize(
    ("probes", "gallery", "kind", "message"),
    [
        (
            "1,10,photos/p0_0.png\n",
            "1,10,photos/p0_1.png\n2,10,photos/p0_2.png\n",
            DataError,
            "'10' is enrolled in two templates",
        ),
        (
            "1,10,photos/p0_0.png\n1,11,photos/p0_1.png\n",
            "1,10,photos/p0_1.png\n",
            PairListError,
            r"probe.csv, line 3: template 1 shows subject 10",
        ),
        ("1,10\n", "1,10,photos/p0_1.png\n", PairListError, "line 2: expected 3 columns, got 2"),
        (
            "1,,photos/p0_1.png\n",
            "1,10,photos/p0_1.png\n",
            PairListError,
            "a template, a subject and a file name are wanted",
        ),
        ("", "1,10,photos/p0_1.png\n", DataError, "no templates are in it"),
        ("1,12,photos/p0_0.png\n", "1,10,photos/p0_1.png\n", DataError, "no probe shows anybody of the gallery"),
        ("1,10,photos/p0_0.png\n", "1,10,photos/gone.png\n", DataError, "no template of it has a face"),
    ],
)
def test_bad_lists(
    lists: tuple[Path, Path], tmp_path: Path, probes: str, gallery: str, kind: Any, message: str
) -> None:
    with pytest.raises(kind, match=message):
        evaluate_search(*ijb(tmp_path, probes, gallery), settings=CROPS)


def test_places_in_photos(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    head = "TEMPLATE_ID,SUBJECT_ID,FILENAME,FACE_X,FACE_Y,FACE_WIDTH,FACE_HEIGHT\n"
    path.write_text(head + "1,10,a.jpg,5,6,20,30\n1,10,b.jpg,,,,\n")
    (of,) = read_templates_of(path, whole=True).templates
    assert [photo.box for photo in of.photos] == [(5.0, 6.0, 20.0, 30.0), None]
    path.write_text(head + "1,10,a.jpg,5,6,wide,30\n")
    with pytest.raises(PairListError, match=r"line 2: a face's place is four numbers"):
        read_templates_of(path, whole=True)


def test_the_face_at_the_place_is_meant() -> None:
    vector = np.zeros(4, np.float32)
    large, small = (LookedFace({"x": x, "y": 10, "w": w, "h": w, "score": 1}, vector) for x, w in ((0, 90), (200, 40)))
    assert _meant([large, small], (205, 12, 40, 40)) is small
    assert _meant([large, small], None) is large
    assert _meant([large, small], (500, 500, 40, 40)) is None and _meant([], None) is None


def test_the_page_of_a_search(lists: tuple[Path, Path], tmp_path: Path) -> None:
    found = evaluate_search(*lists, settings=CROPS)
    assert [point[0] for point in found.figures.det] == sorted(point[0] for point in found.figures.det)
    found.write_report(tmp_path / "r.html", probes="probes.csv", gallery=HOSTILE)
    page = Page((tmp_path / "r.html").read_text(encoding="utf-8"))
    assert page.tags["svg"] == 1 and page.tags["script"] == 0 and HOSTILE in page.text
    assert "6 people" in page.text and "6 of them, 12 of strangers" in page.text and "insufficient data" in page.text
    at = found.figures.fnir_at_fpir["1e-1"]
    assert at is not None and f"at {at.threshold:.4f}" in page.text


def test_without_strangers_there_is_no_curve(lists: tuple[Path, Path], tmp_path: Path) -> None:
    mated = tmp_path / "mated.csv"
    mated.write_text("\n".join(line for line in lists[0].read_text().splitlines() if not line.startswith("s")))
    found = evaluate_search(mated, lists[1], settings=CROPS)
    assert found.figures.det == []
    found.write_report(tmp_path / "r.html", probes="mated.csv", gallery="gallery.csv")
    page = Page((tmp_path / "r.html").read_text(encoding="utf-8"))
    assert page.tags["svg"] == 0 and "there is no DET curve" in page.text


def test_encoders_in_a_search(lists: tuple[Path, Path], tmp_path: Path) -> None:
    searches = compare_searches(["faceembed-r29", "nobody", "faceembed-r29"], *lists, settings=CROPS)
    alone = evaluate_search(*lists, settings=CROPS)
    assert searches.figures.keys() == {"faceembed-r29"} and searches.figures["faceembed-r29"] == alone
    document = searches.to_json_dict()
    assert document["failed"] == 1 and [row["reason"] is None for row in document["encoders"]] == [True, False]
    searches.write_report(tmp_path / "r.html", probes="p", gallery="g")
    page = Page((tmp_path / "r.html").read_text(encoding="utf-8"))
    assert page.tags["svg"] == 1 and searches.reasons["nobody"] in page.text
    with pytest.raises(UsageError, match="give at least one encoder"):
        compare_searches([], *lists)
    with pytest.raises(DataError, match=r"nix\.csv"):
        compare_searches(["faceembed-r29"], tmp_path / "nix.csv", lists[1])
