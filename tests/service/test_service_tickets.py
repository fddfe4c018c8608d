"""Tickets: what they bind, and that a ticket key alone opens nothing (rules C10 and C11)."""

from __future__ import annotations

import os
from dataclasses import replace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conclave import faults
from conclave.errors import CredentialRefused
from conclave.ids import (
    AuthorizationVersion,
    ClientId,
    ClusterId,
    ClusterTimeMs,
    KeyGeneration,
    KeyringId,
    LoginId,
    RowRevision,
    SlotNumber,
)
from conclave.keyring.keys import make_check_value
from conclave.service.tickets import (
    DAY_MS,
    Bearer,
    Ticket,
    issue,
    key_version_of,
    new_ticket,
    open_ticket,
    prove,
    renewed,
)
from conclave.service.wire import Role
from conclave.store.rows import CredentialRow, KeyringRow, KeyringState

KK = os.urandom(32)
TICKET_KEY = os.urandom(32)
KEYRING = KeyringId(os.urandom(16))
ROW = KeyringRow(
    keyring_id=KEYRING,
    label="ring",
    serial="1",
    slot=SlotNumber(0),
    state=KeyringState.READY,
    key_generation=KeyGeneration(3),
    authorization_version=AuthorizationVersion(os.urandom(16)),
    check_value=make_check_value(KK, KEYRING, KeyGeneration(3)),
    krso=CredentialRow(b"", b"", False, 0),
    krco=None,
    revision=RowRevision(1),
    created_ms=0,
)
BEARER = Bearer(ClusterId("cluster"), ClientId(bytes(16)), ClusterTimeMs(1_000_000))
LOGIN = LoginId(os.urandom(16))


def ticket(**changes: object) -> Ticket:
    made = new_ticket(ROW, Role.KRCO, KK, LOGIN, BEARER, idle_days=7)
    return msgspec.structs.replace(made, **changes)


def opened(blob: bytes, bearer: Bearer = BEARER) -> Ticket:
    return open_ticket(blob, {5: TICKET_KEY}, bearer)


def test_a_ticket_opens_for_its_bearer_and_is_proven_by_its_key() -> None:
    blob = issue(ticket(), 5, TICKET_KEY)
    assert key_version_of(blob) == 5
    assert opened(blob) == ticket()
    prove(opened(blob), ROW)


@pytest.mark.parametrize(
    "bearer",
    [
        replace(BEARER, client_id=ClientId(os.urandom(16))),
        replace(BEARER, cluster_id=ClusterId("another")),
        replace(BEARER, now_ms=ClusterTimeMs(BEARER.now_ms + 7 * DAY_MS)),
    ],
)
def test_c4_c11_another_client_another_cluster_or_a_later_time_is_refused(bearer: Bearer) -> None:
    with pytest.raises(CredentialRefused) as caught:
        opened(issue(ticket(), 5, TICKET_KEY), bearer)
    assert caught.value.fault is faults.NOT_LOGGED_IN


def test_a_ticket_lives_until_its_last_millisecond() -> None:
    last = replace(BEARER, now_ms=ClusterTimeMs(BEARER.now_ms + 7 * DAY_MS - 1))
    assert opened(issue(ticket(), 5, TICKET_KEY), last)


@pytest.mark.parametrize(
    "forged",
    [
        {"key": os.urandom(32)},
        {"key": b""},
        {"key": b"short"},
        {"authorization_version": os.urandom(16)},
        {"key_generation": 2},
        {"key_generation": 4},
    ],
)
def test_rule_c10_a_ticket_forged_with_the_ticket_key_is_not_proven(
    forged: dict[str, object],
) -> None:
    blob = issue(ticket(**forged), 5, TICKET_KEY)
    with pytest.raises(CredentialRefused) as caught:
        prove(opened(blob), ROW)
    assert caught.value.fault is faults.NOT_LOGGED_IN


def test_a_first_password_proves_nothing_once_there_is_a_key() -> None:
    first = replace(ROW, key_generation=KeyGeneration(0), check_value=b"")
    login = ticket(key=b"", key_generation=0)
    assert login.is_first_password
    prove(login, first)
    with pytest.raises(CredentialRefused):
        prove(login, ROW)


def test_renewal_moves_the_end_and_keeps_the_login() -> None:
    later = BEARER.now_ms + DAY_MS
    again = renewed(ticket(), later, idle_days=7)
    assert again.expires_ms == later + 7 * DAY_MS
    assert again.login_id == LOGIN
    assert (
        msgspec.structs.replace(again, issued_ms=ticket().issued_ms, expires_ms=ticket().expires_ms)
        == ticket()
    )


@given(st.data())
def test_no_changed_blob_opens(data: st.DataObject) -> None:
    blob = bytearray(issue(ticket(), 5, TICKET_KEY))
    position = data.draw(st.integers(0, len(blob) - 1))
    blob[position] ^= data.draw(st.integers(1, 255))
    with pytest.raises(CredentialRefused):
        opened(bytes(blob))


@given(st.binary(max_size=400))
def test_no_random_blob_opens(blob: bytes) -> None:
    with pytest.raises(CredentialRefused):
        opened(b"\0\0\0\x05" + blob)


def test_a_ticket_hides_its_key() -> None:
    assert KK.hex() not in repr(ticket())
    assert repr(KK) not in repr(ticket())
