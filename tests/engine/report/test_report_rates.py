"""The picture of a measurement."""

from __future__ import annotations

from pathlib import Path

import pytest

from faceembed.engine.report.rates_picture import write_rates


@pytest.mark.parametrize("roofline", [None, {"share_of_peak": None, "share_of_copy": 0.01}])
def test_picture(tmp_path: Path, roofline: object) -> None:
    """With and without a card; a title is text, not mathematics."""
    document = {
        "stages": {"read": 9e4, "encode": 1e3},
        "end_to_end": 900.0,
        "ratio_to_slowest": 0.9,
        "slowest": "encode",
    }
    path = tmp_path / "rates.png"
    write_rates(path, [("a $x^2 card", {**document, "roofline": roofline}), ("another", document)])
    assert path.read_bytes().startswith(b"\x89PNG")
