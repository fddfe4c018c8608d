"""C14: a context ticket is bound to a login, an object and an operation."""

from __future__ import annotations

import os
from typing import Any

import msgspec
import pytest

from conclave import faults
from conclave.ids import ClusterTimeMs, LoginId
from conclave.service.context_tickets import ContextTicket, Use, issue_context, open_context
from conclave.service.requests import WrongRole
from conclave.service.wire import Operation

KEY = os.urandom(32)
NOW_MS = 1_000_000
BOUND: dict[str, Any] = {
    "cluster_id": "cluster",
    "keyring_id": os.urandom(16),
    "client_id": os.urandom(16),
    "login_id": os.urandom(16),
    "object_id": os.urandom(16),
    "operation": int(Operation.SIGN),
}
CONTEXT = ContextTicket(
    context_id=os.urandom(16), member_id="member", expires_ms=NOW_MS + 60_000, **BOUND
)
USE = Use(**BOUND, now_ms=ClusterTimeMs(NOW_MS))
BLOB = issue_context(CONTEXT, 7, KEY)


def refuse(blob: bytes, use: Use = USE, key_version: int = 7) -> None:
    with pytest.raises(WrongRole) as caught:
        open_context(blob, {key_version: KEY}, use)
    assert caught.value.fault is faults.NOT_LOGGED_IN


def test_it_opens_for_its_use() -> None:
    assert open_context(BLOB, {7: KEY, 8: os.urandom(32)}, USE) == CONTEXT
    last = msgspec.structs.replace(USE, now_ms=ClusterTimeMs(NOW_MS + 59_999))
    assert open_context(BLOB, {7: KEY}, last) == CONTEXT


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("cluster_id", "another"),
        ("keyring_id", bytes(16)),
        ("client_id", bytes(16)),
        ("login_id", LoginId(bytes(16))),
        ("object_id", bytes(16)),
        ("operation", int(Operation.DECRYPT)),
        ("now_ms", NOW_MS + 60_000),
    ],
)
def test_it_opens_for_no_other(name: str, value: Any) -> None:
    refuse(BLOB, msgspec.structs.replace(USE, **{name: value}))


def test_what_was_changed_or_is_none_does_not_open() -> None:
    for place in range(len(BLOB)):
        refuse(BLOB[:place] + bytes([BLOB[place] ^ 1]) + BLOB[place + 1 :])
    for blob in (b"", BLOB[:4], BLOB[:-1], BLOB + b"\0", bytes(513)):
        refuse(blob)
    refuse(BLOB, key_version=8)
