"""An application on PyKCS11: arguments are the module and a token's label, the PIN is in TOKEN_PIN.

It goes through what PyKCS11's own tests use of a module: info, sessions, objects, digests, random
bytes, RSA and EC keys, ciphers, wrapping, derivation.  Run as a program of its own.
"""

from __future__ import annotations

import hashlib
import os
import sys
from typing import Any

import PyKCS11

low: Any = PyKCS11.LowLevel


def open_token(path: str, label: str) -> tuple[Any, Any]:
    """Load the module and log in to the token of that label."""
    library = PyKCS11.PyKCS11Lib()
    library.load(path)
    assert library.getInfo().cryptokiVersion[0] >= 2
    slots = library.getSlotList(tokenPresent=True)
    slot = next(s for s in slots if library.getTokenInfo(s).label.strip() == label)
    assert library.getSlotInfo(slot).flags & low.CKF_TOKEN_PRESENT
    assert "CKM_AES_CBC" in library.getMechanismList(slot)
    assert library.getMechanismInfo(slot, "CKM_RSA_PKCS").ulMaxKeySize >= 2048
    session = library.openSession(slot, low.CKF_SERIAL_SESSION | low.CKF_RW_SESSION)
    session.login(os.environ["TOKEN_PIN"])
    assert session.getSessionInfo().state == low.CKS_RW_USER_FUNCTIONS
    return library, session


def refused(value: int, call: Any, *arguments: Any) -> None:
    """Check that a call raises this return value."""
    try:
        call(*arguments)
    except PyKCS11.PyKCS11Error as error:
        assert error.value == value, error
    else:
        raise AssertionError(f"{call} was not refused")


def digests_and_random(session: Any) -> None:
    """Whole and in parts."""
    for name, kind in (("sha1", low.CKM_SHA_1), ("sha256", low.CKM_SHA256)):
        made = session.digest(b"abc", PyKCS11.Mechanism(kind))
        assert bytes(made) == hashlib.new(name, b"abc").digest()
    parts = session.digestSession(PyKCS11.Mechanism(low.CKM_SHA512))
    parts.update(b"a")
    parts.update(b"bc")
    assert bytes(parts.final()) == hashlib.sha512(b"abc").digest()
    assert bytes(session.generateRandom(16)) != bytes(session.generateRandom(16))


def objects(session: Any) -> None:
    """Create, find, read, change, copy, destroy."""
    label = f"pykcs11 {os.getpid()}"
    made = session.createObject(
        [
            (low.CKA_CLASS, low.CKO_DATA),
            (low.CKA_TOKEN, low.CK_TRUE),
            (low.CKA_LABEL, label),
            (low.CKA_VALUE, b"value"),
        ]
    )
    (found,) = session.findObjects([(low.CKA_LABEL, label)])
    assert bytes(session.getAttributeValue(found, [low.CKA_VALUE])[0]) == b"value"
    session.setAttributeValue(found, [(low.CKA_LABEL, label + " changed")])
    assert session.findObjects([(low.CKA_LABEL, label)]) == []
    session.destroyObject(made)
    assert session.findObjects([(low.CKA_LABEL, label + " changed")]) == []


def rsa(session: Any) -> None:
    """Sign, verify, encrypt, decrypt, and refuse what was changed."""
    public, private = session.generateKeyPair(
        [
            (low.CKA_CLASS, low.CKO_PUBLIC_KEY),
            (low.CKA_MODULUS_BITS, 2048),
            (low.CKA_PUBLIC_EXPONENT, (1, 0, 1)),
            (low.CKA_ENCRYPT, low.CK_TRUE),
            (low.CKA_VERIFY, low.CK_TRUE),
        ],
        [
            (low.CKA_CLASS, low.CKO_PRIVATE_KEY),
            (low.CKA_DECRYPT, low.CK_TRUE),
            (low.CKA_SIGN, low.CK_TRUE),
        ],
    )
    pss = PyKCS11.RSA_PSS_Mechanism(
        low.CKM_SHA256_RSA_PKCS_PSS, low.CKM_SHA256, low.CKG_MGF1_SHA256, 32
    )
    for how in (PyKCS11.Mechanism(low.CKM_SHA256_RSA_PKCS), pss):
        made = session.sign(private, b"data", how)
        assert session.verify(public, b"data", made, how)
        assert not session.verify(public, b"Data", made, how)
    oaep = PyKCS11.RSAOAEPMechanism(low.CKM_SHA256, low.CKG_MGF1_SHA256)
    for how in (PyKCS11.Mechanism(low.CKM_RSA_PKCS), oaep):
        made = session.encrypt(public, b"data", how)
        assert bytes(session.decrypt(private, made, how)) == b"data"


def elliptic_curves(session: Any) -> None:
    """Sign, verify and agree on a key."""
    parameters = bytes.fromhex("06082a8648ce3d030107")
    public, private = session.generateKeyPair(
        [(low.CKA_EC_PARAMS, parameters), (low.CKA_VERIFY, low.CK_TRUE)],
        [(low.CKA_SIGN, low.CK_TRUE), (low.CKA_DERIVE, low.CK_TRUE)],
        PyKCS11.Mechanism(low.CKM_EC_KEY_PAIR_GEN),
    )
    how = PyKCS11.Mechanism(low.CKM_ECDSA)
    digest = hashlib.sha256(b"data").digest()
    made = session.sign(private, digest, how)
    assert session.verify(public, digest, made, how)
    point = bytes(session.getAttributeValue(public, [low.CKA_EC_POINT])[0])[2:]
    secret = session.deriveKey(
        private,
        [
            (low.CKA_CLASS, low.CKO_SECRET_KEY),
            (low.CKA_KEY_TYPE, low.CKK_AES),
            (low.CKA_VALUE_LEN, 32),
            (low.CKA_ENCRYPT, low.CK_TRUE),
        ],
        PyKCS11.ECDH1_DERIVE_Mechanism(point),
    )
    assert len(session.encrypt(secret, bytes(16), PyKCS11.Mechanism(low.CKM_AES_ECB))) == 16


def ciphers_and_wrapping(session: Any) -> None:
    """CBC, GCM and CTR; wrap a key and unwrap it."""
    template = [
        (low.CKA_CLASS, low.CKO_SECRET_KEY),
        (low.CKA_KEY_TYPE, low.CKK_AES),
        (low.CKA_VALUE_LEN, 32),
        *((use, low.CK_TRUE) for use in (low.CKA_ENCRYPT, low.CKA_DECRYPT)),
        *((use, low.CK_TRUE) for use in (low.CKA_WRAP, low.CKA_UNWRAP, low.CKA_EXTRACTABLE)),
    ]
    key, other = session.generateKey(template), session.generateKey(template)
    data = b"sixteen bytes of" * 4
    for how in (
        PyKCS11.Mechanism(low.CKM_AES_CBC, bytes(16)),
        PyKCS11.Mechanism(low.CKM_AES_CBC_PAD, bytes(16)),
        PyKCS11.AES_GCM_Mechanism(bytes(12), b"associated", 128),
        PyKCS11.AES_CTR_Mechanism(128, bytes(16)),
    ):
        assert bytes(session.decrypt(key, session.encrypt(key, data, how), how)) == data
    wrap = PyKCS11.Mechanism(low.CKM_AES_KEY_WRAP)
    ecb = PyKCS11.Mechanism(low.CKM_AES_ECB)
    again = session.unwrapKey(
        key, session.wrapKey(key, other, wrap), template[:2] + template[3:], wrap
    )
    assert bytes(session.encrypt(again, data, ecb)) == bytes(session.encrypt(other, data, ecb))


def main() -> None:
    """Go through all of it."""
    library, session = open_token(*sys.argv[1:3])
    refused(low.CKR_USER_ALREADY_LOGGED_IN, session.login, os.environ["TOKEN_PIN"])
    for part in (digests_and_random, objects, rsa, elliptic_curves, ciphers_and_wrapping):
        part(session)
    session.logout()
    refused(low.CKR_USER_NOT_LOGGED_IN, session.logout)
    session.closeSession()
    library.unload()


if __name__ == "__main__":
    main()
