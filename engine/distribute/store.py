"""Where a dataset lies: a folder, or a prefix of an object store. Each object appears whole or not at all.

    store = Store.of("s3://bucket/people", Access(endpoint="http://127.0.0.1:9000"))
    store.write("shards/17.parquet", data)
    store.sizes("shards")                      # {"17.parquet": 4711}

``file://``, ``s3://`` and ``gs://`` are Arrow's own, ``hf://`` is fsspec's (`huggingface_hub`). What is not known here: photos, faces.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
from pyarrow import fs

from faceembed.errors import DataError, UsageError
from faceembed.files import atomic_write

SCHEMES = ("file", "s3", "gs", "hf")
_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)
_RETRIES = 8  # of one request to S3: 503s and time-outs are daily bread there
_CONNECT_SECONDS, _REQUEST_SECONDS = 10, 60


def is_address(path: str) -> bool:
    """Whether it is an address with a scheme, and no path of this machine."""
    return _ADDRESS.fullmatch(path) is not None


@dataclasses.dataclass(frozen=True)
class Access:
    """How object stores are reached. Keys come from the places where each store's own tools look for them."""

    endpoint: str = ""
    """Of a store that speaks S3 elsewhere than at Amazon's: ``http://host:port``."""
    anonymous: bool = False
    """Without credentials, for public buckets."""


def filesystem_of(address: str, access: Access) -> tuple[Any, str]:
    """The file system of an address or a path of this machine, and the path in it.

    Raises:
        UsageError: a scheme that is not known, or an address without a bucket.
    """
    found = _ADDRESS.fullmatch(address)
    if found is None:
        return fs.LocalFileSystem(), os.path.abspath(address)
    scheme, path = found[1].lower(), found[2]
    if scheme == "file":
        return fs.LocalFileSystem(), os.path.abspath("/" + path.lstrip("/"))
    if scheme not in SCHEMES:
        raise UsageError(
            f"{address}: '{scheme}://' is not known here; give a path, or {', '.join(f'{s}://' for s in SCHEMES)}"
        )
    if not path.strip("/"):
        raise UsageError(f"{address} names no bucket; write {scheme}://BUCKET/PREFIX")
    if scheme == "s3":
        return _s3(access), path.rstrip("/")
    if scheme == "gs":
        return fs.GcsFileSystem(anonymous=access.anonymous), path.rstrip("/")
    try:
        from huggingface_hub import HfFileSystem  # optional: whoever has data there has it
    except ImportError as error:
        raise UsageError(f"{address} needs Hugging Face's client: pip install huggingface_hub") from error
    return fs.PyFileSystem(fs.FSSpecHandler(HfFileSystem())), path.rstrip("/")


def _s3(access: Access) -> Any:
    options: dict[str, Any] = {
        "anonymous": access.anonymous,
        "retry_strategy": fs.AwsStandardS3RetryStrategy(max_attempts=_RETRIES),
        "connect_timeout": _CONNECT_SECONDS,
        "request_timeout": _REQUEST_SECONDS,
    }
    if access.endpoint:
        scheme, _, host = access.endpoint.rpartition("://")
        if scheme not in ("http", "https") or not host:
            raise UsageError(f"--endpoint-url {access.endpoint} is no address; write http://HOST:PORT or https://HOST")
        options |= {"endpoint_override": host, "scheme": scheme, "region": os.environ.get("AWS_REGION", "us-east-1")}
    return fs.S3FileSystem(**options)


class Store:
    """Objects below one folder or prefix, by names with slashes.

    Args:
        address: for messages.
        filesystem: of Arrow.
        root: the folder in it.
    """

    def __init__(self, address: str, filesystem: Any, root: str) -> None:
        self.address, self._fs, self._root = address, filesystem, root
        self.local = isinstance(filesystem, fs.LocalFileSystem)

    @classmethod
    def of(cls, address: str, access: Access | None = None) -> Store:
        """The store at an address or a path.

        Raises:
            UsageError: as `filesystem_of`.
        """
        return cls(address, *filesystem_of(address, access or Access()))

    def path(self, name: str) -> str:
        """The full path of an object in its file system."""
        return f"{self._root}/{name}" if name else self._root

    def read(self, name: str) -> bytes | None:
        """An object; None if there is none.

        Raises:
            DataError: the store cannot be reached, or does not let us.
        """
        try:
            with self._said(name), self._fs.open_input_file(self.path(name)) as file:
                return bytes(file.read())
        except FileNotFoundError:
            return None

    def opened(self, name: str) -> Any:
        """An object to be read from at any place, of which only that is fetched.

        Raises:
            FileNotFoundError: there is none.
            DataError: as `read`.
        """
        with self._said(name):
            return self._fs.open_input_file(self.path(name))

    def write(self, name: str, data: bytes) -> None:
        """Put an object there, whole or not at all.

        Raises:
            DataError: the store cannot be reached, or does not let us.
            OSError: the disk is full, say.
        """
        path = self.path(name)
        if self.local:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with atomic_write(path) as file:
                file.write(data)
            return
        with self._said(name), self._fs.open_output_stream(path) as file:  # an object appears when its stream is closed
            file.write(data)

    def delete(self, name: str) -> None:
        """Remove an object; nothing happens if there is none."""
        with contextlib.suppress(FileNotFoundError), self._said(name):
            self._fs.delete_file(self.path(name))

    def sizes(self, folder: str) -> dict[str, int]:
        """The objects right below a folder with their bytes; none of them half written.

        Raises:
            DataError: the store cannot be reached, or does not let us.
        """
        return {info.base_name: info.size for info in self._infos(folder)}

    def times(self, folder: str) -> dict[str, float]:
        """The same with when each was put there, in seconds since 1970."""
        return {info.base_name: info.mtime_ns / 1e9 for info in self._infos(folder)}

    def _infos(self, folder: str) -> list[Any]:
        with self._said(folder):
            found = self._fs.get_file_info(fs.FileSelector(self.path(folder), allow_not_found=True))
        return [info for info in found if info.type == fs.FileType.File and not info.base_name.startswith(".")]

    @contextlib.contextmanager
    def _said(self, name: str) -> Iterator[None]:
        """What a store says, in one line."""
        try:
            yield
        except FileNotFoundError:
            raise
        except (OSError, pa.ArrowException) as error:
            if self.local:
                raise
            raise DataError(f"{self.address}/{name}: {reason_of(error)}") from error


def reason_of(error: Exception) -> str:
    """What a store said, and what to do where it is about keys."""
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    denied = any(
        word in text
        for word in (
            "ACCESS_DENIED",
            "AccessDenied",
            "credential",
            "Credential",
            "403",
            "Forbidden",
            "InvalidAccessKey",
        )
    )
    return text[:300] + (
        "; give keys (AWS_ACCESS_KEY_ID, a profile), or --anonymous for a public bucket" if denied else ""
    )
