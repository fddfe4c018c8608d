"""An application on python-pkcs11: arguments are module and label, the PIN is in TOKEN_PIN.

It uses the public interface of that package as its own tests do: keys that are made, signatures,
decryption, streams, searches.  Run as a program of its own.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import pkcs11
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils
from pkcs11 import MGF, Attribute, KeyType, Mechanism, ObjectClass
from pkcs11.util.ec import encode_named_curve_parameters
from pkcs11.util.rsa import encode_rsa_public_key

DATA = os.urandom(5000)


def use_rsa(session: Any) -> None:
    """Sign by PKCS #1 v1.5 and PSS, and decrypt by OAEP."""
    public, private = session.generate_keypair(KeyType.RSA, 2048, label="pp11", store=False)
    key = serialization.load_der_public_key(encode_rsa_public_key(public))
    assert isinstance(key, rsa.RSAPublicKey)
    signature = private.sign(DATA, mechanism=Mechanism.SHA256_RSA_PKCS)
    key.verify(signature, DATA, padding.PKCS1v15(), hashes.SHA256())
    signature = private.sign(
        DATA,
        mechanism=Mechanism.SHA384_RSA_PKCS_PSS,
        mechanism_param=(Mechanism.SHA384, MGF.SHA384, 48),
    )
    key.verify(signature, DATA, padding.PSS(padding.MGF1(hashes.SHA384()), 48), hashes.SHA384())
    oaep = padding.OAEP(padding.MGF1(hashes.SHA1()), hashes.SHA1(), None)  # noqa: S303
    assert private.decrypt(key.encrypt(b"for the keyring", oaep)) == b"for the keyring"


def use_curve(session: Any) -> None:
    """Sign on a curve."""
    named = {Attribute.EC_PARAMS: encode_named_curve_parameters("secp384r1")}
    parameters = session.create_domain_parameters(KeyType.EC, named, local=True)
    public, private = parameters.generate_keypair(store=False)
    made = private.sign(DATA, mechanism=Mechanism.ECDSA_SHA384)
    wrapped = public[Attribute.EC_POINT]
    point = wrapped[3:] if wrapped[1] & 0x80 else wrapped[2:]
    half = len(made) // 2
    pair = int.from_bytes(made[:half], "big"), int.from_bytes(made[half:], "big")
    key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP384R1(), point)
    key.verify(utils.encode_dss_signature(*pair), DATA, ec.ECDSA(hashes.SHA384()))


def use_aes(session: Any) -> None:
    """Encrypt in one piece and as a stream with a token key; find and destroy it."""
    label = f"pp11-{os.urandom(4).hex()}"
    key = session.generate_key(KeyType.AES, 256, label=label, store=True)
    iv = session.generate_random(128)
    assert key.decrypt(key.encrypt(DATA, mechanism_param=iv), mechanism_param=iv) == DATA
    streamed = b"".join(key.encrypt([DATA[:17], DATA[17:4000], DATA[4000:]], mechanism_param=iv))
    assert streamed == key.encrypt(DATA, mechanism_param=iv)
    found = list(session.get_objects({Attribute.LABEL: label}))
    assert len(found) == 1
    assert found[0].object_class == ObjectClass.SECRET_KEY
    found[0].destroy()
    assert not list(session.get_objects({Attribute.LABEL: label}))


def main() -> None:
    """Go through all of it in one session."""
    token = pkcs11.lib(sys.argv[1]).get_token(token_label=sys.argv[2])
    with token.open(rw=True, user_pin=os.environ["TOKEN_PIN"]) as session:
        use_rsa(session)
        use_curve(session)
        use_aes(session)


if __name__ == "__main__":
    main()
