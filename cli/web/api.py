"""The routes of the API. Each reads a form, lets the service look at its photos, and writes the answer, in a thread if it is long."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from typing import Any

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool

from faceembed.cli.web import answers, schemas
from faceembed.cli.web.errors import ApiError
from faceembed.cli.web.form import Upload
from faceembed.cli.web.gallery import Found, Gallery
from faceembed.cli.web.metrics import CONTENT_TYPE
from faceembed.cli.web.people_api import add_people_routes
from faceembed.cli.web.service import Service
from faceembed.engine.explain.occlusion import Explanation, overlay
from faceembed.engine.pipeline.serving import Face, SeenPhoto
from faceembed.plain import to_json
from faceembed.version import __version__

METHODS = ("occlusion", "gradient")
_FEW_FACES = 16  # whose embeddings are written without a thread, which would cost more
_MOST_HITS = 100
_REFUSALS = (400, 401, 403, 408, 413, 415, 422, 429, 503)


def _errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {status: {"model": schemas.Error} for status in statuses}


def make_router(service: Service) -> APIRouter:
    """The routes of one server."""
    router = APIRouter()
    limits = service.limits
    some = schemas.photos_field(1, limits.photos)
    several = schemas.photos_field(2, limits.photos)

    @router.head("/api/v1/health", include_in_schema=False)
    @router.get("/api/v1/health", response_model=schemas.Health, responses=_errors(403))
    async def health() -> Response:
        """What the server runs, and what it takes."""
        return _json(_health(service))

    @router.post(
        "/api/v1/embed",
        response_model=schemas.Embedded,
        responses=_errors(*_REFUSALS),
        openapi_extra=schemas.form({"photos": some}, ["photos"]),
    )
    async def embed(request: Request) -> Response:
        """The embedding of every face of 1 to 10 photos."""
        async with service.received(request, least=1, most=limits.photos) as form:
            seen = await service.look(request, form.photos)
            if sum(len(photo.faces) for photo in seen) <= _FEW_FACES:
                return _json(_embedded(service, form.photos, seen))
            return await run_in_threadpool(lambda: _json(_embedded(service, form.photos, seen)))

    @router.post(
        "/api/v1/compare",
        response_model=schemas.Compared,
        responses=_errors(*_REFUSALS),
        openapi_extra=schemas.form({"photos": several, "faces": schemas.FACES_FIELD}, ["photos"]),
    )
    async def compare(request: Request) -> Response:
        """How alike 2 to 10 photos are, by one face of each."""
        async with service.received(request, least=2, most=limits.photos, fields=("faces",)) as form:
            wanted = _faces_field(form.fields.get("faces"), len(form.photos))
            seen = await service.look(request, form.photos)
            chosen = [_choose(*pair, limits.faces) for pair in zip(seen, wanted, form.photos, strict=True)]
            return await run_in_threadpool(lambda: _json(_compared(service, form.photos, seen, chosen)))

    @router.post(
        "/api/v1/search",
        response_model=schemas.SearchResult,
        responses=_errors(*_REFUSALS, 404),
        openapi_extra=schemas.form(
            {
                "photo": {"type": "string", "format": "binary"},
                "k": {"type": "integer", "minimum": 1, "maximum": _MOST_HITS, "default": 10},
                "face": {"type": "integer", "minimum": 0},
            },
            ["photo"],
        ),
    )
    async def search(request: Request) -> Response:
        """The faces of the index that are most like one of a photo."""
        gallery = service.gallery
        if gallery is None:
            service.admit(request)
            raise ApiError(404, "no_index", "the server has no index; start it with --index INDEX.faiss")
        async with service.received(request, files="photo", least=1, most=1, fields=("k", "face")) as form:
            k = _number_field(form.fields, "k", least=1, most=_MOST_HITS) or 10
            wanted = _number_field(form.fields, "face", least=0, most=limits.faces - 1)
            seen = await service.look(request, form.photos)
            number = _choose(seen[0], wanted, form.photos[0], limits.faces)
            face = None if number is None else seen[0].faces[number]
            found = [] if face is None else await run_in_threadpool(_near, gallery, face, k)
            return await run_in_threadpool(lambda: _json(_found(service, form.photos, seen, number, found)))

    @router.post(
        "/api/v1/explain",
        response_model=schemas.Explained,
        responses=_errors(*_REFUSALS),
        openapi_extra=schemas.form(
            {
                "photos": schemas.photos_field(2, 2),
                "faces": schemas.FACES_FIELD,
                "method": {"type": "string", "enum": list(METHODS), "default": METHODS[0]},
            },
            ["photos"],
        ),
    )
    async def explain(request: Request) -> Response:
        """Which parts of two faces make them similar."""
        async with service.received(request, least=2, most=2, fields=("faces", "method")) as form:
            if (method := form.fields.get("method", METHODS[0])) not in service.explainers:
                known = ", ".join(service.explainers)
                code = "unavailable" if method in METHODS else "bad_field"
                raise ApiError(422, code, f"'method' must be one of these here: {known}")
            wanted = _faces_field(form.fields.get("faces"), 2)
            seen = await service.look(request, form.photos)
            faces = [
                _face(photo, _choose(photo, number, upload, limits.faces), upload)
                for photo, number, upload in zip(seen, wanted, form.photos, strict=True)
            ]
            explanation = await service.explain(request, faces[0].chip, faces[1].chip, method=method)
            return await run_in_threadpool(lambda: _json(_explained(explanation, faces)))

    add_people_routes(router, service)

    @router.head("/metrics", include_in_schema=False)
    @router.get(
        "/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}, **_errors(401, 403)}
    )
    async def metrics(request: Request) -> Response:
        """Counters and times, for Prometheus."""
        service.key.check(request)
        return Response(await run_in_threadpool(service.metrics.text), headers={"Content-Type": CONTENT_TYPE})

    return router


def _json(document: dict[str, Any]) -> Response:
    return Response(to_json(document, separators=(",", ":")), media_type="application/json")


def _health(service: Service) -> dict[str, Any]:
    spec, choice, settings = service.embedder.spec, service.embedder.encoder.choice, service.embedder.cutter.settings
    limits = service.limits
    detector = service.embedder.cutter.detector
    return {
        "status": "ok",
        "version": __version__,
        "encoder": spec.name,
        "aligner": detector.model.spec.name if detector else "none",
        "device": choice.device,
        "runtime": choice.runtime,
        "precision": choice.precision,
        "threshold": spec.threshold,
        "threshold_source": spec.threshold_source,
        "thresholds": [dataclasses.asdict(level) for level in spec.thresholds],
        "resists_fakes": resists_fakes(service),
        "people": None if service.people is None else len(service.people.gallery().people),
        "index": None if service.gallery is None else {"faces": len(service.gallery)},
        "limits": {
            "photos": limits.photos,
            "bytes": limits.bytes,
            "pixels": settings.max_pixels,
            "faces": limits.faces,
        },
        "explain": True,
        "methods": list(service.explainers),
        "key_required": service.key.required,
    }


def resists_fakes(service: Service) -> bool:
    """Whether the encoder was built to put a deepfake apart from the photos of the person it shows."""
    return service.embedder.spec.gated


def _embedded(service: Service, uploads: Sequence[Upload], seen: Sequence[SeenPhoto]) -> dict[str, Any]:
    spec = service.embedder.spec
    photos = _photos(service, uploads, seen, answers.embedded_face)
    return {"encoder": spec.name, "dimension": spec.dimension, "photos": photos}


def _compared(
    service: Service, uploads: Sequence[Upload], seen: Sequence[SeenPhoto], chosen: Sequence[int | None]
) -> dict[str, Any]:
    spec = service.embedder.spec
    photos = _photos(service, uploads, seen, answers.pictured_face)
    faces = [photo.faces[number] if number is not None else None for photo, number in zip(seen, chosen, strict=True)]
    table, identity = answers.similarities(faces), answers.identities(faces, spec)
    return {
        "photos": [{**photo, "chosen": number} for photo, number in zip(photos, chosen, strict=True)],
        "similarity": table,
        "threshold": spec.threshold,
        "threshold_source": spec.threshold_source,
        "pairs": answers.pairs(table, identity, spec),
        "resists_fakes": resists_fakes(service),
    }


def _photos(
    service: Service,
    uploads: Sequence[Upload],
    seen: Sequence[SeenPhoto],
    describe: Callable[[Face], dict[str, Any]],
) -> list[dict[str, Any]]:
    most = service.limits.faces
    return [
        answers.photo(photo, upload.name, [describe(face) for face in photo.faces[:most]])
        for upload, photo in zip(uploads, seen, strict=True)
    ]


def _near(gallery: Gallery, face: Face, k: int) -> list[Found]:
    return gallery.find(face.embedding, k, real=face.real)


def _found(
    service: Service, uploads: Sequence[Upload], seen: Sequence[SeenPhoto], number: int | None, found: Sequence[Found]
) -> dict[str, Any]:
    spec = service.embedder.spec
    photo = _photos(service, uploads, seen, answers.pictured_face)[0]
    return {
        "photo": {**photo, "chosen": number},
        "face": None if number is None else photo["faces"][number],
        "hits": [answers.hit(one, spec) for one in found],
        "threshold": spec.threshold,
        "threshold_source": spec.threshold_source,
    }


def _explained(explanation: Explanation, faces: Sequence[Face]) -> dict[str, Any]:
    maps = {"a": explanation.map_a, "b": explanation.map_b}
    scale = max(float(abs(values).max()) for values in maps.values())
    document: dict[str, Any] = {"similarity": round(explanation.similarity, 6)}
    for (side, values), face in zip(maps.items(), faces, strict=True):
        document[f"overlay_{side}"] = answers.png_url(overlay(face.chip, values, scale=scale))
        document[f"map_{side}"] = values.astype(float).round(6).tolist()
    return document


def _choose(seen: SeenPhoto, wanted: int | None, upload: Upload, most: int) -> int | None:
    """The number of a photo's face that is meant; None if it has none and none was asked for."""
    shown = min(len(seen.faces), most)
    if wanted is None:
        # The most prominent face is nearly always among the largest; where it is not shown, the largest stands for it.
        return seen.chosen if seen.chosen is None or seen.chosen < shown else 0
    if wanted >= shown:
        message = f"{upload.name}: face {wanted} is asked for, but {shown} are found (the first is 0)"
        raise ApiError(422, "no_such_face", message, photo=upload.name)
    return wanted


def _face(seen: SeenPhoto, number: int | None, upload: Upload) -> Face:
    """The chosen face of a photo that must have one."""
    if number is None:
        raise ApiError(422, "no_face", f"{upload.name}: {seen.reason}", photo=upload.name)
    return seen.faces[number]


def _faces_field(text: str | None, count: int) -> list[int | None]:
    """The field ``faces``: a JSON list with a face number or null for each photo."""
    if text is None or not text.strip():
        return [None] * count
    try:
        numbers = json.loads(text)
    except (ValueError, RecursionError):
        numbers = None
    sound = isinstance(numbers, list) and all(n is None or (type(n) is int and n >= 0) for n in numbers)
    if not sound or len(numbers) != count:
        raise ApiError(422, "bad_field", f"'faces' must be a JSON list of {count} face numbers (0 or more) or nulls")
    return list(numbers)


def _number_field(fields: dict[str, str], name: str, *, least: int, most: int) -> int | None:
    """A field that is a whole number, if it is given."""
    text = fields.get(name, "").strip()
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 10 and least <= int(text) <= most):
        raise ApiError(422, "bad_field", f"'{name}' must be a whole number from {least} to {most}")
    return int(text)
