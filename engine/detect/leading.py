"""Which faces are judged: the leading one of each photo alone where one face a photo is wanted, as the others' exact landmarks are nobody's;
one answer for each where all are.

A judge (the refiner) lowers a face's score or leaves it, and moves its landmarks, never its box. So what it has not judged yet leads at most
as far as it does now, and when the face that leads has been judged, it leads for good: the same one as if all had been judged.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from faceembed.engine.detect.boxes import paired_overlaps
from faceembed.engine.detect.detections import Detections
from faceembed.engine.native import _native

Judge = Callable[[Detections], Detections]
"""The same faces with final scores, none higher, and final landmarks."""


@dataclasses.dataclass(frozen=True)
class Sighted:
    """Faces of a look, some of them judged."""

    faces: Detections
    judged: NDArray[np.bool_]
    """(F,)."""

    @classmethod
    def new(cls, faces: Detections) -> Sighted:
        """None of them judged."""
        return cls(faces, np.zeros(len(faces), np.bool_))

    @classmethod
    def final(cls, faces: Detections) -> Sighted:
        """All of them judged on the way."""
        return cls(faces, np.ones(len(faces), np.bool_))

    def take(self, index: NDArray[np.int64] | NDArray[np.bool_]) -> Sighted:
        """The faces at ``index``."""
        return Sighted(self.faces.take(index), np.asarray(self.judged[index], np.bool_))

    def joined(self, other: Sighted) -> Sighted:
        """These and others."""
        faces = Detections.concatenate([self.faces, other.faces])
        return Sighted(faces, np.concatenate([self.judged, other.judged]))

    def judged_by(self, judge: Judge, index: NDArray[np.int64], least: float) -> Sighted:
        """The same, faces at ``index`` judged, without those that then score less than ``least``."""
        found = judge(self.faces.take(index))
        landmarks, scores, judged = self.faces.landmarks.copy(), self.faces.scores.copy(), self.judged.copy()
        landmarks[index], scores[index], judged[index] = found.landmarks, found.scores, True
        faces = dataclasses.replace(self.faces, landmarks=landmarks, scores=scores)
        return Sighted(faces, judged).take(~judged | (scores >= np.float32(least)))


def every_one(judge: Judge, faces: Detections, least: float, overlap: float) -> Detections:
    """One answer for each face, judged: of those that overlap, the one of highest final score.

    The same ones as if all answers had been judged: what is left out overlaps one that was judged and scores no less than it might. Where
    two looks show most faces, the judge sees half as many.

    Args:
        judge: the judge.
        faces: not yet judged, some of them answers for the same face.
        least: score below which what was judged is no face.
        overlap: intersection over union of boxes that are one face.

    Returns:
        The faces, of each photo by falling score.
    """
    seen = Sighted.new(faces)
    while True:
        kept = _native.nms(seen.faces.boxes, seen.faces.scores, seen.faces.photo, overlap, "union")
        left = kept[~seen.judged[kept]]
        if len(left) == 0:
            return seen.faces.take(kept)
        seen = seen.judged_by(judge, left, least)


@dataclasses.dataclass(frozen=True)
class Leader:
    """Finds the leading face of photos, and how many others they show.

    Args:
        judge: the judge.
        sizes: (photos, 2) width and height of each photo in pixels.
        min_score: score from which on a face is sure.
        least: score below which what was judged is no face.
        overlap: intersection over union of boxes that are one face.
    """

    judge: Judge
    sizes: NDArray[np.float64]
    min_score: float
    least: float
    overlap: float

    def lead(self, seen: Sighted, among: NDArray[np.bool_]) -> Sighted:
        """Judge faces until the leading one (`Detections.leading`) of each photo has been, and all others that may be sure.

        In as few calls of the judge as can be, as each has its price: one, mostly.

        Several looks' answers for a face may be among them: where the one that leads is judged away, another is next.

        Args:
            seen: faces of the photos.
            among: (photos,) those whose leading face is wanted.

        Returns:
            The faces, without those that the judge took for none.
        """
        while among.any() and not seen.judged.all():
            same, leading = self._same(seen.faces)
            counts = ~same & (seen.faces.scores >= np.float32(self.min_score))
            counts[leading] = True
            left = np.flatnonzero(counts & ~seen.judged & among[seen.faces.photo])
            if len(left) == 0:
                break
            seen = seen.judged_by(self.judge, left, self.least)
        return seen

    def largest(self, seen: Sighted) -> Detections:
        """The leading face of each photo, and how many others of it are sure.

        Args:
            seen: faces of the photos, perhaps one face in several of them.
        """
        everywhere = np.ones(len(self.sizes), np.bool_)
        seen = self.lead(self._settled(self.lead(seen, everywhere)), everywhere)
        return seen.faces.take(self._apart(seen.faces)).largest(self.sizes, self.min_score)

    def _settled(self, seen: Sighted) -> Sighted:
        """One answer for each leading face: the one of highest score, of which those are judged that may be."""
        same, leading = self._same(seen.faces)
        surer = np.flatnonzero(same & ~seen.judged & (seen.faces.scores > seen.faces.scores[leading]))
        if len(surer):
            seen = seen.judged_by(self.judge, surer, self.least)
            same, _ = self._same(seen.faces)
        answers = np.flatnonzero(same & seen.judged)
        kept = ~same
        kept[answers[self._apart(seen.faces.take(answers))]] = True
        return seen.take(kept)

    def _same(self, faces: Detections) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
        """(F,) whether each is an answer for its photo's leading face, and (F,) which one that is."""
        leading = faces.leading(self.sizes, self.min_score)
        of_photo = np.zeros(len(self.sizes), np.int64)
        of_photo[faces.photo[leading]] = leading
        mine = of_photo[faces.photo]
        same = np.asarray(paired_overlaps(faces.boxes, faces.boxes[mine]) > self.overlap, np.bool_)
        same[leading] = True
        return same, mine

    def _apart(self, faces: Detections) -> NDArray[np.int64]:
        return _native.nms(faces.boxes, faces.scores, faces.photo, self.overlap, "union")
