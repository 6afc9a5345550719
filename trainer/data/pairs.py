"""Pair lists for training and tests: `train.csv`, `validate.csv` and `test.csv`, which nobody is in two of.

    report = make_pairs(people, "pairs", split=read_split("split.json"), count=20_000, seed=7)

A list is a CSV of ``path_a,path_b,label,kind,method`` that `faceembed eval` reads. Both people of a fake must be in the part
that the fake is used in; a fake whose people are in different parts is left out, and counted.
"""

from __future__ import annotations

import collections
import csv
import dataclasses
import os
from collections.abc import Collection, Sequence
from typing import Any

from faceembed.engine.photos.photo_file import encode_path, printable
from faceembed.errors import DataError, UsageError
from faceembed.files import atomic_write
from faceembed.outputs import check_folder
from faceembed.trainer.data.crop_names import safe_name
from faceembed.trainer.data.people import People
from faceembed.trainer.data.sampler import KINDS, RATIOS, DrawnPairs, PairSampler, apportion
from faceembed.trainer.data.samples import Sample
from faceembed.trainer.data.split import PARTS, Split, part_of

HEADER = ("path_a", "path_b", "label", "kind", "method")


@dataclasses.dataclass(frozen=True)
class PairsReport:
    """What was written; the fields of ``data pairs --json``."""

    pairs: dict[str, int]
    """By list."""
    kinds: dict[str, dict[str, int]]
    """By list and kind."""
    methods: dict[str, dict[str, int]]
    """By list and method of the fakes."""
    people: dict[str, int]
    """Who is in each list."""
    people_missing: int
    """People of the split without a photo here."""
    people_unused: int
    """People here who are in no part of the split."""
    fakes_across: int
    """Fakes left out because their two people are in different parts, or one of them in none."""
    fakes_other_methods: int
    """Fakes left out because their method was not asked for."""
    output: str

    def to_json_dict(self) -> dict[str, Any]:
        """As a plain dictionary."""
        return dataclasses.asdict(self)


def make_pairs(
    people: People,
    output: str | os.PathLike[str],
    *,
    split: Split,
    count: int,
    ratios: Sequence[float] = RATIOS,
    seed: int = 0,
    methods: Collection[str] = (),
    leave_out: str = "",
) -> PairsReport:
    """Write the pair lists of a split.

    Args:
        people: real photos and fakes, or the crops of both.
        output: a folder for the lists; created.
        split: who is in which part.
        count: pairs altogether, divided over the parts by their number of people.
        ratios: shares of same, fake and other, in each list.
        seed: another seed gives other pairs.
        methods: of the fakes; empty for all there are.
        leave_out: fakes of this method are in none of the three lists, but in one of their own, ``test-<method>.csv``,
            with the people of ``test``.

    Raises:
        DataError: fakes of people without real photos, a part without people, or too few pairs of a kind.
        UsageError: no such method, ``count`` is not positive, or a file in ``output`` is not a list that we wrote.
    """
    if count < 1:
        raise UsageError(f"--count {count}: expected at least one pair")
    folder, name = os.path.abspath(os.fspath(output)), f"test-{safe_name(leave_out)}"
    check_folder(folder, {f"{one}.csv": "pair list" for one in (*PARTS, *([name] if leave_out else []))})
    _check_owners(people)
    others = _check_methods(people, methods, leave_out)
    parts, across = divide(people, split)
    sizes = {part: len({sample.person for sample in samples}) for part, samples in parts.items() if split[part]}
    counts = apportion(count, {part: size / sum(sizes.values()) for part, size in sizes.items()})
    wanted = set(methods) or {sample.method for sample in people.samples if sample.fake}
    lists: dict[str, tuple[Sequence[Sample], DrawnPairs]] = {}
    for part, number in counts.items():
        lists[part] = _draw(parts[part], number, wanted - {leave_out}, ratios, f"{seed}:{part}", part)
    if leave_out:
        if "test" not in counts:
            raise UsageError(f"--leave-out {leave_out} is tested on the people of test, but the split has none there")
        lists[name] = _draw(parts["test"], counts["test"], {leave_out}, ratios, f"{seed}:{name}", name)
    here, placed = set(people.real_persons), set(part_of(split))
    os.makedirs(folder, exist_ok=True)
    for name, (samples, drawn) in lists.items():
        _write(os.path.join(folder, f"{name}.csv"), samples, drawn)
    return PairsReport(
        pairs={name: len(drawn) for name, (_, drawn) in lists.items()},
        kinds={name: {kind: int((drawn.kind == kind).sum()) for kind in KINDS} for name, (_, drawn) in lists.items()},
        methods={name: _methods(samples, drawn) for name, (samples, drawn) in lists.items()},
        people={
            name: len({samples[i].person for i in {*drawn.a, *drawn.b}}) for name, (samples, drawn) in lists.items()
        },
        people_missing=len(placed - here),
        people_unused=len(here - placed),
        fakes_across=across,
        fakes_other_methods=others,
        output=folder,
    )


def divide(people: People, split: Split) -> tuple[dict[str, list[Sample]], int]:
    """The samples of each part, and how many fakes are in none because their people are not in one part.

    Raises:
        DataError: of a part that is to have people, nobody has a photo.
    """
    part = part_of(split)
    for name, persons in split.items():
        if persons and not set(persons) & set(people.real_persons):
            raise DataError(
                f"nobody of the split's {len(persons):,} people for {name} has a photo in {printable(people.source)}; is it "
                "the split of these people?"
            )
    parts: dict[str, list[Sample]] = {name: [] for name in PARTS}
    across = 0
    for sample in people.samples:
        home = part.get(sample.person)
        if sample.fake and (home is None or (sample.other and part.get(sample.other) != home)):
            across += 1
        elif home is not None:
            parts[home].append(sample)
    return parts, across


def _check_owners(people: People) -> None:
    real = set(people.real_persons)
    orphans = [sample for sample in people.samples if sample.fake and sample.person not in real]
    if orphans:
        first = orphans[0]
        raise DataError(
            f"{len(orphans):,} fakes show people without a real photo, the first is {printable(first.path)} of "
            f"'{printable(first.person)}'; were they made from the same people?"
        )


def _check_methods(people: People, methods: Collection[str], leave_out: str) -> int:
    """How many fakes are of methods that are not asked for."""
    known = collections.Counter(sample.method for sample in people.samples if sample.fake)
    for option, names in (("--methods", sorted(methods)), ("--leave-out", [leave_out] if leave_out else [])):
        for name in names:
            if name not in known:
                there = ", ".join(sorted(known)) or "there are no fakes"
                raise UsageError(f"{option} {name}: there is no fake of this method; those there are: {there}")
    if leave_out and set(methods or known) == {leave_out}:
        raise UsageError(f"--leave-out {leave_out}: it is the only method, so there would be none to train on")
    return sum(number for method, number in known.items() if methods and method not in {*methods, leave_out})


def _draw(
    samples: Sequence[Sample], count: int, methods: Collection[str], ratios: Sequence[float], seed: str, name: str
) -> tuple[Sequence[Sample], DrawnPairs]:
    chosen = [sample for sample in samples if not sample.fake or sample.method in methods]
    return chosen, PairSampler(chosen, ratios=ratios, seed=seed, what=f"{name}.csv").draw(count)


def _methods(samples: Sequence[Sample], drawn: DrawnPairs) -> dict[str, int]:
    counts = collections.Counter(samples[index].method for index in drawn.b[drawn.kind == "fake"])
    return dict(sorted(counts.items()))


def _write(path: str, samples: Sequence[Sample], drawn: DrawnPairs) -> None:
    with atomic_write(path, "w") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(HEADER)
        for a, b, kind in zip(drawn.a.tolist(), drawn.b.tolist(), drawn.kind.tolist(), strict=True):
            first, second = samples[a], samples[b]
            writer.writerow(
                (encode_path(first.path), encode_path(second.path), int(kind == "same"), kind, second.method)
            )


def parse_ratios(text: str) -> tuple[float, ...]:
    """``50,25,25`` as numbers.

    Raises:
        UsageError: not three of them.
    """
    try:
        ratios = tuple(float(cell) for cell in text.split(","))
    except ValueError:
        ratios = ()
    if len(ratios) != 3:
        raise UsageError(f"--ratios '{text}': expected three shares, of same, fake and other, as in 50,25,25")
    return ratios
