"""Every error that faceembed raises on purpose, in one tree.

    FaceEmbedError
    ├── UsageError            contradictory or impossible settings; the command line exits with 2
    ├── ModelError            a model that is unknown, damaged, or not what its spec says
    │   └── FetchError        a download that failed or does not match its digest
    ├── DeviceError           a device, runtime or precision that was asked for and cannot serve
    ├── IndexFormatError      an index that is damaged or was made with other settings
    ├── IndexBusyError        an index that another process is writing
    ├── LossError             a run that would drop much of what an index holds, and was not told to
    ├── PairListError         a pair list that cannot be read
    ├── DataError             inputs with nothing to work on (an empty folder, pairs of one class, ...)
    └── PhotoError            one bad photo: it becomes a row of the errors file, never the end of a run

The message is one line: what is wrong, where, and what to do. A bad photo is data; only a bad set-up ends a run.
"""

from __future__ import annotations


class FaceEmbedError(Exception):
    """Base of all errors that faceembed raises on purpose."""


class UsageError(FaceEmbedError):
    """Settings that contradict each other or cannot be met."""


class ModelError(FaceEmbedError):
    """A model that is unknown, damaged, or not what its spec says."""


class FetchError(ModelError):
    """A download that failed or does not match its digest."""


class DeviceError(FaceEmbedError):
    """A device, runtime or precision that was asked for and cannot serve."""


class IndexFormatError(FaceEmbedError):
    """An index that is damaged or was made with other settings."""


class IndexBusyError(FaceEmbedError):
    """An index that another process is writing; the message names it."""


class LossError(FaceEmbedError):
    """A run that would drop much of what an index holds, as when a disk is not mounted. Nothing was changed."""


class PairListError(FaceEmbedError):
    """A pair list that cannot be read; the message names file and line."""


class DataError(FaceEmbedError):
    """Inputs with nothing to work on."""


class PhotoError(FaceEmbedError):
    """One bad photo.

    Args:
        stage: where it failed: ``read``, ``decode``, ``memory`` (there was none left) or ``detect``.
        reason: one line, for the errors file.
    """

    def __init__(self, stage: str, reason: str) -> None:
        super().__init__(reason)
        self.stage = stage
        self.reason = reason
