"""Which photos there are: a recursive listing in a stable order, with what is needed to see later whether one changed."""

from __future__ import annotations

import collections
import dataclasses
import os
import re
import stat
from collections.abc import Callable, Iterator, Sequence

import blake3

from faceembed.engine.photos.probe import HEAD_BYTES, is_picture
from faceembed.errors import DataError

SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".heic", ".heif", ".avif"}
)
"""Endings of photos. A file with another one, or none, is a photo if its first bytes say so."""


LINKS_MARK = ".faceembed-links"
"""A file in folders of links that `cluster` made: below an archive, these would show each photo a second time."""


@dataclasses.dataclass(frozen=True, slots=True)
class PhotoFile:
    """One file to embed. ``path`` is absolute; bytes that are not UTF-8 are in it as lone surrogates (PEP 383)."""

    path: str
    size: int
    mtime_ns: int
    ctime_ns: int = 0
    """When the file's name, rights or content last changed, which nobody can set back; 0 where it is not known."""
    digest: str = ""
    """`digest_of` its bytes; empty where they have not been read."""

    @property
    def stamp(self) -> tuple[int, int]:
        """Size and time: a photo with another stamp is another photo."""
        return (self.size, self.mtime_ns)

    def looks_like(self, other: PhotoFile) -> bool:
        """Whether the file system says that it is still the same file, unread: size, time and, where both know it, `ctime_ns`."""
        known = self.ctime_ns and other.ctime_ns
        return self.stamp == other.stamp and (not known or self.ctime_ns == other.ctime_ns)

    def holding(self, data: bytes) -> PhotoFile:
        """The same with what its bytes say: their number and digest."""
        return dataclasses.replace(self, size=len(data), digest=digest_of(data))


def digest_of(data: bytes) -> str:
    """The content hash of a file: BLAKE3, 128 bits, 32 hexadecimal digits. Nobody can make two photos of one digest."""
    return blake3.blake3(data).hexdigest(length=16)


@dataclasses.dataclass
class Listing:
    """What a listing found."""

    photos: list[PhotoFile]
    failures: list[tuple[str, str]]
    """(path, reason) of folders and links that could not be read."""
    ignored: collections.Counter[str]
    """How many files were left out, by their ending: neither that nor their first bytes are a photo's."""
    roots: list[str]
    """The absolute folders and files that were asked for."""
    missing: list[str] = dataclasses.field(default_factory=list)
    """Those of them that are not there, where that was allowed."""
    named: list[str] = dataclasses.field(default_factory=list)
    """Those of them that are files."""


def list_photos(
    roots: Sequence[str | os.PathLike[str]],
    *,
    place: Callable[[str], str] = os.path.abspath,
    may_be_gone: Callable[[str], bool] = lambda path: False,
) -> Listing:
    """List photos below folders; a file named directly is taken whatever its ending.

    Folders are walked in the byte order of names, links are followed, and each real folder is entered once, so that a
    loop of links ends.

    Args:
        roots: folders and files.
        place: the absolute path by which a root is called.
        may_be_gone: whether a root that does not exist is listed as missing instead of raising.

    Raises:
        DataError: a root that does not exist, or is neither a folder nor a file.
    """
    listing = Listing([], [], collections.Counter(), [])
    seen_folders: set[tuple[int, int]] = set()
    seen_paths: set[str] = set()
    for root in roots:
        path = place(os.fspath(root))
        listing.roots.append(path)
        try:
            info = os.stat(path)
        except OSError as error:
            if isinstance(error, (FileNotFoundError, NotADirectoryError)) and may_be_gone(path):
                listing.missing.append(path)
                continue
            raise DataError(
                f"{printable(path)}: {error.strerror or error}; give an existing folder or photo"
            ) from error
        if not stat.S_ISDIR(info.st_mode) and not stat.S_ISREG(info.st_mode):
            raise DataError(f"{printable(path)} is neither a folder nor a file")
        if stat.S_ISREG(info.st_mode):
            listing.named.append(path)
        found = _walk(path, info, seen_folders, listing) if stat.S_ISDIR(info.st_mode) else iter([_photo(path, info)])
        for photo in found:
            if photo.path not in seen_paths:
                seen_paths.add(photo.path)
                listing.photos.append(photo)
    return listing


def _walk(folder: str, info: os.stat_result, seen: set[tuple[int, int]], listing: Listing) -> Iterator[PhotoFile]:
    # A stack instead of recursion: folders may be nested deeper than Python calls may.
    stack = [_open(folder, info, seen, listing)]
    while stack:
        entry = next(stack[-1], None)
        if entry is None:
            stack.pop()
            continue
        suffix = os.path.splitext(entry.name)[1].lower()
        try:
            child = entry.stat()
        except OSError as error:
            if suffix in SUFFIXES or not entry.is_symlink():
                listing.failures.append((entry.path, f"cannot be looked at: {error.strerror or error}"))
            else:
                listing.ignored["(dangling link)"] += 1
            continue
        if stat.S_ISDIR(child.st_mode) and os.path.isfile(os.path.join(entry.path, LINKS_MARK)):
            listing.ignored["(links of cluster)"] += 1
        elif stat.S_ISDIR(child.st_mode):
            stack.append(_open(entry.path, child, seen, listing))
        elif stat.S_ISREG(child.st_mode) and (suffix in SUFFIXES or _is_picture(entry.path)):
            yield _photo(entry.path, child)
        else:
            listing.ignored[suffix or "(none)"] += 1


def _is_picture(path: str) -> bool:
    """By content. A file that cannot be opened, and does not have a photo's ending, is none."""
    try:
        with open(path, "rb", buffering=0) as file:
            return is_picture(file.read(HEAD_BYTES))
    except OSError:
        return False


def _open(
    folder: str, info: os.stat_result, seen: set[tuple[int, int]], listing: Listing
) -> Iterator[os.DirEntry[str]]:
    """A folder's entries in the byte order of their names; none if it was entered before or cannot be read."""
    if (info.st_dev, info.st_ino) in seen:
        return iter(())
    seen.add((info.st_dev, info.st_ino))
    try:
        with os.scandir(folder) as entries:
            return iter(sorted(entries, key=lambda entry: os.fsencode(entry.name)))
    except OSError as error:
        listing.failures.append((folder, error.strerror or str(error)))
        return iter(())


def _photo(path: str, info: os.stat_result) -> PhotoFile:
    return PhotoFile(path, info.st_size, info.st_mtime_ns, info.st_ctime_ns)


def photo_file(path: str) -> PhotoFile:
    """A photo that is named instead of listed. One that is not there has no size: whoever reads it says why it cannot."""
    try:
        return _photo(path, os.stat(path))
    except OSError:
        return PhotoFile(path, 0, 0)


def real_place(path: str) -> str:
    """The path of a root without links, so that a folder has one name however it is reached."""
    return os.path.realpath(path)


def as_listed(path: str, roots: Sequence[str]) -> str:
    """The path under which an index knows a photo below one of the roots that it was made of."""
    root = max((root for root in roots if is_below(path, [root])), key=len, default="")
    return real_place(root) + path[len(root.rstrip(os.sep)) :] if root else path


def is_gone(path: str) -> bool:
    """Whether there is no such file any more; one that cannot be looked at is not gone."""
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False


def is_below(path: str, roots: Sequence[str]) -> bool:
    """Whether ``path`` is one of ``roots`` or lies below one."""
    return any(path == root or path.startswith(root.rstrip(os.sep) + os.sep) for root in roots)


# Paths in parquet, CSV and JSON must be valid UTF-8, and file names need not be. A byte XX that is not UTF-8 is written
# as the six characters \udcXX, and a backslash that would read as such an escape as \udc5c: a bijection.
_ESCAPED = re.compile(r"\\udc([0-9a-f]{2})")


def encode_path(path: str) -> str:
    """A path as valid UTF-8 text; ordinary names are unchanged. `decode_path` is its inverse."""
    if path.isascii() and "\\udc" not in path:
        return path
    return path.replace("\\udc", "\\udc5cudc").encode("utf-8", "backslashreplace").decode("utf-8")


def decode_path(text: str) -> str:
    """The path that `encode_path` wrote."""
    if "\\udc" not in text:
        return text
    return _ESCAPED.sub(lambda match: "\\" if match[1] == "5c" else chr(0xDC00 + int(match[1], 16)), text)


def printable(path: str) -> str:
    """A path for a message on one line: control characters and bytes that are not UTF-8 are escaped."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in path)
