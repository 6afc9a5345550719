"""What an unfinished `data align` has done so far: one line a photo, appended as it goes.

The first line says what makes the crops. A run that is killed loses at most the batch it was in, and a last line that was
cut short is not one. File names that are not UTF-8 travel as JSON escapes.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterable
from typing import IO

from faceembed.engine.photos.failures import Failure
from faceembed.engine.photos.photo_file import PhotoFile
from faceembed.errors import DataError
from faceembed.trainer.data.crops import Crop, CropInfo, info_from

JOURNAL_FILE = "unfinished.jsonl"


@dataclasses.dataclass(frozen=True)
class Done:
    """What became of some photos."""

    crops: list[Crop]
    failures: list[Failure]


class Journal:
    """The journal of the crop set in a folder, open for more.

    Args:
        folder: of the crop set.
        info: what makes the crops; must be that of the journal already there.

    Raises:
        DataError: the journal is damaged.
    """

    def __init__(self, folder: str, info: CropInfo) -> None:
        path = os.path.join(folder, JOURNAL_FILE)
        new = not os.path.exists(path) or not _whole_lines(path)
        self._file: IO[str] = open(path, "w" if new else "r+", encoding="ascii", newline="\n")  # noqa: SIM115
        if new:
            self._write([{"info": dataclasses.asdict(info)}])
        else:
            self._file.truncate(sum(map(len, _whole_lines(path))))
            self._file.seek(0, os.SEEK_END)

    def close(self) -> None:
        """No more is added."""
        self._file.close()

    def add(self, done: Done) -> None:
        """Note what became of a batch."""
        self._write([{"crop": dataclasses.asdict(crop)} for crop in done.crops])
        self._write([{"failure": dataclasses.asdict(failure)} for failure in done.failures])

    def _write(self, entries: Iterable[dict[str, object]]) -> None:
        self._file.write("".join(json.dumps(entry) + "\n" for entry in entries))
        self._file.flush()


def read_journal(folder: str) -> tuple[CropInfo, Done] | None:
    """What an unfinished run has done; None if there is none.

    Raises:
        DataError: the journal is damaged.
    """
    path = os.path.join(folder, JOURNAL_FILE)
    try:
        lines = _whole_lines(path)
    except FileNotFoundError:
        return None
    if not lines:
        return None
    done = Done([], [])
    try:
        info = info_from(json.loads(lines[0])["info"], path)
        for line in lines[1:]:
            entry = json.loads(line)
            if "crop" in entry:
                fields = entry["crop"]
                done.crops.append(Crop(**{**fields, "landmarks": tuple(fields["landmarks"])}))
            else:
                fields = entry["failure"]
                done.failures.append(Failure(PhotoFile(**fields["photo"]), fields["stage"], fields["reason"]))
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is damaged ({error}); run data align again with --fresh") from error
    return info, done


def _whole_lines(path: str) -> list[bytes]:
    """Its lines up to the last that ends."""
    with open(path, "rb") as file:
        return [line for line in file if line.endswith(b"\n")]
