"""Takes a user's own ONNX encoder into the store, after checking that the engine can run it.

What a file cannot say (colour order, mean, scale, where the landmarks lie) the user has to: a wrong guess would cost accuracy
without any error message. The rest, input size and dimension, is read from the graph and proved by running it once.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from faceembed.engine.models import builtin, dfa, edgeface, retinaface, scrfd, store, yunet
from faceembed.engine.models.catalog import CATALOG
from faceembed.engine.models.spec import ARCFACE_TEMPLATE, Colour, Model, ModelSpec, Points, Task
from faceembed.engine.models.store import Agree, unasked
from faceembed.engine.models.trial import check_encoder
from faceembed.errors import ModelError

ALIGNERS = ("dfa", "retinaface", "scrfd", "yunet")
"""Networks of aligners that `import_aligner` rewrites."""


def import_model(
    path: str | Path,
    *,
    name: str,
    task: Task = "encoder",
    colour: Colour,
    mean: tuple[float, float, float],
    scale: float,
    template: Points = ARCFACE_TEMPLATE,
    input_size: tuple[int, int] | None = None,
    threshold: float | None = None,
    threshold_source: str = "",
    licence: str = "unknown",
    source: str = "",
    replace: bool = False,
    agree: Agree = unasked,
) -> Model:
    """Check an ONNX encoder and keep it under ``name``.

    Args:
        path: the ONNX file; weights in files beside it are taken in.
        name: what the model will be called: lower-case letters, digits, ``.``, ``_``, ``-``.
        task: only ``encoder``; an aligner's outputs need code of their own.
        colour: channel order of the network's input.
        mean: subtracted per channel, 0..255 scale, in the order of ``colour``.
        scale: then multiplied; 1/127.5 gives [-1, 1].
        template: where the five landmarks lie in the input, (x, y) in pixels.
        input_size: (height, width) in pixels, for a network that takes any size.
        threshold: cosine similarity above which two photos count as one person, if it was measured.
        threshold_source: the data it was chosen on.
        licence: SPDX name or words.
        source: where the file comes from; its path if empty.
        replace: whether a model of that name may be replaced.
        agree: asked which runtimes compute the network as ONNX defines it, as `parity.definition.checked` knows.

    Returns:
        The model in the store.

    Raises:
        ModelError: the file is no usable ONNX encoder, or the name is taken; one line that says why.
    """
    if task != "encoder":
        raise ModelError(
            f"only encoders and the aligners {', '.join(ALIGNERS)} can be imported; an aligner of your own is used by its path: "
            "--aligner FILE.onnx"
        )
    _check_free(name, replace=replace)
    path = Path(path)
    encoder = check_encoder(path, input_size=input_size)
    height, width = encoder.input_size
    if template == ARCFACE_TEMPLATE and encoder.input_size != (112, 112):
        raise ModelError(
            f"{path} takes {width}x{height} pixels, but the ArcFace template is for 112x112; give --template"
        )
    if any(not (0 <= x < width and 0 <= y < height) for x, y in template):
        raise ModelError(f"the template has points outside of the {width}x{height} input of {path}")
    spec = ModelSpec(
        name=name,
        task=task,
        input_size=encoder.input_size,
        colour=colour,
        mean=mean,
        scale=scale,
        dimension=encoder.dimension,
        normalised=encoder.normalised,
        template=template,
        threshold=threshold,
        threshold_source=threshold_source,
        licence=licence,
        source=source or str(path.absolute()),
    )
    return store.put(encoder.data, agree(encoder.data, spec), recipe=f"imported {path.name}")


def import_edgeface(
    path: str | Path,
    *,
    arch: str,
    name: str,
    licence: str = "",
    source: str = "",
    replace: bool = False,
    agree: Agree = unasked,
) -> Model:
    """Rewrite a checkpoint of EdgeFace (`edgeface`) and keep it under ``name``; neither needs PyTorch.

    Args:
        path: EdgeFace's ``.pt``; nothing that it names is run.
        arch: one of `edgeface_shapes.ARCHITECTURES`.
        name, licence, source, replace, agree: as for `import_model`.

    Returns:
        The model in the store.

    Raises:
        ModelError: not that network, or the name is taken; one line that says why.
    """
    _check_free(name, replace=replace)
    data, spec = edgeface.build(path, arch)
    spec = dataclasses.replace(spec, name=name, licence=licence or spec.licence, source=source or spec.source)
    return store.put(data, agree(data, spec), recipe=f"rewritten {Path(path).name}")


def import_aligner(
    path: str | Path, *, arch: str, name: str, licence: str = "", source: str = "", replace: bool = False
) -> Model:
    """Rewrite another project's aligner and keep it under ``name``.

    Args:
        path: an ONNX file of YuNet with OpenCV's twelve outputs (`yunet`), one of SCRFD with five points (`scrfd`), or a PyTorch
            checkpoint of biubug6's RetinaFace (`retinaface`) or CVLface's DFA (`dfa`), of which nothing that it names is run.
        arch: one of `ALIGNERS`.
        name, licence, source, replace: as for `import_model`.

    Returns:
        The model in the store.

    Raises:
        ModelError: not that network, or the name is taken; one line that says why.
    """
    _check_free(name, replace=replace)
    path = Path(path)
    if arch == "dfa":
        data, spec = dfa.build(path)
    elif arch == "retinaface":
        data, spec = retinaface.build(path)
    elif arch == "scrfd":
        data, spec = scrfd.rewrite(path), scrfd.SPEC
    else:
        data, spec = yunet.rewrite(path), yunet.SPEC
    spec = dataclasses.replace(spec, name=name, licence=licence or spec.licence, source=source or str(path.absolute()))
    return store.put(data, spec, recipe=f"rewritten {path.name}")


def _check_free(name: str, *, replace: bool) -> None:
    """Raises ModelError if a model of one's own may not be called so."""
    if store.check_name(name) in CATALOG or name in builtin.names():
        raise ModelError(f"'{name}' is the name of a known model; choose another one")
    if not replace and store.find(name) is not None:
        raise ModelError(f"there is a model '{name}' already; choose another name, or replace it with --replace")
