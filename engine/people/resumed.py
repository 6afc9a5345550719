"""Photos of people, embedded a few hundred at a time, each lot put aside, so that a run that is ended loses little."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from faceembed.engine.people import enrolling
from faceembed.engine.people.gallery import Photo
from faceembed.engine.people.partial import Partial
from faceembed.engine.photos.photo_file import decode_path, encode_path, photo_file
from faceembed.engine.pipeline import loading
from faceembed.engine.pipeline.progress import Notify, OnProgress, Progress
from faceembed.engine.pipeline.settings import EmbedSettings

TOGETHER = 256
"""Photos after which what is done is put aside."""


def embed_todo(
    todo: Sequence[tuple[str, str]],
    settings: EmbedSettings,
    models: loading.Models,
    rule: enrolling.Rule,
    work: Partial,
    notice: Notify,
    progress: OnProgress,
) -> list[Photo]:
    """A row for each photo, in their order: those that an earlier run put aside, and the others, which are put aside as they are done."""
    aside = {(photo.person, photo.path): photo for photo in work.photos()} if todo else {}
    done = {entry: aside[key] for entry in todo if unchanged(aside.get(key := (entry[0], encode_path(entry[1]))))}
    if done:
        notice(f"{len(done):,} of {len(todo):,} photos were embedded by a run that did not end")
    left = [entry for entry in todo if entry not in done]
    for start in range(0, len(left), TOGETHER):
        part = left[start : start + TOGETHER]
        before = len(done)

        def further(of: Progress, before: int = before) -> None:
            progress(dataclasses.replace(of, done=before + of.done, total=len(todo), faces=before + of.faces))

        found = enrolling.embed_people(
            part,
            settings,
            models,
            rule=rule,
            notice=notice if not start else _quiet,
            progress=further,
        )
        done |= dict(zip(part, found, strict=True))
        if len(left) > TOGETHER:
            work.keep(found)
    return [done[entry] for entry in todo]


def _quiet(line: str) -> None:
    """Which runtime computes was said of the photos before."""


def unchanged(photo: Photo | None) -> bool:
    """Whether a photo of the gallery can be used and its file is as it was."""
    if photo is None or photo.embedding is None:
        return False
    now = photo_file(decode_path(photo.path))
    return now.stamp == (photo.row["size"], photo.row["mtime_ns"])
