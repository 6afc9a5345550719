"""What importing costs: never torch or TensorFlow, nothing heavy for the package itself; and what is public."""

from __future__ import annotations

import pkgutil
import subprocess
import sys

import pytest

import faceembed
import faceembed.engine

HEAVY = ("torch", "tensorflow", "openvino", "onnxruntime", "onnx", "faiss", "cv2", "pyarrow", "matplotlib", "numpy")


def imported_by(statement: str) -> set[str]:
    """The top-level modules there are after a statement, in a process of its own."""
    code = f"import sys\n{statement}\nprint(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return set(done.stdout.split())


def test_the_package_alone_is_light() -> None:
    assert not imported_by("import faceembed; faceembed.__version__; dir(faceembed)") & set(HEAVY)


def test_no_module_of_the_engine_imports_a_training_framework() -> None:
    found = pkgutil.walk_packages(faceembed.engine.__path__, "faceembed.engine.")
    names = [module.name for module in found]
    assert len(names) > 40
    assert not imported_by(f"import {', '.join(names)}") & {"torch", "tensorflow", "keras", "mtcnn", "jax"}


def test_a_runtime_is_imported_when_it_is_used() -> None:
    loaded = imported_by(
        "import faceembed.engine.pipeline.batches, faceembed.engine.pipeline.loading, faceembed.engine.index.store"
    )
    assert not loaded & {"openvino", "onnxruntime", "onnx", "faiss", "joblib", "torch"}


def test_public_names() -> None:
    assert faceembed.__all__ == sorted(faceembed.__all__)
    assert set(faceembed.__all__) == {
        "EmbedSettings",
        "Embedder",
        "Face",
        "FaceEmbedError",
        "RuntimeSettings",
        "__version__",
        "embed",
        "enrol",
        "evaluate",
        "identify",
        "matrix",
        "search",
        "verify",
    }
    for name in faceembed.__all__:
        assert getattr(faceembed, name) is not None


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'faceembed' has no attribute 'embedd'"):
        faceembed.embedd  # noqa: B018


def test_what_the_package_shows_is_what_it_offers() -> None:
    import faceembed

    shown = [name for name in dir(faceembed) if not name.startswith("__")]
    assert shown == sorted(name for name in faceembed.__all__ if not name.startswith("__"))
