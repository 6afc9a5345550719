"""A photo that looks altered, on the page of a server whose encoder says how real faces look."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray
from playwright.sync_api import expect

from faceembed.cli.main import main

PLAIN = ("--precision", "fp32")  # of the default models, which are gated


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory, astronaut: NDArray[np.uint8]) -> dict[str, Path]:
    """A photo, a mirrored one, and a soft one turned by 20 degrees with the nearest pixel, which looks altered."""
    folder = tmp_path_factory.mktemp("looks")
    head = np.ascontiguousarray(astronaut[:256, 96:352, ::-1])
    turn = cv2.getRotationMatrix2D((128, 128), 20, 1)
    soft = cv2.warpAffine(
        cv2.GaussianBlur(head, (0, 0), 2), turn, (256, 256), flags=cv2.INTER_NEAREST, borderMode=cv2.BORDER_REFLECT
    )
    for name, pixels in {"photo.jpg": head, "mirrored.jpg": head[:, ::-1], "altered.jpg": soft}.items():
        cv2.imwrite(str(folder / name), pixels, [cv2.IMWRITE_JPEG_QUALITY, 95])
    return {path.name: path for path in folder.iterdir()}


@pytest.fixture(scope="module")
def address(
    photos: dict[str, Path], tmp_path_factory: pytest.TempPathFactory, start: Callable[..., Any], home: Path
) -> Iterator[str]:
    """A server with an index of the photo and the altered one."""
    folder = tmp_path_factory.mktemp("gated")
    (folder / "photos").mkdir()
    for name in ("photo.jpg", "altered.jpg"):
        shutil.copy(photos[name], folder / "photos" / name)
    index = folder / "faces.faiss"
    result = CliRunner().invoke(main, ["embed", str(folder / "photos"), "-o", str(index), *PLAIN, "-q"])
    assert result.exit_code == 0, result.output
    server = start("serve", *PLAIN, "--port", "0", "--rate-limit", "0", "--index", index, "--json")
    try:
        line = server.stdout.readline()
        assert line, server.stderr.read()
        yield json.loads(line)["url"]
    finally:
        server.terminate()
        server.communicate(timeout=30)


@pytest.fixture
def gated(page: Any, address: str, photos: dict[str, Path]) -> Any:
    """A tab on that server."""
    page.url, page.faces = address, photos
    return page


def test_compared(gated: Any) -> None:
    gated.open().compare("photo.jpg", "mirrored.jpg", "altered.jpg")
    cards = gated.tab.locator(".photo")
    expect(cards.nth(0).locator(".real")).to_contain_text("Looks real (")
    expect(cards.nth(2).locator(".real.altered")).to_contain_text("Looks altered (0.")
    expect(gated.tab.locator("#results .summary")).to_contain_text("1 photo looks altered")
    expect(gated.tab.locator(".matrix thead .mark")).to_have_count(1)
    expect(gated.tab.locator(".matrix .apart")).to_have_count(4)  # two pairs, above and below the diagonal
    said = gated.cell(1, 3).get_attribute("aria-label")
    assert "different, or a deepfake. The same person by identity (0.9" in said
    assert "but photo 3 looks altered (0." in said
    assert float(gated.cell(1, 3).locator(".sign").inner_text()) > 0.906 > float(gated.figure(1, 3))
    assert "identity" not in gated.cell(1, 2).get_attribute("aria-label")
    gated.cell(1, 3).click()
    pair = gated.tab.locator(".pair")
    expect(pair.locator(".alike")).to_contain_text("By identity alone: 0.9")
    expect(pair.locator(".strangers")).to_have_text(
        "More than one in 100 strangers is as alike. One person with a probability of 0.0 %, at even odds."
    )
    expect(pair.locator(".fake")).to_contain_text("but photo 3 looks altered (0.")
    gated.tab.locator(".threshold input[type=number]").fill("0.1")  # now they are one person all the same
    expect(gated.tab.locator(".matrix .apart")).to_have_count(0)
    expect(pair.locator(".fake")).to_have_count(0)


def test_searched(gated: Any) -> None:
    gated.open("#search").give("mirrored.jpg")
    hits = gated.tab.locator(".hit")
    expect(hits).to_have_count(2, timeout=60_000)
    expect(hits.nth(0)).to_contain_text("photo.jpg")
    expect(hits.nth(0).locator(".alike")).to_contain_text("By identity alone: 0.9")
    expect(hits.nth(0).locator(".real")).to_contain_text("Looks real (")
    expect(hits.nth(1)).to_contain_text("altered.jpg")
    expect(hits.nth(1).locator(".fake")).to_contain_text("The same person by identity (0.9")
    expect(hits.nth(1).locator(".fake")).to_contain_text("but this one looks altered (0.")
    gated.give("altered.jpg")
    expect(gated.tab.locator("#found .photo .real.altered")).to_contain_text("Looks altered (0.", timeout=60_000)
    expect(hits.nth(0)).to_contain_text("altered.jpg")
    expect(hits.nth(0).locator(".real.altered")).to_contain_text("Looks altered (0.")
    expect(hits.nth(1).locator(".fake")).to_contain_text("but your photo looks altered.")


@pytest.mark.parametrize("options", [{"locale": "ru-RU"}])
def test_in_russian(gated: Any) -> None:
    gated.open().compare("photo.jpg", "altered.jpg")
    expect(gated.tab.locator(".photo").nth(1)).to_contain_text("Выглядит изменённым (0,")
    expect(gated.tab.locator(".pair .fake")).to_contain_text("но фото 2 выглядит изменённым (0,")
    expect(gated.tab.locator("#results .summary")).to_contain_text("1 фото выглядит изменённым")


def test_the_api_says_the_same(gated: Any, photos: dict[str, Path]) -> None:
    """Of faces, pairs and hits in one shape, and the same figures."""

    def post(route: str, field: str, *names: str) -> Any:
        files = [{"name": name, "mimeType": "image/jpeg", "buffer": photos[name].read_bytes()} for name in names]
        address = f"{gated.url}/api/v1/{route}"
        if len(files) == 1:
            return gated.tab.request.post(address, multipart={field: files[0]}).json()
        return gated.tab.evaluate(
            """async ([address, field, names, files]) => {
              const form = new FormData();
              for (const [number, bytes] of files.entries()) form.append(field, new File([new Uint8Array(bytes)], names[number]));
              return await (await fetch(address, { method: "POST", body: form })).json();
            }""",
            [address, field, list(names), [list(file["buffer"]) for file in files]],
        )

    gated.open()
    faces = [post("embed", "photos", name)["photos"][0]["faces"][0] for name in ("photo.jpg", "altered.jpg")]
    assert [face["altered"] for face in faces] == [False, True]
    assert faces[0]["real"] > 0.9 and faces[1]["real"] < 0.5
    compared = post("compare", "photos", "photo.jpg", "altered.jpg")
    (pair,) = compared["pairs"]
    found = post("search", "photo", "photo.jpg")
    hit = next(one for one in found["hits"] if one["path"] == "altered.jpg")
    assert [photo["faces"][0]["altered"] for photo in compared["photos"]] == [False, True]
    assert (found["face"]["altered"], hit["altered"]) == (False, True)
    assert {"similarity", "identity", "same", "verdict"} <= pair.keys() & hit.keys()
    assert (pair["same"], pair["verdict"]) == (hit["same"], hit["verdict"]) == (False, "different")
    assert min(pair["identity"], hit["identity"]) > 0.906 > max(pair["similarity"], hit["similarity"])
    # the index holds the largest face by a single look, the server looks at every face twice
    assert hit["identity"] == pytest.approx(pair["identity"], abs=0.02)
