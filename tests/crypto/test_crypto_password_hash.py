"""Password hashing: the published vector's algorithm, its costs and rule G2."""

from __future__ import annotations

import subprocess
import sys

import argon2.low_level
import pytest

from conclave.crypto.password_hash import (
    DEFAULT_COST,
    LOW_COST_FOR_TESTS,
    MAX_MEMORY_KIB,
    Argon2Cost,
    argon2id,
    check_cost,
    hash_password,
    new_salt,
    salt_cost,
)
from conclave.errors import BadInput, InternalFault


def test_it_is_argon2id_of_password_and_salt() -> None:
    key = argon2id(b"password", b"somesalt", Argon2Cost(256, 2, 1))
    # phc-winner-argon2, src/test.c (CC0 / Apache-2.0): Argon2id, v=19, t=2, m=2^8, p=1.
    assert key.hex() == "9dfeb910e80bad0311fee20f9c0e2b12c17987b4cac90c2ef54d5b3021c68bfe"
    assert key == argon2.low_level.hash_secret_raw(
        b"password", b"somesalt", 2, 256, 1, 32, argon2.low_level.Type.ID
    )


def test_password_salt_and_cost_all_matter() -> None:
    salt = new_salt(LOW_COST_FOR_TESTS)
    dearer = salt.replace(bytes([64, 1, 1]), bytes([64, 2, 1]), 1)
    assert salt_cost(dearer, allow_low_cost=True) == Argon2Cost(64, 2, 1)
    keys = [
        hash_password(b"one", salt, allow_low_cost=True),
        hash_password(b"two", salt, allow_low_cost=True),
        hash_password(b"one", new_salt(LOW_COST_FOR_TESTS), allow_low_cost=True),
        hash_password(b"one", dearer, allow_low_cost=True),
    ]
    assert len(set(keys)) == 4
    assert keys[0] == argon2id(b"one", salt, LOW_COST_FOR_TESTS)


@pytest.mark.parametrize(
    "cost", [DEFAULT_COST, Argon2Cost(MAX_MEMORY_KIB, 4, 16), Argon2Cost(19456, 100, 1)]
)
def test_a_salt_says_its_cost_and_is_random(cost: Argon2Cost) -> None:
    salts = {new_salt(cost) for _ in range(3)}
    assert len(salts) == 3
    assert {salt_cost(salt) for salt in salts} == {cost}


REFUSED_SALTS = {
    "empty": (b"", "23 bytes"),
    "without a cost": (bytes(16), "23 bytes"),
    "too long": (new_salt(DEFAULT_COST) + b"\0", "23 bytes"),
    "of another version": (b"\x02" + new_salt(DEFAULT_COST)[1:], "first is 1"),
    "memory": (new_salt(Argon2Cost(MAX_MEMORY_KIB + 1, 3, 4)), "memory_kib must lie between 32"),
    "most memory": (new_salt(Argon2Cost(0xFFFFFFFF, 3, 4)), "memory_kib"),
    "work": (new_salt(Argon2Cost(MAX_MEMORY_KIB, 5, 4)), "memory_kib times argon2.iterations"),
    "iterations": (new_salt(Argon2Cost(65536, 101, 4)), "iterations"),
    "lanes": (new_salt(Argon2Cost(65536, 3, 17)), "lanes"),
    "nothing": (new_salt(Argon2Cost(65536, 0, 0)), "iterations"),
}


@pytest.mark.parametrize(("salt", "rule"), REFUSED_SALTS.values(), ids=REFUSED_SALTS)
def test_a_stored_cost_beyond_the_bounds_is_refused_before_memory_is_taken(
    salt: bytes, rule: str
) -> None:
    with pytest.raises(InternalFault, match=rule):
        hash_password(b"password", salt, allow_low_cost=True)


def test_g2_a_stored_low_cost_is_refused_unless_allowed() -> None:
    salt = new_salt(LOW_COST_FOR_TESTS)
    with pytest.raises(InternalFault, match="need low_cost_for_tests"):
        hash_password(b"the secret password", salt)
    assert hash_password(b"the secret password", salt, allow_low_cost=True)


def test_g2_the_low_cost_is_refused_unless_allowed() -> None:
    assert check_cost(LOW_COST_FOR_TESTS, allow_low_cost=True) is LOW_COST_FOR_TESTS
    with pytest.raises(BadInput, match=r"argon2\.memory_kib must lie between 19456 .* it is 64"):
        check_cost(LOW_COST_FOR_TESTS)
    assert check_cost(DEFAULT_COST) is DEFAULT_COST


@pytest.mark.parametrize(
    "cost",
    [
        Argon2Cost(iterations=0),
        Argon2Cost(lanes=0),
        Argon2Cost(lanes=17),
        Argon2Cost(memory_kib=7, lanes=1),
        Argon2Cost(memory_kib=1 << 40),
        Argon2Cost(iterations=101),
        Argon2Cost(memory_kib=1 << 20, iterations=5),
    ],
)
def test_impossible_costs_are_refused_even_in_tests(cost: Argon2Cost) -> None:
    with pytest.raises(BadInput, match="argon2"):
        check_cost(cost, allow_low_cost=True)


_HUNGRY = """
import resource
from conclave.crypto.password_hash import Argon2Cost, hash_password, new_salt
from conclave.errors import Unavailable

resource.setrlimit(resource.RLIMIT_AS, (3 << 28, 3 << 28))
try:
    hash_password(b"password", new_salt(Argon2Cost(memory_kib=1 << 20)))
except Unavailable as error:
    print(error.message)
"""


def test_without_memory_it_is_unavailable() -> None:
    child = subprocess.run(
        [sys.executable, "-c", _HUNGRY], capture_output=True, text=True, timeout=60, check=True
    )
    assert "KiB of memory" in child.stdout
