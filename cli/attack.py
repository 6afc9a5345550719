"""`faceembed attack`: how far an encoder's similarities and EER move when pictures are changed a little."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from faceembed.cli.group import OUTPUT, Group
from faceembed.cli.options import (
    ModelOptions,
    Output,
    file_argument,
    file_option,
    model_options,
    output_file_option,
    output_options,
)
from faceembed.cli.said import several_taken

if TYPE_CHECKING:
    from faceembed.engine.explain.attack_result import Attacked, Row
    from faceembed.engine.verbs.attack import Attack

_OWN = ("arch", "steps", "step_size")  # of one attack; the others are of all


def numbers(ctx: click.Context, param: click.Parameter, value: str) -> tuple[float, ...]:
    """Several numbers, separated by commas."""
    try:
        return tuple(float(cell) for cell in value.split(","))
    except ValueError:
        raise click.BadParameter(f"{value!r} is not a number, nor several separated by commas", ctx, param) from None


_COMMON: tuple[Callable[..., Any], ...] = (
    file_argument("pairs"),
    file_option("--root", help="Folder of the photos, where the list does not say."),
    click.option(
        "--epsilon",
        "epsilons",
        default="0.01,0.03,0.1",
        show_default=True,
        callback=numbers,
        metavar="E,E,...",
        help="Change of a pixel, in units of [-1, 1]; one of 255 levels is 0.0078.",
    ),
    click.option("--max-pairs", type=int, metavar="N", help="Attack so many, drawn from each kind.  [default: all]"),
    click.option(
        "--skip-failures", is_flag=True, help="Leave out pairs with a photo without a face; else they score -1."
    ),
    click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of noise and --max-pairs."),
    click.option("--arch", metavar="NAME", help="Architecture of another project's checkpoint."),
    output_file_option(
        "--save", kind="attack scores", metavar="CSV", help="Also write every pair's similarity before and after there."
    ),
    output_file_option("--png", kind="picture", metavar="PNG", help="Also draw the worst cases there."),
    output_file_option(
        "--html", kind="page", metavar="HTML", help="Also write the figures and the worst cases as a page there."
    ),
    model_options,
    output_options,
    click.pass_context,
)
_GOAL = click.option(
    "--goal",
    type=click.Choice(["both", "impersonate", "dodge"]),
    default="both",
    show_default=True,
    help="Raise the similarity of different people, lower that of one person, or both.",
)


def _common(command: Callable[..., None]) -> Callable[..., Any]:
    return functools.reduce(lambda wrapped, option: option(wrapped), reversed(_COMMON), command)


@click.group(cls=Group)
def attack() -> None:
    """Measure how an encoder bears changed pictures.

    The second photo of each pair is the attacker's: its aligned face is changed, rounded back to whole pixel values, and
    compared with the first photo again. --encoder also takes a checkpoint, with PyTorch; fgsm and pgd
    need PyTorch with any encoder.

    \b
    Example:
        faceembed attack noise pairs.csv --html noise.html
        faceembed attack pgd pairs.csv --encoder best.pt --png worst.png
    """


@attack.command()
@_common
def noise(ctx: click.Context, **options: Any) -> None:
    """Add Gaussian noise, whose standard deviation is epsilon.

    \b
    Example:
        faceembed attack noise pairs.csv --epsilon 0.05,0.1,0.2
    """
    _run(ctx, "noise", options)


@attack.command()
@_GOAL
@_common
def fgsm(ctx: click.Context, **options: Any) -> None:
    """Move every pixel by epsilon along the sign of the gradient.

    \b
    Example:
        faceembed attack fgsm pairs.csv --encoder best.pt --png worst.png --save scores.csv
    """
    _run(ctx, "fgsm", options)


@attack.command()
@_GOAL
@click.option("--steps", type=int, default=10, show_default=True, metavar="N", help="Steps of the gradient.")
@click.option(
    "--step-size", type=float, metavar="S", help="Of one step.  [default: 2.5 epsilon / steps, one level at least]"
)
@_common
def pgd(ctx: click.Context, **options: Any) -> None:
    """Take several smaller steps along the gradient, within epsilon, and keep the best picture.

    \b
    Example:
        faceembed attack pgd pairs.csv --encoder best.pt --steps 20 --goal impersonate
    """
    _run(ctx, "pgd", options)


def _run(ctx: click.Context, method: str, options: dict[str, Any]) -> None:
    from faceembed.engine.report.attack import write_attack_report
    from faceembed.engine.report.attack_picture import write_cases
    from faceembed.engine.verbs.attack import AttackSettings, attack_pairs

    models: ModelOptions = options.pop("models")
    out: Output = options.pop("out")
    pairs, root, save, png, html = (options.pop(name) for name in ("pairs", "root", "save", "png", "html"))
    ctx.meta[OUTPUT] = html or png or save or ""
    chosen = _attack(method, models.encoder, **{name: options.pop(name) for name in _OWN if name in options})
    settings = AttackSettings(embed=models.settings(), **options)
    with out.reporter() as reporter:
        result = attack_pairs(
            pairs, chosen, settings=settings, root=root, notice=reporter.notice, progress=reporter.progress
        )
    if save is not None:
        result.write_scores(save)
    try:
        out.result(result.to_json_dict(), _text(result))
    finally:  # last, so that a disk that is full loses nothing else; and in spite of a stdout that is
        if html is not None:
            write_attack_report(html, result)
        if png is not None:
            write_cases(png, result.cases, threshold=result.threshold, title=result.title)


def _attack(method: str, encoder: str, *, arch: str | None, **own: Any) -> Attack:
    """The engine's noise wherever the engine can run the encoder, so that it needs no PyTorch."""
    if method == "noise" and (not os.path.isfile(encoder) or encoder.lower().endswith(".onnx")):
        from faceembed.engine.verbs.attack import Noise

        return Noise()
    from faceembed.trainer.gradients import attack as gradient

    if method == "noise":
        return gradient.NetworkNoise(arch)
    return gradient.Fgsm(arch) if method == "fgsm" else gradient.Pgd(arch, **own)


def _text(result: Attacked) -> str:
    kinds = list(result.rows[0].similarity)
    head = ["epsilon", *(f"{kind} (change)" for kind in kinds), "EER", "FNMR", "FMR", *_by_kind(kinds)]
    table = [head, *(_cells(row, kinds) for row in result.rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in table]
    judged = f"{result.method} on {result.encoder}: {len(result.numbers):,} pairs"
    if missing := int(result.failed.sum()):
        judged += f", {missing:,} of them with a photo without a face, which score -1"
    if result.threshold is not None:
        lines.append(
            f"FNMR and FMR at the unchanged list's EER threshold, {result.threshold:.4f}; EER at each row's own"
        )
    return "\n".join([judged, *lines, *several_taken(result.several)])


def _by_kind(kinds: list[str]) -> list[str]:
    return ["FMR other", "FMR fake"] if {"other", "fake"} <= set(kinds) else []


def _cells(row: Row, kinds: list[str]) -> list[str]:
    similarity = [
        f"{row.similarity[kind]:.3f}" + (f" ({row.change[kind]:+.3f})" if kind in row.change and row.epsilon else "")
        for kind in kinds
    ]
    rates = [row.eer, row.fnmr, row.fmr, *([row.fmr_other, row.fmr_fake] if _by_kind(kinds) else [])]
    epsilon = f"{row.epsilon:g}" if row.epsilon else "unchanged"
    return [epsilon, *similarity, *("insufficient data" if rate is None else f"{100 * rate:.2f} %" for rate in rates)]
