"""What a second run needs to know of earlier ones: which photos they have done, and what they left."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from faceembed.engine.index.faiss_file import AGAIN
from faceembed.engine.index.files import IndexFiles
from faceembed.engine.index.manifest import check_encoder, read_manifest
from faceembed.engine.index.shards import LATER, ShardFile, ShardFolder
from faceembed.engine.photos.failures import REMOVED, Failure, read_errors
from faceembed.engine.photos.photo_file import PhotoFile, decode_path, encode_path
from faceembed.engine.photos.rows import PHOTO_COLUMNS, photos_of, read_parquet
from faceembed.errors import IndexFormatError

_BEFORE = {
    "detect_size": 0,
    "pages": False,
}  # what indexes that do not say were made with: they are older than the setting
_VERSIONS = ("preprocessing", "dimension")  # what no option of a run sets
_OPTIONS = ("pages", "fps")  # without them, none
BY_HAND = "taken out of the index by hand"
TRANSIENT = ("list", "read", "memory")  # stages whose failures are tried again at every run


@dataclasses.dataclass
class Known:
    """What earlier runs have done: their photos, and the index they left."""

    files: IndexFiles
    manifest: dict[str, Any] | None
    photos: dict[str, PhotoFile]
    """Path to the photo as it was embedded, or failed for good."""
    failures: list[Failure]

    @property
    def selections(self) -> list[list[str]]:
        """The folders whose files earlier runs named, a list a run."""
        return list((self.manifest or {}).get("selections", []))

    @classmethod
    def read(
        cls, files: IndexFiles, fingerprint: dict[str, Any], *, notice: Callable[[str], None] = lambda line: None
    ) -> Known:
        """Look at the index that is there, if any; for who holds the lock, as a damaged description is mended.

        Raises:
            IndexFormatError: it is damaged, or was made by another encoder or with other settings.
        """
        if not files.exists():
            return cls(files, None, {}, [])
        manifest = read_manifest(files, notice=notice, mend=True)
        if "imported" in manifest:
            raise IndexFormatError(
                f"{files.faiss} is of vectors that were imported ({manifest['imported']}), and photos are not embedded into such; "
                "give another -o, or --fresh to start over"
            )
        encoder = fingerprint["encoder"]
        check_encoder(files, manifest, encoder["name"], encoder["sha256"])
        for key, value in fingerprint.items():
            before = manifest.get(key, value if key in LATER else _BEFORE.get(key))
            if before != value:
                advice = "use" if key in _VERSIONS else "use the same,"
                raise IndexFormatError(
                    f"{files.faiss} was made with {_said(key, before)}, this run has {_said(key, value)}; "
                    f"{advice} another -o, or --fresh to start over"
                )
        return cls._of(files, manifest)

    @classmethod
    def opened(cls, files: IndexFiles, *, notice: Callable[[str], None] = lambda line: None) -> Known:
        """The same without a model: for what changes rows and computes nothing.

        Raises:
            DataError: there is neither an index nor an unfinished run.
            IndexFormatError: it is damaged.
        """
        if not files.exists() and files.partial.exists():
            return cls(files, None, {}, [])
        return cls._of(files, read_manifest(files, notice=notice, mend=True))

    @classmethod
    def _of(cls, files: IndexFiles, manifest: dict[str, Any]) -> Known:
        table = read_parquet(files.parquet, PHOTO_COLUMNS, advice="run with --fresh")
        photos = {photo.path: photo for photo in photos_of(table)}
        _check_not_empty(files.faiss)  # a run that finds nothing new does not read it
        failures = read_errors(files.errors)
        listed = {failure.photo.path for failure in failures} | photos.keys()
        failures += [failure for failure in _removed(manifest) if failure.photo.path not in listed]
        photos.update({failure.photo.path: failure.photo for failure in failures if failure.stage not in TRANSIENT})
        return cls(files, manifest, photos, failures)

    def add_shards(self, shards: ShardFolder | None) -> list[ShardFile]:
        """Count the photos of an interrupted run's shards as done."""
        done = shards.files() if shards else []
        for shard in done:
            failures = [failure.photo for failure in shard.failures if failure.stage not in TRANSIENT]
            self.photos.update({photo.path: photo for photo in (*shard.photos(), *failures)})
        return done


def removed_rows(failures: Iterable[Failure]) -> list[list[str | int]]:
    """Of the photos that were taken out by hand, what tells later runs to leave them out, for the index's description.

    The errors file says so, too; but that looks like a log, which anybody may empty.
    """
    photos = (failure.photo for failure in failures if failure.stage == REMOVED)
    return [[encode_path(p.path), p.size, p.mtime_ns, p.ctime_ns, p.digest] for p in photos]


def _removed(manifest: dict[str, Any]) -> Iterator[Failure]:
    for path, *rest in manifest.get(REMOVED, []):
        yield Failure(PhotoFile(decode_path(path), *rest), REMOVED, BY_HAND)


def _check_not_empty(path: Path) -> None:
    try:
        if path.stat().st_size:
            return
        why = "it is empty"
    except OSError as error:
        why = error.strerror or str(error)
    raise IndexFormatError(f"{path} cannot be read ({why}); {AGAIN}")


def _said(key: str, value: object) -> str:
    """A setting as the user knows it: options that may be left out by their names."""
    if key not in _OPTIONS:
        return f"{key} {_show(value)}"
    return f"no --{key}" if value in (None, False) else f"--{key}" if value is True else f"--{key} {value:g}"


def _show(value: object) -> str:
    return f"{value['name']} ({value['sha256'][:12]})" if isinstance(value, dict) else repr(value)
