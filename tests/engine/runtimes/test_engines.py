"""Engine files say what they are and notice damage; the cache gives an engine only where it fits; TensorRT for RTX builds real plans."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from faceembed.engine.models.spec import Model
from faceembed.engine.runtimes import engine_cache, flavours
from faceembed.engine.runtimes.cards import Card
from faceembed.engine.runtimes.engine_cache import Wanted, why_unfit
from faceembed.engine.runtimes.engine_file import EngineFacts, NetworkFacts, read_facts, read_plans, write_engine
from faceembed.engine.runtimes.flavours import Flavour, load, resolve_targets, to_build_with
from faceembed.engine.runtimes.networks import LOOKS, Network, graph_of, look_of, networks_of, profiles_of
from faceembed.engine.runtimes.profile import Profile, parse_batch
from faceembed.engine.runtimes.trt_build import Fractions, build_plan, why_malformed
from faceembed.errors import DeviceError, ModelError, UsageError

TARGETS = ("sm75", "sm80", "sm86", "sm89", "sm120")
RTX4090 = Card(0, "NVIDIA GeForce RTX 4090", (8, 9), 24 << 30, 128)
H100 = Card(0, "NVIDIA H100", (9, 0), 80 << 30, 132)
PLANS = [b"first plan", b"second"]


def facts(**changes: Any) -> EngineFacts:
    networks = tuple(
        NetworkFacts(
            name,
            (name,),
            "pixels",
            (Profile((1, 2, 4), (32, 64, 96)),),
            "g",
            hashlib.sha256(plan).hexdigest(),
            len(plan),
        )
        for name, plan in zip(("detect", "refine"), PLANS, strict=True)
    )
    values: dict[str, Any] = {
        "model": "mine",
        "model_sha256": "a" * 64,
        "precision": "fp16",
        "package": "tensorrt_rtx",
        "package_version": "1.7",
        "targets": ("sm86", "sm89"),
        "batch": (1, 64, 128),
        "parity": {"min_cosine": 0.9999, "faces": 11},
        "executed": False,
        "faceembed": "0.1.0",
        "networks": networks,
    }
    return EngineFacts(**{**values, **changes})


def wanted(**changes: Any) -> Wanted:
    values: dict[str, Any] = {field.name: getattr(facts(), field.name) for field in dataclasses.fields(Wanted)}
    return Wanted(**{**values, "targets": ("sm89",), **changes})


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FACEEMBED_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture(scope="module")
def rtx() -> Flavour:
    pytest.importorskip("tensorrt_rtx")
    return load("tensorrt_rtx")


# --- files ----------------------------------------------------------------------------------------------------------


def test_a_file_keeps_everything(tmp_path: Path) -> None:
    path = tmp_path / "a.engine"
    write_engine(path, facts(), PLANS)
    assert read_facts(path) == facts()
    assert read_plans(path) == (facts(), PLANS)


def test_damage_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.engine"
    write_engine(path, facts(), PLANS)
    whole = path.read_bytes()
    for data, message in (
        (whole[:-1], r"a\.engine is damaged in its network 'refine'; build it again"),
        (whole.replace(b"first plan", b"other plan"), "damaged in its network 'detect'"),
        (b"\x00" * 100, "is no engine file of faceembed; make one with: faceembed build-engine"),
        (b"", "is no engine file"),
        (whole[:60], "has a header that this version does not read"),
        (whole.replace(b'"fp16"', b'"fp16'), "has a header that this version does not read"),
    ):
        path.write_bytes(data)
        with pytest.raises(ModelError, match=message):
            read_plans(path)
    with pytest.raises(ModelError, match=r"cannot read .*: No such file"):
        read_facts(tmp_path / "none.engine")


def test_the_header_is_json_that_others_can_read(tmp_path: Path) -> None:
    path = tmp_path / "a.engine"
    write_engine(path, facts(), PLANS)
    data = path.read_bytes()
    length = int.from_bytes(data[16:24], "little")
    header = json.loads(data[24 : 24 + length])
    assert header["targets"] == ["sm86", "sm89"] and header["networks"][1]["name"] == "refine"
    assert data[24 + length :] == b"".join(PLANS)


# --- what fits ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, ""),
        ({"targets": ("sm86",)}, ""),
        ({"batch": (1, 32, 64)}, ""),
        (
            {"model_sha256": "b" * 64},
            r"another file of 'mine' \(SHA-256 aaaaaaaaaaaaaaaa…, here mine is bbbbbbbbbbbbbbbb…\)",
        ),
        ({"precision": "fp32"}, "computes in fp16, and fp32 is wanted"),
        ({"package": "tensorrt"}, r"built by TensorRT for RTX 1\.7, and this machine runs TensorRT 1\.7"),
        ({"package_version": "1.8"}, r"built by TensorRT for RTX 1\.7, and this machine runs TensorRT for RTX 1\.8"),
        ({"targets": ("sm120",)}, "built for sm86, sm89, and the card here is sm120"),
        ({"batch": (1, 64, 256)}, "takes batches of 1 to 128, and 1 to 256 are wanted"),
    ],
)
def test_why_an_engine_does_not_fit(changes: dict[str, Any], reason: str) -> None:
    found = why_unfit(facts(), wanted(**changes))
    assert bool(found) == bool(reason)
    if reason:
        import re

        assert re.search(reason, found)


def test_an_older_conversion_does_not_fit() -> None:
    assert "another version of faceembed" in why_unfit(facts(conversion=0), wanted())


@pytest.mark.parametrize(
    "changes",
    [
        {"model_sha256": "b" * 64},
        {"precision": "fp32"},
        {"package": "tensorrt"},
        {"package_version": "1.8"},
        {"targets": ("sm120",)},
        {"batch": (1, 64, 256)},
    ],
)
def test_the_cache_is_keyed_on_everything(home: Path, changes: dict[str, Any]) -> None:
    heard: list[str] = []
    assert engine_cache.find(wanted(), notice=heard.append) is None
    path = engine_cache.keep(wanted(), facts(), PLANS)
    assert path.parent == home / "engines"
    assert engine_cache.find(wanted(), notice=heard.append) == path
    assert wanted(**changes).path != path
    assert engine_cache.find(wanted(**changes), notice=heard.append) is None
    assert heard == []


def test_an_engine_that_serves_more_is_taken_and_a_damaged_one_is_said(home: Path) -> None:
    kept = engine_cache.keep(wanted(targets=("sm86", "sm89")), facts(), PLANS)
    heard: list[str] = []
    assert engine_cache.find(wanted(), notice=heard.append) == kept
    kept.write_bytes(kept.read_bytes()[:-3])
    assert engine_cache.find(wanted(), notice=heard.append) is None
    assert len(heard) == 1 and "damaged in its network 'refine'" in heard[0]


def test_an_engine_from_elsewhere(home: Path, tmp_path: Path, tiny: Model) -> None:
    made = facts(model="tiny", model_sha256=tiny.spec.sha256)
    write_engine(tmp_path / "a.engine", made, PLANS)
    here = Flavour("tensorrt_rtx", "1.7", None)
    kept = engine_cache.add(tmp_path / "a.engine", tiny, here, RTX4090)
    ours = Wanted.of(tiny, "fp16", here, ("sm89",), (1, 64, 128))
    assert engine_cache.find(ours, notice=print) == kept
    with pytest.raises(
        DeviceError,
        match=r"does not fit this machine: it was built for sm86, sm89, and the card here is sm90; build it again: faceembed build-engine --encoder tiny",
    ):
        engine_cache.add(tmp_path / "a.engine", tiny, here, H100)
    with pytest.raises(DeviceError, match=r"this machine runs TensorRT for RTX 1\.9"):
        engine_cache.add(tmp_path / "a.engine", tiny, Flavour("tensorrt_rtx", "1.9", None), RTX4090)


# --- packages and targets -------------------------------------------------------------------------------------------


def fake(package: Any) -> Flavour:
    class Capability:
        __members__ = dict.fromkeys(("NONE", "CURRENT", "SM120", "SM121", "SM75", "SM89"), 0)

    class Module:
        ComputeCapability = Capability

    return Flavour(package, "1.7", Module)


@pytest.mark.parametrize(
    ("asked", "package", "card", "expected"),
    [
        ("auto", "tensorrt_rtx", None, ("sm75", "sm89", "sm120")),
        ("auto", "tensorrt_rtx", RTX4090, ("sm89",)),
        ("auto", "tensorrt", H100, ("sm90",)),
        ("sm90", "tensorrt", H100, ("sm90",)),
        ("SM120, sm89,sm120", "tensorrt_rtx", None, ("sm120", "sm89")),
    ],
)
def test_targets(asked: str, package: str, card: Card | None, expected: tuple[str, ...]) -> None:
    assert resolve_targets(asked, fake(package), card) == expected


@pytest.mark.parametrize(
    ("asked", "package", "card", "kind", "message"),
    [
        (
            "ada",
            "tensorrt_rtx",
            None,
            UsageError,
            r"--target 'ada' is no architecture; give auto, or names such as sm89",
        ),
        ("sm89,", "tensorrt_rtx", None, UsageError, "--target '' is no architecture"),
        (
            "sm90",
            "tensorrt_rtx",
            None,
            DeviceError,
            r"--target sm90: TensorRT for RTX 1\.7 builds for sm75, sm89, sm120, sm121;",
        ),
        ("sm89", "tensorrt", H100, DeviceError, r"builds only for the card of its machine, this one is NVIDIA H100"),
        ("sm89", "tensorrt", None, DeviceError, r"there is none here"),
    ],
)
def test_targets_that_cannot_be(
    asked: str, package: str, card: Card | None, kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        resolve_targets(asked, fake(package), card)


@pytest.mark.parametrize(
    ("here", "card", "target", "result"),
    [
        (("tensorrt", "tensorrt_rtx"), None, "auto", "tensorrt_rtx"),
        (("tensorrt", "tensorrt_rtx"), H100, "auto", "tensorrt"),
        (("tensorrt", "tensorrt_rtx"), H100, "sm120", "tensorrt_rtx"),
        (("tensorrt_rtx",), RTX4090, "auto", "tensorrt_rtx"),
        (("tensorrt",), None, "auto", "builds an engine only for the card of its machine, and this one has none"),
        (
            ("tensorrt",),
            H100,
            "sm89",
            r"only for the card of its machine, which is NVIDIA H100 \(sm90, 80 GiB\); build there",
        ),
        (("tensorrt_rtx",), H100, "auto", r"serves sm75, sm89, sm120, sm121, not NVIDIA H100"),
        ((), None, "auto", "TensorRT is not installed; run: pip install tensorrt-rtx"),
        ((), RTX4090, "auto", "TensorRT is not installed; run: pip install tensorrt-rtx"),
    ],
)
def test_which_package_builds(
    monkeypatch: pytest.MonkeyPatch, here: tuple[str, ...], card: Card | None, target: str, result: str
) -> None:
    monkeypatch.setattr(flavours, "installed", lambda: here)
    monkeypatch.setattr(flavours, "load", fake)
    if result in here:
        assert to_build_with(card, target).package == result
    else:
        with pytest.raises(DeviceError, match=result):
            to_build_with(card, target)


def test_a_package_that_does_not_load(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> None:
        raise OSError("libcudart.so.13: cannot open shared object file\nmore")

    monkeypatch.setattr(flavours.importlib, "import_module", broken)
    with pytest.raises(
        DeviceError,
        match=r"^TensorRT for RTX is installed but does not load \(libcudart\.so\.13: cannot open shared object file\); reinstall",
    ):
        load("tensorrt_rtx")


# --- shapes ---------------------------------------------------------------------------------------------------------


def test_batches() -> None:
    assert parse_batch("1,64,128") == (1, 64, 128)
    assert parse_batch("32") == (32, 32, 32)
    for text in ("", "1,2", "a,b,c", "1,2,3,4"):
        with pytest.raises(UsageError, match=f"--batch '{text}': give MIN,OPT,MAX"):
            parse_batch(text)
    for text in ("2,1,3", "0,1,2", "1,2,9999"):
        with pytest.raises(UsageError, match=r"give MIN,OPT,MAX with 1 <= MIN <= OPT <= MAX <= 4096"):
            parse_batch(text)


def test_networks(tiny: Model, models: Any) -> None:
    assert networks_of(tiny) == (Network("encode", (), "chips", (16, 16)),)
    with pytest.raises(DeviceError, match="aligner 'mtcnn' runs on the CPU only"):
        networks_of(
            dataclasses.replace(
                tiny, spec=dataclasses.replace(tiny.spec, name="mtcnn", task="aligner", decoder="mtcnn")
            )
        )
    aligner = Model(dataclasses.replace(tiny.spec, task="aligner", decoder="one-shot", input_size=(0, 0)), tiny.path)
    detect, refine = networks_of(aligner)
    assert (detect.entry, refine.entry) == ("pixels", "chips")
    profiles = profiles_of(detect, (1, 64, 128))
    assert len(profiles) == len(LOOKS)
    for profile, (side, count) in zip(profiles, LOOKS, strict=True):
        assert profile.takes(count, side, side) and not profile.takes(count, side + 32, side)
        assert not profile.takes(count + 1, side, side)
    assert [profile.batch[2] for profile in profiles_of(detect, (1, 4, 8))] == [8, 8, 8, 2]
    assert [look_of(side) for side in (1, 160, 161, 480, 1000, 2048)] == [LOOKS[0]] * 2 + [LOOKS[1]] * 2 + [*LOOKS[2:]]
    with pytest.raises(ValueError, match="no canvas of a card holds 2049 pixels; the largest is 2048"):
        look_of(2049)
    assert profiles_of(refine, (1, 64, 128)) == (Profile((1, 64, 128)),)


# --- real plans -----------------------------------------------------------------------------------------------------


def test_plans_for_each_card(rtx: Flavour, encoder_model: Model) -> None:
    """The default encoder, for every architecture that is named in the documentation, without a card."""
    (network,) = networks_of(encoder_model)
    graph = graph_of(encoder_model, network, "fp16")
    plans = [build_plan(graph, [Profile((1, 64, 128))], flavour=rtx, targets=[target]) for target in TARGETS]
    assert len({hashlib.sha256(plan).hexdigest() for plan in plans}) == len(TARGETS)
    weights = sum(len(entry.raw_data) for entry in _initialisers(graph))
    for plan in plans:
        assert len(plan) > weights  # half precision weights are in it
        assert len(plan) < 1.5 * weights
        assert why_malformed(plan, rtx) == ""
    assert why_malformed(b"x" * 5000, rtx) == "damaged"


def _initialisers(graph: bytes) -> Any:
    import onnx

    return onnx.load_from_string(graph).graph.initializer


def test_progress_only_grows_and_may_stop_a_build(rtx: Flavour, tiny: Model) -> None:
    (network,) = networks_of(tiny)
    graph = graph_of(tiny, network, "fp16")
    seen: list[tuple[str, float]] = []
    build_plan(graph, [Profile((1, 2, 4))], flavour=rtx, targets=["sm89"], progress=lambda *now: seen.append(now))
    shares = [share for _, share in seen]
    assert len({phase for phase, _ in seen}) > 3
    assert shares == sorted(shares) and shares[0] == 0 and shares[-1] == 1

    def stop(phase: str, share: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_plan(graph, [Profile((1, 2, 4))], flavour=rtx, targets=["sm89"], progress=stop)


def test_what_tensorrt_refuses(rtx: Flavour, tiny: Model) -> None:
    with pytest.raises(DeviceError, match=r"^TensorRT for RTX [\d.]+ cannot read the network: "):
        build_plan(b"no onnx", [Profile((1, 2, 4))], flavour=rtx, targets=["sm89"])
    (network,) = networks_of(tiny)
    with pytest.raises(DeviceError, match="which the profile does not fit"):
        build_plan(graph_of(tiny, network, "fp16"), [Profile((1, 2, 4), (8, 8, 8))], flavour=rtx, targets=["sm89"])


def test_fractions_of_nested_phases() -> None:
    seen: list[float] = []
    fractions = Fractions(lambda phase, share: seen.append(round(share, 4)))
    fractions.start("all", None, 4)
    fractions.step("all", 0)
    fractions.start("part", "all", 2)
    fractions.step("part", 0)
    fractions.finish("part")
    fractions.start("nobody's", "unknown", 1)
    fractions.finish("unknown")
    fractions.step("all", 3)
    fractions.finish("all")
    assert seen == [0, 0.25, 0.25, 0.375, 0.5, 0.5, 1, 1]
