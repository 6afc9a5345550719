"""`resnet29` is dlib's network: the same numbers as the engine's ONNX, and ways to train it on."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from faceembed.engine.models import dlib_resnet
from faceembed.engine.models.spec import Model
from faceembed.engine.pipeline.encode import Encoder
from faceembed.engine.runtimes.choose import RuntimeSettings, choose
from faceembed.errors import DataError, ModelError
from faceembed.trainer.backbones.batch_norm import calibrate_batch_norm, freeze_batch_norm
from faceembed.trainer.backbones.checkpoints import load_encoder
from faceembed.trainer.backbones.registry import preprocess
from faceembed.trainer.backbones.resnet29 import ResNet29, load_dlib


@pytest.fixture(scope="module")
def chips() -> torch.Tensor:
    """uint8 RGB (12, 150, 150, 3): smooth random pictures."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (12, 3, 10, 10)).astype(np.float32)
    smooth = torch.nn.functional.interpolate(torch.from_numpy(coarse), size=150, mode="bilinear")
    return smooth.round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()


@pytest.fixture(scope="module")
def dlib() -> ResNet29:
    model = load_encoder("dlib-resnet")[0]
    assert isinstance(model, ResNet29)
    return model


def test_outputs_equal_the_engines(dlib_model: Model, dlib: ResNet29, chips: torch.Tensor) -> None:
    encoder = Encoder(dlib_model, choose(RuntimeSettings(runtime="onnxruntime")), threads=1)
    expected, norms = encoder.encode(chips.numpy())
    _, spec, arch = load_encoder("dlib-resnet", arch="resnet29")
    assert (arch, spec) == ("resnet29", dlib_model.spec)
    with torch.no_grad():
        raw = dlib(preprocess(chips, spec)).numpy()
    np.testing.assert_allclose(raw, expected * norms[:, None], atol=1e-4)


def test_training_mode_differs_before_calibration(dlib: ResNet29, chips: torch.Tensor) -> None:
    """Why calibration is needed: with statistics of the batch, dlib's weights are another network."""
    batch = preprocess(chips, dlib_resnet.build()[1])
    with torch.no_grad():
        rest, training = dlib(batch), copy.deepcopy(dlib).train()(batch)
    assert torch.nn.functional.cosine_similarity(rest, training).min() < 0.9


def test_calibration_keeps_outputs_at_rest_and_gives_them_in_training(dlib: ResNet29, chips: torch.Tensor) -> None:
    batch = preprocess(chips, dlib_resnet.build()[1])
    model = copy.deepcopy(dlib).train()
    assert calibrate_batch_norm(model, [batch[:5], batch[5:]]) == 29
    assert model.training and model.bn1.training
    assert not torch.equal(model.bn1.running_mean, dlib.bn1.running_mean)
    with torch.no_grad():
        expected, rest, training = dlib(batch), copy.deepcopy(model).eval()(batch), model(batch)
    scale = expected.abs().max().item()
    torch.testing.assert_close(rest, expected, rtol=0, atol=1e-4 * scale)
    # The batch is the one that was measured, so training mode agrees too.
    torch.testing.assert_close(training, expected, rtol=0, atol=1e-4 * scale)


def test_calibration_needs_chips(dlib: ResNet29) -> None:
    with pytest.raises(DataError, match="no chips"):
        calibrate_batch_norm(copy.deepcopy(dlib), [])


def test_frozen_layers_ignore_training_mode(dlib: ResNet29, chips: torch.Tensor) -> None:
    batch = preprocess(chips, dlib_resnet.build()[1])
    model = copy.deepcopy(dlib)
    assert freeze_batch_norm(model) == 29
    model.train()
    output = model(batch)
    output.square().sum().backward()
    torch.testing.assert_close(output.detach(), dlib(batch).detach())
    assert all(torch.equal(a, b) for a, b in zip(model.buffers(), dlib.buffers(), strict=True))
    assert model.bn1.weight.grad is not None and model.bn1.weight.grad.abs().sum() > 0
    assert model.state_dict().keys() == dlib.state_dict().keys()


def test_fresh_weights_learn() -> None:
    """A narrow network of its own dimension tells two kinds of pictures apart after a few steps, at rest too."""
    torch.manual_seed(0)
    model = ResNet29(8, width=8)
    pixels = torch.randn(16, 3, 103, 103) * 0.3
    labels = torch.arange(16) % 2
    pixels[labels == 1, 0] += 0.5
    optimiser = torch.optim.AdamW(model.parameters(), 2e-3)
    losses = []
    for _ in range(15):
        loss = torch.nn.functional.cross_entropy(model(pixels)[:, :2] * 4, labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 * losses[0]
    calibrate_batch_norm(model, [pixels])
    assert model(pixels).shape == (16, 8)


@pytest.mark.parametrize(("size", "shape"), [((150, 150), (2, 128)), ((112, 103), (2, 128))])
def test_any_size_from_103(size: tuple[int, int], shape: tuple[int, int], dlib: ResNet29) -> None:
    assert dlib(torch.zeros(2, 3, *size)).shape == shape


def test_other_layers_are_refused() -> None:
    layers = dlib_resnet.package_layers()
    with pytest.raises(ModelError, match="28 convolutions; resnet29 has 29"):
        load_dlib(ResNet29(128), [layers[0], *layers[2:]][1:])
    with pytest.raises(ModelError, match=r"do not fit resnet29 \(weights \(128, 256\), expected \(64, 256\)\)"):
        load_dlib(ResNet29(64), layers)
