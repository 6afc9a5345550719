"""On real photos: a swap looks like its source to an encoder, and nothing is placed outside of a face."""

from __future__ import annotations

import collections
import dataclasses
from pathlib import Path

import numpy as np
import pytest

from faceembed.engine.pipeline.batches import Pipeline
from faceembed.engine.pipeline.few_photos import embed_photos
from faceembed.engine.pipeline.settings import EmbedSettings
from faceembed.trainer.data.fakes.make import make_fakes
from faceembed.trainer.data.fakes.manifest import read_fakes
from faceembed.trainer.data.fakes.settings import FakeSettings
from faceembed.trainer.data.identity import IDENTITY_ENCODER
from faceembed.trainer.data.people import People
from faceembed.trainer.data.samples import Sample


@pytest.mark.data
def test_fakes_look_like_their_source(
    wild: list[Path], data: Path, tmp_path: Path, exact: EmbedSettings, reuse_pipeline: Pipeline
) -> None:
    photos = wild[:50]
    for path in photos:  # a tree of links, for the engine to walk these and no others
        link = tmp_path / "people" / path.parent.name / path.name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(path)
    samples = tuple(
        Sample(str(tmp_path / "people" / path.parent.name / path.name), path.parent.name) for path in photos
    )
    people = People(str(tmp_path / "people"), samples, roots=(str(tmp_path / "people"),))
    make_fakes(people, tmp_path / "fakes", FakeSettings(methods=("swap", "morph", "transplant"), count=45, seed=1))
    rows = read_fakes(tmp_path / "fakes")
    assert len(rows) == 45
    paths = [str(tmp_path / "fakes" / row.fake) for row in rows]
    settings = dataclasses.replace(exact, encoder=IDENTITY_ENCODER)  # whom they look like, not how real
    found = embed_photos([*paths, *(sample.path for sample in samples)], settings)
    assert sum(path in found.failures for path in paths) <= 1  # a fake is still a face
    cosines = collections.defaultdict(list)
    for row, path in zip(rows, paths, strict=True):
        if path in found.vectors:
            pair = [float(found.vectors[path] @ found.vectors[photo]) for photo in (row.source_photo, row.target_photo)]
            cosines[row.method].append(pair)
    means = {method: np.mean(pairs, axis=0) for method, pairs in cosines.items()}
    strangers = np.mean([float(found.vectors[r.source_photo] @ found.vectors[r.target_photo]) for r in rows])
    assert means["swap"][0] > means["swap"][1] + 0.02  # the source's face, no longer the target's
    assert means["transplant"][0] > means["transplant"][1] + 0.02
    assert min(means["morph"]) > strangers + 0.02  # like both
