"""From a model to the TensorRT engine that runs it: the graph at its precision, the parity gate, the plan, the file.

    built = build_engine(model, BuildSettings(target="sm89"), notice=print)
    ensure(model, choice, notice=print)        # what a run on a card does first: from the cache, else built now

Without a card, TensorRT for RTX still builds, and the gate runs the graph in ONNX Runtime instead of the engine; what is printed and
kept says so. On a card the engine is kept before it is compared, as unproved: what took minutes is not lost to a gate that has no faces
to look at. A run compares on its own photos (`Encoder.admit`, `Cutter.admit_on`), so `ensure` compares nothing.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from faceembed.engine.models.spec import Model
from faceembed.engine.parity import memory as parity_memory
from faceembed.engine.parity.gate import OpenNetwork, check_aligner, check_encoder, parity_line
from faceembed.engine.parity.quantise import quantise_encoder, quantised_line
from faceembed.engine.photos.sample import sample_photos
from faceembed.engine.pipeline import sample_faces
from faceembed.engine.pipeline.sample_faces import FACES, calibration_chips
from faceembed.engine.runtimes import engine_cache
from faceembed.engine.runtimes.base import RuntimeChoice, Session
from faceembed.engine.runtimes.cards import Card, index_of, probe, without_advice
from faceembed.engine.runtimes.engine_cache import Wanted
from faceembed.engine.runtimes.engine_file import EngineFacts, NetworkFacts, read_plans, write_engine
from faceembed.engine.runtimes.engine_session import session_of
from faceembed.engine.runtimes.flavours import Flavour, for_card, resolve_targets, to_build_with
from faceembed.engine.runtimes.networks import Network, graph_of, networks_of, profiles_of
from faceembed.engine.runtimes.onnxruntime import GraphSession
from faceembed.engine.runtimes.profile import BATCH, Profile
from faceembed.engine.runtimes.trt_build import BuildProgress, build_plan
from faceembed.engine.runtimes.watch import Watch
from faceembed.errors import DataError, DeviceError, ModelError, UsageError
from faceembed.version import __version__

PRECISIONS = ("fp16", "fp32", "int8")
Notice = Callable[[str], None]
UNPROVED = "the engine is not compared with fp32 yet"
_REFERENCE = RuntimeChoice("onnxruntime", "cpu", "fp32", "the graph, without a card")


@dataclasses.dataclass(frozen=True)
class BuildSettings:
    """What to build."""

    precision: str = "fp16"
    """One of `PRECISIONS`."""
    target: str = "auto"
    """Architectures joined by commas, as in ``sm86,sm89``; ``auto``: the card here, else all that can be built for without one."""
    batch: tuple[int, int, int] = BATCH
    """Least, usual and largest batch; the engine is tuned for the usual one."""
    photos: str | None = None
    """A folder of photos with faces for the parity gate and the scales of INT8; the sample photos if None."""
    device: str = "auto"
    """The card that ``auto`` means: ``auto``, ``cuda`` or ``cuda:N``."""

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise UsageError(f"--precision '{self.precision}' is not one of {', '.join(PRECISIONS)}")
        Profile(self.batch)


@dataclasses.dataclass(frozen=True)
class Built:
    """An engine on disk."""

    path: str
    facts: EngineFacts
    seconds: float
    """That TensorRT took; 0 where it came from the cache."""
    cached: bool
    """Whether it was there already."""


def build_engine(
    model: Model,
    settings: BuildSettings,
    *,
    output: str | os.PathLike[str] | None = None,
    fresh: bool = False,
    prove: bool = True,
    notice: Notice = lambda line: None,
    progress: BuildProgress = lambda phase, share: None,
) -> Built:
    """Build a model's engine, or take the one that is kept.

    One that is kept and was never compared with fp32 is compared now.

    Args:
        model: an encoder, or a one-shot aligner.
        settings: what to build.
        output: a file to write it to; the cache if None, where runs look for it.
        fresh: build even if one is kept; so is INT8 with photos, as its scales come from them.
        prove: compare with fp32; false for whoever does that by himself.
        notice: called with lines for the user.
        progress: told the phase that TensorRT is in and the share that is done.

    Raises:
        DataError: no face to compare on in the photos that were given, or none for the scales of INT8.
        DeviceError: TensorRT cannot build it here, or it differs from fp32. On a card it stays kept then, unproved: a run compares it
            again before it uses it.
        ModelError: the model is damaged, or the engine cannot be written.
        UsageError: no such target.
    """
    if settings.precision == "int8" and model.spec.task != "encoder":
        raise UsageError(f"--precision int8 is for encoders; the aligner {model.spec.name} runs in fp16 beside them")
    networks = networks_of(model)
    card = _card_here(settings.device, notice)
    flavour = to_build_with(card, settings.target)
    targets = resolve_targets(settings.target, flavour, card)
    wanted = Wanted.of(model, settings.precision, flavour, targets, settings.batch)
    fresh = fresh or (settings.precision == "int8" and settings.photos is not None)
    runs_here = card is not None and card.sm in targets
    found = None if fresh else engine_cache.find(wanted, notice=notice)
    seconds = 0.0
    if found is not None:
        facts, plans = read_plans(found)
        path = found
    else:
        graphs, quantised = _graphs(model, settings, networks, notice, progress)
        parity = {} if runs_here or not prove else _graph_parity(model, settings, networks, graphs, notice)
        started = time.monotonic()
        plans = _plans(networks, graphs, settings.batch, flavour, targets, progress)
        seconds = time.monotonic() - started
        facts = _facts(wanted, networks, graphs, plans, parity, quantised)
        path = engine_cache.keep(wanted, facts, plans) if output is None or runs_here else wanted.path
    if prove and not facts.proved and runs_here and card is not None:
        facts = _proved(model, settings, facts, plans, flavour, card, notice)
        if facts.proved:
            _write(path, facts, plans)
    if output is not None:
        path = _write(output, facts, plans)
    return Built(str(path), facts, seconds, found is not None)


def ensure(
    model: Model,
    choice: RuntimeChoice,
    *,
    batch: tuple[int, int, int] = BATCH,
    notice: Notice = lambda line: None,
    progress: BuildProgress = lambda phase, share: None,
) -> Path:
    """The engine for a card that was chosen: the one that is kept, else built now, which takes seconds to minutes.

    It is not compared with fp32 here: whoever runs it does that, on photos of his own, as long as this machine does not remember that
    it passed.

    An INT8 engine is not built here: the faces that its scales come from are for the user to choose.

    Raises:
        DeviceError, ModelError: as `build_engine`.
    """
    card = probe().card(index_of(choice.device))
    flavour = for_card(card)
    wanted = Wanted.of(model, choice.precision, flavour, (card.sm,), batch)
    if (kept := engine_cache.find(wanted, notice=notice)) is None:
        if choice.precision == "int8":
            raise DeviceError(
                f"no engine of {model.spec.name} in int8 for {card} is kept; build it on faces like yours: "
                f"faceembed build-engine --encoder {model.spec.name} --precision int8 --photos FOLDER"
            )
        notice(
            f"no engine of {model.spec.name} in {choice.precision} for {card} yet; building one with {flavour.title}"
        )
        settings = BuildSettings(choice.precision, card.sm, batch, device=f"cuda:{card.index}")
        kept = Path(build_engine(model, settings, prove=False, notice=notice, progress=progress).path)
    return kept


def ready(model: Model, choice: RuntimeChoice, watch: Watch) -> None:
    """See to it that a session of the model can be opened: TensorRT's needs an engine, which is built first where none is kept.

    Args:
        model: an encoder, or a one-shot aligner.
        choice: from `choose`.
        watch: told of an engine that is built.

    Raises:
        DeviceError, ModelError: as `ensure`.
    """
    if choice.runtime == "tensorrt":
        ensure(model, choice, notice=watch.notice, progress=watch.progress)


def card_asked_for(device: str) -> Card:
    """A card by the name of its device, for what the processor cannot do instead.

    Raises:
        DeviceError: it is not there, or cannot serve.
    """
    try:
        return probe().card(index_of(device))
    except DeviceError as error:
        raise DeviceError(without_advice(error)) from error


def _card_here(device: str, notice: Notice) -> Card | None:
    """The card to build for; None, which ``notice`` is told, where there is none and none was asked for by name."""
    if device not in ("auto", "cpu"):
        return card_asked_for(device)
    try:
        return probe().card(0)
    except DeviceError as error:
        notice(f"building without a card: {without_advice(error)}")
        return None


def _graphs(
    model: Model, settings: BuildSettings, networks: Sequence[Network], notice: Notice, progress: BuildProgress
) -> tuple[list[bytes], dict[str, float]]:
    """The networks' graphs at the precision; and of INT8, how much of them is."""
    if settings.precision != "int8":
        return [graph_of(model, network, settings.precision) for network in networks], {}
    (network,) = networks
    checked, calibration = calibration_chips(model.spec, settings.photos)
    if len(calibration) < FACES:
        where = "the sample photos" if settings.photos is None else settings.photos
        notice(f"{where}: {len(calibration)} faces for the scales of int8, {4 * FACES} are better: --photos")
    made = quantise_encoder(model, network, calibration, checked, progress=lambda what: progress(what, 0.0))
    notice(quantised_line(made.facts))
    return [made.graph], made.facts


def _check(model: Model, settings: BuildSettings, open_network: OpenNetwork, notice: Notice) -> dict[str, float]:
    """The gate, on faces or photos of the folder that was given, or of the sample; no figures where neither is there."""
    try:
        folder = sample_photos() if settings.photos is None else Path(settings.photos)
    except DataError as error:  # scikit-image, which carries them, is no part of what a card needs
        reason = str(error).partition(", which")[0]
        notice(f"{UNPROVED} ({reason}): a run does that on its own photos first; to do it now: --photos FOLDER")
        return {}
    if model.spec.task == "encoder":
        chips = sample_faces.sample_chips(model.spec, folder)
        return check_encoder(model, settings.precision, open_network, chips)
    return check_aligner(model, settings.precision, open_network, folder)


def _graph_parity(
    model: Model, settings: BuildSettings, networks: Sequence[Network], graphs: Sequence[bytes], notice: Notice
) -> dict[str, float]:
    """Figures of the graph in ONNX Runtime; none where there are no faces to look at."""
    by_name = dict(zip((network.name for network in networks), graphs, strict=True))

    def open_network(network: Network) -> Session:
        return GraphSession(model, network, by_name[network.name], _REFERENCE)

    parity = _check(model, settings, open_network, notice)
    if parity:
        notice(
            f"{parity_line(settings.precision, parity)}, of its graph in ONNX Runtime; the engine itself was not executed"
        )
    return parity


def _proved(
    model: Model,
    settings: BuildSettings,
    facts: EngineFacts,
    plans: Sequence[bytes],
    flavour: Flavour,
    card: Card,
    notice: Notice,
) -> EngineFacts:
    """What is known of an engine once it was compared on its card; the same facts where there are no faces to look at."""
    choice = RuntimeChoice("tensorrt", f"cuda:{card.index}", settings.precision, "built just now")  # type: ignore[arg-type]

    def open_network(network: Network) -> Session:
        return session_of(facts, plans, network, model, choice, flavour)

    parity = _check(model, settings, open_network, notice)
    if not parity:
        return facts
    notice(f"{parity_line(settings.precision, parity)}, of the engine on {card}")
    parity_memory.remember(model, choice, parity)
    return dataclasses.replace(facts, parity=parity, executed=True)


def _plans(
    networks: Sequence[Network],
    graphs: Sequence[bytes],
    batch: tuple[int, int, int],
    flavour: Flavour,
    targets: Sequence[str],
    progress: BuildProgress,
) -> list[bytes]:
    plans = []
    for number, (network, graph) in enumerate(zip(networks, graphs, strict=True)):

        def report(phase: str, share: float, number: int = number, name: str = network.name) -> None:
            progress(f"{name}: {phase}", (number + share) / len(networks))

        profiles = profiles_of(network, batch)
        plans.append(build_plan(graph, profiles, flavour=flavour, targets=targets, progress=report))
    return plans


def _facts(
    wanted: Wanted,
    networks: Sequence[Network],
    graphs: Sequence[bytes],
    plans: Sequence[bytes],
    parity: dict[str, float],
    quantised: dict[str, float],
) -> EngineFacts:
    described = tuple(
        NetworkFacts(
            name=network.name,
            outputs=network.outputs,
            entry=network.entry,
            profiles=profiles_of(network, wanted.batch),
            graph_sha256=hashlib.sha256(graph).hexdigest(),
            plan_sha256=hashlib.sha256(plan).hexdigest(),
            plan_bytes=len(plan),
        )
        for network, graph, plan in zip(networks, graphs, plans, strict=True)
    )
    fields = dataclasses.asdict(wanted)
    return EngineFacts(
        **fields, parity=parity, executed=False, faceembed=__version__, networks=described, int8=quantised
    )


def _write(output: str | os.PathLike[str], facts: EngineFacts, plans: Sequence[bytes]) -> Path:
    try:
        write_engine(output, facts, plans)
    except OSError as error:
        raise ModelError(f"cannot write {os.fspath(output)}: {error.strerror or error}") from error
    return Path(output)
