"""A crop set: aligned faces on disk, with whom they show and where they came from.

    crops.parquet           one row a crop
    crops.json              the template, size and models that made them
    errors.csv              photos without a crop, and why
    <person>/<name>.jpg     the crops: RGB, JPEG of quality 95 without chroma subsampling, or PNG

`data align` writes it; training reads it through `read_crops`. What is not known here: how a crop is cut.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from faceembed.engine.models.spec import Points
from faceembed.engine.photos.photo_file import decode_path, encode_path
from faceembed.engine.photos.rows import read_parquet
from faceembed.errors import DataError, IndexFormatError
from faceembed.files import atomic_write
from faceembed.trainer.data.samples import CROPS_FILE, Sample

Format = Literal["jpg", "png"]
VERSION = 1
INFO_FILE = "crops.json"
ERRORS_FILE = "errors.csv"
CROP_SCHEMA = pa.schema(
    [
        ("crop", pa.string()),  # relative path, through `encode_path` like every path and person here
        ("photo", pa.string()),  # the file it was cut from
        ("person", pa.string()),
        ("fake", pa.bool_()),
        ("method", pa.string()),
        ("other", pa.string()),
        ("score", pa.float32()),  # of the detection
        (
            "landmarks",
            pa.list_(pa.float32(), 10),
        ),  # x, y of the five points, continuous pixels of the full upright photo
        ("width", pa.int32()),  # of the photo
        ("height", pa.int32()),
        ("size", pa.int64()),  # of the photo's file, bytes
        ("mtime_ns", pa.int64()),
    ]
)


@dataclasses.dataclass(frozen=True, slots=True)
class Crop:
    """One row of a crop set."""

    crop: str
    """The file, relative to the set's folder."""
    photo: str
    """The file it was cut from."""
    person: str
    fake: bool = False
    method: str = ""
    other: str = ""
    score: float = 1.0
    landmarks: tuple[float, ...] = (0.0,) * 10
    width: int = 0
    height: int = 0
    size: int = 0
    mtime_ns: int = 0


@dataclasses.dataclass(frozen=True)
class CropInfo:
    """What made a crop set: crops are of one kind only if all of this but the encoder's name is equal."""

    encoder: str
    """The encoder that they were cut for; others of the same template and size take them too."""
    template: Points
    """Where the five landmarks lie in a crop, (x, y) in pixels, pixel centres at whole numbers."""
    height: int
    width: int
    aligner: str = "none"
    aligner_sha256: str = ""
    min_face: int = 0
    preprocessing: int = 1
    format: Format = "jpg"
    quality: int = 95
    recompressed: float = 0.0
    """Share of the real photos that were compressed once more before they were cut, as deepfakes are."""
    version: int = VERSION


@dataclasses.dataclass(frozen=True)
class CropSet:
    """A crop set that is on disk."""

    folder: str
    info: CropInfo
    rows: tuple[Crop, ...]
    """Sorted by person, real before fake, and crop."""

    @property
    def height(self) -> int:
        """Of each crop, in pixels."""
        return self.info.height

    @property
    def width(self) -> int:
        """Of each crop, in pixels."""
        return self.info.width

    @property
    def template(self) -> Points:
        """Where the five landmarks lie in each crop."""
        return self.info.template

    @functools.cached_property
    def samples(self) -> tuple[Sample, ...]:
        """The crops, row for row; their ``path`` is the crop's file."""
        return tuple(
            Sample(os.path.join(self.folder, row.crop), row.person, row.fake, row.method, row.other)
            for row in self.rows
        )

    @functools.cached_property
    def photos(self) -> tuple[str, ...]:
        """The photos that the crops were cut from, row for row."""
        return tuple(row.photo for row in self.rows)


def write_crops(folder: str | os.PathLike[str], rows: Iterable[Crop], info: CropInfo) -> None:
    """Write the two files that describe a crop set, each whole or not at all; `write_crop` writes the crops.

    Raises:
        OSError: as writing a file does.
    """
    base = Path(folder)
    with atomic_write(base / INFO_FILE, "w") as file:
        json.dump(dataclasses.asdict(info), file, indent=2)
        file.write("\n")
    with atomic_write(base / CROPS_FILE) as file:  # last: without it the folder is not a crop set
        pq.write_table(to_table(sorted(rows, key=_order)), file)


def read_crops(folder: str | os.PathLike[str]) -> CropSet:
    """Open a crop set.

    Raises:
        DataError: it is not one, or is damaged.
    """
    base = os.path.abspath(os.fspath(folder))
    if not os.path.isfile(os.path.join(base, CROPS_FILE)):
        raise DataError(f"{base} is not a crop set: it has no {CROPS_FILE}; make one with: faceembed data align")
    info = read_info(base)
    try:
        table = read_parquet(
            os.path.join(base, CROPS_FILE), CROP_SCHEMA.names, advice="run data align again with --fresh"
        )
    except IndexFormatError as error:
        raise DataError(str(error)) from error
    return CropSet(base, info, tuple(sorted(from_table(table), key=_order)))


def read_info(folder: str | os.PathLike[str]) -> CropInfo:
    """What made the crop set in a folder.

    Raises:
        DataError: ``crops.json`` is missing, damaged, or of another version.
    """
    path = os.path.join(os.fspath(folder), INFO_FILE)
    try:
        with open(path, encoding="utf-8") as file:
            return info_from(json.load(file), path)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); run data align again with --fresh") from error
    except ValueError as error:
        raise DataError(f"{path} is damaged ({error}); run data align again with --fresh") from error


def info_from(fields: Mapping[str, Any], where: str) -> CropInfo:
    """A `CropInfo` from its fields in JSON.

    Raises:
        DataError: it is damaged, or of another version; the message names ``where``.
    """
    try:
        if fields["version"] != VERSION:
            raise DataError(f"{where} is of version {fields['version']}, this program reads {VERSION}; align again")
        template = tuple((float(x), float(y)) for x, y in fields["template"])
        return CropInfo(**{**fields, "template": template})
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{where} is damaged ({error}); run data align again with --fresh") from error


def write_crop(
    path: str | os.PathLike[str], pixels: NDArray[np.uint8], *, format: Format = "jpg", quality: int = 95
) -> None:
    """Write one crop, whole or not at all.

    Args:
        path: its folder must exist.
        pixels: uint8 RGB (H, W, 3).
        format: ``jpg`` (no chroma subsampling) or ``png``.
        quality: of a JPEG, 1 to 100.

    Raises:
        OSError: as writing a file does.
    """
    with atomic_write(path, sync=False) as file:  # waiting for the disk would take longer than finding the face
        file.write(encode_crop(pixels, format=format, quality=quality))


def encode_crop(pixels: NDArray[np.uint8], *, format: Format, quality: int) -> bytes:
    """A crop as the bytes of its file; arguments as for `write_crop`."""
    options = {
        "jpg": (
            cv2.IMWRITE_JPEG_QUALITY,
            quality,
            cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
            cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
        ),
        "png": (cv2.IMWRITE_PNG_COMPRESSION, 3),
    }
    done, data = cv2.imencode(f".{format}", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), options[format])
    if not done:
        raise RuntimeError(f"OpenCV cannot write {format}")
    return bytes(data)


def to_table(rows: Iterable[Crop]) -> pa.Table:
    """Rows as a table of `CROP_SCHEMA`."""
    columns: dict[str, list[Any]] = {name: [] for name in CROP_SCHEMA.names}
    for row in rows:
        for name in CROP_SCHEMA.names:
            value = getattr(row, name)
            columns[name].append(encode_path(value) if isinstance(value, str) else value)
    arrays = [pa.array(columns[field.name], field.type) for field in CROP_SCHEMA]
    return pa.Table.from_arrays(arrays, schema=CROP_SCHEMA)


def from_table(table: pa.Table) -> list[Crop]:
    """The rows that `to_table` wrote."""
    columns = [table.column(name).to_pylist() for name in CROP_SCHEMA.names]
    rows = (dict(zip(CROP_SCHEMA.names, values, strict=True)) for values in zip(*columns, strict=True))
    return [Crop(**{name: _decoded(value) for name, value in row.items()}) for row in rows]


def _decoded(value: Any) -> Any:
    if isinstance(value, str):
        return decode_path(value)
    return tuple(value) if isinstance(value, list) else value


def _order(row: Crop) -> tuple[str, bool, str]:
    return (row.person, row.fake, row.crop)
