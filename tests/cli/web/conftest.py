"""What the tests of the server share: models that cost nothing, photos, and ways to ask."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import pytest
import uvicorn
from numpy.typing import NDArray

from faceembed.cli.web.app import create_app
from faceembed.cli.web.http import timed_protocol
from faceembed.cli.web.people import PeopleFile
from faceembed.cli.web.service import Service
from faceembed.engine.models.spec import ARCFACE_TEMPLATE, Level, Model, ModelSpec
from faceembed.engine.people.gallery import Gallery, write_gallery
from faceembed.engine.pipeline.chips import Cutter
from faceembed.engine.pipeline.serving import Embedder
from faceembed.engine.pipeline.settings import PREPROCESSING, EmbedSettings
from faceembed.engine.runtimes.base import RuntimeChoice

SPEC = ModelSpec(
    "patches", "encoder", (112, 112), dimension=48, template=ARCFACE_TEMPLATE, threshold=0.5, threshold_source="made up"
)
LIMIT = 1_000_000  # pixels


LEVELS = (Level(0.01, 0.7, 0.7, 0.7), Level(0.0001, 0.8, 0.8, 0.8))


def people_file(path: Path) -> PeopleFile:
    """A gallery of nobody yet, for this encoder with thresholds by rate."""
    spec = dataclasses.replace(SPEC, thresholds=LEVELS, sha256="0")
    about = {
        "encoder": {"name": spec.name, "sha256": spec.sha256, "source": spec.name},
        "aligner": None,
        "dimension": spec.dimension,
        "preprocessing": PREPROCESSING,
    }
    write_gallery(path, Gallery(about, ()))
    return PeopleFile(path, spec)


class Patches:
    """Stands for an encoder: the mean colours of 16 patches, centred. Noisy pictures of one seed agree, others do not."""

    def __init__(self) -> None:
        self.model = Model(SPEC, "")
        self.choice = RuntimeChoice("numpy", "cpu", "fp32", "a test")
        self.batches: list[int] = []

    def encode(self, chips: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        self.batches.append(len(chips))
        if not len(chips):
            return np.zeros((0, SPEC.dimension), np.float32), np.zeros(0, np.float32)
        raw = chips.reshape(len(chips), 4, 28, 4, 28, 3).mean((2, 4), dtype=np.float32).reshape(len(chips), -1)
        raw -= raw.mean(1, keepdims=True)
        norms = np.linalg.norm(raw, axis=1)
        return raw / np.maximum(norms, 1e-6)[:, None], norms


def make_picture(seed: int, *, side: int = 112, kind: str = ".png", width: int | None = None) -> bytes:
    """A picture of coarse random colours; a square one counts as a face."""
    colours = np.random.default_rng(seed).integers(0, 255, (4, 4, 3)).astype(np.uint8)
    pixels = cv2.resize(colours, (width or side, side), interpolation=cv2.INTER_NEAREST)
    return bytes(cv2.imencode(kind, pixels)[1])


def make_files(*photos: bytes, field: str = "photos") -> list[tuple[str, tuple[str, bytes]]]:
    """Photos as httpx sends them."""
    return [(field, (f"photo-{number}", data)) for number, data in enumerate(photos, 1)]


@pytest.fixture
def encoder() -> Patches:
    return Patches()


@pytest.fixture
def embedder(encoder: Patches) -> Embedder:
    """Square pictures are faces."""
    settings = EmbedSettings(aligner="none", faces="all", max_pixels=LIMIT)
    return Embedder(Cutter(settings, None, SPEC, workers=2), encoder)  # type: ignore[arg-type]


Ask = Callable[[Service, Callable[[httpx.AsyncClient], Awaitable[Any]]], Any]


@pytest.fixture
def ask() -> Ask:
    """Ask a service in this process: ``ask(service, lambda client: client.get("/"))``."""

    def run(service: Service, questions: Callable[[httpx.AsyncClient], Awaitable[Any]], **options: Any) -> Any:
        async def talk() -> Any:
            transport = httpx.ASGITransport(create_app(service, **options))
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost", timeout=60) as client:
                try:
                    return await questions(client)
                finally:
                    await service.close()

        return asyncio.run(talk())

    return run


@pytest.fixture
def post(ask: Ask, embedder: Embedder) -> Callable[..., httpx.Response]:
    """One request to a service of its own: ``post("embed", photo, faces="[0]")``."""

    def send(route: str, *photos: bytes, field: str = "photos", service: Service | None = None, **data: str) -> Any:
        upload = make_files(*photos, field=field)
        return ask(
            service or Service(embedder), lambda client: client.post(f"/api/v1/{route}", files=upload, data=data)
        )

    return send


@contextlib.contextmanager
def listen(service: Service) -> Iterator[tuple[str, int]]:
    """A real server in a thread: its address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = uvicorn.Config(
            create_app(service),
            http=timed_protocol(service.limits.pause_seconds),
            ws="none",
            log_config=None,
            lifespan="on",
            limit_concurrency=service.limits.connections,
            timeout_keep_alive=1,
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            yield listener.getsockname()[:2]
        finally:
            server.should_exit = True
            thread.join(30)
            assert not thread.is_alive()


def make_multipart(photos: Sequence[bytes], *, boundary: bytes = b"b0undary", field: bytes = b"photos") -> bytes:
    """The body of a form."""
    parts = [
        b'--%b\r\nContent-Disposition: form-data; name="%b"; filename="p%d"\r\n\r\n%b\r\n' % (boundary, field, n, photo)
        for n, photo in enumerate(photos)
    ]
    return b"".join(parts) + b"--%b--\r\n" % boundary


@pytest.fixture(scope="session")
def picture() -> Callable[..., bytes]:
    """`make_picture`."""
    return make_picture


@pytest.fixture(scope="session")
def files() -> Callable[..., list[tuple[str, tuple[str, bytes]]]]:
    """`make_files`."""
    return make_files


@pytest.fixture(scope="session")
def multipart() -> Callable[..., bytes]:
    """`make_multipart`."""
    return make_multipart


@pytest.fixture(scope="session")
def listening() -> Callable[[Service], contextlib.AbstractContextManager[tuple[str, int]]]:
    """`listen`."""
    return listen
