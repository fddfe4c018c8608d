"""Labels, serial numbers and limits of keyrings (rules K2 and K4)."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conclave import faults
from conclave.errors import BadInput, ConclaveError, LimitReached
from conclave.keyring.labels import check_label, expand_labels, new_serial
from conclave.keyring.limits import (
    check_differs,
    check_keyring_room,
    check_new_password,
    check_object_room,
    password_characters,
)
from conclave.settings import Limits

LIMITS = Limits()


@pytest.mark.parametrize(
    ("total", "index", "expected"),
    [
        (None, None, ["ring"]),
        (None, 5, ["ring5"]),
        (3, None, ["ring1", "ring2", "ring3"]),
        (2, 100, ["ring100", "ring101"]),
        (1, 0, ["ring0"]),
    ],
)
def test_rule_k2_labels_are_label_and_index(
    total: int | None, index: int | None, expected: list[str]
) -> None:
    assert expand_labels("ring", total, index, LIMITS) == expected


def test_rule_k2_the_separator_is_a_setting() -> None:
    assert expand_labels("ring", 2, 9, Limits(label_separator="-")) == ["ring-9", "ring-10"]


@pytest.mark.parametrize(
    ("label", "total", "index", "fault"),
    [
        ("x" * 32, 1, None, faults.KEYRING_LABEL),
        ("x" * 30, 91, 10, faults.KEYRING_LABEL),
        ("ring", 0, None, faults.KEYRINGS_PER_CALL),
        ("ring", 101, None, faults.KEYRINGS_PER_CALL),
        ("ring", 1, -1, faults.KEYRING_LABEL),
        ("ring", 2, 999_999_999, faults.KEYRING_LABEL),
        (" ring", None, None, faults.KEYRING_LABEL),
        ("ring ", None, None, faults.KEYRING_LABEL),
        ("ri\x00ng", None, None, faults.KEYRING_LABEL),
    ],
)
def test_bad_labels_are_refused(
    label: str, total: int | None, index: int | None, fault: object
) -> None:
    with pytest.raises(BadInput) as error:
        expand_labels(label, total, index, LIMITS)
    assert error.value.fault is fault


@given(st.text(max_size=40))
def test_an_accepted_label_fits_a_token_and_survives_padding(label: str) -> None:
    try:
        check_label(label)
    except BadInput:
        return
    padded = label.encode().ljust(32)
    assert len(padded) == 32
    assert padded.decode().rstrip(" ") == label


@given(st.integers())
def test_a_serial_number_has_13_digits(seed: int) -> None:
    serial = new_serial(random.Random(seed).randrange)
    assert len(serial) == 13
    assert serial.isdecimal()
    assert serial[0] != "0"


@pytest.mark.parametrize(
    ("password", "characters"),
    [(b"", 0), (b"abc", 3), ("äöü".encode(), 3), (b"\xff\xfe\xfd", 3)],
)
def test_characters_are_counted_not_bytes(password: bytes, characters: int) -> None:
    assert password_characters(password) == characters


@pytest.mark.parametrize("password", [b"", b"1234567", "äöüäöüä".encode(), b"x" * 256])
def test_passwords_out_of_bounds_are_refused_and_not_shown(password: bytes) -> None:
    with pytest.raises(BadInput) as error:
        check_new_password(password, LIMITS)
    assert error.value.fault is faults.KEYRING_PASSWORD
    assert not password or password.decode() not in error.value.message


@pytest.mark.parametrize("password", [b"12345678", b"x" * 255])
def test_passwords_within_bounds_are_accepted(password: bytes) -> None:
    check_new_password(password, LIMITS)


def test_a_first_change_must_change_something() -> None:
    check_differs(b"one", b"two")
    with pytest.raises(BadInput):
        check_differs(b"one", b"one")


def test_rule_k4_limits_hold_at_their_edge() -> None:
    check_keyring_room(3400, 100, LIMITS)
    check_object_room(255, 1, LIMITS)
    check_object_room(10**6, 1, Limits(max_objects=0))
    check_object_room(300, 0, LIMITS)
    for check, present in ((check_keyring_room, 3500), (check_object_room, 256)):
        with pytest.raises(LimitReached) as error:
            check(present, 1, LIMITS)
        assert isinstance(error.value, ConclaveError)
