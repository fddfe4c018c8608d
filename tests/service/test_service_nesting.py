"""The depth of msgpack values, told without building them."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conclave.service.nesting import MAX_DEPTH, nests_deeper

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 64) - 1)
    | st.floats(allow_nan=False)
    | st.binary(max_size=300)
    | st.text(max_size=300)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=20) | st.dictionaries(st.integers(0, 9), inner, max_size=4)
    ),
    max_leaves=40,
)


def depth(value: Any) -> int:
    if isinstance(value, dict):
        value = [*value.keys(), *value.values()]
    if not isinstance(value, list) or not value:
        return 0
    return 1 + max(map(depth, value))


@given(VALUES)
def test_the_depth_is_that_of_the_value(value: Any) -> None:
    encoded = msgspec.msgpack.encode(value)
    exact = depth(value)
    assert not nests_deeper(encoded, exact)
    if exact:
        assert nests_deeper(encoded, exact - 1)


@given(st.binary(max_size=64))
def test_no_input_makes_it_fail(data: bytes) -> None:
    assert nests_deeper(data) in (True, False)


@pytest.mark.parametrize("levels", [MAX_DEPTH, MAX_DEPTH + 1, 100_000])
def test_thousands_of_levels_need_no_recursion(levels: int) -> None:
    assert nests_deeper(b"\x91" * levels + b"\xc0") is (levels > MAX_DEPTH)
