"""`faceembed train aligner`: train a detector of faces and their landmarks."""

from __future__ import annotations

import json
import os
from pathlib import Path

import click

from faceembed.cli.export import require_torch
from faceembed.cli.group import AFTER_INTERRUPT, OUTPUT
from faceembed.cli.options import Output, file_argument, file_option, output_options


@click.command()
@file_argument("config", default="aligner")
@file_option("--labels", multiple=True, metavar="PARQUET", help="Face labels to learn (data.labels); repeatable.")
@file_option("--validate", multiple=True, metavar="PARQUET", help="Face labels of other people; repeatable.")
@click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="One setting, as loop.steps=20000; repeatable."
)
@file_option("-o", "--output", required=True, metavar="DIR", help="Folder of the run; goes on where one stopped.")
@click.option("--name", default="aligner", show_default=True, help="What the model is called.")
@click.option("--licence", default="unknown", show_default=True, help="Of the model, for its spec.")
@output_options
@click.pass_context
def aligner(
    ctx: click.Context,
    config: str,
    labels: tuple[str, ...],
    validate: tuple[str, ...],
    overrides: tuple[str, ...],
    output: str,
    name: str,
    licence: str,
    out: Output,
) -> None:
    """Train an aligner on face labels and write it as ONNX.

    CONFIG is a TOML file, or the name of a shipped recipe; 'aligner' if left out. Labels come from `data faces`. The recipe
    draws from groups of its own; with `data.groups` and `data.shares` empty, from all that there are. The model
    is DIR/NAME.onnx with its spec beside it, compared with PyTorch before it is written.

    \b
    Example:
        faceembed train aligner --labels train.parquet --validate validate.parquet --set 'data.groups=[]' --set 'data.shares=[]' -o runs/aligner
        faceembed train aligner mine.toml --set loop.steps=20000 -o runs/longer --name my-aligner
    """
    require_torch("train aligner")
    from faceembed.trainer.aligner.config import read_config
    from faceembed.trainer.aligner.export import export_aligner
    from faceembed.trainer.aligner.train import sample_scenes, train
    from faceembed.trainer.aligner.train_refiner import train_refiner

    ctx.meta[OUTPUT] = output
    ctx.meta[AFTER_INTERRUPT] = "What was saved at the last validation is kept; the same command goes on from there."
    given = [f"data.labels={json.dumps(labels)}"] * bool(labels) + [f"data.validate={json.dumps(validate)}"] * bool(
        validate
    )
    settings = read_config(config, overrides=[*given, *overrides])
    with out.reporter() as reporter:
        train(settings, output, notice=reporter.notice)
        train_refiner(settings, output, notice=reporter.notice)
        model = export_aligner(
            output,
            Path(output) / f"{name}.onnx",
            name=name,
            licence=licence,
            source=f"faceembed train aligner {os.path.basename(config)}",
            pixels=sample_scenes(settings, 8),
        )
    size = os.path.getsize(model.path)
    facts = {
        "path": model.path,
        "name": name,
        "size_bytes": size,
        "sha256": model.spec.sha256,
        "steps": settings.loop.steps,
    }
    out.result(
        facts,
        f"{size / 1e6:.2f} MB: {model.path}\nuse it: faceembed embed photos -o people.faiss --aligner {model.path}",
    )
