"""The pages: complete, self-contained, and safe against hostile file names; the numbers in them are the evaluation's."""

from __future__ import annotations

import re
import xml.etree.ElementTree
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

from faceembed.engine.evaluate.figures import evaluate, failed_pairs
from faceembed.engine.evaluate.metrics import roc
from faceembed.engine.evaluate.pairs import Kind, Pair, PairList
from faceembed.engine.report import plots, write_eval_report, write_matrix_html, write_matrix_png
from faceembed.engine.report.page import percent, short_names, shown, two_digits
from faceembed.errors import DataError, UsageError
from tests.pages import Page

JPEG = cv2.imencode(".jpg", np.full((20, 30, 3), (40, 90, 200), np.uint8))[1].tobytes()
HOSTILE = [
    "<script>alert(1)</script>.jpg",
    '"onerror="alert(2)" x=".jpg',
    "'><img src=http://evil/x.jpg>",
    "{{ 7 * 7 }}</style><svg onload=alert(3)>",
    "$a_b$\\frac{.jpg",
    "new\nline\u202egpj.exe",
    "\udcff not utf-8.jpg",
    "-->&amp;<!--",
]


def assert_harmless(page: Page) -> None:
    assert page.tags["script"] == 0
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    for name, value in page.attributes:
        if name in ("src", "href", "xlink:href"):
            assert value.startswith(("data:image/jpeg;base64,", "#")), value
    assert any(name == "content" and value.startswith("default-src 'none'") for name, value in page.attributes)


def make(kinds: list[Kind], names: list[str] | None = None, folder: str = "/photos") -> PairList:
    names = names or ["photo.jpg"]
    pairs = []
    for i, kind in enumerate(kinds):
        a, b = (f"{folder}/{i}{side} {names[i % len(names)]}" for side in "ab")
        pairs.append(Pair(a, b, kind == "same", kind))
    return PairList("/lists/pairs.csv", tuple(pairs))


def report(
    target: Path, pairs: PairList, scores: np.ndarray, failures: dict[str, str] | None = None, **options: object
) -> Page:
    failures = failures or {}
    evaluation = evaluate(
        pairs, scores, failures=failures, resamples=50, skip_failures=bool(options.pop("skip", False))
    )
    settings: dict[str, object] = {"title": "A title", "thumbnails": lambda path: JPEG, "failures": failures} | options
    write_eval_report(target, evaluation, pairs, scores, failed_pairs(pairs, failures), **settings)  # type: ignore[arg-type]
    return Page(target.read_text(encoding="utf-8"))


@pytest.fixture
def mixed() -> tuple[PairList, np.ndarray]:
    kinds: list[Kind] = ["same"] * 40 + ["other"] * 50 + ["fake"] * 30
    rng = np.random.default_rng(0)
    means = np.r_[np.full(40, 0.6), np.full(50, 0.0), np.full(30, 0.4)]
    return make(kinds), np.clip(rng.normal(means, 0.15), -1, 1)


# --- evaluation ---------------------------------------------------------------------------------------------------


def test_report_shows_every_metric(tmp_path: Path, mixed: tuple[PairList, np.ndarray]) -> None:
    pairs, scores = mixed
    result = evaluate(pairs, scores, resamples=50)
    page = report(tmp_path / "r.html", pairs, scores, encoder="enc-7", details={"Precision": "BF16"})
    assert result.eer_other is not None and result.eer_fake is not None and result.accuracy_10fold is not None
    for figure in (
        percent(result.eer),
        f"{percent(result.eer_ci[0])} – {percent(result.eer_ci[1])}",
        percent(result.eer_other),
        percent(result.eer_fake),
        f"{result.threshold:.4f}",
        f"{result.auc:.5f}",
        percent(result.fnmr_at_fmr["1e-1"] or 0.0),
        percent(result.accuracy_10fold.mean),
        "insufficient data",
        "needs 1,000,000 negatives",
        "0 of 240 photos",
    ):
        assert figure in page.text, figure
    for fact in ("A title", "enc-7", "pairs.csv", "BF16", "No pair failed"):
        assert fact in page.text
    assert page.tags["svg"] == 4
    assert_harmless(page)


def test_a_kind_of_ones_own_is_in_table_and_plots(tmp_path: Path) -> None:
    pairs = make(["same"] * 20 + ["other"] * 20 + ["kin"] * 20)
    scores = np.clip(np.r_[np.linspace(0.3, 0.9, 20), np.linspace(-0.5, 0.2, 20), np.linspace(0.1, 0.5, 20)], -1, 1)
    page = report(tmp_path / "r.html", pairs, scores)
    for text in (
        "EER, kin",
        "same against kin",
        "FNMR @ FMR 1e-1, kin",
        "same – kin",
        "FMR, kin",
        "no pairs of kind fake",
    ):
        assert text in page.text, text
    assert "var(--k0)" in (tmp_path / "r.html").read_text()
    assert_harmless(page)


def test_flaws_of_the_list_and_what_intervals_rest_on_are_said(tmp_path: Path) -> None:
    pairs = make(["same"] * 5 + ["other"] * 5)
    twice = PairList(pairs.source, (*pairs.pairs, pairs[0]))
    page = report(tmp_path / "r.html", twice, np.array([0.9] * 5 + [0.1] * 5 + [0.9]))
    assert "1 pair repeat another pair of the list" in page.text
    assert "exact binomial bounds, pairs taken as independent" in page.text


def test_worst_pairs_are_the_worst(tmp_path: Path) -> None:
    pairs = make(["same"] * 5 + ["other"] * 5)
    scores = np.array([0.9, 0.2, 0.8, 0.7, 0.6, 0.1, 0.5, -0.2, 0.4, 0.3])
    asked: list[str] = []

    def thumbnails(path: str) -> bytes:
        asked.append(path)
        return JPEG

    page = report(tmp_path / "r.html", pairs, scores, worst=2, thumbnails=thumbnails)
    shown_pairs = [6, 8, 1, 4]  # the highest negatives, highest first; the lowest positives, lowest first
    assert asked == [path for i in shown_pairs for path in (pairs[i].path_a, pairs[i].path_b)]
    assert re.findall(r"pair (\d+)", page.text) == [str(i + 1) for i in shown_pairs]
    assert re.findall("false match|decided right|false non-match", page.text.split("Highest")[1]) == [
        "false match",
        "decided right",
        "false non-match",
        "decided right",
    ]  # at the EER's threshold, 0.45
    assert re.findall(r"(?<![\d.])0\.\d{3}(?!\d)(?=\s*(?:false|decided))", page.text) == [
        "0.500",
        "0.400",
        "0.200",
        "0.600",
    ]


@pytest.mark.parametrize("skip", [False, True])
def test_failures_are_listed_with_their_reasons(tmp_path: Path, mixed: tuple[PairList, np.ndarray], skip: bool) -> None:
    pairs, scores = mixed
    failures = {pairs[3].path_a: "no face found", pairs[70].path_b: "cut short <b>"}
    page = report(tmp_path / "r.html", pairs, scores, failures, skip=skip)
    assert "no face found" in page.text and "cut short <b>" in page.text and page.tags["b"] > 0
    assert "3a photo.jpg" in page.text and "70b photo.jpg" in page.text
    assert ("2 pairs with a photo that could not be compared were left out" in page.text) is skip
    assert ("they score −1 and are counted" in page.text) is not skip
    assert "2 of 240 photos" in page.text
    assert "pair 4\n" not in page.text, "a failed pair is not among the worst: its score says nothing of the encoder"


def test_failures_without_reasons_are_pairs(tmp_path: Path, mixed: tuple[PairList, np.ndarray]) -> None:
    pairs, scores = mixed
    failed = np.arange(len(pairs)) < 2
    result = evaluate(pairs, scores, failures={pairs[0].path_a, pairs[1].path_a}, resamples=20)
    write_eval_report(tmp_path / "r.html", result, pairs, scores, failed, title="t", thumbnails=lambda path: None)
    page = Page((tmp_path / "r.html").read_text())
    assert "/photos/0a photo.jpg – /photos/0b photo.jpg" in page.text and page.tags["img"] == 0
    assert "no picture" in page.text


def test_hostile_names(tmp_path: Path) -> None:
    kinds: list[Kind] = ["same"] * 8 + ["other"] * 8 + ["fake"] * 8
    pairs = make(kinds, HOSTILE)
    scores = np.linspace(-0.5, 0.9, 24)
    failures = {pairs[i].path_a: HOSTILE[i] for i in range(8)}
    page = report(
        tmp_path / "r.html",
        pairs,
        scores,
        failures,
        title=HOSTILE[0],
        encoder=HOSTILE[1],
        details={HOSTILE[2]: HOSTILE[3]},
    )
    assert_harmless(page)
    assert "<script>alert(1)</script>" in page.text and "{{ 7 * 7 }}" in page.text
    assert page.tags["svg"] == 4 and page.tags["style"] == 1
    assert "new\\nline\\u202egpj.exe" in page.text and "\\udcff not utf-8" in page.text


def test_same_input_same_file(tmp_path: Path, mixed: tuple[PairList, np.ndarray]) -> None:
    for name in ("a.html", "b.html"):
        report(tmp_path / name, *mixed)
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


@pytest.mark.parametrize(
    ("kinds", "scores"),
    [
        (["same", "other"], [0.5, 0.1]),
        (["same", "other"], [0.5, 0.5]),
        (["same", "fake"], [-1.0, 1.0]),
        (["same", "same", "other", "fake"], [1.0, 1.0, 1.0, 1.0]),
        (["same"] * 20 + ["other"] * 20, [0.9] * 20 + [0.0] * 20),
        (["same"] * 20 + ["other"] * 20, [0.0] * 20 + [0.9] * 20),
    ],
)
def test_small_and_extreme_sets(tmp_path: Path, kinds: list[Kind], scores: list[float]) -> None:
    assert report(tmp_path / "r.html", make(kinds), np.array(scores)).tags["svg"] == 4


@pytest.mark.parametrize("gone", [0, 1])
def test_every_face_missing_in_one_class(tmp_path: Path, gone: int) -> None:
    pairs = make(["same", "other"])
    page = report(tmp_path / "r.html", pairs, np.array([0.9, 0.2]), {pairs[gone].path_a: "no face found"})
    assert page.tags["svg"] == 4 and "None." in page.text


def test_unlabelled_list_is_refused(tmp_path: Path, mixed: tuple[PairList, np.ndarray]) -> None:
    result = evaluate(*mixed, resamples=20)
    pairs = PairList("d", (Pair("a", "b", None, None),))
    with pytest.raises(DataError):
        write_eval_report(
            tmp_path / "r.html", result, pairs, [0.1], np.array([False]), title="t", thumbnails=lambda path: None
        )
    assert list(tmp_path.iterdir()) == []


# --- plots --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [50, 30_000])
def test_plots_are_small_svg_in_the_colours_of_the_page(count: int) -> None:
    rng = np.random.default_rng(3)
    labels = np.arange(count) % 3 == 0
    scores = np.clip(rng.normal(labels * 0.4, 0.2), -1, 1)
    curve = roc(scores, labels)
    curves = {"all": curve, "fake": curve}
    kinds = np.where(labels, "same", "fake")
    drawn = [
        plots.roc_svg(curves),
        plots.det_svg(curves),
        plots.histogram_svg(scores, kinds, threshold=0.2),
        plots.rates_svg(curves, threshold=0.2),
    ]
    identifiers: Counter[str] = Counter()
    for svg in drawn:
        root = xml.etree.ElementTree.fromstring(svg)
        assert root.tag.endswith("svg") and "viewBox" in root.attrib and "width" not in root.attrib
        assert len(svg) < 300_000
        assert "var(--fake)" in svg and "var(--ink)" in svg
        assert not set(re.findall(r"#[0-9a-f]{6}\b", svg)), "a colour that ignores the theme"
        identifiers.update(element.attrib["id"] for element in root.iter() if "id" in element.attrib)
    assert all(times == 1 for times in identifiers.values()), "identifiers of one page must differ"


def test_thinning_keeps_the_curve() -> None:
    rng = np.random.default_rng(4)
    labels = np.arange(200_000) % 2 == 0
    curve = roc(rng.normal(labels * 2.0, 1.0), labels)
    kept = plots.thinned(curve)
    assert len(kept) <= 2400 and kept[0] == 0 and kept[-1] == len(curve.fmr) - 1
    # Both rates are monotone: what was left out between two points lies in the box that they span.
    boxes = np.minimum(np.diff(curve.fmr[kept]), -np.diff(curve.fnmr[kept]))
    assert boxes.max() < 0.003


# --- matrix -------------------------------------------------------------------------------------------------------


def matrix(count: int, missing: int | None = None) -> np.ndarray:
    rng = np.random.default_rng(5)
    vectors = rng.normal(size=(count, 3))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    values = vectors @ vectors.T
    if missing is not None:
        values[missing] = values[:, missing] = np.nan
    return values


def test_matrix_page(tmp_path: Path) -> None:
    paths = [f"/p/{i}.jpg" for i in range(4)]
    values = matrix(4, missing=2)
    write_matrix_html(
        tmp_path / "m.html",
        paths,
        values,
        lambda path: JPEG,
        reasons={"/p/2.jpg": "too dark"},
        threshold=0.5,
        encoder="enc",
    )
    page = Page((tmp_path / "m.html").read_text(encoding="utf-8"))
    assert_harmless(page)
    assert page.tags["td"] == 16 and page.tags["img"] == 8
    cells = re.findall(r"<td[^>]*>([^<]*)</td>", (tmp_path / "m.html").read_text())
    assert cells == ["–" if np.isnan(value) else two_digits(value) for value in values.ravel()]
    assert page.text.count("too dark") == 1 and "no face found" not in page.text
    marked = [value for name, value in page.attributes if name == "class" and "match" in value.split()]
    assert len(marked) == np.sum(values >= 0.5) - 3, "pairs, not a photo with itself"


def test_matrix_notes_and_remarks(tmp_path: Path) -> None:
    paths, values = ["/p/a.jpg", "/p/b.jpg"], np.array([[1.0, 0.3], [0.3, 1.0]])
    notes = {"/p/b.jpg": ["looks altered (0.10)", HOSTILE[0]]}
    remark = f"one person, but {HOSTILE[1]} looks altered"
    write_matrix_html(
        tmp_path / "m.html", paths, values, lambda path: JPEG, threshold=0.9, notes=notes, remarks={(0, 1): remark}
    )
    page = Page((tmp_path / "m.html").read_text(encoding="utf-8"))
    assert_harmless(page)
    assert page.text.count("looks altered (0.10)") == 1 and page.count("note") == 2 and HOSTILE[0] in page.text
    assert page.count("remarked") == 2 and "amber ring" in page.text
    assert [value for name, value in page.attributes if name == "title" and "one person" in value] == [
        shown(remark)
    ] * 2
    write_matrix_png(tmp_path / "m.png", paths, values, lambda path: JPEG, notes=notes)
    write_matrix_png(tmp_path / "plain.png", paths, values, lambda path: JPEG)
    with_notes, without = (cv2.imread(str(tmp_path / name)) for name in ("m.png", "plain.png"))
    assert with_notes.shape == without.shape and (with_notes != without).any()
    write_matrix_html(tmp_path / "plain.html", paths, values, lambda path: JPEG, threshold=0.9)
    plain = Page((tmp_path / "plain.html").read_text(encoding="utf-8"))
    assert plain.count("remarked") == plain.count("note") == 0 and "amber" not in plain.text


def test_matrix_says_when_no_reason_is_known(tmp_path: Path) -> None:
    write_matrix_html(tmp_path / "m.html", ["a.jpg", "b.jpg"], matrix(2, missing=0), lambda path: None)
    page = Page((tmp_path / "m.html").read_text())
    assert "no face found" in page.text and page.tags["img"] == 0


def test_matrix_of_hostile_names(tmp_path: Path) -> None:
    reasons = dict(zip(HOSTILE, reversed(HOSTILE), strict=True))
    values = matrix(len(HOSTILE), missing=1)
    write_matrix_html(tmp_path / "m.html", HOSTILE, values, lambda path: JPEG, reasons=reasons, title=HOSTILE[0])
    assert_harmless(Page((tmp_path / "m.html").read_text(encoding="utf-8")))
    write_matrix_png(tmp_path / "m.png", [*HOSTILE[:-1], "中文 😀.jpg"], values, lambda path: JPEG, reasons=reasons)
    assert cv2.imread(str(tmp_path / "m.png")) is not None


def test_matrix_picture_shows_photos_and_colours(tmp_path: Path) -> None:
    paths = ["/p/a.jpg", "/p/b.jpg", "/p/c.jpg"]
    values = np.array([[1.0, -1.0, np.nan], [-1.0, 1.0, np.nan], [np.nan, np.nan, np.nan]])
    write_matrix_png(tmp_path / "m.png", paths, values, lambda path: JPEG if path != "/p/c.jpg" else b"broken")
    picture = cv2.imread(str(tmp_path / "m.png"))[:, :, ::-1].astype(int)
    height, width, _ = picture.shape
    left, top, cell = width - 12 - 3 * 56, height - 12 - 3 * 56, 56
    corner = picture[top + 4 :: cell, left + 4 :: cell][:3, :3]  # (3, 3, 3): a spot of each cell without its number
    assert np.abs(corner[0, 0] - (31, 111, 235)).max() <= 1
    assert np.abs(corner[0, 1] - (194, 87, 12)).max() <= 1
    assert np.abs(corner[0, 2] - 236).max() <= 1 and np.abs(corner[2, 0] - 236).max() <= 1
    for row, column in ((top - 30, left + 20), (top + 20, left - 30)):  # the thumbnail, RGB as in the file
        assert np.abs(picture[row, column] - (200, 90, 40)).max() < 12
    assert np.abs(picture[top - 30, left + 2 * cell + 20] - 236).max() <= 1, "a broken picture is grey"


def test_large_matrix_picture_has_no_numbers_but_all_cells(tmp_path: Path) -> None:
    write_matrix_png(tmp_path / "m.png", [f"{i}.jpg" for i in range(60)], matrix(60), lambda path: None)
    height, width, _ = cv2.imread(str(tmp_path / "m.png")).shape
    assert height > 60 * 24 and width > 60 * 24


@pytest.mark.parametrize(
    ("paths", "values", "error", "message"),
    [
        (["a", "b"], np.eye(3), DataError, r"for 2 photos, n > 0, got \(3, 3\)"),
        ([], np.empty((0, 0)), DataError, "n > 0"),
        (["a", "b"], np.full((2, 2), 3.0), DataError, "got 3.0"),
        ([str(i) for i in range(301)], np.eye(301), UsageError, "at most 300 photos, got 301"),
    ],
)
def test_matrix_refuses(
    tmp_path: Path, paths: list[str], values: np.ndarray, error: type[Exception], message: str
) -> None:
    for write in (write_matrix_html, write_matrix_png):
        with pytest.raises(error, match=message):
            write(tmp_path / "m", paths, values, lambda path: None)
    assert list(tmp_path.iterdir()) == []


# --- names and numbers --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a b.jpg", "a b.jpg"),
        ("é中.jpg", "é中.jpg"),
        ("a\tb\n", "a\\tb\\n"),
        ("\u202e", "\\u202e"),
        ("\udcff", "\\udcff"),
    ],
)
def test_shown(name: str, expected: str) -> None:
    assert shown(name) == expected


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (["/d/x/1.jpg", "/d/y/1.jpg"], ["x/1.jpg", "y/1.jpg"]),
        (["/d/1.jpg"], ["1.jpg"]),
        (["/1.jpg", "rel/2.jpg"], ["/1.jpg", "rel/2.jpg"]),
        ([], []),
    ],
)
def test_short_names(paths: list[str], expected: list[str]) -> None:
    assert list(short_names(paths).values()) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0, "0.00 %"), (0.0110, "1.10 %"), (0.00052, "0.052 %"), (1, "100.00 %"), (1e-6, "0.0001 %")],
)
def test_percent(value: float, expected: str) -> None:
    assert percent(value) == expected


@pytest.mark.parametrize(("value", "expected"), [(-0.001, "0.00"), (-0.07, "−0.07"), (0.834, "0.83")])
def test_two_digits(value: float, expected: str) -> None:
    assert two_digits(value) == expected
