"""Hostile and broken clients: the server refuses them in its own words, never with a 500, and answers the next one."""

from __future__ import annotations

import contextlib
import functools
import json
import socket
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from faceembed.cli.web.app import create_app
from faceembed.cli.web.limits import Limits
from faceembed.cli.web.service import Service
from faceembed.engine.explain.occlusion import OcclusionSettings, explain
from faceembed.engine.pipeline.serving import Embedder
from tests.cli.web.conftest import people_file

with warnings.catch_warnings():  # of its own dependencies, at import
    warnings.simplefilter("ignore")
    import schemathesis
    from schemathesis.specs.openapi.checks import positive_data_acceptance

Address = tuple[str, int]
ROUTES = ("embed", "compare")
LIMITS = Limits(bytes=1_000_000, pause_seconds=0.4, upload_seconds=2.0, requests_per_minute=0)


@pytest.fixture
def live(embedder: Embedder, listening: Any) -> Iterator[tuple[Service, Address]]:
    """A real server with little patience; at the end it must be well."""
    service = Service(embedder, limits=LIMITS)
    with listening(service) as address:
        yield service, address
        health = httpx.get("http://{}:{}/api/v1/health".format(*address), timeout=30)
        assert health.status_code == 200
        deadline = time.monotonic() + 30
        while service.memory.held and time.monotonic() < deadline:
            time.sleep(0.01)
        assert service.memory.held == 0
        assert service.batcher.waiting == 0


def talk(address: Address, *pieces: bytes, pause: float = 0.0) -> bytes:
    """Send bytes as they are, and read until the server closes or has answered."""
    with socket.create_connection(address, timeout=30) as client:
        with contextlib.suppress(ConnectionError):
            for piece in pieces:
                client.sendall(piece)
                time.sleep(pause)
        return read_all(client)


def read_all(client: socket.socket) -> bytes:
    """One whole answer, or all until the connection ends."""
    answer = b""
    with contextlib.suppress(ConnectionError):
        while more := client.recv(65536):
            answer += more
            head, found, body = answer.partition(b"\r\n\r\n")
            length = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
            if found and length and len(body) >= int(length[0].split(b":")[1]):
                break
    return answer


def outcome(answer: bytes) -> tuple[int, str]:
    """Status and code of an answer that is an error."""
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split(b" ", 2)[1]), json.loads(body)["error"]["code"]


def request(
    body: bytes, *, length: int | None = None, kind: bytes = b"multipart/form-data; boundary=b0undary"
) -> bytes:
    return (
        b"POST /api/v1/embed HTTP/1.1\r\nHost: x\r\nContent-Type: %b\r\nContent-Length: %d\r\n\r\n"
        % (kind, len(body) if length is None else length)
        + body
    )


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (b"application/json", (400, "bad_json")),
        (b"image/png", (415, "not_a_picture")),
        (b"text/plain", (415, "wrong_content_type")),
        (b"multipart/mixed; boundary=b0undary", (415, "wrong_content_type")),
        (b"application/x-www-form-urlencoded", (415, "wrong_content_type")),
        (b"\xff\xfe", (415, "wrong_content_type")),
        (b"multipart/form-data", (400, "bad_multipart")),
        (b"multipart/form-data; boundary=", (400, "bad_multipart")),
        (b"multipart/form-data; boundary=" + b"x" * 5000, (400, "bad_multipart")),
        (b"multipart/form-data; boundary=another", (400, "bad_multipart")),
    ],
)
def test_content_types(live: Any, multipart: Any, picture: Any, kind: bytes, expected: tuple[int, str]) -> None:
    assert outcome(talk(live[1], request(multipart([picture(1)]), kind=kind))) == expected


PART = b"--b0undary\r\n%b\r\n\r\nx\r\n--b0undary--\r\n"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", (400, "bad_multipart")),
        (b"--b0undary--\r\n", (422, "too_few_photos")),
        (b"--b0undary\r\n", (400, "bad_multipart")),
        (b"nothing of the kind", (400, "bad_multipart")),
        (PART % b"X: y", (400, "bad_multipart")),
        (PART % b"Content-Disposition: form-data", (400, "bad_multipart")),
        (PART % b'Content-Disposition: form-data; name="photos"', (422, "bad_field")),
        (PART % b'Content-Disposition: form-data; name="other"', (422, "bad_field")),
        (PART % b'Content-Disposition: form-data; name="photos"; filename="\xff\xfe"', (415, "not_a_picture")),
        (PART % (b'Content-Disposition: form-data; name="%b"; filename="a"' % (b"n" * 3000)), (422, "bad_field")),
        (PART % b"\r\n".join([b"A: b"] * 100), (400, "bad_multipart")),
        (PART % (b"A: " + b"b" * 50_000), (400, "bad_multipart")),
        (PART % b"no colon", (400, "bad_multipart")),
        (PART[:-4] % b'Content-Disposition: form-data; name="photos"; filename="a"', (400, "bad_multipart")),
    ],
)
def test_bad_multipart(live: Any, body: bytes, expected: tuple[int, str]) -> None:
    assert outcome(talk(live[1], request(body))) == expected


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        ([b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"], (400, "bad_request")),  # TLS
        ([b"GET / HTTP\r\n\r\n"], (400, "bad_request")),
        ([b"\r\n\0\0\0\r\n\r\n"], (400, "bad_request")),
        ([b"GET / HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 20_000 + b"\r\n"], (400, "bad_request")),
        ([b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"b" * 300_000], (400, "bad_request")),
        ([b"GET /" + b"a" * 300_000], (400, "bad_request")),
        ([b"POST /api/v1/embed HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n"], (400, "bad_request")),
        (
            [b"POST /api/v1/embed HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n"],
            (400, "bad_request"),
        ),
        ([b"POST /api/v1/embed HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n"], (501, "bad_request")),
    ],
)
def test_bad_http(live: Any, pieces: list[bytes], expected: tuple[int, str]) -> None:
    answer = talk(live[1], *pieces)
    assert answer == b"" or outcome(answer)[0] in (400, 501)  # a flood may be cut off before its answer is read
    if len(pieces[0]) < 1000:
        assert outcome(answer)[1] == expected[1]


def test_bad_chunks(live: Any) -> None:
    head = b"POST /api/v1/embed HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=b\r\n"
    answer = talk(live[1], head + b"Transfer-Encoding: chunked\r\n\r\n", b"nonsense\r\nmore\r\n", pause=0.05)
    assert outcome(answer) == (400, "bad_request")


def test_100_mb(live: Any) -> None:
    """Announced or not, a body over the limit is refused with an answer that its sender can read."""

    head = b'--b0undary\r\nContent-Disposition: form-data; name="photos"; filename="p"\r\n\r\n'

    def body() -> Iterator[bytes]:
        yield head
        for _ in range(100):
            yield bytes(1_000_000)

    url = "http://{}:{}/api/v1/embed".format(*live[1])
    headers = {"Content-Type": "multipart/form-data; boundary=b0undary"}
    for more in ({}, {"Content-Length": str(len(head) + 100_000_000)}):
        response = httpx.post(url, content=body(), headers=headers | more, timeout=60)
        assert (response.status_code, response.json()["error"]["code"]) == (413, "too_many_bytes")


@pytest.mark.parametrize(
    "beginning",
    [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: x\r\nX-", b"GET /api/v1/health HTTP/1.1\r\nHost: x\r\n\r\nGET / HT"],
)
def test_headers_that_never_end(live: Any, beginning: bytes) -> None:
    with socket.create_connection(live[1], timeout=30) as client:
        client.sendall(beginning)
        answer = read_all(client)
        if beginning.count(b"GET") > 1:  # between two requests a connection ends without a word
            assert b" 200 OK" in answer
        else:
            assert outcome(answer) == (408, "slow_client")
        assert client.recv(1) == b""


def test_headers_drop_by_drop(live: Any) -> None:
    """Every byte does not buy more time."""
    started = time.monotonic()
    with socket.create_connection(live[1], timeout=30) as client, contextlib.suppress(ConnectionError):
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n")
        for _ in range(400):
            client.sendall(b"A")
            time.sleep(0.05)
    assert time.monotonic() - started < 15


def test_a_body_that_never_ends(live: Any, multipart: Any, picture: Any) -> None:
    body = multipart([picture(1)])
    assert outcome(talk(live[1], request(body[:200], length=len(body)))) == (408, "slow_client")


def test_a_refused_body_that_never_ends_is_cut_off(live: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("faceembed.cli.web.http.LINGER_SECONDS", 0.3)
    with socket.create_connection(live[1], timeout=30) as client:
        client.sendall(request(b"x", length=50_000_000))
        assert outcome(read_all(client)) == (413, "too_many_bytes")
        with contextlib.suppress(ConnectionError):
            for _ in range(600):
                client.sendall(b"x")
                time.sleep(0.05)
            pytest.fail("the connection is still open")


def test_an_answer_that_nobody_reads(live: Any, multipart: Any, picture: Any) -> None:
    """The page's own data address: many answers asked for on one connection, none read."""
    body = multipart([picture(1), picture(2)])
    ask = request(body).replace(b"embed", b"compare")
    with socket.create_connection(live[1], timeout=30) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(5)
        with contextlib.suppress(ConnectionError, TimeoutError):
            for _ in range(200):
                client.sendall(ask)


def test_many_slow_clients_do_not_keep_others_out(live: Any, picture: Any) -> None:
    clients = [socket.create_connection(live[1], timeout=30) for _ in range(100)]
    try:
        for client in clients:
            client.sendall(b"POST /api/v1/embed HTTP/1.1\r\n")
        url = "http://{}:{}/api/v1/embed".format(*live[1])
        assert httpx.post(url, files={"photos": picture(1)}, timeout=30).status_code == 200
    finally:
        for client in clients:
            client.close()


def test_clients_that_leave_in_the_middle(live: Any, multipart: Any, picture: Any) -> None:
    body = request(multipart([picture(1), picture(2)]))
    for cut in range(10, len(body) + 1, len(body) // 25):
        with socket.create_connection(live[1], timeout=30) as client:
            client.sendall(body[:cut])


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, database=None)
@given(
    edits=st.lists(st.tuples(st.floats(0, 1), st.binary(max_size=12), st.integers(0, 12)), min_size=1, max_size=4),
    route=st.sampled_from(ROUTES),
)
def test_forms_with_random_damage(
    ask: Any, embedder: Embedder, multipart: Any, picture: Any, edits: Any, route: str
) -> None:
    body = multipart([picture(1), picture(2, kind=".jpg")])
    for place, new, gone in edits:
        at = int(place * len(body))
        body = body[:at] + new + body[at + gone :]
    headers = {"Content-Type": "multipart/form-data; boundary=b0undary"}
    service = Service(embedder, limits=LIMITS)
    response = ask(service, lambda client: client.post(f"/api/v1/{route}", content=body, headers=headers))
    assert response.status_code in (200, 400, 413, 415, 422)
    if response.status_code != 200:
        assert response.json()["error"]["message"]
    assert service.memory.held == 0


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, database=None)
@given(
    data=st.data(),
    kind=st.sampled_from((".png", ".jpg", ".webp", ".bmp", ".tiff")),
)
def test_photos_with_random_damage(
    ask: Any, embedder: Embedder, files: Any, picture: Any, data: Any, kind: str
) -> None:
    photo = bytearray(picture(1, kind=kind))
    for _ in range(data.draw(st.integers(1, 6))):
        photo[data.draw(st.integers(0, len(photo) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(photo)))
    service = Service(embedder, limits=LIMITS)
    upload = files(bytes(photo[:cut]) if data.draw(st.booleans()) else bytes(photo))
    response = ask(service, lambda client: client.post("/api/v1/embed", files=upload))
    assert response.status_code in (200, 413, 415, 422)


def test_answers_are_what_openapi_promises(
    embedder: Embedder, picture: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Requests made from the API's own description, good and bad ones, get answers of the shapes that it names."""
    quick = functools.partial(explain, settings=OcclusionSettings(windows=(0.5,)))
    monkeypatch.setattr("faceembed.cli.web.service.explain", quick)
    photos = [picture(1), picture(2), picture(3, width=200), b"no picture"]
    schemathesis.openapi.format("binary", st.sampled_from(photos))
    app = create_app(Service(embedder, limits=LIMITS, people=people_file(tmp_path / "staff.gallery")))
    schema = schemathesis.openapi.from_asgi("/openapi.json", app)
    operations = [result.ok() for result in schema.get_all_operations()]
    assert len(operations) == 14
    statuses: set[int] = set()

    for operation in operations:

        @settings(
            max_examples=12, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, database=None
        )
        @given(case=operation.as_strategy())
        def check(case: Any) -> None:
            response = case.call()
            statuses.add(response.status_code)
            assert response.status_code < 500
            case.validate_response(response, excluded_checks=[positive_data_acceptance])  # not all bytes are photos

        check()
    assert {200, 404, 415, 422} <= statuses
