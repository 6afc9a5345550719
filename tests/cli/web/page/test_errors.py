"""What the page says when something is wrong. The server's rarer answers are put in its mouth on the way to the browser."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from playwright.sync_api import expect

COMPARE = "**/api/v1/compare"
HEALTH = "**/api/v1/health"


def says(status: int, code: str, message: str, headers: dict[str, str] | None = None) -> Callable[[Any], None]:
    """A handler that answers with this error."""
    body = json.dumps({"error": {"code": code, "message": message, "photo": None}})
    kind = {"Content-Type": "application/json", **(headers or {})}
    return lambda route: route.fulfill(status=status, body=body, headers=kind)


def changed(**changes: Any) -> Callable[[Any], None]:
    """A handler that changes what the real server says."""

    def handle(route: Any) -> None:
        response = route.fetch()
        route.fulfill(response=response, json={**response.json(), **changes})

    return handle


def test_a_file_that_is_no_picture_is_not_sent(page: Any) -> None:
    page.open().give("notes.txt", "front.jpg")
    expect(page.tab.locator(".notice")).to_contain_text("notes.txt is not a picture. JPEG, PNG")
    expect(page.tab.locator(".photo")).to_have_count(1)
    page.tab.locator(".notice").get_by_role("button", name="Close").click()
    expect(page.tab.locator(".notice")).to_have_count(0)


def test_a_photo_that_the_server_cannot_read_leaves_the_others(page: Any) -> None:
    page.open().give("front.jpg", "text.jpg", "flipped.jpg")
    alert = page.tab.get_by_role("alert").filter(has_text="Photo 2 (text.jpg)")
    expect(alert).to_contain_text("This is not a picture that can be read.")
    expect(alert.locator(".detail")).to_contain_text("not a JPEG, PNG, WebP, BMP, TIFF, GIF")
    page.tab.locator("#results").wait_for(timeout=60_000)
    expect(page.tab.locator(".photo").nth(1)).to_contain_text("Not a picture that can be read")
    expect(page.tab.locator(".matrix tbody tr")).to_have_count(2)
    expect(page.cell(1, 2)).to_have_attribute("aria-label", re.compile("^Photos 1 and 3: "))


def test_too_many_too_large_and_empty(page: Any, faces: dict[str, Path], tmp_path: Path) -> None:
    empty = tmp_path / "empty.jpg"
    empty.write_bytes(b"")
    size = faces["front.jpg"].stat().st_size
    limits = {"photos": 3, "bytes": 5 * size // 2, "pixels": 1000, "faces": 8}
    page.faces = {**faces, "empty.jpg": empty}
    page.tab.route(HEALTH, changed(limits=limits))
    page.tab.route(COMPARE, says(503, "busy", "later"))
    page.open().give("empty.jpg", "front.jpg", "front.jpg", "front.jpg", "wall.jpg", "wall.jpg")
    notices = page.tab.locator("#notice-compare .notice.warning")
    expect(notices).to_have_count(3)
    expect(notices.nth(0)).to_contain_text("empty.jpg is empty.")
    expect(notices.nth(1)).to_contain_text("front.jpg (")
    expect(notices.nth(1)).to_contain_text("does not fit")
    expect(notices.nth(2)).to_contain_text("Up to 3 photos")
    expect(page.tab.locator(".photo")).to_have_count(3)


def test_busy_says_how_long_and_tries_again(page: Any) -> None:
    page.tab.route(COMPARE, says(429, "rate_limited", "240 requests a minute", {"Retry-After": "21"}))
    page.open().give("front.jpg", "flipped.jpg")
    alert = page.tab.locator("#notice-compare").get_by_role("alert")
    expect(alert).to_contain_text("Too many requests. It asks to wait 21 seconds.")
    expect(alert.locator(".detail")).to_have_text("240 requests a minute")
    page.tab.locator("[data-language=ru]").click()
    expect(alert).to_contain_text("Слишком много запросов. Он просит подождать 21 секунду.")
    page.tab.unroute(COMPARE)
    alert.get_by_role("button", name="Повторить").click()
    page.tab.locator("#results").wait_for(timeout=60_000)
    expect(alert).to_have_count(0)


ANSWERS = [
    (lambda route: route.abort(), "The server does not answer. Is faceembed serve still running?"),
    (lambda route: route.fulfill(status=502, body="<h1>Bad Gateway</h1>"), "The server behind the proxy"),
    (lambda route: route.fulfill(status=200, body="<h1>Hello</h1>"), "was not understood"),
    (says(503, "busy", "too many at once", {"Retry-After": "1"}), "The server is busy. It asks to wait 1 second."),
    (says(413, "too_many_bytes", "64 MiB at most"), "more than the server takes at once"),
    (says(408, "slow_client", "too slow"), "The upload took too long."),
    (says(500, "internal", "the server has failed"), "The server failed."),
    (says(418, "teapot", "<b>short and stout</b>"), "The server refused this."),
]


def test_answers_that_are_errors(page: Any) -> None:
    page.open()
    alert = page.tab.locator("#notice-compare").get_by_role("alert")
    for handler, words in ANSWERS:
        page.tab.route(COMPARE, handler)
        page.give("front.jpg", "flipped.jpg")
        expect(alert).to_contain_text(words)
        assert alert.locator("b, h1").count() == 0
        expect(alert.get_by_role("button", name="Try again")).to_be_visible()
        expect(page.tab.locator("#results")).to_be_hidden()
        page.tab.get_by_role("button", name="Remove all").click()
        expect(alert).to_have_count(0)
        page.tab.unroute(COMPARE)


def test_server_that_is_gone_from_the_start(page: Any) -> None:
    page.tab.route(HEALTH, lambda route: route.abort())
    page.tab.goto(page.url)
    alert = page.tab.locator("#notice-server").get_by_role("alert")
    expect(alert).to_contain_text("does not answer")
    page.tab.unroute(HEALTH)
    alert.get_by_role("button", name="Try again").click()
    expect(page.tab.locator("#model")).to_contain_text("Encoder dlib-resnet")


def test_key_is_asked_for_and_kept_for_the_tab(page: Any) -> None:
    def guard(route: Any) -> None:
        if route.request.headers.get("x-api-key") == "a key of the tests":
            route.continue_()
        else:
            says(401, "unauthorised", "a key is needed")(route)

    page.tab.route(COMPARE, guard)
    page.tab.route(HEALTH, changed(key_required=True))
    page.open().give("front.jpg", "flipped.jpg")
    dialog = page.tab.get_by_role("dialog", name="This server asks for a key")
    key = dialog.get_by_label("API key")
    expect(key).to_be_focused()
    assert key.get_attribute("type") == "password"
    page.tab.keyboard.type("wrong")
    page.tab.keyboard.press("Enter")
    expect(dialog.get_by_role("alert")).to_have_text("The server does not take this key.")
    key.fill("a key of the tests")
    dialog.get_by_role("button", name="Use this key").click()
    page.tab.locator("#results").wait_for(timeout=60_000)
    page.open().give("front.jpg", "flipped.jpg")
    page.tab.locator("#results").wait_for(timeout=60_000)
    assert page.tab.evaluate("() => JSON.stringify(localStorage)").find("a key") < 0


def test_key_that_is_not_given(page: Any) -> None:
    page.tab.route(COMPARE, says(401, "unauthorised", "a key is needed"))
    page.open().give("front.jpg", "flipped.jpg")
    page.tab.get_by_role("dialog").get_by_role("button", name="Cancel").click()
    expect(page.tab.locator("#notice-compare").get_by_role("alert")).to_contain_text("The server asks for a key.")


def test_fakes_are_named_only_where_the_model_keeps_them_apart(page: Any) -> None:
    page.open().compare("front.jpg", "flipped.jpg")
    page.tab.locator(".threshold input[type=number]").fill("1")
    expect(page.tab.locator(".pair .verdict")).to_have_text("different people")
    assert "fake" not in page.tab.locator("body").inner_text().lower()
    page.tab.route(COMPARE, changed(resists_fakes=True, threshold=0.999))
    page.open().compare("front.jpg", "flipped.jpg")
    expect(page.tab.locator(".pair .verdict")).to_have_text("different, or a deepfake")
    expect(page.tab.locator(".fake")).to_contain_text("Fake suspected?")
    page.tab.locator(".threshold input[type=number]").fill("0.1")
    expect(page.tab.locator(".fake")).to_have_count(0)
    expect(page.tab.locator(".pair .verdict")).to_have_text("same person")


def test_model_without_a_threshold(page: Any) -> None:
    page.tab.route(HEALTH, changed(threshold=None, threshold_source=""))
    page.tab.route(COMPARE, changed(threshold=None, threshold_source=""))
    page.open().compare("front.jpg", "flipped.jpg")
    expect(page.tab.locator(".pair .verdict")).to_have_text("no verdict")
    expect(page.tab.locator(".threshold")).to_contain_text("This model has no measured threshold.")
    page.tab.locator(".threshold input[type=number]").fill("0.5")
    expect(page.tab.locator(".pair .verdict")).to_have_text("same person")
