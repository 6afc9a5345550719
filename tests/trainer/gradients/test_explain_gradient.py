"""Gradient maps: complete on a known network, and faithful on a real face."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from faceembed.engine.explain.deletion import deletion
from faceembed.engine.explain.occlusion import fill_of
from faceembed.engine.models.spec import ModelSpec
from faceembed.engine.photos.photo_file import PhotoFile
from faceembed.engine.photos.sample import sample_photos
from faceembed.engine.pipeline.batches import Pipeline
from faceembed.engine.pipeline.encodes import identity
from faceembed.errors import DataError, UsageError
from faceembed.trainer.backbones.gated import gate
from faceembed.trainer.gradients.attack_gradient import Network, open_network
from faceembed.trainer.gradients.explain import GradientSettings, explain_gradient

SIDE = 24
SPEC = ModelSpec(
    "known", "encoder", (SIDE, SIDE), "bgr", dimension=6, template=tuple((float(x), 0.0) for x in range(5))
)


def known() -> Network:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIDE * SIDE, 16), nn.Tanh(), nn.Linear(16, 6))
    return Network(model.eval().requires_grad_(False), SPEC, "known", torch.device("cpu"), 7)


def chips() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (2, SIDE, SIDE, 3)).astype(np.uint8)


@pytest.mark.parametrize("fill", ["blur", "mean"])
def test_the_map_adds_up_to_what_the_face_gains(fill: str) -> None:
    network, (a, b) = known(), chips()
    found = explain_gradient(network, a, b, settings=GradientSettings(200, fill))  # type: ignore[arg-type]
    vectors = network.encode(np.stack([a, b]))[0]
    assert found.similarity == pytest.approx(float(vectors[0] @ vectors[1]))
    for face, other, values in ((a, vectors[1], found.map_a), (b, vectors[0], found.map_b)):
        start = torch.tensor(fill_of(face, fill) / 127.5 - 1).permute(2, 0, 1)[None]  # type: ignore[arg-type]
        gained = found.similarity - float(network.directions(start)[0].numpy() @ other)
        assert values.shape == (SIDE, SIDE) and abs(gained) > 0.05
        assert values.mean() == pytest.approx(gained, abs=2e-3)


def test_a_gate_that_jumps_is_not_what_is_shown() -> None:
    """The maps of a gated encoder are its identity's, even where the fill is taken for a fake and the face for a photo."""
    plain, (a, b) = known(), chips()
    texture = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIDE * SIDE, 1), nn.Flatten(0))
    with torch.no_grad():
        texture[1].weight.copy_(torch.from_numpy((a / 127.5 - 1).transpose(2, 0, 1).reshape(1, -1).copy()) / 4)
        texture[1].bias.fill_(-20.0)

    class Gated(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return gate(plain.model(x), texture(x))

    spec = dataclasses.replace(SPEC, dimension=12, gated=True)
    gated = Network(Gated().eval().requires_grad_(False), spec, "gated", torch.device("cpu"), 7)
    one, two = explain_gradient(plain, a, b), explain_gradient(gated, a, b)
    np.testing.assert_allclose(two.map_a, one.map_a, atol=1e-3 * np.abs(one.map_a).max())
    np.testing.assert_allclose(two.map_b, one.map_b, atol=1e-3 * np.abs(one.map_b).max())
    vectors = gated.encode(np.stack([a, b]))[0]
    assert (
        two.similarity == pytest.approx(float(vectors[0] @ vectors[1]))
        and two.similarity < 0.9 * abs(one.similarity) + 1e-6
    )


def test_a_pixel_that_is_not_seen_gets_nothing() -> None:
    network, (a, b) = known(), chips()
    weight = network.model[1].weight.view(16, 3, SIDE, SIDE)  # type: ignore[index, operator]
    weight[:, :, :, SIDE // 2 :] = 0
    values = explain_gradient(network, a, b).map_a
    assert np.abs(values[:, -4:]).max() < 1e-3 * np.abs(values).max()  # further away than the smoothing reaches


def test_a_damaged_network_is_named() -> None:
    network = known()
    network.model[1].weight.fill_(torch.nan)  # type: ignore[index, operator]
    with pytest.raises(DataError, match=r"^known: its gradient at the pixels is not finite"):
        explain_gradient(network, *chips())


@pytest.mark.parametrize("values", [{"steps": 0}, {"fill": "black"}])
def test_settings_that_cannot_be_met(values: dict[str, int]) -> None:
    with pytest.raises(UsageError):
        GradientSettings(**values)  # type: ignore[arg-type]


def test_maps_are_faithful_on_the_astronaut(pipeline: Pipeline) -> None:
    """The map made in PyTorch, tested on the engine's own runtime."""
    paths = [sample_photos() / name for name in ("astronaut.png", "mirrored.jpg")]
    files = [PhotoFile(str(path), path.stat().st_size, 0) for path in paths]
    a, b = pipeline.chips(files, 2)
    network = open_network(pipeline.encoder.model.spec.name, arch=None, device="cpu", batch=8)
    found = explain_gradient(network, a, b, settings=GradientSettings(8))
    vectors = pipeline.encoder.encode(np.stack([a, b]))[0]
    assert found.similarity == pytest.approx(float(vectors[0] @ vectors[1]), abs=1e-4)
    whose = identity(pipeline.encoder, network.spec)
    vectors = whose.encode(np.stack([a, b]))[0]
    test_a = deletion(whose, a, vectors[1], found.map_a)
    test_b = deletion(whose, b, vectors[0], found.map_b)
    assert test_a.important < test_a.random_mean and test_b.important < test_b.random_mean
