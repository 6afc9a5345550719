"""Where the `faceembed` command starts: Ctrl-C ends it in good order from here on, also while its modules are still imported."""

from __future__ import annotations

import gc
import sys

from faceembed.cli.interrupts import EXIT_CODE, one_interrupt

_OBJECTS = 20_000
"""New objects between two collections, in place of 700: a start makes 300,000 that stay, and looking through them again and again is 5 % of
it."""


def main() -> None:
    """Run the command line; exits."""
    gc.set_threshold(_OBJECTS)
    with one_interrupt():
        try:
            # Imported here, because it takes longer than anybody who has mistyped waits: a tenth of a second, a second on a busy machine.
            from faceembed.cli.main import main as program
        except KeyboardInterrupt:
            print("\nInterrupted.", file=sys.stderr)
            sys.exit(EXIT_CODE)
        program()
