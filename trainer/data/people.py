"""Whose photos there are: every layout of a set of people is read into the same samples.

    people = read_people("people")                                    # people/<person>/<photo>
    people = read_people("identity_CelebA.txt", images="img_celeba")  # lines 'file person'
    people = read_people("kryptonite/train")                          # images/<label>/<i>.jpg and meta.json
    people = read_people("fakes")                                     # what `data fakes` wrote
    people = read_people("crops")                                     # what `data align` wrote
    people = exclude_people(people, people_in_pairs("lfw_pairs.txt"))

Samples are sorted by person and path, so nothing that is drawn from them depends on the order of a listing. Reading opens
no photo: an unreadable one is found, and said, by `data align`.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, get_args

from faceembed.engine.evaluate.kryptonite import real_and_fake
from faceembed.engine.evaluate.pair_formats import read_pairs
from faceembed.engine.photos.archives.names import as_folders
from faceembed.engine.photos.archives.opened import kind_of
from faceembed.engine.photos.listing import list_photos
from faceembed.engine.photos.photo_file import decode_path, printable
from faceembed.engine.photos.places import is_photo_file
from faceembed.engine.photos.rows import read_parquet
from faceembed.errors import DataError, IndexFormatError, PairListError, UsageError
from faceembed.trainer.data.crops import read_crops
from faceembed.trainer.data.samples import CROPS_FILE, Sample

Layout = Literal["auto", "folders", "celeba", "lfw", "kryptonite", "fakes", "crops"]

FAKES_FILE = "fakes.parquet"
UNKNOWN_METHOD = "unknown"  # of fakes in a set that does not say how they were made
_CELEBA_IMAGES = ("img_celeba", "img_align_celeba", os.path.join("..", "Img", "img_celeba"))


@dataclasses.dataclass(frozen=True)
class People:
    """The samples of one set, sorted by person and path."""

    source: str
    """The file or folder they were read from."""
    samples: tuple[Sample, ...]
    notes: tuple[str, ...] = ()
    """Lines for the user: what was left out."""
    roots: tuple[str, ...] = ()
    """The folders that the photos lie in."""

    @functools.cached_property
    def persons(self) -> tuple[str, ...]:
        """Everybody once, sorted; the second person of a fake does not count."""
        return tuple(sorted(self._by_person))

    @functools.cached_property
    def real_persons(self) -> tuple[str, ...]:
        """Everybody with a real photo, sorted."""
        return tuple(sorted({sample.person for sample in self.samples if not sample.fake}))

    def of(self, person: str) -> tuple[Sample, ...]:
        """One person's samples; none if nobody has that name."""
        return self._by_person.get(person, ())

    @functools.cached_property
    def _by_person(self) -> Mapping[str, tuple[Sample, ...]]:
        found: dict[str, list[Sample]] = collections.defaultdict(list)
        for sample in self.samples:
            found[sample.person].append(sample)
        return {person: tuple(samples) for person, samples in found.items()}


def read_people(
    path: str | os.PathLike[str], *, layout: Layout = "auto", images: str | os.PathLike[str] | None = None
) -> People:
    """Read a set of people.

    Args:
        path: a folder, or for ``celeba`` the identity list.
        layout: ``auto`` looks: a file is CelebA's list, or an archive of a folder for each person, a folder with ``fakes.parquet`` or ``crops.parquet`` is what our
            commands wrote, one with ``meta.json`` is Kryptonite's, any other holds a folder for each person.
        images: the folder of the photos that CelebA's list names. Default: ``img_celeba`` or ``img_align_celeba`` beside it.

    Raises:
        DataError: it does not exist, holds no photos, or is not in that layout.
        UsageError: no such layout, or ``images`` given for another layout.
    """
    source = os.path.abspath(os.fspath(path))
    if layout not in get_args(Layout):
        raise UsageError(f"layout '{layout}' is unknown; known are {', '.join(get_args(Layout))}")
    if not os.path.exists(source):
        raise DataError(f"{printable(source)} does not exist; give a folder of people, or a list such as CelebA's")
    chosen = _look(source) if layout == "auto" else layout
    root = source
    if images is not None and chosen != "celeba":
        raise UsageError(f"a folder of images belongs to a list such as CelebA's; {printable(source)} is a folder")
    notes: list[str] = []
    if chosen == "celeba":
        root = os.path.abspath(_images_beside(source) if images is None else os.fspath(images))
        samples = _read_list(source, root)
    else:
        readers = {"kryptonite": _read_kryptonite, "fakes": _read_fakes, "crops": _read_crops}
        samples = readers[chosen](source) if chosen in readers else _read_folders(source, notes)
    if not samples:
        raise DataError(f"{printable(source)} holds no photos of people; expected {_EXPECTED[chosen]}")
    return People(source, tuple(sorted(samples, key=_order)), tuple(notes), (root,))


_EXPECTED = {
    "folders": "a folder for each person, as in ann/1.jpg (JPEG, PNG, WebP, BMP or TIFF)",
    "lfw": "a folder for each person, as in Ann_Lee/Ann_Lee_0001.jpg",
    "celeba": "lines of a file and its person, as in: 000001.jpg 2880",
    "kryptonite": "images/<label>/<i>.jpg and meta.json",
    "fakes": "rows in fakes.parquet",
    "crops": "rows in crops.parquet",
}


def exclude_people(people: People, names: Iterable[str]) -> People:
    """Leave out everybody in ``names``, and every fake that shows one of them.

    Raises:
        DataError: nobody is left.
    """
    unwanted = set(names)
    kept = tuple(s for s in people.samples if s.person not in unwanted and s.other not in unwanted)
    if not kept:
        raise DataError(
            f"{printable(people.source)}: all {len(people.persons)} people are to be left out; nobody is left"
        )
    gone = len(people.persons) - len({sample.person for sample in kept})
    if len(kept) == len(people.samples):
        return people
    note = f"{gone:,} people ({len(people.samples) - len(kept):,} photos) were left out of {people.source} as asked"
    return dataclasses.replace(people, samples=kept, notes=(*people.notes, note))


def join_people(sets: Sequence[People]) -> People:
    """Several sets as one: people, and the fakes of them.

    Raises:
        DataError: two sets have real photos of a person of the same name, who may be two people.
    """
    if len(sets) == 1:
        return sets[0]
    owner: dict[str, str] = {}
    for people in sets:
        for person in people.real_persons:
            if person in owner:
                raise DataError(
                    f"{printable(owner[person])} and {printable(people.source)} both hold a person '{printable(person)}'; "
                    "rename one if they are two people, move their photos together if they are one"
                )
            owner[person] = people.source
    samples = sorted((sample for people in sets for sample in people.samples), key=_order)
    notes = tuple(note for people in sets for note in people.notes)
    roots = tuple(root for people in sets for root in people.roots)
    return People(", ".join(people.source for people in sets), tuple(samples), notes, roots)


def people_in_pairs(path: str | os.PathLike[str]) -> frozenset[str]:
    """Everybody named in a pair list: LFW's ``pairs.txt``, or a CSV whose photos lie in a folder for each person.

    Raises:
        PairListError: it cannot be read.
    """
    photos = read_pairs(path, root=os.curdir).photos
    return frozenset(os.path.basename(os.path.dirname(photo)) for photo in photos)


def check_people(people: People, *, what: str, persons: int = 2, photos: int = 1) -> None:
    """See that there are people enough for what is to be done.

    Args:
        people: whom there is.
        what: what they are wanted for, for the message.
        persons: as many people are needed,
        photos: with as many real photos each.

    Raises:
        DataError: there are fewer.
    """
    counts = [sum(not sample.fake for sample in people.of(person)) for person in people.persons]
    enough = sum(count >= photos for count in counts)
    if enough >= persons:
        return
    where = printable(people.source)
    if len(counts) < persons:
        raise DataError(f"{where} holds {_people(len(counts))}; {what} needs at least {persons}")
    raise DataError(
        f"{where}: {what} needs at least {_people(persons)} with {photos} photos or more each, and {enough} of "
        f"{len(counts)} have as many"
    )


def _people(count: int) -> str:
    return "one person" if count == 1 else f"{count} people"


def _order(sample: Sample) -> tuple[str, bool, str]:
    return (sample.person, sample.fake, sample.path)


def _look(source: str) -> str:
    if not os.path.isdir(source):
        return "folders" if kind_of(source) else "celeba"
    for name, layout in ((FAKES_FILE, "fakes"), (CROPS_FILE, "crops"), ("meta.json", "kryptonite")):
        if os.path.isfile(os.path.join(source, name)):
            return layout
    if os.path.isfile(os.path.join(source, "train", "meta.json")):
        return "kryptonite"
    return "folders"


def _read_folders(source: str, notes: list[str]) -> list[Sample]:
    """``<person>/<photo>``, neither less deep nor deeper."""
    listing = list_photos([source])
    if listing.failures:
        path, reason = listing.failures[0]
        raise DataError(f"{printable(path)} cannot be read ({reason}); mend or move it: nobody is left out silently")
    notes += [f"{source}: {line}" for line in listing.remarks(options=False)]
    samples: list[Sample] = []
    for photo in listing.photos:
        parts = os.path.relpath(as_folders(photo.path), source).split(os.sep)
        if len(parts) != 2:
            where = "in no person's folder" if len(parts) == 1 else "deeper than in a person's folder"
            raise DataError(
                f"{printable(source)} must hold <person>/<photo>, but {printable(os.sep.join(parts))} lies {where}; "
                "give the folder of the people's folders, or a list of lines 'file person'"
            )
        samples.append(Sample(photo.path, parts[0]))
    return samples


def _read_list(source: str, images: str) -> list[Sample]:
    """CelebA's ``identity_CelebA.txt``: a file and its person on each line."""
    persons: dict[str, str] = {}
    try:
        with open(source, encoding="utf-8-sig", errors="surrogateescape") as file:
            rows = [(number, line.rsplit(None, 1)) for number, line in enumerate(file, 1) if line.strip()]
    except OSError as error:
        raise DataError(f"{printable(source)} cannot be read ({error.strerror})") from error
    for number, cells in rows:
        where = f"{printable(source)}, line {number}"
        if len(cells) != 2:
            raise DataError(f"{where}: expected a file and its person, as in '000001.jpg 2880', got {cells[0][:80]!r}")
        name, person = cells[0].strip(), cells[1]
        if name in persons:
            raise DataError(f"{where}: {name!r} is listed twice")
        persons[name] = person
    samples = [Sample(os.path.join(images, name), person) for name, person in persons.items()]
    if missing := [sample.path for sample in samples if not is_photo_file(sample.path)]:
        raise DataError(
            f"{printable(source)}: {len(missing):,} of {len(samples):,} photos are missing, the first is "
            f"{printable(missing[0])}; is the data set unpacked completely, and --images its folder?"
        )
    return samples


def _images_beside(source: str) -> str:
    base = os.path.dirname(source)
    for name in _CELEBA_IMAGES:
        if os.path.isdir(folder := os.path.normpath(os.path.join(base, name))):
            return folder
    raise DataError(
        f"{printable(source)} is a list, and neither {_CELEBA_IMAGES[0]} nor {_CELEBA_IMAGES[1]} lies beside it; say with "
        "--images where its photos are"
    )


def _read_kryptonite(source: str) -> list[Sample]:
    folder = source if os.path.isfile(os.path.join(source, "meta.json")) else os.path.join(source, "train")
    try:
        real, fake = real_and_fake(folder)
    except PairListError as error:
        raise DataError(str(error)) from error
    samples = [Sample(path, label) for label, paths in real.items() for path in paths]
    samples += [Sample(path, label, True, UNKNOWN_METHOD) for label, paths in fake.items() for path in paths]
    return samples


def _read_fakes(source: str) -> list[Sample]:
    columns = ("fake", "method", "source_person", "target_person")
    try:
        table = read_parquet(os.path.join(source, FAKES_FILE), columns, advice="make the fakes again")
    except IndexFormatError as error:
        raise DataError(str(error)) from error
    samples = []
    for fake, method, person, target in zip(*(table.column(name).to_pylist() for name in columns), strict=True):
        person, target = decode_path(person), decode_path(target or "")
        path = os.path.join(source, decode_path(fake))
        samples.append(Sample(path, person, True, method, "" if target == person else target))
    return samples


def _read_crops(source: str) -> list[Sample]:
    return list(read_crops(source).samples)
