"""Amounts of bytes as people write them, and as they are told."""

from __future__ import annotations

import re

from faceembed.errors import UsageError

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def parse_amount(text: str, option: str) -> int:
    """``"20G"``, ``"512M"``, ``"1.5GiB"`` or plain bytes, as a number; K, M, G and T are powers of 1024.

    Args:
        text: what was written.
        option: where, for the message.

    Raises:
        UsageError: anything else.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", text.strip(), re.IGNORECASE)
    if not match:
        raise UsageError(f"{option} '{text}' is not an amount of memory; write it as 20G or 512M")
    return int(float(match[1]) * _UNITS[match[2].upper()])
