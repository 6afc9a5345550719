"""Who trains, who validates and who tests: a split is by person, so that nobody is in two of its parts.

    split = split_people(people.persons, train=180, validate=20, test=40, seed=7)
    write_split("split.json", split, seed=7)

Where a person goes depends on their name and the seed alone: not on the order of a listing, nor on Python's hashes.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Collection, Mapping

from faceembed.engine.photos.photo_file import decode_path, encode_path
from faceembed.errors import DataError, UsageError
from faceembed.files import atomic_write
from faceembed.outputs import check_output

PARTS = ("train", "validate", "test")
Split = dict[str, tuple[str, ...]]
"""``train``, ``validate`` and ``test``, each a sorted tuple of persons."""


def split_people(persons: Collection[str], *, train: float, validate: float, test: float, seed: int) -> Split:
    """Split people at random.

    Args:
        persons: each once.
        train, validate, test: numbers of people (whole numbers), or all three as shares of them (below 1, 0 for none)
            that sum to 1 at most.
        seed: another seed gives another split.

    Returns:
        The parts; people who are in none of them when the parts ask for fewer than there are.

    Raises:
        UsageError: numbers and shares mixed, or negative ones.
        DataError: more people are asked for than there are, or a share gives nobody.
    """
    names = sorted(set(persons))
    wanted = {"train": train, "validate": validate, "test": test}
    counts = _counts(wanted, len(names))
    order = sorted(names, key=lambda name: (_digest(name, seed), name))
    split: Split = {}
    start = 0
    for part in PARTS:
        split[part] = tuple(sorted(order[start : start + counts[part]]))
        start += counts[part]
    return split


def _counts(wanted: Mapping[str, float], people: int) -> dict[str, int]:
    asked = ", ".join(f"--{part} {value:g}" for part, value in wanted.items())
    if any(value < 0 or not math.isfinite(value) for value in wanted.values()):
        raise UsageError(f"{asked}: expected numbers of people, or shares of them, of 0 or more")
    if all(float(value).is_integer() for value in wanted.values()):
        counts = {part: int(value) for part, value in wanted.items()}
    elif any(value >= 1 for value in wanted.values()):
        raise UsageError(f"{asked}: give numbers of people for all three, or shares below 1 for all three")
    else:
        if sum(wanted.values()) > 1 + 1e-9:
            raise UsageError(f"{asked}: the shares sum to {sum(wanted.values()):g}, more than 1")
        # Rounded down from the running sum, so that shares that sum to 1 leave nobody out.
        edges = [math.floor(people * sum(list(wanted.values())[: i + 1]) + 1e-6) for i in range(len(wanted))]
        counts = dict(zip(wanted, (b - a for a, b in zip((0, *edges), edges, strict=False)), strict=True))
        if empty := [part for part, value in wanted.items() if value and not counts[part]]:
            raise DataError(f"{people} people are too few: --{empty[0]} {wanted[empty[0]]:g} of them is nobody")
    if not any(counts.values()):
        raise UsageError(f"{asked}: nobody is asked for")
    if sum(counts.values()) > people:
        raise DataError(f"{asked} is {sum(counts.values())} people, but there are {people}; ask for fewer")
    return counts


def _digest(name: str, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}:{encode_path(name)}".encode()).digest()


def part_of(split: Split) -> dict[str, str]:
    """The part each person is in."""
    return {person: part for part, persons in split.items() for person in persons}


def write_split(path: str | os.PathLike[str], split: Split, *, seed: int | None = None) -> None:
    """Write a split as JSON.

    Raises:
        OSError: as writing a file does.
    """
    document = {"seed": seed, **{part: [encode_path(person) for person in split[part]] for part in PARTS}}
    check_output(path, "split")
    with atomic_write(path, "w") as file:
        json.dump(document, file, indent=1)
        file.write("\n")


def read_split(path: str | os.PathLike[str]) -> Split:
    """Read what `write_split` wrote.

    Raises:
        DataError: it is no such file, or names a person in two parts.
    """
    where = os.fspath(path)
    try:
        with open(where, encoding="utf-8-sig") as file:
            document = json.load(file)
        split = {part: tuple(sorted(_names(document[part]))) for part in PARTS}
    except OSError as error:
        raise DataError(
            f"{where} cannot be read ({error.strerror}); make a split with: faceembed data split"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f'{where} is not a split ({error}); expected {{"train": [...], "validate": [...], "test": [...]}}'
        ) from error
    seen: dict[str, str] = {}
    for part, persons in split.items():
        for person in persons:
            if person in seen:
                raise DataError(f"{where}: '{person}' is listed twice, in {seen[person]} and in {part}")
            seen[person] = part
    return split


def _names(values: object) -> list[str]:
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise ValueError("a part must be a list of names, each in quotes")
    return [decode_path(value) for value in values]
