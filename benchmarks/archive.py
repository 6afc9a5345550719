"""A made archive of what people's folders really hold, and whether `embed` accounts for every file of it.

    python benchmarks/archive.py                       # 2,000 files of LFW's photos, with --pages and --fps 1
    python benchmarks/archive.py --files 200 --keep /tmp/archive

A file is one on disk, a member of an archive, a further page of a TIFF, or a frame of a video; an archive that can be read is no file
itself. Each is to be a photo with faces, a row of the errors file, left out by a rule and counted, or no photo and counted:
``rows + faces + excluded + ignored = files``, or the exit code is 1. The photos are LFW's (FACEEMBED_DATA). The last line is one JSON document.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import random
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import common
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

SHARES = {
    # of all files, in thousandths; what is left are plain JPEGs in folders by year
    "tar": 150,
    "zip": 75,
    "parquet": 75,
    "turned": 50,
    "formats": 75,
    "orientations": 50,
    "pages": 20,
    "video": 15,
    "system": 120,
    "damaged": 60,
    "others": 60,
}


class Archive:
    """Puts files below a folder and counts them by what they are.

    Args:
        folder: where they go.
        photos: LFW's, endless.
    """

    def __init__(self, folder: Path, photos: Iterator[bytes]) -> None:
        self.folder = folder
        self.files: dict[str, int] = dict.fromkeys(("plain", *SHARES), 0)
        self._photos = photos

    def put(self, kind: str, name: str, data: bytes, *, count: int = 1) -> None:
        """A file, which stands for ``count`` of them."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        self.files[kind] += count

    def photo(self) -> bytes:
        """The next photo, a JPEG."""
        return next(self._photos)

    def picture(self) -> Image.Image:
        """The next photo's pixels."""
        return Image.open(io.BytesIO(self.photo())).convert("RGB")

    def tar(self, count: int) -> None:
        """WebDataset's shards: keys from 0 in each, a label beside each photo, and one that ends in the middle."""
        for shard in range(3):
            data = io.BytesIO()
            with tarfile.open(fileobj=data, mode="w") as out:
                for key in range(count // 6):
                    for name, content in ((f"{key:06d}.jpg", self.photo()), (f"{key:06d}.json", b"{}")):
                        info = tarfile.TarInfo(name)
                        info.size = len(content)
                        out.addfile(info, io.BytesIO(content))
            self.put("tar", f"shards/{shard:03d}.tar", data.getvalue(), count=count // 6 * 2)
        self.put("tar", "shards/cut.tar", data.getvalue()[:2000], count=2)  # its first photo, and that it is cut off

    def zip(self, count: int) -> None:
        """A Mac's zip, with what that adds; and one that is none."""
        data = io.BytesIO()
        with zipfile.ZipFile(data, "w") as out:
            for number in range(count // 2):
                out.writestr(f"trip/{number:04d}.jpg", self.photo())
                out.writestr(f"__MACOSX/trip/._{number:04d}.jpg", b"\0\5\x16\7")
        self.put("zip", "trip.zip", data.getvalue(), count=count // 2 * 2)
        self.put("zip", "cut.zip", data.getvalue()[: len(data.getvalue()) // 2])

    def parquet(self, count: int) -> None:
        """As Hugging Face has it."""
        values = [{"bytes": self.photo(), "path": f"{number}.jpg"} for number in range(count)]
        data = io.BytesIO()
        pq.write_table(pa.table({"image": values, "label": list(range(count))}), data, row_group_size=100)
        self.put("parquet", "train.parquet", data.getvalue(), count=count)

    def turned(self, count: int) -> None:
        """Faces on their side or head, and nothing that says so."""
        for number in range(count):
            pixels = np.rot90(np.asarray(self.picture()), 1 + number % 3)
            self.put("turned", f"scans/{number:04d}.jpg", _saved(Image.fromarray(pixels), "JPEG"))

    def formats(self, count: int) -> None:
        """All that is written here; HEIC and JPEG XL where they are installed."""
        ways: list[Callable[[Image.Image], tuple[str, bytes]]] = [
            lambda i: ("png", _saved(i, "PNG")),
            lambda i: ("webp", _saved(i, "WEBP")),
            lambda i: ("bmp", _saved(i, "BMP")),
            lambda i: ("gif", _saved(i, "GIF")),
            lambda i: ("jp2", _saved(i, "JPEG2000")),
            lambda i: ("avif", _saved(i, "AVIF")),
            lambda i: ("tif", _saved(i, "TIFF", compression="tiff_lzw")),
            lambda i: ("jpg", _saved(i.convert("CMYK"), "JPEG")),
            lambda i: ("jpg", _saved(i.convert("L"), "JPEG")),
            lambda i: ("dat", _saved(i, "PNG")),
        ]
        for number in range(count):
            ending, data = ways[number % len(ways)](self.picture())
            self.put("formats", f"formats/{number:04d}.{ending}", data)

    def orientations(self, count: int) -> None:
        """JPEGs whose EXIF data say how they are to be turned."""
        turns = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}
        for number in range(count):
            orientation, exif = (3, 6, 8)[number % 3], Image.Exif()
            exif[274] = orientation
            data = _saved(self.picture().transpose(turns[orientation]), "JPEG", exif=exif)
            self.put("orientations", f"phone/{number:04d}.JPG", data)

    def pages(self, count: int) -> None:
        """Scans of four pages."""
        for number in range(count // 4):
            first, *others = (self.picture() for _ in range(4))
            data = _saved(first, "TIFF", save_all=True, append_images=others)
            self.put("pages", f"scans/{number:04d}.tiff", data, count=4)

    def video(self, count: int) -> None:
        """So many seconds, a photo each."""
        import av

        path = self.folder / "party.mp4"
        with av.open(str(path), "w") as container:
            stream = container.add_stream("mpeg4", rate=5)
            stream.width = stream.height = 250
            stream.pix_fmt = "yuv420p"
            for _ in range(count):
                frame = av.VideoFrame.from_ndarray(np.asarray(self.picture()), format="rgb24")
                for packet in [packet for _ in range(5) for packet in stream.encode(frame)]:
                    container.mux(packet)
            for packet in stream.encode():
                container.mux(packet)
        self.files["video"] += count

    def system(self, count: int) -> None:
        """What a NAS, a Mac and Android keep beside photos."""
        folders = ("@eaDir/a.jpg", "#recycle", ".thumbnails", ".stversions", "Lib.photoslibrary/resources", "hidden")
        self.put("system", "hidden/.nomedia", b"")
        for number in range(count - 1):
            if number % 7 == 6:
                self.put("system", f"2019/._{number:04d}.jpg", b"\0\5\x16\7 no picture")
            else:
                self.put("system", f"{folders[number % 7]}/{number:04d}.jpg", self.photo())

    def damaged(self, count: int) -> None:
        """Cut off, empty, text, zeros, too small for a face."""
        for number in range(count):
            photo = self.photo()
            data = (photo[: len(photo) // 2], b"", b"<html>no photo</html>", bytes(5000), photo[:20])[number % 5]
            self.put("damaged", f"2020/bad{number:04d}.jpg", data)

    def others(self, count: int) -> None:
        """No photos at all, and archives that are not looked into."""
        for number in range(count):
            ending = ("txt", "pdf", "xmp", "db", "mp3")[number % 5]
            self.put("others", f"2021/{number:04d}.{ending}", b"some bytes that are no picture")
        self.put("others", "old.tar.gz", b"\x1f\x8b no more")


def _saved(image: Image.Image, format: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, format, **options)
    return out.getvalue()


def _lfw(seed: int) -> Iterator[bytes]:
    root = common.data_root() / "lfw"
    paths = common.list_photos(root)
    random.Random(seed).shuffle(paths)
    while True:
        for path in paths:
            yield (root / path).read_bytes()


def make(folder: Path, files: int, seed: int) -> dict[str, int]:
    """Fill a folder; how many files of each kind there are."""
    archive = Archive(folder, _lfw(seed))
    for kind, share in SHARES.items():
        getattr(archive, kind)(files * share // 1000)
    for number in range(files - sum(archive.files.values())):
        archive.put("plain", f"{2000 + number % 19}/{number:05d}.jpg", archive.photo())
    return archive.files


def account(folder: Path, index: Path, options: list[str]) -> dict[str, Any]:
    """Embed it, and count what became of the files."""
    command = [sys.executable, "-m", "faceembed", "embed", str(folder), "-o", str(index), "--json", *options]
    started = time.perf_counter()
    run = subprocess.run(command, check=True, capture_output=True, text=True)
    seconds = time.perf_counter() - started
    report = json.loads(run.stdout)
    faces = len(set(pq.read_table(index.with_suffix(".faiss.parquet"), columns=["path"]).column("path").to_pylist()))
    with open(f"{index}.errors.csv", encoding="utf-8", newline="") as file:
        stages = [row["stage"] for row in csv.DictReader(file)]
    bare = [line for line in run.stderr.splitlines() if line.startswith(("Corrupt JPEG", "Premature end", "libpng"))]
    return {
        "faces": faces,
        "rows": {stage: stages.count(stage) for stage in sorted(set(stages))},
        "excluded": report["excluded"],
        "ignored": report["ignored"],
        "accounted": faces + len(stages) + sum(report["excluded"].values()) + sum(report["ignored"].values()),
        "lines_of_libraries": len(bare),
        "seconds": round(seconds, 1),
    }


def main() -> int:
    """Make it, embed it, add it up."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="make the archive there and leave it")
    parser.add_argument("options", nargs="*", help="for embed, after --")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="archive-") as own:
        folder = given.keep or Path(own) / "archive"
        made = make(folder, given.files, given.seed)
        found = account(folder, Path(own) / "archive.faiss", ["--pages", "--fps", "1", *given.options])
    files = sum(made.values())
    rows = sum(found["rows"].values())
    print(
        f"{files} files = {found['faces']} with faces + {rows} rows + {sum(found['excluded'].values())} left out + "
        f"{sum(found['ignored'].values())} no photos; {found['lines_of_libraries']} bare lines of libraries"
    )
    print(json.dumps({"files": files, "made": made, **found, "seed": given.seed}))
    return 0 if found["accounted"] == files else 1


if __name__ == "__main__":
    sys.exit(main())
