"""The two faces of the library have the same methods, which take and give the same."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable

import pytest

import conclave.client
from conclave.client import keyring, keys, session

TWINS = [
    (getattr(conclave.client, name.removeprefix("Async")), getattr(conclave.client, name))
    for name in conclave.client.__all__
    if name.startswith("Async")
]
BLOCKING_ONLY = {"PrivateKey": {"for_cryptography"}}
"""cryptography's builders of certificates call it, and cannot wait in an event loop."""
ASYNC_ONLY = {"AsyncKeyringSession": {"ask", "together"}}
"""What the other classes here are made of."""
NOT_METHODS = {"core", "link", "unwraps_by"}


def members(face: type) -> dict[str, object]:
    """Return the public methods and properties of a class, with what it inherits."""
    return {
        name: member
        for name, member in inspect.getmembers(face)
        if not name.startswith("_") and name not in NOT_METHODS
    }


def shape(member: object) -> str:
    """Return what a method takes and gives, as the blocking face writes it."""
    if isinstance(member, property):
        assert member.fget is not None
        return f"property {signature(member.fget)}"
    return signature(member) if callable(member) else "a value"


def signature(function: Callable[..., object]) -> str:
    text = str(inspect.signature(function))
    return text.replace("'", "").replace("async_keys.", "").replace("Async", "")


def test_every_class_has_a_twin() -> None:
    modules = {keyring.__name__, keys.__name__, session.__name__}
    faces = [getattr(conclave.client, name) for name in conclave.client.__all__]
    blocking = {face for face in faces if getattr(face, "__module__", None) in modules}
    assert {one for one, _ in TWINS} == blocking
    assert len(blocking) >= 10


@pytest.mark.parametrize(("blocking", "coroutine"), TWINS, ids=[one.__name__ for one, _ in TWINS])
def test_twins_have_the_same_methods(blocking: type, coroutine: type) -> None:
    one, other = members(blocking), members(coroutine)
    if dataclasses.is_dataclass(blocking):
        assert signature(blocking) == signature(coroutine)
    only = BLOCKING_ONLY.get(blocking.__name__, set())
    assert one.keys() - other.keys() == only
    assert other.keys() - one.keys() == ASYNC_ONLY.get(coroutine.__name__, set())
    for name in one.keys() & other.keys():
        assert shape(one[name]) == shape(other[name]), name
