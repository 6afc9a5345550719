"""`faceembed search`: the faces of an index that are most similar to those of query photos."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from faceembed.cli.options import ModelOptions, Output, file_argument, model_options, output_options
from faceembed.engine.photos.listing import encode_path, printable

if TYPE_CHECKING:
    from faceembed.engine.index.store import Hit

    Found = list[tuple[str, list[Hit] | str]]


@click.command()
@file_argument("index")
@file_argument("queries", metavar="QUERY...", nargs=-1, required=True)
@click.option("-k", type=click.IntRange(min=1), default=10, show_default=True, help="Hits per query.")
@model_options
@output_options
def search(index: str, queries: tuple[str, ...], k: int, models: ModelOptions, out: Output) -> None:
    """Find the faces of an index most similar to a photo's.

    QUERY is a photo or a folder; the largest face of each photo is looked for. Similarities are cosines: the higher, the
    more alike.

    \b
    Example:
        faceembed search people.faiss query.jpg -k 5
        faceembed search people.faiss queries/ --json
    """
    from faceembed.engine.verbs.search import search as search_index

    with out.reporter() as reporter:
        found = search_index(index, list(queries), k=k, settings=models.settings(), notice=reporter.notice)
    out.result([_document(query, hits) for query, hits in found], _text(found))
    if all(isinstance(hits, str) for _, hits in found):
        raise click.ClickException(
            f"none of the {len(found)} query photos could be searched for; the reasons are above"
        )


def _document(query: str, hits: list[Hit] | str) -> dict[str, Any]:
    name = {"query": encode_path(query)}
    if isinstance(hits, str):
        return {**name, "hits": [], "reason": hits}
    rows = [{"path": encode_path(hit.path), "face": hit.face, "similarity": round(hit.similarity, 6)} for hit in hits]
    return {**name, "hits": rows}


def _text(found: Found) -> str:
    lines = []
    for query, hits in found:
        lines.append(printable(query))
        if isinstance(hits, str):
            lines.append(f"  not searched for: {hits}")
            continue
        for hit in hits:
            face = f"  (face {hit.face})" if hit.face else ""
            lines.append(f"  {hit.similarity:7.4f}  {printable(hit.path)}{face}")
    return "\n".join(lines)
