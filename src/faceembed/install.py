"""The line that installs an extra of ours, worded for how this copy was installed.

    pip_install("train")     # pip install 'faceembed[train]', or from the checkout that it came from: pip install '/src/faceembed[train]'

pip notes where a package came from in `direct_url.json` (PEP 610); of one that came from a package index it notes nothing.
"""

from __future__ import annotations

import functools
import json
import os
import shlex
from typing import Any
from urllib.parse import unquote, urlsplit


def pip_install(extra: str = "", *, again: bool = False) -> str:
    """A line for the shell.

    Args:
        extra: what is to be installed beside us, as in ``faceembed[train]``.
        again: install also what is there already.
    """
    origin = _origin()
    flags = ["--force-reinstall"] if again else []
    flags += ["-e"] if origin.get("dir_info", {}).get("editable") else []
    return shlex.join(["pip", "install", *flags, _requirement(origin, f"[{extra}]" if extra else "")])


def _requirement(origin: dict[str, Any], extras: str) -> str:
    """PEP 508: by path where it lies on this machine and is still there, by URL where it came from elsewhere, by name otherwise."""
    url = str(origin.get("url", ""))
    parts = urlsplit(url)
    if parts.scheme == "file":
        path = unquote(parts.path)
        return f"{path}{extras}" if os.path.exists(path) else f"faceembed{extras}"
    if vcs := origin.get("vcs_info"):
        return f"faceembed{extras} @ {vcs['vcs']}+{url}@{vcs['commit_id']}"
    return f"faceembed{extras} @ {url}" if url else f"faceembed{extras}"


@functools.cache
def _origin() -> dict[str, Any]:
    """What pip noted; empty where it noted nothing that can be read."""
    from importlib import metadata  # when something is missing: every start would pay 20 ms for it

    try:
        return dict(json.loads(metadata.distribution("faceembed").read_text("direct_url.json") or "{}"))
    except (
        metadata.PackageNotFoundError,
        OSError,
        ValueError,
        TypeError,
    ):  # run from the source tree, or no pip's doing
        return {}
