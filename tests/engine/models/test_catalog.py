"""What every entry of the catalog has to say, and the colour orders that cost accuracy when they are mixed up."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

import pytest

from faceembed.engine.models.catalog import CATALOG, DECODERS
from faceembed.engine.models.entry import Entry
from faceembed.engine.models.spec import ARCFACE_TEMPLATE
from faceembed.engine.models.store import check_name

ENTRIES = [pytest.param(entry, id=name) for name, entry in CATALOG.items()]
HUB_ENTRIES = [pytest.param(entry, id=name) for name, entry in CATALOG.items() if entry.url]


@pytest.mark.parametrize("entry", ENTRIES)
def test_every_entry_is_complete(entry: Entry) -> None:
    assert check_name(entry.name) == entry.name and CATALOG[entry.name] is entry
    assert entry.licence and entry.source and entry.architecture
    assert bool(entry.url) != bool(entry.importer)
    assert bool(entry.importer) == bool(entry.packages)
    assert bool(entry.decoder) == (entry.task == "aligner")
    assert not entry.sha256 or re.fullmatch("[0-9a-f]{64}", entry.sha256)


@pytest.mark.parametrize("entry", HUB_ENTRIES)
def test_a_hub_entry_says_what_pixels_it_wants(entry: Entry) -> None:
    assert urlsplit(entry.url).scheme == "https"
    spec = entry.spec()  # an encoder's spec checks dimension and template itself
    assert (spec.name, spec.colour, spec.mean, spec.scale) == (entry.name, entry.colour, entry.mean, entry.scale)
    assert spec.sha256 == ""  # the catalog's digest is of the download, the spec's of the file in the store
    if entry.task == "encoder" and entry.export != "inception-resnet-v1":
        assert (spec.input_size, spec.template) == ((112, 112), ARCFACE_TEMPLATE)


@pytest.mark.parametrize("entry", [param for param in HUB_ENTRIES if CATALOG[str(param.id)].task == "encoder"])
def test_original_adaface_takes_bgr_and_all_others_rgb(entry: Entry) -> None:
    assert entry.colour == ("bgr" if entry.name.startswith("adaface-") else "rgb")


def test_facenet_is_cut_as_its_importer_cuts() -> None:
    inception = pytest.importorskip("faceembed.trainer.backbones.inception", reason="PyTorch is not installed")
    entry, spec = CATALOG["facenet-vggface2"].spec(), inception.SPEC
    assert (entry.input_size, entry.template, entry.mean) == (spec.input_size, spec.template, spec.mean)
    assert (entry.scale, entry.dimension, entry.colour) == (spec.scale, spec.dimension, spec.colour)


def test_pixel_ranges() -> None:
    """SFace takes 0..255, YuNet too; the ArcFace family takes [-1, 1]."""
    for name, entry in CATALOG.items():
        if entry.url:
            low, high = (0 - entry.mean[0]) * entry.scale, (255 - entry.mean[0]) * entry.scale
            wanted = (0, 255) if name in ("sface-2021dec", "yunet-2023mar", "yunet-2026may") else (-1, 1)
            if name == "mobilefacenet":  # ImageNet's, as its publisher trained it
                wanted = (-2.146, 2.279)
            assert (low, high) == pytest.approx(wanted, rel=0.01)


def test_the_default_aligner_can_be_read() -> None:
    assert CATALOG["mtcnn"].decoder in DECODERS


def test_digests_are_distinct() -> None:
    known = [entry.sha256 for entry in CATALOG.values() if entry.sha256]
    assert len(known) == len(set(known)) > 0
