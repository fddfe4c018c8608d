"""Make, wrap and prove a keyring's key (KK).

Invariant: KK lies in the store only as S_outer(S_KEK(KK)): neither the master key nor the password
alone opens it, and no second copy is sealed under either of them alone (rule C1).  KK does not
exist before the first password was changed, so whoever knew that password never held KK.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from conclave import faults
from conclave.crypto.seal import SealBroken, new_key, seal, unseal
from conclave.errors import CredentialRefused
from conclave.ids import KeyGeneration, KeyringId
from conclave.service.wire import Role

MARKER: Final = b"conclave: this seal was opened"


class WrongPassword(CredentialRefused):
    """The inner seal does not open, so the password is another one."""

    def __init__(self) -> None:
        super().__init__(faults.PIN_INCORRECT, "The keyring password is wrong.")


def new_keyring_key() -> bytes:
    """Return a new random KK."""
    return new_key()


def seal_first_password(outer: bytes, kek: bytes, keyring_id: KeyringId) -> bytes:
    """Seal a marker, so that a first password can be checked; it opens nothing else."""
    return _nest(outer, kek, MARKER, b"first password" + keyring_id)


def check_first_password(outer: bytes, kek: bytes, keyring_id: KeyringId, sealed: bytes) -> None:
    """Raise WrongPassword when `kek` is not of the first password."""
    _open(outer, kek, sealed, b"first password" + keyring_id)


@dataclass(frozen=True, slots=True)
class WrapName:
    """What a wrapped KK is bound to."""

    keyring_id: KeyringId
    role: Role
    generation: KeyGeneration

    def context(self) -> bytes:
        """Return the name as additional data of a seal."""
        number = self.generation.to_bytes(8, "big")
        return b"keyring key" + self.keyring_id + bytes([self.role]) + number


def wrap_key(outer: bytes, kek: bytes, key: bytes, name: WrapName) -> bytes:
    """Return S_outer(S_KEK(KK)) for the credential of one role."""
    return _nest(outer, kek, key, name.context())


def unwrap_key(outer: bytes, kek: bytes, sealed: bytes, name: WrapName) -> bytes:
    """Return KK; raise WrongPassword when `kek` is not of the credential's password."""
    return _open(outer, kek, sealed, name.context())


def renew_first_password(outer: bytes, sealed: bytes, keyring_id: KeyringId) -> bytes:
    """Return a first password's marker under a new outer seal; see `renew_wrap`."""
    return _renew(outer, sealed, b"first password" + keyring_id)


def renew_wrap(outer: bytes, sealed: bytes, name: WrapName) -> bytes:
    """Return a wrapped KK under a new outer seal: the same password opens it, but it is another."""
    return _renew(outer, sealed, name.context())


def make_check_value(key: bytes, keyring_id: KeyringId, number: KeyGeneration) -> bytes:
    """Seal a marker under KK: what a ticket's KK must open on first sight (rule C10)."""
    return seal(key, MARKER, _check_context(keyring_id, number))


def prove_key(key: bytes, check_value: bytes, keyring_id: KeyringId, number: KeyGeneration) -> None:
    """Raise SealBroken unless `key` is the keyring's KK of that generation."""
    if unseal(key, check_value, _check_context(keyring_id, number)) != MARKER:
        raise SealBroken


def _nest(outer: bytes, kek: bytes, content: bytes, context: bytes) -> bytes:
    return seal(outer, seal(kek, content, b"inner " + context), b"outer " + context)


def _open(outer: bytes, kek: bytes, sealed: bytes, context: bytes) -> bytes:
    # A broken outer seal is a damaged row or another master key: nobody's password is to blame.
    inner = unseal(outer, sealed, b"outer " + context)
    try:
        return unseal(kek, inner, b"inner " + context)
    except SealBroken:
        raise WrongPassword from None


def _renew(outer: bytes, sealed: bytes, context: bytes) -> bytes:
    return seal(outer, unseal(outer, sealed, b"outer " + context), b"outer " + context)


def _check_context(keyring_id: KeyringId, number: KeyGeneration) -> bytes:
    return b"check value" + keyring_id + number.to_bytes(8, "big")
