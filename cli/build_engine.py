"""`faceembed build-engine`: the TensorRT engine of a model, for the card here or for cards elsewhere."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import click

from faceembed.cli.group import OUTPUT
from faceembed.cli.options import ENCODER, Output, file_option, output_file_option, output_options

if TYPE_CHECKING:
    from faceembed.engine.pipeline.build_engine import Built
    from faceembed.engine.runtimes.engine_file import EngineFacts

# Written out, because the engine's module that knows them loads numpy; a test holds the two together.
ENGINE_PRECISIONS = ("fp16", "fp32", "int8")


@click.command("build-engine")
@click.option("--encoder", metavar="NAME|FILE", help=f"The encoder to build.  [default: {ENCODER}, if no --aligner]")
@click.option("--aligner", metavar="NAME|FILE", help="The one-shot aligner to build.")
@click.option(
    "--precision",
    type=click.Choice(ENGINE_PRECISIONS),
    default="fp16",
    show_default=True,
    help="Of the computation. int8: of the layers that allow it, the rest fp16.",
)
@click.option(
    "--target",
    default="auto",
    show_default=True,
    metavar="auto|smNN[,smNN]",
    help="Cards to build for, as in sm89. auto: the card here; without one, all that TensorRT for RTX serves.",
)
@click.option(
    "--batch", default="1,64,128", show_default=True, metavar="MIN,OPT,MAX", help="Batches; it is tuned for OPT."
)
@click.option(
    "--device", default="auto", show_default=True, metavar="cuda|cuda:N|auto", help="The card that auto means."
)
@file_option(
    "--photos",
    metavar="FOLDER",
    help="Photos of faces for the comparison with fp32, and the scales of int8.  [default: the sample photos]",
)
@output_file_option(
    "-o",
    "--output",
    kind="engine",
    metavar="FILE",
    help="Write the engine here, for another machine.  [default: keep it for runs here]",
)
@click.option("--fresh", is_flag=True, help="Build even if such an engine is kept.")
@file_option("--add", metavar="FILE", help="Keep an engine that was built elsewhere, if it fits this machine.")
@file_option("--inspect", metavar="FILE", help="Check an engine file and say what it is.")
@output_options
@click.pass_context
def build_engine(
    ctx: click.Context,
    encoder: str | None,
    aligner: str | None,
    precision: str,
    target: str,
    batch: str,
    device: str,
    photos: str | None,
    output: str | None,
    fresh: bool,
    add: str | None,
    inspect: str | None,
    out: Output,
) -> None:
    """Build the TensorRT engine of an encoder or an aligner.

    A run on a card builds what it needs by itself; this builds it beforehand, with other settings, or for other machines.
    The network is compared with fp32 on real faces first. TensorRT for RTX also builds where there is no card; there the
    comparison runs the network's graph in ONNX Runtime, and the output says that the engine itself was not executed.
    int8 leaves those layers of an encoder in fp16 that would spoil the comparison; give it photos like yours.

    \b
    Example:
        faceembed build-engine
        faceembed build-engine --encoder mine.onnx --target sm86,sm89 --batch 1,128,256 -o mine.engine
        faceembed build-engine --add mine.engine
    """
    if add and inspect:
        raise click.UsageError("give --add or --inspect, not both")
    ctx.meta[OUTPUT] = output
    from faceembed.engine.models.registry import resolve
    from faceembed.engine.pipeline import build_engine as engine
    from faceembed.engine.pipeline import given_engines
    from faceembed.engine.runtimes.profile import parse_batch

    if inspect:
        facts = given_engines.inspect_engine(inspect)
        out.result({"path": inspect, **dataclasses.asdict(facts)}, _describe(inspect, facts))
    elif add:
        built = given_engines.add_engine(add, device=device)
        out.result(_document(built), f"kept for runs here: {built.path}")
    else:
        if encoder and aligner:
            raise click.UsageError("give --encoder or --aligner, not both: an engine file is of one model")
        settings = engine.BuildSettings(precision, target, parse_batch(batch), photos, device)
        model = resolve(aligner, task="aligner") if aligner else resolve(encoder or ENCODER, task="encoder")
        with out.reporter() as reporter:
            built = engine.build_engine(
                model, settings, output=output, fresh=fresh, notice=reporter.notice, progress=reporter.phase
            )
        out.result(_document(built), _describe(built.path, built.facts, built=built))


def _document(built: Built) -> dict[str, Any]:
    return {"path": built.path, "seconds": built.seconds, "cached": built.cached, **dataclasses.asdict(built.facts)}


def _describe(path: str, facts: EngineFacts, *, built: Built | None = None) -> str:
    from faceembed.engine.parity.gate import parity_line
    from faceembed.engine.parity.quantise import quantised_line
    from faceembed.engine.runtimes.flavours import TITLES

    size = sum(network.plan_bytes for network in facts.networks) / 1e6
    when = "" if built is None else ", was built before" if built.cached else f", built in {built.seconds:.1f} s"
    executed = (
        "of the engine itself" if facts.executed else "of its graph in ONNX Runtime; the engine itself was not executed"
    )
    package = f"{TITLES.get(facts.package, facts.package)} {facts.package_version}"
    batches = f"batches of {facts.batch[0]} to {facts.batch[2]}, tuned for {facts.batch[1]}"
    lines = [
        f"{path}: {facts.model}, {facts.precision}, {size:.1f} MB{when}",
        f"by {package} for {', '.join(facts.targets)}; {batches}",
    ]
    if facts.int8:
        lines.append(quantised_line(facts.int8))
    if facts.proved:
        lines.append(f"{parity_line(facts.precision, facts.parity)}, {executed}")
    else:
        lines.append("not compared with fp32 yet: the first run does that on its own photos")
    return "\n".join(lines)
