"""`faceembed embed`: photos into an index."""

from __future__ import annotations

import dataclasses
import os
import shlex
from typing import TYPE_CHECKING

import click

from faceembed.cli.card import CardOptions, card_options
from faceembed.cli.dataset import DatasetOptions, access_options, index_or_dataset, is_dataset, summary
from faceembed.cli.group import AFTER_INTERRUPT, OUTPUT
from faceembed.cli.options import (
    ModelOptions,
    Numbers,
    Output,
    file_argument,
    folder_options,
    given,
    model_options,
    output_file_option,
    output_options,
)
from faceembed.cli.reporter import clock, per_second
from faceembed.cli.said import several_taken
from faceembed.engine.photos.photo_file import encode_path, printable

if TYPE_CHECKING:
    from faceembed.engine.photos.left_out import Choice
    from faceembed.engine.pipeline.settings import EmbedSettings
    from faceembed.engine.verbs.embed import EmbedReport


@click.command()
@file_argument("photos", nargs=-1)
@click.option(
    "-o",
    "--output",
    metavar="INDEX.faiss|FOLDER/|URI",
    callback=index_or_dataset,
    help="The index, whose other files lie beside it; or a dataset of shards, in a folder or as s3://bucket/prefix.",
)
@click.option(
    "--ray",
    metavar="local|auto|ADDRESS",
    help="Into a dataset: compute on Ray, on this machine alone, the cluster that it is in, or that one.  [default: this machine, without Ray]",
)
@click.option(
    "--dtype",
    type=click.Choice(["float32", "float16"]),
    default="float32",
    show_default=True,
    help="Of the embeddings in a dataset.",
)
@click.option(
    "--faces",
    type=click.Choice(["largest", "all"]),
    default="largest",
    show_default=True,
    help="One face a photo, or every face.",
)
@click.option(
    "--index",
    "index_type",
    metavar="TYPE",
    help="flat, hnsw, ivf or a FAISS factory string.  [default: what the index has, else flat]",
)
@click.option(
    "--min-quality",
    type=Numbers(0, 1),
    metavar="0..1",
    help="As --min-score: of what is known of a face, the aligner's score says best how good it is (see eval).",
)
@click.option("--fresh", is_flag=True, help="Start over: drop an index and an unfinished run of that name.")
@click.option(
    "--prune",
    is_flag=True,
    help="Drop photos that are gone even where a whole folder, or much of the index, is; and those that are left out now.",
)
@click.option("--check", is_flag=True, help="Read every photo, also those whose size and times are as they were.")
@output_file_option(
    "--vectors",
    kind="vectors",
    metavar="FILE",
    help="Also write the vectors there, as export-vectors does: .npy, .parquet or .lance.",
)
@click.option("--sample", is_flag=True, help="Try it on a few sample photos, kept in FACEEMBED_HOME.")
@access_options
@folder_options
@card_options
@model_options
@output_options
@click.pass_context
def embed(
    ctx: click.Context,
    photos: tuple[str, ...],
    output: str | None,
    ray: str | None,
    dtype: str,
    faces: str,
    index_type: str | None,
    min_quality: float | None,
    fresh: bool,
    prune: bool,
    check: bool,
    vectors: str | None,
    sample: bool,
    access: DatasetOptions,
    choice: Choice,
    card: CardOptions,
    models: ModelOptions,
    out: Output,
) -> None:
    """Embed photos into a searchable index.

    PHOTOS are folders, searched with all their subfolders, and files; @list.txt is a list of both, a line each, and - a list on
    standard input. Photos in .tar, .zip and .parquet files are read in place, as photos.zip::a.jpg. Faces of a video's frames (--fps) are joined into tracks, each a row with its best frame. Of folders, trash, thumbnails and what else systems keep beside photos is left out, and counted. A second run over the same folders embeds only
    what is new or changed and drops what is gone; photos that were moved or touched are known by their bytes. Where a
    whole folder is empty or gone, as when a disk is not mounted, nothing is changed without --prune. An interrupted run
    goes on when it is started again. A photo that cannot be read or has no face is a row of INDEX.faiss.errors.csv.

    \b
    Example:
        faceembed embed photos -o people.faiss
        faceembed embed photos -o people.faiss --exclude private/ --exclude '*.png'
        find /mnt -name '*.jpg' -newer people.faiss -print0 | faceembed embed - -o people.faiss
        faceembed embed photos more/*.jpg -o people.faiss --faces all --index hnsw
        faceembed embed photos -o people.faiss --device cuda --aligner faceembed-align --gpu-memory 8G
        faceembed embed /mnt/archive -o s3://bucket/people --ray auto
        faceembed embed --sample
    """
    if sample == bool(photos):
        raise click.UsageError("give PHOTOS, or --sample for sample photos" + (", not both" if sample else ""))
    if output is None and not sample:
        raise click.UsageError("say where the index goes, as in: -o people.faiss")
    if min_quality is not None:
        if models.min_score is not None:
            raise click.UsageError("--min-quality and --min-score are one setting; give one of them")
        models = dataclasses.replace(models, min_score=min_quality)
    if output is not None and is_dataset(output):
        _into_dataset(
            ctx,
            photos,
            output,
            ray,
            dtype,
            fresh,
            prune,
            access,
            choice,
            card.added_to(models.settings(faces=faces)),
            out,
        )
        return
    if ray is not None:
        raise click.UsageError("--ray computes a dataset, of which `faceembed index` makes an index; as in: -o people/")
    from faceembed.engine.verbs.embed import embed as embed_photos

    query = "QUERY.jpg"
    if sample:
        from faceembed.engine.photos import sample as samples

        folder = samples.sample_photos()
        photos, query = (str(folder),), str(folder / "small.jpg")
        output = output or str(samples.sample_home() / "index.faiss")
    assert output is not None
    if vectors is not None:
        from faceembed.engine.index.vectors import check_vectors_output  # with all of Arrow's functions
        from faceembed.engine.verbs.vectors import export_vectors

        check_vectors_output(vectors)
    ctx.meta[OUTPUT] = output
    again = "the same command without --fresh" if fresh else "the same command"
    ctx.meta[AFTER_INTERRUPT] = f"What was finished is kept; {again} goes on from there."
    with out.reporter() as reporter:
        report = embed_photos(
            given(photos),
            output,
            settings=card.added_to(models.settings(faces=faces)),
            index_type=index_type,
            fresh=fresh,
            prune=prune,
            check=check,
            exclude=choice.exclude,
            include=choice.include,
            pages=choice.pages,
            fps=choice.fps,
            notice=reporter.notice,
            progress=reporter.progress,
        )
        if vectors is not None:
            export_vectors(output, vectors, notice=reporter.notice)
    out.summary({**report.to_json_dict(), "index": encode_path(report.index)}, _summary(report, query))


def _into_dataset(
    ctx: click.Context,
    photos: tuple[str, ...],
    output: str,
    ray: str | None,
    dtype: str,
    fresh: bool,
    prune: bool,
    access: DatasetOptions,
    choice: Choice,
    settings: EmbedSettings,
    out: Output,
) -> None:
    for name, option in (("index_type", "--index"), ("check", "--check"), ("vectors", "--vectors")):
        if ctx.params[name]:
            raise click.UsageError(
                f"{option} is for an index; {output} is a dataset, of which `faceembed index` makes one"
            )
    from faceembed.engine.verbs.embed_dataset import embed_dataset

    ctx.meta[AFTER_INTERRUPT] = "What was finished is kept; the same command without --fresh goes on from there."
    with out.reporter() as reporter:
        report = embed_dataset(
            given(photos),
            output,
            settings=settings,
            ray=ray or "",
            access=access.access(),
            dtype=dtype,
            fresh=fresh,
            prune=prune,
            choice=choice,
            notice=reporter.notice,
            progress=reporter.progress,
        )
    out.summary(report.to_json_dict(), summary(report))


def _summary(report: EmbedReport, query: str) -> str:
    index = os.path.relpath(report.index) if report.index.startswith(os.getcwd() + os.sep) else report.index
    pace = f" in {clock(report.seconds)} ({per_second(report.images_per_second)})" if report.embedded else " to embed"
    lines = [f"{report.embedded:,} photos{pace}"]
    if report.skipped:
        lines[0] += f", {report.skipped:,} done before"
    for count, what in ((report.moved, "moved"), (report.touched, "touched"), (report.removed, "gone or changed")):
        if count:
            lines[0] += f", {count:,} {what}"
    lines.append(f"{report.faces:,} faces in {index}")
    if report.in_tracks:
        lines.append(f"{report.in_tracks:,} frames of videos are in tracks, each a row with its best frame")
    lines += several_taken(report.several_faces, "; --faces all takes all")
    if report.no_face or report.failed:
        errors = index + ".errors.csv"
        lines.append(f"{report.no_face:,} photos without a face, {report.failed:,} unreadable: see {errors}")
    lines.append(f"search it: faceembed search {shlex.quote(index)} {shlex.quote(query)}")
    return "\n".join(map(printable, lines))
