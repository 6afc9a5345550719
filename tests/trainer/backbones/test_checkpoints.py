"""Checkpoints: ours come back as they were, a full disk loses nothing, and other projects' files are read without running them."""

from __future__ import annotations

import argparse
import errno
import os
import pickle
import shlex
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor

from faceembed.errors import ModelError, UsageError
from faceembed.trainer.backbones import checkpoints
from faceembed.trainer.backbones.checkpoints import load_checkpoint, load_encoder, save_checkpoint
from faceembed.trainer.backbones.registry import build, find

SPEC = find("mobilefacenet").spec
Edit = Callable[[dict[str, Any]], object]


def save(path: Path, *, seed: int = 0, training: dict[str, Any] | None = None) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    state = build("mobilefacenet").state_dict()
    save_checkpoint(path, arch="mobilefacenet", dimension=128, spec=SPEC, model=state, training=training)
    return state


@pytest.fixture(scope="module")
def ir18() -> dict[str, Tensor]:
    """Random weights of an `ir18` with 16 numbers, under the official names."""
    torch.manual_seed(5)
    return build("ir18", dimension=16).state_dict()


def test_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    state = save(path, training={"epoch": 3, "optimiser": {"step": torch.tensor(2.0), "lr": [1e-3]}})
    found = load_checkpoint(path)
    assert (found.arch, found.dimension, found.spec) == ("mobilefacenet", 128, SPEC)
    assert found.training == {"epoch": 3, "optimiser": {"step": torch.tensor(2.0), "lr": [1e-3]}}
    model, spec, arch = load_encoder(path)
    assert (spec, arch, model.training) == (SPEC, "mobilefacenet", False)
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert all(value.requires_grad for value in model.parameters())


@pytest.mark.parametrize("failing", ["write", "fsync"])
def test_a_full_disk_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str) -> None:
    path = tmp_path / "a.pt"
    old = save(path)
    real = os.fdopen

    class FullDisk:
        """A file on which nothing fits after the first 100,000 bytes."""

        def __init__(self, file: Any) -> None:
            self._file, self._left = file, 100_000

        def __getattr__(self, name: str) -> Any:
            return getattr(self._file, name)

        def __enter__(self) -> Any:
            return self

        def __exit__(self, *_: object) -> None:
            self._file.close()

        def write(self, data: Any) -> int:
            self._left -= len(data)
            if self._left < 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return int(self._file.write(data))

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        if failing == "write":
            patch.setattr(os, "fdopen", lambda *args, **more: FullDisk(real(*args, **more)))
        else:
            patch.setattr(os, "fsync", full)
        with pytest.raises(ModelError, match=r"cannot save .*a\.pt: the disk is full"):
            save(path, seed=1)
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.pt"]
    kept = load_checkpoint(path).model
    assert all(torch.equal(kept[name], value) for name, value in old.items())


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_pytorch_reports_a_full_disk_as_one(tmp_path: Path) -> None:
    """What PyTorch itself raises when a write fails is turned into the same line."""
    with open("/dev/full", "wb", buffering=0) as file, pytest.raises((OSError, RuntimeError)) as caught:
        torch.save({"a": torch.zeros(100_000)}, file)
    assert "disk is full" in checkpoints.why_not_written(caught.value)


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"cannot save .*: No such file"):
        save(tmp_path / "none" / "a.pt")


def test_settings_that_contradict(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="dimension 64, but its spec says 128"):
        save_checkpoint(tmp_path / "a.pt", arch="mobilefacenet", dimension=64, spec=SPEC, model={})
    with pytest.raises(UsageError, match="no architecture"):
        save_checkpoint(tmp_path / "a.pt", arch="mobile", dimension=128, spec=SPEC, model={})


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda content: content.update(version=2), "version 2, this faceembed reads 1"),
        (lambda content: content.pop("spec"), "damaged checkpoint"),
        (lambda content: content.update(spec="{"), "not a model spec"),
        (lambda content: content.update(arch="ir9000"), "'ir9000', which this faceembed does not know"),
        (lambda content: content["model"].pop("fc.weight"), r"do not fit 'mobilefacenet' \(.*fc\.weight"),
        (
            lambda content: content.update(format="x"),
            "not a checkpoint of faceembed; say its architecture: --arch ir18",
        ),
    ],
)
def test_a_checkpoint_that_is_not_right(tmp_path: Path, edit: Edit, message: str) -> None:
    path = tmp_path / "a.pt"
    save(path)
    content = torch.load(path, weights_only=True)
    edit(content)
    torch.save(content, path)
    with pytest.raises(ModelError, match=message):
        load_encoder(path)


def test_arch_and_colour_must_agree_with_the_file(tmp_path: Path) -> None:
    save(tmp_path / "a.pt")
    with pytest.raises(ModelError, match="holds 'mobilefacenet', not 'ir18'"):
        load_encoder(tmp_path / "a.pt", arch="ir18")
    with pytest.raises(UsageError, match="takes rgb, not bgr"):
        load_encoder(tmp_path / "a.pt", colour="bgr")
    with pytest.raises(ModelError, match="dlib-resnet is a 'resnet29'"):
        load_encoder("dlib-resnet", arch="ir18")


@pytest.mark.parametrize("data", [b"", b"<html>", b"PK\x03\x04 cut short", b"\x80\x02}q", b"\x10\0\0\0\0\0\0\0{broken"])
@pytest.mark.parametrize("arch", [None, "ir18"])
def test_other_files(tmp_path: Path, data: bytes, arch: str | None) -> None:
    path = tmp_path / "a.ckpt"
    path.write_bytes(data)
    with pytest.raises(ModelError, match=r"not a readable checkpoint|not a checkpoint of faceembed"):
        load_encoder(path, arch=arch)
    with pytest.raises(ModelError, match=r"cannot read .*none\.pt: No such file"):
        load_encoder(tmp_path / "none.pt", arch=arch)


def test_a_file_cut_short(tmp_path: Path, ir18: dict[str, Tensor]) -> None:
    path = tmp_path / "a.ckpt"
    torch.save({"state_dict": {f"model.{name}": value for name, value in ir18.items()}}, path)
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(ModelError, match="cut short"):
        load_encoder(path, arch="ir18")


def write_lightning(path: Path, state: dict[str, Tensor]) -> None:
    """A checkpoint as AdaFace's training writes it with Lightning, its own classes among the settings."""
    parsing = types.ModuleType("pytorch_lightning.utilities.parsing")
    namespace = type("AttributeDict", (dict,), {"__module__": parsing.__name__})
    callback = type("ModelCheckpoint", (), {"__module__": parsing.__name__})
    parsing.AttributeDict, parsing.ModelCheckpoint = namespace, callback  # type: ignore[attr-defined]
    modules = {"pytorch_lightning": types.ModuleType("pytorch_lightning"), parsing.__name__: parsing}
    modules["pytorch_lightning.utilities"] = types.ModuleType("pytorch_lightning.utilities")
    head = {"head.kernel": torch.zeros(16, 9), "head.t": torch.zeros(1), "head.batch_mean": torch.ones(1) * 20}
    with pytest.MonkeyPatch.context() as patch:
        for name, module in modules.items():
            patch.setitem(sys.modules, name, module)
        content = {
            "epoch": 25,
            "state_dict": {**{f"model.{name}": value for name, value in state.items()}, **head},
            "callbacks": {callback: {"best_model_path": Path("x"), "best": np.float64(0.9)}, "last": callback()},
            "hyper_parameters": namespace(arch="ir_18", lr=0.1, milestones=[12, 20, 24]),
            "hparams": argparse.Namespace(gpus=2),
        }
        torch.save(content, path)


def test_adaface(tmp_path: Path, ir18: dict[str, Tensor]) -> None:
    write_lightning(tmp_path / "a.ckpt", ir18)
    model, spec, arch = load_encoder(tmp_path / "a.ckpt", arch="ir18")
    assert (arch, spec.colour, spec.dimension, spec.input_size) == ("ir18", "bgr", 16, (112, 112))
    assert spec.source == str(tmp_path / "a.ckpt")
    assert all(torch.equal(value, ir18[name]) for name, value in model.state_dict().items())
    assert not model.training and all(value.requires_grad for value in model.parameters())
    with pytest.raises(UsageError, match="takes bgr, not rgb"):
        load_encoder(tmp_path / "a.ckpt", arch="ir18", colour="rgb")


def test_cvlface(tmp_path: Path, ir18: dict[str, Tensor]) -> None:
    torch.save({f"net.{name}": value for name, value in ir18.items()}, tmp_path / "model.pt")
    safetensors.torch.save_file(
        {f"model.net.{name}": value for name, value in ir18.items()}, tmp_path / "m.safetensors"
    )
    for file in ("model.pt", "m.safetensors"):
        model, spec, _ = load_encoder(tmp_path / file, arch="ir18")
        assert (spec.colour, spec.dimension) == ("rgb", 16)
        assert all(torch.equal(value, ir18[name]) for name, value in model.state_dict().items())
    (tmp_path / "model.yaml").write_text("name: 'ir18'\ncolor_space: 'BGR'\n")
    assert load_encoder(tmp_path / "model.pt", arch="ir18")[1].colour == "bgr"


def test_bare_weights_need_a_colour(tmp_path: Path, ir18: dict[str, Tensor]) -> None:
    old = {name: value for name, value in ir18.items() if not name.endswith("num_batches_tracked")}  # PyTorch 0.4
    torch.save(old, tmp_path / "a.pt", _use_new_zipfile_serialization=False)
    with pytest.raises(UsageError, match="does not say whether it takes RGB or BGR"):
        load_encoder(tmp_path / "a.pt", arch="ir18")
    assert load_encoder(tmp_path / "a.pt", arch="ir18", colour="bgr")[1].colour == "bgr"


def test_facenet_pytorch(tmp_path: Path) -> None:
    state = build("inception-resnet-v1", dimension=32).state_dict()
    logits = {"logits.weight": torch.zeros(5, 32), "logits.bias": torch.zeros(5)}
    torch.save({**state, **logits}, tmp_path / "a.pt")
    model, spec, _ = load_encoder(tmp_path / "a.pt", arch="inception-resnet-v1")
    assert (spec.input_size, spec.colour, spec.mean[0], spec.scale) == ((160, 160), "rgb", 127.5, 1 / 128)
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    with pytest.raises(ModelError, match="does not hold 'ir50'; it is 'inception-resnet-v1': give --arch inception"):
        load_encoder(tmp_path / "a.pt", arch="ir50")


def test_another_architecture(tmp_path: Path, ir18: dict[str, Tensor]) -> None:
    path = tmp_path / "model.pt"
    torch.save({f"net.{name}": value for name, value in ir18.items()}, path)
    for wrong in ("ir50", "resnet29"):
        with pytest.raises(ModelError, match=f"does not hold '{wrong}'; it is 'ir18': give --arch ir18"):
            load_encoder(path, arch=wrong)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (
            lambda state: state.pop("body.3.res_layer.1.weight"),
            "1 of 179 weights are missing, such as 'body.3.res_layer.1",
        ),
        (
            lambda state: state.update({"body.0.res_layer.3.weight": torch.zeros(1)}),
            r"1 weights differ in shape: 'body.0.res_layer.3.weight' is \(1,\), expected \(64,\)",
        ),
        (lambda state: state.update({"body.9.x": torch.zeros(1)}), "1 weights that 'ir18' has not, such as 'body.9.x'"),
        (lambda state: state.clear(), "no state dict"),
    ],
)
def test_weights_that_fit_nothing(tmp_path: Path, ir18: dict[str, Tensor], edit: Edit, message: str) -> None:
    state = dict(ir18)
    edit(state)
    torch.save(state, tmp_path / "a.pt")
    with pytest.raises(ModelError, match=message) as caught:
        load_encoder(tmp_path / "a.pt", arch="ir18", colour="rgb")
    assert "\n" not in str(caught.value)


class Bomb:
    def __reduce__(self) -> Any:
        return os.mkdir, (Bomb.folder,)

    folder = ""


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_runs_code_is_refused(tmp_path: Path, zipped: bool) -> None:
    Bomb.folder = str(tmp_path / "ran")
    path = tmp_path / "a.ckpt"
    torch.save({"state_dict": {"a": torch.zeros(1)}, "x": Bomb()}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(ModelError, match=r"if you trust the file, convert it: python -c .*a\.ckpt weights\.ckpt"):
        load_encoder(path, arch="ir18")
    assert not os.path.exists(Bomb.folder)
    pickle.loads(pickle.dumps(Bomb()))  # it would have run
    assert os.path.exists(Bomb.folder)


def test_the_advice_for_a_refused_pickle_works(tmp_path: Path, ir18: dict[str, Tensor]) -> None:
    path = tmp_path / "a.ckpt"
    state = {f"model.{name}": value for name, value in ir18.items()}
    torch.save({"state_dict": state, "when": types.SimpleNamespace(now=1)}, path)
    with pytest.raises(ModelError, match=r"object of 'types\.SimpleNamespace'") as caught:
        load_encoder(path, arch="ir18")
    words = shlex.split(str(caught.value).partition("convert it: ")[2])
    subprocess.run([sys.executable, *words[1:]], cwd=tmp_path, check=True)
    assert load_encoder(tmp_path / "weights.ckpt", arch="ir18")[1].colour == "bgr"
