"""Engine files that are there already: another machine's is kept for runs on this one, anybody's is looked into."""

from __future__ import annotations

import os

from faceembed.engine.models.registry import resolve
from faceembed.engine.models.spec import Task
from faceembed.engine.pipeline.build_engine import Built, card_asked_for
from faceembed.engine.runtimes import engine_cache
from faceembed.engine.runtimes.engine_file import EngineFacts, read_facts, read_plans
from faceembed.engine.runtimes.flavours import for_card, load
from faceembed.engine.runtimes.trt_build import why_malformed
from faceembed.errors import DeviceError, ModelError


def add_engine(path: str | os.PathLike[str], *, device: str = "cuda:0") -> Built:
    """Keep an engine that another machine built, for runs on this one.

    Raises:
        DeviceError: it does not fit; the message says why.
        ModelError: it is damaged, or its model is not here.
    """
    facts = read_facts(path)
    card = card_asked_for("cuda" if device == "auto" else device)
    flavour = for_card(card)
    task: Task = "encoder" if facts.networks[0].name == "encode" else "aligner"
    kept = engine_cache.add(path, resolve(facts.model, task=task), flavour, card)
    return Built(str(kept), facts, 0.0, True)


def inspect_engine(path: str | os.PathLike[str]) -> EngineFacts:
    """An engine file's facts, after everything about it was checked that can be without a card.

    Raises:
        ModelError: it is damaged.
    """
    facts, plans = read_plans(path)
    try:
        flavour = load(facts.package)  # type: ignore[arg-type]
    except DeviceError:
        return facts  # the digests held; the plan itself can be read by its package alone
    for network, plan in zip(facts.networks, plans, strict=True):
        if reason := why_malformed(plan, flavour):
            raise ModelError(f"{os.fspath(path)}: the plan '{network.name}' is {reason}; build it again")
    return facts
