"""A face from five landmarks: head pose, and a mesh of outline, brows, eyes, nose and mouth in the photo.

The mesh is a mean face in three dimensions. Its pose is the scaled orthographic projection that fits the five landmarks
best under a mild prior (five points determine pitch poorly); what the fit leaves at the landmarks is spread smoothly over
the mesh, so that its eyes, nose and mouth corners lie where the aligner saw them.
"""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]

# The right half of a mean adult face in millimetres: x to the right and y down as in the image, z towards the viewer; the
# origin lies between the pupils. The pupils, nose tip and mouth corners agree with ArcFace's five-point template at 63 mm
# between the pupils; the rest are rounded anthropometric means (bizygomatic breadth 136, pupils to chin 120).
PUPIL_DISTANCE = 63.0
_HALF: dict[str, tuple[tuple[float, float, float], ...]] = {
    "outline": (
        (66, -10, -45),
        (68, 15, -45),
        (66, 40, -42),
        (58, 68, -36),
        (46, 92, -16),
        (28, 110, 0),
        (14, 118, 6),
    ),
    "forehead": ((58, -38, -30), (40, -52, -8), (20, -58, 4)),
    "brow": ((13, -19, 9), (32, -25, 5), (51, -15, -9)),
    "eye": ((16, 2, -1), (31.5, -6, 2), (47, 0, -8), (31.5, 7, 0)),
    "nose": ((17, 39, 12),),
    "mouth": ((13, 66, 15), (13, 82, 12)),
    "cheek": ((38, 26, 2), (42, 50, -4), (22, 98, 5)),
}
_MIDDLE: dict[str, tuple[tuple[float, float, float], ...]] = {
    "outline": ((0, 120, 8),),
    "forehead": ((0, -60, 6),),
    "nose": ((0, 0, 9), (0, 18, 20), (0, 46, 16)),
    "mouth": ((0, 65, 18), (0, 84, 15)),
    "cheek": ((0, 100, 12),),
}
# Left pupil, right pupil, nose tip, left and right mouth corner.
_LANDMARKS = ((-31.5, 0, 0), (31.5, 0, 0), (0, 38, 30), (-26, 73, 8), (26, 73, 8))

_PRIOR = np.array([1e3, 1e3, 1e3, 0.6, 0.15, 1e3])  # of tx, ty, log scale, yaw, pitch, roll: standard deviations
_NOISE = 0.05  # of a landmark, in distances between the pupils
_SPREAD = 0.7  # how far what the fit leaves at a landmark reaches, in distances between the pupils


@functools.cache
def _model() -> tuple[Points, dict[str, NDArray[np.intp]]]:
    """The mesh in distances between the pupils (M, 3), landmarks first, and the members of each part."""
    points: list[tuple[float, float, float]] = list(_LANDMARKS)
    parts: dict[str, list[int]] = {"landmarks": [0, 1, 2, 3, 4]}
    for name, half in _HALF.items():
        members = [*half, *((-x, y, z) for x, y, z in half), *_MIDDLE.get(name, ())]
        parts[name] = list(range(len(points), len(points) + len(members)))
        points += members
    parts["nose"].append(2)
    parts["mouth"] += [3, 4]
    return np.array(points) / PUPIL_DISTANCE, {name: np.array(members, np.intp) for name, members in parts.items()}


def part(*names: str) -> NDArray[np.intp]:
    """The mesh's points of some parts: ``outline``, ``forehead``, ``brow``, ``eye``, ``nose``, ``mouth``, ``cheek``, ``landmarks``."""
    parts = _model()[1]
    return np.concatenate([parts[name] for name in names])


def frontal() -> Points:
    """The mesh as seen from the front, (M, 2), in distances between the pupils."""
    return _model()[0][:, :2].copy()


@dataclasses.dataclass(frozen=True)
class Mesh:
    """A face in a photo. Coordinates are continuous pixels: a pixel's centre is at a half number."""

    points: Points
    """(M, 2); the first five are the landmarks as they were given."""
    pose: Points
    """(6,) tx, ty, log scale, yaw, pitch, roll in pixels and radians, as `_project` takes them."""
    left: Points
    """(5, 2) what the model leaves at the landmarks, upright and in distances between the pupils."""

    @property
    def landmarks(self) -> Points:
        """(5, 2), as they were given."""
        return self.points[:5]

    @property
    def scale(self) -> float:
        """Pixels between the pupils, were the face seen from the front."""
        return float(np.exp(self.pose[2]))

    @property
    def yaw(self) -> float:
        """Degrees; positive where the nose points to the image's right."""
        return float(np.degrees(self.pose[3]))

    @property
    def pitch(self) -> float:
        """Degrees; positive where the nose points down."""
        return float(np.degrees(self.pose[4]))

    @property
    def roll(self) -> float:
        """Degrees, clockwise in the image."""
        return float(np.degrees(self.pose[5]))

    @property
    def residual(self) -> float:
        """How badly the model fits: root mean square at the landmarks, in distances between the pupils."""
        return float(np.sqrt((self.left**2).sum(1).mean()))

    def scaled(self, factor: float) -> Mesh:
        """The same face in the photo resized by ``factor``."""
        pose = self.pose * np.array([factor, factor, 1, 1, 1, 1]) + np.array([0, 0, np.log(factor), 0, 0, 0])
        return Mesh(self.points * factor, pose, self.left)

    def moved(self, x: float, y: float) -> Mesh:
        """The same face in the photo shifted by ``x`` and ``y`` pixels."""
        return Mesh(self.points + np.array([x, y]), self.pose + np.array([x, y, 0, 0, 0, 0]), self.left)

    def reposed(self, yaw: float, pitch: float, left: Points) -> Mesh:
        """The same head turned to another yaw and pitch (degrees) and with other landmarks, eyes where they were."""
        pose = self.pose.copy()
        pose[3:5] = np.radians([yaw, pitch])
        points = _place(pose, left)
        shift = self.points[:2].mean(0) - points[:2].mean(0)
        return Mesh(points + shift, pose + np.array([*shift, 0, 0, 0, 0]), left)

    def inside(self, width: int, height: int) -> float:
        """The share of the mesh's points that lie in a photo of that size."""
        within = (self.points >= 0) & (self.points <= np.array([width, height]))
        return float(within.all(axis=1).mean())


def _place(pose: Points, left: Points) -> Points:
    """The mesh's points: the model's projection and what is left, spread over it; (..., 6) and (..., 5, 2) to (..., M, 2)."""
    model, _ = _model()
    upright = _spreading() @ left
    return _project(pose, model) + np.exp(pose[..., 2])[..., None, None] * _turned(upright, pose[..., 5])


def _turned(points: Points, angle: Points) -> Points:
    """Points (..., N, 2) turned clockwise in the image by angles (...)."""
    cos, sin = np.cos(angle)[..., None], np.sin(angle)[..., None]
    x, y = points[..., 0], points[..., 1]
    return np.stack([cos * x - sin * y, sin * x + cos * y], -1)


def _project(poses: Points, model: Points) -> Points:
    """Scaled orthographic projection, (..., 6) poses and (M, 3) points to (..., M, 2).

    A pose is tx, ty, log scale, yaw, pitch, roll in pixels and radians.
    """
    yaw, pitch = poses[..., 3, None], poses[..., 4, None]
    x, y, z = model.T
    across = np.cos(yaw) * x + np.sin(yaw) * z  # about the vertical axis
    deep = np.cos(yaw) * z - np.sin(yaw) * x
    down = np.cos(pitch) * y + np.sin(pitch) * deep  # about the horizontal one
    seen = _turned(np.stack([across, np.broadcast_to(down, across.shape)], -1), poses[..., 5])
    projected: Points = np.exp(poses[..., 2])[..., None, None] * seen + poses[..., None, :2]
    return projected


@functools.cache
def _spreading() -> Points:
    """What is left at the landmarks, interpolated over the mesh with Gaussians, as a matrix (M, 5)."""
    model, _ = _model()
    distance = np.linalg.norm(model[:, None, :2] - model[None, :5, :2], axis=2)
    kernel = np.exp(-0.5 * (distance / _SPREAD) ** 2)
    spreading: Points = kernel @ np.linalg.inv(kernel[:5] + 1e-3 * np.eye(5))
    return spreading


def fit_mesh(landmarks: NDArray[np.floating]) -> Mesh:
    """Place the face model by five landmarks; see `fit_meshes`."""
    return fit_meshes(np.asarray(landmarks, np.float64)[None])[0]


def fit_meshes(landmarks: NDArray[np.floating], *, iterations: int = 8) -> list[Mesh]:
    """Place the face model by five landmarks, for many faces together.

    Args:
        landmarks: (F, 5, 2) left eye, right eye, nose tip, left and right mouth corner; left as seen in the image.
        iterations: Gauss-Newton steps.

    Returns:
        The meshes; their landmarks are exactly those given.
    """
    model, _ = _model()
    given = np.asarray(landmarks, np.float64)
    eyes = given[:, 1] - given[:, 0]
    down = given[:, 3:].mean(1) - given[:, :2].mean(1)
    unit = np.maximum(np.maximum(np.hypot(*eyes.T), np.hypot(*down.T) / 1.16), 1e-3)
    centre = given.mean(axis=1)
    wanted = (given - centre[:, None]) / unit[:, None, None]
    pose = np.zeros((len(given), 6))
    pose[:, 5] = np.arctan2(eyes[:, 1], eyes[:, 0])
    pose[:, :2] = -_project(pose, model[:5]).mean(1)
    steps = np.eye(6) * 1e-5
    for _ in range(iterations):
        error = (wanted - _project(pose, model[:5])).reshape(-1, 10) / _NOISE
        ahead, behind = (_project(pose[:, None] + sign * steps, model[:5]) for sign in (1, -1))
        slope = (ahead - behind).reshape(-1, 6, 10) / (2e-5 * _NOISE)
        normal = slope @ slope.transpose(0, 2, 1) + np.diag(_PRIOR**-2)
        pull = (slope @ error[..., None])[..., 0] - pose / _PRIOR**2
        pose = pose + np.linalg.solve(normal, pull[..., None])[..., 0]
        pose[:, 3:5] = np.clip(pose[:, 3:5], -1.2, 1.2)
    pose[:, :2] = pose[:, :2] * unit[:, None] + centre
    pose[:, 2] += np.log(unit)
    size = np.exp(pose[:, 2])[:, None, None]
    left = _turned((given - _project(pose, model[:5])) / size, -pose[:, 5])
    points = _place(pose, left)
    points[:, :5] = given
    return [Mesh(*parts) for parts in zip(points, pose, left, strict=True)]
