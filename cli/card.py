"""The options of commands that may use a whole NVIDIA card, and what they become."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from faceembed.cli.options import Decorator, collected

if TYPE_CHECKING:
    from faceembed.engine.pipeline.settings import EmbedSettings

# Written out, because the engine's modules that know them load numpy; a test holds the two together.
DECODERS = ("nvimagecodec", "dali")


@dataclasses.dataclass(frozen=True)
class CardOptions:
    """The values of `card_options`."""

    gpu_memory: str | None
    decoder: str | None
    processes: int | None

    def added_to(self, settings: EmbedSettings) -> EmbedSettings:
        """The same settings with what was asked of a card.

        Raises:
            UsageError: values that cannot be met, or there is no card in those settings.
        """
        from faceembed.engine.pipeline.gpu.budget import parse_bytes

        memory = None if self.gpu_memory is None else parse_bytes(self.gpu_memory)
        given: dict[str, Any] = {"gpu_memory": memory, "decoder": self.decoder, "processes": self.processes}
        return dataclasses.replace(settings, **{name: value for name, value in given.items() if value is not None})


_OPTIONS: tuple[Decorator, ...] = (
    click.option(
        "--gpu-memory",
        metavar="BYTES",
        help="Memory of a card for photos in flight, as in 8G.  [default: 60 % of what is free]",
    ),
    click.option(
        "--decoder",
        type=click.Choice(DECODERS),
        help="What decodes photos on a card.  [default: nvimagecodec]",
    ),
    click.option(
        "--processes",
        type=click.IntRange(min=1),
        metavar="N",
        help="Processes of each card.  [default: 1, more where that is measured to be faster]",
    ),
)


def card_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options; the command receives them as ``card``."""
    return collected(command, _OPTIONS, CardOptions, "card")
