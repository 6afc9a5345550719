"""What a second `data align` needs: what earlier runs have done, what of it stays, and which files go.

Only files that the crop set's own tables name are ever deleted.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Sequence

from faceembed.engine.index.update import TRANSIENT
from faceembed.engine.photos.failures import Failure, read_errors
from faceembed.engine.photos.photo_file import PhotoFile, printable
from faceembed.engine.photos.places import is_below
from faceembed.errors import DataError, FaceEmbedError, UsageError
from faceembed.outputs import check_folder
from faceembed.trainer.data.crop_names import CropNames
from faceembed.trainer.data.crops import ERRORS_FILE, INFO_FILE, Crop, CropInfo, read_crops, read_info, write_crops
from faceembed.trainer.data.journal import JOURNAL_FILE, Done, read_journal
from faceembed.trainer.data.people import People
from faceembed.trainer.data.samples import CROPS_FILE


def check_output(folder: str, people: People) -> None:
    """A crop set goes into a new or empty folder, or where one is already, and not among the photos."""
    home = {CROPS_FILE: "crops", INFO_FILE: "crop set", JOURNAL_FILE: "crops begun"}
    check_folder(folder, {**home, ERRORS_FILE: "errors"}, home=home, own=True)
    for root in people.roots:
        if is_below(folder, [root]) or is_below(root, [folder]):
            raise UsageError(f"the crops cannot go to {printable(folder)}, beside the photos of {printable(root)}")


def known(folder: str, info: CropInfo) -> Done:
    """What earlier runs have done, the unfinished one included.

    Raises:
        DataError: it was made with other settings, or is damaged.
    """
    crops: dict[str, Crop] = {}
    failures: dict[str, Failure] = {}
    if os.path.exists(os.path.join(folder, CROPS_FILE)):
        _check_same(folder, read_info(folder), info)
        crops = {crop.photo: crop for crop in read_crops(folder).rows}
        failures = {failure.photo.path: failure for failure in read_errors(os.path.join(folder, ERRORS_FILE))}
    journal = read_journal(folder)
    if journal is not None:
        _check_same(folder, journal[0], info)
        for crop in journal[1].crops:
            crops[crop.photo] = crop
            failures.pop(crop.photo, None)
        for failure in journal[1].failures:
            failures[failure.photo.path] = failure
            crops.pop(failure.photo.path, None)
    return Done(list(crops.values()), list(failures.values()))


def _check_same(folder: str, stored: CropInfo, info: CropInfo) -> None:
    for field in dataclasses.fields(CropInfo):
        was, now = getattr(stored, field.name), getattr(info, field.name)
        if was != now and field.name != "encoder":
            made = f"{stored.encoder} ({stored.height}x{stored.width})" if field.name == "template" else repr(was)
            wanted = f"{info.encoder} ({info.height}x{info.width})" if field.name == "template" else repr(now)
            raise DataError(
                f"{printable(folder)} was made with {field.name} {made}, this run has {wanted}; use the same, another -o, "
                "or --fresh to start over"
            )


class Plan:
    """What is to be done, and what stays."""

    def __init__(
        self,
        folder: str,
        people: People,
        before: Done,
        photos: dict[str, PhotoFile],
    ) -> None:
        given = {sample.path: sample for sample in people.samples}
        self.kept = Done([], [])
        self._reused: dict[str, str] = {}
        done: set[str] = set()
        for crop in before.crops:
            sample = given.get(crop.photo)
            if sample is None:
                if not is_below(crop.photo, people.roots):
                    self.kept.crops.append(crop)
                continue
            if _labels(crop) != (sample.person, sample.fake, sample.method, sample.other):
                continue
            self._reused[crop.photo] = crop.crop
            stamp = (crop.size, crop.mtime_ns)
            if stamp == photos[crop.photo].stamp and _is_written(os.path.join(folder, crop.crop)):
                self.kept.crops.append(crop)
                done.add(crop.photo)
        for failure in before.failures:
            path = failure.photo.path
            if path in given:
                if failure.stage not in TRANSIENT and failure.photo.stamp == photos[path].stamp:
                    self.kept.failures.append(failure)
                    done.add(path)
            elif not is_below(path, people.roots):
                self.kept.failures.append(failure)
        self.todo = [sample for sample in people.samples if sample.path not in done]

    def names(self, names: CropNames) -> dict[str, str]:
        """The crop that each photo that is to be done goes to: where it was before, if it was."""
        return {sample.path: self._reused.get(sample.path) or names.name(sample) for sample in self.todo}


def _labels(crop: Crop) -> tuple[str, bool, str, str]:
    return (crop.person, crop.fake, crop.method, crop.other)


def _is_written(path: str) -> bool:
    try:
        return os.path.getsize(path) > 0
    except OSError:
        return False


def finish(folder: str, rows: Sequence[Crop], before: Sequence[Crop], info: CropInfo) -> int:
    """Write the table, then delete the crops that are in it no longer; returns how many."""
    write_crops(folder, rows, info)
    gone = {crop.crop for crop in before} - {crop.crop for crop in rows}
    for name in gone:
        _delete(folder, name)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(os.path.join(folder, JOURNAL_FILE))
    return len(gone)


def discard(folder: str) -> None:
    """Delete a crop set: the files that its own tables name, and nothing else."""
    names: set[str] = set()
    with contextlib.suppress(FaceEmbedError):
        names.update(crop.crop for crop in read_crops(folder).rows)
    with contextlib.suppress(FaceEmbedError):
        journal = read_journal(folder)
        names.update(crop.crop for crop in (journal[1].crops if journal else ()))
    for name in sorted(names):
        _delete(folder, name)
    for name in (CROPS_FILE, JOURNAL_FILE, ERRORS_FILE, INFO_FILE):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(folder, name))


def _delete(folder: str, name: str) -> None:
    path = os.path.normpath(os.path.join(folder, name))
    if not is_below(path, [folder]) or path == folder:
        raise DataError(f"{printable(folder)}: its {CROPS_FILE} names a file outside of it, {name!r}; is it damaged?")
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    with contextlib.suppress(OSError):
        os.rmdir(os.path.dirname(path))
