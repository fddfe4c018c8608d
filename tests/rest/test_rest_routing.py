"""Paths, as they were sent, find their operations."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conclave.errors import BadInput, NotFound
from conclave.rest.openapi import OPERATIONS
from conclave.rest.routing import Router

ROUTER = Router(OPERATIONS)


@pytest.mark.parametrize(
    ("path", "name", "values"),
    [
        (b"/api/lunasa", "appliance.show", {}),
        (b"/api/lunasa/", "appliance.show", {}),
        (b"/api/lunasa?x=/y", "appliance.show", {}),
        (b"/api/cluster/ca", "cluster.ca", {}),
        (b"/api/keyrings/a%2Fb", "keyring.show", {"keyringid": "a/b"}),
        (b"/api/keyrings/a+b", "keyring.show", {"keyringid": "a+b"}),
        (b"/tasks/7/response", "task.response", {"taskid": "7"}),
        (b"/api/clusters/c/members/m", "member.show", {"clusterid": "c", "memberid": "m"}),
    ],
)
def test_known_paths(path: bytes, name: str, values: dict[str, str]) -> None:
    match = ROUTER.find(path)
    assert match.operations["GET"].name == name
    assert match.path == values


@pytest.mark.parametrize(
    "path", [b"", b"/", b"/api", b"/api/lunasa/x", b"/api//lunasa", b"/tasks/1/2", b"/Tasks"]
)
def test_unknown_paths(path: bytes) -> None:
    with pytest.raises(NotFound):
        ROUTER.find(path)


@given(st.binary(max_size=60))
def test_any_bytes_are_found_or_refused(path: bytes) -> None:
    try:
        ROUTER.find(b"/api/keyrings/" + path)
    except (NotFound, BadInput):
        return


def test_nothing_is_declared_twice() -> None:
    with pytest.raises(ValueError, match="declared twice"):
        Router([OPERATIONS[0], OPERATIONS[0]])
