"""What the commands that take people share: which layouts they read, and whom they leave out."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from faceembed.cli.options import collected, file_option

if TYPE_CHECKING:
    from faceembed.trainer.data.people import People


@dataclasses.dataclass(frozen=True)
class Selection:
    """The values of `selection_options`."""

    images: str | None
    exclude_pairs: str | None
    manifest: str | None

    def read(self, sources: Sequence[str], notice: Callable[[str], None]) -> People:
        """The people in all of ``sources`` who are not left out; ``notice`` is told who is.

        Raises:
            DataError: as reading raises it, or nobody is left.
        """
        from faceembed.trainer.data.people import exclude_people, join_people, people_in_pairs, read_people

        people = join_people([read_people(source, images=self._images_of(source)) for source in sources])
        if self.exclude_pairs is not None:
            people = exclude_people(people, people_in_pairs(self.exclude_pairs))
        if self.manifest is not None:
            from faceembed.trainer.data.clean_manifest import only_kept, read_manifest

            people = only_kept(people, read_manifest(self.manifest))
        for note in people.notes:
            notice(note)
        return people

    def _images_of(self, source: str) -> str | None:
        return self.images if os.path.isfile(source) else None


_OPTIONS = (
    file_option("--images", metavar="DIR", help="Folder of the photos that a list such as CelebA's names."),
    file_option("--exclude-pairs", metavar="PAIRS", help="Leave out everybody named in this pair list."),
    file_option("--manifest", metavar="PARQUET", help="Leave out what this manifest of 'data clean' does not keep."),
)


def selection_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--images``, ``--exclude-pairs`` and ``--manifest``; the command receives them as ``selection``."""
    return collected(command, _OPTIONS, Selection, "selection")
