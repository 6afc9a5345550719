"""The engines that this machine keeps, each under a name that holds a digest of everything it depends on.

    <home>/engines/<model>-<precision>-<first 16 of the key>.engine

Another model file, precision, package, version, target, profile or conversion is another key, so an engine that is out of date is not
found, and a new one is built. `add` takes an engine that was built elsewhere, if it fits.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from faceembed.engine.models.spec import Model
from faceembed.engine.models.store import home, writing
from faceembed.engine.runtimes.cards import Card
from faceembed.engine.runtimes.engine_file import (
    CONVERSION,
    SUFFIX,
    EngineFacts,
    read_facts,
    read_plans,
    write_engine,
)
from faceembed.engine.runtimes.flavours import TITLES, Flavour
from faceembed.errors import DeviceError, ModelError


@dataclasses.dataclass(frozen=True)
class Wanted:
    """What an engine must be to serve."""

    model: str
    model_sha256: str
    precision: str
    package: str
    package_version: str
    targets: tuple[str, ...]
    batch: tuple[int, int, int]

    @classmethod
    def of(
        cls, model: Model, precision: str, flavour: Flavour, targets: Sequence[str], batch: tuple[int, int, int]
    ) -> Wanted:
        """From what is at hand."""
        spec = model.spec
        return cls(spec.name, spec.sha256, precision, flavour.package, flavour.version, tuple(targets), batch)

    @property
    def path(self) -> Path:
        """Where the cache keeps it."""
        text = json.dumps([dataclasses.asdict(self), CONVERSION], sort_keys=True)
        key = hashlib.sha256(text.encode()).hexdigest()[:16]
        return folder() / f"{self.model}-{self.precision}-{key}{SUFFIX}"


def folder() -> Path:
    """The folder of engines; it need not exist yet."""
    return home() / "engines"


def why_unfit(facts: EngineFacts, wanted: Wanted) -> str:
    """Why an engine does not serve, in the words of an error message; empty if it does.

    Its targets and its batch must hold those that are wanted: it may serve more.
    """
    if facts.model_sha256 != wanted.model_sha256:
        return (
            f"it was built from another file of '{facts.model}' (SHA-256 {facts.model_sha256[:16]}…, "
            f"here {wanted.model} is {wanted.model_sha256[:16]}…)"
        )
    if facts.precision != wanted.precision:
        return f"it computes in {facts.precision}, and {wanted.precision} is wanted"
    if (facts.package, facts.package_version) != (wanted.package, wanted.package_version):
        built = f"{TITLES.get(facts.package, facts.package)} {facts.package_version}"
        return f"it was built by {built}, and this machine runs {TITLES[wanted.package]} {wanted.package_version}"
    if missing := [target for target in wanted.targets if target not in facts.targets]:
        return f"it was built for {', '.join(facts.targets)}, and the card here is {missing[0]}"
    if not (facts.batch[0] <= wanted.batch[0] and wanted.batch[2] <= facts.batch[2]):
        return f"it takes batches of {facts.batch[0]} to {facts.batch[2]}, and {wanted.batch[0]} to {wanted.batch[2]} are wanted"
    if facts.conversion != CONVERSION:
        return f"another version of faceembed ({facts.faceembed}) turned the model into its graph in another way"
    return ""


def find(wanted: Wanted, *, notice: Callable[[str], None]) -> Path | None:
    """An engine that serves, read through and sound: the very one that is wanted, else one that serves more.

    A damaged one is told to ``notice`` and passed over, so that it is built again.
    """
    exact = wanted.path
    others = sorted(path for path in folder().glob(f"{wanted.model}-{wanted.precision}-*{SUFFIX}") if path != exact)
    for path in (exact, *others):
        if not path.is_file():
            continue
        try:
            facts = read_facts(path)
            if why_unfit(facts, wanted):
                continue
            read_plans(path)
        except ModelError as error:
            notice(f"{error}" if path == exact else f"passed over: {error}")
            continue
        return path
    return None


def keep(wanted: Wanted, facts: EngineFacts, plans: Sequence[bytes]) -> Path:
    """Keep an engine.

    Raises:
        ModelError: the folder cannot be written.
    """
    path = wanted.path
    with writing(path.parent):
        write_engine(path, facts, plans)
    return path


def add(source: str | os.PathLike[str], model: Model, flavour: Flavour, card: Card) -> Path:
    """Keep an engine that was built on another machine, if it fits this one.

    Args:
        source: the engine file.
        model: the model that it says it was built from, as it is here.
        flavour: the package that will run it.
        card: the card that it is for.

    Raises:
        DeviceError: it does not fit; the message says why.
        ModelError: it is damaged, or the cache cannot be written.
    """
    facts, plans = read_plans(source)
    wanted = Wanted.of(model, facts.precision, flavour, (card.sm,), facts.batch)
    if reason := why_unfit(facts, wanted):
        advice = f"build it again: faceembed build-engine {_option(model)}"
        raise DeviceError(f"{os.fspath(source)} does not fit this machine: {reason}; {advice}")
    return keep(wanted, facts, plans)


def _option(model: Model) -> str:
    return f"--{model.spec.task} {model.spec.name}"
