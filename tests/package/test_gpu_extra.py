"""`pip install ".[gpu]"` and nothing else, in a virtual environment of its own: everything is there but the driver.

Gigabytes are downloaded and unpacked (marked `bare`), so it runs where it is asked for: ``FACEEMBED_BARE=1 pytest tests/package -m bare``; with
FACEEMBED_BARE set to the folder of an environment that was made so, that one is asked.
"""

from __future__ import annotations

import json
import os
import subprocess
import venv
from pathlib import Path

import cv2
import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
CHOSEN = os.environ.get("FACEEMBED_BARE", "")
pytestmark = [
    pytest.mark.bare,
    pytest.mark.skipif(not CHOSEN, reason="FACEEMBED_BARE is not set: gigabytes are installed"),
]
NO_DRIVER = (
    "no NVIDIA driver on this machine (libcuda.so.1 is not found); install driver 580 or newer, or use --device cpu"
)


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of its commands."""
    if Path(CHOSEN).is_absolute():
        return Path(CHOSEN) / "bin"
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder, with_pip=True)
    subprocess.run([folder / "bin/pip", "install", "-q", f"{ROOT}[gpu]"], check=True)
    return folder / "bin"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    cv2.imwrite(str(folder / "grey.jpg"), np.full((300, 200, 3), 128, np.uint8))
    return folder


def call(command: Path, *arguments: str, home: Path) -> subprocess.CompletedProcess[str]:
    env = {"PATH": os.environ["PATH"], "HOME": str(home), "FACEEMBED_HOME": str(home)}
    return subprocess.run([command, *arguments], capture_output=True, text=True, env=env, cwd=home, check=False)


def test_nothing_but_the_driver_is_missing(bare: Path, photos: Path, tmp_path: Path) -> None:
    """One clear line, and no index."""
    there = subprocess.run([bare / "pip", "list", "--format=json"], capture_output=True, text=True, check=True).stdout
    names = {entry["name"].lower() for entry in json.loads(there)}
    assert {"onnxruntime-gpu", "tensorrt-rtx", "tensorrt_rtx"} & names and "scikit-image" not in names
    assert not {"onnxruntime", "openvino", "torch"} & names
    done = call(
        bare / "faceembed", "embed", str(photos), "-o", str(tmp_path / "i.faiss"), "--device", "cuda", home=tmp_path
    )
    if Path("/proc/driver/nvidia/version").exists():
        pytest.skip("this machine has a driver")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.strip().splitlines()[-1].endswith(NO_DRIVER) and "Traceback" not in done.stderr
    assert not (tmp_path / "i.faiss").exists()


def test_the_libraries_load_and_an_engine_is_built(bare: Path, tmp_path: Path) -> None:
    """TensorRT for RTX builds without a card, our kernels compile, DALI and nvImageCodec load: all from the extra alone."""
    built = call(bare / "faceembed", "build-engine", "--target", "sm89", "--json", home=tmp_path)
    assert built.returncode == 0, built.stderr
    document = json.loads(built.stdout)
    assert document["targets"] == ["sm89"] and not document["parity"] and not document["executed"]
    assert "the engine is not compared with fp32 yet (the sample photos come from scikit-image)" in built.stderr
    code = (
        "from faceembed.engine.pipeline.gpu import compiler, dali\n"
        "import nvidia.nvimgcodec\n"
        "dali.load()\n"
        "print(len(compiler.compile_kernels('sm_89').cubin))\n"
    )
    loaded = subprocess.run([bare / "python", "-c", code], capture_output=True, text=True, check=False)
    assert loaded.returncode == 0, loaded.stderr
    assert int(loaded.stdout) > 10_000


def test_doctor_says_what_does_not_start(bare: Path, tmp_path: Path) -> None:
    """ONNX Runtime's provider is there, and CUDA's own libraries, of `[onnx-cuda]`, are not."""
    done = call(bare / "faceembed", "doctor", "--json", home=tmp_path)
    found = {finding["name"]: finding for finding in json.loads(done.stdout)["findings"]}
    assert found["ONNX Runtime CUDA"]["state"] == "broken"
    assert found["ONNX Runtime CUDA"]["text"].startswith("its provider does not start (lib")
    assert found["TensorRT for RTX"]["state"] == found["DALI"]["state"] == found["cuda-core"]["state"] == "ok"
