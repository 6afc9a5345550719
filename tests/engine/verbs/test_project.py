"""The map: its places, what is in the page, what hostile names can do in a real browser (nothing), and that it is fluid."""

from __future__ import annotations

import base64
import html.parser
import json
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from faceembed.engine.index.projection import principal, project_vectors
from faceembed.engine.report.project import MOST_LABELS, TILE, Grouping, make_sprites, write_project_html
from faceembed.engine.verbs.project import ProjectSettings, _spread
from faceembed.errors import DataError, UsageError
from faceembed.install import pip_install

Floats = NDArray[np.float32]
HOSTILE = [
    "/p/</script><script>window.hacked = 1</script>.jpg",
    '/p/"onerror="window.hacked=2" x=".jpg',
    "/p/<img src=x onerror=window.hacked=3>/a.jpg",
    "/p/{{ 7 * 7 }}<!--<script>.jpg",
    "/p/new\nline\u202egpj.exe",
    "/p/\udcff \u2028 not utf-8.jpg",
]


def vectors(count: int, dimension: int = 16, *, seed: int = 0) -> Floats:
    values = np.random.default_rng(seed).normal(size=(count, dimension)) * np.linspace(3, 0.2, dimension)
    return np.asarray(values / np.linalg.norm(values, axis=1, keepdims=True), np.float32)


# ---------------------------------------------------------------------------------------------------------------- places


def test_principal_components_are_the_singular_vectors() -> None:
    values = vectors(200)
    found = principal(values, 3)
    centred = values.astype(np.float64) - values.mean(axis=0, dtype=np.float64)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    assert np.allclose(np.abs(found), np.abs(centred @ axes[:3].T), atol=1e-4)
    assert np.array_equal(found, principal(values, 3))


@pytest.mark.parametrize("method", ["pca", "tsne"])
def test_places_fill_the_square_and_are_the_same_again(method: str) -> None:
    if method == "tsne":
        pytest.importorskip("sklearn")
    values = vectors(60)
    places = project_vectors(values, method, seed=3)
    assert places.shape == (60, 2) and places.dtype == np.float32
    assert places.min() >= -1e-6 and places.max() <= 1 + 1e-6
    assert np.ptp(places, axis=0).max() == pytest.approx(1, abs=1e-5)
    assert np.array_equal(places, project_vectors(values, method, seed=3))


def test_groups_are_apart_on_the_map() -> None:
    person = np.repeat([0, 1], 30)
    values = vectors(60) * 0.2 + np.eye(2, 16, dtype=np.float32)[person]
    places = project_vectors(np.asarray(values, np.float32), "pca")
    assert abs(places[person == 0, 0].mean() - places[person == 1, 0].mean()) > 0.5


def test_what_cannot_be_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match="at least 3 faces, the index holds 2"):
        project_vectors(vectors(2), "pca")
    with pytest.raises(UsageError, match="none of pca, tsne, umap"):
        project_vectors(vectors(9), "lda")
    with pytest.raises(UsageError, match="'nix' is none of auto"):
        ProjectSettings(method="nix")
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(UsageError, match=re.escape(f"{pip_install('umap')}, or take --method pca")):
        project_vectors(vectors(9), "umap")


def test_thumbnails_are_spread_over_the_map() -> None:
    places = np.asarray(np.r_[np.full((500, 2), 0.5), [[0.0, 0.0], [1.0, 1.0], [0.0, 1.0]]], np.float32)
    assert {500, 501, 502} <= set(_spread(places, 10, 0))
    assert sorted(_spread(places, 1000, 0)) == list(range(503))
    assert _spread(places, 0, 0) == []


# ------------------------------------------------------------------------------------------------------------------ page


def jpeg(colour: int) -> bytes:
    return cv2.imencode(".jpg", np.full((96, 96, 3), colour, np.uint8))[1].tobytes()


def write(
    path: Path, count: int = 6, *, groupings: list[Grouping] | None = None, thumbnails: int = 4
) -> dict[str, Any]:
    paths = [HOSTILE[i % len(HOSTILE)] for i in range(count)]
    groupings = groupings or [Grouping("cluster", tuple(f"person {i % 3}</script>" for i in range(count)))]
    sprites = make_sprites(range(thumbnails), lambda row: None if row == 1 else jpeg(40 * row))
    places = np.random.default_rng(0).random((count, 2)).astype(np.float32)
    write_project_html(path, places, paths, groupings, sprites, title="Map of </title>x", method="pca", encoder="<e>")
    return read(path)[0]


class Page(html.parser.HTMLParser):
    """Scripts and tags as a browser would see them."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.inside = False
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        self.inside = tag == "script"
        if self.inside:
            self.scripts.append((dict(attrs), ""))

    def handle_data(self, data: str) -> None:
        if self.inside:
            attrs, text = self.scripts[-1]
            self.scripts[-1] = (attrs, text + data)

    def handle_endtag(self, tag: str) -> None:
        self.inside = self.inside and tag != "script"


def read(path: Path) -> tuple[dict[str, Any], Page]:
    page = Page(path.read_text(encoding="utf-8"))
    return json.loads(page.scripts[0][1]), page


def test_the_page_holds_its_data_and_one_script_that_its_policy_names(tmp_path: Path) -> None:
    import hashlib

    data = write(tmp_path / "map.html")
    page = read(tmp_path / "map.html")[1]
    assert len(page.scripts) == 2 and page.scripts[0][0]["type"] == "application/json"
    digest = base64.b64encode(hashlib.sha256(page.scripts[1][1].encode()).digest()).decode()
    policy = next(value for name, value in page.attributes if name == "content" and value and "default-src" in value)
    assert policy == f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    assert not [name for name, _ in page.attributes if name.startswith("on") or name in ("src", "href")]
    assert "img" not in page.tags
    assert (
        data["names"][0].endswith("script>.jpg") and "\n" not in data["names"][4] and "\u202e" not in data["names"][4]
    )
    assert np.frombuffer(base64.b64decode(data["tiles"]), "<u4").tolist() == [0, 2, 3]
    assert len(np.frombuffer(base64.b64decode(data["places"]), "<u2")) == 12
    assert data["groupings"][0]["counts"] == [2, 2, 2]


def test_sheets_hold_the_thumbnails_in_order() -> None:
    sprites = make_sprites(range(300), lambda row: None if row % 50 == 7 else jpeg(row % 250))
    assert sprites.unreadable == 6 and len(sprites.rows) == 294 and len(sprites.sheets) == 2
    sheet = cv2.imdecode(np.frombuffer(sprites.sheets[0], np.uint8), cv2.IMREAD_GRAYSCALE)
    for tile in (0, 15, 16, 200):
        y, x = tile // 16 * TILE + TILE // 2, tile % 16 * TILE + TILE // 2
        assert abs(int(sheet[y, x]) - sprites.rows[tile] % 250) <= 4


def test_small_groups_share_a_place_in_the_legend(tmp_path: Path) -> None:
    labels = tuple(f"{i // 3:04d}" for i in range(1200)) + ("big",) * 5
    data = write(tmp_path / "map.html", len(labels), groupings=[Grouping("folder", labels)])
    legend = data["groupings"][0]
    assert legend["labels"][0] == "big" and len(legend["labels"]) == MOST_LABELS - 1
    assert len(legend["counts"]) == MOST_LABELS and sum(legend["counts"]) == len(labels)
    assert legend["rest"] == 401 - (MOST_LABELS - 1)
    numbers = np.frombuffer(base64.b64decode(legend["of"]), "<u2")
    assert np.bincount(numbers).tolist() == legend["counts"]


# --------------------------------------------------------------------------------------------------------------- browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Headless Chromium, the system's."""
    api = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("no chromium on this machine")
    with api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield opened
        opened.close()


def open_page(browser: Any, path: Path, **options: Any) -> tuple[Any, list[str]]:
    page = browser.new_page(viewport={"width": 1000, "height": 700}, **options)
    troubles: list[str] = []
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.on("console", lambda message: troubles.append(message.text) if message.type == "error" else None)
    page.goto(path.as_uri())
    page.wait_for_function("window.faceMap !== undefined")
    return page, troubles


def colours(page: Any) -> int:
    """How many of the map's pixels are not its background."""
    return int(
        page.evaluate(
            """() => { faceMap.draw(); const c = document.getElementById("map");
            const p = new Int32Array(c.getContext("2d").getImageData(0, 0, c.width, c.height).data.buffer);
            return p.reduce((n, v) => n + (v !== p[0]), 0); }"""
        )
    )


def test_hostile_names_run_nothing_and_are_shown(browser: Any, tmp_path: Path) -> None:
    data = write(tmp_path / "map.html")
    page, troubles = open_page(browser, tmp_path / "map.html")
    box = page.locator("#map").bounding_box()
    places = np.frombuffer(base64.b64decode(data["places"]), "<u2").reshape(-1, 2) / 65535
    side = 0.94 * min(box["width"], box["height"])
    for row in range(6):
        x = box["x"] + box["width"] / 2 + (places[row, 0] - 0.5) * side
        y = box["y"] + box["height"] / 2 - (places[row, 1] - 0.5) * side
        page.mouse.move(x, y)
        assert data["names"][row] in page.locator("#card").inner_text()
        assert page.locator("#card canvas").is_visible() == (row in (0, 2, 3))
    page.mouse.click(x, y)
    assert page.locator("#found").text_content() == f"/p/{data['names'][5]}"
    assert page.evaluate("window.hacked") is None
    assert page.evaluate("document.querySelectorAll('script').length") == 2
    assert page.evaluate("document.querySelectorAll('img').length") == 0
    assert troubles == []
    page.close()


def test_legend_search_zoom_and_keys(browser: Any, tmp_path: Path) -> None:
    groupings = [
        Grouping("real or fake", tuple("fake" if i % 3 == 0 else "real" for i in range(300))),
        Grouping("folder", tuple(f"f{i % 5}" for i in range(300))),
    ]
    write(tmp_path / "map.html", 300, groupings=groupings)
    page, troubles = open_page(browser, tmp_path / "map.html")
    everything = colours(page)
    assert page.locator("#legend li").all_inner_texts()[0].split() == ["real", "200"]
    page.locator("#legend input").first.uncheck()
    assert 0 < colours(page) < everything
    page.get_by_text("Hide all").click()
    assert colours(page) == 0
    page.get_by_text("Show all").click()
    assert colours(page) == everything
    page.locator("#grouping").select_option(label="folder")
    assert page.locator("#legend li").count() == 5
    page.locator("#search").fill("{{ 7")
    assert page.locator("#found").inner_text().startswith("50 of 300 faces")
    page.locator("#search").press("Enter")
    assert page.evaluate("faceMap.view.zoom") != 1
    page.locator("#map").press("0")
    assert page.evaluate("[faceMap.view.x, faceMap.view.y, faceMap.view.zoom]") == [0.5, 0.5, 1]
    page.locator("#map").press("+")
    page.locator("#map").press("ArrowRight")
    assert page.evaluate("faceMap.view.zoom") == pytest.approx(1.3)
    assert page.evaluate("faceMap.view.x") > 0.5
    before = page.evaluate("faceMap.view.zoom")
    page.mouse.move(300, 300)
    page.mouse.wheel(0, -400)
    page.wait_for_function(f"faceMap.view.zoom > {before}")
    assert troubles == []
    page.close()


def test_dark_and_light(browser: Any, tmp_path: Path) -> None:
    write(tmp_path / "map.html")
    backgrounds = []
    for scheme in ("light", "dark"):
        page, _ = open_page(browser, tmp_path / "map.html", color_scheme=scheme)
        backgrounds.append(
            page.evaluate("[...document.getElementById('map').getContext('2d').getImageData(2, 2, 1, 1).data]")[0]
        )
        page.close()
    light, dark = backgrounds
    assert light > 200 and dark < 60
