#!/usr/bin/env bash
# LibRaw (rawpy): `extract_thumb` does not give the preview's bytes. Where the preview begins with a JFIF segment, as JPEG libraries write it,
# an EXIF segment with the raw file's orientation is put before it, even if the preview has EXIF data of its own behind: the JPEG then
# has two, which contradict each other where the camera had turned the preview already, and a reader turns an upright picture.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q "rawpy==0.28.0" "tifffile==2025.5.10" "pillow==12.0.0" "numpy==2.2.6"
cat > "$work/try.py" <<'PY'
import io
import struct

import numpy as np
import rawpy
import tifffile
from PIL import Image


def dng(jpeg, orientation):
    """A small DNG: a JPEG preview, and the sensor's numbers in a directory below."""
    out = io.BytesIO()
    tags = [(271, "s", 0, "Test", True), (272, "s", 0, "Camera", True), (274, "H", 1, orientation, True)]
    tags += [(50706, "B", 4, bytes([1, 4, 0, 0]), True), (50708, "s", 0, "Test Camera", True)]
    room = np.zeros((96, 128, 3), np.uint8)
    with tifffile.TiffWriter(out, byteorder="<") as file:
        file.write(room, photometric="rgb", subfiletype=1, subifds=1, extratags=tags, metadata=None, rowsperstrip=96)
        pattern = [(33421, "H", 2, (2, 2), True), (33422, "B", 4, bytes([0, 1, 1, 2]), True)]
        file.write(np.zeros((192, 256), np.uint16), photometric=32803, subfiletype=0, extratags=pattern, metadata=None)
    data = bytearray(out.getvalue())
    (at,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, at)
    for entry in range(at + 2, at + 2 + 12 * count, 12):
        (tag,) = struct.unpack_from("<H", data, entry)
        if tag in (259, 262):
            struct.pack_into("<H", data, entry + 8, {259: 7, 262: 6}[tag])
        elif tag == 273:
            (begin,) = struct.unpack_from("<I", data, entry + 8)
        elif tag == 279:
            struct.pack_into("<I", data, entry + 8, len(jpeg))
    data[begin : begin + len(jpeg)] = jpeg
    return bytes(data)


def segments(jpeg):
    """Names of a JPEG's application segments, with the orientation of those that hold EXIF data."""
    at, found = 2, []
    while jpeg[at + 1] in range(0xE0, 0xF0):
        length = int.from_bytes(jpeg[at + 2 : at + 4], "big")
        body = jpeg[at + 4 : at + 2 + length]
        if body.startswith(b"Exif"):
            exif = Image.Exif()
            exif.load(body)
            found.append(f"EXIF, orientation {exif.get(274)}")
        else:
            found.append(body[:4].decode("ascii", "replace"))
        at += 2 + length
    return found


turned = Image.new("RGB", (96, 128), (200, 120, 40))  # upright already, higher than wide
exif = Image.Exif()
exif[274] = 1
plain = io.BytesIO()
turned.save(plain, "JPEG", quality=60, exif=exif)
jfif = bytes.fromhex("ffe000104a46494600010100000100010000")
own = plain.getvalue()
if not own[2:4] == b"\xff\xe0":
    own = own[:2] + jfif + own[2:]
with rawpy.imread(io.BytesIO(dng(own, 6))) as raw:
    given = bytes(raw.extract_thumb().data)
print(f"rawpy {rawpy.__version__}, LibRaw {rawpy.libraw_version}")
print(f"the preview in the file: {segments(own)}; as extract_thumb gives it: {segments(given)}")
print(f"Pillow reads orientation {Image.open(io.BytesIO(given)).getexif().get(274)} of it")
assert given != own and given.endswith(own[2:]), "the behaviour has changed: the preview is as it was"
assert segments(given)[0] == "EXIF, orientation 6" and "EXIF, orientation 1" in segments(given), "the behaviour has changed"
PY
"$work/venv/bin/python" "$work/try.py"
