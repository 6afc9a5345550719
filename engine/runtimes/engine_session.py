"""Engines at work: a session for one network of an engine file, and for that of a run the one that is kept."""

from __future__ import annotations

from collections.abc import Sequence

from faceembed.engine.models.spec import Model
from faceembed.engine.runtimes import engine_cache
from faceembed.engine.runtimes.base import DeviceSession, RuntimeChoice
from faceembed.engine.runtimes.cards import index_of, probe
from faceembed.engine.runtimes.cuda_memory import open_cuda
from faceembed.engine.runtimes.engine_cache import Wanted
from faceembed.engine.runtimes.engine_file import EngineFacts, read_plans
from faceembed.engine.runtimes.flavours import Flavour, for_card
from faceembed.engine.runtimes.kernel_cache import KernelCache, kernel_cache
from faceembed.engine.runtimes.networks import Network, network_for
from faceembed.engine.runtimes.profile import BATCH
from faceembed.engine.runtimes.tensorrt import TensorRtSession
from faceembed.engine.runtimes.watch import Watch
from faceembed.errors import DeviceError


def kept_session(model: Model, choice: RuntimeChoice, outputs: Sequence[str], watch: Watch) -> DeviceSession:
    """From the engine that is kept for the card. To build it is for `pipeline.build_engine.ready`.

    Raises:
        DeviceError: none is kept, or the model has no way onto a card.
        ModelError: its file is damaged.
    """
    network = network_for(model, outputs)
    card = probe().card(index_of(choice.device))
    flavour = for_card(card)
    path = engine_cache.find(Wanted.of(model, choice.precision, flavour, (card.sm,), BATCH), notice=watch.notice)
    if path is None:
        raise DeviceError(
            f"no engine of {model.spec.name} in {choice.precision} for {card} is kept; build it: "
            f"faceembed build-engine --{model.spec.task} {model.spec.name} --precision {choice.precision}"
        )
    facts, plans = read_plans(path)
    (plan,) = [one.plan_sha256 for one in facts.networks if one.name == network.name]
    kernels = kernel_cache(path, network.name, plan, flavour=flavour, sm=card.sm, notice=watch.notice)
    return session_of(facts, plans, network, model, choice, flavour, kernels=kernels)


def session_of(
    facts: EngineFacts,
    plans: Sequence[bytes],
    network: Network,
    model: Model,
    choice: RuntimeChoice,
    flavour: Flavour,
    *,
    kernels: KernelCache | None = None,
) -> DeviceSession:
    """A session for one network of an engine."""
    (index,) = [index for index, one in enumerate(facts.networks) if one.name == network.name]
    cuda = open_cuda(index_of(choice.device))
    return TensorRtSession(
        facts.networks[index], plans[index], model.spec, choice, flavour=flavour, cuda=cuda, kernels=kernels
    )
