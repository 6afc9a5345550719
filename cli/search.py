"""`faceembed search`: the faces of an index that are most similar to those of query photos."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import click

from faceembed.cli.options import (
    ModelOptions,
    Output,
    faces_option,
    file_argument,
    fmr_option,
    folder_options,
    given,
    model_options,
    output_options,
    threshold_option,
)
from faceembed.cli.said import altered, moment
from faceembed.engine.photos.photo_file import encode_path, printable

if TYPE_CHECKING:
    from faceembed.engine.index.store import Track
    from faceembed.engine.photos.left_out import Choice
    from faceembed.engine.verbs.search import Query


@click.command()
@file_argument("index")
@file_argument("queries", metavar="QUERY...", nargs=-1, required=True)
@click.option("-k", type=click.IntRange(min=1), default=10, show_default=True, help="Hits per query.")
@threshold_option
@fmr_option
@faces_option
@folder_options
@model_options
@output_options
def search(
    index: str,
    queries: tuple[str, ...],
    k: int,
    threshold: float | None,
    fmr: float | None,
    faces: str,
    choice: Choice,
    models: ModelOptions,
    out: Output,
) -> None:
    """Find the faces of an index most similar to a photo's.

    QUERY is a photo (in an archive: photos.zip::a.jpg), a folder, or a list of them (@list.txt, or - for standard input); the largest face of each photo is looked for, or with --faces all every one. Similarities are
    cosines: the higher, the more alike. What is below the threshold is marked: it is no match, only the nearest there is.

    \b
    Example:
        faceembed search people.faiss query.jpg -k 5
        faceembed search people.faiss queries/ --json
    """
    from faceembed.engine.verbs.search import search_faces

    with out.reporter() as reporter:
        found = search_faces(
            index,
            given(queries),
            k=k,
            settings=models.settings(faces=faces),
            count=True,
            threshold=threshold,
            fmr=fmr,
            exclude=choice.exclude,
            include=choice.include,
            pages=choice.pages,
            fps=choice.fps,
            notice=reporter.notice,
        )
    out.result(
        [_document(query) for query in found],
        "\n".join(line for query in found for line in _lines(query, every=faces == "all")),
    )
    if all(query.reason is not None for query in found):
        raise click.ClickException(
            f"none of the {len(found)} query photos could be searched for; the reasons are above"
        )


def _document(query: Query) -> dict[str, Any]:
    threshold = query.threshold
    name = {"query": encode_path(query.path)}
    if query.reason is not None:
        return {**name, "hits": [], "reason": query.reason}
    rows = [
        {
            "path": encode_path(hit.path),
            "face": hit.face,
            "similarity": round(hit.similarity, 6),
            "same": None if threshold is None else hit.similarity >= threshold,
            "identity": None if alike.identity is None else round(alike.identity, 6),
            "real": None if hit.real is None else round(hit.real, 6),
            "altered": alike.altered[1],
            "track": _span(hit.track),
        }
        for hit, alike in zip(query.hits, query.likenesses, strict=True)
    ]
    real = None if query.real is None else round(query.real, 6)
    looked_for = {
        "face": query.face,
        "faces": query.faces,
        "real": real,
        "altered": query.altered,
        "track": _span(query.track),
    }
    return {**name, **looked_for, "threshold": threshold, "hits": rows}


def _span(track: Track | None) -> dict[str, int] | None:
    return None if track is None else dataclasses.asdict(track)


def _from_to(track: Track | None) -> str:
    """When a track of a video begins and ends."""
    return "" if track is None else f"  (from {moment(track.first_ms)} to {moment(track.last_ms)})"


def _lines(query: Query, *, every: bool) -> list[str]:
    threshold = query.threshold
    several = query.faces > 1
    which = f"face {query.face} of {query.faces}" if every else f"{query.faces} faces, the largest is looked for"
    lines = [printable(query.path) + (f"  ({which})" if several else "")]
    if query.reason is not None:
        return [*lines, f"  not searched for: {query.reason}"]
    lines[0] += _from_to(query.track)
    if said := altered(query.real, query.altered):
        lines[0] += f"  ({said})"
    for hit, alike in zip(query.hits, query.likenesses, strict=True):
        face = f"  (face {hit.face})" if hit.face else ""
        below = threshold is not None and hit.similarity < threshold
        marks = f"  below the threshold of {threshold:.4f}" if below else ""
        if alike.identity is not None and below:
            marks += f", by identity {alike.identity:.4f}"
        if said := altered(hit.real, alike.altered[1]):
            marks += f"  {said}"
        face += _from_to(hit.track)
        lines.append(f"  {hit.similarity:7.4f}  {printable(hit.path)}{face}{marks}")
    return lines
