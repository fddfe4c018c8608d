"""Sealing: round trips, and every kind of change noticed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conclave.crypto.seal import (
    KEY_BYTES,
    OVERHEAD_BYTES,
    SealBroken,
    derive,
    new_key,
    seal,
    unseal,
)
from conclave.errors import ConclaveError

KEY = bytes(range(KEY_BYTES))


@given(plaintext=st.binary(max_size=200), aad=st.binary(max_size=40))
def test_what_was_sealed_comes_back(plaintext: bytes, aad: bytes) -> None:
    sealed = seal(KEY, plaintext, aad)
    assert len(sealed) == len(plaintext) + OVERHEAD_BYTES
    assert unseal(KEY, sealed, aad) == plaintext


@given(position=st.integers(0, OVERHEAD_BYTES + 9), bit=st.integers(0, 7))
def test_one_changed_bit_breaks_the_seal(position: int, bit: int) -> None:
    sealed = bytearray(seal(KEY, b"ten bytes.", b"owner"))
    sealed[position] ^= 1 << bit
    with pytest.raises(SealBroken):
        unseal(KEY, bytes(sealed), b"owner")


@pytest.mark.parametrize("length", [0, 1, OVERHEAD_BYTES - 1, OVERHEAD_BYTES])
def test_a_truncated_seal_is_broken(length: int) -> None:
    with pytest.raises(SealBroken):
        unseal(KEY, seal(KEY, b"content", b"")[:length], b"")


def test_another_key_or_context_breaks_the_seal() -> None:
    sealed = seal(KEY, b"content", b"keyring 1")
    with pytest.raises(SealBroken):
        unseal(KEY, sealed, b"keyring 2")
    with pytest.raises(SealBroken) as caught:
        unseal(new_key(), sealed, b"keyring 1")
    assert isinstance(caught.value, ConclaveError)
    assert "content" not in caught.value.message


def test_two_seals_of_the_same_differ() -> None:
    assert seal(KEY, b"same", b"") != seal(KEY, b"same", b"")


def test_keys_of_another_length_are_a_programming_error() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        seal(b"short", b"", b"")
    with pytest.raises(ValueError, match="32 bytes"):
        derive(b"short", "purpose")


def test_derived_keys_depend_on_purpose_and_context() -> None:
    derived = {
        derive(KEY, "object"),
        derive(KEY, "object", b"x"),
        derive(KEY, "objectx"),
        derive(KEY, "objec", b"t"),
        derive(bytes(32), "object"),
    }
    assert len(derived) == 5
    assert all(len(key) == KEY_BYTES for key in derived)
    assert derive(KEY, "object") == derive(KEY, "object")
