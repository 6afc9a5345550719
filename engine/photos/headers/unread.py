"""Pictures of kinds that are not read, by their first bytes: so that they are rows with a true reason, and not left out in silence."""

from __future__ import annotations

_RAWS = (
    (b"II*\0\x10\0\0\0CR", 0, "a Canon raw photo (CR2)"),
    (b"FUJIFILMCCD-RAW", 0, "a Fujifilm raw photo (RAF)"),
    (b"IIRO", 0, "an Olympus raw photo (ORF)"),
    (b"IIRS", 0, "an Olympus raw photo (ORF)"),
    (b"IIU\0", 0, "a Panasonic raw photo (RW2)"),
    (b"FOVb", 0, "a Sigma raw photo (X3F)"),
)
_KINDS = (
    (b"8BPS", 0, "a Photoshop document (PSD)"),
    (b"II\xbc", 0, "a JPEG XR picture"),
    (b"v/1\x01", 0, "an OpenEXR picture"),
    (b"#?RADIANCE", 0, "a Radiance HDR picture"),
    (b"BPG\xfb", 0, "a BPG picture"),
    (b"qoif", 0, "a QOI picture"),
    (b"gimp xcf", 0, "a GIMP picture (XCF)"),
    (b"DICM", 128, "a DICOM picture"),
)


def raw_kind(data: bytes) -> str:
    """Which camera's raw photo it is, of which the preview is read; empty for none. Others are TIFFs and files in boxes."""
    return next((name for magic, at, name in _RAWS if data.startswith(magic, at)), "")


def unread_kind(data: bytes) -> str:
    """What it is; empty for none of these."""
    return next((name for magic, at, name in _KINDS if data.startswith(magic, at)), "")
