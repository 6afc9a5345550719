"""The two packages that TensorRT comes in, whose Python modules agree: which is here, and which serves a card.

| package        | cards                          | builds                                              |
| -------------- | ------------------------------ | --------------------------------------------------- |
| `tensorrt`     | all                            | on the card that the engine is for                  |
| `tensorrt_rtx` | RTX cards, and the A100's sm80 | anywhere, for any of them, also where there is none |
"""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import re
from typing import Any, Literal

from faceembed.engine.runtimes.cards import Card
from faceembed.errors import DeviceError, UsageError

Package = Literal["tensorrt", "tensorrt_rtx"]
PACKAGES: tuple[Package, ...] = ("tensorrt", "tensorrt_rtx")
TITLES: dict[str, str] = {"tensorrt": "TensorRT", "tensorrt_rtx": "TensorRT for RTX"}
INSTALL = "pip install tensorrt-rtx (RTX cards) or pip install tensorrt (all cards)"
AHEAD = ("sm75", "sm80", "sm86", "sm89", "sm120")  # what an engine for no card in particular is built for


@dataclasses.dataclass(frozen=True)
class Flavour:
    """One of the packages, imported."""

    package: Package
    version: str
    module: Any

    @property
    def title(self) -> str:
        """As its makers call it, with the version."""
        return f"{TITLES[self.package]} {self.version}"

    @property
    def ahead_of_time(self) -> bool:
        """Whether engines are built for cards that are not here."""
        return self.package == "tensorrt_rtx"

    def targets(self) -> tuple[str, ...]:
        """The architectures that engines can be built for without their card; none for `tensorrt`."""
        if not self.ahead_of_time:
            return ()
        names = (name.lower() for name in self.module.ComputeCapability.__members__ if name.startswith("SM"))
        return tuple(sorted(names, key=lambda name: int(name[2:])))


def installed() -> tuple[Package, ...]:
    """The packages that are here, the one that serves all cards first; neither is imported."""
    return tuple(package for package in PACKAGES if importlib.util.find_spec(package))


def load(package: Package) -> Flavour:
    """Import a package.

    Raises:
        DeviceError: it is not installed, or its libraries do not load.
    """
    try:
        module = importlib.import_module(package)
    except ModuleNotFoundError as error:
        raise DeviceError(f"{TITLES[package]} is not installed; run: {INSTALL}") from error
    except (ImportError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise DeviceError(
            f"{TITLES[package]} is installed but does not load ({reason}); reinstall it: {INSTALL}"
        ) from error
    return Flavour(package, str(module.__version__), module)


def why_unserved(flavour: Flavour, card: Card) -> str:
    """Why a package cannot serve a card; empty if it can."""
    if flavour.ahead_of_time and card.sm not in flavour.targets():
        return f"{flavour.title} serves {', '.join(flavour.targets())}, not {card}; run: pip install tensorrt"
    return ""


def for_card(card: Card) -> Flavour:
    """The package that serves a card.

    Raises:
        DeviceError: none that is installed does; the message says why of each.
    """
    reasons = []
    for package in installed():
        try:
            flavour = load(package)
        except DeviceError as error:
            reasons.append(str(error))
            continue
        if not (reason := why_unserved(flavour, card)):
            return flavour
        reasons.append(reason)
    raise DeviceError("; ".join(reasons) or f"TensorRT is not installed; run: {INSTALL}")


def to_build_with(card: Card | None, target: str = "auto") -> Flavour:
    """The package that builds: the one that will run, where the engine is for the card here; else the one that builds ahead.

    Args:
        card: the card of this machine.
        target: ``auto``, or the architectures asked for.

    Raises:
        DeviceError: none does.
    """
    if card is not None and target in ("auto", card.sm):
        return for_card(card)
    if "tensorrt_rtx" in installed():
        return load("tensorrt_rtx")
    if installed():
        here = "" if card is None else f", which is {card}"
        raise DeviceError(
            f"TensorRT builds an engine only for the card of its machine{here}{'' if card else ', and this one has none'}; "
            "build there, or here for RTX cards after: pip install tensorrt-rtx"
        )
    raise DeviceError(f"TensorRT is not installed; run: {INSTALL}")


def resolve_targets(asked: str, flavour: Flavour, card: Card | None) -> tuple[str, ...]:
    """The architectures that ``auto``, or names joined by commas, stand for.

    Raises:
        UsageError: not the name of an architecture.
        DeviceError: the package cannot build for it.
    """
    if asked == "auto":
        return (card.sm,) if card else tuple(name for name in flavour.targets() if name in AHEAD)
    names = tuple(dict.fromkeys(name.strip().lower() for name in asked.split(",")))
    for name in names:
        if not re.fullmatch(r"sm\d{2,3}", name):
            raise UsageError(f"--target '{name}' is no architecture; give auto, or names such as sm89 or sm86,sm120")
        if flavour.ahead_of_time and name not in flavour.targets():
            raise DeviceError(
                f"--target {name}: {flavour.title} builds for {', '.join(flavour.targets())}; "
                "for another card, install tensorrt on its machine and build there"
            )
    if not flavour.ahead_of_time and (card is None or names != (card.sm,)):
        here = f"this one is {card}" if card else "there is none here"
        raise DeviceError(
            f"--target {','.join(names)}: {flavour.title} builds only for the card of its machine, {here}"
        )
    return names
