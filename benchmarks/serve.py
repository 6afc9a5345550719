"""How much of the models' own rate a server passes on, and how long its clients wait: 1, 8 and 32 at a time.

    python benchmarks/serve.py
    python benchmarks/serve.py --set people_wild --rounds 5 --json serve.json

What bounds it. The server computes what `Pipeline.run` computes on the same photos in the same process: decode, find all faces,
align, encode. Reading requests, forms and JSON comes on top, on the same cores, and so do the clients. A lone client's photo is a
batch of one, on one core: small batches cost more a photo (the networks' inputs are padded to 8), so most of the rate needs
several clients.

How. `faceembed serve` runs as a user starts it, without a rate limit. Clients live in this process and send bytes made before,
one photo a request, over connections that they keep; each sends its next when it has its answer (closed loop), until a number of requests is used up; the rate is that of the time in which all were busy. The in-process
rate is `Pipeline.run` over the same files, models loaded and warm. Rounds take turns: in-process, then each number of clients, so
that a busy machine disturbs all alike; quoted is the median over rounds of the ratio within a round. The clients' own processor
time is part of the result: a real client's is spent elsewhere. Processor time a photo, in-process over the server's, says what the
server adds whatever else the machine does.

Not measured: slow networks, TLS, several photos in a request (they make better batches), explanations, searching.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import itertools
import json
import shlex
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import common
import processes
from common import BenchmarkError, say

SERVE = f"{shlex.quote(sys.executable)} -m faceembed serve"
GOAL = 0.8
_BOUNDARY = b"faceembed-benchmark"


@dataclasses.dataclass(frozen=True)
class Server:
    """Where a server listens, and its process."""

    host: str
    port: int
    pid: int


def form(photo: bytes, host: str) -> bytes:
    """A request with one photo, whole."""
    body = b'--%b\r\nContent-Disposition: form-data; name="photos"; filename="photo"\r\n\r\n%b\r\n--%b--\r\n' % (
        _BOUNDARY,
        photo,
        _BOUNDARY,
    )
    head = (
        f"POST /api/v1/embed HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}\r\n"
        f"Content-Type: multipart/form-data; boundary={_BOUNDARY.decode()}\r\n\r\n"
    )
    return head.encode() + body


async def client(host: str, port: int, requests: Iterator[bytes]) -> list[tuple[float, float]]:
    """Ask until no request is left; when each was sent and answered.

    Raises:
        BenchmarkError: an answer is an error.
    """
    reader, writer = await asyncio.open_connection(host, port)
    times = []
    try:
        for request in requests:
            started = time.perf_counter()
            writer.write(request)
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = int(head.partition(b"content-length:")[2].split(b"\r\n")[0])
            body = await reader.readexactly(length)
            if head.split(b" ")[1] != b"200":
                raise BenchmarkError(f"the server answers {body[:200]!r}")
            times.append((started, time.perf_counter()))
    finally:
        writer.close()
        await writer.wait_closed()
    return times


async def load(server: Server, requests: Sequence[bytes], clients: int, count: int) -> dict[str, Any]:
    """So many requests by so many clients: what all of them together got."""
    before = batches(server)
    cpu, own, started = processes.cpu_seconds(server.pid), time.process_time(), time.perf_counter()
    shared = itertools.islice(itertools.cycle(requests), count)
    each = await asyncio.gather(*(client(server.host, server.port, shared) for _ in range(clients)))
    wall = time.perf_counter() - started
    times = [pair for pairs in each for pair in pairs]
    photos, computed = (now - then for now, then in zip(batches(server), before, strict=True))
    return {
        "batch": photos / computed,
        "rate": steady_rate(times, clients),
        "times": [end - start for start, end in times],
        "cpu": (processes.cpu_seconds(server.pid) - cpu) / len(times),
        "client_cpu": (time.process_time() - own) / wall,
    }


def batches(server: Server) -> tuple[float, float]:
    """Photos in batches so far, and batches: what the server itself counts."""
    with urllib.request.urlopen(f"http://{server.host}:{server.port}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    values = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    return float(values["faceembed_batch_photos_sum"]), float(values["faceembed_batch_photos_count"])


def steady_rate(times: Sequence[tuple[float, float]], clients: int) -> float:
    """Answers a second, from the first answer until the last request was sent: all clients were busy then."""
    first, last = min(end for _, end in times), max(start for start, _ in times)
    inside = sum(first < end <= last for _, end in times)
    if last <= first or inside < 2 * clients:
        raise BenchmarkError(f"{len(times)} requests are too few for {clients} clients; give more with --requests")
    return inside / (last - first)


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that so large a share of all does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, -(-int(share * 1000) * len(ordered) // 1000) - 1))]


def summarise(rounds: Sequence[dict[str, Any]], counts: Sequence[int]) -> dict[str, Any]:
    """Medians over rounds, and times over all of their requests."""
    found: dict[str, Any] = {"in_process_rate": round(statistics.median(r["in_process"] for r in rounds), 1)}
    for count in counts:
        runs = [r["clients"][count] for r in rounds]
        ratios = [r["clients"][count]["rate"] / r["in_process"] for r in rounds]
        times = [value for run in runs for value in run["times"]]
        found[str(count)] = {
            "rate": round(statistics.median(run["rate"] for run in runs), 1),
            "ratio": round(statistics.median(ratios), 3),
            "ratio_range": [round(min(ratios), 3), round(max(ratios), 3)],
            "p50_ms": round(1000 * quantile(times, 0.5), 1),
            "p99_ms": round(1000 * quantile(times, 0.99), 1),
            "requests": len(times),
            "cpu_ratio": round(statistics.median(r["cpu"] / r["clients"][count]["cpu"] for r in rounds), 3),
            "batch": round(statistics.median(run["batch"] for run in runs), 1),
            "client_cores": round(statistics.median(run["client_cpu"] for run in runs), 3),
        }
    return found


@contextlib.contextmanager
def serving(command: str, precision: str) -> Iterator[Server]:
    """A server in a process of its own, without a rate limit."""
    arguments = [*shlex.split(command), "--port", "0", "--rate-limit", "0", "--precision", precision, "--json", "-q"]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        if not line:
            raise BenchmarkError(f"{' '.join(arguments)} ended with {process.wait()}")
        address = urlsplit(json.loads(line)["url"])
        yield Server(str(address.hostname), int(address.port or 80), process.pid)
    finally:
        process.terminate()
        process.wait(60)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """All rounds."""
    from faceembed.engine.photos.listing import list_photos
    from faceembed.engine.pipeline import loading
    from faceembed.engine.pipeline.settings import EmbedSettings
    from faceembed.engine.runtimes.choose import RuntimeSettings

    document: dict[str, Any] = {"benchmark": "serve", "machine": common.machine(), "goal": GOAL}
    root = common.data_root() / args.set
    names = common.sample(common.list_photos(root), args.photos, seed=args.seed)
    photos = list_photos([root / name for name in names]).photos
    settings = EmbedSettings(faces="all", runtime=RuntimeSettings(precision=args.precision))
    pipeline = loading.open_pipeline(settings, loading.resolve_models(settings), photos, notice=say)

    def in_process() -> tuple[float, float]:
        started, cpu = time.perf_counter(), time.process_time()
        with contextlib.closing(pipeline.run(photos)) as outcomes:
            for _ in outcomes:
                pass
        return len(photos) / (time.perf_counter() - started), (time.process_time() - cpu) / len(photos)

    rounds: list[dict[str, Any]] = []
    with serving(args.serve_command, args.precision) as server:
        requests = [form((root / name).read_bytes(), f"{server.host}:{server.port}") for name in names]
        asyncio.run(load(server, requests, 8, 64))
        in_process()
        for number in range(args.rounds):
            rate, cpu = in_process()
            clients = {
                count: asyncio.run(load(server, requests, count, max(args.requests, 4) * count))
                for count in args.clients
            }
            rounds.append({"in_process": rate, "cpu": cpu, "clients": clients})
            shares = ", ".join(f"{count}: {run['rate'] / rate:.2f}" for count, run in clients.items())
            say(f"round {number + 1}: in-process {rate:.1f}/s; share with so many clients {shares}")
    choice = pipeline.encoder.choice
    return {
        **document,
        "set": args.set,
        "photos": len(photos),
        "rounds": args.rounds,
        "requests": args.requests,
        "encoder": pipeline.encoder.model.spec.name,
        "aligner": settings.aligner,
        "runtime": choice.runtime,
        "precision": choice.precision,
        "versions": common.versions("faceembed", "fastapi", "uvicorn", "openvino"),
        "clients": args.clients,
        "results": summarise(rounds, args.clients),
    }


def report(document: dict[str, Any]) -> str:
    """The table."""
    results = document["results"]
    header = [
        "clients",
        "photos/s",
        "of in-process",
        "range",
        "by cpu time",
        "batch",
        "p50 ms",
        "p99 ms",
        "client cores",
    ]
    rows: list[list[object]] = [["in-process", results["in_process_rate"], 1, "", 1, "", "", "", ""]]
    for count in document["clients"]:
        found = results[str(count)]
        low, high = found["ratio_range"]
        middle = [found[name] for name in ("cpu_ratio", "batch", "p50_ms", "p99_ms", "client_cores")]
        rows.append([count, found["rate"], found["ratio"], f"{low} to {high}", *middle])
    return common.table(header, rows)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Load a server with 1, 8 and 32 clients beside the in-process rate.")
    parser.add_argument("--set", default="lfw", help="folder of the data (default lfw)")
    parser.add_argument("--photos", type=int, default=256, help="different photos (default 256)")
    parser.add_argument("--clients", default="1,8,32", help="at a time (default 1,8,32)")
    parser.add_argument("--rounds", type=int, default=5, help="(default 5)")
    parser.add_argument("--requests", type=int, default=12, help="of each client in a round (default 12)")
    parser.add_argument("--precision", default="fp32", help="of both (default fp32)")
    parser.add_argument("--seed", type=int, default=0, help="of the sample of photos")
    parser.add_argument("--serve-command", default=SERVE, help="what to run (default: python -m faceembed serve)")
    parser.add_argument("--json", type=Path, help="also write the result here")
    args = parser.parse_args(arguments)
    args.clients = [int(count) for count in args.clients.split(",") if count]
    if not args.clients or min(args.clients) < 1 or args.rounds < 1:
        parser.error("--clients must be numbers of 1 or more, --rounds 1 or more")
    return args


def main(arguments: Sequence[str] | None = None) -> None:
    common.run_and_report(parse(arguments), run, report)


if __name__ == "__main__":
    main()
