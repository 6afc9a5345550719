"""From a trained network to an ONNX file that the engine runs, proved on real faces before it is written.

    model, spec, _ = load_encoder("best.pt")
    encoder = export_onnx(model, spec, "mine.onnx", precision="fp16")

The file takes float32 chips as its spec says and any number of them, and gives float32 embeddings. In fp16 it is strongly
typed: the weights and everything between are half precision, so every runtime computes what was checked here. Batch
normalisations are folded into the convolutions before them; the weights lie inside the one file.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import re
import tempfile
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from faceembed.engine.models.float_weights import settle
from faceembed.engine.models.fp16 import rounded, to_fp16
from faceembed.engine.models.int8 import raised
from faceembed.engine.models.spec import Model, ModelSpec
from faceembed.engine.models.whole_weights import to_whole_weights
from faceembed.engine.parity.gate import embed_with
from faceembed.engine.parity.rule import FACES, Change, Gate, refusal
from faceembed.engine.photos.decode import decode
from faceembed.engine.photos.listing import list_photos
from faceembed.engine.photos.reading import read_file
from faceembed.engine.photos.sample import sample_photos
from faceembed.engine.pipeline.loading import open_cutter, resolve_aligner
from faceembed.engine.pipeline.settings import EmbedSettings
from faceembed.engine.runtimes.base import RuntimeChoice
from faceembed.engine.runtimes.choose import RuntimeSettings
from faceembed.engine.runtimes.sessions import open_session
from faceembed.errors import DataError, ModelError, PhotoError, UsageError
from faceembed.files import atomic_write
from faceembed.outputs import check_output
from faceembed.trainer.backbones.checkpoints import why_not_written
from faceembed.trainer.backbones.registry import preprocess
from faceembed.trainer.data.crops import read_crops
from faceembed.trainer.data.samples import CROPS_FILE
from faceembed.trainer.export.graph import at_rest, to_onnx

Precision = Literal["fp32", "fp16", "w8"]
"""``w8``: as ``fp16``, with the weights of wide convolutions kept as whole numbers of 8 bits (`whole_weights`)."""
PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "w8")
MIN_COSINE = 0.99999
"""Smallest cosine allowed between the fp32 file's embedding of a face and PyTorch's: whether they are the same network. What half precision
may move is for the engine's precision gate to say."""
_REFERENCE = RuntimeChoice("onnxruntime", "cpu", "fp32", "the reference")


@dataclasses.dataclass(frozen=True)
class Converted:
    """An ONNX file in memory that passed its parity gate."""

    data: bytes
    spec: ModelSpec
    """With the SHA-256 of ``data``."""
    precision: Precision
    min_cosine: float
    """Smallest cosine between its embeddings and PyTorch's, on ``faces`` faces."""
    faces: int
    change: Change
    """What it does to similarities, against PyTorch."""


def export_onnx(
    model: nn.Module,
    spec: ModelSpec,
    path: str | os.PathLike[str],
    *,
    precision: Precision = "fp32",
    chips: NDArray[np.uint8] | None = None,
) -> Model:
    """Write a network as ONNX with its spec beside it, if it passes the parity gate.

    Args:
        model: as for `convert`.
        spec: as for `convert`.
        path: ends in ``.onnx``; the spec's file has the same name with ``.json``.
        precision: as for `convert`.
        chips: as for `convert`; faces of the sample photos if None.

    Returns:
        The model on disk, as `resolve` gives it for this path.

    Raises:
        ModelError, DataError, UsageError: as `convert`, or the file cannot be written. Nothing is left then.
    """
    check_path(path)
    return write(convert(model, spec, faces(spec) if chips is None else chips, precision=precision), path)


def check_path(path: str | os.PathLike[str]) -> None:
    """Refuse a path that the engine would not take for a model's.

    Raises:
        UsageError: it does not end in ``.onnx``.
    """
    if not os.fspath(path).endswith(".onnx"):
        raise UsageError(f"{path} must end in .onnx, as in: -o model.onnx")


def convert(model: nn.Module, spec: ModelSpec, chips: NDArray[np.uint8], *, precision: Precision = "fp32") -> Converted:
    """Turn a network into ONNX and compare both on real faces.

    Args:
        model: float32 chips (N, 3, H, W) to raw embeddings (N, D); its mode and device are as before afterwards.
        spec: its input contract; the name is the one that the model will have.
        chips: uint8 RGB (N, H, W, 3), N >= 1, aligned faces.
        precision: one of `PRECISIONS`.

    Raises:
        DataError: no faces.
        ModelError: the network cannot be exported, or its embeddings differ from PyTorch's.
        UsageError: no such precision.
    """
    if precision not in PRECISIONS:
        raise UsageError(f"precision '{precision}' is not one of {', '.join(PRECISIONS)}")
    if len(chips) == 0:
        raise DataError("no faces to compare the exported network on")
    with at_rest(model):
        proto = to_onnx(model, spec)
        if precision == "w8":
            proto = raised(proto)
        if precision != "fp32":
            to_fp16(proto)
        if precision == "w8":
            to_whole_weights(proto)
        data: bytes = proto.SerializeToString(deterministic=True)
        spec = dataclasses.replace(spec, normalised=False, sha256=hashlib.sha256(data).hexdigest())
        if precision != "fp32":
            settle(proto)
            proto = rounded(proto)  # as a card rounds, and the CPU does not
        checked = proto.SerializeToString()
        change = parity(model, checked, spec, chips[:FACES])
    same = change.min_cosine >= MIN_COSINE  # NaN is not
    if change.lost or (not same if precision == "fp32" else not change.passes(precision)):
        wanted = f"smallest cosine {change.min_cosine:.6f} on {change.faces} faces, at least {MIN_COSINE} wanted"
        raise ModelError(
            f"the exported network ({precision}) gives other embeddings than PyTorch: "
            + (wanted if precision == "fp32" else f"{refusal(change, precision)}; use --precision fp32")
        )
    return Converted(data, spec, precision, change.min_cosine, len(chips[:FACES]), change)


def write(converted: Converted, path: str | os.PathLike[str]) -> Model:
    """Write the ONNX file and its spec, each whole or not at all.

    Raises:
        ModelError: they cannot be written.
    """
    target = Path(path)
    check_output(target, "model")
    try:
        with atomic_write(target.with_suffix(".json"), "w") as spec_file, atomic_write(target) as file:
            spec_file.write(converted.spec.to_json())
            file.write(converted.data)
    except OSError as error:
        raise ModelError(f"cannot write {path}: {why_not_written(error)}") from error
    return Model(converted.spec, str(target))


def parity(model: nn.Module, data: bytes, spec: ModelSpec, chips: NDArray[np.uint8]) -> Change:
    """What lies between PyTorch's embeddings of faces and those of the engine with ONNX Runtime.

    Args:
        model: the network, in eval mode.
        data: its ONNX file.
        spec: the contract of both.
        chips: uint8 RGB (N, H, W, 3), N >= 1.
    """
    device = next(model.parameters()).device

    def by_torch(faces: NDArray[np.uint8]) -> NDArray[np.float32]:
        with torch.no_grad():
            rows: NDArray[np.float32] = (
                model(preprocess(torch.from_numpy(faces).to(device), spec)).float().cpu().numpy()
            )
        return rows

    with tempfile.TemporaryDirectory(prefix="faceembed-") as folder:
        path = Path(folder) / "model.onnx"
        path.write_bytes(data)
        exported = open_session(Model(spec, str(path)), _REFERENCE, threads=1)
        return Gate(spec, chips, by_torch).measure(embed_with(exported))


def faces(spec: ModelSpec, photos: str | os.PathLike[str] | None = None) -> NDArray[np.uint8]:
    """Real faces for the gate: uint8 RGB (up to `FACES`, H, W, 3).

    Args:
        spec: the encoder that they are cut for.
        photos: a folder of photos, or a crop set made for the same template and size; the sample photos if None.

    Raises:
        DataError: there are none, or scikit-image, which has the sample photos, is not installed.
        UsageError: a crop set of another template or size.
    """
    folder = sample_photos() if photos is None else Path(photos)
    if (folder / CROPS_FILE).is_file():
        return _crops(folder, spec)
    settings = EmbedSettings(runtime=RuntimeSettings(precision="fp32"))
    listing = list_photos([folder])
    cutter = open_cutter(settings, spec, resolve_aligner(settings), listing.photos, notice=lambda line: None)
    chips = cutter.sample(listing.photos[: 8 * FACES], FACES)[1]
    if len(chips) == 0:
        raise DataError(f"no face in the photos of {folder} to compare the exported network on; give others: --photos")
    return chips


def _crops(folder: Path, spec: ModelSpec) -> NDArray[np.uint8]:
    crops = read_crops(folder)
    if (crops.height, crops.width) != spec.input_size or crops.template != spec.template:
        raise UsageError(
            f"the crops of {folder} were cut for '{crops.info.encoder}', which takes other chips than '{spec.name}'; "
            "give a folder of photos"
        )
    chips = []
    for sample in crops.samples[:FACES]:
        try:
            chips.append(decode(read_file(sample.path)).pixels)
        except PhotoError as error:
            raise DataError(f"{sample.path} cannot be read ({error.reason}); run data align again") from error
    if not chips:
        raise DataError(f"{folder} has no crops")
    return np.stack(chips)


def name_from(path: str | os.PathLike[str]) -> str:
    """A model's name from its file's: lower-case letters, digits, ``.``, ``_`` and ``-``."""
    name = re.sub(r"[^a-z0-9._-]+", "-", Path(path).stem.lower()).strip("-._")
    return name[:64] or "encoder"
