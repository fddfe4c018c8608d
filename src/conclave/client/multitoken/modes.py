"""What multitoken can load a keyring with; keys are session objects and end with the run."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from conclave import faults
from conclave.client.session import Client, KeyringSession
from conclave.client.templates import Value, template
from conclave.crypto.curves import CURVES, ED25519_PARAMS
from conclave.crypto.standard import Cka, Ckm
from conclave.errors import BadInput
from conclave.service import wire

Operation = Callable[[], object]
NONCE_BYTES: Final = 12
TAG_BITS: Final = 128


@dataclass(frozen=True, slots=True)
class Load:
    """What one operation does: key size in bits (0 for the mode's own), data in bytes."""

    mode: str
    key_bits: int
    packet_bytes: int


def _rsa_sign(_client: Client, session: KeyringSession, load: Load) -> Operation:
    key = _pair(
        session,
        Ckm.RSA_PKCS_KEY_PAIR_GEN,
        {Cka.MODULUS_BITS: load.key_bits, Cka.PUBLIC_EXPONENT: b"\1\0\1"},
    )
    return _signing(session, key, Ckm.SHA256_RSA_PKCS, load)


def _ecdsa_sign(_client: Client, session: KeyringSession, load: Load) -> Operation:
    (curve,) = (row for row in CURVES if row.name == f"P-{load.key_bits}")
    key = _pair(session, Ckm.EC_KEY_PAIR_GEN, {Cka.EC_PARAMS: curve.params})
    return _signing(session, key, Ckm.ECDSA_SHA256, load)


def _eddsa_sign(_client: Client, session: KeyringSession, load: Load) -> Operation:
    key = _pair(session, Ckm.EC_EDWARDS_KEY_PAIR_GEN, {Cka.EC_PARAMS: ED25519_PARAMS})
    return _signing(session, key, Ckm.EDDSA, load)


def _hmac(_client: Client, session: KeyringSession, load: Load) -> Operation:
    key = _secret(session, Ckm.GENERIC_SECRET_KEY_GEN, load.key_bits)
    return _signing(session, key, Ckm.SHA256_HMAC, load)


def _aes_gcm(_client: Client, session: KeyringSession, load: Load) -> Operation:
    key = _secret(session, Ckm.AES_KEY_GEN, load.key_bits)
    data = bytes(load.packet_bytes)

    def encrypt() -> bytes:
        parameter = wire.GcmParameter(os.urandom(NONCE_BYTES), b"", TAG_BITS)
        return session.encrypt(key, Ckm.AES_GCM, data, parameter=parameter)

    return encrypt


def _random(client: Client, _session: KeyringSession, load: Load) -> Operation:
    return lambda: client.random(load.packet_bytes)


Start = Callable[[Client, KeyringSession, Load], Operation]
MODES: Final[dict[str, tuple[Start, tuple[int, ...]]]] = {
    "rsasign": (_rsa_sign, (2048, 3072, 4096)),
    "ecdsasign": (_ecdsa_sign, (256, 384, 521)),
    "eddsasign": (_eddsa_sign, (255,)),
    "hmac": (_hmac, (256, 384, 512)),
    "aesgcm": (_aes_gcm, (256, 192, 128)),
    "random": (_random, (0,)),
}
"""By name: what begins a thread's work, and the key sizes, of which the first is the default."""


def load_of(mode: str, key_bits: int | None, packet_bytes: int) -> Load:
    """Return the load; raise BadInput when the mode has no keys of that size."""
    sizes = MODES[mode][1]
    if key_bits is not None and key_bits not in sizes:
        known = ", ".join(str(size) for size in sizes)
        message = f"Option --key for mode {mode} is one of {known}; it is {key_bits}."
        raise BadInput(faults.COMMAND_LINE, message)
    return Load(mode, sizes[0] if key_bits is None else key_bits, packet_bytes)


def begin(client: Client, session: KeyringSession, load: Load) -> Operation:
    """Make a thread's key and return its operation."""
    return MODES[load.mode][0](client, session, load)


def _pair(session: KeyringSession, mechanism: Ckm, public: dict[int, Value]) -> bytes:
    apart: dict[int, Value] = {Cka.TOKEN: False}
    _public, private = session.generate_key_pair(
        mechanism, template({**apart, **public}), template({**apart, Cka.SIGN: True})
    )
    return private.reference


def _secret(session: KeyringSession, mechanism: Ckm, bits: int) -> bytes:
    wanted: dict[int, Value] = {Cka.TOKEN: False, Cka.VALUE_LEN: bits // 8}
    return session.generate_key(mechanism, template(wanted)).reference


def _signing(session: KeyringSession, key: bytes, mechanism: Ckm, load: Load) -> Operation:
    data = bytes(load.packet_bytes)
    return lambda: session.sign(key, mechanism, data)
