"""Reads a multipart form as it arrives: into memory, never into a file, and no further than its limits.

Starlette's own parser keeps larger files in temporary ones on the disk; photos are never stored here. What it knows nothing
of: pictures.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import AsyncIterator, Callable, Collection
from typing import Any

import anyio
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from faceembed.cli.web.errors import ApiError
from faceembed.cli.web.limits import MIB, Limits
from faceembed.engine.photos.photo_file import printable

_FIELD_BYTES = 4096
_FIELDS = 8
_NAME = 200  # characters of a file name that are kept


@dataclasses.dataclass(frozen=True)
class Upload:
    """One file of the form."""

    name: str
    """As the client gave it, without folders and on one line."""
    data: bytes


@dataclasses.dataclass(frozen=True)
class Form:
    """What a form held."""

    photos: list[Upload]
    fields: dict[str, str]


async def read_form(
    request: Request, *, files: str, most: int, fields: Collection[str], limits: Limits, hold: Callable[[int], None]
) -> Form:
    """Read a request's form.

    Args:
        request: its body is not yet read.
        files: name of the field that carries photos.
        most: photos that are taken.
        fields: names of the other fields that are known.
        limits: bytes and time-outs.
        hold: told of every piece before it is kept.

    Raises:
        ApiError: not a form, too much, too slow, or fields that nobody knows.
    """
    reader = _Reader(files, most, fields)
    parser = MultipartParser(_boundary(request), reader.callbacks())  # type: ignore[arg-type]
    size = 0
    check_length(request, limits)
    async for piece in pieces(request, limits):
        size += len(piece)
        if size > limits.bytes:
            raise too_large(limits)
        hold(len(piece))
        try:
            parser.write(piece)
        except (FormParserError, ValueError) as error:
            raise _damaged("it is not a multipart form") from error
    if not reader.ended:
        raise _damaged("it ends before its last boundary")
    return Form(reader.photos, reader.fields)


async def pieces(request: Request, limits: Limits) -> AsyncIterator[bytes]:
    """The body as it arrives."""
    end = time.monotonic() + limits.upload_seconds
    stream = request.stream()
    while True:
        try:
            with anyio.fail_after(min(end - time.monotonic(), limits.pause_seconds)):
                piece = await anext(stream)
        except StopAsyncIteration:
            return
        except TimeoutError as error:
            raise ApiError(
                408, "slow_client", "the photos did not arrive in time; send them again", close=True
            ) from error
        yield piece


def check_length(request: Request, limits: Limits) -> None:
    """Refuse a body by the length that it announces."""
    announced = request.headers.get("content-length", "0")
    if announced.isascii() and announced.isdigit() and int(announced[:20]) > limits.bytes:
        raise too_large(limits)


def _boundary(request: Request) -> bytes:
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    boundary = options.get(b"boundary", b"")
    if kind != b"multipart/form-data":
        raise ApiError(415, "wrong_content_type", "send photos as multipart/form-data")
    if not 1 <= len(boundary) <= 200:
        raise _damaged("its Content-Type has no usable boundary")
    return boundary


def too_large(limits: Limits) -> ApiError:
    """A body over the limit."""
    most = f"{limits.bytes / MIB:g} MiB"
    return ApiError(413, "too_many_bytes", f"the request is over the limit of {most}; send fewer photos")


def _damaged(why: str) -> ApiError:
    return ApiError(400, "bad_multipart", f"the request cannot be read: {why}")


class _Reader:
    """Takes the parser's events and keeps what is wanted."""

    def __init__(self, files: str, most: int, fields: Collection[str]) -> None:
        self.photos: list[Upload] = []
        self.fields: dict[str, str] = {}
        self.ended = False
        self._files, self._most, self._known = files, most, fields
        self._header = bytearray()
        self._value = bytearray()
        self._disposition = b""
        self._name = ""
        self._filename: str | None = None
        self._data = bytearray()

    def callbacks(self) -> dict[str, Callable[..., Any]]:
        """What the parser calls."""
        names = (
            "part_begin",
            "part_data",
            "part_end",
            "header_field",
            "header_value",
            "header_end",
            "headers_finished",
            "end",
        )
        return {f"on_{name}": getattr(self, f"_{name}") for name in names}

    def _part_begin(self) -> None:
        self._disposition, self._data = b"", bytearray()

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = bytes(self._value)
        self._header.clear()
        self._value.clear()

    def _headers_finished(self) -> None:
        options = parse_options_header(self._disposition)[1]
        if b"name" not in options:
            raise _damaged("a part has no name")
        self._name = options[b"name"].decode("utf-8", "replace")
        filename = options.get(b"filename")
        self._filename = None if filename is None else _plain(filename.decode("utf-8", "replace"))
        if self._name == self._files:
            if self._filename is None:
                raise ApiError(422, "bad_field", f"'{self._files}' must be files")
            if len(self.photos) >= self._most:
                raise ApiError(413, "too_many_photos", f"more than {self._most} photos; send at most {self._most}")
        elif self._name not in self._known:
            known = ", ".join(f"'{name}'" for name in (self._files, *self._known))
            raise ApiError(422, "bad_field", f"no field '{_plain(self._name)}' here; known are {known}")
        elif self._name in self.fields or len(self.fields) >= _FIELDS:
            raise ApiError(422, "bad_field", f"the field '{self._name}' is given twice")

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        if self._name != self._files and len(self._data) + end - start > _FIELD_BYTES:
            raise ApiError(422, "bad_field", f"the field '{self._name}' is over {_FIELD_BYTES} bytes")
        self._data += data[start:end]

    def _part_end(self) -> None:
        if self._name != self._files:
            self.fields[self._name] = self._data.decode("utf-8", "replace")
        elif self._filename or self._data:  # a file field that the user left empty has neither
            self.photos.append(Upload(self._filename or "photo", bytes(self._data)))
        self._data = bytearray()

    def _end(self) -> None:
        self.ended = True


def _plain(name: str) -> str:
    """A name on one line, without its folders, of bounded length."""
    return printable(name.replace("\\", "/").rpartition("/")[2][:_NAME])
