"""Takes `docs/pictures/page.png`, the picture of the README: the page of `faceembed serve` that compares three photos.

    python docs/site/picture.py        # needs [serve,sample], playwright and Debian's chromium, as the tests of the page do

The photos are NASA's portrait of Eileen Collins (in the public domain; scikit-image ships it), a dark mirrored copy of it, and a drawing
that is made here. Run it again when the page or the default encoder changes.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import sync_playwright

from faceembed.engine.photos.sample import sample_pair

TARGET = Path(__file__).parents[1] / "pictures" / "page.png"
SIDE = 512
OVER = 4  # drawn so many times larger, for smooth edges
HAIR, SKIN, EYE = (20, 22, 28), (110, 150, 205), (30, 50, 70)  # BGR
Colour = tuple[float, float, float]


def drawn_face() -> NDArray[np.uint8]:
    """A face of ellipses, BGR uint8 (512, 512, 3)."""
    canvas = np.full((SIDE * OVER, SIDE * OVER, 3), (225, 232, 238), np.uint8)

    def ellipse(
        x: float, y: float, a: float, b: float, colour: Colour, arc: tuple[int, int, int] = (0, 360, -1)
    ) -> None:
        start, end, line = arc
        scaled = [round(value * OVER) for value in (x, y, a, b)]
        thick = line * OVER if line > 0 else -1
        cv2.ellipse(canvas, scaled[:2], scaled[2:], 0, start, end, colour, thick, cv2.LINE_AA)

    def shade(factor: float) -> Colour:
        blue, green, red = (value * factor for value in SKIN)
        return (blue, green, red)

    ellipse(256, 250, 128, 178, HAIR)
    ellipse(256, 330, 126, 140, HAIR)
    ellipse(256, 520, 190, 120, (120, 90, 60))
    ellipse(256, 400, 52, 70, shade(0.85))
    ellipse(256, 275, 106, 150, SKIN)
    ellipse(256, 165, 104, 62, HAIR)
    for side in (-1, 1):
        x = 256 + side * 41.4
        ellipse(x, 262, 25, 13, (250, 250, 250))
        ellipse(x, 262, 11, 12, EYE)
        ellipse(x, 262, 5, 6, (20, 20, 20))
        ellipse(x - 3, 258, 3, 3, (255, 255, 255))
        ellipse(x, 258, 27, 14, (60, 50, 40), (190, 350, 4))
        ellipse(x, 234, 30, 10, HAIR, (195, 345, 8))
    ellipse(256, 300, 13, 30, shade(0.93))
    ellipse(256, 318, 18, 10, shade(0.85))
    for x in (247, 265):
        ellipse(x, 322, 4, 3, (60, 60, 90))
    ellipse(256, 352, 42, 8, (80, 70, 190))
    ellipse(256, 350, 38, 5, (60, 50, 140))
    small = cv2.resize(canvas, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.GaussianBlur(small, (0, 0), 1.2), np.uint8)


def take(url: str, photos: list[Path], target: Path) -> None:
    """Compare the photos on the page and keep what it shows."""
    program = shutil.which("chromium")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program)
        tab: Any = browser.new_page(viewport={"width": 1000, "height": 700}, locale="en-GB", color_scheme="light")
        tab.goto(url)
        tab.locator("#model:not(:empty)").wait_for(state="attached")
        tab.locator("#files-compare").set_input_files([str(photo) for photo in photos])
        tab.locator("#results").wait_for(timeout=60_000)
        tab.wait_for_function("() => !document.querySelector('[aria-busy=true]')", timeout=60_000)
        tab.wait_for_timeout(500)
        target.parent.mkdir(exist_ok=True)
        end = tab.locator("#results").bounding_box()
        clip = {"x": 0, "y": 0, "width": 1000, "height": end["y"] + end["height"] + 16}
        tab.screenshot(path=str(target), full_page=True, clip=clip)
        browser.close()


def main() -> None:
    """Serve, look, keep."""
    with tempfile.TemporaryDirectory() as folder:
        drawing = Path(folder) / "drawing.png"
        cv2.imwrite(str(drawing), drawn_face())
        command = [sys.executable, "-m", "faceembed", "serve", "--port", "0", "--json", "-q"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout is not None
            try:
                take(json.loads(server.stdout.readline())["url"], [*sample_pair(), drawing], TARGET)
            finally:
                server.terminate()
    picture = Image.open(TARGET).convert("RGB").quantize(256, dither=Image.Dither.FLOYDSTEINBERG)
    picture.save(TARGET, optimize=True)
    print(f"{TARGET}: {picture.width}x{picture.height}, {TARGET.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
