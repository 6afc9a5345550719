"""Pace, memory and the settings of the limits; what a request over a limit is told."""

from __future__ import annotations

import asyncio
import time
import zlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from faceembed.cli.web.errors import ApiError
from faceembed.cli.web.limits import Limits, Memory, RateLimiter
from faceembed.cli.web.service import Service
from faceembed.engine.pipeline.serving import Embedder
from faceembed.errors import UsageError

FORM = {"Content-Type": "multipart/form-data; boundary=b0undary"}


def code(response: Any) -> tuple[int, str]:
    error = response.json()["error"]
    assert set(error) == {"code", "message", "photo"}
    assert error["message"]
    return response.status_code, error["code"]


def test_rate_is_a_bucket_for_each_client() -> None:
    now = 0.0
    limiter = RateLimiter(60, clock=lambda: now)
    for _ in range(15):
        limiter.take("10.0.0.1")
    with pytest.raises(ApiError) as refused:
        limiter.take("10.0.0.1")
    assert (refused.value.status, refused.value.headers["Retry-After"]) == (429, "1")
    limiter.take("10.0.0.2")
    now = 2.0
    limiter.take("10.0.0.1")
    limiter.take("10.0.0.1")
    with pytest.raises(ApiError):
        limiter.take("10.0.0.1")
    now = 1e6
    for _ in range(15):  # a bucket holds no more than that
        limiter.take("10.0.0.1")
    with pytest.raises(ApiError):
        limiter.take("10.0.0.1")


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        ("2001:db8::1", "2001:db8::ffff:2", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:10.0.0.1", "10.0.0.1", True),
        ("::ffff:10.0.0.1", "::ffff:10.0.0.2", False),
        ("a socket", "a socket", True),
    ],
)
def test_who_is_one_client(a: str, b: str, same: bool) -> None:
    limiter = RateLimiter(4, clock=lambda: 0.0)
    limiter.take(a)
    if same:
        with pytest.raises(ApiError):
            limiter.take(b)
    else:
        limiter.take(b)


def test_clients_that_are_remembered_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RateLimiter, "_MOST_CLIENTS", 3)
    limiter = RateLimiter(4, clock=lambda: 0.0)
    for number in range(50):
        limiter.take(f"10.0.0.{number}")
    assert len(limiter._buckets) == 3


def test_no_rate_limit() -> None:
    limiter = RateLimiter(0, clock=lambda: 0.0)
    for _ in range(1000):
        limiter.take("10.0.0.1")


def test_memory_is_given_back() -> None:
    memory = Memory(10)
    with memory.lease() as more:
        more(6)
        with pytest.raises(ApiError) as refused, memory.lease() as other:
            other(5)
        assert (refused.value.status, refused.value.code, memory.held) == (503, "busy", 6)
    assert memory.held == 0


@pytest.mark.parametrize("bad", [{"photos": 1}, {"bytes": 0}, {"pause_seconds": 0}, {"requests_per_minute": -1}])
def test_limits_that_make_no_sense(bad: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        Limits(**bad)


def test_requests_over_the_rate(ask: Any, embedder: Embedder) -> None:
    service = Service(embedder, limits=Limits(requests_per_minute=8))

    async def questions(client: Any) -> Any:
        answers = [await client.post("/api/v1/embed") for _ in range(3)]
        return [*answers, await client.get("/api/v1/health")]

    first, second, third, health = ask(service, questions)
    assert code(first) == code(second) == (415, "wrong_content_type")
    assert code(third) == (429, "rate_limited")
    assert int(third.headers["Retry-After"]) > 0
    assert health.status_code == 200


def test_too_many_photos(post: Any, picture: Any, embedder: Embedder) -> None:
    response = post("embed", *[picture(1)] * 4, service=Service(embedder, limits=Limits(photos=3)))
    assert code(response) == (413, "too_many_photos")
    assert "at most 3" in response.json()["error"]["message"]
    assert code(post("search", *[picture(1)] * 2, field="photo")) == (404, "no_index")


@pytest.mark.parametrize("announced", [True, False])
def test_a_body_over_the_limit_is_not_read_to_its_end(ask: Any, embedder: Embedder, announced: bool) -> None:
    service, sent = Service(embedder, limits=Limits(bytes=100_000)), 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal sent
        yield b'--b0undary\r\nContent-Disposition: form-data; name="photos"; filename="p"\r\n\r\n'
        for _ in range(1000):
            sent += 10_000
            yield bytes(10_000)

    headers = {**FORM, **({"Content-Length": "10000000"} if announced else {})}
    response = ask(service, lambda client: client.post("/api/v1/embed", content=body(), headers=headers))
    assert code(response) == (413, "too_many_bytes")
    assert sent <= (0 if announced else 110_000)
    assert service.memory.held == 0


def test_bodies_of_all_clients_together(ask: Any, embedder: Embedder, multipart: Any, picture: Any) -> None:
    service = Service(embedder, limits=Limits(memory=100_000))
    started = asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield multipart([bytes(70_000)])[:70_000]
        started.set()
        await asyncio.sleep(0.2)

    async def questions(client: Any) -> Any:
        first = asyncio.create_task(client.post("/api/v1/embed", content=slow(), headers=FORM))
        await started.wait()
        second = await client.post("/api/v1/embed", content=multipart([bytes(70_000)]), headers=FORM)
        await first
        third = await client.post("/api/v1/embed", content=multipart([picture(1)]), headers=FORM)
        return second, third

    second, third = ask(service, questions)
    assert code(second) == (503, "busy")
    assert second.headers["Retry-After"]
    assert third.status_code == 200


@pytest.mark.parametrize(("pause", "whole"), [(0.05, 10.0), (10.0, 0.1)])
def test_a_slow_body(ask: Any, embedder: Embedder, pause: float, whole: float) -> None:
    service = Service(embedder, limits=Limits(pause_seconds=pause, upload_seconds=whole))

    async def trickle() -> AsyncIterator[bytes]:
        yield b'--b0undary\r\nContent-Disposition: form-data; name="photos"; filename="p"\r\n\r\n'
        for _ in range(1000):
            await asyncio.sleep(1 if pause < 1 else 0.01)
            yield b"x"

    response = ask(service, lambda client: client.post("/api/v1/embed", content=trickle(), headers=FORM))
    assert code(response) == (408, "slow_client")
    assert response.headers["Connection"] == "close"


def zip_bomb(width: int, height: int) -> bytes:
    """A PNG of so many black pixels, in few bytes."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + name + data + zlib.crc32(name + data).to_bytes(4, "big")

    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + b"\x08\x02\x00\x00\x00"
    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(bytes(1 + 3 * width)) for _ in range(min(height, 500))) + packer.flush()
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def test_a_zip_bomb_is_refused_before_it_is_decoded(
    post: Any, embedder: Embedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("faceembed.engine.pipeline.intake.decode", lambda *_, **__: pytest.fail("it was decoded"))
    bomb = zip_bomb(30_000, 30_000)
    assert len(bomb) < 200_000
    response = post("embed", bomb)
    assert code(response) == (413, "too_many_pixels")
    assert response.json()["error"]["photo"] == "photo-1"
    assert "30000x30000" in response.json()["error"]["message"]


def test_no_answer_in_time(post: Any, embedder: Embedder, picture: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    compute = embedder.embed
    monkeypatch.setattr(embedder, "embed", lambda items: (time.sleep(0.3), compute(items))[1])
    response = post("embed", picture(1), service=Service(embedder, limits=Limits(compute_seconds=0.05)))
    assert code(response) == (503, "busy")
    assert response.headers["Retry-After"]
