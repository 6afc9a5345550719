"""One driver of a dataset at a time, also where there is nothing to lock but objects.

In a folder it is the system's lock, dropped with the process. In an object store it is an object that says who holds the dataset and
until when; it is written again every few seconds, so that a driver that was killed blocks nobody for longer than `SECONDS`. Two
drivers that start in the same moment are told apart by reading it once more. Should two ever work at once, nothing is lost: each shard
has one name and one content.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from faceembed.engine.distribute.dataset import LEASE
from faceembed.engine.distribute.store import Store
from faceembed.engine.index.lock import writing
from faceembed.errors import DataError, IndexBusyError

SECONDS = 60.0
_AGAIN = 15.0
_SETTLED = 2.0


@contextlib.contextmanager
def leased(store: Store) -> Iterator[None]:
    """Hold a dataset for the block.

    Raises:
        IndexBusyError: another driver holds it.
    """
    if store.local:
        os.makedirs(store.path(""), exist_ok=True)
        with writing(Path(store.path("dataset"))):
            yield
        return
    own = {"token": secrets.token_hex(8), "pid": os.getpid(), "host": socket.gethostname()}
    _refuse(store, own["token"])
    _write(store, own)
    time.sleep(_SETTLED)
    _refuse(store, own["token"])
    ended = threading.Event()

    def renew() -> None:
        while not ended.wait(_AGAIN):
            with contextlib.suppress(DataError):  # the next one may get through; the work is safe without
                _write(store, own)

    thread = threading.Thread(target=renew, name="faceembed-lease", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        with contextlib.suppress(DataError):
            store.delete(LEASE)


def _refuse(store: Store, token: object) -> None:
    try:
        held = dict(json.loads(store.read(LEASE) or b"{}"))
        until, who = float(held.get("until", 0)), f"process {held.get('pid')} on {held.get('host')}"
    except (ValueError, TypeError):
        return
    if held.get("token") != token and until > time.time():
        raise IndexBusyError(f"{store.address} is being written by {who}; wait until that has ended")


def _write(store: Store, own: dict[str, object]) -> None:
    store.write(LEASE, json.dumps({**own, "until": time.time() + SECONDS}).encode())
