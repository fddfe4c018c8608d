"""CPace against the draft's test vectors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conclave.cluster import cpace

_VECTORS = json.loads((Path(__file__).parent.parent / "vectors" / "cpace_x25519.json").read_text())


@pytest.fixture(params=_VECTORS["cases"])
def case(request: pytest.FixtureRequest) -> dict[str, bytes]:
    fields: dict[str, Any] = request.param
    return {name: bytes.fromhex(value) for name, value in fields.items()}


@pytest.mark.parametrize("role", ["initiator", "responder"])
def test_shares_are_the_drafts(case: dict[str, bytes], role: str) -> None:
    share = cpace.public_share(
        case["password"], case["context"], case["session"], case[f"{role}_scalar"]
    )
    assert share == case[f"{role}_share"]


def test_both_come_to_the_drafts_key(case: dict[str, bytes]) -> None:
    points = {
        cpace.shared_point(case["initiator_scalar"], case["responder_share"]),
        cpace.shared_point(case["responder_scalar"], case["initiator_share"]),
    }
    assert points == {case["point"]}
    key = cpace.session_key(
        case["session"],
        case["point"],
        (case["initiator_share"], case["initiator_data"]),
        (case["responder_share"], case["responder_data"]),
    )
    assert key == case["key"]


@pytest.mark.parametrize("share", [*_VECTORS["low_order_shares"], "", "09", "09" * 33])
def test_shares_that_give_no_secret_are_refused(share: str) -> None:
    with pytest.raises(cpace.WeakShare):
        cpace.shared_point(cpace.new_scalar(), bytes.fromhex(share))


@given(st.lists(st.binary(max_size=300), max_size=4), st.lists(st.binary(max_size=300), max_size=4))
def test_no_two_lists_look_the_same(one: list[bytes], other: list[bytes]) -> None:
    assert (cpace.length_value(*one) == cpace.length_value(*other)) == (one == other)


@given(st.binary(min_size=1, max_size=128), st.binary(max_size=400), st.binary(max_size=40))
def test_parties_with_the_same_password_agree(
    password: bytes, context: bytes, session: bytes
) -> None:
    scalars = cpace.new_scalar(), cpace.new_scalar()
    shares = [cpace.public_share(password, context, session, scalar) for scalar in scalars]
    assert cpace.shared_point(scalars[0], shares[1]) == cpace.shared_point(scalars[1], shares[0])
