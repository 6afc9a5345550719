"""The files of one index, and how a set of files is replaced as one.

    people.faiss                  vectors
    people.faiss.parquet          one row a face
    people.faiss.json             what made them
    people.faiss.errors.csv       photos without a face, and why
    people.faiss.vectors.npy      the vectors, only where the FAISS index stores them lossily
    people.faiss.partial/         a run that has not ended: finished shards, then the new files until all are in place

Nobody else gives a file such a name. Older versions wrote ``people.parquet``, ``people.json`` and so on; these are read where they
are an index's by their content, and the next writer gives them their new names.

New files are first written into the partial folder; a marker then says that they are complete, and only then do they
take the old ones' places. A run killed at any moment leaves either the old set or a marker, from which the next run
finishes the exchange.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from faceembed.engine.index import old_names
from faceembed.engine.index.lock import writing
from faceembed.errors import FaceEmbedError, UsageError
from faceembed.files import atomic_write, why_no_place

_MARKER = "complete"
_STAGED = "new"
_PATIENCE_SECONDS = 60  # of a reader that meets an exchange; it takes as long as a few renames


T = TypeVar("T")
Signature = tuple[tuple[int, int, int], ...]
"""What changes when the set of files is exchanged: number, size and time of each."""


@dataclasses.dataclass(frozen=True)
class IndexFiles:
    """The paths that belong to one index."""

    faiss: Path
    old: bool = False
    """Whether its other files have the names that older versions gave."""

    @classmethod
    def of(cls, path: str | os.PathLike[str]) -> IndexFiles:
        """The files of the index called ``path``.

        Raises:
            UsageError: the name does not end in ``.faiss``, or cannot be that of a file here.
        """
        if reason := why_no_place(path, longest=".faiss.partial.trash"):
            raise UsageError(reason)
        # A link to an index is that index, with its lock and its other files; a folder that is a link may stay one.
        faiss = Path(os.path.realpath(path) if os.path.islink(path) else os.path.abspath(path))
        if faiss.suffix != ".faiss":
            raise UsageError(f"{path}: an index's name ends in .faiss, as in {faiss.stem}.faiss")
        return cls(faiss, old=not Path(f"{faiss}.json").exists() and old_names.are_there(faiss))

    def _side(self, ending: str) -> Path:
        path = Path(f"{self.faiss}{ending}")
        return path if not self.old or path.exists() else self.faiss.with_suffix(ending)

    @property
    def parquet(self) -> Path:
        """One row a face."""
        return self._side(".parquet")

    @property
    def json(self) -> Path:
        """What made the index."""
        return self._side(".json")

    @property
    def errors(self) -> Path:
        """Photos without a face."""
        return self._side(".errors.csv")

    @property
    def vectors(self) -> Path:
        """The vectors beside a lossy index."""
        return self._side(".vectors.npy")

    @property
    def partial(self) -> Path:
        """The folder of a run that has not ended."""
        return self._side(".partial")

    def exists(self) -> bool:
        """Whether there is a finished index."""
        return self.json.exists()

    def staged(self, final: Path) -> Path:
        """Where a new version of ``final`` is written."""
        return self.partial / f"{_STAGED}{''.join(final.suffixes[-2:]) if final == self.errors else final.suffix}"

    def all_files(self) -> tuple[Path, ...]:
        """Those that a finished index may have, the description last."""
        return (self.faiss, self.parquet, self.errors, self.vectors, self.json)

    def ready(self) -> IndexFiles:
        """Ready for a writer, who holds the lock: under today's names, and with no exchange half done.

        Raises:
            UsageError: a file of that name is no index of ours, and is not replaced.
        """
        if self.old or old_names.unfinished(self.faiss):
            old_names.rename(self.faiss, marker=_MARKER)
        files = IndexFiles(self.faiss)
        files.finish()
        if files.faiss.exists() and not files.json.exists():
            raise UsageError(
                f"{files.faiss} is there without its {files.json.name}: it may be somebody else's and is not replaced; give another "
                "name, or delete it"
            )
        return files

    def signature(self) -> Signature:
        """That of the files that are there now."""
        found = []
        for path in self.all_files():
            with contextlib.suppress(OSError):
                info = os.stat(path)
                found.append((info.st_ino, info.st_size, info.st_mtime_ns))
        return tuple(found)

    def clear_staged(self) -> None:
        """Make the partial folder ready for new files: what a killed run had written there must not join them."""
        self.partial.mkdir(parents=True, exist_ok=True)
        for final in self.all_files():
            self.staged(final).unlink(missing_ok=True)

    def exchange(self) -> None:
        """Put every staged file in its place, drop files that the new set does not have, and end the run."""
        present = [final.name for final in self.all_files() if self.staged(final).exists()]
        with atomic_write(self.partial / _MARKER, "w") as file:
            json.dump(present, file)
        self._finish(present)

    def recover(self) -> IndexFiles:
        """Finish an exchange that was interrupted, for a reader; the files as they are now.

        Raises:
            IndexBusyError: its writer takes very long.
        """
        folders = (self.partial, old_names.unfinished(self.faiss) or self.partial)
        if not any((folder / _MARKER).exists() for folder in folders):
            return self
        with writing(self.faiss, wait_seconds=_PATIENCE_SECONDS):
            return IndexFiles.of(self.faiss).ready()

    def finish(self) -> bool:
        """Finish an exchange that was interrupted, for who holds the lock; True if there was one."""
        shutil.rmtree(self._trash, ignore_errors=True)
        try:
            present = json.loads((self.partial / _MARKER).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return False
        self._finish(present)
        return True

    def _finish(self, present: list[str]) -> None:
        for final in self.all_files():
            if not {final.name, old_names.of(self.faiss, final)} & set(present):
                final.unlink(missing_ok=True)
            elif (staged := self.staged(final)).exists():
                with contextlib.suppress(FileNotFoundError):  # a reader that opened the index just now was faster
                    os.replace(staged, final)
        self.drop_partial()

    @property
    def _trash(self) -> Path:
        return Path(f"{self.partial}.trash")

    def drop_partial(self) -> None:
        """Remove the folder of an unfinished run, first from its name, so that half of it is never taken for one."""
        shutil.rmtree(self._trash, ignore_errors=True)
        with contextlib.suppress(FileNotFoundError):
            os.replace(self.partial, self._trash)
        shutil.rmtree(self._trash, ignore_errors=True)

    def discard(self) -> None:
        """Remove the index and any unfinished run (``--fresh``)."""
        self.drop_partial()
        for final in self.all_files():
            final.unlink(missing_ok=True)


def read_whole(path: str | os.PathLike[str], load: Callable[[IndexFiles], T]) -> T:
    """What ``load`` makes of an index's files, all of one set: again, where a writer exchanged them meanwhile.

    Raises:
        FaceEmbedError: as ``load`` raises it, of files that did not change.
    """
    while True:
        files = IndexFiles.of(path).recover()
        before = files.signature()
        try:
            loaded = load(files)
        except (FaceEmbedError, OSError):
            if IndexFiles.of(path).signature() == before:
                raise
            continue
        if IndexFiles.of(path).signature() == before:
            return loaded
