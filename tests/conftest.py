"""What all tests share: a model home of their own, the sample photo, an opened pipeline, and where the real photos lie."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from hypothesis import HealthCheck, settings
from numpy.typing import NDArray

from faceembed.engine.models.registry import resolve
from faceembed.engine.models.spec import Model
from faceembed.engine.photos.sample import sample_photos
from faceembed.engine.pipeline import loading, warm
from faceembed.engine.pipeline.batches import Pipeline
from faceembed.engine.pipeline.encode import Encoder
from faceembed.engine.pipeline.settings import EmbedSettings
from faceembed.engine.runtimes.choose import RuntimeSettings

UNPACK = Path(__file__).resolve().parents[1].parent / "shared" / "data" / "unpack.sh"
Pixels = NDArray[np.uint8]

# A property is proved by its examples, not by how long a busy machine takes over one.
settings.register_profile("faceembed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("faceembed")


@pytest.fixture(scope="session", autouse=True)
def _home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Models are built once, in a folder of the tests' own: the user's cache is neither read nor written."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FACEEMBED_HOME", str(home))
        yield home


@pytest.fixture(autouse=True)
def _cold() -> Iterator[None]:
    """No test gets models that another one has opened, or what stood in for them."""
    warm.let_go()
    yield
    warm.let_go()


@pytest.fixture(scope="session", autouse=True)
def _ctrl_c() -> None:
    """A shell starts what runs in its background with SIGINT ignored; the tests of Ctrl-C need it, here and in children."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """The folder of real photos (`lfw`, `people_wild`, ...)."""
    chosen = os.environ.get("FACEEMBED_DATA")
    if chosen and Path(chosen).is_dir():
        return Path(chosen)
    if not UNPACK.is_file():
        pytest.skip("no real photos: FACEEMBED_DATA is not set to their folder, nor are they beside the checkout")
    run = tmp_path_factory.getbasetemp()
    told = (
        run if worker_id == "master" else run.parent
    ) / "data"  # of several processes one unpacks, the others read where
    with FileLock(f"{told}.lock"):
        if not told.exists():
            done = subprocess.run([str(UNPACK)], check=True, capture_output=True, text=True)
            told.write_text(done.stdout.strip().splitlines()[-1], encoding="utf-8")
        return Path(told.read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def wild(data: Path) -> list[Path]:
    """A seeded sample of 120 uncropped photos of people."""
    paths = sorted((data / "people_wild").glob("*/*.jpg"))
    chosen = np.random.default_rng(2024).choice(len(paths), 120, replace=False)
    return [paths[index] for index in sorted(chosen.tolist())]


@pytest.fixture(scope="session")
def astronaut() -> Pixels:
    """The photo that scikit-image ships: uint8 RGB (512, 512, 3), one face."""
    skimage = pytest.importorskip("skimage.data")
    pixels: Pixels = np.ascontiguousarray(skimage.astronaut())
    pixels.flags.writeable = False
    return pixels


@pytest.fixture(scope="session")
def exact() -> EmbedSettings:
    """fp32 on two threads: the same bits on every machine that runs the tests."""
    return EmbedSettings(runtime=RuntimeSettings(precision="fp32", threads=2))


@pytest.fixture(scope="session")
def models() -> loading.Models:
    return loading.resolve_models(EmbedSettings())


@pytest.fixture(scope="session")
def encoder_model(models: loading.Models) -> Model:
    """The default encoder, whichever it is."""
    return models.encoder


@pytest.fixture(scope="session")
def dlib_model() -> Model:
    """What the trainer starts from, and what dlib itself can be asked about."""
    return resolve("dlib-resnet", task="encoder")


@pytest.fixture(scope="session")
def pipeline(exact: EmbedSettings, models: loading.Models) -> Pipeline:
    """Both models in fp32, the largest face of each photo."""
    return loading.open_pipeline(exact, models, [], notice=lambda line: None)


@pytest.fixture(scope="session")
def dlib_pipeline(exact: EmbedSettings, pipeline: Pipeline, dlib_model: Model) -> Pipeline:
    """The same with dlib's encoder, which takes the same chips."""
    return Pipeline(exact, pipeline.detector, Encoder(dlib_model, pipeline.encoder.choice, threads=2), workers=2)


@pytest.fixture
def reuse_pipeline(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Pipeline:
    """Verbs in this test take the session's pipeline (with the settings they ask for) instead of loading the models again."""

    def open_pipeline(settings: EmbedSettings, *_: object, **__: object) -> Pipeline:
        detector = None if settings.aligner == "none" else pipeline.detector
        of = request.getfixturevalue("dlib_pipeline") if settings.encoder == "dlib-resnet" else pipeline
        return Pipeline(settings, detector, of.encoder, workers=2)

    monkeypatch.setattr(loading, "open_pipeline", open_pipeline)
    return pipeline


@pytest.fixture(scope="session")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The astronaut against herself; one pair stands in for a deepfake, one for a stranger, and one photo shows nobody."""
    import cv2

    photos, path = sample_photos(), tmp_path_factory.mktemp("pairs") / "pairs.csv"
    cv2.imwrite(str(path.parent / "grey.png"), np.full((80, 80, 3), 128, np.uint8))
    rows = [
        (photos / "astronaut.png", photos / "darker.jpg", 1, "same"),
        (photos / "astronaut.png", photos / "cropped.jpg", 1, "same"),
        (photos / "astronaut.png", photos / "blurred.jpg", 0, "fake"),
        (photos / "cropped.jpg", photos / "mirrored.jpg", 0, "other"),
        (photos / "cropped.jpg", path.parent / "grey.png", 1, "same"),
    ]
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("path_a", "path_b", "label", "kind"), *rows])
    return path


@pytest.fixture(scope="session")
def make_faces(astronaut: Pixels) -> Callable[[Path, int], list[Path]]:
    """Writes any number of different photos of the astronaut: `make_faces(folder, count)` gives their paths, sorted."""
    import cv2

    def make(folder: Path, count: int) -> list[Path]:
        folder.mkdir(parents=True, exist_ok=True)
        paths = []
        for number in range(count):
            shift, side = 7 * (number % 5), 200 + 10 * (number % 7)
            view = astronaut[40 + shift : 240 + shift, 120 + shift // 2 : 330 + shift // 2]
            view = np.clip(view.astype(np.int16) + 8 * (number % 3) - 4 * (number % 11), 0, 255).astype(np.uint8)
            view = cv2.resize(view[:, ::-1] if number % 2 else view, (side, side), interpolation=cv2.INTER_AREA)
            path = folder / f"{number:04d}.jpg"
            cv2.imwrite(str(path), cv2.cvtColor(np.ascontiguousarray(view), cv2.COLOR_RGB2BGR))
            paths.append(path)
        return paths

    return make
