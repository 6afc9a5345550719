"""What the tests of the verbs share."""

from __future__ import annotations

import pytest

from tests.engine.verbs.albums import Counted, without_networks


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counted:
    """`embed` without networks, and how many photos it computed."""
    return without_networks(monkeypatch)
