"""Whoever stops in the middle, by an error or Ctrl-C, leaves no thread that computes, even while the error is still looked at."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from faceembed.engine.explain.subject import cut_largest
from faceembed.engine.models import builtin
from faceembed.engine.photos.listing import list_photos
from faceembed.engine.pipeline.chips import Cutter
from faceembed.engine.pipeline.few_photos import embed_photos
from faceembed.engine.pipeline.settings import EmbedSettings
from faceembed.engine.verbs.embed import embed
from tests.engine.verbs.albums import album

pytestmark = pytest.mark.usefixtures("counted")

SETTINGS = EmbedSettings(aligner="none", batch_size=2)


def _embed(nas: Path, progress: Callable[[Any], None]) -> None:
    embed(nas, nas.parent / "p.faiss", settings=SETTINGS, progress=progress)


def _few_photos(nas: Path, progress: Callable[[Any], None]) -> None:
    embed_photos([str(path) for path in sorted(nas.iterdir())], SETTINGS, progress=progress)


def _chips(nas: Path, progress: Callable[[Any], None]) -> None:
    model = builtin.find("faceembed-r29")
    assert model is not None
    cut_largest(Cutter(SETTINGS, None, model.spec, workers=2), list_photos([nas]).photos, progress)


@pytest.mark.parametrize("work", [_embed, _few_photos, _chips])
@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_no_thread_is_left(work: Callable[..., None], error: type[BaseException], tmp_path: Path) -> None:
    nas = album(tmp_path / "nas", 60)

    def stop(at: Any) -> None:
        raise error

    with pytest.raises(error) as caught:
        work(nas, stop)
    assert caught.tb is not None  # which still holds every frame on the way
    for thread in threading.enumerate():
        if thread.name == "faceembed-shape":  # which compiles for a shape, and ends with that
            thread.join(30)
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("faceembed-")] == []
