"""The face index: a FAISS index of embeddings, a parquet table of faces, and a JSON file that says what made them."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from faceembed.engine.index.files import IndexFiles
from faceembed.engine.index.shards import FaceTable
from faceembed.engine.index.training import train
from faceembed.engine.photos.listing import decode_path
from faceembed.engine.photos.rows import Failure, format_errors, read_parquet
from faceembed.errors import DataError, IndexFormatError, UsageError
from faceembed.files import atomic_write

FORMAT = 1
_NAMED_TYPES = ("flat", "hnsw", "ivf")
_AGAIN = "make the index again with --fresh"
_MANIFEST = {"encoder": dict, "dimension": int, "faces": int, "no_face": int, "failed": int, "next_face_id": int}


@dataclasses.dataclass(frozen=True)
class Hit:
    """One face found by a search."""

    path: str
    face: int
    similarity: float
    face_id: int


def factory_string(index_type: str, faces: int) -> str:
    """The FAISS factory string for ``flat``, ``hnsw``, ``ivf`` (sized for ``faces``), or the string itself."""
    if index_type == "flat":
        return "Flat"
    if index_type == "hnsw":
        return "HNSW32"
    if index_type == "ivf":
        # about 4 sqrt(n) lists, each trained on at least 39 faces, FAISS's own minimum
        return f"IVF{max(1, min(int(4 * math.sqrt(faces)), faces // 39))},Flat"
    return index_type


def check_index_type(index_type: str, dimension: int) -> None:
    """Refuse a kind of index that FAISS does not know.

    Raises:
        UsageError: neither a known name nor a FAISS factory string for vectors of ``dimension``.
    """
    if index_type not in _NAMED_TYPES:
        _make(index_type, dimension, index_type)


def _make(factory: str, dimension: int, index_type: str) -> Any:
    import faiss

    try:
        return faiss.index_factory(dimension, factory, faiss.METRIC_INNER_PRODUCT)
    except RuntimeError as error:
        raise UsageError(
            f"--index '{index_type}' is neither one of {', '.join(_NAMED_TYPES)} nor a FAISS factory string for "
            f"vectors of {dimension} ({_faiss_reason(error)})"
        ) from error


def build_faiss(vectors: NDArray[np.float32], ids: NDArray[np.int64], index_type: str) -> Any:
    """An `IndexIDMap2` over a trained index for the inner product.

    Args:
        vectors: float32 (F, D), unit length.
        ids: int64 (F,).
        index_type: ``flat``, ``hnsw``, ``ivf`` or a FAISS factory string.

    Raises:
        UsageError: FAISS does not know the string, or there are too few faces to train it.
    """
    import faiss

    inner = _make(factory_string(index_type, len(vectors)), vectors.shape[1], index_type)
    index = faiss.IndexIDMap2(inner)
    if len(vectors):
        try:
            if not inner.is_trained:
                train(inner, vectors)
            index.add_with_ids(vectors, ids)
        except RuntimeError as error:
            raise UsageError(
                f"--index '{index_type}' cannot be trained on {len(vectors)} faces "
                f"({_faiss_reason(error)}); use --index flat or more photos"
            ) from error
    return index


def write_index(
    files: IndexFiles, faces: FaceTable, failures: list[Failure], manifest: dict[str, Any], index_type: str
) -> None:
    """Write a whole new set of files and exchange it for the old one, all or nothing."""
    import faiss

    ids = faces.rows.column("face_id").to_numpy()
    index = build_faiss(faces.vectors, ids, index_type)
    files.clear_staged()
    data = faiss.serialize_index(index)
    with atomic_write(files.staged(files.faiss)) as file:
        file.write(data.tobytes())
    if not _is_lossless(index, faces.vectors):
        with atomic_write(files.staged(files.vectors)) as file:
            np.save(file, faces.vectors)
    with atomic_write(files.staged(files.parquet)) as file:
        pq.write_table(faces.rows, file)
    with atomic_write(files.staged(files.errors), "w") as file:
        file.write(format_errors(failures))
    with atomic_write(files.staged(files.json), "w") as file:
        json.dump({"format": FORMAT, **manifest}, file, indent=2)
        file.write("\n")
    files.exchange()


def read_manifest(files: IndexFiles) -> dict[str, Any]:
    """The JSON file of an index.

    Raises:
        DataError: there is no such index.
        IndexFormatError: it is damaged, or of a format that this version does not read.
    """
    try:
        manifest: dict[str, Any] = json.loads(files.json.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(
            f"no index at {files.faiss}; make one with: faceembed embed PHOTOS -o {files.faiss.name}"
        ) from error
    except (OSError, ValueError) as error:
        raise IndexFormatError(f"{files.json} is damaged ({error}); make the index again with --fresh") from error
    if not isinstance(manifest, dict) or "format" not in manifest:
        raise IndexFormatError(f"{files.json} is not the JSON of an index; {_AGAIN}")
    if manifest["format"] != FORMAT:
        raise IndexFormatError(f"{files.json} has format {manifest['format']}, this version reads {FORMAT}")
    for name, kind in _MANIFEST.items():
        if not isinstance(manifest.get(name), kind):
            raise IndexFormatError(f"{files.json} is damaged: no '{name}' in it; {_AGAIN}")
    return manifest


def check_encoder(files: IndexFiles, manifest: dict[str, Any], name: str, sha256: str) -> None:
    """Refuse an index of another encoder: its similarities would mean nothing.

    Raises:
        IndexFormatError: the digests differ.
    """
    stored, digest = (str(manifest["encoder"].get(key)) for key in ("name", "sha256"))
    if digest != sha256:
        raise IndexFormatError(
            f"{files.faiss} was made with encoder {stored} ({digest[:12]}), not {name} ({sha256[:12]}); "
            f"use --encoder {stored}, or make it again with --fresh"
        )


class FaceIndex:
    """An index opened for searching.

    Example:
        index = FaceIndex("people.faiss")
        hits = index.search(embeddings, k=10)
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.files = IndexFiles.of(path)
        self.files.recover()
        self.manifest = read_manifest(self.files)
        self._faiss = _read_faiss(self.files.faiss)
        table = read_parquet(self.files.parquet, ("face_id", "path", "face"), advice=_AGAIN)
        self._paths = table.column("path")
        self._faces = table.column("face").to_numpy()
        ids = table.column("face_id").to_numpy()
        self._order = np.argsort(ids, kind="stable")
        self._ids = ids[self._order]
        if not np.array_equal(self._ids, np.sort(_ids_of(self._faiss))):
            raise IndexFormatError(
                f"{self.files.faiss} holds {self._faiss.ntotal} vectors and {self.files.parquet.name} {len(ids)} rows that "
                f"do not belong together; {_AGAIN}"
            )

    def __len__(self) -> int:
        return int(self._faiss.ntotal)

    def search(self, embeddings: NDArray[np.float32], *, k: int = 10) -> list[list[Hit]]:
        """The most similar faces.

        Args:
            embeddings: float32 (Q, D), unit length, of the index's own encoder.
            k: hits per query; fewer come back if the index is smaller.

        Returns:
            For each query its hits, most similar first.

        Raises:
            DataError: the index is empty.
            UsageError: ``k`` or the dimension does not fit.
        """
        if k < 1:
            raise UsageError(f"k is {k}; it must be at least 1")
        if len(self) == 0:
            raise DataError(f"{self.files.faiss} holds no faces")
        if embeddings.ndim != 2 or embeddings.shape[1] != self._faiss.d:
            raise UsageError(f"queries have shape {embeddings.shape}, the index holds vectors of {self._faiss.d}")
        similarity, ids = self._faiss.search(np.ascontiguousarray(embeddings, np.float32), min(k, len(self)))
        return [
            [self._hit(int(face_id), float(value)) for value, face_id in zip(values, row, strict=True) if face_id >= 0]
            for values, row in zip(similarity, ids, strict=True)
        ]

    def _hit(self, face_id: int, similarity: float) -> Hit:
        row = int(self._order[np.searchsorted(self._ids, face_id)])
        path = decode_path(self._paths[row].as_py())
        return Hit(path=path, face=int(self._faces[row]), similarity=similarity, face_id=face_id)


def load_faces(files: IndexFiles) -> FaceTable:
    """All faces of an index with their vectors, row for row.

    Raises:
        IndexFormatError: a file is missing or damaged, or they do not belong together.
    """
    rows = read_parquet(files.parquet, advice=_AGAIN)
    index = _read_faiss(files.faiss)
    ids, wanted = _ids_of(index), rows.column("face_id").to_numpy()
    order = np.argsort(ids, kind="stable")
    if not np.array_equal(ids[order], np.sort(wanted)):
        raise IndexFormatError(f"{files.faiss} and {files.parquet.name} hold other faces; {_AGAIN}")
    if files.vectors.exists():
        try:
            vectors = np.load(files.vectors)
        except (OSError, ValueError, EOFError) as error:
            raise IndexFormatError(f"{files.vectors} cannot be read ({error}); {_AGAIN}") from error
        if vectors.shape != (len(rows), index.d) or vectors.dtype != np.float32:
            raise IndexFormatError(f"{files.vectors} and {files.parquet.name} hold other faces; {_AGAIN}")
    else:
        try:
            vectors = _reconstruct(index)[order[np.searchsorted(ids[order], wanted)]]
        except RuntimeError as error:
            raise IndexFormatError(f"{files.faiss} needs {files.vectors.name}, which is gone; {_AGAIN}") from error
    return FaceTable(rows, vectors)


def _read_faiss(path: Path) -> Any:
    import faiss

    try:
        index: Any = faiss.deserialize_index(np.fromfile(path, np.uint8))
    except (OSError, RuntimeError, MemoryError) as error:
        raise IndexFormatError(f"{path} cannot be read ({_faiss_reason(error)}); {_AGAIN}") from error
    if not isinstance(index, faiss.IndexIDMap2):
        raise IndexFormatError(f"{path} is a FAISS {type(index).__name__}, not an IndexIDMap2 of faces; {_AGAIN}")
    inner = faiss.downcast_index(index.index)
    if isinstance(inner, faiss.IndexIVF):
        inner.nprobe = max(8, inner.nlist // 16)
    return index


def _ids_of(index: Any) -> NDArray[np.int64]:
    """The ids of an `IndexIDMap2` in the order they were added."""
    import faiss

    ids: NDArray[np.int64] = faiss.vector_to_array(index.id_map)
    return ids


def _reconstruct(index: Any) -> NDArray[np.float32]:
    """The vectors of an `IndexIDMap2` in the order they were added."""
    import faiss

    inner = faiss.downcast_index(index.index)
    if isinstance(inner, faiss.IndexIVF):
        inner.make_direct_map()
    vectors: NDArray[np.float32] = inner.reconstruct_n(0, inner.ntotal)
    return vectors


def _is_lossless(index: Any, vectors: NDArray[np.float32]) -> bool:
    try:
        return bool(np.array_equal(_reconstruct(index), vectors))
    except RuntimeError:  # the type does not reconstruct
        return False


def _faiss_reason(error: Exception) -> str:
    return str(error).strip().splitlines()[-1][-160:]
