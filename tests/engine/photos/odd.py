"""Writers of pictures that no library at hand writes, or not so: TIFFs of any samples, BMPs with masks, lossless JPEGs, and more.

Each is a few lines of its format's specification, so that what goes in is known without any decoder.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Array = NDArray[Any]
_TIFF_KINDS = {"u": 1, "i": 2, "f": 3}


def encoded(pixels: Array | Image.Image, kind: str, **options: Any) -> bytes:
    """A file as Pillow writes it."""
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def packed(samples: Array, bits: int) -> bytes:
    """Rows of samples of less than 16 bits each, the first in the highest bits, every row from a whole byte on."""
    rows = samples.reshape(samples.shape[0], -1).astype(">u2")
    each = np.unpackbits(rows.view(np.uint8).reshape(*rows.shape, 2), axis=2)[:, :, 16 - bits :]
    return np.packbits(each.reshape(len(rows), -1), axis=1).tobytes()


def page(
    samples: Array, *, planar: bool = False, bits: int = 0, data: bytes | None = None, **tags: Any
) -> dict[int, Any]:
    """The tags of one page of (H, W) or (H, W, C) samples; 273 holds the bytes of its only strip.

    Args:
        samples: of the dtype that is stored.
        planar: colour by colour instead of pixel by pixel.
        bits: of a sample, where it is not the dtype's.
        data: the strip, where it is not the samples as they are.
        tags: further tags by number, as ``t338=(2,)``.
    """
    height, width = samples.shape[:2]
    count = samples.shape[2] if samples.ndim == 3 else 1
    stored = np.ascontiguousarray(samples.transpose(2, 0, 1)) if planar else samples
    strip = (packed(samples, bits) if bits else stored.tobytes()) if data is None else data
    strips = [strip[number * len(strip) // count : (number + 1) * len(strip) // count] for number in range(count)]
    found: dict[int, Any] = {
        256: (width,),
        257: (height,),
        258: (bits or 8 * samples.dtype.itemsize,) * count,
        259: (1,),
        262: (2 if count >= 3 else 1,),
        273: strips if planar else [strip],
        277: (count,),
        278: (height,),
        284: (2 if planar else 1,),
        339: (_TIFF_KINDS[samples.dtype.kind],) * count,
    }
    return found | {int(name[1:]): value for name, value in tags.items()}


def tiff(*pages: Mapping[int, Any], big: bool = False, order: str = "<") -> bytes:
    """A TIFF, or BigTIFF, of some pages; tag 330 holds further pages, which only their parent points to."""
    word, offset_size = ("Q", 8) if big else ("I", 4)
    out = bytearray((b"II" if order == "<" else b"MM") + struct.pack(order + "H", 43 if big else 42))
    out += struct.pack(order + "HHQ", 8, 0, 0) if big else struct.pack(order + "I", 0)

    def put(data: bytes) -> int:
        out.extend(b"\0" * (-len(out) % 8))
        out.extend(data)
        return len(out) - len(data)

    def write(tags: Mapping[int, Any], pointer: int) -> int:
        """A directory that the number at ``pointer`` leads to; where its own pointer to the next one is."""
        values = {tag: value for tag, value in tags.items() if tag not in (273, 330)}
        values[273] = tuple(put(strip) for strip in tags[273])
        values[279] = tuple(len(strip) for strip in tags[273])
        if 330 in tags:
            values[330] = ()
        body = struct.pack(order + ("Q" if big else "H"), len(values))
        entries: list[tuple[int, bytes]] = []
        for tag in sorted(values):
            if tag == 330:
                places = [put(bytes(offset_size)) for _ in tags[330]]
                for child, place in zip(tags[330], places, strict=True):
                    write(child, place)
                values[330] = tuple(struct.unpack_from(order + word, out, place)[0] for place in places)
            kind, letter = (
                (16, "Q")
                if big and tag in (273, 279, 330)
                else (4, "I")
                if tag in (256, 257, 273, 278, 279, 330)
                else (3, "H")
            )
            data = struct.pack(f"{order}{len(values[tag])}{letter}", *values[tag])
            field = data.ljust(offset_size, b"\0") if len(data) <= offset_size else struct.pack(order + word, put(data))
            entries.append((tag, struct.pack(order + "HH" + word, tag, kind, len(values[tag])) + field))
        at = put(body + b"".join(entry for _, entry in entries) + bytes(offset_size))
        struct.pack_into(order + word, out, pointer, at)
        return len(out) - offset_size

    pointer = 8 if big else 4
    for tags in pages:
        pointer = write(tags, pointer)
    return bytes(out)


def bmp(pixels: Array, masks: Sequence[int], *, bits: int = 32, header: int = 40, from_the_top: bool = False) -> bytes:
    """A BMP whose colours lie under bit masks (red, green, blue), behind a header of 40 bytes or inside of one of 108 or 124."""
    height, width = pixels.shape[:2]
    words = np.zeros((height, width), np.uint32)
    for channel, mask in enumerate(masks):
        shift = (mask & -mask).bit_length() - 1
        most = mask >> shift
        words |= np.rint(pixels[:, :, channel] * (most / 255)).astype(np.uint32) << np.uint32(shift)
    rows = words.astype(f"<u{bits // 8}").view(np.uint8).reshape(height, -1)
    rows = np.pad(rows, ((0, 0), (0, -rows.shape[1] % 4)))
    body = (rows if from_the_top else rows[::-1]).tobytes()
    fields = struct.pack(
        "<IiiHHIIiiII", header, width, -height if from_the_top else height, 1, bits, 3, len(body), 0, 0, 0, 0
    )
    fields += struct.pack("<III", *masks)
    fields = fields.ljust(header, b"\0")
    begin = 14 + len(fields)
    return b"BM" + struct.pack("<IHHI", begin + len(body), 0, 0, begin) + fields + body


def lossless_grey_jpeg(grey: Array) -> bytes:
    """Process 14 (ITU-T T.81 annex H), predictor 1: differences to the left, Huffman codes of five bits for their 17 lengths."""
    height, width = grey.shape
    values = grey.astype(np.int32)
    before = np.empty_like(values)
    before[:, 1:] = values[:, :-1]
    before[1:, 0] = values[:-1, 0]
    before[0, 0] = 128
    bits = []
    for difference in (values - before).ravel().tolist():
        size = abs(difference).bit_length()
        bits.append(f"{size:05b}")
        if size:
            bits.append(f"{difference if difference > 0 else difference + (1 << size) - 1:0{size}b}")
    text = "".join(bits)
    text += "1" * (-len(text) % 8)
    body = int(text, 2).to_bytes(len(text) // 8, "big").replace(b"\xff", b"\xff\0")
    frame = b"\xff\xc3" + struct.pack(">HBHHBBBB", 11, 8, height, width, 1, 1, 0x11, 0)
    table = b"\xff\xc4" + struct.pack(">HB", 19 + 17, 0) + bytes([0, 0, 0, 0, 17, *[0] * 11]) + bytes(range(17))
    scan = b"\xff\xda" + struct.pack(">HBBBBBB", 8, 1, 1, 0, 1, 0, 0)
    return b"\xff\xd8" + frame + table + scan + body + b"\xff\xd9"


def bare_cmyk_jpeg(ink: Array) -> bytes:
    """A JPEG of four colours without Adobe's marker, whose numbers are ink: 255 is all of it."""
    data = encoded(Image.fromarray(255 - ink, "CMYK"), "JPEG", quality=95)  # Pillow writes the negative, and the marker
    at = data.index(b"\xff\xee")
    return data[:at] + data[at + 2 + int.from_bytes(data[at + 2 : at + 4], "big") :]


def oriented(pixels: Array, orientation: int) -> Array:
    """An upright picture as it is stored for an EXIF orientation."""
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 7, 8):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 6, 7):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


# 8 x 8 pixels of a ramp, as CharLS and libjpeg-turbo write them (imagecodecs 2026.3.6).
JPEG_LS = bytes.fromhex(
    "ffd8ffe800205350494646000200000100000008000000080a0806010000012c0000012cffe8000800000001ffd8fff7000b080008000801011100ffda"
    "000801010000000080701c0775b657008011e71a616008a2487b9cd3dac6318b739dddd998d6666666319955554b5555555280ffd9"
)
JPEG_OF_12_BITS = bytes.fromhex(
    "ffd8ffe000104a46494600010100000100010000ffdb004300100b0c0e0c0a100e0d0e1211101318281a181616183123251d283a333d3c3933383740"
    "485c4e404457453738506d51575f626768673e4d71797064785c656763ffc1000b0c0008000801011100ffc400140001000000000000000000000000"
    "00000008ffc4001b10000104030000000000000000000000000900263543536171ffda0008010100003f003f8570f500dcc74f34bfffd9"
)
