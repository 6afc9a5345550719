"""`faceembed serve`: the page and the API over one pair of models."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import signal
import socket
import threading
from typing import TYPE_CHECKING

import click

from faceembed.cli.group import AFTER_INTERRUPT, Failed
from faceembed.cli.options import ModelOptions, Output, file_option, model_options, output_options
from faceembed.install import pip_install

if TYPE_CHECKING:
    from faceembed.cli.reporter import Reporter
    from faceembed.cli.web.limits import Limits
    from faceembed.cli.web.service import Chip, Explainer, Service
    from faceembed.engine.explain.occlusion import Explanation

_GATE_PHOTOS = 256  # of the index, for the parity gate of a fast precision
_GRACE_SECONDS = 10  # for the requests under way when the server is told to end
_PACKAGES = ("fastapi", "python_multipart", "prometheus_client", "uvicorn")


@click.command()
@file_option("--index", metavar="INDEX.faiss", help="An index to search by photo.")
@file_option(
    "--gallery",
    metavar="FILE",
    help="People by name, as enrol makes it: identify, and with a key of the role write, enrol.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8000,
    show_default=True,
    help="Port to listen on; 0 for any free one.",
)
@file_option(
    "--api-key-file",
    metavar="FILE",
    help="File with the key clients must send, or lines of 'read KEY' and 'write KEY'.  [default: $FACEEMBED_API_KEY]",
)
@click.option("--insecure", is_flag=True, help="Listen beyond this machine without a key.")
@click.option(
    "--allowed-host",
    multiple=True,
    metavar="NAME",
    help="Also answer to this host name, as behind a proxy. Repeatable.",
)
@click.option("--trust-proxy", metavar="ADDRESS", help="Take clients' addresses from this proxy's X-Forwarded-For.")
@click.option("--max-photos", type=click.IntRange(2, 100), default=10, show_default=True, help="Photos in a request.")
@click.option("--max-mib", type=click.IntRange(min=1), default=64, show_default=True, help="Size of a request, in MiB.")
@click.option(
    "--rate-limit",
    type=click.IntRange(min=0),
    default=240,
    show_default=True,
    help="Requests of one client in a minute; 0 for no limit.",
)
@click.option("--access-log", is_flag=True, help="A line on stderr for each request: client, path and status.")
@model_options
@output_options
@click.pass_context
def serve(
    ctx: click.Context,
    index: str | None,
    gallery: str | None,
    host: str,
    port: int,
    api_key_file: str | None,
    insecure: bool,
    allowed_host: tuple[str, ...],
    trust_proxy: str | None,
    max_photos: int,
    max_mib: int,
    rate_limit: int,
    access_log: bool,
    models: ModelOptions,
    out: Output,
) -> None:
    """Serve a page and an API that embed, compare and search faces.

    Photos live in memory for as long as their request takes and are never stored. Other machines are let in with a key
    only. The API is described at /openapi.json, its counters for Prometheus are at /metrics.

    \b
    Example:
        faceembed serve
        faceembed serve --index people.faiss --port 9000
        faceembed serve --gallery staff.gallery --api-key-file keys.txt
        faceembed serve --host 0.0.0.0 --api-key-file key.txt
    """
    for package in _PACKAGES:
        if importlib.util.find_spec(package) is None:
            raise Failed(f"this needs '{package}', which is not installed; run: {pip_install('serve')}")
    from faceembed.cli.web.limits import MIB, Limits
    from faceembed.cli.web.security import LOOPBACK, Key, is_loopback, read_keys
    from faceembed.errors import UsageError

    ctx.meta[AFTER_INTERRUPT] = "The requests under way were answered."
    key, local = Key(read_keys(api_key_file)), is_loopback(host)
    if not local and not key.required and not insecure:
        raise UsageError(
            f"{host} can be reached from other machines: give a key with --api-key-file, or --insecure to do without"
        )
    limits = Limits(
        photos=max_photos, bytes=max_mib * MIB, requests_per_minute=rate_limit, memory=max(8 * max_mib, 512) * MIB
    )
    hosts = {*allowed_host, *((host, *LOOPBACK) if local else ())} if local or allowed_host else set()
    with contextlib.closing(_listen(host, port)) as listener, out.reporter() as reporter:
        service = _service(index, gallery, models, limits, key, reporter)
        _run(service, listener, hosts, trust_proxy, access_log, out)


def _listen(host: str, port: int) -> socket.socket:
    """A socket that listens, before the models are loaded: a port that is taken is found out at once."""
    try:
        address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except OSError as error:
        raise Failed(f"--host {host}: {error.strerror or error}") from error
    listener = socket.socket(address[0], address[1])
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # connections inherit it; asyncio sets it only where the socket names its protocol, and without it an answer's body waits
        # for the client's acknowledgement of its head, 40 ms
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listener.bind(address[4])
        listener.listen(512)
    except OSError as error:
        listener.close()
        advice = "end what uses it, or choose another with --port" if port else "choose another with --host"
        raise Failed(f"cannot listen on {host} port {port}: {error.strerror or error}; {advice}") from error
    return listener


def _service(
    index: str | None, people: str | None, models: ModelOptions, limits: Limits, key: object, reporter: Reporter
) -> Service:
    from faceembed.cli.web.gallery import Gallery
    from faceembed.cli.web.people import PeopleFile
    from faceembed.cli.web.security import Key
    from faceembed.cli.web.service import Service
    from faceembed.engine.pipeline import loading
    from faceembed.engine.pipeline.serving import open_embedder

    assert isinstance(key, Key)
    settings = models.settings(faces="all")
    spec = loading.resolve_models(settings).encoder.spec
    gallery = Gallery(index, spec, notice=reporter.notice) if index is not None else None
    known = PeopleFile(people, spec) if people is not None else None
    gate = gallery.photos(_GATE_PHOTOS) if gallery is not None else []
    embedder = open_embedder(settings, gate=gate, notice=reporter.notice)
    return Service(
        embedder, limits=limits, key=key, gallery=gallery, people=known, gradient=_gradient(settings.encoder)
    )


def _gradient(encoder: str) -> Explainer | None:
    """Explanations by gradients, where PyTorch is installed; the encoder is loaded into it when they are first asked for."""
    if importlib.util.find_spec("torch") is None:
        return None

    @functools.cache
    def network() -> object:
        from faceembed.trainer.gradients.attack_gradient import open_network

        return open_network(encoder, arch=None, device="cpu", batch=32)

    def explain(chip_a: Chip, chip_b: Chip, stopped: threading.Event) -> Explanation:
        from faceembed.trainer.gradients.attack_gradient import Network
        from faceembed.trainer.gradients.explain import explain_gradient

        loaded = network()
        assert isinstance(loaded, Network)
        return explain_gradient(loaded, chip_a, chip_b)

    return explain


def _run(
    service: Service, listener: socket.socket, hosts: set[str], trust_proxy: str | None, access_log: bool, out: Output
) -> None:
    """Answer requests until a signal ends it: SIGTERM with exit code 0, Ctrl-C as for every command."""
    import uvicorn

    from faceembed.cli.web.app import create_app
    from faceembed.cli.web.http import timed_protocol

    config = uvicorn.Config(
        create_app(service, hosts=hosts),
        http=timed_protocol(service.limits.pause_seconds),
        ws="none",
        lifespan="on",
        log_level="info" if access_log else "warning",
        access_log=access_log,
        proxy_headers=trust_proxy is not None,
        forwarded_allow_ips=trust_proxy,
        server_header=False,
        limit_concurrency=service.limits.connections,
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )
    name, port = listener.getsockname()[:2]
    url = f"http://{f'[{name}]' if ':' in name else name}:{port}"

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            document = {"url": url, "encoder": service.embedder.spec.name, "key_required": service.key.required}
            out.summary(document, f"{url} is ready; Ctrl-C ends it")

    signal.signal(signal.SIGTERM, lambda *_: None)  # uvicorn raises it again once it has ended
    Server(config).run([listener])
