"""What multitoken can load a keyring with; keys are session objects and end with the run."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from conclave.client.refusals import misused
from conclave.client.session import Client, KeyringSession
from conclave.client.templates import Value, template
from conclave.crypto.curves import CURVES, ED25519_PARAMS
from conclave.crypto.lattices import ML_DSA
from conclave.crypto.standard import Cka, Ckm
from conclave.service import wire
from conclave.shell_words import nearest

Operation = Callable[[], object]
NONCE_BYTES: Final = 12
TAG_BITS: Final = 128


@dataclass(frozen=True, slots=True)
class Load:
    """What one operation does: key size as the mode has it (0: none), data in bytes."""

    mode: str
    key_size: int
    packet_bytes: int

    @property
    def title(self) -> str:
        """Return mode and key size."""
        return f"{self.mode} {self.key_size}" if self.key_size else self.mode


def _rsa_sign(_client: Client, session: KeyringSession, load: Load) -> Operation:
    key = _pair(
        session,
        Ckm.RSA_PKCS_KEY_PAIR_GEN,
        {Cka.MODULUS_BITS: load.key_size, Cka.PUBLIC_EXPONENT: b"\1\0\1"},
    )
    return _signing(session, key, Ckm.SHA256_RSA_PKCS, load)


def _ecdsa_sign(_client: Client, session: KeyringSession, load: Load) -> Operation:
    (curve,) = (row for row in CURVES if row.name == f"P-{load.key_size}")
    key = _pair(session, Ckm.EC_KEY_PAIR_GEN, {Cka.EC_PARAMS: curve.params})
    return _signing(session, key, Ckm.ECDSA_SHA256, load)


def _eddsa_sign(_client: Client, session: KeyringSession, load: Load) -> Operation:
    key = _pair(session, Ckm.EC_EDWARDS_KEY_PAIR_GEN, {Cka.EC_PARAMS: ED25519_PARAMS})
    return _signing(session, key, Ckm.EDDSA, load)


def _ecdsa_verify(_client: Client, session: KeyringSession, load: Load) -> Operation:
    (curve,) = (row for row in CURVES if row.name == f"P-{load.key_size}")
    apart: dict[int, Value] = {Cka.TOKEN: False}
    public, private = session.generate_key_pair(
        Ckm.EC_KEY_PAIR_GEN,
        template({**apart, Cka.EC_PARAMS: curve.params, Cka.VERIFY: True}),
        template({**apart, Cka.SIGN: True}),
    )
    data = bytes(load.packet_bytes)
    signature = session.sign(private.reference, Ckm.ECDSA_SHA256, data)
    return lambda: session.verify(public.reference, Ckm.ECDSA_SHA256, data, signature)


def _mldsa_sign(_client: Client, session: KeyringSession, load: Load) -> Operation:
    (row,) = (row for row in ML_DSA if row.name == f"ML-DSA-{load.key_size}")
    key = _pair(session, Ckm.ML_DSA_KEY_PAIR_GEN, {Cka.PARAMETER_SET: row.number})
    return _signing(session, key, Ckm.ML_DSA, load)


def _ec_key_pair(_client: Client, session: KeyringSession, load: Load) -> Operation:
    (curve,) = (row for row in CURVES if row.name == f"P-{load.key_size}")
    return lambda: _pair(session, Ckm.EC_KEY_PAIR_GEN, {Cka.EC_PARAMS: curve.params})


def _aes_key(_client: Client, session: KeyringSession, load: Load) -> Operation:
    return lambda: _secret(session, Ckm.AES_KEY_GEN, load.key_size)


def _hmac(_client: Client, session: KeyringSession, load: Load) -> Operation:
    key = _secret(session, Ckm.GENERIC_SECRET_KEY_GEN, load.key_size)
    return _signing(session, key, Ckm.SHA256_HMAC, load)


def _aes_gcm(_client: Client, session: KeyringSession, load: Load) -> Operation:
    key = _secret(session, Ckm.AES_KEY_GEN, load.key_size)
    data = bytes(load.packet_bytes)

    def encrypt() -> bytes:
        parameter = wire.GcmParameter(os.urandom(NONCE_BYTES), b"", TAG_BITS)
        return session.encrypt(key, Ckm.AES_GCM, data, parameter=parameter)

    return encrypt


def _random(client: Client, _session: KeyringSession, load: Load) -> Operation:
    return lambda: client.random(load.packet_bytes)


Start = Callable[[Client, KeyringSession, Load], Operation]


@dataclass(frozen=True, slots=True)
class Mode:
    """What begins a thread's work, and the key sizes, of which the first is the default."""

    begin: Start
    sizes: tuple[int, ...]
    what: str

    @property
    def summary(self) -> str:
        """Return what the mode does and its sizes."""
        sizes = ", ".join(map(str, self.sizes))
        return f"{self.what} ({sizes})" if self.sizes != (0,) else self.what


MODES: Final = {
    "rsasign": Mode(_rsa_sign, (2048, 3072, 4096), "RSA PKCS #1 v1.5 signatures with SHA-256"),
    "ecdsasign": Mode(_ecdsa_sign, (256, 384, 521), "ECDSA signatures with SHA-256"),
    "ecdsaverify": Mode(_ecdsa_verify, (256, 384, 521), "verifying such signatures"),
    "eddsasign": Mode(_eddsa_sign, (255,), "Ed25519 signatures"),
    "mldsasign": Mode(_mldsa_sign, (65, 44, 87), "ML-DSA signatures"),
    "hmac": Mode(_hmac, (256, 384, 512), "HMAC with SHA-256"),
    "aesgcm": Mode(_aes_gcm, (256, 192, 128), "AES-GCM encryption"),
    "eckeygen": Mode(_ec_key_pair, (256, 384, 521), "EC key pairs, as session objects"),
    "aeskeygen": Mode(_aes_key, (256, 192, 128), "AES keys, as session objects"),
    "random": Mode(_random, (0,), "random bytes"),
}


def load_of(mode: str, key_size: str | None, packet_bytes: int) -> Load:
    """Return the load; raise BadInput when there is no such mode or size."""
    if mode not in MODES:
        near = nearest(mode, list(MODES))
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(MODES)}."
        raise misused(f"Option -mode names no mode; {hint}")
    sizes = MODES[mode].sizes
    if key_size is not None and key_size not in map(str, sizes):
        known = ", ".join(str(size) for size in sizes)
        raise misused(f"Option -key for mode {mode} is one of {known}; it is {key_size!r}.")
    return Load(mode, sizes[0] if key_size is None else int(key_size), packet_bytes)


def begin(client: Client, session: KeyringSession, load: Load) -> Operation:
    """Make a thread's key and return its operation."""
    return MODES[load.mode].begin(client, session, load)


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
