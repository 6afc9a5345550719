"""The routes about people: who somebody is, who is known, and changes for those who may."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from faceembed.cli.web import schemas
from faceembed.cli.web.answers import data_url
from faceembed.cli.web.body import read_body
from faceembed.cli.web.errors import ApiError
from faceembed.cli.web.people import PeopleFile, photo_id
from faceembed.cli.web.security import WRITE
from faceembed.cli.web.service import Service
from faceembed.engine.people.gallery import Gallery, Person, good_name
from faceembed.engine.photos.photo_file import printable
from faceembed.engine.verbs import gallery_people as verbs
from faceembed.errors import DataError, IndexBusyError, IndexFormatError, UsageError
from faceembed.plain import to_json

_UNUSABLE = (
    "the server's gallery is gone, damaged, of another encoder or not to be written; who runs the server can mend that"
)
_MOST_PICTURES = 60  # in one answer, of some 4 kB
_TEXT, _FLAG = {"type": "string"}, {"type": "boolean", "default": False}
_IDS = {"type": "array", "items": {"type": "string"}, "minItems": 1}
_REFUSALS = (400, 401, 403, 404, 408, 409, 413, 415, 422, 429, 503)


def add_people_routes(router: APIRouter, service: Service) -> None:
    """Add the routes to a server's; without a gallery they say so."""
    errors: dict[int | str, dict[str, Any]] = {status: {"model": schemas.Error} for status in _REFUSALS}
    limits = service.limits
    photos = schemas.photos_field(1, limits.photos)

    def people(request: Request) -> PeopleFile:
        if service.people is None:
            service.admit(request)
            raise ApiError(404, "no_gallery", "the server knows nobody; start it with --gallery FILE")
        return service.people

    @router.get("/api/v1/people", response_model=schemas.KnownPeople, responses=errors)
    async def known(request: Request) -> Response:
        """Who is known, and how many photos of each."""
        held = people(request)
        service.admit(request)
        with _refused(held):
            return _json({**await run_in_threadpool(_known, held), "role": service.key.role(request)})

    @router.get("/api/v1/pictures", response_model=schemas.PicturesOfPeople, responses=errors)
    async def pictures(request: Request, name: Annotated[list[str] | None, Query()] = None) -> Response:
        """A face of each of up to 60 people, from the files that are still there; who is not known is left out."""
        held = people(request)
        service.admit(request)
        names = name or []
        if len(names) > _MOST_PICTURES:
            raise ApiError(422, "bad_field", f"{len(names)} names; at most {_MOST_PICTURES} are taken")
        with _refused(held):
            return _json({"pictures": await run_in_threadpool(_pictures, held, names)})

    @router.post(
        "/api/v1/people/{name:path}/split",
        response_model=schemas.Moved,
        responses=errors,
        openapi_extra=schemas.json_body({"name": _TEXT, "ids": _IDS, "merge": _FLAG}, ["name", "ids"]),
    )
    async def split(request: Request, name: str) -> Response:
        """Give some of somebody's photos to another name: JSON name, ids (of the photos), merge."""
        held = people(request)
        service.admit(request, role=WRITE)
        with service.memory.lease() as hold:
            fields = ("name", "ids", "merge")
            form = await read_body(request, files="", most=0, fields=fields, limits=limits, hold=hold)
        new, merge, wanted = form.fields.get("name", ""), _flag(form.fields, "merge"), _ids(form.fields.get("ids"))
        with _refused(held):
            opened = await run_in_threadpool(held.gallery)
            paths = {photo_id(p.path): p.path for p in _person(opened, name).photos}
            if any(one not in paths for one in wanted):
                raise ApiError(404, "no_such_photo", "one of these photos is not theirs any more; look again")
            moved = [paths[one] for one in wanted]
            count, left = await run_in_threadpool(lambda: verbs.split(held.path, name, new, moved, merge=merge))
        return _json({"name": good_name(new, "the name"), "photos": count, "left": left})

    @router.get("/api/v1/people/{name:path}", response_model=schemas.PersonDetails, responses=errors)
    async def person(request: Request, name: str) -> Response:
        """The photos of somebody: how alike each is to the others, and its face where the file is still there."""
        held = people(request)
        service.admit(request)
        with _refused(held):
            return _json(await run_in_threadpool(_details, held, name))

    @router.post(
        "/api/v1/identify",
        response_model=schemas.IdentifiedPhotos,
        responses=errors,
        openapi_extra=schemas.form({"photos": photos}, ["photos"]),
    )
    async def identify(request: Request) -> Response:
        """Who is on 1 to 10 photos: a form, the bytes of one photo, or JSON with photos in base64."""
        held = people(request)
        async with service.received(request, least=1, most=limits.photos) as form:
            seen = await service.look(request, form.photos)
            with _refused(held):
                asked = await run_in_threadpool(held.current)
            found = []
            for upload, photo in zip(form.photos, seen, strict=True):
                faces = photo.faces[: limits.faces]
                named = [asked.candidates(face.embedding[None])[0] for face in faces]
                found.append(
                    {
                        "name": upload.name,
                        "width": photo.width,
                        "height": photo.height,
                        "reason": photo.reason,
                        "faces": [
                            {
                                "box": [round(value, 2) for value in face.box],
                                "name": name,
                                "candidates": [
                                    {"name": one.name, "similarity": round(one.similarity, 6)} for one in best
                                ],
                            }
                            for face, (name, best) in zip(faces, named, strict=True)
                        ],
                    }
                )
            limit = asked.limit
            told = {"threshold": limit.threshold, "threshold_source": limit.source}
            return _json({"people": len(asked.names), **told, "photos": found})

    @router.post(
        "/api/v1/enrol",
        response_model=schemas.Enrolled,
        responses=errors,
        openapi_extra=schemas.form({"photos": photos, "name": {"type": "string"}}, ["photos", "name"]),
    )
    async def enrol(request: Request) -> Response:
        """Add photos of one person, a face on each. Their embeddings are kept, the photos are not."""
        held = people(request)
        async with service.received(request, least=1, most=limits.photos, fields=("name",), role=WRITE) as form:
            if not (name := form.fields.get("name", "").strip()):
                raise ApiError(422, "bad_field", "'name' says whose photos these are")
            seen = await service.look(request, form.photos)
            for upload, photo in zip(form.photos, seen, strict=True):
                if len(photo.faces) != 1:
                    why = f"{len(photo.faces)} faces, and which is theirs is not said" if photo.faces else photo.reason
                    raise ApiError(422, "not_one_face", f"{upload.name}: {why}", photo=upload.name)
            faces = [(u.data, p.faces[0], (p.width, p.height)) for u, p in zip(form.photos, seen, strict=True)]
            with _refused(held):
                count = await run_in_threadpool(held.add, name, faces)
            return _json({"name": name, "photos": count})

    @router.patch(
        "/api/v1/people/{name:path}",
        response_model=schemas.Enrolled,
        responses=errors,
        openapi_extra=schemas.json_body({"name": _TEXT, "merge": _FLAG}, ["name"]),
    )
    async def rename(request: Request, name: str) -> Response:
        """Call somebody by another name, or with ``merge`` put them together with whoever has it: JSON name, merge."""
        held = people(request)
        service.admit(request, role=WRITE)
        with service.memory.lease() as hold:
            form = await read_body(request, files="", most=0, fields=("name", "merge"), limits=limits, hold=hold)
        new, merge = form.fields.get("name", ""), _flag(form.fields, "merge")
        with _refused(held):
            await run_in_threadpool(lambda: verbs.rename(held.path, name, new, merge=merge))
        called = good_name(new, "the name")
        return _json({"name": called, "photos": len(held.gallery().people[called].usable)})

    @router.delete("/api/v1/people/{name:path}", response_model=schemas.Removed, responses=errors)
    async def remove(request: Request, name: str) -> Response:
        """Take somebody out, with all that is kept of them."""
        held = people(request)
        service.admit(request, role=WRITE)
        with _refused(held):
            (gone,) = await run_in_threadpool(lambda: verbs.remove(held.path, [name]))
        return _json({"removed": gone.name, "photos": len(gone.photos)})


def _known(held: PeopleFile) -> dict[str, Any]:
    limit = held.current().limit
    people = [{"name": name, "photos": len(person.usable)} for name, person in held.gallery().people.items()]
    return {"people": people, "threshold": limit.threshold, "threshold_source": limit.source}


def _details(held: PeopleFile, name: str) -> dict[str, Any]:
    person = _person(held.gallery(), name)
    photos = [
        {
            "id": one.id,
            "file": one.file,
            "alike": None if one.alike is None else round(one.alike, 6),
            "reason": one.reason,
            "picture": None if one.picture is None else data_url(one.picture, "image/jpeg"),
        }
        for one in held.photos(person)
    ]
    return {"name": person.name, "photos": photos}


def _pictures(held: PeopleFile, names: list[str]) -> dict[str, str | None]:
    known, found = held.gallery().people, {}
    for name in names:
        if name in known:
            picture = held.face(known[name])
            found[name] = None if picture is None else data_url(picture, "image/jpeg")
    return found


def _person(gallery: Gallery, name: str) -> Person:
    person = gallery.people.get(good_name(name, "the name"))
    if person is None:
        raise ApiError(404, "nobody", "nobody is called so here")
    return person


def _flag(fields: dict[str, str], name: str) -> bool:
    if (text := fields.get(name, "false").lower()) not in ("true", "false"):
        raise ApiError(422, "bad_field", f"'{name}' must be true or false")
    return text == "true"


def _ids(text: str | None) -> list[str]:
    """The field ``ids``: a JSON list of texts."""
    try:
        found = json.loads(text or "")
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, list) or not found or not all(isinstance(one, str) for one in found):
        raise ApiError(422, "bad_field", "'ids' must be a list with the ids of photos")
    return found


@contextlib.contextmanager
def _refused(held: PeopleFile) -> Iterator[None]:
    """What a gallery refuses, as an answer."""
    try:
        yield
    except IndexBusyError as error:
        raise ApiError(503, "busy", "somebody else changes who is known; try again", retry_after=2) from error
    except (IndexFormatError, OSError) as error:
        raise ApiError(503, "gallery_unusable", _UNUSABLE) from error
    except DataError as error:
        if not held.path.exists():
            raise ApiError(503, "gallery_unusable", _UNUSABLE) from error
        raise ApiError(404, "nobody", "nobody is called so here") from error
    except UsageError as error:
        # The file's place is the server's own.
        raise ApiError(409, "bad_name", str(error).replace(printable(os.fspath(held.path)), "the gallery")) from error


def _json(document: dict[str, Any]) -> Response:
    return Response(to_json(document, separators=(",", ":")), media_type="application/json")
