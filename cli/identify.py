"""`faceembed identify`: who is on photos."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from faceembed.cli import said
from faceembed.cli.options import (
    ModelOptions,
    Numbers,
    Output,
    file_argument,
    folder_options,
    given,
    model_options,
    output_options,
    several_option,
)
from faceembed.engine.photos.photo_file import encode_path, printable

if TYPE_CHECKING:
    from faceembed.engine.photos.left_out import Choice
    from faceembed.engine.verbs.identify import Identification, Identified


@click.command()
@file_argument("gallery")
@file_argument("photos", metavar="PHOTOS...", nargs=-1, required=True)
@click.option(
    "--fpir",
    type=Numbers(0, 1, min_open=True, max_open=True),
    help="The share of strangers who may be given a name; the threshold follows from it and the gallery's size.  [default: 0.01]",
)
@click.option(
    "--threshold", type=Numbers(-1, 1), help="Instead of --fpir: the similarity from which on a face is somebody's."
)
@click.option("--unknown", is_flag=True, help="Only faces of nobody in the gallery.")
@several_option
@folder_options
@model_options
@output_options
@click.pass_context
def identify(
    ctx: click.Context,
    gallery: str,
    photos: tuple[str, ...],
    fpir: float | None,
    threshold: float | None,
    unknown: bool,
    several: str | None,
    choice: Choice,
    models: ModelOptions,
    out: Output,
) -> None:
    """Say who is on photos: somebody of the gallery, or unknown.

    GALLERY is what enrol made; or a folder of people, or a table name,path, for a single run. PHOTOS are files, folders, and lists of
    them (@list.txt, or - for standard input); every face counts. The models are those that made the gallery.

    \b
    Example:
        faceembed identify staff.gallery party/
        faceembed identify known/ unknown/
        faceembed identify staff.gallery door/ --unknown --fpir 0.001
    """
    from faceembed.engine.verbs.identify import identify as identify_photos

    with out.reporter() as reporter:
        result = identify_photos(
            gallery,
            given(photos),
            settings=models.settings_for_gallery(ctx, gallery),
            fpir=fpir,
            threshold=threshold,
            several=several,
            exclude=choice.exclude,
            include=choice.include,
            pages=choice.pages,
            fps=choice.fps,
            notice=reporter.notice,
            progress=reporter.progress,
        )
    if unknown:
        result = _strangers(result)
    out.result(_document(result), "\n".join(_lines(result, unknown)))
    if result.photos and all(photo.reason is not None for photo in result.photos):
        raise click.ClickException(
            f"nobody could be looked for on any of {len(result.photos)} photos; the reasons are above"
        )


def _strangers(result: Identification) -> Identification:
    import dataclasses

    kept = [dataclasses.replace(p, faces=tuple(face for face in p.faces if face.name is None)) for p in result.photos]
    return dataclasses.replace(result, photos=[photo for photo in kept if photo.faces or photo.reason is not None])


def _document(result: Identification) -> dict[str, Any]:
    return {
        "people": result.people,
        "threshold": result.limit.threshold,
        "threshold_source": result.limit.source,
        "fpir": result.limit.fpir,
        "photos": [
            {
                "path": encode_path(photo.path),
                "reason": photo.reason,
                "faces": [
                    {
                        "face": face.face,
                        "box": [round(value, 2) for value in face.box],
                        "name": face.name,
                        "candidates": [
                            {"name": one.name, "similarity": round(one.similarity, 6)} for one in face.candidates
                        ],
                    }
                    for face in photo.faces
                ],
            }
            for photo in result.photos
        ],
    }


def _lines(result: Identification, unknown: bool) -> list[str]:
    lines = []
    for photo in result.photos:
        found = photo.reason if photo.reason is not None else ", ".join(map(_said, photo.faces))
        lines.append(f"{printable(photo.path)}: {found}")
    if not lines:
        lines.append("everybody is in the gallery" if unknown else "no photos")
    limit = result.limit
    return [*lines, f"{said.people(result.people)}, threshold {limit.threshold:.4f} ({limit.source})"]


def _said(face: Identified) -> str:
    best = face.candidates[0]
    if face.name is not None:
        return f"{printable(face.name)} ({best.similarity:.4f})"
    return f"unknown (nearest {printable(best.name)}, {best.similarity:.4f})"
