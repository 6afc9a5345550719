"""Reads what a request carries, however: a multipart form, a photo's bytes alone, or JSON with photos in base64.

    POST /api/v1/identify   Content-Type: image/jpeg             the bytes of one photo; other fields are in the query
    POST /api/v1/enrol      Content-Type: application/json       {"name": "ann", "photos": ["<base64>", …]}

No address of a photo is ever fetched. What it knows nothing of: pictures.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Collection
from typing import Any

from starlette.requests import Request

from faceembed.cli.web.errors import ApiError
from faceembed.cli.web.form import Form, Upload, check_length, pieces, read_form, too_large
from faceembed.cli.web.limits import Limits

_RAW = ("application/octet-stream", "image/")
_JSON = "application/json"


async def read_body(
    request: Request, *, files: str, most: int, fields: Collection[str], limits: Limits, hold: Callable[[int], None]
) -> Form:
    """Read a request's photos and fields; arguments and errors as for `form.read_form`."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == _JSON:
        return _of_json(await _whole(request, limits, hold), files, most, fields)
    if kind.startswith(_RAW):
        data = await _whole(request, limits, hold)
        if not data:
            raise ApiError(422, "too_few_photos", "the body is empty; send the bytes of a photo")
        return Form([Upload("photo", data)], _known(dict(request.query_params), fields))
    return await read_form(request, files=files, most=most, fields=fields, limits=limits, hold=hold)


async def _whole(request: Request, limits: Limits, hold: Callable[[int], None]) -> bytes:
    check_length(request, limits)
    data = bytearray()
    async for piece in pieces(request, limits):
        if len(data) + len(piece) > limits.bytes:
            raise too_large(limits)
        hold(len(piece))
        data += piece
    return bytes(data)


def _of_json(data: bytes, files: str, most: int, fields: Collection[str]) -> Form:
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ApiError(400, "bad_json", "the body is not JSON") from error
    if not isinstance(document, dict):
        raise ApiError(400, "bad_json", "the body must be a JSON object")
    given = document.pop(files, [])
    photos = given if isinstance(given, list) else [given]
    if len(photos) > most:
        raise ApiError(413, "too_many_photos", f"{len(photos)} photos; at most {most} are taken")
    uploads = [Upload(f"photo-{number}", _decoded(photo, number)) for number, photo in enumerate(photos, 1)]
    if wrong := [name for name, value in document.items() if not isinstance(value, str | int | float | bool | list)]:
        raise ApiError(422, "bad_field", f"'{wrong[0][:40]}' must be text or a number")
    texts = {str(name): value if isinstance(value, str) else json.dumps(value) for name, value in document.items()}
    return Form(uploads, _known(texts, fields))


def _decoded(photo: Any, number: int) -> bytes:
    if not isinstance(photo, str):
        raise ApiError(422, "bad_photo", f"photo {number} must be base64 text")
    text = photo.partition(",")[2] if photo.startswith("data:") else photo
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        why = "an address, and none is fetched" if "://" in photo[:12] else "not base64"
        raise ApiError(422, "bad_photo", f"photo {number} is {why}; send its bytes in base64") from error
    if not data:
        raise ApiError(422, "bad_photo", f"photo {number} is empty")
    return data


def _known(given: dict[str, str], fields: Collection[str]) -> dict[str, str]:
    if unknown := sorted(set(given) - set(fields)):
        raise ApiError(422, "unknown_field", f"there is no field '{unknown[0][:40]}'")
    return given
