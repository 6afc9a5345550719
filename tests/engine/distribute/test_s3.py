"""A dataset in an object store that answers 503 and too late now and then: nothing is lost, and nothing is there twice."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from faceembed.engine.distribute import lease, store
from faceembed.engine.distribute import plan as planning
from faceembed.engine.distribute.store import Access, Store
from faceembed.engine.pipeline.settings import EmbedSettings
from faceembed.engine.verbs.embed_dataset import embed_dataset
from faceembed.engine.verbs.status import status
from faceembed.errors import DataError, IndexBusyError
from tests.engine.verbs.albums import album, without_networks

pytest.importorskip("moto.server", reason="moto is not installed: pip install 'moto[s3,server]'")
pytestmark = pytest.mark.filterwarnings("ignore")


class Server:
    """moto's S3, before which somebody stands who refuses and dawdles."""

    def __init__(self) -> None:
        from moto.server import DomainDispatcherApplication, create_backend_app
        from werkzeug.serving import make_server

        self.asked = self.refused = 0
        self.app: Any = DomainDispatcherApplication(create_backend_app)
        self.server = make_server("127.0.0.1", 0, self.answer, threaded=True)
        self.access = Access(f"http://127.0.0.1:{self.server.server_port}")
        self.trouble = False
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def answer(self, environ: dict[str, Any], start: Callable[..., Any]) -> Any:
        self.asked += 1
        if self.trouble and self.asked % 4 == 0:
            self.refused += 1
            if self.asked % 16 == 0:
                time.sleep(1.5)  # longer than the client waits
            start("503 Service Unavailable", [("Content-Type", "application/xml")])
            return [b"<Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message></Error>"]
        return self.app(environ, start)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    found = Server()
    yield found
    found.server.shutdown()


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setattr(planning, "_LEAST", 5)
    monkeypatch.setattr(planning, "_MOST", 15)
    monkeypatch.setattr(planning, "SHARD", 10)
    monkeypatch.setattr(lease, "_SETTLED", 0.05)
    monkeypatch.setattr(store, "_REQUEST_SECONDS", 1)
    without_networks(monkeypatch)


def bucket(server: Server, name: str) -> str:
    from pyarrow import fs

    made: Any = store._s3(server.access)
    host = server.access.endpoint.removeprefix("http://")
    fs.S3FileSystem(endpoint_override=host, scheme="http", region="us-east-1", allow_bucket_creation=True).create_dir(
        name
    )
    assert made.get_file_info(name).type == fs.FileType.Directory
    return f"s3://{name}/people"


def test_503s_and_time_outs_lose_nothing(server: Server, tmp_path: Path) -> None:
    photos, output = album(tmp_path / "p", 40), bucket(server, "troubled")
    (photos / "bad.jpg").write_bytes(b"none")
    server.trouble = True
    try:
        settings = EmbedSettings(aligner="none", batch_size=4)
        report = embed_dataset(photos, output, settings=settings, access=server.access)
        again = embed_dataset(photos, output, settings=settings, access=server.access)
    finally:
        server.trouble = False
    assert server.refused > 3
    assert (report.faces, report.failed, again.computed) == (40, 1, 0)
    there = Store.of(output, server.access)
    assert len(there.sizes("shards")) == report.shards == len(there.sizes("errors")) - 1
    paths: list[str] = []
    for name in there.sizes("shards"):
        with there.opened(f"shards/{name}") as file:
            paths += pq.read_table(file)["path"].to_pylist()
    assert sorted(paths) == sorted(str(path) for path in photos.glob("*.png"))
    assert status(output, access=server.access).to_do == 0
    assert there.read("lease.json") is None


def test_two_drivers_on_objects(server: Server, tmp_path: Path) -> None:
    output = bucket(server, "held")
    with (
        lease.leased(Store.of(output, server.access)),
        pytest.raises(IndexBusyError, match=r"s3://held/people is being"),
    ):
        embed_dataset(album(tmp_path / "p", 3), output, settings=EmbedSettings(aligner="none"), access=server.access)


def test_a_bucket_that_is_not_there(server: Server, tmp_path: Path) -> None:
    settings = EmbedSettings(aligner="none")
    with pytest.raises(DataError, match=r"s3://nobodys/people/.*"):
        embed_dataset(album(tmp_path / "p", 3), "s3://nobodys/people", settings=settings, access=server.access)
