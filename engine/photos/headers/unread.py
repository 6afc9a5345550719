"""Pictures of kinds that are not read, or only by a picture inside, by their first bytes: so that they are rows with a true reason, and
not left out in silence."""

from __future__ import annotations

_KINDS = {
    0: {
        b"8BPS": "a Photoshop document (PSD)",
        b"II*\0\x10\0\0\0CR": "a Canon raw photo (CR2)",
        b"FUJIFILMCCD-RAW": "a Fujifilm raw photo (RAF)",
        b"IIRO": "an Olympus raw photo (ORF)",
        b"IIRS": "an Olympus raw photo (ORF)",
        b"IIU\0": "a Panasonic raw photo (RW2)",
        b"FOVb": "a Sigma raw photo (X3F)",
        b"II\xbc": "a JPEG XR picture",
        b"v/1\x01": "an OpenEXR picture",
        b"#?RADIANCE": "a Radiance HDR picture",
        b"BPG\xfb": "a BPG picture",
        b"qoif": "a QOI picture",
        b"gimp xcf": "a GIMP picture (XCF)",
    },
    128: {b"DICM": "a DICOM picture"},
}
"""Where in the file, what stands there, and what that is."""
RAWS = frozenset(name for name in _KINDS[0].values() if "raw photo" in name)
"""Those of which the picture inside is read (`raw`). Other raw photos are TIFFs, or files in boxes."""


def unread_kind(data: bytes) -> str:
    """What it is; empty for none of these."""
    for at, kinds in _KINDS.items():
        if data.startswith(tuple(kinds), at):  # all in one call: hardly any file is one of them
            return next(name for magic, name in kinds.items() if data.startswith(magic, at))
    return ""
