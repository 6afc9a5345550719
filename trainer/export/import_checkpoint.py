"""Takes a PyTorch checkpoint into the store as an encoder: converted, compared on real faces, kept under a name.

    import_checkpoint("adaface_ir50_ms1mv2.ckpt", name="mine", arch="ir50")

The name may be one of the catalog whose file is a checkpoint: then the file must be the verified one, and licence, source
and pixels are the catalog's.
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

from faceembed.engine.models import registry, store
from faceembed.engine.models.catalog import CATALOG
from faceembed.engine.models.entry import Entry
from faceembed.engine.models.pull import pull
from faceembed.engine.models.spec import Colour, Model, ModelSpec
from faceembed.errors import ModelError, UsageError
from faceembed.trainer.backbones.checkpoints import DLIB, load_encoder
from faceembed.trainer.export.encoder import Converted, Precision, convert, faces


@dataclasses.dataclass(frozen=True)
class Facts:
    """What only the user knows of a model; empty where the checkpoint or the catalog says it, or nobody does."""

    colour: Colour | None = None
    threshold: float | None = None
    threshold_source: str = ""
    licence: str = ""
    source: str = ""


def import_checkpoint(
    path: str | os.PathLike[str],
    *,
    name: str,
    arch: str | None = None,
    facts: Facts | None = None,
    precision: Precision = "fp32",
    photos: str | os.PathLike[str] | None = None,
    sha256: str | None = None,
    replace: bool = False,
    agree: store.Agree = store.unasked,
) -> tuple[Model, Converted]:
    """Convert a checkpoint and keep it under ``name``.

    Args:
        path: a checkpoint of ours or of another project, or ``dlib-resnet``.
        name: what the encoder will be called, or the name of a checkpoint in the catalog.
        arch: as for `load_encoder`.
        facts: what the checkpoint does not say.
        precision: ``fp32`` or ``fp16``.
        photos: faces for the parity gate, as for `export.faces`.
        sha256: the digest that the file of a known model must have.
        replace: whether a model of that name may be replaced.
        agree: asked which runtimes compute the network as ONNX defines it.

    Returns:
        The model in the store, and what the gate measured.

    Raises:
        ModelError: the checkpoint is unusable, the name is taken, or the gate is not passed.
        UsageError: the colour is missing, or contradicts what is known.
        DataError: no faces for the gate.
    """
    facts = facts or Facts()
    entry = CATALOG.get(store.check_name(name))
    if entry is not None:
        path = _verified(entry, path, facts, sha256)
    elif not replace and store.find(name) is not None:
        raise ModelError(f"there is a model '{name}' already; choose another name, or replace it with --replace")
    model, spec, _ = load_encoder(path, arch=arch, colour=entry.colour if entry else facts.colour)
    spec = _of_catalog(entry, spec, path) if entry else _described(spec, facts, name)
    converted = convert(model, spec, faces(spec, photos), precision=precision)
    recipe = f"converted {path if os.fspath(path) == DLIB else store.file_sha256(path)} {precision}"
    return store.put(converted.data, agree(converted.data, converted.spec), recipe=recipe), converted


def _verified(entry: Entry, path: str | os.PathLike[str], facts: Facts, sha256: str | None) -> str:
    """The pulled checkpoint of a known model, which ``path`` is or becomes.

    Raises:
        ModelError: the name is not of a checkpoint, or the file is another one.
        UsageError: facts are given that the catalog knows.
    """
    if entry.task != "encoder" or entry.format == "onnx":
        raise ModelError(f"'{entry.name}' is the name of a known model that is no checkpoint; choose another one")
    if facts != Facts():
        raise UsageError(f"{entry.name} is a known model: its preprocessing is known too; give --arch and --name alone")
    here = registry.checkpoint(entry.name)
    if here is None or not Path(path).exists() or not here.samefile(path) or sha256:
        pull(entry.name, file=path if isinstance(path, str) else Path(path), sha256=sha256)
        here = registry.checkpoint(entry.name)
    assert here is not None
    return str(here)


def _of_catalog(entry: Entry, spec: ModelSpec, path: str | os.PathLike[str]) -> ModelSpec:
    known = entry.spec()
    if (spec.colour, spec.dimension, spec.input_size) != (known.colour, known.dimension, known.input_size):
        raise ModelError(
            f"{path} takes {spec.colour} of {spec.input_size} and gives {spec.dimension} numbers, but the catalog says "
            f"{known.colour}, {known.input_size} and {known.dimension}; please report this"
        )
    return known


def _described(spec: ModelSpec, facts: Facts, name: str) -> ModelSpec:
    return dataclasses.replace(
        spec,
        name=name,
        threshold=spec.threshold if facts.threshold is None else facts.threshold,
        threshold_source=facts.threshold_source or spec.threshold_source,
        licence=facts.licence or spec.licence,
        source=facts.source or spec.source,
    )
