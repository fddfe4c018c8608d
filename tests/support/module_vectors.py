"""Published vectors through the PKCS#11 module: for each file, with which mechanisms, and how.

What is counted in docs/vectors.md is what tests/native/test_module_vectors.py runs: both read
`PLANS`.
"""

from __future__ import annotations

import ctypes
import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from conclave.crypto.curves import CURVES, EDWARDS, octet_string
from conclave.crypto.lattices import ML_DSA
from conclave.crypto.standard import Cka, Ckk, Ckm, Cko
from conclave.errors import Ckr
from tests.support.crypto_vectors import RSA_PARTS, Case, hash_row, mac_row, mask_row, octets
from tests.support.cryptoki import (
    CounterParameter,
    GcmParameter,
    Mechanism,
    OaepParameter,
    PssParameter,
    Session,
    Template,
    mechanism,
)


class CcmParameter(ctypes.Structure):
    """CK_CCM_PARAMS."""

    _fields_ = (
        ("data_length", ctypes.c_ulong),
        ("nonce", ctypes.c_char_p),
        ("nonce_length", ctypes.c_ulong),
        ("associated", ctypes.c_char_p),
        ("associated_length", ctypes.c_ulong),
        ("tag_length", ctypes.c_ulong),
    )


class ChaChaParameter(ctypes.Structure):
    """CK_SALSA20_CHACHA20_POLY1305_PARAMS."""

    _fields_ = (
        ("nonce", ctypes.c_char_p),
        ("nonce_length", ctypes.c_ulong),
        ("associated", ctypes.c_char_p),
        ("associated_length", ctypes.c_ulong),
    )


class SignContext(ctypes.Structure):
    """CK_SIGN_ADDITIONAL_CONTEXT."""

    _fields_ = (
        ("hedge", ctypes.c_ulong),
        ("context", ctypes.c_char_p),
        ("length", ctypes.c_ulong),
    )


Run = Callable[[Session, Case, Ckm], None]


@dataclass(frozen=True)
class Plan:
    """With which mechanisms the cases of a file are run, and how one is."""

    kinds: Callable[[Case], tuple[Ckm, ...]]
    run: Run


# ------------------------------------------------------------------ what a case needs


def imported(session: Session, template: Template) -> int:
    return session.create({Cka.PRIVATE: True, **template})


def secret(session: Session, kind: Ckk, value: bytes) -> int:
    uses = (Cka.SIGN, Cka.VERIFY, Cka.ENCRYPT, Cka.DECRYPT)
    head: Template = {Cka.CLASS: Cko.SECRET_KEY, Cka.KEY_TYPE: kind, Cka.VALUE: value}
    return imported(session, {**head, **dict.fromkeys(uses, True)})


def public(session: Session, kind: Ckk, material: Template) -> int:
    head: Template = {Cka.CLASS: Cko.PUBLIC_KEY, Cka.KEY_TYPE: kind, Cka.VERIFY: True}
    return imported(session, {**head, **material})


def private(session: Session, kind: Ckk, material: Template) -> int:
    head: Template = {Cka.CLASS: Cko.PRIVATE_KEY, Cka.KEY_TYPE: kind}
    return imported(session, {**head, **material})


def opened(session: Session, how: Mechanism, key: int, sealed: bytes) -> bytes | None:
    """Decrypt; None when it is refused, at whichever step."""
    if session.value("C_DecryptInit", ctypes.byref(how), key) != Ckr.OK:
        return None
    room = ctypes.create_string_buffer(max(len(sealed), 1))
    length = ctypes.c_ulong(len(room))
    value = session.value("C_Decrypt", sealed, len(sealed), room, ctypes.byref(length))
    return room.raw[: length.value] if value == Ckr.OK else None


def accepts(session: Session, how: Mechanism, key: int, data: bytes, signature: bytes) -> bool:
    """Verify; false when it is refused, at whichever step."""
    if session.value("C_VerifyInit", ctypes.byref(how), key) != Ckr.OK:
        return False
    return session.value("C_Verify", data, len(data), signature, len(signature)) == Ckr.OK


def both_ways(session: Session, how: Mechanism, key: int, plain: bytes, sealed: bytes) -> None:
    assert session.whole("Encrypt", how, key, plain) == sealed
    assert opened(session, how, key, sealed) == plain


def right(case: Case) -> bool:
    return case.get("result", "P") == "P"


# ------------------------------------------------------------------ secret keys


def run_block(session: Session, case: Case, kind: Ckm) -> None:
    type_of = Ckk.AES_XTS if kind == Ckm.AES_XTS else Ckk.AES
    key = secret(session, type_of, octets(case["key"]))
    how = mechanism(kind, octets(case["iv"]) if "iv" in case else None)
    plain, sealed = octets(case["plaintext"]), octets(case["ciphertext"])
    if kind == Ckm.AES_CBC_PAD:
        padded = session.whole("Encrypt", how, key, plain)
        assert padded[:-16] == sealed
        assert opened(session, how, key, padded) == plain
    else:
        both_ways(session, how, key, plain, sealed)
    session.do("C_DestroyObject", key)


def run_ctr(session: Session, case: Case, kind: Ckm) -> None:
    key = secret(session, Ckk.AES, octets(case["key"]))
    block = (ctypes.c_ubyte * 16)(*octets(case["iv"]))
    how = mechanism(kind, CounterParameter(32, block))
    both_ways(session, how, key, octets(case["plaintext"]), octets(case["ciphertext"]))
    session.do("C_DestroyObject", key)


def run_aead(session: Session, case: Case, kind: Ckm) -> None:
    nonce, aad, tag = (octets(case[name]) for name in ("nonce", "aad", "tag"))
    sealed = octets(case["ciphertext"]) + tag
    type_of = Ckk.CHACHA20 if kind == Ckm.CHACHA20_POLY1305 else Ckk.AES
    choice: ctypes.Structure
    if kind == Ckm.AES_CCM:
        size = len(sealed) - len(tag)
        choice = CcmParameter(size, nonce, len(nonce), aad, len(aad), len(tag))
    elif kind == Ckm.CHACHA20_POLY1305:
        choice = ChaChaParameter(nonce, len(nonce), aad, len(aad))
    else:
        bits = 8 * len(nonce)
        choice = GcmParameter(nonce, len(nonce), bits, aad, len(aad), 8 * len(tag))
    key, how = secret(session, type_of, octets(case["key"])), mechanism(kind, choice)
    if case["plaintext"] == "FAIL" or case.get("result") == "F":
        assert opened(session, how, key, sealed) is None
    else:
        both_ways(session, how, key, octets(case["plaintext"]), sealed)
    session.do("C_DestroyObject", key)


def run_gmac(session: Session, case: Case, kind: Ckm) -> None:
    nonce, data, tag = (octets(case[name]) for name in ("nonce", "aad", "tag"))
    key = secret(session, Ckk.AES, octets(case["key"]))
    choice = GcmParameter(nonce, len(nonce), 8 * len(nonce), b"", 0, 8 * len(tag))
    assert session.whole("Sign", mechanism(kind, choice), key, data) == tag
    assert accepts(session, mechanism(kind, choice), key, data, tag)
    session.do("C_DestroyObject", key)


def run_mac(session: Session, case: Case, kind: Ckm) -> None:
    data, mac = octets(case["message"]), octets(case["mac"])
    cmac = kind in {Ckm.AES_CMAC, Ckm.AES_CMAC_GENERAL}
    row = None if cmac else mac_row(case["hash"])
    key = secret(session, Ckk.AES if row is None else row.hmac_key_type, octets(case["key"]))
    general = kind == Ckm.AES_CMAC_GENERAL or (row is not None and kind == row.hmac_general)
    how = mechanism(kind, bytes(ctypes.c_ulong(len(mac))) if general else None)
    made = session.whole("Sign", how, key, data)
    assert (made[: len(mac)] == mac) is right(case)
    if general or len(made) == len(mac):
        assert accepts(session, how, key, data, mac) is right(case)
    session.do("C_DestroyObject", key)


def run_digest(session: Session, case: Case, kind: Ckm) -> None:
    message = octets(case["message"])
    assert session.digest(kind, [message[:1], message[1:]]) == octets(case["digest"])


# ------------------------------------------------------------------ curves and lattices


def run_ecdsa(session: Session, case: Case, kind: Ckm) -> None:
    row = next(row for row in CURVES if row.name == case["curve"])
    if "point" in case:
        point, signature = octets(case["point"]), octets(case["signature"])
    else:
        parts = [octets(case[name]).rjust(row.order_bytes, b"\0") for name in ("x", "y", "r", "s")]
        point, signature = b"\x04" + b"".join(parts[:2]), b"".join(parts[2:])
    material: Template = {Cka.EC_PARAMS: row.params, Cka.EC_POINT: octet_string(point)}
    key, message = public(session, Ckk.EC, material), octets(case["message"])
    if kind == Ckm.ECDSA:
        message = hashlib.new(case["hash"], message).digest()
    assert accepts(session, mechanism(kind), key, message, signature) is right(case)
    session.do("C_DestroyObject", key)


def run_eddsa(session: Session, case: Case, kind: Ckm) -> None:
    point = octets(case["public"])
    row = next(row for row in EDWARDS if row.key_bytes == len(point))
    head: Template = {Cka.EC_PARAMS: row.params}
    message, signature = octets(case["message"]), octets(case["signature"])
    key = public(session, Ckk.EC_EDWARDS, {**head, Cka.EC_POINT: octet_string(point)})
    assert accepts(session, mechanism(kind), key, message, signature) is right(case)
    session.do("C_DestroyObject", key)
    if "secret" in case:
        key = private(session, Ckk.EC_EDWARDS, {**head, Cka.VALUE: octets(case["secret"])})
        assert session.whole("Sign", mechanism(kind), key, message) == signature
        session.do("C_DestroyObject", key)


def run_ml_dsa(session: Session, case: Case, kind: Ckm) -> None:
    row = next(row for row in ML_DSA if row.name == case["set"])
    value, context = octets(case["public"]), octets(case["context"])
    if len(value) != row.public_bytes:
        assert case["result"] == "F"
        return
    material: Template = {Cka.PARAMETER_SET: row.number, Cka.VALUE: value}
    key = public(session, Ckk.ML_DSA, material)
    how = mechanism(kind, SignContext(0, context, len(context)) if context else None)
    message, signature = octets(case["message"]), octets(case["signature"])
    assert accepts(session, how, key, message, signature) is right(case)
    session.do("C_DestroyObject", key)


# ------------------------------------------------------------------ RSA


def rsa_private(session: Session, case: Case) -> int:
    """Return the session's key of a case: to check its primes takes 40 ms, so it is made once."""
    modulus = octets(case["modulus"]).lstrip(b"\0")
    for key in session.find({Cka.CLASS: Cko.PRIVATE_KEY, Cka.MODULUS: modulus, Cka.TOKEN: False}):
        return key
    return private(
        session, Ckk.RSA, {number: octets(case[name]) for name, number in RSA_PARTS.items()}
    )


def run_rsa_verify(session: Session, case: Case, kind: Ckm) -> None:
    modulus = octets(case["modulus"]).lstrip(b"\0")
    exponent = octets(case["exponent"]).lstrip(b"\0")
    key = public(session, Ckk.RSA, {Cka.MODULUS: modulus, Cka.PUBLIC_EXPONENT: exponent})
    row = hash_row(case["hash"])
    how, message = mechanism(kind), octets(case["message"])
    if kind != row.rsa_pkcs:
        mask = mask_row(case.get("mask", case["hash"])).mask_generation
        salt = int(case["salt_bytes"]) if "salt_bytes" in case else len(octets(case["salt"]))
        how = mechanism(kind, PssParameter(row.digest, mask, salt))
        if kind == Ckm.RSA_PKCS_PSS:
            message = hashlib.new(row.name, message).digest()
    signature = octets(case["signature"]).rjust(len(modulus), b"\0")
    assert accepts(session, how, key, message, signature) is right(case)
    session.do("C_DestroyObject", key)


def run_rsa_sign(session: Session, case: Case, kind: Ckm) -> None:
    message, signature = octets(case["message"]), octets(case["output"])
    key = rsa_private(session, case)
    if kind != Ckm.SHA1_RSA_PKCS:
        info = bytes.fromhex("3021300906052b0e03021a05000414")
        message = info + hashlib.sha1(message, usedforsecurity=False).digest()
    if kind == Ckm.RSA_X_509:
        message = b"\0\1" + b"\xff" * (len(signature) - len(message) - 3) + b"\0" + message
    assert session.whole("Sign", mechanism(kind), key, message) == signature


def run_rsa_decrypt(session: Session, case: Case, kind: Ckm) -> None:
    how = mechanism(kind)
    if kind == Ckm.RSA_PKCS_OAEP:
        digest, mask = hash_row(case["hash"]).digest, mask_row(case["mask"]).mask_generation
        how = mechanism(kind, OaepParameter(digest, mask, 1, None, 0))
    key = rsa_private(session, case)
    assert opened(session, how, key, octets(case["output"])) == octets(case["message"])


# ------------------------------------------------------------------ the plans


def always(*kinds: Ckm) -> Callable[[Case], tuple[Ckm, ...]]:
    return lambda _: kinds


def of_gcm(case: Case) -> tuple[Ckm, ...]:
    empty = not case["plaintext"] and not case["ciphertext"]
    return (Ckm.AES_GCM, Ckm.AES_GMAC) if empty else (Ckm.AES_GCM,)


def of_hmac(case: Case) -> tuple[Ckm, ...]:
    row = mac_row(case["hash"])
    return (row.hmac, row.hmac_general)


def of_ecdsa(case: Case) -> tuple[Ckm, ...]:
    return (Ckm.ECDSA, hash_row(case["hash"]).ecdsa)


def of_pkcs(case: Case) -> tuple[Ckm, ...]:
    return (hash_row(case["hash"]).rsa_pkcs,)


def of_pss(case: Case) -> tuple[Ckm, ...]:
    return (Ckm.RSA_PKCS_PSS, mask_row(case["hash"]).rsa_pss)


def of_digest(case: Case) -> tuple[Ckm, ...]:
    name = case["hash"].upper()
    return (Ckm.SHA_1,) if name == "SHA1" else (Ckm[name],)


PLANS = {
    "aes_ecb": Plan(always(Ckm.AES_ECB), run_block),
    "aes_cbc": Plan(always(Ckm.AES_CBC, Ckm.AES_CBC_PAD), run_block),
    "aes_xts": Plan(always(Ckm.AES_XTS), run_block),
    "aes_ctr": Plan(always(Ckm.AES_CTR), run_ctr),
    "aes_gcm": Plan(of_gcm, lambda s, c, k: (run_gmac if k == Ckm.AES_GMAC else run_aead)(s, c, k)),
    "aes_ccm": Plan(always(Ckm.AES_CCM), run_aead),
    "chacha20_poly1305": Plan(always(Ckm.CHACHA20_POLY1305), run_aead),
    "aes_cmac": Plan(always(Ckm.AES_CMAC, Ckm.AES_CMAC_GENERAL), run_mac),
    "hmac": Plan(of_hmac, run_mac),
    "hmac_sha3": Plan(of_hmac, run_mac),
    "hmac_sha512_t": Plan(of_hmac, run_mac),
    "digests": Plan(of_digest, run_digest),
    "digests_sha2": Plan(of_digest, run_digest),
    "ecdsa_verify": Plan(of_ecdsa, run_ecdsa),
    "ecdsa_more": Plan(of_ecdsa, run_ecdsa),
    "ecdsa_brainpool": Plan(of_ecdsa, run_ecdsa),
    "ed25519": Plan(always(Ckm.EDDSA), run_eddsa),
    "ed448_sign": Plan(always(Ckm.EDDSA), run_eddsa),
    "ed448_verify": Plan(always(Ckm.EDDSA), run_eddsa),
    "ml_dsa_verify": Plan(always(Ckm.ML_DSA), run_ml_dsa),
    "rsa_pkcs_verify": Plan(of_pkcs, run_rsa_verify),
    "rsa_pkcs_sha3": Plan(of_pkcs, run_rsa_verify),
    "rsa_pss_verify": Plan(of_pss, run_rsa_verify),
    "rsa_pss_masks": Plan(of_pss, run_rsa_verify),
    "rsa_pss_sha3": Plan(of_pss, run_rsa_verify),
    "rsa_pkcs_sign": Plan(always(Ckm.SHA1_RSA_PKCS, Ckm.RSA_PKCS, Ckm.RSA_X_509), run_rsa_sign),
    "rsa_pkcs_decrypt": Plan(always(Ckm.RSA_PKCS), run_rsa_decrypt),
    "rsa_oaep_decrypt": Plan(always(Ckm.RSA_PKCS_OAEP), run_rsa_decrypt),
}
