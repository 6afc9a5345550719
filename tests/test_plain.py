"""JSON without NaN, whatever is in a document."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from faceembed.plain import to_json

words = st.text(max_size=5)
leaves = st.none() | st.booleans() | st.integers() | st.floats() | words
documents = st.recursive(leaves, lambda inner: st.lists(inner) | st.dictionaries(words, inner), max_leaves=8)


def refuse(name: str) -> Any:
    raise AssertionError(f"{name} in JSON")


@given(documents)
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])  # machines are busy
def test_every_document_is_json_that_anybody_reads(document: Any) -> None:
    read = json.loads(to_json(document), parse_constant=refuse)

    def same(before: Any, after: Any) -> bool:
        if isinstance(before, float) and not math.isfinite(before):
            return after is None
        if isinstance(before, dict):
            return list(before) == list(after) and all(same(before[key], after[key]) for key in before)
        if isinstance(before, list):
            return len(before) == len(after) and all(map(same, before, after))
        return bool(before == after)

    assert same(document, read)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_null_stands_for_what_is_no_number(value: float) -> None:
    assert to_json({"a": [value, 1.5], "b": (value,)}, separators=(",", ":")) == '{"a":[null,1.5],"b":[null]}'
