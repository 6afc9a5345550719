"""What a file is that was given for a list or a gallery and is neither: seen by its first bytes, for messages."""

from __future__ import annotations

_KINDS = (
    (0, b"PAR1", "a Parquet file, as a gallery is one"),
    (0, b"PK\x03\x04", "a zip"),
    (257, b"ustar", "a tar"),
    (0, b"IxM", "a FAISS index"),
    (0, b"IxF", "a FAISS index"),
    (0, b"IHN", "a FAISS index"),
    (0, b"\xff\xd8\xff", "a picture (JPEG)"),
    (0, b"\x89PNG", "a picture (PNG)"),
    (0, b"GIF8", "a picture (GIF)"),
    (8, b"WEBP", "a picture (WebP)"),
    (0, b"II*\0", "a picture (TIFF)"),
    (0, b"MM\0*", "a picture (TIFF)"),
    (4, b"ftyphei", "a picture (HEIC)"),
    (4, b"ftypmif", "a picture (HEIC)"),
    (4, b"ftypavi", "a picture (AVIF)"),
    (0, b"\x93NUMPY", "an array of numpy"),
)
"""Where, and what, the first bytes are. Only such as no text begins with; a BMP's ``BM`` may be a word's."""


def known_kind(data: bytes) -> str:
    """What these first bytes are of; empty for text, and for what is not known."""
    return next((kind for at, mark, kind in _KINDS if data.startswith(mark, at)), "")
