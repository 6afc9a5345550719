"""Checks that settings of a training share."""

from __future__ import annotations

import math

from faceembed.errors import UsageError


def one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    """Refuse a word that is none of those allowed.

    Raises:
        UsageError: with the setting's name, what it is and what it may be.
    """
    if value not in allowed:
        raise UsageError(f"{name} is '{value}'; expected {', '.join(allowed[:-1])} or {allowed[-1]}")


def at_least(name: str, value: float, least: float) -> None:
    """Refuse a number that is too small, or none.

    Raises:
        UsageError: with the setting's name, what it is and the least that it may be.
    """
    if not value >= least or not math.isfinite(value):
        raise UsageError(f"{name} is {value}; expected at least {least}")
