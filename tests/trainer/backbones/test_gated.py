"""Gated encoders: photos keep their identity, a photo and a deepfake are orthogonal, and learning the one leaves the other as it was."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from faceembed.engine.models.spec import ModelSpec
from faceembed.errors import FaceEmbedError
from faceembed.trainer.backbones.checkpoints import load_encoder, save_checkpoint
from faceembed.trainer.backbones.gated import FineDetail, GatedEncoder, Middle, TextureNet, build_gated, gate
from faceembed.trainer.backbones.registry import build, find, preprocess
from faceembed.trainer.batches.dataset import divide, open_crops
from faceembed.trainer.export.encoder import convert
from faceembed.trainer.loop.train import train
from faceembed.trainer.loop.validate import make_validation
from faceembed.trainer.losses.authenticity import authenticity_loss
from faceembed.trainer.recipes.config import read_config
from faceembed.trainer.recipes.settings import TrainConfig

MakeCrops = Callable[..., str]
LOGITS = st.floats(-12, 12)


def cosine(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(torch.nn.functional.cosine_similarity(a.double(), b.double(), dim=-1))


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), first=LOGITS, second=LOGITS)
def test_the_cosine_is_that_of_the_identity_times_the_gates(seed: int, first: float, second: float) -> None:
    e = torch.randn(2, 8, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    made = gate(e, torch.tensor([first, second], dtype=torch.float64))
    p, q = 1 / (1 + np.exp(-first)), 1 / (1 + np.exp(-second))
    expected = (np.sqrt(p * q) + np.sqrt((1 - p) * (1 - q))) * cosine(e[0], e[1])
    assert cosine(made[0], made[1]) == pytest.approx(expected, abs=1e-9)
    assert made.norm(dim=1).tolist() == pytest.approx(e.norm(dim=1).tolist())


def test_real_and_fake() -> None:
    """The table that it is made for: two photos, two fakes, and one of each."""
    same = torch.tensor([[0.6, 0.8], [0.6, 0.8]])
    for logits, expected in (([20.0, 20.0], 1.0), ([-20.0, -20.0], 1.0), ([20.0, -20.0], 0.0)):
        made = gate(same, torch.tensor(logits))
        assert cosine(made[0], made[1]) == pytest.approx(expected, abs=1e-3)


def test_gradients_are_finite_however_sure_it_is() -> None:
    logits = torch.tensor([-1e4, -90.0, 0.0, 90.0, 1e4], requires_grad=True)
    gate(torch.randn(5, 4), logits).square().sum().backward()  # type: ignore[no-untyped-call]
    gate(torch.randn(5, 4), logits).sum().backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None and torch.isfinite(logits.grad).all()


@settings(max_examples=60, deadline=None)
@given(
    logits=st.lists(st.floats(-30, 30), min_size=1, max_size=12),
    bits=st.integers(0, 2**12 - 1),
    smoothing=st.sampled_from([0.0, 0.02, 0.3]),
    each_its_own=st.booleans(),
)
def test_authenticity_loss_and_its_gradient(
    logits: list[float], bits: int, smoothing: float, each_its_own: bool
) -> None:
    fake = np.array([bool(bits >> place & 1) for place in range(len(logits))])
    values = torch.tensor(logits, dtype=torch.float32, requires_grad=True)
    shares = smoothing * np.arange(len(logits)) / len(logits) if each_its_own else np.full(len(logits), smoothing)
    given = torch.from_numpy(shares) if each_its_own else smoothing
    loss = authenticity_loss(values, torch.from_numpy(fake), smoothing=given)
    loss.backward()  # type: ignore[no-untyped-call]
    x = values.detach().double().numpy()
    target = np.where(fake, shares, 1 - shares)
    each = target * np.logaddexp(0, -x) + (1 - target) * np.logaddexp(0, x)
    kinds = [kind for kind in (fake, ~fake) if kind.any()]
    assert loss.item() == pytest.approx(np.mean([each[kind].mean() for kind in kinds]), rel=1e-5, abs=1e-6)
    slope = (1 / (1 + np.exp(-x)) - target) * sum(kind / kind.sum() for kind in kinds) / len(kinds)
    assert values.grad is not None
    assert values.grad.double().numpy() == pytest.approx(slope, rel=1e-4, abs=1e-6)


def test_fine_detail_is_colours_and_second_differences() -> None:
    """Against NumPy, pixel by pixel: of each 2x2 pixels the colours and the four filters of their sum; whole numbers in, exact in BF16."""
    square = np.outer([-1, 2, -1], [1, -2, 1])
    wide = np.array([[-1, 2, -2], [2, -6, 8], [-2, 8, -12]])
    wide = np.block([[wide, wide[:, 1::-1]], [wide[1::-1], wide[1::-1, 1::-1]]])
    filters = [square, wide, np.array([[1, -2, 1]]), np.array([[1], [-2], [1]])]
    picture = np.random.default_rng(5).integers(0, 86, (3, 10, 14))  # sums of three are below 256
    padded = np.pad(picture.sum(0), 2)
    detail = FineDetail().eval()
    detail.norm.running_var.fill_(1e6)  # nothing is cut off
    for kind in (torch.float32, torch.bfloat16):
        weight = detail.weight.to(kind)
        assert torch.equal(weight.float(), detail.weight)
    found = torch.nn.functional.conv2d(
        torch.tensor(picture[None], dtype=torch.float32), detail.weight, stride=2, padding=2
    )
    planes = [*picture]
    for kernel in filters:
        high, wide_ = kernel.shape
        top, left = 2 - high // 2, 2 - wide_ // 2
        windows = np.lib.stride_tricks.sliding_window_view(
            padded[top : top + 9 + high, left : left + 13 + wide_], kernel.shape
        )
        planes.append((windows * kernel).sum((2, 3)))
    folded = np.stack([plane[y::2, x::2] for y in range(2) for x in range(2) for plane in planes])
    np.testing.assert_array_equal(found[0].numpy(), folded)
    scaled = detail(torch.tensor(picture[None], dtype=torch.float32))[0].numpy()
    np.testing.assert_allclose(scaled, folded / np.sqrt(1e6 + 1e-5), rtol=1e-5)


@pytest.mark.parametrize("side", [112, 150])
def test_texture_takes_the_chips_of_each_encoder(side: int) -> None:
    network = TextureNet((8, 16, 32)).eval()
    assert network(torch.randn(3, 3, side, side)).shape == (3,)


def test_identity_stays_at_rest() -> None:
    body = GatedEncoder(build("mobilefacenet"), TextureNet((8, 16, 32))).train()
    assert body.training and body.texture.training and not any(m.training for m in body.identity.modules())


@pytest.fixture
def start(tiny: ModelSpec, tmp_path: Path) -> str:
    torch.manual_seed(1)
    path = tmp_path / "start.pt"
    save_checkpoint(path, arch="tiny", dimension=16, spec=tiny, model=build("tiny").state_dict())
    return str(path)


def chip(path: Path) -> np.ndarray:
    return np.asarray(cv2.imread(str(path), cv2.IMREAD_COLOR_RGB))


def tuning(start: str, crops: str, fakes: str, *overrides: str) -> TrainConfig:
    given = [
        f"model.start='{start}'",
        f"data.crops=['{crops}']",
        f"data.fakes=['{fakes}']",
        "model.centre=0",
        "loop.device=cpu",
        "loop.precision=fp32",
        "loop.batch_size=16",
        "loop.tensorboard=false",
        "loop.epochs=6",
        "data.pairs_per_epoch=128",
        "loop.ema=0",
        "schedule.warmup_steps=2",
        "augment.jpeg_share=0",
        "data.threads=1",
    ]
    return read_config("finetune", "gated", overrides=[*given, *overrides])


@pytest.mark.parametrize("alone", [False, True])
def test_fakes_come_apart_and_the_identity_stays(
    tiny: ModelSpec, start: str, make_crops: MakeCrops, tmp_path: Path, alone: bool
) -> None:
    """Striped fakes are learned to be fakes, with pairs or without; not one weight of the start moves."""
    crops, fakes = make_crops("real", photos=6), make_crops("fakes", photos=4, methods=("swap",))
    overrides = ["loss.weight=0"] if alone else []
    report = train(tuning(start, crops, fakes, *overrides), tmp_path / "run")
    assert report.result["eer_fake"] is not None and report.start["eer_fake"] is not None
    assert report.result["eer_fake"] < report.start["eer_fake"] - 0.1
    model, spec, arch = load_encoder(report.best)
    assert isinstance(model, GatedEncoder) and arch == "tiny+gate" and spec.gated and spec.dimension == 32
    before = load_encoder(start)[0].state_dict()
    assert all(torch.equal(before[name], value) for name, value in model.identity.state_dict().items())
    chips = np.stack([chip(Path(folder) / f"p{person:02d}/0.png") for folder in (crops, fakes) for person in range(8)])
    with torch.no_grad():
        p = model.texture(preprocess(torch.from_numpy(chips), spec)).sigmoid()
    assert p[:8].mean() > p[8:].mean() + 0.2
    assert convert(model, spec, chips).min_cosine > 0.9999
    assert convert(model, spec, chips, precision="fp16").min_cosine > 0.999
    again = train(tuning(report.best, crops, fakes, "loop.epochs=1"), tmp_path / "again")
    assert load_encoder(again.best)[2] == "tiny+gate"


def test_goes_on_bit_for_bit(tiny: ModelSpec, start: str, make_crops: MakeCrops, tmp_path: Path) -> None:
    crops, fakes = make_crops("real", photos=6), make_crops("fakes", photos=4, methods=("swap",))
    whole = train(tuning(start, crops, fakes, "loop.epochs=2"), tmp_path / "whole")
    halves = tuning(start, crops, fakes, "loop.epochs=2", "schedule.name=constant")
    once = train(halves, tmp_path / "once")
    train(tuning(start, crops, fakes, "loop.epochs=1", "schedule.name=constant"), tmp_path / "parts")
    train(halves, tmp_path / "parts")
    assert (tmp_path / "once" / "metrics.csv").read_bytes() == (tmp_path / "parts" / "metrics.csv").read_bytes()
    assert whole.steps == once.steps


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model.start=''", "model.arch=tiny"], "model.gate without model.start"),
        (["model.freeze=body"], "leave model.freeze out"),
        (["distillation.weight=1"], "set distillation.weight = 0"),
        (["loss.weight=0", "authenticity.weight=0"], "nothing to learn"),
        (["authenticity.smoothing=0.5"], r"expected in \[0, 0.5\)"),
        (["model.gate=false", "data.validate_extra=['more']"], "data.validate_extra without model.gate"),
        (["data.turns=photos"], "data.turns"),
    ],
)
def test_settings_that_contradict_each_other(tiny: ModelSpec, start: str, overrides: list[str], message: str) -> None:
    with pytest.raises(FaceEmbedError, match=message):
        tuning(start, "crops", "fakes", *overrides)


def test_photos_of_another_kind_are_validated_and_never_trained_on(
    tiny: ModelSpec, start: str, make_crops: MakeCrops, tmp_path: Path
) -> None:
    crops, fakes = make_crops("real", photos=6), make_crops("fakes", photos=4, methods=("swap",))
    more = make_crops("more", people=range(30, 40), photos=1)
    config = tuning(start, crops, fakes, f"data.validate_extra=['{more}']")
    opened = open_crops(config.data, tiny)
    parts = divide(opened, config)
    assert {opened.samples[index].person for index in parts.alone} == {f"p{number}" for number in range(30, 40)}
    assert not set(parts.alone) & (set(parts.train) | set(parts.validate))
    validation = make_validation(opened, parts, config)
    assert set(parts.alone) <= set(validation.crops) and not set(parts.alone) & {
        *validation.pairs.a,
        *validation.pairs.b,
    }
    (Path(more) / "p31" / "0.png").write_bytes(b"no picture")
    report = train(config, tmp_path / "run")
    assert report.unreadable == 1 and report.crops == len(parts.train)
    with pytest.raises(FaceEmbedError, match=r"people of data\.validate_extra are trained on, the first is 'p30'"):
        train(
            tuning(start, crops, fakes, f"data.validate_extra=['{more}']", f"data.extra=['{more}']"), tmp_path / "leak"
        )


def test_names_and_dimensions() -> None:
    assert find("ir18+gate").spec.dimension == 2 * find("ir18").spec.dimension
    with pytest.raises(FaceEmbedError, match="even"):
        build_gated(find("resnet29").build, TextureNet, 129)
    with pytest.raises(FaceEmbedError, match="no architecture 'ir20'"):
        find("ir20+gate")


def test_the_middle_alone_is_looked_at() -> None:
    torch.manual_seed(2)
    net = TextureNet((4, 4, 4), middle=32).eval()
    x = torch.randn(2, 3, 40, 40)
    inside, outside = x.clone(), x.clone()
    outside[:, :, :4] = outside[:, :, -4:] = outside[..., :4] = outside[..., -4:] = 9.0
    inside[:, :, 4, 4] = 9.0
    with torch.no_grad():
        assert torch.equal(net(outside), net(x)) and not torch.equal(net(inside), net(x))


def test_a_branch_has_a_gate_of_its_own() -> None:
    """Smaller, on fewer pixels; on the face alone."""
    body = build("resnet29-branch+gate")
    assert isinstance(body, GatedEncoder) and isinstance(body.texture.middle, Middle)
    assert body.texture.logit.in_features == 2 * 96
    assert body(torch.zeros(2, 3, 150, 150)).shape == (2, 512)
