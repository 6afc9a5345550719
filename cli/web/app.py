"""The web application: routes, the page, and one shape for every error."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Collection
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from faceembed.cli.web.api import make_router
from faceembed.cli.web.errors import CODES, ApiError, document
from faceembed.cli.web.metrics import Measure
from faceembed.cli.web.security import Guard
from faceembed.cli.web.service import Service
from faceembed.version import __version__

STATIC = Path(__file__).resolve().parent / "static"


NO_TELEMETRY: Any = {
    "tracing": False,
    "metrics": False,
    "logs": False,
    "operation_spans": False,
    "auto_configure": False,
}
"""FastAPI (0.165, for one) tells OpenTelemetry of each request, its inputs among it, and sends that on where variables of the machine
say so (``FASTAPI_OTEL_AUTO_CONFIGURE``); older ones take no notice."""


def create_app(service: Service, *, hosts: Collection[str] = ()) -> ASGIApp:
    """One server's application.

    Args:
        service: models, index and limits; closed when the application ends.
        hosts: names under which it answers; empty for any.
    """

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        await service.close()

    # No pages of the framework's own: they load their scripts from elsewhere.
    app = FastAPI(
        title="faceembed",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=lifespan,
        telemetry=NO_TELEMETRY,
    )
    app.include_router(make_router(service))
    app.mount("/static", StaticFiles(directory=STATIC))

    @app.api_route("/", methods=["GET", "HEAD"], include_in_schema=False)
    async def page() -> Response:
        return FileResponse(STATIC / "index.html", media_type="text/html; charset=utf-8")

    _handle_errors(app, service)
    return Measure(Guard(app, hosts=hosts), metrics=service.metrics)


def _handle_errors(app: FastAPI, service: Service) -> None:
    def answer(status: int, body: dict[str, Any], headers: Any = None) -> Response:
        service.metrics.errors.labels(body["error"]["code"]).inc()
        return JSONResponse(body, status, headers)

    @app.exception_handler(ApiError)
    async def refused(request: Request, error: ApiError) -> Response:
        return answer(error.status, error.document(), error.headers)

    @app.exception_handler(HTTPException)
    async def not_found(request: Request, error: HTTPException) -> Response:
        code = CODES.get(error.status_code, "bad_request")
        return answer(error.status_code, document(code, str(error.detail)), error.headers)

    @app.exception_handler(ClientDisconnect)
    async def gone(request: Request, error: ClientDisconnect) -> Response:
        return Response(status_code=499)  # nobody reads it

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> Response:
        return answer(500, document("internal", "the server has failed at this; its log says more"))
