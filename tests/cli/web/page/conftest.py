"""What the tests of the page share: a real `faceembed serve`, a real headless Chromium, photos, and ways to hand them over.

The browser is Debian's (`apt-get install chromium`), or what FACEEMBED_CHROMIUM names; where that variable is set, a browser that
is missing is a failure.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray
from playwright import sync_api as playwright

from faceembed.cli.main import main

HOSTILE = "<img src=x onerror='window.hacked=1'>&amp;\"><script>window.hacked=1<!--.jpg".replace("/", "")
MODELS = ("--encoder", "dlib-resnet", "--aligner", "mtcnn", "--precision", "fp32")  # whatever the defaults become
DROP = """async ({ photos, target }) => {
  const carried = new DataTransfer();
  for (const { name, type, data } of photos) {
    const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
    carried.items.add(new File([bytes], name, { type }));
  }
  if (target === "paste") {
    window.dispatchEvent(new ClipboardEvent("paste", { clipboardData: carried, bubbles: true, cancelable: true }));
    return;
  }
  const element = document.querySelector(target);
  for (const kind of ["dragenter", "dragover", "drop"]) {
    const event = new DragEvent(kind, { dataTransfer: carried, bubbles: true, cancelable: true });
    element.dispatchEvent(event);
    if (kind !== "dragenter" && !event.defaultPrevented) throw new Error(`${kind} would leave the page`);
  }
}"""

# Chromium does not tell what an upload holds: the names and fields of each form are noted before it is sent.
NOTE_FORMS = """window.sent = [];
const send = window.fetch;
window.fetch = (path, options) => {
  if (options.body) window.sent.push([...options.body].map(([key, value]) => [key, value instanceof File ? value.name : value]));
  return send(path, options);
};"""


@pytest.fixture(scope="session")
def faces(tmp_path_factory: pytest.TempPathFactory, astronaut: NDArray[np.uint8]) -> dict[str, Path]:
    """Photos: two of the astronaut, one with her twice, one without a face, one that is a text, one with a hostile name."""
    folder = tmp_path_factory.mktemp("photos")
    head = astronaut[:256, 96:352]
    flipped = np.clip(head[:, ::-1].astype(np.int16) - 40, 0, 255).astype(np.uint8)
    small = cv2.resize(flipped, (160, 160), interpolation=cv2.INTER_AREA)
    both = np.full((256, 440, 3), 90, np.uint8)
    both[:, :256], both[40:200, 270:430] = head, small
    pictures = {
        "front.jpg": head,
        "flipped.jpg": flipped,
        "both.jpg": both,
        "wall.jpg": np.full((240, 320, 3), 140, np.uint8),
    }
    pictures[HOSTILE] = cv2.resize(head, (200, 200), interpolation=cv2.INTER_AREA)
    for name, pixels in pictures.items():
        cv2.imwrite(str(folder / name), cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 95])
    (folder / "text.jpg").write_text("no picture\n" * 20)
    (folder / "notes.txt").write_text("no picture")
    cv2.imwrite(str(folder / "front.tif"), cv2.cvtColor(both, cv2.COLOR_RGB2BGR))
    return {path.name: path for path in folder.iterdir()}


def _serve(path: Path, option: str, start: Callable[..., subprocess.Popen[str]]) -> Iterator[str]:
    server = start("serve", *MODELS, "--port", "0", "--rate-limit", "0", option, path, "--json")
    try:
        assert server.stdout is not None and server.stderr is not None
        line = server.stdout.readline()
        assert line, server.stderr.read()
        yield json.loads(line)["url"]
    finally:
        server.terminate()
        server.communicate(timeout=30)


@pytest.fixture(scope="session")
def make_server(start: Callable[..., subprocess.Popen[str]]) -> Callable[..., Iterator[str]]:
    """Start `faceembed serve` with an index, or with what another option names: a generator of its address."""
    return lambda path, option="--index": _serve(path, option, start)


@pytest.fixture(scope="session")
def start() -> Callable[..., subprocess.Popen[str]]:
    """A command in a process of its own."""

    def begin(*args: str | Path) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "faceembed", *map(os.fspath, args)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    return begin


@pytest.fixture(scope="session")
def embed(home: Path) -> Callable[[Path, Path], Path]:
    """Make an index of a folder."""

    def make(folder: Path, index: Path) -> Path:
        result = CliRunner().invoke(main, ["embed", str(folder), "-o", str(index), *MODELS, "-q"])
        assert result.exit_code == 0, result.output
        return index

    return make


@pytest.fixture(scope="session")
def server(
    faces: dict[str, Path],
    tmp_path_factory: pytest.TempPathFactory,
    embed: Callable[[Path, Path], Path],
    make_server: Callable[[Path], Iterator[str]],
) -> Iterator[str]:
    """The address of a real server, whose index holds the photos with a face."""
    folder = tmp_path_factory.mktemp("indexed")
    for name in ("front.jpg", "flipped.jpg", HOSTILE):
        shutil.copy(faces[name], folder / name)
    yield from make_server(embed(folder, tmp_path_factory.mktemp("index") / "faces.faiss"))


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory, faces: dict[str, Path]) -> Iterator[Any]:
    """Chromium, whose camera shows the astronaut. One for a module: its event loop must not be there for other tests."""
    chosen = os.environ.get("FACEEMBED_CHROMIUM")
    program = chosen or shutil.which("chromium") or shutil.which("google-chrome")
    if not program:
        pytest.skip("no chromium here: apt-get install chromium, or set FACEEMBED_CHROMIUM")
    film = tmp_path_factory.mktemp("camera") / "film.mjpeg"
    film.write_bytes(faces["front.jpg"].read_bytes() * 2)
    flags = [
        "--use-fake-device-for-media-stream",
        "--use-fake-ui-for-media-stream",
        f"--use-file-for-fake-video-capture={film}",
    ]
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=program, args=flags)
        yield opened
        opened.close()


class Page:
    """A tab of the browser on the server's page, and the things that a user does there."""

    def __init__(self, tab: Any, url: str, faces: dict[str, Path]) -> None:
        self.tab, self.url, self.faces = tab, url, faces
        self.problems: list[str] = []
        self.posts: list[str] = []
        tab.add_init_script(NOTE_FORMS)
        tab.on("pageerror", lambda error: self.problems.append(str(error)))
        tab.on("console", self._heard)
        tab.on("filechooser", lambda chooser: None)  # a test that listens later may come after the dialog has opened
        tab.on("dialog", lambda dialog: self.problems.append(f"dialog: {dialog.message}"))
        tab.on("request", lambda request: self.posts.append(request.url) if request.method == "POST" else None)

    def _heard(self, message: Any) -> None:
        if message.type == "error" and not message.text.startswith("Failed to load resource"):
            self.problems.append(message.text)

    def open(self, fragment: str = "") -> Page:
        """Go to the page; returns when the server has told what it is."""
        self.tab.goto(f"{self.url}/{fragment}")
        self.tab.locator("#model:not(:empty)").wait_for(state="attached")
        return self

    def give(self, *names: str, to: str = "main", types: dict[str, str] | None = None) -> None:
        """Drop photos on an element, or paste them (``to="paste"``)."""
        photos = [
            {
                "name": name,
                "type": (types or {}).get(name, "text/plain" if name.endswith(".txt") else "image/jpeg"),
                "data": base64.b64encode(self.faces[name].read_bytes()).decode(),
            }
            for name in names
        ]
        self.tab.evaluate(DROP, {"photos": photos, "target": to})

    def settle(self) -> None:
        """Wait until what was given is compared or searched."""
        self.tab.wait_for_function("() => !document.querySelector('[aria-busy=true]')", timeout=60_000)

    def compare(self, *names: str) -> None:
        """Drop photos and wait for their table."""
        self.give(*names)
        self.tab.locator("#results").wait_for(timeout=60_000)
        self.settle()

    def cell(self, row: int, column: int) -> Any:
        """The button of a cell of the table, rows and columns from 1."""
        return self.tab.locator(f".matrix tbody tr:nth-child({row}) > :nth-child({column + 1}) button")

    def figure(self, row: int, column: int) -> str:
        """What a cell says."""
        return str(self.cell(row, column).locator(".figure").inner_text())

    def sent(self) -> list[list[str]]:
        """Fields and values of the last form that was sent; of a photo, its name."""
        return list(self.tab.evaluate("() => window.sent.at(-1)"))

    def focused(self, what: str = "id") -> Any:
        """A property of the element that has the focus."""
        return self.tab.evaluate(f"() => document.activeElement.{what}")


@pytest.fixture
def options() -> dict[str, Any]:
    """What the browser is told about its user; a test may have its own."""
    return {}


@pytest.fixture
def page(browser: Any, server: str, faces: dict[str, Path], options: dict[str, Any]) -> Iterator[Page]:
    """A tab without a past. Whatever the test does, no script may fail and nothing may break the security policy."""
    chosen = {"locale": "en-GB", "viewport": {"width": 1280, "height": 900}, "permissions": ["camera"], **options}
    context = browser.new_context(**chosen)
    context.set_default_timeout(15_000)
    opened = Page(context.new_page(), server, faces)
    yield opened
    assert opened.problems == []
    assert opened.tab.evaluate("() => window.hacked") is None
    context.close()


@pytest.fixture(scope="session")
def hostile() -> str:
    """A file name that would run a script if it were taken for HTML."""
    return HOSTILE
