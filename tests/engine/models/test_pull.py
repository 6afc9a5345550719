"""Models of the catalog from hub to store."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from faceembed.engine.models import store
from faceembed.engine.models.catalog import CATALOG
from faceembed.engine.models.entry import Entry
from faceembed.engine.models.pull import pull
from faceembed.engine.models.registry import info, resolve
from faceembed.engine.models.spec import ARCFACE_TEMPLATE, ModelSpec
from faceembed.engine.models.web import Patience, Unreachable
from faceembed.errors import FetchError, ModelError
from faceembed.install import pip_install
from tests.edgeface_weights import random_state, save

pytestmark = pytest.mark.usefixtures("model_home")
FAST = Patience(timeout_s=1, attempts=2, backoff_s=0.01)
Build = Callable[..., bytes]


@pytest.fixture
def hub(hub: Any, tiny_encoder: Build, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Serves the encoder `tiny` (its batch fixed at 1, as SFace's is) and the checkpoint `torch`."""
    hub.body = tiny_encoder((1, 3, 112, 112))
    entry = Entry("tiny", "encoder", "MIT", hub.root, "Tiny", dimension=16, template=ARCFACE_TEMPLATE, url=hub.url)
    monkeypatch.setitem(CATALOG, "tiny", entry)
    checkpoint = dataclasses.replace(entry, name="torch", format="safetensors", url=hub.root + "/torch.safetensors")
    monkeypatch.setitem(CATALOG, "torch", checkpoint)
    return hub


def test_a_pulled_encoder_runs(hub: Any, model_home: Path) -> None:
    import onnxruntime

    seen: list[int] = []
    row = pull("tiny", progress=lambda done, total: seen.append(done), patience=FAST)
    assert (row.state, row.dimension, seen[-1]) == ("ready", 16, len(hub.body))
    model = resolve("tiny", task="encoder")
    assert model.spec == dataclasses.replace(CATALOG["tiny"].spec(), sha256=store.file_sha256(model.path))
    session = onnxruntime.InferenceSession(model.path, providers=["CPUExecutionProvider"])
    assert session.run(None, {"chips": np.zeros((5, 3, 112, 112), np.float32)})[0].shape == (5, 16)
    locked = json.loads((model_home / "models.lock.json").read_text())["models"]["tiny"]
    assert (locked["sha256"], locked["url"]) == (hub.sha256, hub.url)
    assert [path.name for path in (model_home / "downloads").iterdir() if path.suffix != ".lock"] == []


def test_a_model_that_is_here_needs_no_network(hub: Any) -> None:
    pull("tiny", patience=FAST)
    hub.seen.clear()
    assert pull("tiny", patience=FAST).state == "ready"
    assert not hub.seen


def test_a_damaged_model_is_fetched_again(hub: Any) -> None:
    path = Path(pull("tiny", patience=FAST).path)
    path.write_bytes(b"damaged")
    assert info("tiny").state == "damaged"
    assert pull("tiny", patience=FAST).state == "ready"


def test_a_file_replaced_on_the_hub_is_refused_until_the_user_says_so(hub: Any, tiny_encoder: Build) -> None:
    old = pull("tiny", patience=FAST)
    Path(old.path).unlink()
    hub.body = tiny_encoder(seed=1)
    with pytest.raises(FetchError, match="if you trust the new file"):
        pull("tiny", patience=FAST)
    new = pull("tiny", sha256=hub.sha256, patience=FAST)
    assert new.state == "ready" and new.sha256 != old.sha256
    assert pull("tiny", patience=FAST) == new


def test_a_hub_without_digests_needs_the_users(hub: Any) -> None:
    hub.linked = False
    with pytest.raises(FetchError, match="--sha256"):
        pull("tiny", patience=FAST)
    assert not hub.gets()
    assert pull("tiny", sha256=hub.sha256, patience=FAST).state == "ready"


def test_no_network_says_how_to_bring_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    url = "http://127.0.0.1:1/m.onnx"
    monkeypatch.setitem(CATALOG, "sface-2021dec", dataclasses.replace(CATALOG["sface-2021dec"], url=url))
    with pytest.raises(Unreachable) as caught:
        pull("sface-2021dec", patience=FAST)
    message = str(caught.value)
    assert url in message and "faceembed models import FILE --name sface-2021dec" in message and "\n" not in message


def test_a_file_brought_by_hand(hub: Any, tmp_path: Path) -> None:
    file = tmp_path / "brought.onnx"
    file.write_bytes(hub.body)
    with pytest.raises(FetchError, match="--sha256"):
        pull("tiny", file=file)
    assert pull("tiny", file=file, sha256=hub.sha256).state == "ready"
    assert not hub.seen
    file.write_bytes(b"another")
    with pytest.raises(FetchError, match="is another file"):
        pull("tiny", file=file)  # the lock remembers
    with pytest.raises(ModelError, match="cannot read"):
        pull("tiny", file=tmp_path / "none")


def test_a_checkpoint_is_kept_and_says_what_comes_next(hub: Any) -> None:
    row = pull("torch", patience=FAST)
    assert (row.state, row.size_bytes) == ("needs export", len(hub.body))
    assert pip_install("train") in row.note
    assert Path(row.path).read_bytes() == hub.body
    with pytest.raises(ModelError, match="PyTorch checkpoint"):
        resolve("torch", task="encoder")
    hub.seen.clear()
    assert pull("torch", patience=FAST) == row
    assert not hub.seen


@pytest.mark.parametrize(
    ("shape", "dimension", "message"),
    [(("N", 3, 112, 112), 32, "please report this"), (("N", 3, 160, 160), 16, "please report this")],
)
def test_a_network_that_is_not_the_catalogs(
    hub: Any, tiny_encoder: Build, shape: tuple[int | str, ...], dimension: int, message: str
) -> None:
    hub.body = tiny_encoder(shape, dimension)
    with pytest.raises(ModelError, match=message):
        pull("tiny", patience=FAST)
    assert info("tiny").state == "to pull"


def test_an_aligner_is_kept_though_it_cannot_be_read_yet(hub: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = dataclasses.replace(
        CATALOG["scrfd-10g"], url=hub.url, sha256=hub.sha256, size_bytes=len(hub.body), decoder="of tomorrow"
    )
    monkeypatch.setitem(CATALOG, "scrfd-10g", entry)
    assert pull("scrfd-10g", patience=FAST).state == "needs decoder"


def test_a_name_of_nothing() -> None:
    with pytest.raises(ModelError, match="did you mean sface"):
        pull("sfac")


def test_a_checkpoint_of_edgeface_becomes_a_model(hub: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fetched, verified and rewritten, without PyTorch; what the comparison of runtimes finds is kept with it."""
    hub.body = save(random_state("edgeface-xxs"), tmp_path / "edge.pt").read_bytes()
    entry = dataclasses.replace(CATALOG["edgeface-xxs"], url=hub.url, sha256=hub.sha256, size_bytes=len(hub.body))
    monkeypatch.setitem(CATALOG, entry.name, entry)
    asked: list[str] = []

    def agree(data: bytes, spec: ModelSpec) -> ModelSpec:
        asked.append(spec.name)
        return dataclasses.replace(spec, unfit=("openvino",))

    row = pull(entry.name, patience=FAST, agree=agree)
    assert (row.state, row.dimension, asked) == ("ready", 512, [entry.name])
    model = resolve(entry.name, task="encoder")
    assert model.spec.unfit == ("openvino",) and model.spec.threshold == entry.threshold
    assert Path(model.path).stat().st_size > 4_000_000
    assert pull(entry.name, patience=FAST, agree=agree) == row and asked == [entry.name]  # it is here


def test_a_checkpoint_of_another_edgeface_is_refused(hub: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.body = save(random_state("edgeface-xs"), tmp_path / "edge.pt").read_bytes()
    entry = dataclasses.replace(CATALOG["edgeface-xxs"], url=hub.url, sha256=hub.sha256, size_bytes=len(hub.body))
    monkeypatch.setitem(CATALOG, entry.name, entry)
    with pytest.raises(ModelError, match="it is 'edgeface-xs'"):
        pull(entry.name, patience=FAST)
    assert info(entry.name).state == "to pull"
