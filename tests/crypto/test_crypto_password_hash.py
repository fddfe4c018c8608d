"""Password hashing: the published vector's algorithm, its costs and rule G2."""

from __future__ import annotations

import subprocess
import sys

import argon2.low_level
import pytest

from conclave.crypto.password_hash import (
    DEFAULT_COST,
    LOW_COST_FOR_TESTS,
    Argon2Cost,
    check_cost,
    hash_password,
    new_salt,
)
from conclave.errors import BadInput


def test_it_is_argon2id_of_password_and_salt() -> None:
    key = hash_password(b"password", b"somesalt", Argon2Cost(256, 2, 1))
    # phc-winner-argon2, src/test.c (CC0 / Apache-2.0): Argon2id, v=19, t=2, m=2^8, p=1.
    assert key.hex() == "9dfeb910e80bad0311fee20f9c0e2b12c17987b4cac90c2ef54d5b3021c68bfe"
    assert key == argon2.low_level.hash_secret_raw(
        b"password", b"somesalt", 2, 256, 1, 32, argon2.low_level.Type.ID
    )


def test_password_salt_and_cost_all_matter() -> None:
    salt = new_salt()
    keys = {
        hash_password(b"one", salt, LOW_COST_FOR_TESTS),
        hash_password(b"two", salt, LOW_COST_FOR_TESTS),
        hash_password(b"one", new_salt(), LOW_COST_FOR_TESTS),
        hash_password(b"one", salt, Argon2Cost(64, 2, 1)),
    }
    assert len(keys) == 4
    assert hash_password(b"one", salt, LOW_COST_FOR_TESTS) in keys


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
    ],
)
def test_impossible_costs_are_refused_even_in_tests(cost: Argon2Cost) -> None:
    with pytest.raises(BadInput, match="argon2"):
        check_cost(cost, allow_low_cost=True)


def test_a_short_salt_is_a_programming_error_and_says_no_secret() -> None:
    with pytest.raises(ValueError, match="at least 8 bytes") as caught:
        hash_password(b"the secret password", b"short", LOW_COST_FOR_TESTS)
    assert "secret" not in str(caught.value)


_HUNGRY = """
import resource
from conclave.crypto.password_hash import Argon2Cost, hash_password
from conclave.errors import Unavailable

resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
try:
    hash_password(b"password", bytes(16), Argon2Cost(memory_kib=2 << 20))
except Unavailable as error:
    print(error.message)
"""


def test_without_memory_it_is_unavailable() -> None:
    child = subprocess.run(
        [sys.executable, "-c", _HUNGRY], capture_output=True, text=True, timeout=60, check=True
    )
    assert "KiB of memory" in child.stdout
