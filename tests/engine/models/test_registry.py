"""From names and paths to models: built at first use, kept, rebuilt when the importer changes, clear when missing."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from faceembed.engine.models import builtin, registry, store
from faceembed.engine.models.catalog import CATALOG
from faceembed.engine.models.entry import Entry
from faceembed.engine.models.registry import info, list_models, resolve
from faceembed.engine.models.spec import ARCFACE_TEMPLATE, ModelSpec
from faceembed.errors import ModelError
from faceembed.install import pip_install

pytestmark = pytest.mark.usefixtures("model_home")
SPEC = ModelSpec(name="fake", task="encoder", input_size=(112, 112), dimension=4, template=ARCFACE_TEMPLATE)


class Builder:
    """A bootstrap importer that counts its calls."""

    def __init__(self) -> None:
        self.calls = 0
        self.spec = SPEC
        self.data = b"built"

    def build(self, importer: str) -> tuple[bytes, ModelSpec]:
        assert importer == "fake.importer"
        self.calls += 1
        return self.data, self.spec


@pytest.fixture
def builder(monkeypatch: pytest.MonkeyPatch) -> Builder:
    fake = Builder()
    entry = Entry(
        "fake", "encoder", "MIT", "PyPI fake", "Fake", dimension=4, importer="fake.importer", packages=("json",)
    )
    monkeypatch.setitem(CATALOG, "fake", entry)
    monkeypatch.setattr(registry, "_build", fake.build)
    monkeypatch.setattr(registry, "_recipe", lambda importer: f"importer of {fake.spec}")
    return fake


def test_a_bootstrap_model_is_built_once(builder: Builder) -> None:
    first = resolve("fake", task="encoder")
    assert resolve("fake", task="encoder") == first
    assert builder.calls == 1
    assert Path(first.path).read_bytes() == b"built"
    assert first.spec == dataclasses.replace(SPEC, sha256=store.file_sha256(first.path))


def test_a_changed_importer_builds_anew(builder: Builder) -> None:
    resolve("fake", task="encoder")
    builder.spec = dataclasses.replace(SPEC, scale=0.5)  # the same network, another contract
    assert resolve("fake", task="encoder").spec.scale == 0.5
    assert builder.calls == 2


def test_a_damaged_bootstrap_model_is_built_anew(builder: Builder) -> None:
    first = resolve("fake", task="encoder")
    Path(first.path).write_bytes(b"damaged")
    assert resolve("fake", task="encoder") == first
    assert Path(first.path).read_bytes() == b"built"


def test_a_missing_package_says_what_to_install(builder: Builder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        CATALOG, "fake", dataclasses.replace(CATALOG["fake"], packages=("json", "surely_not_installed"))
    )
    with pytest.raises(
        ModelError,
        match=rf"^the weights of 'fake' travel in other packages .* run: {re.escape(pip_install('bootstrap'))}$",
    ):
        resolve("fake", task="encoder")
    assert (info("fake").state, info("fake").note) == ("to install", f"run: {pip_install('bootstrap')}")


def test_what_was_built_needs_its_package_no_more_until_the_importer_changes(
    builder: Builder, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = resolve("fake", task="encoder")
    monkeypatch.setitem(
        CATALOG, "fake", dataclasses.replace(CATALOG["fake"], packages=("json", "surely_not_installed"))
    )
    assert resolve("fake", task="encoder") == built and info("fake").state == "ready"
    builder.spec = dataclasses.replace(SPEC, scale=0.5)
    assert info("fake").state == "to install"
    with pytest.raises(ModelError, match="are not installed; run: pip install"):
        resolve("fake", task="encoder")


@pytest.mark.parametrize("name", ["dlib-resnet", "mtcnn", "sface", "yunet", "faceembed-accurate"])
def test_the_real_bootstrap_models_have_stable_digests(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = "import sys; from faceembed.engine.models.registry import resolve as r; print(r(*sys.argv[1:2], task=sys.argv[2]).spec.sha256)"
    monkeypatch.setenv("FACEEMBED_HOME", str(tmp_path / "other"))
    monkeypatch.setenv("PYTHONHASHSEED", "1")
    task = CATALOG[name].task
    there = subprocess.run([sys.executable, "-c", script, name, task], capture_output=True, text=True, check=True)
    monkeypatch.setenv("FACEEMBED_HOME", str(tmp_path / "home"))
    assert resolve(name, task=task).spec.sha256 == there.stdout.strip()


def test_the_wrong_task_is_refused(builder: Builder) -> None:
    with pytest.raises(ModelError, match="fake is an encoder, but an aligner is wanted here"):
        resolve("fake", task="aligner")


@pytest.mark.parametrize(("name", "near"), [("mtcn", "mtcnn"), ("DLIB-RESNET", "dlib-resnet"), ("sfaces", "sface")])
def test_an_unknown_name_shows_near_ones(name: str, near: str) -> None:
    with pytest.raises(ModelError, match=f"did you mean .*{near}.*faceembed models list"):
        resolve(name, task="encoder")


@pytest.mark.parametrize("name", ["", "zzzzzz", "näme", "a b"])
def test_a_name_far_from_all(name: str) -> None:
    with pytest.raises(ModelError, match=r"no model '.*'; see: faceembed models list"):
        resolve(name, task="encoder")


@pytest.mark.parametrize(
    ("name", "task", "message"),
    [
        ("sface-2021dec", "encoder", "run: faceembed models pull sface-2021dec"),
        ("scrfd-10g", "aligner", "run: faceembed models pull scrfd-10g"),
        ("yunet-2026may", "aligner", "run: faceembed models pull yunet-2026may"),
        ("cvlface-ir50-webface4m", "encoder", "PyTorch checkpoint; run: faceembed models pull cvlface-ir50-webface4m"),
    ],
)
def test_hub_models_that_are_not_here(name: str, task: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        resolve(name, task=task)  # type: ignore[arg-type]


def test_the_catalog_outranks_the_spec_that_an_older_version_wrote() -> None:
    stale = dataclasses.replace(CATALOG["sface-2021dec"].spec(), colour="bgr", scale=0.1)
    store.put(b"network", stale, recipe="file 00")
    spec = resolve("sface-2021dec", task="encoder").spec
    assert (spec.colour, spec.scale) == ("rgb", 1.0)
    assert len(spec.sha256) == 64


def test_a_damaged_hub_model_says_pull() -> None:
    model = store.put(b"network", CATALOG["sface-2021dec"].spec(), recipe="file 00")
    Path(model.path).write_bytes(b"damaged")
    with pytest.raises(ModelError, match=r"is damaged.*run: faceembed models pull sface-2021dec"):
        resolve("sface-2021dec", task="encoder")
    assert info("sface-2021dec").state == "damaged"


def test_an_exported_checkpoint_is_an_ordinary_model() -> None:
    spec = CATALOG["cvlface-ir50-webface4m"].spec()
    model = store.put(b"network", spec, recipe="exported")
    assert resolve(spec.name, task="encoder") == model
    assert info(spec.name).state == "ready"


class TestPaths:
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        path = tmp_path / "net.onnx"
        path.write_bytes(b"network")
        return path

    def test_a_spec_beside_it_is_enough(self, path: Path) -> None:
        path.with_suffix(".json").write_text(SPEC.to_json())
        model = resolve(path, task="encoder")
        assert model.path == str(path)
        assert model.spec == dataclasses.replace(SPEC, sha256=store.file_sha256(path))

    def test_no_file(self, tmp_path: Path) -> None:
        with pytest.raises(ModelError, match="no model file at"):
            resolve(tmp_path / "none.onnx", task="encoder")

    def test_no_spec(self, path: Path) -> None:
        with pytest.raises(ModelError, match="run: faceembed models import"):
            resolve(path, task="encoder")

    def test_another_digest(self, path: Path) -> None:
        path.with_suffix(".json").write_text(dataclasses.replace(SPEC, sha256="0" * 64).to_json())
        with pytest.raises(ModelError, match="is not the file its spec describes"):
            resolve(path, task="encoder")

    @pytest.mark.parametrize("text", ["", "[1]", json.dumps({"name": "a", "nonsense": 1}), "\udcff"])
    def test_a_bad_spec(self, path: Path, text: str) -> None:
        path.with_suffix(".json").write_bytes(text.encode("utf-8", "surrogateescape"))
        with pytest.raises(ModelError):
            resolve(path, task="encoder")


def test_the_list_has_all_and_says_where_each_stands(builder: Builder) -> None:
    store.put(b"mine", dataclasses.replace(SPEC, name="mine", licence="mine alone"), recipe="imported net.onnx")
    store.put(b"detector", CATALOG["scrfd-10g"].spec(), recipe="file 00")
    resolve("fake", task="encoder")
    rows = {row.name: row for row in list_models()}
    assert list(rows) == [*builtin.names(), *CATALOG, "mine"]
    assert rows["fake"].state == rows["mine"].state == "ready"
    assert (rows["fake"].size_bytes, rows["mine"].licence, rows["mine"].dimension) == (5, "mine alone", 4)
    assert rows["sface-2021dec"].state == "to pull" and rows["sface-2021dec"].size_bytes == 38_696_353
    assert rows["scrfd-10g"].state == "ready"
    assert rows["cvlface-ir18-webface4m"].state == "to pull"


def test_an_aligner_whose_outputs_nobody_here_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "DECODERS", ())
    store.put(b"detector", CATALOG["scrfd-10g"].spec(), recipe="file 00")
    assert info("scrfd-10g").state == "needs decoder"
    with pytest.raises(ModelError, match="cannot read the outputs of aligner 'scrfd-10g'"):
        resolve("scrfd-10g", task="aligner")


def test_info_of_nothing() -> None:
    with pytest.raises(ModelError, match="no model 'nothing'"):
        info("nothing")


def test_listing_imports_nothing_heavy() -> None:
    script = "import sys; from faceembed.engine.models.registry import list_models; list_models(); print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert not {"onnx", "onnxruntime", "numpy", "torch"} & set(modules)
