"""Who is judged: the same faces, and the same count of others, come out as if all had been judged."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from faceembed.engine.detect.detections import Detections
from faceembed.engine.detect.leading import Leader, Sighted, every_one
from faceembed.engine.native import _native

PHOTOS, SURE, LEAST, OVERLAP = 4, 0.6, 0.2, 0.45
SIZES = np.full((PHOTOS, 2), 1000.0)


def faces_at(places: list[tuple[int, int, int]], scores: list[float]) -> Detections:
    """Faces of 10 to 90 px in cells of 100 px of their photos, so that no two of different cells touch."""
    boxes = [(100 * cell, 400, 100 * cell + side, 400 + side) for _, cell, side in places]
    return Detections(
        np.array([photo for photo, _, _ in places], np.int32),
        np.array(boxes, np.float32).reshape(-1, 4),
        np.zeros((len(places), 5, 2), np.float32),
        np.array(scores, np.float32),
    )


class Judge:
    """Lowers scores as it was told, and counts whom it saw; a face is known by its box."""

    def __init__(self, faces: Detections, final: list[float]) -> None:
        self.final = {
            box.tobytes(): score for box, score in zip(faces.boxes + faces.photo[:, None], final, strict=True)
        }
        self.seen = 0

    def __call__(self, faces: Detections) -> Detections:
        self.seen += len(faces)
        final = [self.final[box.tobytes()] for box in faces.boxes + faces.photo[:, None]]
        scores = np.minimum(faces.scores, np.array(final, np.float32))
        return dataclasses.replace(faces, scores=scores, landmarks=faces.landmarks + 1)


def leader(judge: Judge) -> Leader:
    return Leader(judge, SIZES, SURE, LEAST, OVERLAP)


faces_and_scores = st.lists(
    st.tuples(st.integers(0, PHOTOS - 1), st.integers(0, 9), st.integers(10, 90), st.floats(0.2, 1), st.floats(0, 1)),
    max_size=25,
    unique_by=lambda face: face[:2],
)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(given=faces_and_scores)
def test_as_if_all_had_been_judged(given: list[tuple[int, int, int, float, float]]) -> None:
    faces = faces_at([face[:3] for face in given], [face[3] for face in given])
    judge = Judge(faces, [face[4] for face in given])
    found = leader(judge).largest(Sighted.new(faces))
    everybody = Judge(faces, [face[4] for face in given])(faces)
    expected = everybody.take(everybody.scores >= np.float32(LEAST)).largest(SIZES, SURE)
    np.testing.assert_array_equal(found.photo, expected.photo)
    np.testing.assert_array_equal(found.boxes, expected.boxes)
    np.testing.assert_array_equal(found.scores, expected.scores)
    np.testing.assert_array_equal(found.landmarks, 1 + 0 * found.landmarks)  # each was judged, once
    assert found.beside is not None and expected.beside is not None
    np.testing.assert_array_equal(found.beside, expected.beside)
    assert judge.seen <= len(faces)


def test_who_cannot_lead_nor_count_is_not_judged() -> None:
    faces = faces_at([(0, 0, 80), (0, 3, 40), (0, 5, 30), (1, 4, 20)], [0.9, 0.5, 0.7, 0.95])
    judge = Judge(faces, [0.8, 0.1, 0.65, 0.95])
    found = leader(judge).largest(Sighted.new(faces))
    assert found.boxes[:, 0].tolist() == [0, 400] and found.beside is not None
    assert found.beside.tolist() == [1, 0]
    assert judge.seen == 3  # not the second, which is no sure face whatever is said of it


@pytest.mark.parametrize(("final", "chosen", "seen"), [([0.7, 0.8], 81, 2), ([0.7, 0.1], 80, 2), ([0.1, 0.65], 81, 2)])
def test_of_two_looks_answers_for_a_face_the_surer_is_taken(final: list[float], chosen: int, seen: int) -> None:
    faces = faces_at([(2, 1, 80), (2, 1, 81)], [0.9, 0.85])
    judge = Judge(faces, final)
    found = leader(judge).largest(Sighted.new(faces))
    assert len(found) == 1 and found.boxes[0, 2] == 100 + chosen
    assert found.beside is not None and found.beside.tolist() == [0]
    assert judge.seen == seen


def test_nothing_is_judged_where_nothing_is() -> None:
    judge = Judge(Detections.none(), [])
    assert len(leader(judge).largest(Sighted.new(Detections.none()))) == 0 and judge.seen == 0


two_looks = st.lists(
    st.tuples(
        st.tuples(st.integers(0, PHOTOS - 1), st.integers(0, 5), st.integers(10, 90)),
        st.floats(0, 1),  # how much of the first look's box the second look's answer for a face takes
        st.tuples(st.floats(0.2, 1), st.floats(0.2, 1)),
        st.tuples(st.floats(0, 1), st.floats(0, 1)),
    ),
    max_size=20,
    unique_by=lambda face: face[0][:2],
)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(given=two_looks)
def test_every_face_is_one_answer_as_if_all_had_been_judged(
    given: list[tuple[tuple[int, int, int], float, tuple[float, float], tuple[float, float]]],
) -> None:
    first = faces_at([face[0] for face in given], [face[2][0] for face in given])
    second = faces_at([face[0] for face in given], [face[2][1] for face in given])
    shares = np.array([face[1] for face in given], np.float32)
    second.boxes[:, 2] -= shares * (second.boxes[:, 2] - second.boxes[:, 0]) / 2
    faces = Detections.concatenate([first, second])
    final = [face[3][0] for face in given] + [face[3][1] for face in given]
    distinct = len({box.tobytes() for box in faces.boxes + faces.photo[:, None]}) == len(faces)
    if not distinct:  # a judge knows a face by its box
        final = [face[3][0] for face in given] * 2
    judge = Judge(faces, final)
    found = every_one(judge, faces, LEAST, OVERLAP)
    everybody = Judge(faces, final)(faces)
    everybody = everybody.take(everybody.scores >= np.float32(LEAST))
    kept = _native.nms(everybody.boxes, everybody.scores, everybody.photo, OVERLAP, "union")
    expected = everybody.take(kept)
    assert sorted(zip(found.photo.tolist(), found.scores.tolist(), strict=True)) == sorted(
        zip(expected.photo.tolist(), expected.scores.tolist(), strict=True)
    )
    np.testing.assert_array_equal(found.landmarks, 1 + 0 * found.landmarks)  # each was judged, once
    assert judge.seen <= len(faces)


@pytest.mark.parametrize(
    ("final", "scores", "asked"),
    [
        ([0.93, 0.75], [0.93, 0.75], 2),  # the surer answer for each
        ([0.85, 0.75], [0.85, 0.75], 3),  # the first face's other answer might be surer after all
        ([0.1, 0.75], [0.75], 3),
    ],
)
def test_of_two_looks_the_judge_sees_what_may_win(final: list[float], scores: list[float], asked: int) -> None:
    faces = faces_at([(0, 0, 80), (0, 3, 40), (0, 0, 80), (0, 3, 40)], [0.9, 0.8, 0.95, 0.7])
    judge = Judge(faces.take(np.array([0, 1])), final)
    found = every_one(judge, faces, LEAST, OVERLAP)
    assert found.scores.tolist() == pytest.approx(scores)
    assert judge.seen == asked
