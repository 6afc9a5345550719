"""HTTP connections that end in time: uvicorn's, with a clock for what it waits for without one.

It closes connections that are idle between two requests, but not those whose headers never end, whose refused body is never
sent to its end, or whose answer nobody reads.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import STATUS_PHRASES, H11Protocol

from faceembed.cli.web.errors import document
from faceembed.cli.web.security import HEADERS

HEADER_BYTES = 16 << 10  # of a request
LINGER_SECONDS = 5.0  # for the rest of a body that is not wanted: closed at once, its sender would not see why


class TimedProtocol(H11Protocol):
    """One connection."""

    pause_seconds = 10.0
    """For a request's headers, and for a client that does not read."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has come."""
        self._clock: asyncio.TimerHandle | None = None
        super().connection_made(transport)
        self._wind(self.pause_seconds, self._late)

    def connection_lost(self, exc: Exception | None) -> None:
        """It has gone."""
        self._stop()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """It sends."""
        step = HEADER_BYTES if self.conn.their_state is h11.IDLE else len(data)
        for start in range(0, len(data), step):  # headers that arrive in one piece are bounded too
            if not self.transport.is_closing():
                super().data_received(data[start : start + step])
        if self.transport.is_closing():
            return
        if self.conn.their_state is h11.IDLE and self.conn.our_state is h11.IDLE:
            if self._clock is None and self.timeout_keep_alive_task is None:
                self._wind(self.pause_seconds, self._late)  # headers have begun
        elif self.conn.our_state is not h11.DONE:
            self._stop()

    def on_response_complete(self) -> None:
        """Its answer is written."""
        self._stop()
        super().on_response_complete()
        if self.conn.their_state is h11.SEND_BODY and not self.transport.is_closing():
            self._wind(LINGER_SECONDS, self.transport.close)

    def pause_writing(self) -> None:
        """It reads more slowly than is written."""
        super().pause_writing()
        self._wind(self.pause_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """It has caught up."""
        super().resume_writing()
        self._stop()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is not HTTP, or has too long headers."""
        self._refuse(400, document("bad_request", "this is not an HTTP request that can be read"))

    def _late(self) -> None:
        self._clock = None
        self._refuse(408, document("slow_client", "the request did not arrive in time"))

    def _refuse(self, status: int, body: dict[str, Any]) -> None:
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE) and not self.transport.is_closing():
            data = json.dumps(body).encode()
            headers = {"Content-Type": "application/json", "Content-Length": str(len(data)), "Connection": "close"}
            response = h11.Response(
                status_code=status, headers=list({**HEADERS, **headers}.items()), reason=STATUS_PHRASES[status]
            )
            for event in (response, h11.Data(data=data), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def _wind(self, seconds: float, then: Any) -> None:
        self._stop()
        self._clock = self.loop.call_later(seconds, then)

    def _stop(self) -> None:
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None


def timed_protocol(pause_seconds: float) -> type[TimedProtocol]:
    """`TimedProtocol` with other patience."""
    return type("TimedProtocol", (TimedProtocol,), {"pause_seconds": pause_seconds})
