"""What an output may be: a new file, an empty one, or one that faceembed wrote before; never an input, nor somebody else's.

    check_output("report.html", "page", inputs=["pairs.csv"])

Whether a file is ours is seen by what is in it, so every kind of file that faceembed writes has a mark (`marks`). All verbs ask
here, the command line before the work begins, and the functions that write once more. Files whose names are ours, in a folder that
its user names, follow the same rule: `check_folder`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Mapping

from faceembed.errors import UsageError
from faceembed.marks import BESIDE, KINDS

_OF_INDEX = re.compile(r"\.faiss(\.(parquet|json|errors\.csv|vectors\.npy))?$")


def check_output(path: str | os.PathLike[str], kind: str, inputs: Iterable[str | os.PathLike[str]] = ()) -> None:
    """Refuse to write where something would be lost.

    Args:
        path: the file to be written.
        kind: what it will be, a key of `KINDS`.
        inputs: files that are read; what lies in a folder among them counts as well.

    Raises:
        UsageError: the file is an input, belongs to an index, or is there and nothing of ours of that kind.
    """
    name = os.fspath(path)
    for ending, other in BESIDE.get(kind, {}).items():
        check_output(os.path.splitext(name)[0] + ending, other, inputs)
    check_apart(name, inputs)
    if _OF_INDEX.search(os.path.basename(name)):
        raise UsageError(f"{name} is a name of an index's files; give another name")
    try:
        if not os.path.getsize(name):
            return
    except OSError:  # not there; or whoever writes says why it cannot be
        return
    if not os.path.isfile(name):
        return
    if not is_ours(name, kind):
        raise UsageError(
            f"{name} is there and is not {KINDS[kind][0]} that faceembed wrote: it is not replaced; give another name"
        )


def check_folder(
    folder: str | os.PathLike[str],
    files: Mapping[str, str],
    *,
    home: Collection[str] = (),
    own: bool = False,
    beside: Collection[str] = (),
    inputs: Iterable[str | os.PathLike[str]] = (),
) -> None:
    """Refuse to write into a folder where something would be lost.

    Args:
        folder: it need not be there.
        files: what will be written in it: names, and of each its kind, a key of `KINDS`.
        home: those of the names by which a folder of ours is known. Where one of them is ours, so are all, damaged ones too.
        own: files of other names will be written too, so that the folder must be ours, new or empty.
        beside: with ``own``, names of ours that may be there alone.
        inputs: as for `check_output`.

    Raises:
        UsageError: it is a file, it holds what is not ours, or a name in it belongs to an input or to somebody else.
    """
    place = os.fspath(folder)
    if os.path.exists(place) and not os.path.isdir(place):
        raise UsageError(f"{place} is a file; give a folder")
    paths = {name: os.path.join(place, name) for name in files}
    for path in paths.values():
        check_apart(path, inputs)
    if any(is_ours(paths[name], files[name]) for name in home):
        return
    if own and os.path.isdir(place) and set(os.listdir(place)) - set(beside):
        raise UsageError(f"{place} holds other files; give a new folder")
    for name, kind in files.items():
        check_output(paths[name], kind, inputs)


def check_apart(path: str | os.PathLike[str], inputs: Iterable[str | os.PathLike[str]]) -> None:
    """Refuse an output that is one of the inputs, by whatever path.

    Raises:
        UsageError: it is one.
    """
    for given in inputs:
        try:
            if os.path.samefile(path, given):
                raise UsageError(
                    f"{os.fspath(path)} is what is to be read; give another name for what is to be written"
                )
        except OSError:  # one of them is not there
            continue


def is_ours(path: str, kind: str) -> bool:
    """Whether a file is what faceembed writes of that kind."""
    try:
        return KINDS[kind][1](path)
    except (OSError, ValueError):
        return False
