"""`faceembed models`: what is known, what is here, and how to get the rest."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import click

from faceembed.cli.export import ARCHITECTURES, EXPORT_PRECISIONS, parity_line, require_torch
from faceembed.cli.group import AFTER_INTERRUPT, Group
from faceembed.cli.options import Numbers, Output, file_argument, file_option, output_options

if TYPE_CHECKING:
    from faceembed.engine.models.registry import ModelInfo
    from faceembed.engine.models.spec import Colour, ModelSpec
    from faceembed.engine.models.store import Agree
    from faceembed.trainer.export.encoder import Precision

EDGEFACE = ("edgeface-xs", "edgeface-xxs")  # written out as ARCHITECTURES is; rewritten by the engine, without torch
ALIGNERS = ("dfa", "retinaface", "scrfd", "yunet")  # rewritten by the engine too


@click.group(cls=Group)
def models() -> None:
    """List, describe, fetch and import models.

    \b
    Example:
        faceembed models list
        faceembed models pull sface
    """


@models.command("list")
@output_options
def list_models(out: Output) -> None:
    """List the models that are known, and which of them are on this machine.

    \b
    Example:
        faceembed models list
    """
    from faceembed.engine.models import registry

    known = registry.list_models()
    out.result([dataclasses.asdict(model) for model in known], _table(known))


@models.command()
@click.argument("name")
@output_options
def info(name: str, out: Output) -> None:
    """Say what is known of one model: licence, source, state, file.

    \b
    Example:
        faceembed models info faceembed-r29
    """
    from faceembed.engine.models import registry

    model = registry.info(name)
    out.result(dataclasses.asdict(model), _details(model))


@models.command()
@click.argument("name")
@click.option("--sha256", metavar="HEX", help="The digest that the file must have.")
@file_option("--file", metavar="FILE", help="Take this file, downloaded by hand, instead of the network's.")
@output_options
@click.pass_context
def pull(ctx: click.Context, name: str, sha256: str | None, file: str | None, out: Output) -> None:
    """Fetch a known model, verify it and keep it; an interrupted download goes on.

    \b
    Example:
        faceembed models pull sface
    """
    from faceembed.engine.models.pull import pull as pull_model

    ctx.meta[AFTER_INTERRUPT] = "What was downloaded is kept; the same command goes on from there."
    with out.reporter() as reporter:
        model = pull_model(name, progress=reporter.bytes, sha256=sha256, file=file, agree=_agree(out))
    out.result(dataclasses.asdict(model), _details(model))


@models.command("import")
@file_argument("file")
@click.option("--name", help="What the model will be called.  [default for EdgeFace: the name of --arch]")
@click.option(
    "--arch",
    type=click.Choice((*ARCHITECTURES, *EDGEFACE, *ALIGNERS)),
    help="FILE is a PyTorch checkpoint of this network: convert it. EdgeFace and the aligners (dfa: CVLface's; retinaface: biubug6's checkpoints; scrfd, yunet: ONNX files) need no PyTorch.",
)
@click.option(
    "--precision", type=click.Choice(EXPORT_PRECISIONS), help="Of a checkpoint's conversion.  [default: fp32]"
)
@file_option("--photos", metavar="FOLDER", help="Faces to compare a conversion on.  [default: the sample photos]")
@click.option("--colour", type=click.Choice(["rgb", "bgr"]), help="Channel order of the network's input.")
@click.option(
    "--mean", metavar="M | R,G,B", help="Subtracted from 0..255, in the order of --colour; 127.5 for ArcFace."
)
@click.option("--scale", metavar="S", help="Then multiplied: a number or a fraction; 1/127.5 for ArcFace.")
@click.option("--template", metavar="X,Y,X,Y,...", help="The five landmarks in the input.  [default: ArcFace's]")
@click.option("--input-size", metavar="HxW", help="For a network that takes any size.")
@click.option("--threshold", type=Numbers(-1, 1), help="Similarity from which on two photos are one person.")
@click.option("--threshold-source", default="", metavar="TEXT", help="The data that the threshold was chosen on.")
@click.option("--licence", default="", metavar="TEXT", help="SPDX name or words.  [default: unknown]")
@click.option("--source", default="", metavar="TEXT", help="Where the file comes from.  [default: its path]")
@click.option("--replace", is_flag=True, help="Replace a model of that name.")
@click.option("--sha256", metavar="HEX", help="The digest that the file of a known model must have.")
@output_options
def import_(
    file: str,
    name: str | None,
    arch: str | None,
    precision: Precision | None,
    photos: str | None,
    colour: Colour | None,
    mean: str | None,
    scale: str | None,
    template: str | None,
    input_size: str | None,
    threshold: float | None,
    threshold_source: str,
    licence: str,
    source: str,
    replace: bool,
    sha256: str | None,
    out: Output,
) -> None:
    """Keep an encoder of your own, or another YuNet, under a name.

    FILE is an ONNX file. Colour order, mean and scale are not in it, and a wrong guess would cost accuracy silently, so
    they must be given. With --arch, FILE is a PyTorch checkpoint (of `faceembed train`, AdaFace, CVLface or
    facenet-pytorch): it is converted and compared on real faces. With the name of a known model, FILE is taken as that
    model, downloaded by hand, and verified.

    \b
    Example:
        faceembed models import mine.onnx --name mine --colour rgb --mean 127.5 --scale 1/127.5
        faceembed models import adaface_ir50_ms1mv2.ckpt --arch ir50 --name mine
        faceembed models import edgeface_xs_q.pt --arch edgeface-xs
        faceembed models import face_detection_yunet_2026may.onnx --name yunet-2026may
        faceembed models import mobilenet0.25_Final.pth --arch retinaface --name retinaface
        faceembed models import model.safetensors --arch dfa --name dfa
    """
    from faceembed.engine.models import registry
    from faceembed.engine.models.catalog import CATALOG

    agree = _agree(out)
    name = name or (arch if arch in EDGEFACE else None)
    if name is None:
        raise click.UsageError("Missing option '--name'.")
    if arch in (*EDGEFACE, *ALIGNERS):
        if any((colour, mean, scale, template, input_size, precision, photos)) or threshold is not None:
            raise click.UsageError(
                f"--arch {arch} says what pixels it wants, and is rewritten exactly; give --name, --licence, --source and "
                "--replace alone"
            )
        known = _import_rewritten(file, arch, name, licence, source, sha256, replace, agree)
    elif arch is not None:
        if any((mean, scale, template, input_size)):
            raise click.UsageError(
                f"--arch {arch} says what pixels it wants; leave --mean, --scale, --template and --input-size out"
            )
        require_torch("a checkpoint")
        from faceembed.trainer.export.import_checkpoint import Facts, import_checkpoint

        facts = Facts(
            colour=colour, threshold=threshold, threshold_source=threshold_source, licence=licence, source=source
        )
        _, converted = import_checkpoint(
            file,
            name=name,
            arch=arch,
            facts=facts,
            precision=precision or "fp32",
            photos=photos,
            sha256=sha256,
            replace=replace,
            agree=agree,
        )
        if not out.quiet:
            click.echo(parity_line(converted), err=True)
        known = registry.info(name)
    elif precision or photos:
        raise click.UsageError("--precision and --photos are for a PyTorch checkpoint; say its network: --arch")
    elif name in CATALOG:
        from faceembed.engine.models.pull import pull as pull_model

        if any((colour, mean, scale, template, input_size, threshold)):
            raise click.UsageError(f"{name} is a known model: its preprocessing is known too; give --name alone")
        known = pull_model(name, sha256=sha256, file=file, agree=agree)
    else:
        from faceembed.engine.models.import_file import import_model
        from faceembed.engine.models.spec import ARCFACE_TEMPLATE

        if colour is None or mean is None or scale is None:
            raise click.UsageError("give --colour, --mean and --scale: the file does not say what pixels it wants")
        channels = _numbers(mean, "--mean", (1, 3)) * (1 if "," in mean else 3)
        points = _numbers(template, "--template", (10,)) if template else ()
        sides = _numbers(input_size.lower().replace("x", ","), "--input-size", (2,)) if input_size else ()
        import_model(
            file,
            name=name,
            colour=colour,
            mean=(channels[0], channels[1], channels[2]),
            scale=_numbers(scale, "--scale", (1,))[0],
            template=tuple(zip(points[::2], points[1::2], strict=True)) if points else ARCFACE_TEMPLATE,
            input_size=(int(sides[0]), int(sides[1])) if sides else None,
            threshold=threshold,
            threshold_source=threshold_source,
            licence=licence or "unknown",
            source=source,
            replace=replace,
            agree=agree,
        )
        known = registry.info(name)
    out.result(dataclasses.asdict(known), _details(known))


def _import_rewritten(
    file: str, arch: str, name: str, licence: str, source: str, sha256: str | None, replace: bool, agree: Agree
) -> ModelInfo:
    """Under the name of a published file it must be the verified one; under another it is taken as it is."""
    from faceembed.engine.models import registry
    from faceembed.engine.models.catalog import CATALOG

    published = CATALOG.get(name)
    if published and published.url and arch in (published.name, published.decoder):
        from faceembed.engine.models.pull import pull as pull_model

        if licence or source or replace:
            raise click.UsageError(
                f"{name} is a known model: leave --licence, --source and --replace out, or give a --name"
            )
        return pull_model(name, sha256=sha256, file=file, agree=agree)
    from faceembed.engine.models.import_file import import_aligner, import_edgeface

    if arch in ALIGNERS:
        import_aligner(file, arch=arch, name=name, licence=licence, source=source, replace=replace)
    else:
        import_edgeface(file, arch=arch, name=name, licence=licence, source=source, replace=replace, agree=agree)
    return registry.info(name)


def _agree(out: Output) -> Agree:
    """Compares the runtimes of this machine with ONNX's own definition, and says which is not used."""
    from faceembed.engine.parity.definition import checked

    def ask(data: bytes, spec: ModelSpec) -> ModelSpec:
        return checked(data, spec, notice=lambda line: None if out.quiet else click.echo(line, err=True))

    return ask


def _numbers(text: str, option: str, counts: tuple[int, ...]) -> tuple[float, ...]:
    """``1,2,3`` as numbers; each may be a fraction such as ``1/127.5``."""
    try:
        values = []
        for part in text.split(","):
            above, _, below = part.partition("/")
            values.append(float(above) / float(below or 1))
    except (ValueError, ZeroDivisionError):
        values = []
    if len(values) not in counts:
        wanted = " or ".join(map(str, counts))
        raise click.UsageError(f"{option} '{text}': expected {wanted} number{'s' if wanted != '1' else ''}")
    return tuple(values)


def _table(known: list[ModelInfo]) -> str:
    header = ("name", "task", "dim", "MB", "state", "licence")
    rows = [(m.name, m.task, str(m.dimension or "-"), _megabytes(m.size_bytes), m.state, m.licence) for m in known]
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in (header, *rows))
    return "\n".join(line.rstrip() for line in lines)


def _details(model: ModelInfo) -> str:
    facts = {**dataclasses.asdict(model), "size_bytes": f"{_megabytes(model.size_bytes)} MB"}
    if not model.size_bytes:
        facts["size_bytes"] = ""
    return "\n".join(f"{name.removesuffix('_bytes'):<13} {value}" for name, value in facts.items() if value)


def _megabytes(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:.1f}" if size_bytes else "-"
