"""Names into sidecars: what is written is read again at its place, whatever way the photo lies, and nothing else is touched."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from faceembed.engine.photos.region_writing import sidecar_of, write_regions
from faceembed.engine.photos.regions import frame_of, read_regions
from faceembed.engine.photos.turning import Region, turned, turned_back
from faceembed.errors import PhotoError
from tests.engine.photos.test_regions import ANN, packet

BOX = (0.2, 0.4, 0.2, 0.4)
PEOPLE = [Region("Ann & <Bob>", BOX), Region("Zoë \u202e", (0.5, 0.1, 0.3, 0.2))]
FOREIGN = """\ufeff<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><r:RDF xmlns:r="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <r:Description xmlns:crs="http://ns.adobe.com/camera-raw-settings/1.0/" crs:Exposure2012="+0.35"><!-- mine --></r:Description>
</r:RDF></x:xmpmeta>
<?xpacket end="w"?>
"""


def photo(folder: Path, orientation: int = 1) -> str:
    exif = Image.Exif()
    exif[274] = orientation
    Image.new("RGB", (200, 100), "grey").save(folder / "a.jpg", exif=exif)
    return str(folder / "a.jpg")


def write(path: str, regions: list[Region]) -> bool:
    frame = frame_of(path)
    return write_regions(path, regions, sides=frame.sides, orientation=frame.orientation)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_written_is_read(tmp_path: Path, orientation: int) -> None:
    path = photo(tmp_path, orientation)
    before = Path(path).read_bytes()
    assert write(path, PEOPLE) is True and write(path, PEOPLE) is False
    found = read_regions(path)
    assert found.remarks == () and [one.name for one in found.regions] == [one.name for one in PEOPLE]
    for one, meant in zip(found.regions, PEOPLE, strict=True):
        assert one.box == pytest.approx(meant.box, abs=1e-5)
    assert Path(path).read_bytes() == before and sidecar_of(path) == f"{path}.xmp"
    assert 'stDim:w="200" stDim:h="100"' in Path(f"{path}.xmp").read_text(), "the sides as stored"
    assert write(path, []) is True and not Path(f"{path}.xmp").exists()


@given(
    st.integers(1, 8),
    st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(0.01, 1), st.floats(0.01, 1)),
)
def test_turned_back_undoes_turned(orientation: int, box: tuple[float, float, float, float]) -> None:
    assert turned(turned_back(box, orientation), orientation) == pytest.approx(box)


@pytest.mark.parametrize("name", ["a.jpg.xmp", "a.xmp"])
def test_a_sidecar_that_is_there_keeps_every_byte(tmp_path: Path, name: str) -> None:
    path = photo(tmp_path)
    (tmp_path / name).write_text(FOREIGN, encoding="utf-8")
    assert write(path, PEOPLE)
    text = (tmp_path / name).read_text(encoding="utf-8")
    start, end = (
        text.index("  <!-- faceembed"),
        text.index("end of face regions -->\n") + len("end of face regions -->\n"),
    )
    assert text[:start] + text[end:] == FOREIGN
    assert [one.name for one in read_regions(path).regions] == [one.name for one in PEOPLE]
    assert write(path, PEOPLE[:1]) and [one.name for one in read_regions(path).regions] == [PEOPLE[0].name]
    assert write(path, []) and (tmp_path / name).read_text(encoding="utf-8") == FOREIGN
    assert write(path, []) is False and sorted(one.name for one in tmp_path.iterdir()) == sorted(["a.jpg", name])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (packet(ANN), "has face regions of another program; left as it is"),
        (FOREIGN.encode("utf-16"), "is no XMP in UTF-8"),
        (b"<x:xmpmeta", "is no XMP in UTF-8"),
        (b"", "is no XMP in UTF-8"),
        (b"<a/>", "has no end of its RDF; left as it is"),
        (b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>', "defines entities"),
        (b'<a><rdf:RDF xmlns:rdf="urn:x"></rdf:RDF></a><!-- </rdf:RDF> -->', "takes no regions where its RDF ends"),
    ],
)
def test_left_alone(tmp_path: Path, content: bytes, message: str) -> None:
    path = photo(tmp_path)
    (tmp_path / "a.jpg.xmp").write_bytes(content)
    with pytest.raises(PhotoError) as refused:
        write(path, PEOPLE)
    assert message in refused.value.reason and (tmp_path / "a.jpg.xmp").read_bytes() == content


def test_a_write_that_fails_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = photo(tmp_path)
    (tmp_path / "a.jpg.xmp").write_text(FOREIGN, encoding="utf-8")

    def full(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("faceembed.engine.photos.region_writing.atomic_write", full)
    with pytest.raises(OSError, match="No space"):
        write(path, PEOPLE)
    assert (tmp_path / "a.jpg.xmp").read_text(encoding="utf-8") == FOREIGN


def test_a_box_over_the_edge(tmp_path: Path) -> None:
    path = photo(tmp_path)
    assert write(path, [Region("Ann", (-0.1, 0.5, 0.4, 0.7))])
    (region,) = read_regions(path).regions
    assert region.box == pytest.approx((0, 0.5, 0.3, 0.5), abs=1e-5)
