"""`faceembed doctor`: what this machine has, what a run would use, and how to mend what is missing."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING

import click

from faceembed.cli.options import Output, output_options
from faceembed.version import __version__

if TYPE_CHECKING:
    from faceembed.engine.verbs.doctor import Diagnosis

_MARKS = {"ok": "ok", "missing": "--", "broken": "!!"}


@click.command()
@output_options
@click.pass_context
def doctor(ctx: click.Context, out: Output) -> None:
    """Say what of driver, cards, runtimes and packages is here, and what will be used.

    It exits with 1 where nothing can compute.

    \b
    Example:
        faceembed doctor
        faceembed doctor --json
    """
    from faceembed.engine.verbs.doctor import diagnose

    diagnosis = diagnose()
    out.result(diagnosis.to_json_dict(), _text(diagnosis))
    if diagnosis.choice is None:
        ctx.exit(1)


def _text(diagnosis: Diagnosis) -> str:
    lines = [f"faceembed {__version__}, Python {platform.python_version()}, {platform.system()} {platform.machine()}"]
    width = max(len(finding.name) for finding in diagnosis.findings)
    lines += [f"{_MARKS[one.state]:>2}  {one.name:<{width}}  {one.text}" for one in diagnosis.findings]
    choice = diagnosis.choice
    if choice is None:
        lines.append(f"nothing can compute: {diagnosis.problem}")
    else:
        lines.append(f"will use: {choice.device}, {choice.runtime}, {choice.precision} ({choice.why})")
    lines += [f"to mend: {mend}" for mend in diagnosis.mends]
    return "\n".join(lines)
