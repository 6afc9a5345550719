"""The weights in a file of `torch.save`, read without PyTorch and without running anything that the file names.

    weights = read_state("edgeface_xs_q.pt")       # {"model.stem.0.weight": float32 array, ...}

Such a file is a zip archive: raw storages, and a pickle that says which tensor lies where. Before PyTorch 1.6 it was these one after
another, the pickle first, after three that say what kind of file it is. A pickle may name any function of any
module to be called; this reader knows the few that make tensors, does their work itself, and refuses every other name before
anything is called. Quantised tensors are multiplied out, and a packed linear layer (weight, bias) of dynamic quantisation is
given as its weight and bias.
"""

from __future__ import annotations

import collections
import io
import pickle
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from faceembed.engine.models import safetensors_file
from faceembed.errors import ModelError

Array = NDArray[Any]
_MOST_BYTES = 1 << 30  # of all that is unpacked: no network that is read here comes near it
_PACKED = "._packed_params._packed_params"
_NO_WEIGHTS = (".scale", ".zero_point", "._packed_params.dtype")  # how activations were quantised
_STORAGES = {
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "HalfStorage": "<f2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "<i1",
    "ByteStorage": "<u1",
    "BoolStorage": "<?",
    "QInt8Storage": "<i1",
    "QUInt8Storage": "<u1",
    "QInt32Storage": "<i4",
}
_WORDS = ("qint8", "quint8", "qint32", "per_tensor_affine", "per_channel_affine")


def read_state(path: str | Path) -> dict[str, Array]:
    """All tensors of a state dict, under their names.

    Args:
        path: a file of ``torch.save(network.state_dict())``, of any version of PyTorch, or a ``.safetensors`` file.

    Returns:
        Arrays in the type of the file; quantised ones as float32.

    Raises:
        ModelError: unreadable or damaged; or its pickle names something that could run code, which is not loaded.
    """
    try:
        with open(path, "rb") as file:
            head = file.read(max(len(_LEGACY), safetensors_file.HEAD))
            file.seek(0)
            if safetensors_file.looks_so(head):
                content = safetensors_file.read(file)
            elif head.startswith(_LEGACY):
                content = _legacy(file)
            else:
                with zipfile.ZipFile(file) as archive:
                    content = _unpickled(archive)
    except zipfile.BadZipFile as error:
        raise ModelError(f"{path} is not a file of torch.save ({error}); save the network's state_dict()") from error
    except pickle.UnpicklingError as error:
        raise ModelError(f"{path} is not loaded: {error}") from error
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror or error}") from error
    except (
        ArithmeticError,
        AttributeError,
        EOFError,
        LookupError,
        NotImplementedError,
        RuntimeError,
        TypeError,
        ValueError,
    ) as error:
        raise ModelError(f"{path} is damaged: {str(error) or type(error).__name__}") from error
    if not isinstance(content, Mapping):
        raise ModelError(f"{path} holds a {type(content).__name__}, not a state dict; save the network's state_dict()")
    return _named(content)


def _named(content: Mapping[Any, Any]) -> dict[str, Array]:
    """Tensors by name, packed layers unpacked."""
    found: dict[str, Array] = {}
    for key, value in content.items():
        name = str(key)
        if name.endswith(_PACKED) and isinstance(value, tuple) and len(value) == 2:
            layer = name.removesuffix(_PACKED)
            found |= {
                f"{layer}.{kind}": part for kind, part in zip(("weight", "bias"), value, strict=True) if _is_array(part)
            }
        elif _is_array(value) and not name.endswith(_NO_WEIGHTS):
            found[name] = value
    return found


def _is_array(value: Any) -> bool:
    return isinstance(value, np.ndarray)


def _unpickled(archive: zipfile.ZipFile) -> Any:
    if sum(entry.file_size for entry in archive.infolist()) > _MOST_BYTES:
        raise ValueError(f"it unpacks to more than {_MOST_BYTES:,} bytes")
    pickles = [name for name in archive.namelist() if name.endswith("/data.pkl") or name == "data.pkl"]
    if len(pickles) != 1:
        raise ValueError("no 'data.pkl' in it, or several")
    folder = pickles[0].removesuffix("data.pkl")
    if folder + "byteorder" in archive.namelist() and archive.read(folder + "byteorder") != b"little":
        raise ValueError("its numbers are not little-endian")

    def storage_of(key: str, kind: str, count: int) -> Array:
        values = np.frombuffer(archive.read(f"{folder}data/{key}"), kind)
        if len(values) < count:
            raise ValueError(f"storage {key} has {len(values)} numbers, expected {count}")
        return values

    return _Reader(io.BytesIO(archive.read(pickles[0])), storage_of).load()


_LEGACY = pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2)
"""The pickle that files of before PyTorch 1.6 begin with."""


def _legacy(file: BinaryIO) -> Any:
    """What such a file holds. Its storages come last, so that its pickle is read once to know how large they are, and again with them."""
    sizes: dict[str, tuple[str, int]] = {}

    def noted(key: str, kind: str, count: int) -> Array:
        sizes[key] = (kind, count)
        if sum(np.dtype(kind).itemsize * count for kind, count in sizes.values()) > _MOST_BYTES:
            raise ValueError(f"it unpacks to more than {_MOST_BYTES:,} bytes")
        return np.zeros(count, kind)

    _, protocol, system = (_Reader(file, noted).load() for _ in range(3))
    if protocol != 1001 or not system.get("little_endian"):
        raise ValueError(f"its form is not known (protocol {protocol}), or its numbers are not little-endian")
    start = file.tell()
    _Reader(file, noted).load()
    storages: dict[str, Array] = {}
    for key in _Reader(file, noted).load():
        kind, count = sizes[key]
        told = int.from_bytes(file.read(8), "little", signed=True)
        data = file.read(count * np.dtype(kind).itemsize) if told == count else b""
        if told != count or len(data) < count * np.dtype(kind).itemsize:
            raise ValueError(f"storage {key} has {told} numbers, expected {count}, or is cut off")
        storages[key] = np.frombuffer(data, kind)
    file.seek(start)
    return _Reader(file, lambda key, kind, count: storages[key]).load()


class _Reader(pickle.Unpickler):
    """An unpickler whose every callable is one of ours.

    Args:
        file: with the pickle.
        storage_of: gives the numbers of a storage by its key, their type and how many there are.
    """

    def __init__(self, file: BinaryIO, storage_of: Callable[[str, str, int], Array]) -> None:
        super().__init__(file)
        self._storage_of = storage_of

    def find_class(self, module: str, name: str) -> Any:
        known: dict[tuple[str, str], Callable[..., Any]] = {
            ("collections", "OrderedDict"): collections.OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2"): _tensor,
            ("torch._utils", "_rebuild_qtensor"): _quantised,
            ("torch._utils", "_rebuild_parameter"): _parameter,
        }
        if (module, name) in known:
            return known[module, name]
        if module == "torch" and (name in _STORAGES or name in _WORDS):
            return name
        raise pickle.UnpicklingError(
            f"its pickle names '{module}.{name}', which is no part of a tensor and could run code"
        )

    def persistent_load(self, pid: Any) -> Array:
        kind, storage, key, _, count, *view = pid
        if any(part is not None for part in view):
            raise ValueError("a storage that is a view of another, a form that is not read")
        if kind != "storage" or storage not in _STORAGES:
            raise ValueError(f"a storage of an unknown kind ({storage})")
        return self._storage_of(key, _STORAGES[storage], int(count))


def _tensor(storage: Array, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> Array:
    """What `torch._utils._rebuild_tensor_v2` makes: a view of a storage; here a copy, after its bounds are checked."""
    last = offset + sum((length - 1) * step for length, step in zip(size, stride, strict=True))
    count = int(np.prod(size, dtype=np.int64))
    outside = count > len(storage) or (count > 0 and last >= len(storage))
    if outside or offset < 0 or min((*size, *stride), default=0) < 0:
        raise ValueError(f"a tensor of shape {size} lies outside of its storage of {len(storage)} numbers")
    step = storage.itemsize
    view = np.lib.stride_tricks.as_strided(storage[offset:], size, [step * each for each in stride], writeable=False)
    return view.copy()


def _quantised(storage: Array, offset: int, size: tuple[int, ...], stride: tuple[int, ...], how: Any, *_: Any) -> Array:
    """What `torch._utils._rebuild_qtensor` makes, multiplied out: (values - zero) * scale."""
    values = _tensor(storage, offset, size, stride)
    scheme, scale, zero, *axis = how
    if scheme == "per_channel_affine":
        shape = [-1 if place == axis[0] else 1 for place in range(values.ndim)]
        scale, zero = np.reshape(scale, shape), np.reshape(zero, shape)
    elif scheme != "per_tensor_affine":
        raise ValueError(f"a tensor quantised by an unknown scheme ({scheme})")
    return np.asarray((values.astype(np.float32) - np.float32(zero)) * np.float32(scale), np.float32)


def _parameter(data: Array, *_: Any) -> Array:
    return data
