"""What every command shares: one line for an error, and the exit code.

    0    done
    1    failed: one line says what, where, and what to do
    2    wrong usage
    130  interrupted by Ctrl-C

A command may leave two notes in ``ctx.meta``: `OUTPUT`, the file it writes, for errors that do not name theirs, and
`AFTER_INTERRUPT`, what Ctrl-C leaves behind.
"""

from __future__ import annotations

import errno
import importlib
import io
import os
import sys
from collections.abc import Iterable
from typing import Any

import click

from faceembed.cli.interrupts import EXIT_CODE, one_interrupt, was_pressed
from faceembed.cli.streams import STDOUT, repair
from faceembed.engine.photos.photo_file import printable
from faceembed.errors import FaceEmbedError, UsageError
from faceembed.install import pip_install

OUTPUT = "faceembed.output"
AFTER_INTERRUPT = "faceembed.after_interrupt"

# What only the extra [train] brings; everything else that a command imports comes with [cpu].
_TRAIN_PACKAGES = (
    "accelerate",
    "onnxscript",
    "pytorch_metric_learning",
    "safetensors",
    "tensorboard",
    "threadpoolctl",
    "tomli",
    "torch",
)

_ADVICE = {
    errno.ENOSPC: "free some space, or write elsewhere",
    errno.EDQUOT: "free some of your quota, or write elsewhere",
    errno.EACCES: "ask for the right to it, or choose another place",
    errno.EPERM: "ask for the right to it, or choose another place",
    errno.EROFS: "choose a place that can be written",
    errno.ENOTDIR: "a part of this path is a file, not a folder",
    errno.EEXIST: "there is a file where a folder is needed",
    errno.EISDIR: "this is a folder, give a file",
    errno.ENOENT: "does its folder exist?",
}


class Failed(click.ClickException):
    """An error of the user's data or machine, as one line on stderr."""

    def __init__(self, message: str) -> None:
        super().__init__(printable(" ".join(message.splitlines())))


class Misused(Failed):
    """The same for settings that contradict each other or cannot be met."""

    exit_code = 2


class Group(click.Group):
    """A group whose commands fail in one line, listed in the order they were added."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names for the help."""
        return list(self.commands)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command, turning what a user can bring about into a line and an exit code."""
        for stream in (sys.stdout, sys.stderr):  # a name that the terminal's encoding lacks is no reason to fail
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")
        try:
            try:
                return super().invoke(ctx)
            except click.exceptions.Exit:  # an inner group has said it
                raise
            except Exception as error:
                if was_pressed():  # in an extension's import, or a callback of a library, it becomes another error
                    raise KeyboardInterrupt from error
                raise
        except UsageError as error:
            raise Misused(str(error)) from error
        except FaceEmbedError as error:
            raise Failed(str(error)) from error
        except ModuleNotFoundError as error:
            package = (error.name or "").partition(".")[0]
            if package not in _TRAIN_PACKAGES:
                raise
            raise Failed(f"this needs '{package}', which is not installed; run: {pip_install('train')}") from error
        except MemoryError as error:
            raise Failed("out of memory; use a smaller --batch-size or fewer --workers") from error
        except KeyboardInterrupt:
            click.echo(f"\nInterrupted. {ctx.meta.get(AFTER_INTERRUPT, '')}".rstrip(), err=True)
            ctx.exit(EXIT_CODE)
        except OSError as error:
            if error.errno == errno.EPIPE:  # the reader has left; click ends quietly
                raise
            raise Failed(_explain(error, ctx.meta.get(OUTPUT, ""))) from error


class Program(Group):
    """The whole command line: streams are in order and Ctrl-C comes once, before anything else."""

    def main(self, *args: Any, **options: Any) -> Any:
        """Run the command line; as `click.Group.main`."""
        repair()
        with one_interrupt():
            try:
                return super().main(*args, **options)
            except OSError as error:  # of the help, which is told before a command is known
                if error.filename != STDOUT:
                    raise
                Failed(_explain(error, "")).show()
                sys.exit(1)


class LazyGroup(Group):
    """A group whose commands are imported when they are asked for.

    Args:
        modules: the name and module of each command, in the order of the help. The command is the module's attribute of
            that name, with underscores for dashes.
    """

    def __init__(self, *args: Any, modules: Iterable[tuple[str, str]], **options: Any) -> None:
        super().__init__(*args, **options)
        self._modules = dict(modules)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names for the help."""
        return list(self._modules)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """Import a command; None if there is none of that name."""
        if name not in self._modules:
            return None
        command: click.Command = getattr(importlib.import_module(self._modules[name]), name.replace("-", "_"))
        return command


def _explain(error: OSError, output: str) -> str:
    """One line for an error of the system; a failed write does not know its file, so the command's output is named."""
    where = os.fsdecode(error.filename) if isinstance(error.filename, (str, bytes)) else output
    what = error.strerror or str(error) or type(error).__name__
    line = f"{printable(where)}: {what}" if where else what
    advice = _ADVICE.get(error.errno or 0)
    return f"{line}; {advice}" if advice else line
