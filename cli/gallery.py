"""`faceembed enrol` and `faceembed gallery`: people by name, for `identify`."""

from __future__ import annotations

import dataclasses
import os
from typing import TYPE_CHECKING

import click

from faceembed.cli import said
from faceembed.cli.group import AFTER_INTERRUPT, OUTPUT, Group
from faceembed.cli.options import (
    ModelOptions,
    Numbers,
    Output,
    file_argument,
    file_option,
    folder_options,
    model_options,
    output_file_option,
    output_options,
    several_option,
)
from faceembed.engine.photos.photo_file import decode_path, encode_path, printable

if TYPE_CHECKING:
    from faceembed.engine.photos.left_out import Choice
    from faceembed.engine.verbs.gallery import GalleryReport

_root_option = file_option("--root", help="Folder of a table's photos, where it does not say.")
_min_quality_option = click.option(
    "--min-quality",
    type=Numbers(0, 1),
    help="Photos whose face has a lower score, as the aligner gives it, are not used.  [default: the gallery's, or 0]",
)
_SHOWN = 20  # photos that cannot be used, in text


@click.command()
@file_argument("people", metavar="PEOPLE...", nargs=-1, required=True)
@output_file_option("-o", "--output", kind="gallery", required=True, metavar="FILE", help="The gallery.")
@_root_option
@_min_quality_option
@several_option
@folder_options
@model_options
@output_options
@click.pass_context
def enrol(
    ctx: click.Context,
    people: tuple[str, ...],
    output: str,
    root: str | None,
    min_quality: float | None,
    several: str | None,
    choice: Choice,
    models: ModelOptions,
    out: Output,
) -> None:
    """Make a gallery of people, or add people to one.

    PEOPLE is a folder with a folder of photos for each person, or a photo that bears their name; or a table with the columns
    name and path. Photos with several faces are not used, unless --several says so.

    \b
    Example:
        faceembed enrol people/ -o staff.gallery
        faceembed enrol people.csv -o staff.gallery
    """
    from faceembed.engine.verbs.gallery import enrol as enrol_people

    ctx.meta[OUTPUT] = output
    ctx.meta[AFTER_INTERRUPT] = "What was embedded is kept; the same command goes on from there."
    with out.reporter() as reporter:
        report = enrol_people(
            people,
            output,
            settings=models.settings_for_gallery(ctx, output),
            several=several,
            min_quality=min_quality,
            root=root,
            choice=choice,
            notice=reporter.notice,
            progress=reporter.progress,
        )
    out.summary(dataclasses.asdict(report), _summary(report))


@click.group(cls=Group)
def gallery() -> None:
    """Change who is in a gallery, or see it.

    \b
    Example:
        faceembed gallery list staff.gallery
    """


@gallery.command("list")
@file_argument("path", metavar="GALLERY")
@output_options
def list_(path: str, out: Output) -> None:
    """List the people of a gallery and how many photos of each can be used.

    \b
    Example:
        faceembed gallery list staff.gallery
    """
    from faceembed.engine.verbs.gallery_people import list_people

    people = list_people(path)
    document = [
        {
            "name": person.name,
            "photos": len(person.usable),
            "paths": [photo.path for photo in person.usable],
            "unusable": [
                {"path": photo.path, "reason": photo.reason} for photo in person.photos if photo.reason is not None
            ],
        }
        for person in people
    ]
    lines = []
    for person in people:
        lost = len(person.photos) - len(person.usable)
        lines.append(
            f"{printable(person.name)}: {said.photos(len(person.usable))}"
            + (f", {lost:,} cannot be used" if lost else "")
        )
    out.result(document, "\n".join(lines) or "nobody is in it")


@gallery.command()
@file_argument("path", metavar="GALLERY")
@file_argument("people", metavar="PEOPLE...", nargs=-1, required=True)
@_root_option
@_min_quality_option
@several_option
@folder_options
@model_options
@output_options
@click.pass_context
def add(
    ctx: click.Context,
    path: str,
    people: tuple[str, ...],
    root: str | None,
    min_quality: float | None,
    several: str | None,
    choice: Choice,
    models: ModelOptions,
    out: Output,
) -> None:
    """Add people, or photos of people, to a gallery.

    PEOPLE is as for enrol. Photos that are in it already and have not changed are not computed again.

    \b
    Example:
        faceembed gallery add staff.gallery new/
    """
    from faceembed.engine.verbs.gallery import add as add_people

    ctx.meta[OUTPUT] = path
    with out.reporter() as reporter:
        report = add_people(
            path,
            people,
            settings=models.settings_for_gallery(ctx, path),
            several=several,
            min_quality=min_quality,
            root=root,
            choice=choice,
            notice=reporter.notice,
            progress=reporter.progress,
        )
    out.summary(dataclasses.asdict(report), _summary(report))


@gallery.command()
@file_argument("path", metavar="GALLERY")
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@output_options
@click.pass_context
def remove(ctx: click.Context, path: str, names: tuple[str, ...], out: Output) -> None:
    """Take people out of a gallery, with all that it keeps of them.

    \b
    Example:
        faceembed gallery remove staff.gallery 'Ann Lee'
    """
    from faceembed.engine.verbs.gallery_people import remove as remove_people

    ctx.meta[OUTPUT] = path
    gone = remove_people(path, names)
    document = {"removed": [person.name for person in gone], "photos": sum(len(person.photos) for person in gone)}
    out.summary(document, f"taken out: {', '.join(printable(person.name) for person in gone)}")


@gallery.command()
@file_argument("path", metavar="GALLERY")
@click.argument("name")
@click.argument("new")
@click.option("--merge", is_flag=True, help="Put them together with whoever has the new name already.")
@output_options
@click.pass_context
def rename(ctx: click.Context, path: str, name: str, new: str, merge: bool, out: Output) -> None:
    """Call somebody of a gallery by another name.

    \b
    Example:
        faceembed gallery rename staff.gallery ann 'Ann Lee'
    """
    from faceembed.engine.verbs.gallery_people import rename as rename_person

    ctx.meta[OUTPUT] = path
    rename_person(path, name, new, merge=merge)
    out.summary({"name": name, "new": new}, f"{printable(name)} is called {printable(new)} now")


@gallery.command()
@file_argument("path", metavar="GALLERY")
@click.argument("name")
@click.argument("new")
@file_argument("photos", metavar="PHOTO...", nargs=-1, required=True)
@click.option("--merge", is_flag=True, help="Add them to the photos of whoever has the new name already.")
@output_options
@click.pass_context
def split(
    ctx: click.Context, path: str, name: str, new: str, photos: tuple[str, ...], merge: bool, out: Output
) -> None:
    """Give some photos of somebody to another name, as where two people were taken for one.

    \b
    Example:
        faceembed gallery split staff.gallery ann eve people/ann/3.jpg
    """
    from faceembed.engine.verbs.gallery_people import split as split_person

    ctx.meta[OUTPUT] = path
    paths = [encode_path(photo if photo.startswith("upload:") else os.path.abspath(photo)) for photo in photos]
    moved, left = split_person(path, name, new, paths, merge=merge)
    text = f"{printable(new)} has {said.photos(moved)} now, {printable(name)} {left:,}"
    out.summary({"name": new, "photos": moved, "left": left}, text)


@gallery.command()
@file_argument("path", metavar="GALLERY")
@click.option("--drop-missing", is_flag=True, help="Leave out photos that are gone or cannot be read.")
@_min_quality_option
@several_option
@model_options
@output_options
@click.pass_context
def update(
    ctx: click.Context,
    path: str,
    drop_missing: bool,
    min_quality: float | None,
    several: str | None,
    models: ModelOptions,
    out: Output,
) -> None:
    """Embed all photos of a gallery again, as for another encoder; names stay.

    \b
    Example:
        faceembed gallery update staff.gallery --encoder sface
    """
    from faceembed.engine.verbs.gallery import update as update_gallery

    ctx.meta[OUTPUT] = path
    with out.reporter() as reporter:
        report = update_gallery(
            path,
            settings=models.settings(),
            several=several,
            min_quality=min_quality,
            drop_missing=drop_missing,
            notice=reporter.notice,
            progress=reporter.progress,
        )
    out.summary(dataclasses.asdict(report), _summary(report))


def _summary(report: GalleryReport) -> str:
    lines = [f"{said.people(report.people)}, {said.photos(report.photos)} in {report.gallery}"]
    for photo in report.unusable[:_SHOWN]:
        lines.append(f"not used: {decode_path(photo['path'])} of {photo['person']}: {photo['reason']}")
    if len(report.unusable) > _SHOWN:
        lines.append(f"not used: {len(report.unusable) - _SHOWN:,} more; see: faceembed gallery list --json")
    if report.without:
        lines.append(f"nobody can be taken for, as no photo of them can be used: {', '.join(report.without)}")
    return "\n".join(map(printable, lines))
