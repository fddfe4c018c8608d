"""Slots, sessions and logins of the module, as the standard orders them."""

from __future__ import annotations

import ctypes
import os

import pytest

from conclave.crypto.standard import Cka, Ckm, Cko
from conclave.errors import Ckr
from tests.native.module_fixtures import Place, place, session
from tests.support.cryptoki import (
    READ_WRITE,
    SERIAL,
    SO,
    Session,
    Template,
    attributes,
    mechanism,
)

__all__ = ["place", "session"]
pytestmark = pytest.mark.system

RO_PUBLIC, RO_USER, RW_PUBLIC, RW_USER, RW_SO = range(5)
AES: Template = {Cka.VALUE_LEN: 32, Cka.LABEL: b"session tests"}


def test_a_token_says_who_it_is(place: Place) -> None:
    assert place.slot in place.library.slots()
    info = place.library.token(place.slot)
    assert info.label == place.label.ljust(32).encode()
    assert info.manufacturer == b"Conclave".ljust(32)
    assert info.model == b"Keyring".ljust(16)
    assert info.serial.strip()
    assert (info.min_pin, info.max_pin) == (8, 255)


def test_sessions_of_this_process_are_counted(place: Place) -> None:
    first = place.library.open(place.slot, SERIAL)
    place.library.open(place.slot)
    info = place.library.token(place.slot)
    assert (info.sessions, info.read_write_sessions) == (2, 1)
    first.do("C_CloseSession")
    info = place.library.token(place.slot)
    assert (info.sessions, info.read_write_sessions) == (1, 1)


def test_five_thousand_sessions_are_open_at_once(place: Place) -> None:
    opened = [place.library.open(place.slot, SERIAL) for _ in range(5000)]
    assert len({one.handle for one in opened}) == 5000
    assert opened[4999].state() == RO_PUBLIC
    place.library.do("C_CloseAllSessions", place.slot)
    assert opened[0].value("C_CloseSession") == 0xB3


def test_a_login_holds_for_all_sessions_of_the_slot(place: Place) -> None:
    reader, writer = place.library.open(place.slot, SERIAL), place.library.open(place.slot)
    assert (reader.state(), writer.state()) == (RO_PUBLIC, RW_PUBLIC)
    assert reader.login(place.pin) == Ckr.OK
    assert (reader.state(), writer.state()) == (RO_USER, RW_USER)
    assert writer.login(place.pin) == Ckr.USER_ALREADY_LOGGED_IN
    assert writer.login(place.so_pin, SO) == 0x104
    writer.do("C_Logout")
    assert (reader.state(), writer.state()) == (RO_PUBLIC, RW_PUBLIC)
    assert writer.value("C_Logout") == Ckr.USER_NOT_LOGGED_IN


def test_the_so_and_read_only_sessions_exclude_each_other(place: Place) -> None:
    reader, writer = place.library.open(place.slot, SERIAL), place.library.open(place.slot)
    assert writer.login(place.so_pin, SO) == 0xB7
    reader.do("C_CloseSession")
    assert writer.login(place.so_pin, SO) == Ckr.OK
    assert writer.state() == RW_SO
    handle = ctypes.c_ulong()
    arguments = (place.slot, SERIAL, None, None, ctypes.byref(handle))
    assert place.library.value("C_OpenSession", *arguments) == 0xB8


def test_the_so_uses_no_keys_and_stays_logged_in(place: Place) -> None:
    writer = place.library.open(place.slot)
    assert writer.login(place.so_pin, SO) == Ckr.OK
    made = ctypes.c_ulong()
    generate = ctypes.byref(mechanism(Ckm.AES_KEY_GEN))
    assert writer.value("C_GenerateKey", generate, None, 0, ctypes.byref(made)) != Ckr.OK
    assert writer.state() == RW_SO
    private = attributes({Cka.CLASS: Cko.DATA, Cka.PRIVATE: True})
    refused = writer.value("C_CreateObject", private, len(private), ctypes.byref(made))
    assert refused == Ckr.USER_NOT_LOGGED_IN
    assert writer.state() == RW_SO


def test_closing_the_last_session_logs_out(place: Place) -> None:
    place.logged_in().do("C_CloseSession")
    assert place.library.open(place.slot).state() == RW_PUBLIC


def test_a_wrong_password_is_refused_and_a_right_one_then_accepted(place: Place) -> None:
    writer = place.library.open(place.slot)
    assert writer.login("wrong" + place.pin) == Ckr.PIN_INCORRECT
    assert writer.state() == RW_PUBLIC
    assert writer.login(place.pin) == Ckr.OK


def test_a_password_is_changed_under_a_login(place: Place, session: Session) -> None:
    key = session.generate(Ckm.AES_KEY_GEN, AES)
    new = "another " + place.pin
    assert session.value("C_SetPIN", place.pin.encode(), 1, new.encode(), len(new)) != Ckr.OK
    session.do("C_SetPIN", place.pin.encode(), len(place.pin), new.encode(), len(new))
    try:
        assert session.state() == RW_USER
        cipher = mechanism(Ckm.AES_ECB)
        assert len(session.whole("Encrypt", cipher, key, bytes(16))) == 16
        session.do("C_Logout")
        assert session.login(place.pin) == Ckr.PIN_INCORRECT
        assert session.login(new) == Ckr.OK
    finally:
        session.do("C_SetPIN", new.encode(), len(new), place.pin.encode(), len(place.pin))
    session.do("C_Logout")
    assert session.login(place.pin) == Ckr.OK


def test_a_password_needs_a_read_write_session(place: Place) -> None:
    reader = place.library.open(place.slot, SERIAL)
    pin = place.pin.encode()
    assert reader.value("C_SetPIN", pin, len(pin), pin, len(pin)) == Ckr.SESSION_READ_ONLY


def test_a_password_changed_elsewhere_ends_the_login_here(
    place: Place, session: Session, tmp_path_factory: pytest.TempPathFactory
) -> None:
    pid = os.fork()
    if pid == 0:
        _change_password_and_back(place)
    assert os.waitpid(pid, 0)[1] == 0
    made = ctypes.c_ulong()
    generate = ctypes.byref(mechanism(Ckm.AES_KEY_GEN))
    value = session.value("C_GenerateKey", generate, None, 0, ctypes.byref(made))
    assert value == Ckr.USER_NOT_LOGGED_IN
    assert session.state() == RW_PUBLIC
    assert session.login(place.pin) == Ckr.OK


def _change_password_and_back(place: Place) -> None:
    """Run in a child, which is another application; ends the process."""
    good = False
    try:
        place.library.do("C_Initialize", None)
        writer = place.logged_in()
        old, new = place.pin.encode(), b"for a moment " + place.pin.encode()
        writer.do("C_SetPIN", old, len(old), new, len(new))
        writer.do("C_SetPIN", new, len(new), old, len(old))
        place.library.do("C_Finalize", None)
        good = True
    finally:
        os._exit(0 if good else 1)


def test_a_parallel_session_and_an_unknown_slot_are_refused(place: Place) -> None:
    handle = ctypes.c_ulong()
    arguments = (None, None, ctypes.byref(handle))
    assert place.library.value("C_OpenSession", place.slot, READ_WRITE, *arguments) == 0xB4
    assert place.library.value("C_OpenSession", 987654, SERIAL, *arguments) == Ckr.SLOT_ID_INVALID
