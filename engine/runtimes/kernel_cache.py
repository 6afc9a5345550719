"""The kernels that TensorRT for RTX compiles for a card when a network first runs there, kept for the next start.

    <home>/engines/<name of the engine>-<network>-<sm>.kernels

An engine holds recipes; compiling them takes seconds at every start without this. The file belongs to one plan and one architecture;
whether it also fits the driver and the card's model is TensorRT's to check. What does not fit, or is damaged, is said and made anew.

16 bytes   MAGIC
64 bytes   SHA-256 of the plan, in hexadecimal
64 bytes   SHA-256 of the rest
rest       what `IRuntimeCache.serialize` gives
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from faceembed.engine.runtimes.flavours import Flavour
from faceembed.files import atomic_write

MAGIC = b"faceembed kernel"
SUFFIX = ".kernels"
_DIGEST = 64


class KernelCache:
    """The kept kernels of one network's plan. Its methods may be called from any thread.

    Args:
        path: the file; it need not exist.
        plan_sha256: of the plan.
        notice: called with lines for the user.
    """

    def __init__(self, path: Path, plan_sha256: str, *, notice: Callable[[str], None] = lambda line: None) -> None:
        self.path = path
        self._plan = plan_sha256.encode()
        self._notice = notice
        self._lock = threading.Lock()
        self._cache: Any = None
        self._kept = b""

    def attach(self, config: Any) -> None:
        """Have an execution context's kernels taken from here, and put here.

        Args:
            config: the `IRuntimeConfig` that the context will be made with. All configs share one cache.
        """
        with self._lock:
            if self._cache is None:
                self._cache = config.create_runtime_cache()
                self._load()
            config.set_runtime_cache(self._cache)

    def keep(self) -> None:
        """Write what was compiled since, if anything was. A folder that cannot be written costs the next start time, no more."""
        with self._lock:
            kernels = bytes(self._cache.serialize()) if self._cache is not None else b""
            if not kernels or kernels == self._kept:
                return
            self._kept = kernels
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                with atomic_write(self.path) as file:
                    file.write(MAGIC + self._plan + hashlib.sha256(kernels).hexdigest().encode() + kernels)
            except OSError as error:
                self._notice(f"compiled kernels are not kept: cannot write {self.path} ({error.strerror or error})")

    def _load(self) -> None:
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            return
        except OSError as error:
            self._notice(f"cannot read {self.path} ({error.strerror or error}); its kernels are compiled anew")
            return
        start = len(MAGIC)
        plan, digest = data[start : start + _DIGEST], data[start + _DIGEST : start + 2 * _DIGEST]
        kernels = data[start + 2 * _DIGEST :]
        if not data.startswith(MAGIC) or hashlib.sha256(kernels).hexdigest().encode() != digest:
            self._notice(f"{self.path} is damaged; its kernels are compiled anew")
        elif plan != self._plan:
            self._notice(f"{self.path} is of an engine that was built anew since; its kernels are compiled anew")
        elif not self._cache.deserialize(kernels):
            self._notice(f"{self.path} is of another card, driver or TensorRT; its kernels are compiled anew")
        else:
            self._kept = kernels


def kernel_cache(
    engine: Path, network: str, plan_sha256: str, *, flavour: Flavour, sm: str, notice: Callable[[str], None]
) -> KernelCache | None:
    """The kernels of a network of an engine that is kept; None for TensorRT, whose engines hold theirs compiled."""
    if not flavour.ahead_of_time:
        return None
    return KernelCache(engine.with_name(f"{engine.stem}-{network}-{sm}{SUFFIX}"), plan_sha256, notice=notice)
