"""The options that commands share, and what they become: the run's settings, and where results and notices go."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import functools
import math
import os
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from faceembed.cli.reporter import Reporter
from faceembed.cli.streams import check_redirections
from faceembed.engine.photos.file_list import FileList
from faceembed.engine.photos.left_out import Choice
from faceembed.engine.photos.photo_file import printable
from faceembed.errors import UsageError
from faceembed.files import why_no_place
from faceembed.outputs import check_output
from faceembed.plain import to_json

if TYPE_CHECKING:
    from faceembed.engine.pipeline.settings import EmbedSettings

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

# Written out, because the engine's modules that know them load numpy; a test holds the two together.
RUNTIMES = ("auto", "openvino", "onnxruntime", "tensorrt")
PRECISIONS = ("auto", "fp32", "bf16", "fp16", "int8")
ENCODER = "faceembed-r29"


class Numbers(click.FloatRange):
    """A range of numbers, without what is none: click lets `nan` pass, which is neither below nor above anything."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """As `click.FloatRange` does, but for nan."""
        number = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail(f"{value!r} is not a number.", param, ctx)
        return number


def _not_empty(ctx: click.Context, param: click.Parameter, value: Any) -> Any:
    """Refuse an empty path, as an unset variable of a script gives: it would mean the current folder."""
    if "" in (value if isinstance(value, tuple) else (value,)):
        raise click.BadParameter("it is empty; is a variable not set?", ctx, param)
    return value


class OutputPath(click.Path):
    """A file to be written.

    Args:
        kind: of `outputs.KINDS`.
    """

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind


def a_place(ctx: click.Context, param: click.Parameter, value: Any) -> Any:
    """Refuse an empty path, and one that can be no file or folder here."""
    _not_empty(ctx, param, value)
    for path in value if isinstance(value, tuple) else (value,):
        if path is not None and (reason := why_no_place(path)):
            raise click.BadParameter(printable(reason), ctx, param)
    return value


def _writable(ctx: click.Context, param: click.Parameter, value: Any) -> Any:
    """Refuse a file that cannot be written, before the work that it is for."""
    a_place(ctx, param, value)
    if value is not None:
        folder = os.path.dirname(os.path.abspath(value))
        if not os.path.isdir(folder):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), value)
        if os.path.isdir(value):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), value)
        if not os.access(folder, os.W_OK):
            why = errno.EROFS if _is_read_only(folder) else errno.EACCES
            raise OSError(why, os.strerror(why), value)
    return value


def _is_read_only(folder: str) -> bool:
    """Whether nobody may write there, as on a file system that was mounted so; Windows does not say."""
    return hasattr(os, "statvfs") and bool(os.statvfs(folder).f_flag & os.ST_RDONLY)


def _check_outputs(ctx: click.Context) -> None:
    """Refuse outputs that are inputs of the command or of another kind than it writes, and two of one name.

    Raises:
        UsageError: as `check_output`.
    """
    given = [(param.type, ctx.params.get(param.name or "")) for param in ctx.command.params]
    outputs = [(kind.kind, value) for kind, value in given if isinstance(kind, OutputPath) and value is not None]
    inputs: list[str] = []
    for kind, value in given:
        if isinstance(kind, click.Path) and not isinstance(kind, OutputPath) and value is not None:
            inputs += value if isinstance(value, tuple) else [value]
    for number, (name, path) in enumerate(outputs):
        check_output(path, name, inputs)
        if os.path.abspath(path) in {os.path.abspath(other) for _, other in outputs[:number]}:
            raise UsageError(f"{path} is given for two outputs; give each a name of its own")


# What a command gives for a path: text in which bytes that are not UTF-8 are kept (PEP 383).
file_argument = functools.partial(click.argument, type=click.Path(), callback=_not_empty)
file_option = functools.partial(click.option, type=click.Path(), callback=a_place)


def output_file_option(*names: str, kind: str, **options: Any) -> Decorator:
    """The option of a file that the command writes; ``kind`` is what it will be, of `outputs.KINDS`."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(command)
        def checked(*args: Any, **values: Any) -> Any:
            _check_outputs(click.get_current_context())
            return command(*args, **values)

        option: Decorator = click.option(*names, type=OutputPath(kind), callback=_writable, **options)
        return option(checked)

    return decorate


@dataclasses.dataclass(frozen=True)
class ModelOptions:
    """The values of `model_options`."""

    encoder: str
    aligner: str
    device: str
    runtime: str
    precision: str
    workers: int | None
    batch_size: int | None
    memory: str | None
    min_face: int
    min_score: float | None
    detect_size: int
    max_pixels: int | None
    max_bytes: str | None

    def settings_for_gallery(self, ctx: click.Context, gallery: str) -> EmbedSettings:
        """The same, with the models that made a gallery wherever the user names none.

        Raises:
            UsageError: values that cannot be met.
            IndexFormatError: the gallery is damaged.
        """
        from faceembed.engine.people.enrolling import settings_of
        from faceembed.engine.people.gallery import is_gallery, read_gallery

        settings = self.settings(faces="all")
        if not is_gallery(gallery):
            return settings
        made = settings_of(read_gallery(gallery), settings)
        named = {name: ctx.get_parameter_source(name) != ParameterSource.DEFAULT for name in ("encoder", "aligner")}
        return dataclasses.replace(
            settings,
            encoder=settings.encoder if named["encoder"] else made.encoder,
            aligner=settings.aligner if named["aligner"] else made.aligner,
        )

    def settings(self, *, faces: str = "largest") -> EmbedSettings:
        """The library's settings.

        Raises:
            UsageError: values that cannot be met.
        """
        from faceembed.engine.pipeline.amounts import parse_amount
        from faceembed.engine.pipeline.settings import EmbedSettings
        from faceembed.engine.runtimes.choose import RuntimeSettings

        runtime = RuntimeSettings(self.device, self.runtime, self.precision, self.workers or 0)
        most = None if self.max_bytes is None else parse_amount(self.max_bytes, "--max-bytes")
        memory = None if self.memory is None else parse_amount(self.memory, "--memory")
        given: dict[str, Any] = {
            "batch_size": self.batch_size,
            "memory": memory,
            "max_pixels": self.max_pixels,
            "max_bytes": most,
        }
        return EmbedSettings(
            encoder=self.encoder,
            aligner=self.aligner,
            faces=faces,
            min_face=self.min_face,
            min_score=self.min_score,
            detect_size=self.detect_size,
            runtime=runtime,
            **{name: value for name, value in given.items() if value is not None},
        )


@dataclasses.dataclass(frozen=True)
class Output:
    """The values of `output_options`: the result goes to stdout, everything else to stderr."""

    quiet: bool
    as_json: bool

    @contextlib.contextmanager
    def reporter(self) -> Iterator[Reporter]:
        """Where notices and progress go while a command works."""
        reporter = Reporter(quiet=self.quiet)
        try:
            yield reporter
        finally:
            reporter.close()

    def result(self, document: object, text: str) -> None:
        """Print the result: one JSON document with ``--json``, else ``text``."""
        click.echo(to_json(document) if self.as_json else text)

    def summary(self, document: object, text: str) -> None:
        """The same for a command whose result is in files: with ``-q``, ``text`` is not needed."""
        if self.as_json or not self.quiet:
            self.result(document, text)


_ALIGNER = click.option(
    "--aligner",
    default="faceembed-align",
    show_default=True,
    help="Model name, or 'none' for photos that are aligned crops.",
)
_SEVERAL_ALIGNERS = click.option(
    "--aligner",
    "aligners",
    multiple=True,
    default=("faceembed-align",),
    show_default=True,
    help="Model name; repeatable: of several, two must agree.",
)

_RUNNING_OPTIONS: tuple[Decorator, ...] = (
    click.option(
        "--device", default="auto", show_default=True, metavar="cpu|cuda|cuda:N|auto", help="What to compute on."
    ),
    click.option("--runtime", type=click.Choice(RUNTIMES), default="auto", show_default=True, help="What computes."),
    click.option(
        "--precision",
        type=click.Choice(PRECISIONS),
        default="auto",
        show_default=True,
        help="auto: fp16 on a card, bf16 where the processor has it, if it agrees with fp32.",
    ),
    click.option(
        "--workers",
        type=click.IntRange(min=1),
        metavar="N",
        help="Cores to compute on, a batch each.  [default: all]",
    ),
    click.option(
        "--batch-size",
        type=click.IntRange(min=1),
        metavar="N",
        help="Photos in a batch, at most.  [default: 32, on a card 128]",
    ),
    click.option(
        "--memory",
        metavar="BYTES",
        help="What a run on processors may take, about, as in 300M: fewer and smaller batches.  [default: as is fastest]",
    ),
    click.option(
        "--min-face",
        type=click.IntRange(min=0),
        default=0,
        metavar="PX",
        help="Smallest face looked for, in pixels of the photo.  [default: 20, or 1/40 of the longer side above 800; with --faces all 40 at most]",
    ),
    click.option(
        "--min-score",
        type=Numbers(0, 1),
        metavar="0..1",
        help="Least score of a face; what scores less is none.  [default: the aligner's own]",
    ),
    click.option(
        "--detect-size",
        type=click.IntRange(min=0),
        default=0,
        metavar="PX",
        help="Longer side in which photos are searched, at most.  [default: what --min-face needs]",
    ),
    click.option("--max-pixels", type=int, metavar="N", help="Refuse photos with more pixels.  [default: 120 million]"),
    click.option("--max-bytes", metavar="BYTES", help="Refuse files with more bytes, as in 1G.  [default: 400M]"),
)

_FOLDER_OPTIONS: tuple[Decorator, ...] = (
    click.option(
        "--exclude",
        multiple=True,
        metavar="GLOB",
        help="Leave out files and folders of that name or path, as '*.png', private/ or '2019/*/raw'; may be repeated.",
    ),
    click.option(
        "--include",
        multiple=True,
        metavar="GLOB",
        help="Take what would be left out, also by default; may be repeated.",
    ),
    click.option("--pages", is_flag=True, help="Take the further pages of TIFFs too, as scan.tif::2."),
    click.option(
        "--fps",
        type=Numbers(0, 1000, min_open=True),
        metavar="N",
        help="Take N frames a second of videos, as party.mp4::00:01:05.000.  [default: videos are left out]",
    ),
)

_OUTPUT_OPTIONS: tuple[Decorator, ...] = (
    click.option("-q", "--quiet", is_flag=True, help="No progress, no notices: the result and errors only."),
    click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout."),
)


faces_option = click.option(
    "--faces",
    type=click.Choice(["largest", "all"]),
    default="largest",
    show_default=True,
    help="The largest face of each photo, or all of them.",
)
"""For commands that compare the faces of photos."""

several_option = click.option(
    "--several",
    type=click.Choice(["refuse", "largest"]),
    help="Photos of people with several faces: not used, or the largest is taken.  [default: the gallery's, or refuse]",
)
"""For commands that take photos of people by name."""

threshold_option = click.option(
    "--threshold",
    type=Numbers(-1, 1),
    help="Similarity from which on two faces count as one person.  [default: the encoder's own]",
)
"""For commands that judge similarities."""

fmr_option = click.option(
    "--fmr",
    type=Numbers(0, 1, min_open=True, max_open=True),
    help="Instead of --threshold: the share of strangers who may match, for instance 0.001, if measured for the encoder.",
)
"""For commands that judge similarities."""


def model_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of a command that runs models; it receives them as ``models``."""
    return model_options_with(ENCODER)(command)


def model_options_with(encoder: str, why: str = "") -> Decorator:
    """The same for a command with an encoder of its own as the default, which ``why`` explains."""
    text = "Model name, or path of an ONNX file." + (f" {why}" if why else "")
    option = click.option("--encoder", default=encoder, show_default=True, help=text)
    return lambda command: collected(command, (option, _ALIGNER, *_RUNNING_OPTIONS), ModelOptions, "models")


def teacher_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """As `model_options`, with any number of aligners: the command receives them as ``aligners``, and ``models`` has the first."""
    option = click.option("--encoder", default=ENCODER, show_default=True, help="Model name, or path of an ONNX file.")
    inner = collected(command, (option, *_RUNNING_OPTIONS), ModelOptions, "models")

    @functools.wraps(inner)
    def wrapper(**values: Any) -> Any:
        return inner(aligner=values["aligners"][0], **values)

    return _SEVERAL_ALIGNERS(wrapper)


def folder_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--exclude`` and ``--include``; the command receives them as ``choice``."""
    return collected(command, _FOLDER_OPTIONS, Choice, "choice")


def given(photos: Iterable[str]) -> list[str | FileList]:
    """Photos and folders that were given, with ``-`` and ``@list.txt`` as the lists that they stand for."""
    return [FileList.of(path) or path for path in photos]


def output_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--quiet`` and ``--json``; the command receives them as ``out``. Streams that are redirected into its own files are refused."""

    @functools.wraps(command)
    def checked(*args: Any, **values: Any) -> Any:
        ctx = click.get_current_context()
        given = [ctx.params.get(param.name or "") for param in ctx.command.params if isinstance(param.type, click.Path)]
        check_redirections(
            path for value in given for path in (value if isinstance(value, tuple) else (value,)) if path
        )
        return command(*args, **values)

    return collected(checked, _OUTPUT_OPTIONS, Output, "out")


def collected(
    command: Callable[..., Any], options: tuple[Decorator, ...], kind: type[Any], name: str
) -> Callable[..., Any]:
    """Add options to a command, which receives their values as one ``kind``, a dataclass, called ``name``."""
    fields = [field.name for field in dataclasses.fields(kind)]

    @functools.wraps(command)
    def wrapped(**values: Any) -> Any:
        collected = kind(**{field: values.pop(field) for field in fields})
        return command(**{name: collected}, **values)

    for option in reversed(options):
        wrapped = option(wrapped)  # type: ignore[assignment]
    return wrapped
