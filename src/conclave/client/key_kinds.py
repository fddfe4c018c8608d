"""Kinds of keys by the names people use, as `P-256`, and the mechanism that is usual for each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeVar, get_args

from conclave import faults
from conclave.client.async_session import Parameter
from conclave.client.templates import Value
from conclave.crypto.curves import CURVES, EDWARDS, MONTGOMERY
from conclave.crypto.lattices import ML_KEM
from conclave.crypto.standard import Cka, Ckg, Ckk, Ckm
from conclave.errors import BadInput
from conclave.service import wire

PairName = Literal[
    "RSA-2048",
    "RSA-3072",
    "RSA-4096",
    "P-224",
    "P-256",
    "P-384",
    "P-521",
    "secp256k1",
    "brainpoolP256r1",
    "brainpoolP384r1",
    "brainpoolP512r1",
    "Ed25519",
    "Ed448",
    "X25519",
    "X448",
    "ML-DSA-44",
    "ML-DSA-65",
    "ML-DSA-87",
    "ML-KEM-768",
    "ML-KEM-1024",
]
SecretName = Literal[
    "AES-128", "AES-192", "AES-256", "ChaCha20", "HMAC-256", "HMAC-384", "HMAC-512"
]
"""An HMAC key is a generic secret of so many bits."""


@dataclass(frozen=True, slots=True)
class KeyKind:
    """How keys of a kind are generated; `template` holds what names the kind."""

    key_type: Ckk
    mechanism: Ckm
    template: Mapping[int, Value]


def _rsa(bits: int) -> KeyKind:
    template: dict[int, Value] = {Cka.MODULUS_BITS: bits, Cka.PUBLIC_EXPONENT: b"\1\0\1"}
    return KeyKind(Ckk.RSA, Ckm.RSA_PKCS_KEY_PAIR_GEN, template)


def _on_curve(key_type: Ckk, mechanism: Ckm, params: bytes) -> KeyKind:
    return KeyKind(key_type, mechanism, {Cka.EC_PARAMS: params})


def _secret(key_type: Ckk, mechanism: Ckm, bits: int) -> KeyKind:
    return KeyKind(key_type, mechanism, {Cka.VALUE_LEN: bits // 8})


_PAIRS: Final[Mapping[str, KeyKind]] = {
    **{f"RSA-{bits}": _rsa(bits) for bits in (2048, 3072, 4096)},
    **{row.name: _on_curve(Ckk.EC, Ckm.EC_KEY_PAIR_GEN, row.params) for row in CURVES},
    **{
        row.name: _on_curve(Ckk.EC_EDWARDS, Ckm.EC_EDWARDS_KEY_PAIR_GEN, row.params)
        for row in EDWARDS
    },
    **{
        row.name: _on_curve(Ckk.EC_MONTGOMERY, Ckm.EC_MONTGOMERY_KEY_PAIR_GEN, row.params)
        for row in MONTGOMERY
    },
    **{
        f"ML-DSA-{size}": KeyKind(Ckk.ML_DSA, Ckm.ML_DSA_KEY_PAIR_GEN, {Cka.PARAMETER_SET: number})
        for number, size in enumerate((44, 65, 87), 1)
    },
    **{
        row.name: KeyKind(Ckk.ML_KEM, Ckm.ML_KEM_KEY_PAIR_GEN, {Cka.PARAMETER_SET: row.number})
        for row in ML_KEM
    },
}
_SECRETS: Final[Mapping[str, KeyKind]] = {
    **{f"AES-{bits}": _secret(Ckk.AES, Ckm.AES_KEY_GEN, bits) for bits in (128, 192, 256)},
    "ChaCha20": KeyKind(Ckk.CHACHA20, Ckm.CHACHA20_KEY_GEN, {}),
    **{
        f"HMAC-{bits}": _secret(Ckk.GENERIC_SECRET, Ckm.GENERIC_SECRET_KEY_GEN, bits)
        for bits in (256, 384, 512)
    },
}
Name = TypeVar("Name")


def pair_kind(name: PairName) -> KeyKind:
    """Return a kind of key pair; raise BadInput for a name that is none."""
    return _named(name, _PAIRS, get_args(PairName))


def secret_kind(name: SecretName) -> KeyKind:
    """Return a kind of secret key; raise BadInput for a name that is none."""
    return _named(name, _SECRETS, get_args(SecretName))


def _named(name: str, kinds: Mapping[str, KeyKind], names: tuple[str, ...]) -> KeyKind:
    if name not in kinds:
        message = f"The kind of a key is one of {', '.join(names)}; it is {name!r}."
        raise BadInput(faults.BAD_REQUEST, message)
    return kinds[name]


@dataclass(frozen=True, slots=True)
class Scheme:
    """How data are signed; with a hash name, the digest is what is sent."""

    mechanism: int
    parameter: Parameter
    hash_name: str | None


_RSA_PKCS: Final = {
    "sha1": Ckm.SHA1_RSA_PKCS,
    "sha224": Ckm.SHA224_RSA_PKCS,
    "sha256": Ckm.SHA256_RSA_PKCS,
    "sha384": Ckm.SHA384_RSA_PKCS,
    "sha512": Ckm.SHA512_RSA_PKCS,
}
_RSA_PSS: Final = {
    Ckm.SHA224_RSA_PKCS_PSS: ("sha224", wire.PssParameter(Ckm.SHA224, Ckg.MGF1_SHA224, 28)),
    Ckm.SHA256_RSA_PKCS_PSS: ("sha256", wire.PssParameter(Ckm.SHA256, Ckg.MGF1_SHA256, 32)),
    Ckm.SHA384_RSA_PKCS_PSS: ("sha384", wire.PssParameter(Ckm.SHA384, Ckg.MGF1_SHA384, 48)),
    Ckm.SHA512_RSA_PKCS_PSS: ("sha512", wire.PssParameter(Ckm.SHA512, Ckg.MGF1_SHA512, 64)),
}
_ECDSA: Final = {
    "sha1": Ckm.ECDSA_SHA1,
    "sha224": Ckm.ECDSA_SHA224,
    "sha256": Ckm.ECDSA_SHA256,
    "sha384": Ckm.ECDSA_SHA384,
    "sha512": Ckm.ECDSA_SHA512,
}
_HASHES: Final[Mapping[int, str]] = {
    **{mechanism: name for name, mechanism in _RSA_PKCS.items()},
    **{mechanism: name for mechanism, (name, _parameter) in _RSA_PSS.items()},
    **{mechanism: name for name, mechanism in _ECDSA.items()},
}
OAEP_SHA256: Final = wire.OaepParameter(Ckm.SHA256, Ckg.MGF1_SHA256, b"")
_BY_SIZE: Final = ((256, "sha256"), (384, "sha384"))


def signing_scheme(info: wire.KeyInfo, mechanism: Ckm | None, parameter: Parameter) -> Scheme:
    """Return how a key signs: as asked for, or as is usual for its type and size.

    A PSS mechanism without a parameter has its own hash in MGF1, and a salt as long as the hash.
    Raises BadInput when nothing was asked for and nothing is usual.
    """
    chosen = _usual_signature(info) if mechanism is None else mechanism
    if parameter is None and chosen in _RSA_PSS:
        parameter = _RSA_PSS[Ckm(chosen)][1]
    return Scheme(chosen, parameter, _HASHES.get(chosen))


def sealing_mechanism(info: wire.KeyInfo) -> Ckm:
    """Return what seals with a key of this type; raise BadInput when it is not for that."""
    if info.key_type == Ckk.AES:
        return Ckm.AES_GCM
    if info.key_type == Ckk.CHACHA20:
        return Ckm.CHACHA20_POLY1305
    message = "Only AES and ChaCha20 keys seal data."
    raise BadInput(faults.KEY_HANDLE_INVALID, message)


def _usual_signature(info: wire.KeyInfo) -> Ckm:
    name = next((name for bits, name in _BY_SIZE if info.size_bits <= bits), "sha512")
    usual = {
        Ckk.RSA: Ckm.SHA256_RSA_PKCS,
        Ckk.EC: _ECDSA[name],
        Ckk.EC_EDWARDS: Ckm.EDDSA,
        Ckk.ML_DSA: Ckm.ML_DSA,
        Ckk.AES: Ckm.AES_CMAC,
        Ckk.GENERIC_SECRET: {"sha256": Ckm.SHA256_HMAC, "sha384": Ckm.SHA384_HMAC}.get(
            name, Ckm.SHA512_HMAC
        ),
        Ckk.SHA256_HMAC: Ckm.SHA256_HMAC,
        Ckk.SHA384_HMAC: Ckm.SHA384_HMAC,
        Ckk.SHA512_HMAC: Ckm.SHA512_HMAC,
    }
    for key_type, mechanism in usual.items():
        if info.key_type == key_type:
            return mechanism
    message = f"For keys of type {info.key_type:#x} no signature is usual; name a mechanism."
    raise BadInput(faults.BAD_REQUEST, message)
