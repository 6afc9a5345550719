"""A slim network's maps are taught by those of the network that it comes from, before it is taught by anything else.

    share = teach_maps(body, chips, config.maps, file=folder / MAPS, ...)     # share of SFace's last map that is not explained

One chip teaches 196 places of 512 channels, where an embedding is one row of 128 numbers: a front with random weights explains 0.78
of SFace's map after 96,000 chips (FitNets: Romero et al. 2015, https://arxiv.org/abs/1412.6550, there one map, before the rest).
First the front learns alone; then everything does, at three maps together. What is compared is the mean squared difference in units of
each channel's own variance. The last map is compared through a linear layer to all of the teacher's channels, which is then merged
with the teacher's embedding layer: the network's own.
"""

from __future__ import annotations

import dataclasses
import math
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from faceembed.engine.models import sface
from faceembed.engine.models.spec import Model
from faceembed.engine.runtimes.base import Session
from faceembed.engine.runtimes.choose import RuntimeSettings, choose
from faceembed.engine.runtimes.sessions import open_session
from faceembed.errors import ModelError, UsageError
from faceembed.files import atomic_write
from faceembed.trainer.backbones.registry import preprocess
from faceembed.trainer.backbones.slimface import SPEC, SlimFace, first_lift, merge_ending
from faceembed.trainer.backbones.small_maps import faster_on_small_maps
from faceembed.trainer.batches.dataset import CropCache
from faceembed.trainer.loop.keeper import LAST
from faceembed.trainer.loop.start import Start
from faceembed.trainer.recipes.goals import Maps
from faceembed.trainer.recipes.settings import TrainConfig

MAPS, FORMAT = "maps.pt", "faceembed-maps"
OUTPUTS = ("conv_7_relu", "conv_12_relu", "bn1")  # of SFace: where the front, the middle and the tail end
_EACH = 100  # steps between two lines and two files
_WARM_UP, _CLIP, _FRONT_SHARE = 100, 5.0, 0.5
_SPREAD_CHIPS = 256  # whose maps say how far a channel varies

Chips = Callable[[NDArray[np.int64]], NDArray[np.uint8]]


class Teacher:
    """SFace's maps of chips.

    Args:
        precision: ``bf16`` or ``fp32``.
        threads: that compute.

    Raises:
        ModelError: the package that holds SFace is not installed.
    """

    def __init__(self, precision: str, *, threads: int) -> None:
        self.graph: Any = sface.package_graph()
        """SFace's, with the maps as its outputs."""
        choice = choose(RuntimeSettings(device="cpu", precision=precision, threads=threads))
        self.graph.graph.ClearField("output")
        self.graph.graph.output.extend(
            onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in OUTPUTS
        )
        with tempfile.TemporaryDirectory(prefix="faceembed-maps-") as folder:
            path = Path(folder) / "maps.onnx"
            path.write_bytes(self.graph.SerializeToString())
            self._session: Session = open_session(Model(sface.spec(), str(path)), choice, outputs=OUTPUTS, threads=1)

    def __call__(self, chips: NDArray[np.uint8]) -> list[Tensor]:
        """uint8 RGB (N, 112, 112, 3) to three maps, float32 (N, C, H, W)."""
        return [torch.from_numpy(values) for values in self._session.run(chips)]


@dataclasses.dataclass
class _Work:
    """What is kept of a teaching that is under way."""

    body: SlimFace
    lift: nn.Conv2d
    optimizer: torch.optim.Optimizer
    step: int = 0

    def save(self, path: Path) -> None:
        content = {
            "format": FORMAT,
            "body": self.body.state_dict(),
            "lift": self.lift.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
        }
        with atomic_write(path) as file:
            torch.save(content, file)

    def load(self, path: Path) -> None:
        kept: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        self.body.load_state_dict(kept["body"])
        self.lift.load_state_dict(kept["lift"])
        self.optimizer.load_state_dict(kept["optimizer"])
        self.step = kept["step"]


def teach_first(
    start: Start, cache: CropCache, config: TrainConfig, folder: Path, *, processes: int, notice: Callable[[str], None]
) -> None:
    """`teach_maps` of a training's start before its first step; a training that goes on has it behind it, and its file is removed.

    Raises:
        UsageError: several processes.
        ModelError: as `teach_maps`.
    """
    file = folder / MAPS
    if (folder / LAST).exists():
        file.unlink(missing_ok=True)
        return
    if processes > 1:
        raise UsageError("maps.steps is for one process; teach the maps in one, and start from what comes out")
    teach_maps(
        start.body,
        lambda numbers: np.stack([cache[i] for i in numbers.tolist()]),
        np.flatnonzero(~cache.crops.fake),
        config.maps,
        file=file,
        precision=config.loop.precision,
        threads=torch.get_num_threads(),
        seed=config.seed,
        notice=notice,
    )


def teach_maps(
    body: nn.Module,
    chips: Chips,
    crops: NDArray[np.int64],
    config: Maps,
    *,
    file: Path,
    precision: str,
    threads: int,
    seed: int,
    notice: Callable[[str], None],
) -> float:
    """Teach a `SlimFace` in place, on the CPU; an earlier call on the same file is gone on with.

    Args:
        body: the network, with SFace's weights in all but its front (`load_sface`).
        chips: crop numbers to uint8 RGB (N, 112, 112, 3).
        crops: numbers of the crops to learn from.
        config: how long and how fast.
        file: where it stands, written every hundred steps.
        precision: ``bf16`` or ``fp32``.
        threads: of the teacher.
        seed: of the order of crops.
        notice: told how it goes.

    Returns:
        The share of the last map's variance that is not explained, mean of the last steps.

    Raises:
        ModelError: another kind of network, or a file that is not of this teaching; or SFace's package is not installed.
    """
    if not isinstance(body, SlimFace):
        raise ModelError("maps.steps teaches a 'slimface' that starts from 'sface', and no other network; set it to 0")
    teacher = Teacher(precision, threads=threads)
    work = _begin(body, teacher.graph, config)
    if file.exists():
        try:
            work.load(file)
        except (RuntimeError, KeyError, ValueError) as error:
            raise ModelError(f"{file} is not of this training; remove it, or use --fresh ({error})") from error
    spread = _spread(teacher(chips(_draw(crops, _SPREAD_CHIPS, seed, step=-1))))
    recent: list[float] = []
    while work.step < config.total:
        pixels = chips(_draw(crops, config.batch_size, seed, step=work.step))
        loss, last = _loss(work, pixels, teacher(pixels), spread, config, bf16=precision == "bf16")
        _learn(work, loss, config)
        recent.append(last)
        if work.step % _EACH == 0 or work.step == config.total:
            work.save(file)
            what = "SFace's first map" if work.step <= config.front_steps else "SFace's last map"
            notice(f"maps, step {work.step:,}: {100 * float(np.mean(recent[-_EACH:])):.1f} % of {what} not explained")
    merge_ending(body, teacher.graph, work.lift.weight[:, :, 0, 0], work.lift.bias)  # type: ignore[arg-type]
    body.eval()
    return float(np.mean(recent[-_EACH:])) if recent else math.nan


def _begin(body: SlimFace, graph: Any, config: Maps) -> _Work:
    """The network with the linear layer that its last map is compared through."""
    weight, bias = first_lift(body, graph)
    lift = nn.Conv2d(weight.shape[1], weight.shape[0], 1)
    with torch.no_grad():
        lift.weight.copy_(weight[:, :, None, None])
        assert lift.bias is not None
        lift.bias.copy_(bias)
    learning = [*body.front.parameters(), *body.middle.parameters(), *body.tail.parameters(), *lift.parameters()]
    groups = [
        {"params": [p for p in learning if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in learning if p.ndim <= 1], "weight_decay": 0.0},
    ]
    body.train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    faster_on_small_maps(body)
    return _Work(body, lift, torch.optim.AdamW(groups, lr=config.lr, betas=(0.9, 0.99)))


def _loss(
    work: _Work,
    pixels: NDArray[np.uint8],
    taught: Sequence[Tensor],
    spread: Sequence[Tensor],
    config: Maps,
    *,
    bf16: bool,
) -> tuple[Tensor, float]:
    """The loss of a step, and of the map that tells how far it is."""
    x = preprocess(torch.from_numpy(pixels), SPEC).contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        if work.step < config.front_steps:
            maps = [work.body.front(x)]
        else:
            front, middle, last = work.body.maps(x)
            maps = [front, middle, work.lift(last)]
    parts = [
        ((ours.float() - theirs) / sigma).square().mean()
        for ours, theirs, sigma in zip(maps, taught, spread, strict=False)
    ]
    loss = parts[0] if len(parts) == 1 else _FRONT_SHARE * parts[0] + parts[1] + parts[2]
    return loss, float(parts[-1].detach())


def _learn(work: _Work, loss: Tensor, config: Maps) -> None:
    first = work.step < config.front_steps
    begun, steps = (0, config.front_steps) if first else (config.front_steps, config.steps)
    done = (work.step - begun) / max(steps, 1)
    rate = (
        config.lr
        * min(1.0, (work.step - begun + 1) / max(min(_WARM_UP, steps // 10), 1))
        * (0.02 + 0.98 * (1 + math.cos(math.pi * done)) / 2)
    )
    for group in work.optimizer.param_groups:
        group["lr"] = rate
    work.optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_([p for group in work.optimizer.param_groups for p in group["params"]], _CLIP)
    work.optimizer.step()
    work.step += 1


def _draw(crops: NDArray[np.int64], count: int, seed: int, *, step: int) -> NDArray[np.int64]:
    rng = np.random.default_rng((seed, step + 1))
    return rng.choice(crops, min(count, len(crops)), replace=False)


def _spread(maps: Sequence[Tensor]) -> list[Tensor]:
    """Standard deviation of each channel, (C, 1, 1); a channel that hardly varies counts as one that does a little."""
    found = [values.transpose(0, 1).flatten(1).std(1) for values in maps]
    return [sigma.clamp_min(float(sigma.mean()) / 10)[:, None, None] for sigma in found]
