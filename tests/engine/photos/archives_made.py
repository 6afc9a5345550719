"""Archives of made pictures."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq


def png(seed: int, side: int = 24) -> bytes:
    """A square picture that is like no other."""
    blocks = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), np.uint8)
    return cv2.imencode(".png", cv2.resize(blocks, (side, side), interpolation=cv2.INTER_NEAREST))[1].tobytes()


Files = Mapping[str, bytes] | Sequence[tuple[str, bytes]]


def pairs_of(files: Files) -> Sequence[tuple[str, bytes]]:
    return list(files.items()) if isinstance(files, Mapping) else files


def make_tar(path: Path, files: Files, *, format: int = tarfile.PAX_FORMAT) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=format) as tar:
        for name, data in pairs_of(files):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def make_zip(path: Path, files: Files, *, compression: int = zipfile.ZIP_DEFLATED) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in pairs_of(files):
            archive.writestr(zipfile.ZipInfo(name), data, compression)
    return path


def make_parquet(path: Path, columns: Mapping[str, Any], *, rows: int = 5) -> Path:
    """With so many rows in a group, and pages of few of them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(dict(columns)), path, row_group_size=rows, write_batch_size=4, data_page_size=1 << 20)
    return path


def structs(photos: Sequence[bytes | None], paths: Sequence[str | None] | None = None) -> pa.Array:
    """A column as Hugging Face's `datasets` writes it."""
    paths = paths or [f"{number}.png" for number in range(len(photos))]
    values = [{"bytes": data, "path": path} for data, path in zip(photos, paths, strict=True)]
    return pa.array(values, pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
