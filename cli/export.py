"""`faceembed export`: a trained network into an ONNX file that `embed` runs."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
from typing import TYPE_CHECKING

import click

from faceembed.cli.group import OUTPUT
from faceembed.cli.options import Output, file_argument, file_option, output_file_option, output_options
from faceembed.install import pip_install

if TYPE_CHECKING:
    from faceembed.engine.models.spec import Colour
    from faceembed.trainer.export.encoder import Converted, Precision

# Written out, because the modules that know them load torch; a test holds the two together.
ARCHITECTURES = (
    "ir18",
    "ir50",
    "ir101",
    "resnet29",
    "resnet29-131",
    "resnet29-branch",
    "resnet29-branch-128",
    "slimface",
    "mobilefacenet",
    "ghostfacenet",
    "inception-resnet-v1",
)
EXPORT_PRECISIONS = ("fp32", "fp16", "w8")

arch_option = click.option(
    "--arch", type=click.Choice(ARCHITECTURES), help="The network of a checkpoint that does not say: another project's."
)
photos_option = file_option(
    "--photos", metavar="FOLDER", help="Photos of faces, or a crop set, to compare on.  [default: the sample photos]"
)


@click.command()
@file_argument("checkpoint")
@output_file_option(
    "-o", "--output", kind="model", metavar="MODEL.onnx", required=True, help="The file; its spec lies beside it."
)
@arch_option
@click.option("--colour", type=click.Choice(["rgb", "bgr"]), help="What the network takes, if the file does not say.")
@click.option(
    "--precision",
    type=click.Choice(EXPORT_PRECISIONS),
    default="fp32",
    show_default=True,
    help="Of the weights and the computation; input and output are fp32. w8: fp16, with most weights kept in 8 bits.",
)
@click.option("--name", help="What the model is called.  [default: the output file's name]")
@photos_option
@file_option(
    "--strangers",
    metavar="CROPS",
    help="A crop set of training people: how far strangers spread, and vectors of 64 people, are kept for the precision gate.",
)
@file_option("--split", metavar="FILE", help="With --strangers: only the training people of this split.")
@output_options
@click.pass_context
def export(
    ctx: click.Context,
    checkpoint: str,
    output: str,
    arch: str | None,
    colour: Colour | None,
    precision: Precision,
    name: str | None,
    photos: str | None,
    strangers: str | None,
    split: str | None,
    out: Output,
) -> None:
    """Write a trained network as ONNX.

    CHECKPOINT is a file of `faceembed train`, or of AdaFace, CVLface or facenet-pytorch with --arch, or dlib-resnet.
    The ONNX file is compared with PyTorch on real faces first, and is not written if an embedding differs.

    \b
    Example:
        faceembed export best.pt -o mine.onnx --strangers crops --split split.json
        faceembed export adaface_ir50_ms1mv2.ckpt -o ir50.onnx --arch ir50 --precision fp16
        faceembed embed photos -o people.faiss --encoder ./mine.onnx
    """
    ctx.meta[OUTPUT] = output
    require_torch("export")
    from faceembed.engine.models.store import check_name
    from faceembed.trainer.backbones.checkpoints import load_encoder
    from faceembed.trainer.export import encoder as exporter

    exporter.check_path(output)
    if split and not strangers:
        raise click.UsageError("--split says which of --strangers are training people; give --strangers too")
    called = check_name(name) if name else exporter.name_from(output)
    model, spec, kind = load_encoder(checkpoint, arch=arch, colour=colour)
    spec = dataclasses.replace(spec, name=called)
    converted = exporter.convert(model, spec, exporter.faces(spec, photos), precision=precision)
    if strangers:
        from faceembed.trainer.export.strangers import with_strangers

        converted = with_strangers(converted, strangers, split=split)
    written = exporter.write(converted, output)
    facts = {
        "path": written.path,
        "name": called,
        "architecture": kind,
        "precision": precision,
        "dimension": spec.dimension,
        "size_bytes": len(converted.data),
        "sha256": written.spec.sha256,
        "min_cosine": converted.min_cosine,
        "faces": converted.faces,
        "spread": converted.spec.spread,
    }
    where = output if os.sep in output else os.path.join(".", output)
    lines = [
        f"{kind}, {spec.dimension} numbers, {precision}, {len(converted.data) / 1e6:.1f} MB: {output}",
        parity_line(converted),
        f"use it: faceembed embed photos -o people.faiss --encoder {where}",
    ]
    out.result(facts, "\n".join(lines))


def parity_line(converted: Converted) -> str:
    """What the gate measured, in one line."""
    line = f"parity with PyTorch on {converted.faces} faces: smallest cosine {converted.min_cosine:.7f}"
    return line if converted.precision == "fp32" else f"{line}; {converted.change.words(converted.precision)}"


def require_torch(what: str) -> None:
    """Refuse early and in one line where PyTorch is not installed.

    Raises:
        ModelError: it is not.
    """
    if importlib.util.find_spec("torch") is None:
        from faceembed.errors import ModelError

        raise ModelError(f"{what} needs PyTorch, which is not installed; run: {pip_install('train')}")
