"""python-pkcs11, an independent PKCS#11 application, works on a keyring."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.token import Token

pytestmark = pytest.mark.system

SCRIPT = """
import os, sys
import pkcs11
from pkcs11 import Attribute, KeyType, Mechanism, MGF, ObjectClass
from pkcs11.util.ec import encode_named_curve_parameters, encode_ecdsa_signature
from pkcs11.util.rsa import encode_rsa_public_key
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, utils

library = pkcs11.lib(sys.argv[1])
token = library.get_token(token_label=sys.argv[2])
data = os.urandom(5000)
with token.open(rw=True, user_pin=os.environ["TOKEN_PIN"]) as session:
    public, private = session.generate_keypair(KeyType.RSA, 2048, label="pp11", store=False)
    rsa = serialization.load_der_public_key(encode_rsa_public_key(public))
    rsa.verify(private.sign(data, mechanism=Mechanism.SHA256_RSA_PKCS), data,
               padding.PKCS1v15(), hashes.SHA256())
    rsa.verify(
        private.sign(data, mechanism=Mechanism.SHA384_RSA_PKCS_PSS,
                     mechanism_param=(Mechanism.SHA384, MGF.SHA384, 48)),
        data, padding.PSS(padding.MGF1(hashes.SHA384()), 48), hashes.SHA384())
    secret = rsa.encrypt(b"for the keyring", padding.OAEP(
        padding.MGF1(hashes.SHA1()), hashes.SHA1(), None))
    assert private.decrypt(secret) == b"for the keyring"

    parameters = session.create_domain_parameters(
        KeyType.EC, {Attribute.EC_PARAMS: encode_named_curve_parameters("secp384r1")}, local=True)
    public, private = parameters.generate_keypair(store=False)
    made = private.sign(data, mechanism=Mechanism.ECDSA_SHA384)
    point = public[Attribute.EC_POINT][3:] if public[Attribute.EC_POINT][1] & 0x80 \
        else public[Attribute.EC_POINT][2:]
    curve = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP384R1(), point)
    half = len(made) // 2
    curve.verify(utils.encode_dss_signature(
        int.from_bytes(made[:half], "big"), int.from_bytes(made[half:], "big")),
        data, ec.ECDSA(hashes.SHA384()))

    key = session.generate_key(KeyType.AES, 256, label="pp11-aes", store=True)
    iv = session.generate_random(128)
    assert key.decrypt(key.encrypt(data, mechanism_param=iv), mechanism_param=iv) == data
    chunks = [data[:17], data[17:4000], data[4000:]]
    streamed = b"".join(key.encrypt(chunks, mechanism_param=iv))
    assert streamed == key.encrypt(data, mechanism_param=iv)
    found = list(session.get_objects({Attribute.LABEL: "pp11-aes"}))
    assert len(found) == 1 and found[0].object_class == ObjectClass.SECRET_KEY
    found[0].destroy()
    assert not list(session.get_objects({Attribute.LABEL: "pp11-aes"}))
    print("all is well")
"""


def test_python_pkcs11_generates_signs_encrypts_and_finds(token: Token, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    outcome = subprocess.run(
        [sys.executable, str(script), token.module, token.label],
        check=False,
        capture_output=True,
        text=True,
        env={**token.environment, "TOKEN_PIN": token.pin},
        timeout=60,
    )
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    assert "all is well" in outcome.stdout
