"""The keyring's key is wrapped in one nested form only (rules C1 and C10)."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from conclave.crypto.seal import SealBroken
from conclave.errors import InternalFault
from conclave.ids import KeyGeneration, KeyringId
from conclave.keyring.keys import (
    WrapName,
    WrongPassword,
    check_first_password,
    make_check_value,
    new_keyring_key,
    prove_key,
    seal_first_password,
    unwrap_key,
    wrap_key,
)
from conclave.service.wire import Role

OUTER, KEK = os.urandom(32), os.urandom(32)
NAME = WrapName(KeyringId(os.urandom(16)), Role.KRSO, KeyGeneration(1))


def test_c1_both_keys_together_open_a_wrap_and_either_alone_does_not() -> None:
    key = new_keyring_key()
    wrapped = wrap_key(OUTER, KEK, key, NAME)
    assert unwrap_key(OUTER, KEK, wrapped, NAME) == key
    with pytest.raises(WrongPassword):
        unwrap_key(OUTER, os.urandom(32), wrapped, NAME)
    with pytest.raises(InternalFault) as error:
        unwrap_key(os.urandom(32), KEK, wrapped, NAME)
    assert not isinstance(error.value, WrongPassword)


@pytest.mark.parametrize(
    "other",
    [
        replace(NAME, keyring_id=KeyringId(os.urandom(16))),
        replace(NAME, role=Role.KRCO),
        replace(NAME, generation=KeyGeneration(2)),
    ],
    ids=["keyring", "role", "generation"],
)
def test_a_wrap_is_bound_to_its_place(other: WrapName) -> None:
    wrapped = wrap_key(OUTER, KEK, new_keyring_key(), NAME)
    with pytest.raises(SealBroken):
        unwrap_key(OUTER, KEK, wrapped, other)


def test_a_first_password_is_checked_and_opens_nothing() -> None:
    sealed = seal_first_password(OUTER, KEK, NAME.keyring_id)
    check_first_password(OUTER, KEK, NAME.keyring_id, sealed)
    with pytest.raises(WrongPassword):
        check_first_password(OUTER, os.urandom(32), NAME.keyring_id, sealed)
    with pytest.raises(SealBroken):
        unwrap_key(OUTER, KEK, sealed, NAME)


def test_rule_c10_only_the_keys_holder_opens_the_check_value() -> None:
    key = new_keyring_key()
    value = make_check_value(key, NAME.keyring_id, NAME.generation)
    prove_key(key, value, NAME.keyring_id, NAME.generation)
    for wrong in (
        (os.urandom(32), NAME.keyring_id, NAME.generation),
        (key, KeyringId(os.urandom(16)), NAME.generation),
        (key, NAME.keyring_id, KeyGeneration(2)),
    ):
        with pytest.raises(SealBroken):
            prove_key(wrong[0], value, wrong[1], wrong[2])
