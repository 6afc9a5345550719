"""Faces of frames joined into tracks: who goes on with whom, what a track's row says, and that every frame is accounted for."""

from __future__ import annotations

import dataclasses
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from faceembed.engine.index.shards import FaceTable
from faceembed.engine.index.tracks import LOST_MS, NEAR_MS, TRACK, Joiner, Seen, TrackRule, joined, tracks_of
from faceembed.engine.models.registry import resolve
from faceembed.engine.photos.archives.video import name_of
from faceembed.engine.photos.failures import Failure
from faceembed.engine.photos.photo_file import PhotoFile, encode_path
from faceembed.engine.photos.rows import FACE_SCHEMA, file_columns

RULE = TrackRule(alike=0.9, likely=0.6)
HERE, THERE = (10.0, 10.0, 50.0, 50.0), (200.0, 10.0, 240.0, 50.0)
Box = tuple[float, float, float, float]


def person(angle: float) -> NDArray[np.float32]:
    """A unit vector; two are alike by the cosine of the angle between them, in degrees."""
    return np.array([np.cos(np.radians(angle)), np.sin(np.radians(angle)), 0, 0], np.float32)


def frame(seconds: float, video: str = "/v/party.mp4") -> str:
    return f"{video}::{name_of(seconds)}"


def seen(*faces: tuple[str, Box, float, float]) -> Seen:
    """Path, box, angle and norm of each."""
    paths, boxes, angles, norms = zip(*faces, strict=True)
    return Seen(paths, np.array(boxes, np.float32), list(norms), np.stack([person(angle) for angle in angles]))


def spans(found: Seen, rule: TrackRule = RULE) -> list[tuple[int, int, int]]:
    """First and last time and best row of each track."""
    return sorted((track.first_ms, track.last_ms, track.best) for track in tracks_of(found, rule))


def test_one_person_is_one_track_wherever_they_are() -> None:
    found = seen((frame(0), HERE, 0, 1), (frame(1), THERE, 5, 3), (frame(2), HERE, 10, 2))
    assert spans(found) == [(0, 2000, 1)]


@pytest.mark.parametrize(
    ("angle", "box", "seconds", "tracks"),
    [
        (20, THERE, 1, 1),  # alike
        (40, HERE, 1, 1),  # likely, and in place
        (40, THERE, 1, 2),  # likely, elsewhere
        (40, HERE, NEAR_MS / 1000, 1),
        (40, HERE, NEAR_MS / 1000 + 0.1, 2),  # too late for the place to say anything
        (60, HERE, 1, 2),  # somebody else in the place
        (0, HERE, LOST_MS / 1000, 1),
        (0, HERE, LOST_MS / 1000 + 0.1, 2),  # out of sight for too long
    ],
)
def test_who_goes_on(angle: float, box: Box, seconds: float, tracks: int) -> None:
    assert len(spans(seen((frame(3), HERE, 0, 1), (frame(3 + seconds), box, angle, 1)))) == tracks


def test_two_people_who_change_places() -> None:
    found = seen((frame(0), HERE, 0, 1), (frame(0), THERE, 80, 1), (frame(1), THERE, 3, 2), (frame(1), HERE, 77, 2))
    assert spans(found) == [(0, 1000, 2), (0, 1000, 3)]


def test_of_a_frame_one_face_goes_with_a_track() -> None:
    """A picture of somebody on the wall behind them: both are alike to the track, the more alike one goes on with it."""
    found = seen((frame(0), HERE, 0, 1), (frame(1), THERE, 15, 1), (frame(1), HERE, 2, 1))
    assert [sorted(track.rows) for track in tracks_of(found, RULE)] == [[0, 2], [1]]


def test_videos_and_photos_do_not_mix() -> None:
    found = seen(
        (frame(1, "/v/b.mkv"), HERE, 0, 1), (frame(0), HERE, 0, 1), ("/v/a.jpg", HERE, 0, 1), ("/v/x.zip::00:00:01.000", HERE, 0, 1)
    )  # fmt: skip
    assert spans(found) == [(0, 0, 1), (1000, 1000, 0)]


def table(found: Seen) -> FaceTable:
    files = [PhotoFile(path, 5, 7, 8, "d") for path in found.paths]
    boxes = found.boxes
    columns = {
        **dict.fromkeys(FACE_SCHEMA.names, [0] * len(files)),
        **file_columns(files),
        **{name: [None] * len(files) for name in ("real", "first_ms", "last_ms", "frames")},
        "face_id": list(range(len(files))),
        "landmarks": [[0.0] * 10] * len(files),
        "norm": list(found.norms),
        **dict(zip("xywh", (boxes[:, 0], boxes[:, 1], *(boxes[:, 2:] - boxes[:, :2]).T), strict=True)),
    }
    return FaceTable(pa.table([pa.array(columns[f.name], f.type) for f in FACE_SCHEMA], FACE_SCHEMA), found.vectors)


def test_rows_and_what_becomes_of_the_other_frames() -> None:
    found = seen(
        ("/v/a.jpg", HERE, 0, 1), (frame(0), HERE, 0, 1), (frame(0), THERE, 80, 9), (frame(1), HERE, 5, 3), (frame(2), HERE, 5, 2)
    )  # fmt: skip
    faces = table(found)
    left, lost = joined(faces, RULE)
    rows = left.rows.select(["face_id", "first_ms", "last_ms", "frames"]).to_pylist()
    assert [tuple(row.values()) for row in rows] == [(0, None, None, None), (2, 0, 0, 1), (3, 0, 2000, 3)]
    np.testing.assert_array_equal(left.vectors, faces.vectors[[0, 2, 3]])
    assert [(row.photo, row.stage) for row in lost] == [(PhotoFile(frame(2), 5, 7, 8, "d"), TRACK)]
    assert lost[0].reason == "its face is in the track that is shown best at 00:00:01.000"
    assert left.rows.schema == FACE_SCHEMA


@pytest.mark.parametrize("cuts", [[], [1], [4], [2, 5], [1, 2, 3, 4, 5, 6, 7, 8]])
def test_pieces_make_the_tracks_of_the_whole(cuts: list[int]) -> None:
    """Wherever the pieces end, also in the middle of a video; photos come through at once."""
    paths = [
        "/v/a.jpg",
        *(frame(n, "/v/b.mp4") for n in range(4)),
        *(frame(n, "/v/c.mp4") for n in range(3)),
        "/v/d.jpg",
    ]
    faces = table(seen(*[(path, HERE, 3 * n, n) for n, path in enumerate(paths)]))
    whole, lost = joined(faces, RULE)
    failures: dict[str, Failure] = {}
    joiner = Joiner(RULE, 4)
    parts = [joiner.add(faces.rows_at(list(range(*span))), failures) for span in pairwise([0, *cuts, len(paths)])]
    assert "/v/a.jpg" in [photo.path for photo in parts[0].photos()]
    parts.append(joiner.rest(failures))
    rows = [row for part in parts for row in part.rows.to_pylist()]
    assert sorted(rows, key=lambda row: row["path"]) == whole.rows.to_pylist()
    assert {failure.photo.path: failure for failure in lost} == failures
    assert len(whole) == 4 and not len(joiner.rest(failures))


def test_without_a_rule_faces_stay_a_row_a_frame() -> None:
    faces = table(seen((frame(0), HERE, 0, 1), (frame(1), HERE, 0, 1)))
    joiner = Joiner(None, 4)
    assert joiner.add(faces, {}) is faces and not len(joiner.rest({}))


def test_without_videos_nothing_is_touched() -> None:
    faces = table(seen(("/v/a.jpg", HERE, 0, 1), ("/v/b.jpg", HERE, 0, 1)))
    assert joined(faces, RULE) == (faces, [])


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 20), st.sampled_from([HERE, THERE]), st.integers(0, 90), st.integers(1, 9)),
        max_size=30,
    )
)
def test_every_face_is_in_one_track_and_every_frame_accounted_for(faces: list[tuple[int, Box, int, int]]) -> None:
    found = seen(*[(frame(s / 2), box, angle, norm) for s, box, angle, norm in faces]) if faces else None
    if found is None:
        return
    tracks = tracks_of(found, RULE)
    assert sorted(row for track in tracks for row in track.rows) == list(range(len(faces)))
    for track in tracks:
        times = [faces[row][0] * 500 for row in track.rows]
        assert times == sorted(set(times)) and (track.first_ms, track.last_ms) == (times[0], times[-1])
        assert max(np.diff(times), default=0) <= LOST_MS
        assert faces[track.best][3] == max(faces[row][3] for row in track.rows)
    left, lost = joined(table(found), RULE)
    with_row = {encode_path(photo.path) for photo in left.photos()}
    assert with_row | {failure.photo.path for failure in lost} == set(found.paths)
    assert not with_row & {failure.photo.path for failure in lost} and len(left) == len(tracks)
    order = np.random.default_rng(len(faces)).permutation(len(faces))
    again = tracks_of(
        Seen(
            [found.paths[i] for i in order], found.boxes[order], [found.norms[i] for i in order], found.vectors[order]
        ),
        RULE,
    )
    assert len({(t.first_ms, t.last_ms) for t in again}) > 0 and sum(len(t.rows) for t in again) == len(faces)


def test_the_rule_is_the_encoders() -> None:
    spec = resolve("faceembed-r29", task="encoder").spec
    (usual,) = [level.threshold for level in spec.thresholds if level.fmr == 1e-3]
    assert TrackRule.of(spec) == TrackRule(usual, spec.threshold or 0) and spec.threshold and spec.threshold < usual
    assert TrackRule.of(dataclasses.replace(spec, thresholds=())) == TrackRule(spec.threshold, spec.threshold)
    assert TrackRule.of(dataclasses.replace(spec, thresholds=(), threshold=None)) is None
