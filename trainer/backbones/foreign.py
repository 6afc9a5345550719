"""Other projects' checkpoints: their weights under our names, and what pixels they want.

    weights = read_weights("adaface_ir50_ms1mv2.ckpt", find("ir50"))
    weights.state, weights.colour      # colour "bgr": the original AdaFace; None: the file does not tell

Known are AdaFace's Lightning ``.ckpt`` (prefix ``model.``, the class head beside it), CVLface's ``model.pt`` (``net.``) and
``model.safetensors`` (``model.net.``), facenet-pytorch's ``.pt`` (no prefix, ``logits`` of its classes), and a bare state
dict. A pickle is read without running anything it names: classes of other libraries become inert stand-ins.
"""

from __future__ import annotations

import collections
import dataclasses
import os
import pickle
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from faceembed.engine.models.spec import Colour
from faceembed.errors import ModelError
from faceembed.install import pip_install
from faceembed.trainer.backbones.registry import ARCHITECTURES, Architecture

_EXTRAS = re.compile(r"(module\.)?head\.|logits\.(weight|bias)$")  # class weights, of no use without their classes
_UNUSED = "num_batches_tracked"  # counts training steps; older files have none
_OBJECTS = ("argparse.", "lightning.", "lightning_fabric.", "omegaconf.", "pytorch_lightning.")
_VALUES = ("numpy.", "pathlib.")
_CONFIGS = ("model.yaml", "config.json", "pretrained_model/model.yaml")  # beside CVLface's weights


@dataclasses.dataclass(frozen=True)
class Weights:
    """What a file holds for one architecture."""

    state: dict[str, Tensor]
    """Under our names, complete."""
    dimension: int
    colour: Colour | None
    """Channel order of the input; None where the file does not tell."""


class _Object:
    """Takes the place of another library's class while its pickle is read: what is made of it is an empty dictionary."""

    def __new__(cls, *_: object, **__: object) -> Any:
        return collections.OrderedDict()  # the one kind of mapping that PyTorch fills and gives attributes


class _Value:
    """The same for numbers and paths, which a pickle makes in ways of their own; keeps nothing."""

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


def load_pickle(path: str | os.PathLike[str]) -> Any:
    """Read a file of `torch.save` without running code from it.

    Raises:
        ModelError: unreadable, or it holds objects that only their own code could rebuild; the message says how to convert.
    """
    try:
        named = _named_objects(path)
        stand_ins: list[Any] = [(_Object, name) for name in named if name.startswith(_OBJECTS)]
        stand_ins += [(_Value, name) for name in named if name.startswith(_VALUES)]
        with torch.serialization.safe_globals(stand_ins):
            return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror or error}") from error
    except pickle.UnpicklingError as error:
        refused = re.search(r"GLOBAL ([\w.]+)", str(error))
        what = f"an object of '{refused[1]}'" if refused else "what PyTorch does not read as weights alone"
        raise ModelError(
            f"{path} is not a readable checkpoint: it holds {what}, which is not loaded as that could run code; if you "
            f"trust the file, convert it: {_conversion(path)}"
        ) from error
    except (RuntimeError, EOFError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise _damaged(path, error) from error


def _named_objects(path: str | os.PathLike[str]) -> list[str]:
    """What a pickle names beyond tensors; empty for the older format, which has no such listing."""
    with open(path, "rb") as file:
        if file.read(4) != b"PK\x03\x04":
            return []
    return torch.serialization.get_unsafe_globals_in_checkpoint(os.fspath(path))


def _damaged(path: str | os.PathLike[str], error: Exception) -> ModelError:
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return ModelError(f"{path} is not a readable checkpoint, or is cut short ({reason})")


def _conversion(path: str | os.PathLike[str]) -> str:
    code = (
        "import sys, torch; c = torch.load(sys.argv[1], map_location='cpu', weights_only=False); "
        "torch.save({'state_dict': c['state_dict']} if 'state_dict' in c else c, sys.argv[2])"
    )
    return f'python -c "{code}" {shlex.quote(os.fspath(path))} weights.ckpt'


def load_state(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """All tensors of a checkpoint, under the names that they have there.

    Raises:
        ModelError: unreadable, or there are none.
    """
    return _load_safetensors(path) if is_safetensors(path) else _tensors(path, load_pickle(path))


def is_safetensors(path: str | os.PathLike[str]) -> bool:
    """Whether a file begins as a safetensors file does: the length of a header, and the header.

    Raises:
        ModelError: it cannot be read.
    """
    try:
        with open(path, "rb") as file:
            head = file.read(16)
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror or error}") from error
    return head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 1 << 30


def _load_safetensors(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ImportError as error:
        raise ModelError(f"{path} is a safetensors file; run: {pip_install('train')}") from error
    try:
        return dict(load_file(path))
    except (SafetensorError, OSError, ValueError) as error:
        raise _damaged(path, error) from error


def _tensors(path: str | os.PathLike[str], content: Any) -> dict[str, Tensor]:
    if isinstance(content, Mapping):
        for key in ("state_dict", "model_state_dict", "model"):
            if isinstance(content.get(key), Mapping):
                content = content[key]
                break
        found = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
        if found:
            return found
    raise ModelError(f"{path} holds no state dict, only a {type(content).__name__}; save the network's state_dict()")


def read_weights(path: str | os.PathLike[str], architecture: Architecture) -> Weights:
    """Read another project's checkpoint for one architecture.

    Raises:
        ModelError: unreadable, or of another architecture; the message names the one that fits, or what differs.
    """
    found = load_state(path)
    prefix = _prefix(found, architecture)
    state = _without(found, prefix)
    wanted = _shapes(architecture, state)
    if problem := _difference(state, wanted):
        fits = [other.name for other in ARCHITECTURES.values() if _fits(found, other)]
        advice = f"it is '{fits[0]}': give --arch {fits[0]}" if fits else f"no architecture here fits ({problem})"
        raise ModelError(f"{path} does not hold '{architecture.name}'; {advice}")
    strange = [name for name in found if not name.startswith(prefix) and not _EXTRAS.match(name)]
    strange += [name for name in state if name not in wanted and not _EXTRAS.match(name)]
    if strange:
        raise ModelError(
            f"{path} holds {len(strange)} weights that '{architecture.name}' has not, such as '{strange[0]}'"
        )
    complete = {name: state.get(name, torch.zeros((), dtype=torch.int64)) for name in wanted}
    return Weights(complete, int(wanted[architecture.last][0]), _colour(Path(path), prefix, architecture))


def _prefix(found: Mapping[str, Tensor], architecture: Architecture) -> str:
    """What stands before our names: that under which most of them are found."""
    endings = [name.removesuffix(architecture.last) for name in found if name.endswith(architecture.last)]
    return max(endings, key=lambda prefix: sum(name.startswith(prefix) for name in found), default="")


def _without(found: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in found.items() if name.startswith(prefix)}


def _shapes(architecture: Architecture, state: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """The names and shapes of an architecture whose embedding is as long as the state's."""
    last = state.get(architecture.last)
    dimension = last.shape[0] if last is not None and last.ndim else architecture.spec.dimension
    with torch.device("meta"):
        model = architecture.build(max(1, dimension))
    return {name: tuple(value.shape) for name, value in model.state_dict().items()}


def _difference(state: Mapping[str, Tensor], wanted: Mapping[str, tuple[int, ...]]) -> str:
    """The first thing in which a state is not the wanted one; empty if it has all that is wanted."""
    missing = [name for name in wanted if name not in state and not name.endswith(_UNUSED)]
    other = [name for name, shape in wanted.items() if name in state and tuple(state[name].shape) != shape]
    if not missing and not other:
        return ""
    if missing:
        extra = [name for name in state if name not in wanted and not _EXTRAS.match(name)]
        more = f", and {len(extra)} of its own such as '{extra[0]}'" if extra else ""
        return f"{len(missing)} of {len(wanted)} weights are missing, such as '{missing[0]}'{more}"
    name = other[0]
    return f"{len(other)} weights differ in shape: '{name}' is {tuple(state[name].shape)}, expected {wanted[name]}"


def _fits(found: Mapping[str, Tensor], architecture: Architecture) -> bool:
    state = _without(found, _prefix(found, architecture))
    wanted = _shapes(architecture, state)
    strange = [name for name in state if name not in wanted and not _EXTRAS.match(name)]
    return not strange and not _difference(state, wanted)


def _colour(path: Path, prefix: str, architecture: Architecture) -> Colour | None:
    """What a checkpoint says of its channel order: CVLface by a file beside it or its prefix, AdaFace by its prefix."""
    if not architecture.name.startswith("ir"):
        return architecture.spec.colour
    if prefix.endswith("net."):
        for name in _CONFIGS:
            if (said := _color_space(path.parent / name)) is not None:
                return said
        return "rgb"
    return "bgr" if prefix == "model." else None


def _color_space(path: Path) -> Colour | None:
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return None
    match = re.search(r"""color_space["']?\s*:\s*["']?(RGB|BGR)\b""", text, re.IGNORECASE)
    return None if match is None else ("bgr" if match[1].lower() == "bgr" else "rgb")
