"""How photos come onto the page: file dialog, paste, camera; and the page by keyboard alone, on a phone, and for axe."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect


def test_file_dialog(page: Any, faces: dict[str, Path]) -> None:
    page.open()
    with page.tab.expect_file_chooser() as chooser:
        page.tab.get_by_role("button", name="Choose photos").click()
    assert chooser.value.is_multiple()
    chooser.value.set_files([faces["front.jpg"]])
    expect(page.tab.locator(".photo")).to_have_count(1)
    expect(page.tab.locator("#hint-compare")).to_have_text("One more photo, and they are compared")
    with page.tab.expect_file_chooser() as chooser:
        page.tab.locator("#drop-compare").click(position={"x": 8, "y": 8})
    chooser.value.set_files([faces["front.jpg"]])
    page.tab.locator("#results").wait_for(timeout=60_000)
    assert page.figure(1, 2) == "1.000"


def test_paste(page: Any) -> None:
    page.open().give("front.jpg", to="paste")
    expect(page.tab.locator(".photo")).to_have_count(1)
    page.give("flipped.jpg", to="paste")
    page.tab.locator("#results").wait_for(timeout=60_000)
    expect(page.tab.locator(".photo")).to_have_count(2)


def test_drop_shows_where_it_lands(page: Any) -> None:
    page.open()
    page.tab.evaluate("""() => {
      const carried = new DataTransfer();
      carried.items.add(new File(["x"], "x.jpg"));
      document.body.dispatchEvent(new DragEvent("dragenter", { dataTransfer: carried, bubbles: true }));
    }""")
    expect(page.tab.locator("#veil")).to_be_visible()
    page.tab.evaluate("""() => {
      const carried = new DataTransfer();
      carried.items.add(new File(["x"], "x.jpg"));
      document.body.dispatchEvent(new DragEvent("dragleave", { dataTransfer: carried, bubbles: true }));
    }""")
    expect(page.tab.locator("#veil")).to_be_hidden()


def test_camera(page: Any) -> None:
    """The browser's camera shows the astronaut: her face is found in what was taken."""
    page.open().give("front.jpg")
    page.tab.get_by_role("button", name="Camera").click()
    dialog = page.tab.get_by_role("dialog", name="Take a photo")
    shutter = dialog.get_by_role("button", name="Take the photo")
    expect(shutter).to_be_enabled()
    expect(shutter).to_be_focused()
    page.tab.keyboard.press("Enter")
    expect(dialog).to_be_hidden()
    page.tab.locator("#results").wait_for(timeout=60_000)
    expect(page.tab.locator(".photo .clip").nth(1)).to_have_text("camera-1.jpg")
    assert float(page.figure(1, 2)) > 0.95
    live = page.tab.evaluate("() => document.getElementById('video').srcObject")
    assert live is None, "the camera is switched off"


@pytest.mark.parametrize(
    ("trouble", "words"),
    [
        ("NotAllowedError", "was not allowed"),
        ("NotFoundError", "There is no camera"),
        ("NotReadableError", "Another program"),
        ("", "only to pages over https"),
    ],
)
def test_camera_that_cannot_be_used(page: Any, trouble: str, words: str) -> None:
    refuse = f"""const refused = async () => {{ throw new DOMException("no", "{trouble}"); }};
    const devices = {{ getUserMedia: refused, enumerateDevices: async () => [] }};
    Object.defineProperty(navigator, "mediaDevices", {{ value: {"devices" if trouble else "undefined"} }});"""
    page.tab.add_init_script(refuse)
    page.open().tab.get_by_role("button", name="Camera").click()
    expect(page.tab.locator("#camera-state")).to_contain_text(words)
    expect(page.tab.get_by_role("button", name="Take the photo")).to_be_disabled()
    page.tab.keyboard.press("Escape")
    expect(page.tab.locator("#camera-dialog")).to_be_hidden()
    expect(page.tab.get_by_role("button", name="Camera")).to_be_focused()


def test_keyboard_alone(page: Any, faces: dict[str, Path]) -> None:
    """From the top of the page to another pair, a threshold, another tab, and back, without a mouse."""
    page.open()
    press = page.tab.keyboard.press
    press("Tab")
    expect(page.tab.locator(".skip")).to_be_focused()
    press("Enter")
    expect(page.tab.locator("main")).to_be_focused()
    press("Tab")
    expect(page.tab.get_by_role("button", name="Choose photos")).to_be_focused()
    with page.tab.expect_file_chooser() as chooser:
        press("Enter")
    chooser.value.set_files([faces[name] for name in ("front.jpg", "flipped.jpg", "both.jpg")])
    page.tab.locator("#results").wait_for(timeout=60_000)
    page.settle()

    seen = []
    for _ in range(14):
        press("Tab")
        seen.append(
            page.tab.evaluate("() => { const e = document.activeElement; return e.id || e.ariaLabel || e.innerText; }")
        )
        if page.tab.evaluate("() => document.activeElement.closest('.matrix') !== null"):
            break
    label = seen.pop()
    assert label.startswith("Photos 1 and "), seen
    assert seen[:2] == ["camera-compare", "clear"]
    assert seen[2:5] == ["Remove photo 1, front.jpg", "Remove photo 2, flipped.jpg", "Face 1 of 2"]
    assert seen[5:7] == ["Remove photo 3, both.jpg", "Threshold as a number"] and seen[7] == "threshold"

    press("Control+Home")
    assert page.focused("ariaLabel").startswith("Photos 1 and 2")
    press("ArrowDown")  # over the diagonal
    assert page.focused("ariaLabel").startswith("Photos 2 and 3")
    press("End")
    press("Home")
    assert page.tab.evaluate("() => document.activeElement.closest('tr').rowIndex") == 3
    press("Enter")
    expect(page.tab.locator(".pair .title")).to_have_text("Photos 1 and 3")
    assert page.tab.locator(".matrix [aria-selected=true]").count() == 2
    assert page.focused("closest('tr').rowIndex") == 3, "the focus stays in the cell"
    press("Tab")
    expect(page.tab.get_by_role("switch")).to_be_focused()

    page.tab.locator("#tab-compare").focus()
    press("ArrowRight")
    expect(page.tab.locator("#tab-search")).to_have_attribute("aria-selected", "true")
    expect(page.tab.locator("#panel-search")).to_be_visible()
    press("ArrowRight")
    expect(page.tab.locator("#panel-people")).to_be_visible()
    press("ArrowRight")
    expect(page.tab.locator("#panel-compare")).to_be_visible()
    expect(page.tab.locator(".photo")).to_have_count(3)


@pytest.mark.parametrize("options", [{"viewport": {"width": 390, "height": 844}, "has_touch": True}], ids=["phone"])
def test_phone(page: Any) -> None:
    page.open().compare("front.jpg", "flipped.jpg", "both.jpg", "wall.jpg")
    wide = "() => document.documentElement.scrollWidth - innerWidth"
    assert page.tab.evaluate(wide) == 0
    small = """() => [...document.querySelectorAll("button, input, select, a")].filter((element) => {
      const { width, height } = element.getBoundingClientRect();
      return element.checkVisibility() && !element.matches(".box, footer a, .skip") && width * height > 0 && (width < 24 || height < 24);
    }).map((element) => element.outerHTML)"""
    assert page.tab.evaluate(small) == []
    page.cell(1, 3).tap()
    expect(page.tab.locator(".pair .title")).to_have_text("Photos 1 and 3")
    page.tab.locator("#tab-search").tap()
    assert page.tab.evaluate(wide) == 0


@pytest.mark.parametrize("options", [{"color_scheme": "light"}, {"color_scheme": "dark"}], ids=["light", "dark"])
def test_nothing_that_axe_finds(page: Any) -> None:
    """Names, roles, labels, table headers and contrast, by Deque's axe-core, in both tabs and both colours."""
    from axe_playwright_python.sync_playwright import Axe

    def check() -> None:
        found = Axe().run(page.tab).response["violations"]
        assert [(one["id"], [node["html"] for node in one["nodes"]]) for one in found] == []

    page.open()
    check()
    page.compare("front.jpg", "both.jpg", "wall.jpg")
    page.give("notes.txt")
    check()
    page.tab.locator("#tab-search").click()
    page.give("front.jpg")
    page.tab.locator(".hit").first.wait_for(timeout=60_000)
    check()
    page.tab.locator("#tab-compare").click()
    page.tab.get_by_role("button", name="Camera").click()
    expect(page.tab.get_by_role("button", name="Take the photo")).to_be_enabled()
    check()
