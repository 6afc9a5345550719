"""Does the map of `faceembed project` stay fluid? Frame times in headless Chromium while it is zoomed and moved.

    python benchmarks/projection.py                    # 100,000 faces, about a minute
    python benchmarks/projection.py --faces 500000 --scale-factor 2

What bounds it. The page draws with the processor alone: it writes each point's pixels into the canvas. Every face is drawn in
every frame here; with a part of the map on the stage it is less.

How. A page of made-up places in 250 groups with 1,000 thumbnails. `draw` is the page's own time for a frame, measured over 100
frames of a slow zoom into the middle, as wall time and as processor time of the page's process, which a busy machine does not
lengthen; `frame` is the time between two frames that the browser showed while the mouse wheel turned, which
contains the browser's own work, and on a busy machine everybody else's.

Not measured: other browsers, and graphics cards, which have nothing to do here.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import common
import cv2
import numpy as np
from common import BenchmarkError

from faceembed.engine.report.project import Grouping, make_sprites, write_project_html

GROUPS, THUMBNAILS, FRAMES = 250, 1000, 100
STAGE = {"width": 1600, "height": 1000}

_DRAW = """(frames) => { const times = []; for (let i = 0; i < frames; i++) { faceMap.view.zoom *= 1.01;
  const start = performance.now(); faceMap.draw(); times.push(performance.now() - start); }
  faceMap.view.zoom = 1; faceMap.draw(); return times; }"""
_WATCH = """() => { window.frames_ = []; let last = performance.now();
  const tick = (now) => { window.frames_.push(now - last); last = now; if (window.frames_.length < 400) requestAnimationFrame(tick); };
  requestAnimationFrame(tick); }"""


def write_map(path: Path, faces: int) -> None:
    """A page of made-up places: groups as t-SNE draws them."""
    rng = np.random.default_rng(0)
    group = rng.integers(GROUPS, size=faces)
    places = rng.random((GROUPS, 2))[group] * 0.9 + 0.05 + 0.012 * rng.normal(size=(faces, 2))
    tile = cv2.imencode(".jpg", rng.integers(0, 255, (96, 96, 3)).astype(np.uint8))[1].tobytes()
    sprites = make_sprites(range(min(THUMBNAILS, faces)), lambda row: tile)
    paths = [f"/photos/person {number:04d}/IMG_{row:06d}.jpg" for row, number in enumerate(group.tolist())]
    labels = Grouping("cluster", tuple(f"person {number}" for number in group.tolist()))
    places = np.clip(places, 0, 1).astype(np.float32)
    write_project_html(path, places, paths, [labels], sprites, title="Frames", method="tsne")


def quantiles(values: Sequence[float]) -> dict[str, float]:
    """Median, 95th percentile and the longest, milliseconds."""
    found = np.quantile(np.array(values), [0.5, 0.95, 1.0]).round(2).tolist()
    return dict(zip(("median", "p95", "longest"), found, strict=True))


def renderer_seconds(session: Any) -> float:
    """Processor time that the browser's page processes have used."""
    processes = session.send("SystemInfo.getProcessInfo")["processInfo"]
    return float(sum(process["cpuTime"] for process in processes if process["type"] == "renderer"))


def run(args: argparse.Namespace) -> dict[str, Any]:
    from playwright.sync_api import sync_playwright

    chromium = shutil.which(args.chromium)
    if chromium is None:
        raise BenchmarkError(f"no '{args.chromium}' on this machine; install Debian's chromium")
    with tempfile.TemporaryDirectory(prefix="faceembed-projection-") as folder, sync_playwright() as playwright:
        path = Path(folder) / "map.html"
        started = time.perf_counter()
        write_map(path, args.faces)
        written = time.perf_counter() - started
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport=STAGE, device_scale_factor=args.scale_factor)
        started = time.perf_counter()
        page.goto(path.as_uri(), timeout=300_000)
        page.wait_for_function("window.faceMap !== undefined", timeout=300_000)
        opened = time.perf_counter() - started
        session = browser.new_browser_cdp_session()
        before = renderer_seconds(session)
        draw = page.evaluate(_DRAW, FRAMES)
        draw_cpu_ms = 1000 * (renderer_seconds(session) - before) / FRAMES
        page.evaluate(_WATCH)
        page.mouse.move(STAGE["width"] / 3, STAGE["height"] / 2)
        for turn in range(FRAMES):
            page.mouse.wheel(0, -40 if turn % 50 < 25 else 40)
        frames = page.evaluate("window.frames_.slice(1)")
        page.fill("#search", "person 0042")
        found = page.locator("#found").inner_text()
        version = browser.version
        browser.close()
        size = path.stat().st_size
    return {
        "what": "projection",
        "machine": common.machine(),
        "browser": f"Chromium {version}",
        "faces": args.faces,
        "stage": {**STAGE, "scale_factor": args.scale_factor},
        "page_bytes": size,
        "write_seconds": written,
        "open_seconds": opened,
        "draw_ms": quantiles(draw),
        "draw_cpu_ms": draw_cpu_ms,
        "frame_ms": quantiles(frames),
        "frames": len(frames),
        "search": found,
    }


def report(document: dict[str, Any]) -> str:
    """The table."""
    rows = [(name, *(f"{document[key][q]:.1f}" for q in ("median", "p95", "longest"))) for name, key in _ROWS]
    head = f"{document['faces']:,} faces, {document['page_bytes'] / 1e6:.1f} MB, opened in {document['open_seconds']:.1f} s"
    head += f", {document['draw_cpu_ms']:.1f} ms of processor a drawing"
    return head + "\n" + common.table(("ms", "median", "p95", "longest"), rows)


_ROWS = (("draw", "draw_ms"), ("frame", "frame_ms"))


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Does the map stay fluid?")
    parser.add_argument("--faces", type=int, default=100_000, help="on the map (default 100,000)")
    parser.add_argument("--scale-factor", type=float, default=1.0, help="device pixels per CSS pixel (default 1)")
    parser.add_argument("--chromium", default="chromium", help="the browser (default chromium)")
    parser.add_argument("--json", type=Path, help="also write the result here")
    args = parser.parse_args(arguments)
    if args.faces < 3:
        parser.error("--faces must be 3 or more")
    return args


def main(arguments: Sequence[str] | None = None) -> None:
    common.run_and_report(parse(arguments), run, report)


if __name__ == "__main__":
    main()
