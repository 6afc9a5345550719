"""What one client, and all of them together, may ask for: sizes, pace, and bytes in memory."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import ipaddress
import math
import time
from collections.abc import Callable, Iterator

from faceembed.cli.web.errors import ApiError
from faceembed.errors import UsageError

MIB = 1 << 20


@dataclasses.dataclass(frozen=True)
class Limits:
    """What is taken, and for how long a client is waited for."""

    photos: int = 10
    """In one request."""
    bytes: int = 64 * MIB
    """Of one request's body."""
    faces: int = 32
    """Described in one photo; the smallest ones beyond are counted only."""
    upload_seconds: float = 60.0
    """For a whole body to arrive."""
    pause_seconds: float = 10.0
    """Between two pieces of a body, and for a request's headers."""
    compute_seconds: float = 60.0
    """From the whole body to the answer."""
    explain_seconds: float = 180.0
    """The same for an explanation, which embeds some 950 chips and may wait for another one."""
    requests_per_minute: int = 240
    """Of one client, after a first quarter of that at once; 0 for no limit."""
    memory: int = 512 * MIB
    """Bodies held at one time, of all clients."""
    queue: int = 512
    """Photos waiting at one time, of all clients."""
    connections: int = 512
    """Open at one time, of all clients."""

    def __post_init__(self) -> None:
        above_zero = ("photos", "bytes", "faces", "queue", "upload_seconds", "pause_seconds", "compute_seconds")
        for name in above_zero:
            if getattr(self, name) <= 0:
                raise UsageError(f"the limit of {name.replace('_', ' ')} is {getattr(self, name)}; it must be above 0")
        if self.photos < 2:
            raise UsageError("the limit of photos is 1; comparing needs at least 2")
        if self.requests_per_minute < 0:
            raise UsageError("the rate limit must be 0 (none) or more")


class RateLimiter:
    """A token bucket for each client address (for IPv6 each /64, of which one client has a whole).

    Args:
        per_minute: tokens that a bucket gains in a minute; it holds a quarter of that, at least 1. 0 lets everything pass.
        clock: seconds.
    """

    _MOST_CLIENTS = 20_000

    def __init__(self, per_minute: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = per_minute / 60
        self._burst = float(max(1, per_minute // 4))
        self._clock = clock
        self._buckets: collections.OrderedDict[str, tuple[float, float]] = collections.OrderedDict()

    def take(self, client: str) -> None:
        """Count one request.

        Raises:
            ApiError: 429, there were too many.
        """
        if not self._rate:
            return
        now, client = self._clock(), _network(client)
        tokens, since = self._buckets.pop(client, (self._burst, now))
        tokens = min(self._burst, tokens + (now - since) * self._rate)
        self._buckets[client] = (tokens - 1 if tokens >= 1 else tokens, now)  # at the end: the one seen last
        while len(self._buckets) > self._MOST_CLIENTS:
            self._buckets.popitem(last=False)
        if tokens < 1:
            wait = math.ceil((1 - tokens) / self._rate)
            raise ApiError(429, "rate_limited", f"too many requests; try again in {wait} s", retry_after=wait)


def _network(client: str) -> str:
    try:
        address = ipaddress.ip_address(client)
    except ValueError:
        return client
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped:
            return str(address.ipv4_mapped)
        return str(ipaddress.IPv6Network((address, 64), strict=False).network_address)
    return client


class Memory:
    """Bytes of bodies that are held at one time.

    Args:
        most: of all requests together.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self.held = 0

    @contextlib.contextmanager
    def lease(self) -> Iterator[Callable[[int], None]]:
        """Hold memory for one request; call what it gives with every number of bytes more.

        Raises:
            ApiError: 503, all requests together hold too much.
        """
        mine = 0

        def more(count: int) -> None:
            nonlocal mine
            if self.held + count > self._most:
                raise ApiError(503, "busy", "too many photos are being sent at once; try again soon", retry_after=2)
            self.held += count
            mine += count

        try:
            yield more
        finally:
            self.held -= mine
