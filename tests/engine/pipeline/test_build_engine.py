"""`build-engine` as a library: real engines by TensorRT for RTX without a card, the gate before them, the cache behind them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from faceembed.engine.detect.oneshot import OneShotDetector
from faceembed.engine.models import builtin
from faceembed.engine.models.graph import GraphWriter
from faceembed.engine.models.spec import Model
from faceembed.engine.models.store import file_sha256
from faceembed.engine.parity import rule
from faceembed.engine.parity.quantise import quantised_line
from faceembed.engine.pipeline import build_engine as module
from faceembed.engine.pipeline import given_engines, sample_faces
from faceembed.engine.pipeline.build_engine import (
    BuildSettings,
    build_engine,
    ensure,
)
from faceembed.engine.pipeline.encode import Encoder
from faceembed.engine.pipeline.given_engines import add_engine, inspect_engine
from faceembed.engine.runtimes import engine_session, flavours
from faceembed.engine.runtimes.base import RuntimeChoice
from faceembed.engine.runtimes.cards import Card, Driver
from faceembed.engine.runtimes.engine_file import read_facts
from faceembed.engine.runtimes.watch import spoken
from faceembed.errors import DataError, DeviceError, ModelError, UsageError

ALL = ("sm75", "sm80", "sm86", "sm89", "sm120")
REAL_CHIPS = sample_faces.sample_chips
pytest.importorskip("tensorrt_rtx")


@pytest.fixture(autouse=True)
def _no_card(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine without a card, with TensorRT for RTX alone, whatever this one has."""

    def missing() -> None:
        raise DeviceError("no NVIDIA driver on this machine; install driver 580, or use --device cpu")

    monkeypatch.setattr(module, "probe", missing)
    monkeypatch.setattr(flavours, "installed", lambda: ("tensorrt_rtx",))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FACEEMBED_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture(scope="module")
def chips(pipeline: Any, astronaut: np.ndarray) -> Iterator[np.ndarray]:
    """Eight views of one face, so that the gate of these tests need not look for faces in photos again."""
    views = [astronaut[40 + 3 * k : 190 + 3 * k, 140 + 2 * k : 290 + 2 * k] for k in range(8)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sample_faces, "sample_chips", lambda spec, folder: np.stack(views))
        yield np.stack(views)


def test_the_default_encoder_for_all_cards(home: Path, encoder_model: Model, chips: np.ndarray) -> None:
    heard: list[str] = []
    shares: list[float] = []
    built = build_engine(
        encoder_model, BuildSettings(), notice=heard.append, progress=lambda phase, share: shares.append(share)
    )
    assert not built.cached and built.seconds > 0 and shares[-1] == 1
    assert heard[0] == "building without a card: no NVIDIA driver on this machine; install driver 580"
    assert heard[1].endswith("of its graph in ONNX Runtime; the engine itself was not executed")
    facts = inspect_engine(built.path)
    assert facts == built.facts
    assert (facts.model, facts.model_sha256) == (encoder_model.spec.name, encoder_model.spec.sha256)
    assert (facts.precision, facts.package, facts.targets, facts.batch) == ("fp16", "tensorrt_rtx", ALL, (1, 64, 128))
    assert not facts.executed and 0.999 <= facts.parity["min_cosine"] <= 1.00001 and facts.parity["faces"] == 8
    assert 0 < facts.parity["rms"] < 0.03 and facts.parity["rms"] < facts.parity["largest"] < 0.15
    again = build_engine(encoder_model, BuildSettings())
    assert again.cached and again.path == built.path
    narrower = build_engine(encoder_model, BuildSettings(target="sm120", batch=(1, 8, 16)))
    assert narrower.cached and narrower.path == built.path  # it serves more than is wanted
    damaged = Path(built.path)
    damaged.write_bytes(damaged.read_bytes()[:-10])
    with pytest.raises(ModelError, match="damaged in its network 'encode'; build it again"):
        inspect_engine(damaged)
    heard.clear()
    rebuilt = build_engine(encoder_model, BuildSettings(), notice=heard.append)
    assert not rebuilt.cached and any("damaged" in line for line in heard)
    assert inspect_engine(damaged).targets == ALL


def test_a_network_that_half_precision_breaks_is_not_built(
    home: Path, tmp_path: Path, encoder_model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Right in fp32; in fp16 its weights fit, but what comes between two layers does not."""
    rng = np.random.default_rng(0)
    writer = GraphWriter("bad")
    x = writer.input("chips", ["N", 3, 16, 16])
    for factor in (300, 300, 1e-4):
        x = writer.conv(x, (rng.random((3, 3, 1, 1)) + 0.1) * factor, rng.random(3) * factor)
    writer.output(writer.node("Flatten", [x]), "embedding", ["N", 768])
    path = tmp_path / "bad.onnx"
    path.write_bytes(writer.serialise())
    spec = dataclasses.replace(
        encoder_model.spec, name="bad", input_size=(16, 16), dimension=768, templates="", sha256=file_sha256(path)
    )
    faces = rng.integers(0, 256, (8, 16, 16, 3), dtype=np.uint8)
    monkeypatch.setattr(sample_faces, "sample_chips", lambda spec, folder: faces)
    with pytest.raises(
        DeviceError,
        match=r"^bad: FP16 loses the embedding of 8 of 8 faces \(numbers beyond its range\) on 8 faces.*; use --precision fp32$",
    ):
        build_engine(Model(spec, str(path)), BuildSettings(target="sm89"))
    assert not list(home.glob("engines/*"))
    assert (
        build_engine(Model(spec, str(path)), BuildSettings(precision="fp32", target="sm89")).facts.precision == "fp32"
    )


def test_int8_for_three_cards(
    home: Path, dlib_model: Model, chips: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real engine, smaller than that of fp16; its file says how much of it is INT8."""
    monkeypatch.setattr(sample_faces, "sample_chips", lambda spec, folder, **_: chips)
    heard: list[str] = []
    built = build_engine(dlib_model, BuildSettings("int8", "sm86,sm89,sm120"), notice=heard.append)
    facts = inspect_engine(built.path)
    assert facts == built.facts and (facts.precision, facts.targets) == ("int8", ("sm86", "sm89", "sm120"))
    assert facts.int8["of"] == 30 and facts.int8["faces"] == 8
    assert 1 <= facts.int8["layers"] <= 28 and 0 < facts.int8["flops"] < 0.92
    assert rule.passed(facts.parity, "int8") and facts.parity["min_cosine"] > 0.997
    assert heard[1] == "the sample photos: 8 faces for the scales of int8, 128 are better: --photos"
    assert heard[2] == quantised_line(facts.int8) and heard[2].endswith("the rest fp16; scales from 8 faces")
    assert heard[3].startswith("INT8 moves similarities by ")
    half = build_engine(dlib_model, BuildSettings("fp16", "sm89"))
    assert half.facts.int8 == {}
    assert facts.networks[0].plan_bytes < half.facts.networks[0].plan_bytes
    assert build_engine(dlib_model, BuildSettings("int8", "sm89")).path == built.path


def test_int8_that_no_layer_allows(
    home: Path, dlib_model: Model, chips: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sample_faces, "sample_chips", lambda spec, folder, **_: chips)
    monkeypatch.setattr(rule, "LOW", (0.0, 0.0))
    with pytest.raises(
        DeviceError, match=r"^dlib-resnet, all 28 layers in int8: INT8 moves similarities by [\d.]+ % .* on 16 faces"
    ):
        build_engine(dlib_model, BuildSettings("int8", "sm89"), fresh=True)
    assert not list(home.glob("engines/*"))


def test_calibration_faces_are_not_those_of_the_gate(encoder_model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    def numbered(spec: Any, folder: Any, *, faces: int) -> np.ndarray:
        return np.arange(min(faces, count))

    monkeypatch.setattr(sample_faces, "sample_chips", numbered)
    for count, wanted in ((500, range(32, 128)), (70, range(32, 70)), (50, range(50)), (11, range(11))):
        checked, calibration = sample_faces.calibration_chips(encoder_model.spec, "photos")
        assert checked.tolist() == list(range(min(count, 32))) and calibration.tolist() == list(wanted)


def test_an_aligner_has_two_networks(home: Path, tmp_path: Path, chips: np.ndarray) -> None:
    aligner = builtin.find("faceembed-align")
    if aligner is None:
        pytest.skip("this version has no one-shot aligner inside")
    built = build_engine(aligner, BuildSettings(target="sm89", batch=(1, 4, 8)), output=tmp_path / "a.engine")
    facts = inspect_engine(tmp_path / "a.engine")
    assert facts == built.facts and not list(home.glob("engines/*"))
    assert [(network.name, network.entry, len(network.profiles)) for network in facts.networks] == [
        ("detect", "pixels", 4),
        ("refine", "chips", 1),
    ]
    assert facts.parity["faces"] >= 8 and facts.parity["found"] >= 0.95


def test_no_face_to_compare_on(tmp_path: Path, encoder_model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sample_faces, "sample_chips", REAL_CHIPS)
    cv2.imwrite(str(tmp_path / "grey.png"), np.full((64, 64, 3), 128, np.uint8))
    with pytest.raises(DataError, match=r"no face in the photos of .* to compare on; give others: --photos"):
        build_engine(encoder_model, BuildSettings(photos=str(tmp_path)), fresh=True)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"precision": "bf16"}, r"^--precision 'bf16' is not one of fp16, fp32, int8$"),
        ({"batch": (4, 2, 8)}, r"give MIN,OPT,MAX with 1 <= MIN"),
    ],
)
def test_settings(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        BuildSettings(**values)


# --- with a card, which is a stand-in here --------------------------------------------------------------------------

CARD = Card(0, "NVIDIA GeForce RTX 4090", (8, 9), 24 << 30, 128)


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "probe", lambda: Driver("580.65.06", (13, 0), (CARD,)))


@pytest.fixture
def graphs_run(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The session is the graph's, in place of one that runs the plan: what is proved is what is compared, kept and said."""
    opened: list[str] = []

    def session_of(facts: Any, plans: Any, network: Any, model: Any, choice: Any, flavour: Any) -> Any:
        opened.append(choice.device)
        assert len(plans[0]) == facts.networks[0].plan_bytes
        return module.GraphSession(model, network, module.graph_of(model, network, choice.precision), choice)

    monkeypatch.setattr(module, "session_of", session_of)
    return opened


TENSORRT = RuntimeChoice("tensorrt", "cuda:0", "fp16", "")


def test_a_run_keeps_what_it_builds_unproved_and_needs_no_sample(
    home: Path, tiny: Model, card: None, graphs_run: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`[gpu]` has no scikit-image: the engine is there before any gate is asked, and the run's own gate compares."""
    monkeypatch.setattr(module, "sample_photos", lambda: pytest.fail("a run looks at its own photos"))
    remembered: list[Any] = []
    monkeypatch.setattr(module.parity_memory, "remember", lambda *values: remembered.append(values))
    heard: list[str] = []
    path = ensure(tiny, TENSORRT, notice=heard.append)
    facts = read_facts(path)
    assert not facts.executed and not facts.proved and facts.targets == ("sm89",)
    title = flavours.load("tensorrt_rtx").title
    assert heard == [
        f"no engine of tiny in fp16 for NVIDIA GeForce RTX 4090 (sm89, 24 GiB) yet; building one with {title}"
    ]
    assert ensure(tiny, TENSORRT, notice=heard.append) == path and len(heard) == 1
    assert graphs_run == [] and remembered == []


def test_on_a_card_the_engine_itself_is_compared(
    home: Path, tiny: Model, card: None, graphs_run: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By `build-engine`, also one that a run has left unproved; what passed is remembered, so a run asks no more."""
    faces = np.random.default_rng(1).integers(0, 256, (8, 16, 16, 3), dtype=np.uint8)
    monkeypatch.setattr(module, "sample_photos", lambda: Path("photos"))
    monkeypatch.setattr(sample_faces, "sample_chips", lambda spec, folder: faces)
    remembered: list[Any] = []
    monkeypatch.setattr(module.parity_memory, "remember", lambda *values: remembered.append(values))
    path = ensure(tiny, TENSORRT)
    heard: list[str] = []
    built = build_engine(tiny, BuildSettings(), notice=heard.append)
    assert built.cached and built.path == str(path) and graphs_run == ["cuda:0"]
    facts = read_facts(path)
    assert facts.executed and facts.proved and facts == built.facts
    assert heard[-1].endswith("of the engine on NVIDIA GeForce RTX 4090 (sm89, 24 GiB)")
    ((model, choice, figures),) = remembered
    assert (model, choice.device, choice.precision, figures) == (tiny, "cuda:0", "fp16", facts.parity)
    assert build_engine(tiny, BuildSettings()).facts == facts and graphs_run == ["cuda:0"]


@pytest.mark.parametrize("error", [DeviceError("it differs"), KeyboardInterrupt()])
def test_an_engine_outlives_its_gate(
    home: Path, tiny: Model, card: None, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    """Minutes of building are not lost to what the comparison meets; it is asked again."""

    def gate(*_: Any) -> dict[str, float]:
        raise error

    monkeypatch.setattr(module, "_check", gate)
    for _ in range(2):
        with pytest.raises(type(error)):
            build_engine(tiny, BuildSettings())
        (kept,) = home.glob("engines/*.engine")
        assert not read_facts(kept).proved


@pytest.mark.parametrize("here", [True, False])
def test_without_the_sample_an_engine_is_unproved(
    home: Path, tiny: Model, graphs_run: list[str], monkeypatch: pytest.MonkeyPatch, here: bool
) -> None:
    if here:
        monkeypatch.setattr(module, "probe", lambda: Driver("580.65.06", (13, 0), (CARD,)))

    def missing() -> Path:
        raise DataError("the sample photos come from scikit-image, which is not installed; run: pip install x")

    monkeypatch.setattr(module, "sample_photos", missing)
    heard: list[str] = []
    built = build_engine(tiny, BuildSettings(target="sm89"), notice=heard.append)
    assert not built.facts.proved and not built.facts.executed
    assert heard[-1] == (
        "the engine is not compared with fp32 yet (the sample photos come from scikit-image): a run does that on its own photos "
        "first; to do it now: --photos FOLDER"
    )


def test_an_int8_engine_is_not_built_on_the_way(home: Path, dlib_model: Model, card: None) -> None:
    with pytest.raises(
        DeviceError,
        match=r"^no engine of dlib-resnet in int8 for NVIDIA GeForce RTX 4090 .* is kept; build it on faces like yours: "
        r"faceembed build-engine --encoder dlib-resnet --precision int8 --photos FOLDER$",
    ):
        ensure(dlib_model, RuntimeChoice("tensorrt", "cuda:0", "int8", ""))


def test_a_run_that_must_build_says_how_far_it_is(
    home: Path, encoder_model: Model, chips: np.ndarray, card: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an encoder is opened: what is built first is heard, and the session has a place for its kernels beside the engine."""
    made: list[Any] = []

    def session_of(
        facts: Any, plans: Any, network: Any, model: Any, choice: Any, flavour: Any, kernels: Any = None
    ) -> Any:
        made.append(kernels)
        return module.GraphSession(model, network, module.graph_of(model, network, choice.precision), choice)

    monkeypatch.setattr(module, "session_of", session_of)
    monkeypatch.setattr(engine_session, "probe", module.probe)
    monkeypatch.setattr(engine_session, "session_of", session_of)
    gate: dict[str, float] = {}
    monkeypatch.setattr(module.parity_memory, "remember", lambda model, choice, parity: gate.update(parity))
    monkeypatch.setattr(module.parity_memory, "recall", lambda model, choice: gate)
    heard: list[str] = []
    encoder = Encoder(
        encoder_model, RuntimeChoice("tensorrt", "cuda:0", "fp16", ""), threads=1, watch=spoken(heard.append, every_s=0)
    )
    assert heard[0].startswith(f"no engine of {encoder_model.spec.name} in fp16 for NVIDIA GeForce RTX 4090")
    shares = [int(line.split()[1]) for line in heard if line.startswith("engine ")]
    assert len(shares) > 3 and shares == sorted(shares) and shares[-1] == 100
    assert not encoder.admitted  # the run's own gate is still to come, with photos of the run
    assert ": used (measured on 8 faces" in encoder.admit(chips)
    assert encoder.admitted and gate
    (engine,) = home.glob("engines/*.engine")
    assert made[0].path == engine.with_name(f"{engine.stem}-encode-sm89.kernels")
    heard.clear()
    Encoder(
        encoder_model, RuntimeChoice("tensorrt", "cuda:0", "fp16", ""), threads=1, watch=spoken(heard.append, every_s=0)
    )
    assert heard == []


def test_an_engine_of_another_machine_is_added_or_refused(
    home: Path, tmp_path: Path, encoder_model: Model, chips: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(given_engines, "resolve", lambda name, task: encoder_model)
    path = tmp_path / "a.engine"
    build_engine(encoder_model, BuildSettings(target="sm120"), output=path)
    monkeypatch.setattr(module, "probe", lambda: Driver("", (13, 0), (CARD,)))
    with pytest.raises(
        DeviceError, match=r"does not fit this machine: it was built for sm120, and the card here is sm89"
    ):
        add_engine(path)
    other = dataclasses.replace(CARD, name="NVIDIA GeForce RTX 5090", capability=(12, 0))
    monkeypatch.setattr(module, "probe", lambda: Driver("", (13, 0), (other,)))
    kept = add_engine(path).path
    choice = RuntimeChoice("tensorrt", "cuda:0", "fp16", "")
    assert str(ensure(encoder_model, choice)) == kept  # and no engine is built


def test_the_reference_of_a_card_is_on_the_processor(pipeline: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """An aligner's engine that was added, or a new driver, is compared anew: without a second engine in fp32."""
    detector = pipeline.detector
    on_card = OneShotDetector(
        detector.model, TENSORRT, threads=1, sessions=(detector._session, detector._refiner), settings=detector.settings
    )
    exact = on_card.exact()
    assert (exact.choice.runtime, exact.choice.device, exact.choice.precision) == ("onnxruntime", "cpu", "fp32")
