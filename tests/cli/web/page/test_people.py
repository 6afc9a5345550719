"""The third tab of the page: who is on photos, who is known, and changes to that."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from playwright.sync_api import expect

from faceembed.cli.main import main
from faceembed.engine.people.gallery import read_gallery, write_gallery
from tests.cli.web.page.conftest import HOSTILE, MODELS

PEOPLE = "**/api/v1/people"
SMALL = """() => [...document.querySelectorAll("button, input, select, a")].filter((element) => {
  const { width, height } = element.getBoundingClientRect();
  return element.checkVisibility() && !element.matches("footer a, .skip") && width * height > 0 && (width < 24 || height < 24);
}).map((element) => element.outerHTML)"""
WIDE = "() => document.documentElement.scrollWidth - innerWidth"
ENGLISH = """() => [...document.querySelectorAll("#panel-people *, #person-dialog *, #enrol-dialog *")]
  .filter((element) => element.children.length === 0 && !element.closest("[lang=en], .clip, #person-title, b"))
  .map((element) => element.textContent.trim())
  .filter((text) => /[a-z]{3}/i.test(text) && !/[а-яё]/i.test(text))"""


@pytest.fixture(scope="module")
def made(faces: dict[str, Path], home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A gallery of three names, which are the astronaut's: `Ann` with two photos, `Bob` and a hostile one with one each."""
    folder = tmp_path_factory.mktemp("people")
    for person, names in {
        "Ann": ("front.jpg", "flipped.jpg"),
        "Bob": ("flipped.jpg",),
        HOSTILE: ("front.jpg",),
    }.items():
        (folder / person).mkdir()
        for name in names:
            shutil.copy(faces[name], folder / person / name)
    gallery = tmp_path_factory.mktemp("gallery") / "made.gallery"
    result = CliRunner().invoke(main, ["enrol", str(folder), "-o", str(gallery), *MODELS, "-q"])
    assert result.exit_code == 0, result.output
    return gallery


@pytest.fixture(scope="module")
def served(made: Path, make_server: Callable[..., Iterator[str]]) -> Iterator[tuple[str, Path]]:
    """A server with a gallery, and the file that it serves."""
    live = made.with_name("live.gallery")
    shutil.copy(made, live)
    for url in make_server(live, "--gallery"):
        yield url, live


@pytest.fixture
def people(page: Any, served: tuple[str, Path], made: Path) -> Any:
    """The page's third tab, with the gallery as it was made."""
    page.url, page.live = served
    shutil.copy(made, page.live)
    page.open("#people")
    page.tab.locator(".person").first.wait_for()
    return page


def names(page: Any) -> list[str]:
    return [str(text) for text in page.tab.locator(".person .name").all_inner_texts()]


def open_person(page: Any, name: str) -> Any:
    page.tab.locator(".person").filter(has_text=name).click()
    dialog = page.tab.locator("#person-dialog")
    expect(dialog.locator(".own").first).to_be_visible()
    return dialog


def test_who_is_on_photos(people: Any, hostile: str) -> None:
    expect(people.tab.locator("#people-lead")).to_contain_text("the 3 people that this server knows")
    assert names(people) == [hostile, "Ann", "Bob"]
    expect(people.tab.locator(".person img.portrait")).to_have_count(3)
    people.give("flipped.jpg", "wall.jpg", "both.jpg", "text.jpg")
    photos = people.tab.locator("#asked .photo")
    expect(photos.nth(2).locator(".who li")).to_have_count(2, timeout=60_000)
    people.settle()
    expect(photos.nth(0).locator(".who b")).to_have_text("Bob")
    expect(photos.nth(0).locator(".box.on")).to_have_count(1)
    expect(photos.nth(1)).to_contain_text("No face found")
    expect(photos.nth(2).locator(".badge")).to_have_text(["1", "2"])
    expect(photos.nth(2).get_by_role("button", name="Add this photo")).to_have_count(0)
    expect(photos.nth(3)).to_contain_text("This is not a picture that can be read.")
    expect(people.tab.locator("#asked-summary")).to_contain_text("3 faces · known from 0.9")
    assert people.sent() == [["photos", f"photo-{n}"] for n in (1, 2, 3)], "the one that cannot be read is left out"
    people.tab.get_by_role("button", name="Remove photo 1, flipped.jpg").click()
    expect(people.tab.get_by_role("button", name="Remove photo 1, wall.jpg")).to_be_focused()
    people.tab.get_by_role("button", name="Remove all").click()
    expect(people.tab.locator("#asked")).to_be_hidden()


def test_rename_and_find(people: Any) -> None:
    dialog = open_person(people, "Bob")
    expect(dialog.locator("#person-hint")).to_have_text("One photo is known.")
    expect(dialog.get_by_role("checkbox")).to_have_count(0)
    dialog.get_by_label("Name", exact=True).fill("unknown")
    dialog.get_by_role("button", name="Rename").click()
    alert = dialog.get_by_role("alert")
    expect(alert).to_contain_text("This name cannot be used.")
    expect(alert.locator(".detail")).to_contain_text("is what identify calls strangers")
    dialog.get_by_label("Name", exact=True).fill("Éva B.")
    people.tab.keyboard.press("Enter")
    expect(dialog).to_be_hidden()
    expect(people.tab.locator("#live")).to_contain_text("Bob is called Éva B. now.")
    expect(people.tab.locator(".person").filter(has_text="Éva B.")).to_be_focused()
    people.tab.get_by_label("Find").fill("éV")
    expect(people.tab.locator(".person")).to_have_count(1)
    expect(people.tab.locator("#people-count")).to_have_text("1 of 3 people")
    assert list(read_gallery(people.live).people) == [HOSTILE, "Ann", "Éva B."]


def test_two_who_are_one(people: Any) -> None:
    dialog = open_person(people, "Bob")
    dialog.get_by_label("Name", exact=True).fill("Ann")
    dialog.get_by_role("button", name="Rename").click()
    question = dialog.get_by_role("group")
    expect(question).to_contain_text("There is a Ann already. Are Bob and Ann one person?")
    question.get_by_role("button", name="Cancel").click()
    expect(question).to_be_hidden()
    dialog.get_by_role("button", name="Rename").click()
    dialog.get_by_role("button", name="Yes, put them together").click()
    expect(dialog).to_be_hidden()
    expect(people.tab.locator(".person").filter(has_text="Ann")).to_contain_text("3 photos")
    assert {name: len(one.usable) for name, one in read_gallery(people.live).people.items()} == {HOSTILE: 1, "Ann": 3}


def test_one_who_is_two(people: Any) -> None:
    dialog = open_person(people, "Ann")
    expect(dialog.locator("img")).to_have_count(2)
    boxes = dialog.get_by_role("checkbox")
    move = dialog.get_by_role("button", name="Move")
    expect(move).to_be_hidden()
    boxes.nth(0).check()
    boxes.nth(1).check()
    expect(dialog.locator("#split-label")).to_have_text("All photos are marked: rename the person instead")
    expect(move).to_be_disabled()
    dialog.get_by_text("front.jpg").click()
    dialog.get_by_label("Whose is the marked photo?").fill("Eve")
    move.click()
    expect(dialog).to_be_hidden()
    expect(people.tab.locator(".person").filter(has_text="Eve")).to_contain_text("1 photo")
    held = read_gallery(people.live).people
    assert [Path(photo.path).name for photo in held["Eve"].usable] == ["flipped.jpg"]
    assert [Path(photo.path).name for photo in held["Ann"].usable] == ["front.jpg"]


def test_enrol_from_a_photo_and_delete(people: Any) -> None:
    for name in (HOSTILE, "Bob", "Ann"):
        dialog = open_person(people, name)
        dialog.get_by_role("button", name="Delete this person…").click()
        expect(dialog.get_by_role("group")).to_contain_text(f"Delete all that is kept of {name}?")
        expect(dialog.get_by_role("button", name="Delete", exact=True)).to_be_focused()
        people.tab.keyboard.press("Enter")
        expect(dialog).to_be_hidden()
    expect(people.tab.locator("#people-count")).to_have_text("Nobody is known yet. Add a person and photos of them.")
    expect(people.tab.get_by_role("button", name="Add a person")).to_be_focused()
    people.give("front.jpg")
    expect(people.tab.locator("#asked .who")).to_have_text("unknown", timeout=60_000)
    people.tab.get_by_role("button", name="Say who it is").click()
    dialog = people.tab.get_by_role("dialog", name="Add photos of a person")
    expect(dialog.get_by_role("button", name="Add", exact=True)).to_be_disabled()
    dialog.get_by_label("Name", exact=True).fill("Eileen")
    dialog.locator("#enrol-files").set_input_files([people.faces["both.jpg"], people.faces["notes.txt"]])
    expect(dialog.locator(".notice")).to_contain_text("notes.txt is not a picture")
    dialog.get_by_role("button", name="Add", exact=True).click()
    alert = dialog.get_by_role("alert")
    expect(alert).to_contain_text("Photo 2 (both.jpg): A photo of a person must show one face.", timeout=60_000)
    dialog.get_by_role("button", name="Remove photo 2, both.jpg").click()
    dialog.get_by_role("button", name="Add", exact=True).click()
    expect(dialog).to_be_hidden(timeout=60_000)
    expect(people.tab.locator("#asked .who b")).to_have_text("Eileen", timeout=60_000)
    assert list(read_gallery(people.live).people) == ["Eileen"]


def test_a_key_that_may_only_read_is_offered_no_change(people: Any) -> None:
    people.tab.route(PEOPLE, lambda route: route.fulfill(json={**route.fetch().json(), "role": "read"}))
    people.tab.reload()
    people.tab.locator(".person").first.wait_for()
    people.give("front.jpg")
    expect(people.tab.locator("#asked .who")).to_be_visible(timeout=60_000)
    people.settle()
    for name in ("Add a person", "Add this photo to somebody"):
        expect(people.tab.get_by_role("button", name=name)).to_have_count(0)
    dialog = open_person(people, "Ann")
    for name in ("Rename", "Delete this person…", "Move"):
        expect(dialog.get_by_role("button", name=name)).to_have_count(0)
    expect(dialog.get_by_role("checkbox")).to_have_count(0)


def test_a_person_who_is_gone_meanwhile(people: Any, made: Path) -> None:
    dialog = open_person(people, "Bob")
    opened = read_gallery(made)
    write_gallery(people.live, opened.with_photos(photo for photo in opened.photos if photo.person != "Bob"))
    dialog.get_by_label("Name", exact=True).fill("Eve")
    dialog.get_by_role("button", name="Rename").click()
    expect(dialog.get_by_role("alert")).to_contain_text("Nobody is called so any more.")
    dialog.get_by_role("button", name="Close").first.click()
    people.tab.locator("#tab-compare").click()
    people.tab.locator("#tab-people").click()
    expect(people.tab.locator(".person")).to_have_count(2)


def test_server_without_a_gallery(page: Any) -> None:
    asked: list[str] = []
    page.tab.on("request", lambda request: asked.append(request.url))
    page.open("#people")
    expect(page.tab.locator("#people-lead")).to_contain_text("faceembed serve --gallery staff.gallery")
    expect(page.tab.locator("#known")).to_be_hidden()
    page.give("front.jpg")
    expect(page.tab.locator("#asked")).to_be_hidden()
    assert not any("/api/v1/people" in url or "/identify" in url for url in asked)


@pytest.mark.parametrize("options", [{"locale": "ru-RU", "viewport": {"width": 390, "height": 844}, "has_touch": True}])
def test_a_phone_in_russian(people: Any) -> None:
    people.give("front.jpg", "wall.jpg")
    expect(people.tab.locator("#asked .who b")).to_be_visible(timeout=60_000)
    expect(people.tab.locator("#people-count")).to_have_text("3 человека")
    for _ in range(2):  # the tab, then a dialog over it
        assert people.tab.evaluate(WIDE) == 0
        assert people.tab.evaluate(SMALL) == []
        dialog = people.tab.locator("#person-dialog")
        if dialog.is_hidden():
            people.tab.locator(".person").filter(has_text="Ann").tap()
            dialog.get_by_role("checkbox").first.tap()
            dialog.get_by_role("button", name="Удалить человека…").tap()
    assert people.tab.evaluate(ENGLISH) == []
    dialog.get_by_role("button", name="Отмена").tap()
    dialog.get_by_role("button", name="Закрыть").first.tap()
    people.tab.get_by_role("button", name="Добавить человека").tap()
    expect(people.tab.get_by_role("dialog", name="Добавить фото человека")).to_be_visible()
    assert people.tab.evaluate(SMALL) == []


def test_keyboard_alone(people: Any) -> None:
    press = people.tab.keyboard.press
    people.tab.locator("#tab-people").focus()
    for _ in range(12):
        press("Tab")
        if people.tab.evaluate("() => document.activeElement.matches('.person')"):
            break
    press("Tab")
    press("Enter")
    dialog = people.tab.locator("#person-dialog")
    expect(dialog.get_by_role("heading", level=2)).to_have_text("Ann")
    expect(dialog.get_by_role("checkbox")).to_have_count(2)
    for _ in range(3):
        press("Tab")
    expect(dialog.get_by_role("checkbox").first).to_be_focused()
    press("Space")
    press("Tab")
    press("Tab")
    people.tab.keyboard.type("Eve")
    press("Enter")
    expect(dialog).to_be_hidden()
    expect(people.tab.locator(".person").filter(has_text="Eve")).to_be_focused()
    press("Enter")
    expect(dialog).to_be_visible()
    press("Escape")
    expect(people.tab.locator(".person").filter(has_text="Eve")).to_be_focused()


@pytest.mark.parametrize("options", [{"color_scheme": "light"}, {"color_scheme": "dark"}], ids=["light", "dark"])
def test_nothing_that_axe_finds(people: Any) -> None:
    from axe_playwright_python.sync_playwright import Axe

    def check() -> None:
        found = Axe().run(people.tab).response["violations"]
        assert [(one["id"], [node["html"] for node in one["nodes"]]) for one in found] == []

    people.give("front.jpg", "both.jpg", "wall.jpg")
    expect(people.tab.locator("#asked .who").nth(1)).to_be_visible(timeout=60_000)
    people.settle()
    check()
    dialog = open_person(people, "Ann")
    dialog.get_by_role("checkbox").first.check()
    dialog.get_by_role("button", name="Delete this person…").click()
    check()
    people.tab.keyboard.press("Escape")
    people.tab.get_by_role("button", name="Say who it is").or_(
        people.tab.get_by_role("button", name="Add this photo")
    ).first.click()
    check()
