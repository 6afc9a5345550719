"""Brings a model of the catalog onto this machine: fetched and verified once, offline afterwards.

    pull("sface", progress=lambda done, total: ...)
    pull("sface", file="face_recognition_sface_2021dec.onnx")   # brought by hand, on a machine without a network

An ONNX file goes into the store, checked to run. A PyTorch checkpoint is only kept: it has to become ONNX first.
"""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

from faceembed.engine.models import digests, edgeface, scrfd, store, yunet
from faceembed.engine.models.catalog import CATALOG
from faceembed.engine.models.entry import Entry
from faceembed.engine.models.fetch import Progress, download
from faceembed.engine.models.registry import ModelInfo, checkpoint, checkpoints_folder, info, resolve
from faceembed.engine.models.store import Agree, unasked
from faceembed.engine.models.trial import check_encoder
from faceembed.engine.models.web import Patience, Unreachable
from faceembed.errors import FetchError, ModelError
from faceembed.files import atomic_write


def pull(
    name: str,
    *,
    progress: Progress | None = None,
    sha256: str | None = None,
    file: str | Path | None = None,
    patience: Patience | None = None,
    agree: Agree = unasked,
) -> ModelInfo:
    """Fetch a known model, verify it and keep it. A model that is there and intact is not fetched again.

    Args:
        name: a name of the catalog.
        progress: called with bytes done and bytes in all (None if unknown).
        sha256: the digest that the file must have; outranks catalog, lock file and hub. A model that is there is replaced
            if its file had another one.
        file: a file that was downloaded by hand, taken in place of a download and verified alike.
        patience: timeouts and attempts.
        agree: asked which runtimes compute the network as ONNX defines it, as `parity.definition.checked` knows.

    Returns:
        What is there now; ``state`` and ``note`` say whether it can be used.

    Raises:
        FetchError: not reachable, or not the file it should be.
        ModelError: no such name, no space, or a file that the engine cannot run.
    """
    before = info(name)
    entry = CATALOG.get(name)
    if entry is None:
        return before
    if entry.importer:
        resolve(name, task=entry.task)
        return info(name)
    wanted = digests.check_hex(sha256) if sha256 else entry.sha256
    if file is None and _is_here(entry, before, wanted):
        return before
    try:
        digest = digests.expected(
            name,
            entry.url,
            sha256=sha256 or "",
            catalog=entry.sha256,
            size_bytes=entry.size_bytes,
            online=file is None,
            patience=patience,
        )
        _take_in(entry, digest, Path(file) if file else None, progress, patience, agree)
    except Unreachable as error:
        raise Unreachable(
            f"{error}; or download it elsewhere and run: faceembed models import FILE --name {name}"
        ) from error
    digests.lock(name, entry.url, digest)
    return info(name)


def _is_here(entry: Entry, before: ModelInfo, wanted: str) -> bool:
    if entry.is_checkpoint:
        path = checkpoint(entry.name)
        return path is not None and (not wanted or store.file_sha256(path) == wanted)
    stored = store.find(entry.name)
    return bool(stored and stored.model and (not wanted or stored.recipe == _recipe(wanted)))


def _recipe(sha256: str) -> str:
    return f"file {sha256}"


def _take_in(
    entry: Entry,
    digest: digests.Digest,
    by_hand: Path | None,
    progress: Progress | None,
    patience: Patience | None,
    agree: Agree,
) -> None:
    folder = checkpoints_folder() if entry.is_checkpoint else store.home() / "downloads"
    target = folder / f"{entry.name}-{digest.sha256[:16]}.{entry.format}"
    if by_hand:
        _copy(by_hand, target, digest)
    else:
        download(
            entry.url,
            target,
            sha256=digest.sha256,
            size_bytes=digest.size_bytes,
            progress=progress,
            patience=patience,
        )
    if not entry.is_checkpoint:
        data = _checked(entry, target)
        spec = agree(data, entry.spec()) if entry.task == "encoder" else entry.spec()
        store.put(data, spec, recipe=_recipe(digest.sha256))
        with contextlib.suppress(OSError):
            target.unlink()


def _copy(source: Path, target: Path, digest: digests.Digest) -> None:
    try:
        actual = store.file_sha256(source)
    except OSError as error:
        raise ModelError(f"cannot read {source}: {error.strerror or error}") from error
    if actual != digest.sha256:
        raise FetchError(
            f"{source} is another file: its SHA-256 is {actual}, but {digest.said_by} has {digest.sha256}; "
            "if you trust it, say so with --sha256"
        )
    with store.writing(target.parent), open(source, "rb") as old, atomic_write(target) as new:
        shutil.copyfileobj(old, new)


def _checked(entry: Entry, path: Path) -> bytes:
    """The ONNX file as the engine wants it.

    Raises:
        ModelError: it cannot run, or is not what the catalog says.
    """
    if entry.decoder == "yunet":
        return yunet.rewrite(path)
    if entry.decoder == "scrfd":
        return scrfd.rewrite(path)
    if entry.task == "aligner":  # its outputs are not read yet
        return path.read_bytes()
    if entry.format == "edgeface":
        return edgeface.build(path, entry.name)[0]
    encoder = check_encoder(path)
    if (encoder.input_size, encoder.dimension) != (entry.input_size, entry.dimension):
        raise ModelError(
            f"{path} takes {encoder.input_size} and gives {encoder.dimension} numbers, but the catalog says "
            f"{entry.input_size} and {entry.dimension}; please report this"
        )
    return encoder.data
