"""Many dimensions on a plane: PCA of our own, t-SNE by scikit-learn, UMAP by umap-learn.

    places = project_vectors(vectors, "pca")

PCA is exact, quick and linear: far apart is different. t-SNE and UMAP show who is near whom; distances between groups, and how
large a group is drawn, say little (https://distill.pub/2016/misread-tsne/).
"""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from faceembed.errors import DataError, UsageError
from faceembed.install import pip_install

METHODS = ("pca", "tsne", "umap")
_KEPT = 50  # dimensions that t-SNE and UMAP are given, as van der Maaten and Hinton (2008), section 4, do it
_PACKAGES = {"sklearn": "project", "umap": "umap"}

Floats = NDArray[np.float32]


def project_vectors(vectors: Floats, method: str, *, seed: int = 0) -> Floats:
    """A place on the plane for each vector.

    Args:
        vectors: float32 (N, D).
        method: ``pca``, ``tsne`` or ``umap``.
        seed: of t-SNE and UMAP.

    Returns:
        float32 (N, 2), each axis within [0, 1], one scale for both.

    Raises:
        UsageError: an unknown method, or its package is not installed.
        DataError: fewer than 3 vectors.
    """
    if method not in METHODS:
        raise UsageError(f"--method '{method}' is none of {', '.join(METHODS)}")
    if len(vectors) < 3:
        raise DataError(f"a map needs at least 3 faces, the index holds {len(vectors)}")
    if method == "pca":
        return _fitted(principal(vectors, 2))
    if method == "tsne":
        manifold = _package("sklearn", "sklearn.manifold")
        perplexity = min(30.0, (len(vectors) - 1) / 3)
        maker = manifold.TSNE(perplexity=perplexity, init="pca", random_state=seed)
    else:
        maker = _package("umap", "umap").UMAP(n_neighbors=min(15, len(vectors) - 1), random_state=seed, n_jobs=1)
    return _fitted(maker.fit_transform(principal(vectors, _KEPT)))


def principal(vectors: Floats, dimensions: int) -> Floats:
    """The first principal components (Pearson 1901), (N, min(dimensions, D)); each axis's largest weight is positive."""
    centred = vectors - vectors.mean(axis=0, dtype=np.float64).astype(np.float32)
    _, axes = np.linalg.eigh((centred.T @ centred).astype(np.float64))
    axes = axes[:, ::-1][:, :dimensions]
    axes *= np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])])
    return np.asarray(centred @ axes.astype(np.float32), np.float32)


def _fitted(places: Any) -> Floats:
    values = np.asarray(places, np.float64)
    if values.shape[1] < 2:
        values = np.pad(values, ((0, 0), (0, 2 - values.shape[1])))
    low, high = values.min(axis=0), values.max(axis=0)
    scale = max(float((high - low).max()), 1e-12)
    return np.asarray((values - (low + high) / 2) / scale + 0.5, np.float32)


def _package(name: str, module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        extra = _PACKAGES[name]
        raise UsageError(
            f"this map needs '{name}', which is not installed; run: {pip_install(extra)}, or take --method pca"
        ) from error
