"""The first tab of the page, in a real browser against the real server."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import expect

from faceembed.engine.pipeline.settings import EmbedSettings
from faceembed.engine.runtimes.choose import RuntimeSettings
from faceembed.engine.verbs import matrix as compare


def similarity(page: Any, faces: dict[str, Path], *chosen: tuple[str, int]) -> str:
    """What the table must say of two faces, from the embeddings that another route of the API gives."""
    names = [name for name, _ in chosen]
    files = [{"name": name, "mimeType": "image/jpeg", "buffer": faces[name].read_bytes()} for name in names]
    vectors = []
    for file, (_, number) in zip(files, chosen, strict=True):
        answer = page.tab.request.post(f"{page.url}/api/v1/embed", multipart={"photos": file}).json()
        vectors.append(np.array(answer["photos"][0]["faces"][number]["embedding"]))
    return f"{vectors[0] @ vectors[1]:.3f}"


def test_drop_gives_faces_table_and_verdicts(page: Any, faces: dict[str, Path]) -> None:
    page.open().compare("front.jpg", "flipped.jpg", "wall.jpg")
    cards = page.tab.locator(".photo")
    expect(cards).to_have_count(3)
    expect(cards.nth(0).locator(".chip")).to_have_attribute("alt", "Aligned face of photo 1")
    expect(cards.nth(0)).to_contain_text("Quality 1.")
    expect(cards.nth(2)).to_contain_text("No face found")
    expect(cards.nth(2).locator(".chip")).to_be_hidden()
    assert cards.nth(0).locator(".picture").evaluate("image => image.naturalWidth") == 256

    expected = similarity(page, faces, ("front.jpg", 0), ("flipped.jpg", 0))
    assert page.figure(1, 2) == page.figure(2, 1) == expected
    same = float(expected) >= 0.906
    words = "same person" if same else "different people"
    expect(page.cell(1, 2)).to_have_attribute("aria-label", f"Photos 1 and 2: {expected}, {words}")
    expect(page.cell(1, 3)).to_have_attribute("aria-label", "Photos 1 and 3: no face to compare")
    expect(page.tab.locator(".matrix tbody th").first).to_have_text("1Photo 1: front.jpg")
    assert page.tab.locator(".matrix thead th").evaluate_all("all => all.map(th => th.scope)") == ["col"] * 3
    assert page.tab.locator(".matrix tbody th").evaluate_all("all => all.map(th => th.scope)") == ["row"] * 3
    expect(page.tab.locator(".summary").first).to_contain_text("3 pairs")
    expect(page.tab.locator(".pair .verdict")).to_have_text(words)
    expect(page.tab.locator("#live")).to_contain_text("3 pairs")


def test_threshold_moves_verdicts_without_asking_the_server(page: Any) -> None:
    page.open().compare("front.jpg", "flipped.jpg")
    value = float(page.figure(1, 2))
    asked = len(page.posts)
    number, slider = page.tab.locator(".threshold input[type=number]"), page.tab.locator("#threshold")
    reset = page.tab.get_by_role("button", name="Reset")
    expect(number).to_have_value("0.906")
    expect(page.tab.locator(".threshold")).to_contain_text("The model's own: 0.906")
    expect(reset).to_be_hidden()
    number.fill(f"{value + 0.001:.3f}")
    expect(page.tab.locator(".pair .verdict")).to_have_text("different people")
    expect(page.tab.locator(".count")).to_have_text("0 of 1 pair at or above it")
    expect(page.cell(1, 2)).to_have_attribute("aria-label", f"Photos 1 and 2: {value:.3f}, different people")
    slider.focus()
    for _ in range(3):
        page.tab.keyboard.press("ArrowLeft")
    expect(page.tab.locator(".pair .verdict")).to_have_text("same person")
    expect(slider).to_have_attribute("aria-valuetext", f"{value - 0.002:.3f}")
    expect(page.tab.locator("#live")).to_have_text("1 of 1 pair at or above it")
    reset.click()
    expect(number).to_have_value("0.906")
    assert page.focused() == "threshold"
    heat = "button => getComputedStyle(button.parentElement).backgroundColor"
    before = page.cell(1, 2).evaluate(heat)
    number.fill("0.2")
    assert page.cell(1, 2).evaluate(heat) != before, "the farther from the threshold, the hotter"
    reset.click()
    number.fill("7")
    expect(number).to_have_attribute("aria-invalid", "true")
    number.blur()
    expect(number).to_have_value("0.906")
    assert len(page.posts) == asked


@pytest.mark.parametrize("way", ["click", "keyboard"])
def test_choose_among_faces(page: Any, faces: dict[str, Path], way: str) -> None:
    page.open().compare("front.jpg", "both.jpg")
    boxes = page.tab.get_by_role("radiogroup", name="Which face of photo 2 to use").get_by_role("radio")
    expect(boxes).to_have_count(2)
    expect(boxes.nth(0)).to_have_attribute("aria-checked", "true")
    assert page.figure(1, 2) == similarity(page, faces, ("front.jpg", 0), ("both.jpg", 0))
    chip = page.tab.locator(".photo .chip").nth(1)
    before = chip.get_attribute("src")
    with page.tab.expect_response("**/api/v1/compare", timeout=60_000):
        if way == "click":
            boxes.nth(1).click()
        else:
            boxes.nth(0).focus()
            page.tab.keyboard.press("ArrowRight")
    assert ["faces", "[null,1]"] in page.sent()
    page.settle()
    expect(boxes.nth(1)).to_have_attribute("aria-checked", "true")
    assert page.focused("dataset.face") == "1", "the chosen box keeps the focus"
    assert chip.get_attribute("src") != before
    expect(page.cell(1, 2).locator(".figure")).to_have_text(similarity(page, faces, ("front.jpg", 0), ("both.jpg", 1)))


def test_boxes_lie_on_the_faces(page: Any) -> None:
    page.open().compare("front.jpg", "both.jpg")
    picture = page.tab.locator(".photo .picture").nth(1).bounding_box()
    large, small = (page.tab.locator(".photo").nth(1).locator(".box").nth(n).bounding_box() for n in (0, 1))
    share = [(box["x"] + box["width"] / 2 - picture["x"]) / picture["width"] for box in (large, small)]
    assert 0.1 < share[0] < 256 / 440 < 270 / 440 < share[1] < 430 / 440
    assert picture["width"] / picture["height"] == pytest.approx(440 / 256, rel=0.02), "the photo is whole, not cropped"


def test_a_format_that_browsers_cannot_show_has_its_faces_all_the_same(page: Any) -> None:
    page.open().give("front.jpg", "front.tif", types={"front.tif": ""})
    page.tab.locator("#results").wait_for(timeout=60_000)
    card = page.tab.locator(".photo").nth(1)
    expect(card.get_by_role("radio")).to_have_count(2)
    expect(card.locator(".box img").first).to_be_visible()


def test_explain_shows_and_hides_the_maps(page: Any) -> None:
    page.open().compare("front.jpg", "flipped.jpg")
    toggle = page.tab.get_by_role("switch", name="What makes them similar")
    face = page.tab.locator(".pair .face img").first
    plain = face.get_attribute("src")
    with page.tab.expect_response("**/api/v1/explain", timeout=120_000) as response:
        toggle.click()
        expect(page.tab.locator(".explained")).to_contain_text("Finding out")
    overlay = response.value.json()["overlay_a"]
    expect(face).to_have_attribute("src", overlay)
    assert overlay != plain
    expect(toggle).to_have_attribute("aria-checked", "true")
    expect(page.tab.locator(".explained")).to_contain_text("Upper third")
    expect(page.tab.locator(".legend")).to_be_visible()
    asked = len(page.posts)
    toggle.click()
    expect(face).to_have_attribute("src", plain)
    toggle.click()
    expect(face).to_have_attribute("src", overlay)
    assert len(page.posts) == asked, "a map that is known is not computed again"
    with page.tab.expect_response("**/api/v1/explain", timeout=120_000) as response:
        page.tab.get_by_label("Method of the explanation").select_option("gradient")
    assert ["method", "gradient"] in page.sent()
    expect(face).to_have_attribute("src", response.value.json()["overlay_a"])


def test_remove_one_and_all(page: Any) -> None:
    page.open().compare("front.jpg", "flipped.jpg", "both.jpg")
    page.tab.get_by_role("button", name="Remove photo 1, front.jpg").click()
    expect(page.tab.locator(".matrix tbody tr")).to_have_count(2, timeout=60_000)
    expect(page.tab.locator(".photo .picture").first).to_have_attribute("alt", "Photo 1: flipped.jpg")
    expect(page.tab.get_by_role("button", name="Remove photo 1, flipped.jpg")).to_be_focused()
    page.tab.get_by_role("button", name="Remove all").click()
    expect(page.tab.locator("#results")).to_be_hidden()
    expect(page.tab.get_by_role("heading", name="One person, or two?")).to_be_visible()
    expect(page.tab.get_by_role("button", name="Choose photos")).to_be_focused()


def test_file_names_are_text_and_stay_in_the_browser(page: Any, hostile: str) -> None:
    page.open().compare("front.jpg", hostile)
    assert page.sent() == [["photos", "photo-1"], ["photos", "photo-2"], ["faces", "[null,null]"]]
    card = page.tab.locator(".photo").nth(1)
    assert card.locator(".clip").inner_text() == hostile
    expect(card.locator(".picture")).to_have_attribute("alt", f"Photo 2: {hostile}")
    expect(page.tab.locator(".side figcaption").nth(1)).to_have_text(f"2 · {hostile}")
    assert page.tab.locator("main script, main [onerror], main img[src=x]").count() == 0


def test_a_name_cannot_pretend_to_be_another(page: Any, faces: dict[str, Path]) -> None:
    faces = {**faces, "cat\u202egpj.exe.jpg": faces["front.jpg"]}
    page.faces = faces
    page.open().give("cat\u202egpj.exe.jpg")
    assert page.tab.locator(".clip").inner_text() == r"cat\u202egpj.exe.jpg"


@pytest.mark.data
def test_real_people(page: Any, data: Path) -> None:
    """Two photos each of two people of LFW. The library, which looks for one face a photo, gives the same figures."""
    page.faces = {f"{name}_{n:04d}.jpg": data / "lfw" / name / f"{name}_{n:04d}.jpg" for name, n in LFW}
    page.open().compare(*page.faces)
    settings = EmbedSettings(aligner="mtcnn", encoder="dlib-resnet", runtime=RuntimeSettings(precision="fp32"))
    expected = compare.matrix([str(path) for path in page.faces.values()], settings=settings).similarity
    for row, column in itertools.combinations(range(1, 5), 2):
        figure = page.figure(row, column)
        assert float(figure) == pytest.approx(expected[row - 1][column - 1], abs=0.01)
        words = "same person" if float(figure) >= 0.906 else "different people"
        expect(page.cell(row, column)).to_have_attribute("aria-label", f"Photos {row} and {column}: {figure}, {words}")
        if (row, column) in {(1, 2), (3, 4)}:
            assert words == "same person"


LFW = [("Colin_Powell", 1), ("Colin_Powell", 2), ("Tony_Blair", 1), ("Tony_Blair", 3)]
