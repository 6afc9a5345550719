"""The files of one index, and how a set of files is replaced as one.

    people.faiss          vectors
    people.parquet        one row a face
    people.json           what made them
    people.errors.csv     photos without a face, and why
    people.vectors.npy    the vectors, only where the FAISS index stores them lossily
    people.partial/       a run that has not ended: finished shards, then the new files until all are in place

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
from pathlib import Path

from faceembed.errors import UsageError
from faceembed.files import atomic_write, why_no_place

_MARKER = "complete"
_STAGED = "new"


@dataclasses.dataclass(frozen=True)
class IndexFiles:
    """The paths that belong to one index."""

    faiss: Path

    @classmethod
    def of(cls, path: str | os.PathLike[str]) -> IndexFiles:
        """The files of the index called ``path``.

        Raises:
            UsageError: the name does not end in ``.faiss``, or cannot be that of a file here.
        """
        if reason := why_no_place(path, longest=".partial.trash"):
            raise UsageError(reason)
        faiss = Path(os.path.abspath(path))
        if faiss.suffix != ".faiss":
            raise UsageError(f"{path}: an index's name ends in .faiss, as in {faiss.stem}.faiss")
        return cls(faiss)

    @property
    def parquet(self) -> Path:
        """One row a face."""
        return self.faiss.with_suffix(".parquet")

    @property
    def json(self) -> Path:
        """What made the index."""
        return self.faiss.with_suffix(".json")

    @property
    def errors(self) -> Path:
        """Photos without a face."""
        return self.faiss.with_suffix(".errors.csv")

    @property
    def vectors(self) -> Path:
        """The vectors beside a lossy index."""
        return self.faiss.with_suffix(".vectors.npy")

    @property
    def partial(self) -> Path:
        """The folder of a run that has not ended."""
        return self.faiss.with_suffix(".partial")

    def exists(self) -> bool:
        """Whether there is a finished index."""
        return self.json.exists()

    def staged(self, final: Path) -> Path:
        """Where a new version of ``final`` is written."""
        return self.partial / f"{_STAGED}{''.join(final.suffixes[-2:]) if final == self.errors else final.suffix}"

    def _all(self) -> tuple[Path, ...]:
        return (self.faiss, self.parquet, self.errors, self.vectors, self.json)

    def clear_staged(self) -> None:
        """Make the partial folder ready for new files: what a killed run had written there must not join them."""
        self.partial.mkdir(parents=True, exist_ok=True)
        for final in self._all():
            self.staged(final).unlink(missing_ok=True)

    def exchange(self) -> None:
        """Put every staged file in its place, drop files that the new set does not have, and end the run."""
        present = [final.name for final in self._all() if self.staged(final).exists()]
        with atomic_write(self.partial / _MARKER, "w") as file:
            json.dump(present, file)
        self._finish(present)

    def recover(self) -> bool:
        """Finish an exchange that was interrupted; True if there was one."""
        shutil.rmtree(self._trash, ignore_errors=True)
        try:
            present = json.loads((self.partial / _MARKER).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return False
        self._finish(present)
        return True

    def _finish(self, present: list[str]) -> None:
        for final in self._all():
            if final.name not in present:
                final.unlink(missing_ok=True)
            elif (staged := self.staged(final)).exists():
                with contextlib.suppress(FileNotFoundError):  # a reader that opened the index just now was faster
                    os.replace(staged, final)
        self.drop_partial()

    @property
    def _trash(self) -> Path:
        return self.faiss.with_suffix(".partial.trash")

    def drop_partial(self) -> None:
        """Remove the folder of an unfinished run, first from its name, so that half of it is never taken for one."""
        shutil.rmtree(self._trash, ignore_errors=True)
        with contextlib.suppress(FileNotFoundError):
            os.replace(self.partial, self._trash)
        shutil.rmtree(self._trash, ignore_errors=True)

    def discard(self) -> None:
        """Remove the index and any unfinished run (``--fresh``)."""
        self.drop_partial()
        for final in self._all():
            final.unlink(missing_ok=True)
