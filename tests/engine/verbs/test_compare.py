"""`verify` and `matrix` on a handful of photos, good and bad."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from faceembed.engine.pipeline import loading
from faceembed.engine.pipeline.few_photos import embed_photos
from faceembed.engine.pipeline.progress import Progress
from faceembed.engine.pipeline.settings import EmbedSettings
from faceembed.engine.verbs.matrix import matrix
from faceembed.engine.verbs.verify import verify
from faceembed.errors import DataError, UsageError

MakeFaces = Callable[[Path, int], list[Path]]
pytestmark = pytest.mark.usefixtures("reuse_pipeline")


@pytest.fixture
def faces(tmp_path: Path, make_faces: MakeFaces) -> list[Path]:
    return make_faces(tmp_path / "album", 4)


@pytest.fixture
def wall(tmp_path: Path) -> Path:
    path = tmp_path / "album" / "wall.png"
    path.parent.mkdir(exist_ok=True)
    cv2.imwrite(str(path), np.full((100, 100, 3), 90, np.uint8))
    return path


def test_a_photo_is_the_same_person_as_itself(faces: list[Path]) -> None:
    result = verify(faces[0], faces[0])
    assert result.similarity == pytest.approx(1, abs=1e-5)
    assert result.same


def test_two_photos_of_one_person(faces: list[Path]) -> None:
    result = verify(faces[0], faces[1], threshold=0.95)
    assert 0.95 < result.similarity < 0.9999
    assert (result.same, result.threshold, result.threshold_source) == (True, 0.95, "given")
    assert not verify(faces[0], faces[1], threshold=0.9999).same
    assert verify(faces[0], faces[1], threshold=-1).same


def test_threshold_is_the_encoders_own(faces: list[Path], models: loading.Models) -> None:
    spec = models.encoder.spec
    result = verify(faces[0], faces[1])
    assert (result.threshold, result.threshold_source, result.encoder) == (
        spec.threshold,
        spec.threshold_source,
        spec.name,
    )
    assert spec.threshold_source  # a threshold says what it was chosen on


def test_an_encoder_without_a_threshold(
    faces: list[Path], models: loading.Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = dataclasses.replace(models.encoder.spec, threshold=None)
    other = loading.Models(dataclasses.replace(models.encoder, spec=spec), models.aligner)
    monkeypatch.setattr(loading, "resolve_models", lambda _: other)
    with pytest.raises(UsageError, match="no measured threshold; give one with --threshold"):
        verify(faces[0], faces[1])
    assert verify(faces[0], faces[1], threshold=0.5).same


def test_verify_says_which_photo_is_bad(faces: list[Path], wall: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"wall\.png: no face of 20 px or more found"):
        verify(faces[0], wall)
    with pytest.raises(DataError, match=r"none\.jpg: No such file or directory"):
        verify(tmp_path / "none.jpg", faces[0])
    with pytest.raises(DataError, match="Is a directory"):
        verify(faces[0], tmp_path)
    strange = tmp_path / "a\nb.jpg"
    strange.write_bytes(b"")
    with pytest.raises(DataError, match="empty file") as caught:
        verify(faces[0], strange)
    assert "\n" not in str(caught.value)


def test_matrix_of_good_and_bad(faces: list[Path], wall: Path) -> None:
    result = matrix([faces[0].parent])
    assert result.paths == [str(path) for path in (*faces, wall)]
    good = result.similarity[:4, :4]
    np.testing.assert_allclose(np.diag(good), 1, atol=1e-5)
    np.testing.assert_allclose(good, good.T, atol=1e-6)
    assert good.min() > 0.95
    assert np.isnan(result.similarity[4]).all()
    assert np.isnan(result.similarity[:, 4]).all()
    assert set(result.failures) == {str(wall)}
    fields = json.loads(json.dumps(result.to_json_dict()))
    assert fields["similarity"][0][4] is None
    assert fields["similarity"][0][1] == pytest.approx(verify(faces[0], faces[1]).similarity, abs=1e-5)


def test_matrix_writes_pages(faces: list[Path], wall: Path, tmp_path: Path) -> None:
    page, picture = tmp_path / "m.html", tmp_path / "m.png"
    matrix([*faces, wall], html=page, png=picture)
    assert "0003.jpg" in page.read_text()
    assert cv2.imread(str(picture)) is not None


def test_matrix_of_too_little(faces: list[Path], wall: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="at least two photos, found 1"):
        matrix([faces[0]])
    other = tmp_path / "album" / "other.jpg"
    other.write_bytes(b"")
    with pytest.raises(DataError, match=r"no face found in any of the 2 photos \(no face of 20 px"):
        matrix([wall, other])


def test_a_photo_twice_is_embedded_once(faces: list[Path]) -> None:
    seen: list[Progress] = []
    result = embed_photos([str(faces[0]), str(faces[1]), str(faces[0])], EmbedSettings(), progress=seen.append)
    assert list(result.vectors) == [str(faces[0]), str(faces[1])]
    assert (seen[-1].done, seen[-1].total) == (2, 2)


def test_names_that_are_not_utf8(faces: list[Path], tmp_path: Path) -> None:
    odd = os.path.join(os.fsencode(tmp_path), b"caf\xe9.jpg")
    Path(os.fsdecode(odd)).write_bytes(faces[0].read_bytes())
    assert verify(os.fsdecode(odd), faces[0]).similarity == pytest.approx(1, abs=1e-5)
    result = matrix([os.fsdecode(odd), faces[0]])
    assert [os.fsencode(path) for path in result.paths] == [odd, os.fsencode(faces[0])]


def test_all_faces_in_settings_still_compares_the_largest(faces: list[Path]) -> None:
    assert verify(faces[0], faces[1], settings=EmbedSettings(faces="all")).similarity == pytest.approx(
        verify(faces[0], faces[1]).similarity, abs=1e-6
    )
