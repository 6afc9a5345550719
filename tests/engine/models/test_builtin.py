"""Models inside the package: found by name without a home, a package or the network; damage is said."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from faceembed.engine.models import builtin, store
from faceembed.engine.models.import_file import import_model
from faceembed.engine.models.pull import pull
from faceembed.engine.models.registry import info, list_models, resolve
from faceembed.engine.models.spec import ARCFACE_TEMPLATE, ModelSpec
from faceembed.errors import ModelError

pytestmark = pytest.mark.usefixtures("model_home")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package with one built-in model of 8 bytes."""
    (tmp_path / "inner.onnx").write_bytes(b"8 bytes!")
    spec = ModelSpec("inner", "encoder", (112, 112), dimension=4, template=ARCFACE_TEMPLATE, licence="CC0-1.0")
    spec = dataclasses.replace(spec, sha256=store.file_sha256(tmp_path / "inner.onnx"))
    (tmp_path / "inner.json").write_text(spec.to_json())
    monkeypatch.setattr(builtin, "FOLDER", tmp_path)
    builtin.find.cache_clear()
    yield tmp_path
    builtin.find.cache_clear()


def test_a_name_means_the_file_in_the_package(folder: Path) -> None:
    model = resolve("inner", task="encoder")
    assert (model.path, model.spec.licence) == (str(folder / "inner.onnx"), "CC0-1.0")
    known = info("inner")
    assert (known.state, known.size_bytes, known.dimension) == ("ready", 8, 4)
    assert list_models()[0] == known
    assert pull("inner") == known
    assert store.names() == []


def test_nobody_takes_its_name(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="'inner' is the name of a known model"):
        import_model(tmp_path / "other.onnx", name="inner", colour="rgb", mean=(0, 0, 0), scale=1)
    with pytest.raises(ModelError, match="did you mean inner"):
        resolve("iner", task="encoder")


@pytest.mark.parametrize("damage", ["network", "spec", "no spec"])
def test_damage_is_one_line(folder: Path, damage: str) -> None:
    if damage == "network":
        (folder / "inner.onnx").write_bytes(b"9 bytes !")
    elif damage == "spec":
        (folder / "inner.json").write_text("{")
    else:
        (folder / "inner.json").unlink()
    with pytest.raises(ModelError, match=r"'inner' inside faceembed is damaged.*reinstall it") as error:
        resolve("inner", task="encoder")
    assert "\n" not in str(error.value)


def test_whatever_ships_is_whole_small_and_has_a_card() -> None:
    total = 0
    for name in builtin.names():
        model = builtin.find(name)
        assert model is not None and model.spec.name == name
        assert model.spec.licence != "unknown" and model.spec.source
        card = (builtin.FOLDER / f"{name}.md").read_text("utf-8")
        for heading in ("Data", "Recipe", "Figures", "Limits"):
            assert f"\n## {heading}" in card, heading
        assert model.spec.sha256 in card
        total += Path(model.path).stat().st_size
    assert total <= 16 << 20
