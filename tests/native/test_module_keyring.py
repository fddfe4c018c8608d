"""A keyring from its creation by an administrator to its first key, and back to empty."""

from __future__ import annotations

import ctypes
import ssl
import threading
import uuid
from typing import Any, Final

import httpx
import pytest

from conclave.crypto.standard import Cka, Ckm
from conclave.errors import Ckr
from tests.native.module_fixtures import Place, place
from tests.support.cryptoki import SO, USER, Cryptoki
from tests.support.demo import Demo

__all__ = ["place"]
pytestmark = pytest.mark.system

INITIAL: Final = "initial password"
OWN: Final = "the owner's password"
SO_PIN_TO_BE_CHANGED: Final = 0x800000
USER_PIN_INITIALIZED: Final = 0x8
RW_SO: Final = 4
SESSION_EXISTS: Final = 0xB6
DONT_BLOCK: Final = 1
NO_EVENT: Final = 8
CRYPTOKI_NOT_INITIALIZED: Final = 0x190


def administer(demo: Demo, method: str, path: str, **more: Any) -> None:
    """Do something to keyrings as the appliance's administrator."""
    document, kind = demo.document, "application/vnd.safenetinc.lunasa+json;version=14"
    co = {
        "type": "CO",
        "partitionLabel": document["partitionLabel"],
        "password": document["coPassword"],
    }
    answer = httpx.request(
        method,
        f"https://{demo.member['address']}:{demo.member['restPort']}{path}",
        json={"authentication": [co], **more},
        auth=("admin", document["adminPassword"]),
        headers={"Accept": kind, "Content-Type": kind},
        verify=ssl.create_default_context(cafile=document["caFile"]),
        timeout=30,
    )
    assert answer.is_success, answer.text


def create_keyring(demo: Demo, label: str) -> None:
    """Create a keyring."""
    administer(demo, "POST", "/api/keyrings", keyRingLabel=label, keyRingPassword=INITIAL)


def slot_of(library: Cryptoki, label: str) -> int:
    """Return the slot of the keyring with this label."""
    padded = label.ljust(32).encode()
    return next(slot for slot in library.slots() if library.token(slot).label == padded)


def test_section_8_rule_16_an_owner_takes_over_a_new_keyring_and_empties_it(
    demo: Demo, place: Place
) -> None:
    library, label = place.library, f"keyring {uuid.uuid4().hex[:8]}"
    known = library.slots()
    create_keyring(demo, label)
    slot = slot_of(library, label)  # found without a new C_Initialize
    assert slot not in known
    assert library.token(slot).flags & SO_PIN_TO_BE_CHANGED
    session = library.open(slot)
    assert session.login(INITIAL) == Ckr.USER_PIN_NOT_INITIALIZED
    assert session.login(INITIAL, SO) == Ckr.OK
    own = OWN.encode()
    assert session.value("C_InitPIN", own, len(own)) == Ckr.PIN_EXPIRED
    session.do("C_SetPIN", INITIAL.encode(), len(INITIAL), own, len(own))
    assert session.state() == RW_SO
    session.do("C_InitPIN", own, len(own))
    flags = library.token(slot).flags
    assert (flags & SO_PIN_TO_BE_CHANGED, flags & USER_PIN_INITIALIZED) == (0, USER_PIN_INITIALIZED)
    session.do("C_Logout")
    assert session.login(OWN) == Ckr.OK
    session.generate(Ckm.AES_KEY_GEN, {Cka.TOKEN: True, Cka.VALUE_LEN: 32, Cka.LABEL: b"first"})
    _empty(library, slot, label)


def _empty(library: Cryptoki, slot: int, label: str) -> None:
    own, renamed = OWN.encode(), f"{label} again".ljust(32).encode()
    assert library.value("C_InitToken", slot, own, len(own), renamed) == SESSION_EXISTS
    library.do("C_CloseAllSessions", slot)
    assert library.value("C_InitToken", slot, b"wrong one", 9, renamed) == Ckr.PIN_INCORRECT
    library.do("C_InitToken", slot, own, len(own), renamed)
    assert library.token(slot).label == renamed
    session = library.open(slot)
    assert session.login(OWN) == Ckr.USER_PIN_NOT_INITIALIZED
    assert session.login(OWN, SO) == Ckr.OK
    session.do("C_InitPIN", own, len(own))
    session.do("C_Logout")
    assert session.login(OWN) == Ckr.OK
    assert session.find({Cka.LABEL: b"first"}) == []


def test_an_expired_first_password_is_the_so_s_also_without_a_login(
    demo: Demo, place: Place
) -> None:
    label = f"keyring {uuid.uuid4().hex[:8]}"
    create_keyring(demo, label)
    slot, own = slot_of(place.library, label), OWN.encode()
    session = place.library.open(slot)
    session.do("C_SetPIN", INITIAL.encode(), len(INITIAL), own, len(own))
    assert session.login(OWN, SO) == Ckr.OK


def test_who_waits_is_told_of_a_keyring_that_comes_and_goes(demo: Demo, place: Place) -> None:
    library, label, told = place.library, f"keyring {uuid.uuid4().hex[:8]}", ctypes.c_ulong()
    known = library.slots()
    value = library.value("C_WaitForSlotEvent", DONT_BLOCK, ctypes.byref(told), None)
    assert value == NO_EVENT
    create_keyring(demo, label)
    library.do("C_WaitForSlotEvent", 0, ctypes.byref(told), None)
    assert told.value not in known
    assert library.token(told.value).label == label.ljust(32).encode()
    slot = told.value
    administer(demo, "DELETE", f"/api/keyrings/{label}")
    library.do("C_WaitForSlotEvent", 0, ctypes.byref(told), None)
    assert told.value == slot
    assert library.slots() == known
    answers: list[int] = []
    waiter = threading.Thread(
        target=lambda: answers.append(
            library.value("C_WaitForSlotEvent", 0, ctypes.byref(told), None)
        )
    )
    waiter.start()
    library.do("C_Finalize", None)
    waiter.join(30)
    assert answers == [CRYPTOKI_NOT_INITIALIZED]


@pytest.mark.parametrize("role", [SO, USER])
def test_section_8_rule_15_single_identity_has_one_password(
    demo: Demo, place: Place, role: int
) -> None:
    label, own, other = f"keyring {uuid.uuid4().hex[:8]}", OWN.encode(), b"another password"
    create_keyring(demo, label)
    session = place.library.open(slot_of(place.library, label))
    session.do("C_SetPIN", INITIAL.encode(), len(INITIAL), own, len(own))
    assert session.login(OWN, SO) == Ckr.OK
    assert session.value("C_InitPIN", other, len(other)) == Ckr.PIN_INVALID
    session.do("C_InitPIN", own, len(own))
    session.do("C_Logout")
    assert session.login(OWN, role) == Ckr.OK
    session.do("C_SetPIN", own, len(own), other, len(other))
    session.value("C_Logout")
    for each in (SO, USER):
        assert session.login(OWN, each) == Ckr.PIN_INCORRECT
        assert session.login(other.decode(), each) == Ckr.OK
        session.do("C_Logout")
