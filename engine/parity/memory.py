"""What this machine remembers of passed parity gates, so that each model is compared with fp32 once.

Kept in ``<home>/parity.json``, by the gate's rule, the model's digest, the runtime and its version, the precision and the processor or
card. A home that cannot be read or written only means that the gate is asked again.
"""

from __future__ import annotations

import contextlib
import json
import platform

from faceembed.engine.models.spec import Model
from faceembed.engine.models.store import home
from faceembed.engine.parity.rule import RULE
from faceembed.engine.runtimes.base import RuntimeChoice
from faceembed.engine.runtimes.cards import index_of, probe
from faceembed.engine.runtimes.choose import runtime_version
from faceembed.files import atomic_write

FILE = "parity.json"


def recall(model: Model, choice: RuntimeChoice) -> dict[str, float]:
    """The figures of a gate that was passed here; empty if there are none."""
    try:
        figures = json.loads((home() / FILE).read_text())[_key(model, choice)]
        return {str(name): float(value) for name, value in figures.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def remember(model: Model, choice: RuntimeChoice, figures: dict[str, float]) -> None:
    """Keep the figures of a gate that was passed."""
    path = home() / FILE
    try:
        known = dict(json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        known = {}
    known[_key(model, choice)] = figures
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path, "w") as file:
            json.dump(known, file, indent=2)


def _key(model: Model, choice: RuntimeChoice) -> str:
    where = platform.processor() if choice.device == "cpu" else _card(choice.device)
    return f"rule {RULE} {model.spec.sha256} {choice.runtime} {runtime_version(choice)} {choice.precision} {where}"


def _card(device: str) -> str:
    driver = probe()
    return f"{driver.card(index_of(device))} driver {driver.release}"
