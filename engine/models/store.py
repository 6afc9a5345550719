"""Where model files are kept: a folder of content-addressed ONNX files, each with its spec beside it.

    <home>/models/<name>-<first 16 of SHA-256>.onnx   the network
    <home>/models/<name>-<first 16 of SHA-256>.json   its `ModelSpec`, `sha256` filled in
    <home>/refs/<name>.json                           which of them the name means now, and when it was last verified

Every file appears whole or not at all and carries its digest in its name, so any number of processes may write the same
model at once. The store knows nothing of where a model comes from: that is `registry`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import platformdirs

from faceembed.engine.models.spec import Model, ModelSpec
from faceembed.errors import ModelError
from faceembed.files import atomic_write

Agree = Callable[[bytes, ModelSpec], ModelSpec]
"""Says of a network which runtimes do not compute it as ONNX defines it: the spec with its ``unfit``."""

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_CHUNK_BYTES = 1 << 20
_NOWHERE = Path("/nonexistent/faceembed")  # the home that Debian gives to users without one


@dataclasses.dataclass(frozen=True)
class Stored:
    """What the store holds under one name."""

    name: str
    sha256: str
    recipe: str
    """What the model was made by (`put`); the caller rebuilds when its own recipe is another one."""
    model: Model | None
    """None if the files are missing or damaged; ``problem`` then says how."""
    problem: str = ""


def unasked(data: bytes, spec: ModelSpec) -> ModelSpec:
    """The `Agree` that compares nothing."""
    return spec


def home() -> Path:
    """The folder of models and lock file: ``FACEEMBED_HOME``, else the user's cache folder.

    A user without either (a number that has no account, as containers run) gets a folder that is not there: what is only
    remembered is not, and what must be written says that FACEEMBED_HOME is to be set.
    """
    with contextlib.suppress(
        RuntimeError
    ):  # nobody knows what "~" is; older platformdirs leave it as it stands, in the current folder
        if chosen := os.environ.get("FACEEMBED_HOME"):
            return Path(chosen).expanduser().absolute()
        if (cache := Path(platformdirs.user_cache_dir("faceembed"))).is_absolute():
            return cache
    return _NOWHERE


def models_folder() -> Path:
    """The folder of the ONNX files; it need not exist yet."""
    return home() / "models"


def is_name(name: str) -> bool:
    """Whether a model may be called so."""
    return bool(_NAME.fullmatch(name)) and not name.endswith(".onnx")


def check_name(name: str) -> str:
    """The name itself, if a model may be called so.

    Raises:
        ModelError: it holds anything but lower-case letters, digits, ``.``, ``_`` and ``-``, or is over 64 long.
    """
    if not is_name(name):
        raise ModelError(f"'{name}' cannot name a model: use up to 64 of a-z, 0-9, '.', '_', '-', as in 'my-encoder'")
    return name


def file_sha256(path: str | os.PathLike[str]) -> str:
    """The SHA-256 of a file as 64 hexadecimal digits.

    Raises:
        OSError: the file cannot be read.
    """
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


@contextlib.contextmanager
def writing(folder: Path, what: str = "models") -> Iterator[None]:
    """Make ``folder`` and turn what goes wrong while writing in it into one line that helps.

    Args:
        folder: in FACEEMBED_HOME.
        what: is written, for the message.

    Raises:
        ModelError: no permission, no space, or any other `OSError` inside the block.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            advice = "the disk is full; free some space or set FACEEMBED_HOME to a folder on another disk"
        else:
            advice = f"{error.strerror or error}; set FACEEMBED_HOME to a folder that you can write to"
        raise ModelError(f"cannot write {what} to {folder}: {advice}") from error


def put(data: bytes, spec: ModelSpec, *, recipe: str) -> Model:
    """Keep a network under its spec's name, in place of what the name meant before.

    Args:
        data: the ONNX file.
        spec: its contract; ``sha256`` is filled in here.
        recipe: what the model was made by, returned by `find`.

    Raises:
        ModelError: the store cannot be written to.
    """
    sha256 = hashlib.sha256(data).hexdigest()
    path = _path(check_name(spec.name), sha256)
    with writing(path.parent), atomic_write(path) as file:
        file.write(data)
    return _refer(path, dataclasses.replace(spec, sha256=sha256), recipe)


def find(name: str) -> Stored | None:
    """What is kept under a name, verified by SHA-256; None if nothing is.

    A file whose size and time have not changed since it was last verified is not read again: hashing 250 MB takes most of a
    second at every start.
    """
    ref_path = _ref_path(check_name(name))
    try:
        ref = json.loads(ref_path.read_text("utf-8"))
        sha256, recipe, stamp = str(ref["sha256"]), str(ref["recipe"]), list(ref["verified"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError) as error:
        return Stored(name, "", "", None, f"{ref_path} is unreadable ({error})")
    path = _path(name, sha256)
    try:
        spec = ModelSpec.from_json(path.with_suffix(".json").read_text("utf-8"), where=str(path.with_suffix(".json")))
        now = _stamp(path)
        if stamp != now:
            if (actual := file_sha256(path)) != sha256:
                return Stored(
                    name, sha256, recipe, None, f"{path} is damaged: its SHA-256 is {actual}, expected {sha256}"
                )
            with contextlib.suppress(OSError):  # a read-only store works, only slower
                _write_ref(name, sha256, recipe, now)
    except (OSError, UnicodeDecodeError, ModelError) as error:
        return Stored(name, sha256, recipe, None, str(error))
    return Stored(name, sha256, recipe, Model(dataclasses.replace(spec, sha256=sha256), str(path)))


def names() -> list[str]:
    """The names of all kept models, sorted, whether their files are intact or not."""
    return sorted(path.stem for path in (home() / "refs").glob("*.json") if is_name(path.stem))


def _path(name: str, sha256: str) -> Path:
    return models_folder() / f"{name}-{sha256[:16]}.onnx"


def _ref_path(name: str) -> Path:
    return home() / "refs" / f"{name}.json"


def _stamp(path: Path) -> list[int]:
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]


def _refer(path: Path, spec: ModelSpec, recipe: str) -> Model:
    with writing(path.parent), atomic_write(path.with_suffix(".json"), "w") as file:
        file.write(spec.to_json())
    with writing(_ref_path(spec.name).parent):
        _write_ref(spec.name, spec.sha256, recipe, _stamp(path))
    return Model(spec, str(path))


def _write_ref(name: str, sha256: str, recipe: str, stamp: list[int]) -> None:
    with atomic_write(_ref_path(name), "w") as file:
        json.dump({"sha256": sha256, "recipe": recipe, "verified": stamp}, file)
