"""What the routes share: the models behind one batcher, the index, the limits; and how a request's photos become faces."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request

from faceembed.cli.web.batcher import Batcher
from faceembed.cli.web.body import read_body
from faceembed.cli.web.errors import ApiError
from faceembed.cli.web.form import Form, Upload
from faceembed.cli.web.gallery import Gallery
from faceembed.cli.web.limits import Limits, Memory, RateLimiter
from faceembed.cli.web.metrics import Metrics
from faceembed.cli.web.people import PeopleFile
from faceembed.cli.web.security import READ, Key
from faceembed.engine.explain.occlusion import Explanation, explain
from faceembed.engine.photos.probe import probe
from faceembed.engine.pipeline.batch import Item
from faceembed.engine.pipeline.encode import Encoder
from faceembed.engine.pipeline.intake import BATCH_BYTES
from faceembed.engine.pipeline.serving import Embedder, SeenPhoto
from faceembed.errors import FaceEmbedError, PhotoError

ENOUGH_PHOTOS = 16
"""In one batch. Measured with faceembed-align and dlib-resnet, two batches side by side on 2 cores, milliseconds of processor time a
photo: 18.0 one by one, 14.4 in twos, 13.0 in fours, 14.2 in eights, 13.8 in sixteens, 12.3 in batches of 32. Through the server,
sixteen beats eight all the same: fewer batches, fewer moments in which a core waits for the next one."""
SMALL_BYTES = 1 << 18  # of uploads whose headers are read without a thread
COMPUTING_BYTES = 512 << 20  # of decoded pixels in all batches under way
EXPLANATIONS = 4  # that may wait for each other
T = TypeVar("T")
Chip = NDArray[np.uint8]
"""(H, W, 3) RGB."""
Explainer = Callable[[Chip, Chip, threading.Event], Explanation]
"""Explains two faces, in a thread; may stop early once nobody waits any more, which the event says."""


class Service:
    """One server's state.

    Args:
        embedder: both models.
        limits: what clients may ask for.
        key: who may ask.
        gallery: the index that is searched, if there is one.
        gradient: explains by gradients, if that is possible here.
    """

    def __init__(
        self,
        embedder: Embedder,
        *,
        limits: Limits | None = None,
        key: Key | None = None,
        gallery: Gallery | None = None,
        people: PeopleFile | None = None,
        gradient: Explainer | None = None,
    ) -> None:
        self.embedder = embedder
        self.limits = limits or Limits()
        self.key = key or Key(None)
        self.gallery = gallery
        self.people = people
        self.explainers: dict[str, Explainer] = {"occlusion": self._occlude}
        if gradient is not None:
            self.explainers["gradient"] = gradient
        self.metrics = Metrics()
        self.memory = Memory(self.limits.memory)
        self.rate = RateLimiter(self.limits.requests_per_minute)
        self.batcher = self._batcher()
        self._explaining = asyncio.Semaphore(1)
        self._explanations = 0
        self.metrics.gauge("photos_waiting", "Photos that no thread has taken yet.", lambda: self.batcher.waiting)
        self.metrics.gauge("held_bytes", "Bytes of requests in memory.", lambda: self.memory.held)

    def _batcher(self) -> Batcher[Item, SeenPhoto]:
        return Batcher(
            self._compute,
            workers=self.embedder.workers,
            most=self.embedder.cutter.intake.batch,
            enough=ENOUGH_PHOTOS,
            weigh=lambda item: item.decoded_bytes,
            heaviest=self.embedder.cutter.settings.spending.decoded or BATCH_BYTES,
            in_all=COMPUTING_BYTES,
            queue=self.limits.queue,
            on_batch=self.metrics.batch.observe,
        )

    def _compute(self, items: Sequence[Item]) -> list[SeenPhoto]:
        started = time.perf_counter()
        seen = self.embedder.embed(items)
        self.metrics.batch_seconds.observe(time.perf_counter() - started)
        for photo in seen:
            self.metrics.photos.labels(photo.stage or "faces").inc()
            self.metrics.faces.inc(len(photo.faces))
        return seen

    def admit(self, request: Request, *, role: str = READ) -> None:
        """Count a request and check its key, before any of its body is read.

        Raises:
            ApiError: 429, 401 or 403.
        """
        self.rate.take(request.client.host if request.client else "")
        self.key.check(request, role=role)

    @contextlib.asynccontextmanager
    async def received(
        self,
        request: Request,
        *,
        files: str = "photos",
        least: int,
        most: int,
        fields: Collection[str] = (),
        role: str = READ,
    ) -> AsyncIterator[Form]:
        """A request's form, in memory for as long as the block lasts.

        Args:
            request: its body is not yet read.
            files: the field of the photos.
            least, most: how many photos.
            fields: other fields that are known.
            role: that its key must have.

        Raises:
            ApiError: the request is refused.
        """
        self.admit(request, role=role)
        with self.memory.lease() as hold:
            form = await read_body(request, files=files, most=most, fields=fields, limits=self.limits, hold=hold)
            if len(form.photos) < least:
                raise ApiError(422, "too_few_photos", f"{len(form.photos)} photos in '{files}'; send at least {least}")
            yield form

    async def look(self, request: Request, uploads: Sequence[Upload]) -> list[SeenPhoto]:
        """Find and embed the faces of photos; given up if the client leaves.

        Raises:
            ApiError: a photo that is none, is too large or damaged; or no answer in time.
        """
        seen = await self.unless_gone(request, self._look(uploads), seconds=self.limits.compute_seconds)
        for upload, photo in zip(uploads, seen, strict=True):
            if photo.stage == "decode":
                raise ApiError(422, "damaged_photo", f"{upload.name}: {photo.reason}", photo=upload.name)
            if photo.stage == "memory":
                raise ApiError(503, "busy", "no memory is left for this photo now; try again soon", retry_after=2)
        return seen

    async def _look(self, uploads: Sequence[Upload]) -> list[SeenPhoto]:
        if sum(len(upload.data) for upload in uploads) <= SMALL_BYTES:
            items = [self._take(upload) for upload in uploads]
        else:
            items = await run_in_threadpool(lambda: [self._take(upload) for upload in uploads])
        return await self.batcher.submit(items)

    def _take(self, upload: Upload) -> Item:
        try:
            return self.embedder.take(upload.data)
        except PhotoError as error:
            problem = error
        try:
            header = probe(upload.data)
        except PhotoError:
            raise ApiError(415, "not_a_picture", f"{upload.name}: {problem.reason}", photo=upload.name) from None
        most = self.embedder.cutter.settings.max_pixels
        size = (
            f"{header.width}x{header.height} is {header.pixels / 1e6:.1f} megapixels; at most {most / 1e6:g} are taken"
        )
        raise ApiError(413, "too_many_pixels", f"{upload.name}: {size}", photo=upload.name)

    async def explain(self, request: Request, chip_a: Chip, chip_b: Chip, *, method: str) -> Explanation:
        """Maps of two faces, one pair at a time; given up if the client leaves.

        Args:
            request: whose client waits.
            chip_a, chip_b: aligned faces.
            method: one of `explainers`.

        Raises:
            ApiError: 503, others wait already; 422, the method cannot explain this encoder.
        """
        if self._explanations >= EXPLANATIONS:
            raise ApiError(503, "busy", "other explanations are being computed; try again soon", retry_after=10)
        stopped = threading.Event()

        async def in_turn() -> Explanation:
            async with self._explaining:
                try:
                    return await run_in_threadpool(self.explainers[method], chip_a, chip_b, stopped)
                except FaceEmbedError as error:
                    raise ApiError(422, "unavailable", str(error)) from error

        self._explanations += 1
        try:
            return await self.unless_gone(request, in_turn(), seconds=self.limits.explain_seconds)
        finally:
            self._explanations -= 1
            stopped.set()

    def _occlude(self, chip_a: Chip, chip_b: Chip, stopped: threading.Event) -> Explanation:
        encoder = _Stoppable(self.embedder.encoder, stopped)
        return explain(encoder, chip_a, chip_b, gated=self.embedder.spec.gated)

    async def unless_gone(self, request: Request, work: Coroutine[Any, Any, T], *, seconds: float) -> T:
        """The result of ``work``, which is cancelled when the client leaves or time is up.

        Raises:
            ClientDisconnect: nobody waits for the answer any more.
            ApiError: 503, no answer in time.
        """
        task, watch = asyncio.ensure_future(work), asyncio.ensure_future(_gone(request))
        try:
            await asyncio.wait({task, watch}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
            if watch.done():
                raise ClientDisconnect
            raise ApiError(503, "busy", "no answer in time; try again later, or with fewer photos", retry_after=10)
        finally:
            watch.cancel()
            task.cancel()

    async def close(self) -> None:
        """Finish what is under way."""
        await self.batcher.close()


class _Stoppable:
    """An encoder that fails once nobody waits for it."""

    def __init__(self, encoder: Encoder, stopped: threading.Event) -> None:
        self._encoder = encoder
        self._stopped = stopped

    def encode(self, chips: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """As `Encoder.encode`."""
        if self._stopped.is_set():
            raise InterruptedError("nobody waits for this any more")
        return self._encoder.encode(chips)


async def _gone(request: Request) -> None:
    """Return when the client has left."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
