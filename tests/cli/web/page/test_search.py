"""The second tab of the page: an index, by photo."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

HEALTH = "**/api/v1/health"


def test_search_by_photo(page: Any, hostile: str) -> None:
    page.open("#search")
    expect(page.tab.locator("#search-lead")).to_contain_text("3 faces of the index")
    page.give("front.jpg")
    hits = page.tab.locator(".hit")
    expect(hits).to_have_count(3, timeout=60_000)
    expect(hits.nth(0)).to_contain_text("front.jpg")
    expect(hits.nth(0).locator(".verdict")).to_have_text("same person")
    assert hits.nth(0).locator("img").evaluate("image => image.complete && image.naturalWidth > 0")
    figures = [float(text) for text in page.tab.locator(".hit .figure").all_inner_texts()]
    assert figures == sorted(figures, reverse=True) and figures[0] > 0.99
    expect(page.tab.locator("#found .summary")).to_contain_text("at or above the threshold 0.906")
    assert hostile in page.tab.locator(".hit .file").all_inner_texts(), "a hostile name of the index is text"
    assert page.tab.locator(".hits script, .hits [onerror]").count() == 0
    assert page.sent() == [["photo", "photo-1"], ["k", "12"]]


def test_number_of_results_and_another_photo(page: Any) -> None:
    page.open("#search").give("front.jpg")
    hits = page.tab.locator(".hit")
    expect(hits).to_have_count(3, timeout=60_000)
    page.tab.get_by_label("Results").fill("1")
    expect(hits).to_have_count(1, timeout=60_000)
    page.tab.get_by_label("Results").fill("0")
    expect(page.tab.get_by_label("Results")).to_have_attribute("aria-invalid", "true")
    page.tab.get_by_label("Results").fill("2")
    page.give("flipped.jpg", to="paste")
    expect(hits).to_have_count(2, timeout=60_000)
    expect(hits.nth(0)).to_contain_text("flipped.jpg")
    expect(page.tab.locator("#found .photo")).to_have_count(1)
    page.tab.locator("#found").get_by_role("button", name="Remove photo").click()
    expect(page.tab.locator("#found")).to_be_hidden()
    expect(page.tab.get_by_role("button", name="Choose a photo")).to_be_focused()


def test_which_face_is_searched(page: Any) -> None:
    page.open("#search").give("both.jpg")
    hits = page.tab.locator(".hit")
    expect(hits.nth(0)).to_contain_text("front.jpg", timeout=60_000)
    with page.tab.expect_response("**/api/v1/search", timeout=60_000):
        page.tab.get_by_role("radio", name="Face 2 of 2").click()
    page.settle()
    assert ["face", "1"] in page.sent()
    expect(hits.nth(0)).to_contain_text("flipped.jpg")


def test_without_a_face_and_without_a_picture(page: Any) -> None:
    page.open("#search").give("wall.jpg")
    expect(page.tab.locator("#found .summary")).to_have_text(
        "There is no face in the photo to search for.", timeout=60_000
    )
    expect(page.tab.locator("#found .photo")).to_contain_text("No face found")
    expect(page.tab.locator(".hit")).to_have_count(0)
    page.give("text.jpg")
    expect(page.tab.locator("#notice-search").get_by_role("alert")).to_contain_text("not a picture that can be read")


def test_server_without_an_index(page: Any) -> None:
    page.tab.route(HEALTH, lambda route: route.fulfill(json={**route.fetch().json(), "index": None}))
    page.open("#search")
    expect(page.tab.locator("#search-lead")).to_contain_text("faceembed serve --index people.faiss")
    expect(page.tab.locator("#choose-search")).to_be_hidden()
    page.give("front.jpg")
    expect(page.tab.locator("#found")).to_be_hidden()
    assert page.posts == []


@pytest.fixture
def people(
    data: Path,
    tmp_path: Path,
    embed: Callable[[Path, Path], Path],
    make_server: Callable[[Path], Iterator[str]],
) -> Iterator[str]:
    """A server with photos of six people of LFW, but for the first of each."""
    for name in PEOPLE:
        for photo in sorted((data / "lfw" / name).glob("*.jpg"))[1:4]:
            (tmp_path / "lfw" / name).mkdir(parents=True, exist_ok=True)
            shutil.copy(photo, tmp_path / "lfw" / name / photo.name)
    yield from make_server(embed(tmp_path / "lfw", tmp_path / "people.faiss"))


@pytest.mark.data
def test_real_people(page: Any, data: Path, people: str) -> None:
    page.url = people
    page.faces = {"one.jpg": data / "lfw" / "Tony_Blair" / "Tony_Blair_0001.jpg"}
    page.open("#search").give("one.jpg")
    expect(page.tab.locator(".hit")).to_have_count(12, timeout=60_000)
    assert page.tab.locator(".hit .folder").all_inner_texts()[0] == "Tony_Blair/"


PEOPLE = ("Tony_Blair", "Colin_Powell", "Serena_Williams", "Gloria_Macapagal_Arroyo", "Jean_Chretien", "Laura_Bush")
