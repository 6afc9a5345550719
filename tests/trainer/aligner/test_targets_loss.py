"""Which cells learn which face, and what an answer costs."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from faceembed.engine.detect.oneshot import decode
from faceembed.trainer.aligner.loss import LossSettings, aligner_loss, flatten
from faceembed.trainer.aligner.targets import assign, points

SIDE = 192
PLACES, STRIDES = points(SIDE, SIDE)
NONE = np.zeros((0, 4), np.float32)
EVEN = np.ones((1, 5), np.float32)


def one_face(side: float, x: float = 100.0, y: float = 90.0) -> tuple[np.ndarray, np.ndarray]:
    box = np.array([[x - side / 2, y - side / 2, x + side / 2, y + side / 2]], np.float32)
    landmarks = (np.array([(-1, -1), (1, -1), (0, 0), (-1, 1), (1, 1)]) * side / 5 + (x, y)).astype(np.float32)
    return box, landmarks[None]


def perfect(state: np.ndarray, values: np.ndarray) -> torch.Tensor:
    """Answers (1, P, 15) that say exactly what is to be learnt."""
    answers = np.zeros((len(state), 15), np.float32)
    answers[:, 0] = np.where(state == 1, 20.0, -20.0)
    low, high = PLACES - values[:, :2], values[:, 2:4] - PLACES
    answers[:, 1:5] = np.log(np.maximum(np.concatenate([low, high], 1), 1e-3) / STRIDES[:, None])
    answers[:, 5:] = ((values[:, 4:14].reshape(-1, 5, 2) - PLACES[:, None]) / STRIDES[:, None, None]).reshape(-1, 10)
    return torch.from_numpy(answers[None])


def test_points_are_the_middles_of_cells() -> None:
    assert len(PLACES) == 24**2 + 12**2 + 6**2
    assert PLACES[0].tolist() == [4, 4] and PLACES[1].tolist() == [12, 4] and PLACES[24].tolist() == [4, 12]
    assert PLACES[576].tolist() == [8, 8] and STRIDES[576] == 16
    assert PLACES[-1].tolist() == [176, 176] and STRIDES[-1] == 32


def test_a_face_is_learnt_at_its_stride_near_its_centre() -> None:
    for side, expected in ((20, {8}), (34, {8, 16}), (50, {16}), (70, {16, 32}), (150, {32})):
        targets = assign(*one_face(side), EVEN, NONE, PLACES, STRIDES)
        chosen = targets.state == 1
        assert set(STRIDES[chosen].tolist()) == expected, side
        off = np.abs(PLACES[chosen] - (100, 90)).max(axis=1) / STRIDES[chosen]
        assert (off <= 1).all() and chosen.sum() >= 4
        np.testing.assert_array_equal(targets.values[chosen][:, :4], np.repeat(one_face(side)[0], chosen.sum(), 0))
        assert (targets.values[~chosen] == 0).all()


def test_doubtful_boxes_teach_nothing_and_faces_outrank_them() -> None:
    box, landmarks = one_face(20)
    doubtful = np.array([[80, 70, 120, 110], [0, 0, 17, 9]], np.float32)
    state = assign(box, landmarks, EVEN, doubtful, PLACES, STRIDES).state
    assert (state == 1).sum() == (assign(box, landmarks, EVEN, NONE, PLACES, STRIDES).state == 1).sum()
    assert state[0] == state[1] == -1 and state[24] == 0  # points (4, 4), (12, 4), (4, 12)


def test_of_two_faces_a_cell_learns_the_nearer() -> None:
    a, b = one_face(20, 60, 60), one_face(20, 72, 60)
    both = [np.concatenate(pair) for pair in zip(a, b, strict=True)]
    targets = assign(*both, np.repeat(EVEN, 2, axis=0), NONE, PLACES, STRIDES)
    for place, value in zip(PLACES[targets.state == 1], targets.values[targets.state == 1], strict=True):
        centre = (value[0] + value[2]) / 2
        assert abs(place[0] - centre) <= abs(place[0] - (132 - centre)) + 1e-4


def test_perfect_answers_cost_nothing_and_decode_to_the_face() -> None:
    box, landmarks = one_face(40)
    targets = assign(box, landmarks, EVEN, NONE, PLACES, STRIDES)
    answers = perfect(targets.state, targets.values)
    parts = aligner_loss(
        answers,
        torch.from_numpy(targets.state[None]),
        torch.from_numpy(targets.values[None]),
        torch.from_numpy(PLACES),
        torch.from_numpy(STRIDES),
        LossSettings(),
    )
    assert parts.total.item() < 1e-4
    levels, start = [], 0
    for stride in (8, 16, 32):
        cells = SIDE // stride
        level = answers[0, start : start + cells**2].T.reshape(1, 15, cells, cells)
        levels.append(level.numpy())
        start += cells**2
    assert torch.equal(flatten([torch.from_numpy(level) for level in levels]), answers)
    found = decode(levels, 0.5)
    np.testing.assert_allclose(found.boxes, np.repeat(box, len(found), 0), atol=1e-3)
    np.testing.assert_allclose(found.landmarks, np.repeat(landmarks, len(found), 0), atol=1e-3)


@pytest.mark.parametrize(("weights", "mean"), [((1.0,) * 5, 1.0), ((0.0, 0.5, 1.0, 0.0, 0.25), 0.35)])
def test_loss_is_what_the_papers_say(weights: tuple[float, ...], mean: float) -> None:
    """One cell answers a box that is off: quality focal loss and distance IoU, written out."""
    places, strides = torch.tensor([[8.0, 8.0], [24.0, 8.0]]), torch.tensor([16.0, 16.0])
    wanted = torch.tensor([0.0, 0.0, 16.0, 16.0, *[8.0] * 10, *weights])
    answers = torch.zeros(1, 2, 15)
    answers[0, 0, 1:5] = torch.log(torch.tensor([8.0, 8.0, 8.0, 24.0]) / 16)  # 16 x 32 where 16 x 16 is wanted
    answers[0, 0, 5:] = torch.tensor([0.1, 0.0] * 5)  # 1.6 px to the right
    answers[0, :, 0] = torch.tensor([0.4, -1.0])
    values = torch.stack([wanted, torch.zeros(19)])[None]
    parts = aligner_loss(answers, torch.tensor([[1, 0]]), values, places, strides, LossSettings(beta=0.01))
    overlap = 256 / 512
    box = 1 - overlap + 8**2 / (16**2 + 32**2)
    p, q = 1 / (1 + np.exp(-0.4)), 1 / (1 + np.exp(1.0))
    score = -(overlap * np.log(p) + (1 - overlap) * np.log(1 - p)) * (overlap - p) ** 2 - np.log(1 - q) * q**2
    landmarks = mean * (0.1 - 0.005) / 2  # half of the coordinates are off by a tenth of the side, beyond beta
    # the parts are means over faces weighted by overlap, with a total weight of at least 1
    np.testing.assert_allclose(parts.score, score, rtol=1e-5)
    np.testing.assert_allclose(parts.box, overlap * box, rtol=1e-5)
    np.testing.assert_allclose(parts.landmarks, overlap * 0.1, rtol=1e-5)
    np.testing.assert_allclose(parts.total, score + 2 * overlap * box + 10 * overlap * landmarks, rtol=1e-5)


def test_no_face_and_absurd_answers_stay_finite() -> None:
    answers = (torch.randn(2, len(PLACES), 15) * 50).requires_grad_()
    state = torch.zeros(2, len(PLACES), dtype=torch.int8)
    places, strides = torch.from_numpy(PLACES), torch.from_numpy(STRIDES)
    values = torch.zeros(2, len(PLACES), 19)
    aligner_loss(answers, state, values, places, strides, LossSettings()).total.backward()  # type: ignore[no-untyped-call]
    state[0, 5] = 1
    values[0, 5] = torch.tensor([30.0, 0.0, 60.0, 30.0, *[45.0] * 10, *[1.0] * 5])
    parts = aligner_loss(answers, state, values, places, strides, LossSettings())
    parts.total.backward()  # type: ignore[no-untyped-call]
    assert torch.isfinite(parts.total) and answers.grad is not None and torch.isfinite(answers.grad).all()
