"""The models kept warm for a program: photos in, faces out, as often as wanted.

with faceembed.Embedder() as embedder:
    face = embedder.represent("a.jpg")[0]
    face.embedding, face.box, face.landmarks
    embedder.verify("a.jpg", cv2.imread("b.jpg"), colour="bgr").same
    for seen in embedder.represent_all(uploads):       # bytes, in batches, a core each
        print(seen.reason or len(seen.faces))
"""

from __future__ import annotations

import collections
import concurrent.futures
import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from types import TracebackType
from typing import final

from faceembed.engine.models.spec import ModelSpec
from faceembed.engine.photos.given import Colour, Given, check, name_of, read_given
from faceembed.engine.pipeline.batch import Item
from faceembed.engine.pipeline.progress import Notify
from faceembed.engine.pipeline.serving import Face, SeenPhoto, open_embedder
from faceembed.engine.pipeline.settings import EmbedSettings
from faceembed.engine.verbs.verify import Verification, judged, limit_for
from faceembed.errors import DataError, PhotoError


@final
class Embedder:
    """Both models, opened once. Every method may be called from several threads at once.

    The CPU computes; or a card, where ``settings`` ask for one (``RuntimeSettings(device="cuda")``). Its batches, of any number of threads, take turns.

    A photo is a path, a file's bytes, a file open for reading bytes, a uint8 array (H, W, 3), whose ``colour`` must be said, or (H, W)
    for grey, or a ``PIL.Image.Image``, which is turned upright as its EXIF says.

    Args:
        settings: models, runtime and what to look for; all faces of a photo by default.
        notice: called with lines for the user, as which precision is used and why.

    Raises:
        ModelError, DeviceError: a model or a runtime is not there.
    """

    def __init__(self, settings: EmbedSettings | None = None, *, notice: Notify = lambda line: None) -> None:
        self.settings = settings or EmbedSettings(faces="all")
        self._models = open_embedder(self.settings, cards=True, notice=notice)
        self._threads = concurrent.futures.ThreadPoolExecutor(self._models.workers, "faceembed-embedder")

    @property
    def spec(self) -> ModelSpec:
        """The encoder's contract: its name, dimension, thresholds."""
        return self._models.spec

    def represent(self, photo: Given, *, colour: Colour | None = None) -> list[Face]:
        """The faces of one photo, largest first; none where none is found.

        Args:
            photo: see the class.
            colour: ``rgb`` or ``bgr``, of an array.

        Raises:
            DataError: it cannot be read or decoded.
            UsageError: it is no kind of photo, or an array whose colours, shape or type do not say what it is.
        """
        (seen,) = self.represent_all([photo], colour=colour)
        if seen.reason is not None and seen.stage not in _LOOKED:
            raise DataError(f"{name_of(photo, 1)}: {seen.reason}")
        return list(seen.faces)

    def represent_all(self, photos: Iterable[Given], *, colour: Colour | None = None) -> Iterator[SeenPhoto]:
        """The faces of many photos, computed in batches on all cores; a bad photo is a reason, and ends nothing.

        Args:
            photos: any number of them, taken as they are needed.
            colour: order of the colours of those that are arrays.

        Yields:
            What became of each, in their order.

        Raises:
            UsageError: one is no kind of photo, or an array whose colours, shape or type do not say what it is.
        """
        pending: collections.deque[concurrent.futures.Future[list[SeenPhoto]]] = collections.deque()
        try:
            for batch in _batches(photos, self.settings.photos_a_batch()):
                for photo in batch:
                    check(photo, colour)
                pending.append(self._threads.submit(self._represent, batch, colour))
                while len(pending) > self._models.workers + 1:
                    yield from pending.popleft().result()
            while pending:
                yield from pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()

    def verify(
        self,
        a: Given | Face,
        b: Given | Face,
        *,
        colour: Colour | None = None,
        threshold: float | None = None,
        fmr: float | None = None,
    ) -> Verification:
        """Whether two photos, or faces from `represent`, show one person; of a photo its most prominent face counts.

        Args:
            a: a photo or a face.
            b: another.
            colour: order of the colours of those that are arrays.
            threshold: cosine from which on they count as one person; None takes the encoder's own.
            fmr: the false match rate instead, of those that were measured for the encoder (0.01, 0.001, ...).

        Raises:
            DataError: a photo cannot be read or has no face.
            UsageError: as `represent_all`; the encoder has no threshold of its own and none was given, or none at this rate.
        """
        limit, source = limit_for(self.spec, threshold=threshold, fmr=fmr)
        (one, first), (two, second) = self._faces((a, b), colour)
        names = [f"face {n}" if isinstance(it, Face) else name_of(it, n) for n, it in enumerate((a, b), 1)]
        verdict = judged(one.embedding, two.embedding, self.spec, limit=limit, source=source, names=names)
        return dataclasses.replace(verdict, faces=(first, second))

    def similarity(self, a: Given | Face, b: Given | Face, *, colour: Colour | None = None) -> float:
        """The cosine of two photos' most prominent faces, or of faces from `represent`, in [-1, 1]. Arguments and errors as `verify`."""
        (one, _), (two, _) = self._faces((a, b), colour)
        return float(one.embedding @ two.embedding)

    def close(self) -> None:
        """Let the threads go; nothing can be embedded afterwards. At the end of a ``with`` block this happens by itself."""
        self._threads.shutdown(wait=True, cancel_futures=True)

    def __enter__(self) -> Embedder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _faces(self, given: Sequence[Given | Face], colour: Colour | None) -> list[tuple[Face, int]]:
        """The face of each that counts, and how many its photo has."""
        photos = [it for it in given if not isinstance(it, Face)]
        looked = self.represent_all(photos, colour=colour)
        return [(it, 1) if isinstance(it, Face) else _chosen(next(looked), it, n) for n, it in enumerate(given, 1)]

    def _represent(self, photos: Sequence[Given], colour: Colour | None) -> list[SeenPhoto]:
        """One batch."""
        taken = [self._take(photo, colour) for photo in photos]
        items = [entry for entry in taken if isinstance(entry, Item)]
        seen = iter(self._models.embed(items) if items else [])
        return [next(seen) if isinstance(entry, Item) else entry for entry in taken]

    def _take(self, photo: Given, colour: Colour | None) -> Item | SeenPhoto:
        try:
            given = read_given(photo, colour, max_bytes=self.settings.max_bytes)
            return self._models.take(given) if isinstance(given, bytes) else self._models.take_pixels(given)
        except PhotoError as error:
            return SeenPhoto(0, 0, (), None, error.stage, error.reason)


_LOOKED = ("detect", "align", "encode")
"""Stages at which a photo was seen, and only a face is lacking."""


def _batches(photos: Iterable[Given], size: int) -> Iterator[list[Given]]:
    batch: list[Given] = []
    for photo in photos:
        batch.append(photo)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _chosen(seen: SeenPhoto, photo: Given, number: int) -> tuple[Face, int]:
    if seen.chosen is None:
        raise DataError(f"{name_of(photo, number)}: {seen.reason}")
    return seen.faces[seen.chosen], len(seen.faces)
