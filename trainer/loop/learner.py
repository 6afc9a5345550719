"""What learns: the network and its losses as one module, so that several processes wrap one thing.

    learner = make_learner(config, start, classes=180)
    parts = learner(chips, labels)                                         # pre-training
    parts = learner(chips, labels, same=same, fake=fake)                   # fine-tuning: chips are all a's, then all b's
    parts["loss"].backward()

Chips come as uint8 and are turned into the network's input on its device. Losses are computed in fp32 whatever the network is
computed in. Knows nothing of people, files and epochs.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from faceembed.engine.models.spec import ModelSpec
from faceembed.errors import UsageError
from faceembed.trainer.backbones.batch_norm import freeze_batch_norm
from faceembed.trainer.backbones.gated import GatedEncoder, gate
from faceembed.trainer.backbones.registry import find, preprocess
from faceembed.trainer.backbones.small_maps import faster_on_small_maps
from faceembed.trainer.loop.adversarial import adversarial_batch, network_input, unit_pixels
from faceembed.trainer.loop.start import Start
from faceembed.trainer.losses import entry_of, make_loss, make_settings
from faceembed.trainer.losses.authenticity import authenticity_loss
from faceembed.trainer.recipes.goals import Adversarial, Authenticity, Teachers
from faceembed.trainer.recipes.goals import Distillation as DistillationConfig
from faceembed.trainer.recipes.goals import Loss as LossConfig
from faceembed.trainer.recipes.settings import TrainConfig

Parts = dict[str, Tensor]


class Learner(nn.Module):
    """A network with the losses that it is trained with.

    Args:
        body: the network.
        spec: its input contract.
        losses: by name: ``class`` or ``pair`` (one of them, or neither), ``batch``.
        weights: of these losses.
        teacher: a network whose embeddings are held, and how.
        taught: how the targets that batches bring are learned.
        authenticity: what a `GatedEncoder` learns beside these losses; not used for any other network.
        adversarial: training on attacked crops.
        channels_last: memory layout of the input.
    """

    def __init__(
        self,
        body: nn.Module,
        spec: ModelSpec,
        losses: nn.ModuleDict,
        weights: dict[str, float],
        *,
        teacher: tuple[nn.Module, nn.Module, DistillationConfig] | None = None,
        taught: tuple[nn.Module, Teachers] | None = None,
        authenticity: Authenticity | None = None,
        adversarial: Adversarial | None = None,
        channels_last: bool = True,
    ) -> None:
        super().__init__()
        self.body = body
        self.losses = losses
        self._spec = spec
        self._weights = weights
        # A tuple hides the teacher from PyTorch: it is neither trained nor saved with the learner.
        self._teacher = teacher
        self._taught = taught
        gated = isinstance(body, GatedEncoder)
        self._authenticity = authenticity if gated and authenticity and authenticity.weight else None
        if self._authenticity:
            self._weights = {**weights, "authenticity": self._authenticity.weight}
        self._adversarial = adversarial if adversarial and adversarial.weight else None
        self._layout = torch.channels_last if channels_last else torch.contiguous_format

    def to_device(self, device: torch.device) -> None:
        """Move what PyTorch does not know of."""
        if self._teacher:
            for module in self._teacher[:2]:
                module.to(device)

    @property
    def part_names(self) -> tuple[str, ...]:
        """What `forward` gives beside ``loss``, in its order."""
        extra = (
            ("teachers", self._taught),
            ("authenticity", self._authenticity),
            ("adversarial", self._adversarial),
            ("distillation", self._teacher),
        )
        return (*self.losses, *(name for name, there in extra if there))

    def embed(self, chips: Tensor, *, body: nn.Module | None = None) -> Tensor:
        """Raw embeddings (N, D) of chips, uint8 RGB (N, H, W, 3), by the network or another of its kind."""
        embeddings: Tensor = (body or self.body)(self._input(chips))
        return embeddings

    def forward(
        self,
        chips: Tensor,
        labels: Tensor,
        same: Tensor | None = None,
        fake: Tensor | None = None,
        targets: Tensor | None = None,
        collected: Tensor | None = None,
    ) -> Parts:
        """The losses of a batch.

        Args:
            chips: uint8 RGB (N, H, W, 3); for pairs all first photos, then all second ones.
            labels: int64 (N,) whom they show; a fake has a label of its own; -1: no class loss.
            same: (N / 2,) for pairs: 1 for two real photos of one person, else 0.
            fake: bool (N,) which are deepfakes.
            targets: float32 (N, D) what the teachers say.
            collected: bool (N,) which are of pairs with a collected deepfake.

        Returns:
            ``loss``, the weighted sum, and beside it each part as it was before its weight, without a gradient.
        """
        inputs = self._input(chips)
        parts, embeddings = self._parts(inputs, labels, same, fake, collected)
        total = self._sum(parts)
        if self._adversarial:
            attacked = self._attacked(chips, lambda x: self._sum(self._parts(x, labels, same, fake, collected)[0]))
            parts["adversarial"] = self._sum(self._parts(attacked, labels, same, fake, collected)[0])
            total = total + self._adversarial.weight * parts["adversarial"]
        if self._taught:
            assert embeddings is not None and targets is not None
            loss, teachers = self._taught
            parts["teachers"] = loss(embeddings, targets)
            total = total + teachers.weight * parts["teachers"]
        if self._teacher:
            assert embeddings is not None
            parts["distillation"] = self._held(embeddings, inputs, fake)
            total = total + self._teacher[2].weight * parts["distillation"]
        return {"loss": total, **{name: value.detach() for name, value in parts.items()}}

    def _input(self, chips: Tensor) -> Tensor:
        return preprocess(chips, self._spec).contiguous(memory_format=self._layout)

    def _parts(
        self, inputs: Tensor, labels: Tensor, same: Tensor | None, fake: Tensor | None, collected: Tensor | None
    ) -> tuple[Parts, Tensor | None]:
        """The losses of a batch, and its embeddings unless nothing is learned from them."""
        parts: Parts = {}
        embeddings: Tensor | None
        if self._authenticity:
            assert isinstance(self.body, GatedEncoder) and fake is not None
            logits = self.body.texture(inputs)
            embeddings = gate(self.body.identity(inputs), logits) if self.losses else None
            parts["authenticity"] = authenticity_loss(logits, fake, smoothing=self._smoothing(collected))
        else:
            embeddings = self.body(inputs)
        for name, loss in self.losses.items():
            assert embeddings is not None
            if name == "pair":
                assert same is not None
                first, second = embeddings.chunk(2)
                parts[name] = loss(first, second, same)
            elif (known := labels >= 0).all():
                parts[name] = loss(embeddings, labels)
            else:  # crops of which only the teachers know something; the sum of none of them is 0, with a gradient of 0
                chosen = embeddings[known]
                parts[name] = loss(chosen, labels[known]) if len(chosen) else embeddings.sum() * 0
        return parts, embeddings

    def _smoothing(self, collected: Tensor | None) -> float | Tensor:
        assert self._authenticity
        least, most = self._authenticity.smoothing, self._authenticity.collected_smoothing
        return least if collected is None or most <= least else least + (most - least) * collected.float()

    def _sum(self, parts: Parts) -> Tensor:
        if not parts:
            return next(self.body.parameters()).new_zeros(())
        return torch.stack([self._weights[name] * value for name, value in parts.items()]).sum()

    def _attacked(self, chips: Tensor, loss_of: Callable[[Tensor], Tensor]) -> Tensor:
        assert self._adversarial
        modes = {module: module.training for module in self.modules()}
        self.eval()  # neither batch statistics nor those of AdaFace should see the search
        try:
            pixels = adversarial_batch(
                lambda values: network_input(values, self._spec).contiguous(memory_format=self._layout),
                unit_pixels(chips),
                loss_of,
                epsilon=self._adversarial.epsilon,
                steps=self._adversarial.steps,
                step_size=None,
            )
        finally:
            for module, mode in modes.items():
                module.training = mode
        return network_input(pixels, self._spec).contiguous(memory_format=self._layout)

    def _held(self, embeddings: Tensor, inputs: Tensor, fake: Tensor | None) -> Tensor:
        assert self._teacher
        teacher, loss, config = self._teacher
        if fake is not None and not config.fakes:
            embeddings, inputs = embeddings[~fake], inputs[~fake]
        with torch.no_grad():
            target = teacher(inputs)
        held: Tensor = loss(embeddings, target)
        return held


def make_learner(config: TrainConfig, start: Start, *, classes: int) -> Learner:
    """The network of a start with the losses that a config asks for.

    Args:
        config: the training.
        start: its network; what is asked to be frozen is frozen here. The teacher is a copy of it.
        classes: people to tell apart; used by class heads only.

    Raises:
        UsageError: a loss of the wrong kind, or settings that it does not know.
    """
    losses, weights = nn.ModuleDict(), {}
    for kind, given in wanted_losses(config).items():
        losses[kind] = make_loss(given.name, given.settings, dimension=start.spec.dimension, classes=classes)
        weights[kind] = given.weight
    teacher = None
    if config.distillation.weight:
        frozen = copy.deepcopy(start.body).eval().requires_grad_(False)
        teacher = (frozen, make_loss("distillation", config.distillation.settings), config.distillation)
    taught = (make_loss("distillation", config.teachers.settings), config.teachers) if config.taught else None
    if config.model.freeze == "body":
        _freeze_body(start.body, last=find(start.arch).last)
    if isinstance(start.body, GatedEncoder) and config.model.gate:
        start.body.identity.requires_grad_(False)
    elif config.model.batch_norm == "frozen" or (config.model.batch_norm == "auto" and config.model.start):
        freeze_batch_norm(start.body)
    if config.loop.channels_last:
        start.body.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    faster_on_small_maps(start.body)
    return Learner(
        start.body,
        start.spec,
        losses,
        weights,
        teacher=teacher,
        taught=taught,
        authenticity=config.authenticity,
        adversarial=config.adversarial,
        channels_last=config.loop.channels_last,
    )


def wanted_losses(config: TrainConfig) -> dict[str, LossConfig]:
    """The losses of a config, by kind, with their settings checked: cheap, before anything is read.

    Raises:
        UsageError: a loss of the wrong kind, or settings that it does not know.
    """
    main = "class" if config.task == "pretrain" else "pair"
    wanted: dict[str, LossConfig] = {}
    for key, given, kind in (("loss", config.loss, main), ("batch_loss", config.batch_loss, "batch")):
        if not given.name or not given.weight:
            continue
        if (found := entry_of(given.name).kind) != kind:
            raise UsageError(
                f"{key}.name is '{given.name}', a loss of kind '{found}'; {config.task} takes '{kind}' here"
            )
        make_settings(given.name, given.settings)
        wanted[kind] = given
    if config.distillation.weight:
        make_settings("distillation", config.distillation.settings)
    if config.taught:
        make_settings("distillation", config.teachers.settings)
    return wanted


def _freeze_body(body: nn.Module, *, last: str) -> None:
    """Freeze all that lies before the embedding layer, which is the module that owns the weight ``last``."""
    modules = dict(body.named_modules())
    embedding = list(modules).index(last.rpartition(".")[0])
    for module in list(modules.values())[:embedding]:
        for parameter in module.parameters(recurse=False):
            parameter.requires_grad_(False)
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            freeze_batch_norm(module)
