"""Files of `torch.save` read without PyTorch: the same tensors as PyTorch reads, and nothing that a file names is run."""

from __future__ import annotations

import collections
import io
import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from faceembed.engine.models.torch_file import read_state
from faceembed.errors import ModelError

torch = pytest.importorskip("torch")


class Runs:
    """An object whose pickle asks for a call when it is loaded."""

    def __init__(self, call: Any, *given: Any) -> None:
        self.call, self.given = call, given

    def __reduce__(self) -> Any:
        return self.call, self.given


class Storage:
    """Stands for a storage of the archive while a pickle is written."""

    def __init__(self, kind: Any, key: str, count: int) -> None:
        self.pid = ("storage", kind, key, "cpu", count)


class Pickler(pickle.Pickler):
    def persistent_id(self, given: Any) -> Any:
        return given.pid if isinstance(given, Storage) else None


def archive(path: Path, content: Any, storages: dict[str, bytes] | None = None, **more: bytes) -> Path:
    """A file in the form of `torch.save`, with a pickle of one's own."""
    buffer = io.BytesIO()
    Pickler(buffer, protocol=2).dump(content)
    with zipfile.ZipFile(path, "w") as out:
        out.writestr("net/data.pkl", buffer.getvalue())
        for key, data in (storages or {}).items():
            out.writestr(f"net/data/{key}", data)
        for name, data in more.items():
            out.writestr(f"net/{name}", data)
    return path


def tensor(count: int, size: tuple[int, ...], stride: tuple[int, ...], *, offset: int = 0) -> Runs:
    storage = Storage(torch.FloatStorage, "0", count)
    return Runs(torch._utils._rebuild_tensor_v2, storage, offset, size, stride, False, collections.OrderedDict())


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "int64", "int32", "int16", "int8", "uint8", "bool"])
def test_tensors_are_those_of_torch(tmp_path: Path, dtype: str) -> None:
    whole = torch.arange(60).reshape(3, 4, 5).to(getattr(torch, dtype))
    state = {"plain": whole, "view": whole[1:, ::2].transpose(0, 2), "scalar": whole[2, 3, 4], "empty": whole[:0]}
    torch.save(collections.OrderedDict(state), tmp_path / "net.pt")
    found = read_state(tmp_path / "net.pt")
    assert set(found) == set(state)
    for name, value in state.items():
        np.testing.assert_array_equal(found[name], value.numpy())
        assert found[name].dtype == value.numpy().dtype


def test_a_whole_networks_state(tmp_path: Path) -> None:
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    torch.save(network.state_dict(), tmp_path / "net.pt")
    found = read_state(tmp_path / "net.pt")
    assert set(found) == set(network.state_dict())
    np.testing.assert_array_equal(found["0.weight"], network.state_dict()["0.weight"].numpy())


def test_a_packed_quantised_layer(tmp_path: Path) -> None:
    """(values - zero) * scale, per tensor and per channel, and the names of a layer that was not packed."""
    values = np.array([[-128, 0], [5, 127]], np.int8)
    weight = Storage(torch.QInt8Storage, "0", 4)
    rebuild = torch._utils._rebuild_qtensor

    def quantised(*how: Any) -> Runs:
        return Runs(rebuild, weight, 0, (2, 2), (2, 1), how, False, collections.OrderedDict())

    bias = Runs(torch._utils._rebuild_parameter, tensor(2, (2,), (1,)), False, collections.OrderedDict())
    bias.given = (
        Runs(torch._utils._rebuild_tensor_v2, Storage(torch.FloatStorage, "1", 2), 0, (2,), (1,), False, None),
        *bias.given[1:],
    )
    content = {
        "fc.scale": tensor(1, (), ()),
        "fc._packed_params.dtype": torch.qint8,
        "fc._packed_params._packed_params": (quantised(torch.per_tensor_affine, 0.5, 3), bias),
    }
    path = archive(tmp_path / "net.pt", content, {"0": values.tobytes(), "1": np.array([1, 2], "<f4").tobytes()})
    found = read_state(path)
    assert set(found) == {"fc.weight", "fc.bias"}
    np.testing.assert_array_equal(found["fc.weight"], [[-65.5, -1.5], [1, 62]])
    np.testing.assert_array_equal(found["fc.bias"], [1, 2])


@pytest.mark.parametrize("where", ["value", "key", "inside-a-tensor", "instead-of-all"])
@pytest.mark.parametrize("by", ["open", "os.system", "eval", "subprocess.call", "getattr"])
def test_nothing_that_a_file_names_is_run(tmp_path: Path, by: str, where: str) -> None:
    """Each pickle would make a file when loaded; Python's own loader shows that it does."""
    made = tmp_path / "made by the pickle"
    call = {
        "open": Runs(open, str(made), "w"),
        "os.system": Runs(os.system, f"touch '{made}'"),
        "eval": Runs(eval, f"open({str(made)!r}, 'w').close()"),
        "subprocess.call": Runs(subprocess.call, ["touch", str(made)]),
        "getattr": Runs(getattr, Runs(__import__, "pathlib"), "Path"),
    }[by]
    content: Any = {
        "value": {"stem": call, "other": tensor(4, (4,), (1,))},
        "key": [("x", call)],
        "inside-a-tensor": {"stem": Runs(torch._utils._rebuild_tensor_v2, call, 0, (4,), (1,), False, None)},
        "instead-of-all": call,
    }[where]
    path = archive(tmp_path / "net.pt", content, {"0": bytes(16)})
    with pytest.raises(
        ModelError, match=r"is not loaded: its pickle names '[\w.]+', which .* could run code"
    ) as caught:
        read_state(path)
    assert "\n" not in str(caught.value)
    assert not made.exists()


def test_the_pickle_of_that_test_would_have_run(tmp_path: Path) -> None:
    made = tmp_path / "made"
    code = f"import pickle; pickle.loads({pickle.dumps(Runs(open, str(made), 'w'))!r})"
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)
    assert made.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"x": tensor(4, (5,), (1,))}, "outside of its storage"),
        ({"x": tensor(4, (2, 2), (3, 1))}, "outside of its storage"),
        ({"x": tensor(4, (2,), (1,), offset=3)}, "outside of its storage"),
        ({"x": tensor(4, (2,), (1,), offset=-1)}, "outside of its storage"),
        ({"x": tensor(4, (2,), (-1,), offset=3)}, "outside of its storage"),
        ({"x": tensor(4, (1 << 40,), (0,))}, "outside of its storage"),
        ({"x": tensor(5, (4,), (1,))}, "storage 0 has 4 numbers, expected 5"),
        ([1, 2], "holds a list, not a state dict"),
    ],
    ids=["long", "wide", "late", "early", "backwards", "endless", "short-storage", "list"],
)
def test_tensors_that_leave_their_storage(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        read_state(archive(tmp_path / "net.pt", content, {"0": bytes(16)}))


def test_files_of_before_pytorch_1_6(tmp_path: Path) -> None:
    shared = torch.arange(12, dtype=torch.float32)
    state = {"a": shared, "b": shared[4:10].view(2, 3).t(), "half": torch.ones(3).half(), "n": torch.tensor(7)}
    torch.save(collections.OrderedDict(state), tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    found = read_state(tmp_path / "old.pt")
    assert found.keys() == state.keys()
    for name, values in state.items():
        np.testing.assert_array_equal(found[name], values.numpy())
        assert found[name].dtype == values.numpy().dtype
    data = (tmp_path / "old.pt").read_bytes()
    for keep in (0.3, 0.7, 0.99):
        (tmp_path / "cut.pt").write_bytes(data[: int(keep * len(data))])
        with pytest.raises(ModelError, match=r"is damaged|is not loaded"):
            read_state(tmp_path / "cut.pt")


def test_an_old_file_that_would_run_something_is_refused(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(2)}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    goal = tmp_path / "run"
    torch.save({"a": Runs(os.mkdir, str(goal))}, tmp_path / "bad.pt", _use_new_zipfile_serialization=False)
    with pytest.raises(ModelError, match="could run code"):
        read_state(tmp_path / "bad.pt")
    assert not goal.exists()


def test_other_files(tmp_path: Path) -> None:
    cases = {
        "text.pt": (b"hello", r"is not a file of torch\.save \("),
        "legacy.pt": (pickle.dumps({"a": 1}), r"is not a file of torch\.save \("),
    }
    for name, (data, message) in cases.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ModelError, match=message):
            read_state(tmp_path / name)
    with pytest.raises(ModelError, match="cannot read"):
        read_state(tmp_path / "none.pt")
    with pytest.raises(ModelError, match="not little-endian"):
        read_state(archive(tmp_path / "big.pt", {}, byteorder=b"big"))
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as out:
        out.writestr("readme", "no network")
    with pytest.raises(ModelError, match=r"no 'data\.pkl' in it"):
        read_state(tmp_path / "other.zip")


@pytest.mark.parametrize("keep", [0.2, 0.6, 0.98])
def test_a_truncated_file(tmp_path: Path, keep: float) -> None:
    torch.save({"a": torch.zeros(1000)}, tmp_path / "net.pt")
    data = (tmp_path / "net.pt").read_bytes()
    (tmp_path / "net.pt").write_bytes(data[: int(keep * len(data))])
    with pytest.raises(ModelError) as caught:
        read_state(tmp_path / "net.pt")
    assert "\n" not in str(caught.value)
