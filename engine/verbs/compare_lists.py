"""The verb `compare` of several pair lists: every encoder on each, in one table.

comparisons = compare_lists(["faceembed-r29", "mine.onnx"], ["pairs.csv", "kin.csv"])
write_comparisons("encoders.html", comparisons)
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from faceembed.engine.evaluate.comparison import Comparisons
from faceembed.engine.evaluate.pair_formats import read_pairs
from faceembed.engine.evaluate.pairs import PairList
from faceembed.engine.photos.photo_file import printable
from faceembed.engine.pipeline.progress import Notify, OnProgress
from faceembed.engine.pipeline.settings import EmbedSettings
from faceembed.engine.verbs.compare import check_list, compare_encoders
from faceembed.errors import UsageError


def compare_lists(
    encoders: Sequence[str],
    lists: Sequence[str | os.PathLike[str] | PairList],
    *,
    roots: Sequence[str | os.PathLike[str] | None] = (),
    settings: EmbedSettings | None = None,
    skip_failures: bool = False,
    quality_aware: bool = False,
    save: str | os.PathLike[str] | None = None,
    notice: Notify = lambda line: None,
    progress: OnProgress = lambda progress: None,
) -> Comparisons:
    """Measure encoders on several labelled pair lists. Rates are measured on the first.

    Args:
        lists: as ``pairs`` of `compare_encoders`; all are read before anything is computed.
        roots: the folder of each list's photos; one for all, or none.

    The others are as of `compare_encoders`, and so is what is raised.
    """
    if not lists:
        raise UsageError("give at least one pair list")
    if len(roots) not in (0, 1, len(lists)):
        raise UsageError(f"{len(roots)} roots for {len(lists)} pair lists; give one for all, or one for each, in order")
    each = roots if len(roots) == len(lists) else [*roots, None][:1] * len(lists)
    read = [
        listed if isinstance(listed, PairList) else read_pairs(listed, root=root)
        for listed, root in zip(lists, each, strict=True)
    ]
    for listed in read:
        check_list(listed)
    found = []
    for number, listed in enumerate(read):
        if len(read) > 1:
            notice(f"list {number + 1} of {len(read)}: {printable(listed.source)}")
        found.append(
            compare_encoders(
                encoders,
                listed,
                settings=settings,
                skip_failures=skip_failures,
                quality_aware=quality_aware,
                rates=number == 0,
                save=save,
                notice=notice,
                progress=progress,
            )
        )
    return Comparisons(found)
