"""Maps: the formula on an encoder that is known, faithfulness on real faces, and pictures that show them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from faceembed.engine.explain.deletion import deletion, most_important
from faceembed.engine.explain.face_parts import PARTS, part_labels, part_means
from faceembed.engine.explain.occlusion import Fill, OcclusionSettings, blend, explain, fill_of, overlay
from faceembed.engine.models.spec import ARCFACE_TEMPLATE
from faceembed.engine.photos.photo_file import PhotoFile
from faceembed.engine.photos.sample import sample_photos
from faceembed.engine.pipeline.batches import Pipeline
from faceembed.engine.pipeline.encode import Encoder
from faceembed.engine.pipeline.encodes import identities, identity
from faceembed.engine.pipeline.settings import EmbedSettings
from faceembed.engine.report.explanation import write_explanation_html, write_explanation_png
from faceembed.engine.verbs.explain import explain_photos
from faceembed.errors import DataError, UsageError

Chips = NDArray[np.uint8]
SIDE = 40


class Corner:
    """Sees the brightness of the upper left and of the lower right quarter, and nothing else."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def encode(self, chips: Chips) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        self.batches.append(len(chips))
        half = chips.shape[1] // 2
        seen = [chips[:, :half, :half].mean((1, 2, 3)), chips[:, half:, half:].mean((1, 2, 3))]
        raw = np.stack(seen, 1).astype(np.float32)
        norms = np.linalg.norm(raw, axis=1)
        return raw / norms[:, None], norms


def chip(seed: int) -> Chips:
    return np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE, 3)).astype(np.uint8)


def test_the_map_is_the_formula() -> None:
    """Recomputed window by window, pixel by pixel."""
    encoder, a, b = Corner(), chip(0), chip(1)
    a[20:, 20:] //= 4
    settings = OcclusionSettings(windows=(0.5, 0.25), fill="mean")
    found = explain(encoder, a, b, settings=settings)
    (va, vb), _ = encoder.encode(np.stack([a, b]))
    assert found.similarity == pytest.approx(float(va @ vb))
    for mine, values, other in ((a, found.map_a, vb), (b, found.map_b, va)):
        expected = np.zeros((SIDE, SIDE))
        for share in settings.windows:
            window = share * SIDE
            count = int(np.ceil((SIDE - 1) / (window / 2))) + 1
            centres = np.linspace(0, SIDE - 1, count)
            above, below = np.zeros((SIDE, SIDE)), np.zeros((SIDE, SIDE))
            for y in centres:
                for x in centres:
                    along = [
                        np.clip((window / 2 - abs(np.arange(SIDE) - c)) / (window / 4) + 0.5, 0, 1) for c in (y, x)
                    ]
                    weight = along[0][:, None] * along[1][None, :]
                    mixed = (1 - weight[..., None]) * mine + weight[..., None] * mine.mean((0, 1))
                    drop = float(encoder.encode(np.rint(mixed)[None].astype(np.uint8))[0][0] @ other)
                    above += weight * (found.similarity - drop)
                    below += weight
            expected += above / below / len(settings.windows)
        np.testing.assert_allclose(values, expected, atol=2e-5)
        assert values.dtype == np.float32 and np.abs(expected).max() > 1e-3
    assert max(encoder.batches[:10]) <= 64
    assert found.details["embedded"] == 2 + 2 * (5**2 + 9**2)


class Gated(Corner):
    """The same behind a gate that takes whatever is darker than usual for a deepfake."""

    def encode(self, chips: Chips) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        unit, norms = super().encode(chips)
        real = 1 / (1 + np.exp(-(chips.mean((1, 2, 3)) - 110) / 4, dtype=np.float32))[:, None]
        return np.concatenate([np.sqrt(real) * unit, np.sqrt(1 - real) * unit], 1), norms


def test_maps_of_a_gated_encoder_are_of_its_identity() -> None:
    """What covers a face moves the gate, wherever it is; the similarity is the gated one all the same."""
    a, b = chip(0), chip(1)
    a[20:, 20:] //= 4
    settings = OcclusionSettings(windows=(0.5,), fill="mean")
    plain, gated = explain(Corner(), a, b, settings=settings), explain(Gated(), a, b, gated=True, settings=settings)
    np.testing.assert_allclose(gated.map_a, plain.map_a, atol=1e-6)
    np.testing.assert_allclose(gated.map_b, plain.map_b, atol=1e-6)
    vectors = Gated().encode(np.stack([a, b]))[0]
    assert (
        gated.similarity == pytest.approx(float(vectors[0] @ vectors[1])) and gated.similarity < plain.similarity - 0.1
    )
    whole = explain(Gated(), a, b, settings=settings)
    assert np.abs(whole.map_a - plain.map_a).max() > np.abs(plain.map_a).max()
    np.testing.assert_allclose(identities(vectors), Corner().encode(np.stack([a, b]))[0], atol=1e-6)


def test_what_is_not_seen_does_not_matter() -> None:
    a, b = chip(2), chip(3)
    a[20:, 20:] //= 8
    values = explain(Corner(), a, b, settings=OcclusionSettings(windows=(0.2,))).map_a
    blind = np.abs(values[:10, 30:]).max()  # upper right, further from the others than a window reaches
    assert blind < 1e-6
    assert np.abs(values[:14, :14]).max() > 1e-4


@pytest.mark.parametrize("fill", ["blur", "mean"])
def test_fills_hide_features_and_keep_the_colour(fill: Fill, astronaut: Chips) -> None:
    face = np.ascontiguousarray(astronaut[40:190, 150:300])
    hidden = fill_of(face, fill)
    np.testing.assert_allclose(hidden.mean((0, 1)), face.mean((0, 1)), atol=2)
    detail = face.astype(float) - cv2.GaussianBlur(face.astype(float), (0, 0), 8)
    left = hidden - cv2.GaussianBlur(np.ascontiguousarray(hidden), (0, 0), 8)
    assert left.std() < 0.2 * detail.std()
    whole = blend(face, hidden, np.stack([np.zeros(face.shape[:2]), np.ones(face.shape[:2])]))
    np.testing.assert_array_equal(whole[0], face)
    np.testing.assert_array_equal(whole[1], np.rint(hidden))


def test_overlay_colours_by_sign_and_scale() -> None:
    grey = np.full((4, 4, 3), 100, np.uint8)
    values = np.zeros((4, 4), np.float32)
    values[0, 0], values[3, 3] = 0.2, -0.1
    drawn = overlay(grey, values).astype(int)
    assert (drawn[1, 1] == 100).all()
    assert drawn[0, 0, 0] > 180 and drawn[0, 0, 2] < 60  # orange, in full
    assert drawn[3, 3, 2] > drawn[3, 3, 0]  # blue, at half strength
    pale = overlay(grey, values, scale=2.0).astype(int)
    assert 100 < pale[0, 0, 0] < drawn[0, 0, 0]
    np.testing.assert_array_equal(overlay(grey, np.zeros((4, 4), np.float32)), grey)


@pytest.mark.parametrize(
    "values, message",
    [
        ({"windows": ()}, "--windows names no number"),
        ({"windows": (0.01,)}, "--windows 0.01 must be from 0.05 to 0.5"),
        ({"windows": (float("nan"),)}, "--windows nan must be from 0.05 to 0.5"),
        ({"fill": "black"}, "--fill 'black' is not one of blur, mean"),
    ],
)
def test_settings_that_cannot_be_met(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=f"^{message}"):
        OcclusionSettings(**values)


def test_parts_lie_where_the_template_says() -> None:
    labels = part_labels(112, 112, ARCFACE_TEMPLATE)
    for point, name in zip(ARCFACE_TEMPLATE, ("left eye", "right eye", "nose", "mouth", "mouth"), strict=True):
        assert PARTS[labels[round(point[1]), round(point[0])]] == name
    assert PARTS[labels[22, 56]] == "forehead" and PARTS[labels[110, 56]] == "chin"
    assert PARTS[labels[0, 0]] == "surroundings"
    values = np.where(labels == PARTS.index("nose"), 0.5, -0.1).astype(np.float32)
    means = part_means(values, ARCFACE_TEMPLATE)
    assert next(iter(means.items())) == ("nose", 0.5) and set(means) == set(PARTS)


def test_the_region_is_the_largest_values() -> None:
    values = np.arange(100, dtype=np.float32).reshape(10, 10) * -1
    region = most_important(values, 0.13)
    assert region.sum() == 13 and region.ravel()[:13].all()
    assert most_important(values, 1e-9).sum() == 1


def test_a_false_map_is_found_out() -> None:
    """Of an encoder that sees two corners: the truth, its opposite, and how much each region's deletion costs."""
    a, b = chip(4), chip(5)
    a[20:, 20:] //= 8
    reference = Corner().encode(b[None])[0][0]
    truth = np.zeros((SIDE, SIDE), np.float32)
    truth[:20, :20] = (
        1  # the only bright corner; b has two, so darkening is what helps, and mean grey brightens the other
    )
    truth[20:, 20:] = -1
    tests = {sign: deletion(Corner(), a, reference, sign * truth, share=0.2) for sign in (1, -1)}
    assert tests[1].important < tests[1].random_mean
    assert tests[-1].important > tests[-1].random_mean
    assert tests[1].before == tests[-1].before
    assert len(set(tests[1].random)) > 5


def lost_by(encoder: Encoder, a: Chips, b: Chips, settings: OcclusionSettings) -> tuple[float, float]:
    """Mean similarity lost by deleting what the maps of both faces call important, and regions elsewhere."""
    spec = encoder.model.spec
    found = explain(encoder, a, b, gated=spec.gated, settings=settings)
    whose = identity(encoder, spec)
    vectors = whose.encode(np.stack([a, b]))[0]
    tests = [
        deletion(whose, a, vectors[1], found.map_a, seed=1),
        deletion(whose, b, vectors[0], found.map_b, seed=2),
    ]
    lost = np.mean([[test.before - test.important, test.before - test.random_mean] for test in tests], axis=0)
    return float(lost[0]), float(lost[1])


def test_maps_are_faithful_on_the_astronaut(pipeline: Pipeline) -> None:
    chips = pipeline.chips([photo(sample_photos() / name) for name in ("astronaut.png", "mirrored.jpg")], 2)
    important, random = lost_by(pipeline.encoder, chips[0], chips[1], OcclusionSettings())
    assert important > 1.5 * random > 0


@pytest.mark.data
def test_maps_are_faithful_on_lfw(pipeline: Pipeline, data: Path) -> None:
    """Eight people of LFW with two photos: deleting the important tenth costs more than twice what others cost."""
    people = [folder for folder in sorted((data / "lfw").iterdir()) if len(list(folder.glob("*.jpg"))) >= 2][:80:10]
    lost = []
    for folder in people:
        chips = pipeline.chips([photo(path) for path in sorted(folder.glob("*.jpg"))[:2]], 2)
        lost.append(lost_by(pipeline.encoder, chips[0], chips[1], OcclusionSettings(windows=(0.25,))))
    important, random = np.array(lost).T
    assert len(lost) == 8
    assert (important > random).sum() >= 7
    assert important.mean() > 2 * random.mean()


def photo(path: Path) -> PhotoFile:
    info = path.stat()
    return PhotoFile(str(path), info.st_size, info.st_mtime_ns)


def test_the_verb_and_its_files(tmp_path: Path, reuse_pipeline: Pipeline) -> None:
    names = ("<script>alert(1)</script>.jpg", '"onerror="alert(2)" {{ 7 * 7 }}.jpg')
    for name, source in zip(names, ("cropped.jpg", "small.jpg"), strict=True):
        (tmp_path / name.replace("/", "")).write_bytes((sample_photos() / source).read_bytes())
    a, b = (tmp_path / name.replace("/", "") for name in names)
    result = explain_photos(a, b, occlusion=OcclusionSettings(windows=(0.4,)))
    document = json.loads(json.dumps(result.to_json_dict()))
    assert document["photos"] == [str(a), str(b)]
    assert np.array(document["map_a"]).shape == (150, 150) and document["method"] == "occlusion"
    assert document["gated"] == reuse_pipeline.encoder.model.spec.gated
    assert document["similarity"] > document["deletion_a"]["important"]
    write_explanation_html(tmp_path / "why.html", result)
    page = (tmp_path / "why.html").read_text(encoding="utf-8")
    assert page.count("<img ") == 4 and page.count('src="data:image/png;base64,') == 4
    assert "<script" not in page and "&lt;script&gt;alert(1)" in page and "{{ 7 * 7 }}" in page
    assert '"onerror=' not in page
    assert f"{result.explanation.similarity:.4f}" in page
    write_explanation_png(tmp_path / "why.png", result)
    picture = cv2.imread(str(tmp_path / "why.png"))
    assert picture is not None and picture.shape == (612, 612, 3)
    drawn = cv2.resize(overlay(result.chips[0], result.explanation.map_a), None, fx=2, fy=2)
    assert drawn.std() > 10


def test_a_photo_without_a_face_is_named(tmp_path: Path, reuse_pipeline: Pipeline) -> None:
    cv2.imwrite(str(tmp_path / "grey.png"), np.full((80, 80, 3), 128, np.uint8))
    with pytest.raises(DataError, match=r"grey\.png: no face of 20 px or more found$"):
        explain_photos(tmp_path / "grey.png", sample_photos() / "small.jpg", settings=EmbedSettings())
    with pytest.raises(DataError, match=r"nowhere\.jpg: "):
        explain_photos(tmp_path / "nowhere.jpg", sample_photos() / "small.jpg")
