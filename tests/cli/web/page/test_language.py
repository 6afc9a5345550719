"""English and Russian, dark and light."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from faceembed.cli.web.app import STATIC

TEXTS = "async () => ({ ...(await import('./static/texts-en.js')), ...(await import('./static/texts-ru.js')) })"
BUILT = ("error.", "reason.", "verdict.", "summary.", "theme.", "explain.", "tab.")  # keys that the code puts together
RUSSIAN = {"locale": "ru-RU"}


def holes(text: str | dict[str, str]) -> set[str]:
    """The names in braces of a text, of all its forms together."""
    return set(re.findall(r"\{(\w+)\}", text if isinstance(text, str) else " ".join(text.values())))


def test_both_languages_have_every_text(page: Any) -> None:
    texts = page.open().tab.evaluate(TEXTS)
    en, ru = texts["en"], texts["ru"]
    assert list(en) == list(ru)
    for key in en:
        assert isinstance(en[key], dict) == isinstance(ru[key], dict), key
        assert holes(en[key]) == holes(ru[key]), key
        if isinstance(en[key], dict):
            assert set(en[key]) == {"one", "other"} and set(ru[key]) == {"one", "few", "many", "other"}, key
        elif key not in {"title", "footer.api", "size.mb"}:
            assert re.search("[а-яё]", str(ru[key]), re.IGNORECASE) or not re.search("[a-z]{3}", str(en[key])), key


def test_every_text_is_used_and_every_used_text_is_there(page: Any) -> None:
    texts = set(page.open().tab.evaluate(TEXTS)["en"])
    code = "\n".join(
        path.read_text() for path in STATIC.iterdir() if path.suffix in {".js", ".html"} and "texts-" not in path.name
    )
    named = set(re.findall(r"""\bt\("([\w.]+)["]""", code)) | set(re.findall(r'data-t(?:-[\w-]+)?="([\w.]+)"', code))
    assert named <= texts
    unused = {key for key in texts if key not in named and f'"{key}"' not in code and not key.startswith(BUILT)}
    assert unused == set()


@pytest.mark.parametrize("options", [RUSSIAN], ids=["ru"])
def test_plural_forms(page: Any) -> None:
    expected = {
        1: "1 пара",
        2: "2 пары",
        4: "4 пары",
        5: "5 пар",
        11: "11 пар",
        14: "14 пар",
        21: "21 пара",
        45: "45 пар",
    }
    give = "async (numbers) => { const { t } = await import('./static/i18n.js'); return numbers.map((n) => t('summary.pairs', { n })); }"
    assert page.open().tab.evaluate(give, list(expected)) == list(expected.values())


@pytest.mark.parametrize("options", [RUSSIAN], ids=["ru"])
def test_the_browser_s_language_is_taken(page: Any) -> None:
    page.open()
    expect(page.tab.locator("html")).to_have_attribute("lang", "ru")
    expect(page.tab.get_by_role("heading", level=1)).to_have_text("Один человек или двое?")
    expect(page.tab).to_have_title("faceembed: сравнение лиц")
    assert "Drop" not in page.tab.locator("main").inner_text()


def test_switch_changes_everything_at_once_and_is_remembered(page: Any) -> None:
    page.open().compare("front.jpg", "flipped.jpg", "wall.jpg")
    asked, figure = len(page.posts), page.figure(1, 2)
    page.tab.get_by_role("button", name="Русский").click()
    expect(page.tab.locator("html")).to_have_attribute("lang", "ru")
    expect(page.tab.get_by_role("button", name="Русский")).to_have_attribute("aria-pressed", "true")
    assert page.figure(1, 2) == figure.replace(".", ",")
    expect(page.tab.locator("#results .summary")).to_contain_text("3 пары")
    expect(page.tab.locator(".photo").nth(2)).to_contain_text("Лицо не найдено")
    expect(page.cell(1, 3)).to_have_attribute("aria-label", "Фото 1 и 3: нет лица для сравнения")
    expect(page.tab.locator(".threshold .count")).to_contain_text("из 1 пары")
    left = page.tab.evaluate("""() => [...document.querySelectorAll("main *, header *, dialog *, footer *")]
      .filter((element) => element.children.length === 0 && !element.closest("[lang=en], .clip, figcaption, #model, #threshold-source, .soft.key"))
      .map((element) => element.textContent.trim())
      .filter((text) => /[a-z]{3}/i.test(text) && !/faceembed|API|Ctrl|jpg/.test(text))""")
    assert left == [], "texts that stayed English"
    assert len(page.posts) == asked
    page.open()
    expect(page.tab.get_by_role("heading", level=1)).to_have_text("Один человек или двое?")
    page.tab.get_by_role("button", name="English").click()
    page.open()
    expect(page.tab.locator("html")).to_have_attribute("lang", "en")


@pytest.mark.parametrize("options", [{"color_scheme": "dark"}], ids=["dark"])
def test_colours_of_the_system_and_one_s_own(page: Any) -> None:
    page.open()
    paper = "() => getComputedStyle(document.body).backgroundColor"
    dark = page.tab.evaluate(paper)
    theme = page.tab.locator("#theme")
    expect(theme).to_have_attribute("aria-label", "Colours: as in the system. Change to light")
    theme.click()
    light = page.tab.evaluate(paper)
    bright = [sum(map(int, re.findall(r"\d+", colour))) for colour in (light, dark)]
    assert bright[0] > 600 and bright[1] < 150
    page.open()
    assert page.tab.evaluate(paper) == light, "it is remembered"
    theme.click()
    assert page.tab.evaluate(paper) == dark
    page.tab.emulate_media(color_scheme="light")
    assert page.tab.evaluate(paper) == dark, "one's own choice overrules the system"
    theme.click()
    assert page.tab.evaluate(paper) == light


def test_files_hold_nothing_inline_and_nothing_foreign() -> None:
    """What the security policy would refuse, and what would need a network."""
    for path in sorted(Path(STATIC).iterdir()):
        text = path.read_text()
        assert "innerHTML" not in text and "insertAdjacentHTML" not in text and "document.write" not in text, path
        assert not re.search(r"""(src|href)=["']?(https?:)?//|url\(|@import|from ["']https?:""", text), path
        if path.suffix == ".html":
            assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)", text), path
