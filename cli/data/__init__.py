"""`faceembed data`: from photos of people to what training takes. Each command is a module here, imported when it is used."""

from __future__ import annotations

import click

from faceembed.cli.group import LazyGroup

# (name, module): the command is the module's function of that name. The order is that of the work, and of the help.
COMMANDS = (
    ("clean", "faceembed.cli.data.clean"),
    ("fakes", "faceembed.cli.data.fakes"),
    ("import-fakes", "faceembed.cli.data.import_fakes"),
    ("align", "faceembed.cli.data.align"),
    ("split", "faceembed.cli.data.split"),
    ("pairs", "faceembed.cli.data.pairs"),
    ("faces", "faceembed.cli.data.faces"),
    ("submission", "faceembed.cli.data.submission"),
)


@click.group(cls=LazyGroup, modules=COMMANDS)
def data() -> None:
    """Prepare photos of people for training: clean, fake, align, split and pair them.

    \b
    Example:
        faceembed data clean people -o cleaned
        faceembed data align people -o crops
        faceembed data split people -o split.json --train 180 --validate 20 --test 40
        faceembed data pairs people --fakes fakes -o pairs --split split.json --count 20000
    """
