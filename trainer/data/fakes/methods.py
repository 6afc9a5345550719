"""How a fake is made of two faces. `selfblend` has the one that is made of a single face.

    swap        the source's face in the target's photo
    morph       the target's photo, in which the face is half way between both, in shape and in looks
    transplant  the source's photo with mouth, eyes or nose of the target
    reenact     the source's photo, whose face is driven by the target: its pose and expression, through a small chip

In each, the source is the person that the fake pretends to show.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import cv2
import numpy as np

from faceembed.trainer.data.fakes import colour, masks
from faceembed.trainer.data.fakes.blend import blend, over
from faceembed.trainer.data.fakes.mesh import Mesh, Points, part
from faceembed.trainer.data.fakes.warp import Floats, Pixels, apply, bend, chip_matrix, cut_chip, invert, remap

T = TypeVar("T")
_DARKER = 18.0  # Lab units of lightness that a forehead may be darker than the cheeks
_MARGIN = 0.3  # round a face, in distances between the pupils: the part of a photo that is worked on


@dataclasses.dataclass(frozen=True)
class Shot:
    """A photo and the face in it."""

    pixels: Pixels
    """uint8 RGB (H, W, 3)."""
    mesh: Mesh


@dataclasses.dataclass(frozen=True)
class Made:
    """A fake before it is compressed."""

    pixels: Pixels
    """uint8 RGB (H, W, 3)."""
    mask: Floats
    """float32 (H, W); where it is 0, the pixels are those of the photo that was worked on."""
    params: dict[str, Any]
    """What was drawn, for the provenance."""


Method = Callable[[Shot, Shot, np.random.Generator], Made]


@dataclasses.dataclass(frozen=True)
class Region:
    """The part of a photo round a face."""

    shot: Shot
    x: int
    y: int
    pixels: Floats
    """float32 RGB (h, w, 3)."""
    points: Points
    """The mesh in it, (M, 2), pixel centres at whole numbers."""

    @classmethod
    def of(cls, shot: Shot) -> Region:
        """The mesh's bounding box with a margin, within the photo."""
        height, width = shot.pixels.shape[:2]
        margin = _MARGIN * shot.mesh.scale
        low = np.floor(np.maximum(shot.mesh.points.min(0) - margin, 0)).astype(int)
        high = np.ceil(np.minimum(shot.mesh.points.max(0) + margin, [width, height])).astype(int)
        x, y = int(low[0]), int(low[1])
        pixels = shot.pixels[y : int(high[1]), x : int(high[0])].astype(np.float32)
        return cls(shot, x, y, pixels, shot.mesh.points - 0.5 - np.array([x, y]))

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.pixels.shape[0], self.pixels.shape[1]

    def finish(self, pixels: Floats, mask: Floats, params: dict[str, Any]) -> Made:
        """The whole photo with this part replaced; outside of the mask it is untouched."""
        height, width = self.size
        whole = self.shot.pixels.copy()
        support = np.zeros(whole.shape[:2], np.float32)
        rounded = np.clip(np.rint(pixels), 0, 255).astype(np.uint8)
        place = (slice(self.y, self.y + height), slice(self.x, self.x + width))
        whole[place][mask > 0] = rounded[mask > 0]
        support[place] = mask
        return Made(whole, support, params)


def pick(rng: np.random.Generator, choices: Sequence[T], weights: Sequence[float]) -> T:
    """One of ``choices``."""
    return choices[int(rng.choice(len(choices), p=np.array(weights) / sum(weights)))]


def chip_side(rng: np.random.Generator) -> int:
    """The side of a face as a network gives it, in pixels: 64 to 160, the smaller ones more often."""
    return int(64 * 2.5 ** float(rng.uniform()))


def sharpen(picture: Floats, amount: float, sigma: float) -> Floats:
    """Unsharp masking; a negative ``amount`` blurs."""
    blurred = cv2.GaussianBlur(picture, (0, 0), sigma)
    sharp: Floats = np.clip(picture + np.float32(amount) * (picture - blurred), 0, 255)
    return sharp


def rendered(source: Shot, region: Region, side: int) -> Floats:
    """The source's face bent onto the mesh of a region, through a chip of ``side`` pixels."""
    chip, points = cut_chip(source.pixels, source.mesh, side)
    return remap(chip, bend(region.points, points, *region.size))


def matched(face: Floats, target: Floats, mask: Floats, rng: np.random.Generator) -> tuple[Floats, str]:
    """A face in the target's colours, in one of several ways; colours are left alone only where both skins are alike."""
    how = pick(rng, colour.TRANSFERS, (0.5, 0.3, 0.2))
    apart = float(np.linalg.norm(colour.tone(face, mask) - colour.tone(target, mask)))
    if how == "none" and apart > colour.FAR_TONES:
        how = "reinhard"
    strength = float(rng.uniform(0.8, 1.0))
    return colour.transfer(face, target, mask, how=how, strength=strength), how


def covered(picture: Floats, points: Points) -> bool:
    """Whether a forehead is much darker than the cheeks: hair or a hat lies over it."""
    down = points[3:5].mean(0) - points[:2].mean(0)
    places = np.concatenate([points[part("forehead")] + 0.3 * down, points[part("cheek")][[0, 1, 3, 4]]])
    sampled = remap(picture, places[None].astype(np.float32))
    light = colour.to_lab(sampled)[0, :, 0]
    return bool(np.median(light[:-4]) < np.median(light[-4:]) - _DARKER)


def swap(source: Shot, target: Shot, rng: np.random.Generator) -> Made:
    """The source's face in the target's photo."""
    region = Region.of(target)
    unit = target.mesh.scale
    side = chip_side(rng)
    shape = pick(rng, masks.SHAPES, (0.3, 0.35, 0.15, 0.15, 0.05))
    softness = float(rng.uniform(0.15, 0.55))
    face = rendered(source, region, side)
    if shape == "hull" and (covered(face, region.points) or covered(region.pixels, region.points)):
        shape = "face"
    mask = masks.face_mask(region.points, unit, *region.size, rng, shape=shape, softness=softness)
    amount = float(rng.uniform(-0.5, 0.8))
    face = sharpen(face, amount, max(0.6, unit * 3.6 / side * 0.6))
    face, how = matched(face, region.pixels, mask, rng)
    wanted = pick(rng, ("alpha", "multiband", "poisson", "poisson-mixed"), (0.42, 0.25, 0.29, 0.04))
    pixels, blended = blend(face, region.pixels, mask, how=wanted)
    params = {"mask": shape, "softness": softness, "side": side, "sharpen": amount, "colour": how, "blend": blended}
    return region.finish(pixels, mask, params)


def morph(source: Shot, target: Shot, rng: np.random.Generator) -> Made:
    """A face between both people in the target's photo."""
    region = Region.of(target)
    unit = target.mesh.scale
    shape, looks = float(rng.uniform(0.35, 0.65)), float(rng.uniform(0.4, 0.65))
    outline = pick(rng, ("hull", "face"), (0.5, 0.5))
    softness = float(rng.uniform(0.3, 0.7))
    mask = masks.face_mask(region.points, unit, *region.size, rng, shape=outline, softness=softness, deform=0.03)
    placed = apply(
        chip_matrix(target.mesh, 256), apply(invert(chip_matrix(source.mesh, 256)), source.mesh.points - 0.5)
    )
    between = region.points + shape * (placed - np.array([region.x, region.y]) - region.points)
    side = max(128, min(512, round(unit * 3.6)))  # a morph is made at full resolution
    chip, points = cut_chip(source.pixels, source.mesh, side)
    theirs = remap(chip, bend(between, points, *region.size))
    own = _driven(region, between, mask)
    theirs, how = matched(theirs, own, mask, rng)
    pixels = over(own + np.float32(looks) * (theirs - own), own, mask)
    params = {"mask": outline, "softness": softness, "shape": shape, "looks": looks, "colour": how}
    return region.finish(np.where(mask[..., None] > 0, pixels, region.pixels), mask, params)


_PARTS = (("mouth",), ("eyes",), ("nose", "mouth"), ("eyes", "nose"), ("eyes", "mouth"))


def transplant(source: Shot, target: Shot, rng: np.random.Generator) -> Made:
    """The source's photo with parts of the target's face."""
    region = Region.of(source)
    unit = source.mesh.scale
    names = pick(rng, _PARTS, (0.25, 0.25, 0.2, 0.15, 0.15))
    grow = float(rng.uniform(0.14, 0.24))
    mask = masks.region_mask(region.points, names, unit, *region.size, grow=grow)
    side = max(96, min(384, round(unit * 3.6)))  # parts keep their sharpness
    face = rendered(target, region, side)
    skin = masks.face_mask(region.points, unit, *region.size, rng, shape="face", softness=0.2, deform=0)
    face, how = matched(face, region.pixels, skin, rng)
    wanted = pick(rng, ("poisson", "multiband", "alpha"), (0.5, 0.25, 0.25))
    pixels, blended = blend(face, region.pixels, mask, how=wanted)
    params = {"canvas": "source", "parts": "+".join(names), "grow": grow, "colour": how, "blend": blended}
    return region.finish(pixels, mask, params)


def reenact(source: Shot, target: Shot, rng: np.random.Generator) -> Made:
    """The source's photo, whose face takes pose and expression of the target's."""
    region = Region.of(source)
    mesh, driver = source.mesh, target.mesh
    turn = np.clip([driver.yaw - mesh.yaw, driver.pitch - mesh.pitch], -18, 18) * float(rng.uniform(0.7, 1.0))
    expression = float(rng.uniform(0.5, 1.0))
    left = mesh.left.copy()
    left[3:] += expression * np.clip(driver.left[3:] - mesh.left[3:], -0.12, 0.12)
    driven = mesh.reposed(mesh.yaw + turn[0], mesh.pitch + turn[1], left)
    goal = driven.points - 0.5 - np.array([region.x, region.y])
    softness = float(rng.uniform(0.25, 0.5))
    mask = masks.face_mask(region.points, mesh.scale, *region.size, rng, shape="hull", softness=softness, deform=0.03)
    side = chip_side(rng)
    chip, points = cut_chip(source.pixels, mesh, side)
    amount = float(rng.uniform(0.0, 1.0))
    chip_sharp = sharpen(chip.astype(np.float32), amount, 0.8)
    coarse = remap(chip_sharp, bend(goal, points, *region.size))
    moved = _driven(region, goal, mask)
    # A network renders the face; the neck and the hair stay those of the frame, which only gives way to it.
    pixels = over(coarse, moved, mask)
    params = {
        "canvas": "source",
        "yaw": float(turn[0]),
        "pitch": float(turn[1]),
        "expression": expression,
        "side": side,
        "sharpen": amount,
        "softness": softness,
    }
    return region.finish(pixels, mask, params)


def _driven(region: Region, goal: Points, mask: Floats) -> Floats:
    """A region whose mesh is moved to ``goal``; the movement fades out with the mask."""
    height, width = region.size
    still = np.stack(np.meshgrid(np.arange(width), np.arange(height)), -1).astype(np.float32)
    where = bend(goal, region.points, height, width)
    fade = cv2.GaussianBlur(mask, (0, 0), max(1.0, 0.08 * region.shot.mesh.scale)) * (mask > 0)
    return remap(region.pixels, still + fade[..., None] * (where - still))
