"""What decodes photos on a device, and which files are given to it at all. `dali` and `nvimagecodec` fill `Decoder`."""

from __future__ import annotations

import abc
import contextlib
from collections.abc import Sequence
from typing import Any

from faceembed.engine.photos.header import PLAIN, Header
from faceembed.engine.photos.noted import parted
from faceembed.engine.photos.whole import is_whole


class Decoder(abc.ABC):
    """A library that decodes pictures into a device's memory, or into the host's where there is no card."""

    title: str
    """As it is called."""

    def lane(self, stream: Any = None) -> contextlib.AbstractContextManager[None]:
        """What a thread must be inside of to call `decode`.

        Args:
            stream: the CUDA stream to work on (anything with ``__cuda_stream__`` and a ``handle``); None without a card.
        """
        return contextlib.nullcontext()

    @abc.abstractmethod
    def decode(self, files: Sequence[bytes], stream: Any = None) -> list[Any]:
        """Decode pictures, EXIF orientation applied.

        Args:
            files: `readable` ones; they must live until the stream's work is done.
            stream: that of the lane.

        Returns:
            Of each uint8 RGB (H, W, 3) that has a ``shape``, there once the stream has come so far; None for one that the library
            refuses, for whatever reason.
        """


def readable(data: bytes, header: Header) -> bool:
    """Whether both libraries read a file as OpenCV does; others are decoded by OpenCV, and counted.

    * What has a note before it (`noted`), which no library knows.
    * What has a way of its own (`ways`): the still picture of an animated PNG, BMPs with bit masks, lossless JPEGs.
    * TIFF: DALI makes grey of planes of 16 bits without an error, and libtiff prints to stderr.
    * WebP: only simple files, none with a `VP8X` header (animation, alpha, EXIF).
    * JPEG: no CMYK, which no decoder of NVIDIA's does on the card; on the processor nvImageCodec's is 1 level off.
    * Files without an end: they are damaged most likely, and libraries print to stderr about them. And those with zeros for their data,
      which `decode` refuses.
    """
    if header.way != PLAIN or parted(data)[1] or not is_whole(data, header):
        return False
    if header.format == "JPEG":
        return header.colours in (1, 3) and b"\xff\xd9" in data[-1024:]
    if header.format == "PNG":
        return b"IEND" in data[-1024:]
    if header.format == "WebP":
        return data[12:16] in (b"VP8 ", b"VP8L") and len(data) >= 8 + int.from_bytes(data[4:8], "little")
    return header.format == "BMP"
