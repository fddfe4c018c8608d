"""The suites of `make campaign NAME=conformance`, here against one member."""

from __future__ import annotations

import pytest

from tests.support.conformance import SUITES, prepare
from tests.support.token import Token

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def prepared(token: Token) -> Token:
    """Have the keys that some suites look for."""
    prepare(token)
    return token


@pytest.mark.parametrize("name", SUITES)
def test_a_suite_has_no_failure(prepared: Token, name: str) -> None:
    """A suite raises what it complains of."""
    assert SUITES[name](prepared) is None
