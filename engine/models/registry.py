"""From a name or a path to a model on disk.

    from faceembed.engine.models.registry import resolve

    encoder = resolve("dlib-resnet", task="encoder")
    encoder.path, encoder.spec.sha256

A bootstrap model is built by its importer at first use; a hub model was pulled before; anything else is the path of an ONNX
file with its spec (`.json`) beside it.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import hashlib
import importlib
import importlib.util
import os
from pathlib import Path

from faceembed.engine.errors import ModelError
from faceembed.engine.models import store
from faceembed.engine.models.catalog import CATALOG, Entry
from faceembed.engine.models.spec import Model, ModelSpec, Task


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
        raise ModelError(f"cannot read {path}: {error}") from error
    if spec.sha256 and spec.sha256 != sha256:
        raise ModelError(f"{path} is not the file its spec describes: its SHA-256 is {sha256}, expected {spec.sha256}")
    return Model(dataclasses.replace(spec, sha256=sha256), str(path))


def _from_name(name: str) -> Model:
    entry = CATALOG.get(name)
    if entry and entry.importer:
        return _bootstrap(entry)
    stored = store.find(name) if store.is_name(name) else None
    if stored is None:
        raise _unknown(name)
    if stored.model is None:
        raise ModelError(f"model {name}: {stored.problem}; fetch or import it again")
    return stored.model


def _unknown(name: str) -> ModelError:
    known = sorted({*CATALOG, *store.names()})
    near = difflib.get_close_matches(name.lower(), known, n=3)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    return ModelError(f"no model '{name}'; {hint}see: faceembed models list")


def _bootstrap(entry: Entry) -> Model:
    recipe = _recipe(entry.importer)
    stored = store.find(entry.name)
    if stored and stored.model and stored.recipe == recipe:
        return stored.model
    data, spec = _build(entry.importer)
    return store.put(data, spec, recipe=recipe)


def _build(importer: str) -> tuple[bytes, ModelSpec]:
    data, spec = importlib.import_module(importer).build()
    return data, spec


@functools.cache
def _recipe(importer: str) -> str:
    """A digest of the importer's own source, so that a changed importer rebuilds what an older one cached."""
    digest = hashlib.sha256()
    for module in (importer, "faceembed.engine.models.graph", "faceembed.engine.models.spec"):
        found = importlib.util.find_spec(module)
        if found is None or found.origin is None:
            raise ModelError(f"the importer '{module}' is not installed; reinstall faceembed")
        digest.update(Path(found.origin).read_bytes())
    return f"importer {digest.hexdigest()}"
