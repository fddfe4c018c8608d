"""An application under which things are killed: creates keys, signs, and keeps the receipts.

Run as a process of its own. Every line on standard output is one receipt, written only after the
module has answered: ``created LABEL PROOF``, ``signed BEGIN END``, ``error WHAT NAME``, ``WRONG``.
PROOF is what the key must make of a block of zeros; times are seconds of the monotonic clock. It
goes on over faults without C_Finalize and ends when standard input closes. With ``verify`` it
checks receipts that it reads instead.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pkcs11
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from pkcs11.util.ec import encode_named_curve_parameters

PAUSE_AFTER_FAULT_SECONDS = 0.02
PAUSE_BETWEEN_SECONDS = 0.001
ZEROS = bytes(16)


class Receipts:
    """Write whole lines from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def write(self, line: str) -> None:
        """Write one receipt and make sure that it has left the process."""
        with self._lock:
            sys.stdout.write(line + "\n")
            sys.stdout.flush()


def proof_of(value: bytes) -> str:
    """Return what an AES key makes of a block of zeros."""
    encryptor = Cipher(algorithms.AES(value), modes.ECB()).encryptor()  # noqa: S305
    return (encryptor.update(ZEROS) + encryptor.finalize()).hex()


def create_forever(session: Any, tag: str, receipts: Receipts, stop: threading.Event) -> None:
    """Create AES token objects with numbered labels."""
    number = 0
    while not stop.wait(PAUSE_BETWEEN_SECONDS):
        number += 1
        label, value = f"{tag}-{number}", os.urandom(32)
        template = {
            pkcs11.Attribute.CLASS: pkcs11.ObjectClass.SECRET_KEY,
            pkcs11.Attribute.KEY_TYPE: pkcs11.KeyType.AES,
            pkcs11.Attribute.TOKEN: True,
            pkcs11.Attribute.ENCRYPT: True,
            pkcs11.Attribute.LABEL: label,
            pkcs11.Attribute.VALUE: value,
        }
        try:
            session.create_object(template)
        except pkcs11.PKCS11Error as error:
            receipts.write(f"error create {type(error).__name__} {error}")
            stop.wait(PAUSE_AFTER_FAULT_SECONDS)
        else:
            receipts.write(f"created {label} {proof_of(value)}")


def sign_forever(
    sign: Callable[[bytes], bytes],
    public: ec.EllipticCurvePublicKey,
    receipts: Receipts,
    stop: threading.Event,
    *,
    pause_seconds: float = PAUSE_BETWEEN_SECONDS,
) -> None:
    """Sign random digests and check every signature outside the module."""
    while not stop.wait(pause_seconds):
        digest, begun = os.urandom(32), time.monotonic()
        try:
            made = sign(digest)
        except (pkcs11.PKCS11Error, subprocess.SubprocessError) as error:
            receipts.write(f"error sign {type(error).__name__} {error}")
            stop.wait(PAUSE_AFTER_FAULT_SECONDS)
            continue
        ended = time.monotonic()
        try:
            public.verify(der_of(made), digest, ec.ECDSA(utils.Prehashed(hashes.SHA256())))
        except InvalidSignature:
            receipts.write("WRONG")
        else:
            receipts.write(f"signed {begun:.3f} {ended:.3f}")


def der_of(raw: bytes) -> bytes:
    """Return a signature of PKCS#11, r and s side by side, as everybody else writes it."""
    half = len(raw) // 2
    return utils.encode_dss_signature(
        int.from_bytes(raw[:half], "big"), int.from_bytes(raw[half:], "big")
    )


def ec_signer(private: Any) -> Callable[[bytes], bytes]:
    """Return how the module signs a digest with a key."""
    return lambda digest: bytes(private.sign(digest, mechanism=pkcs11.Mechanism.ECDSA))


def make_ec_pair(session: Any, label: str) -> tuple[Any, ec.EllipticCurvePublicKey]:
    """Make a P-256 pair on the token; return the private key and the public one, outside."""
    parameters = session.create_domain_parameters(
        pkcs11.KeyType.EC,
        {pkcs11.Attribute.EC_PARAMS: encode_named_curve_parameters("secp256r1")},
        local=True,
    )
    public, private = parameters.generate_keypair(store=True, label=label)
    outside = ec.EllipticCurvePublicKey.from_encoded_point(
        ec.SECP256R1(), public[pkcs11.Attribute.EC_POINT][2:]
    )
    return private, outside


def load(token: Any, pin: str, tag: str) -> None:
    """Work until standard input closes, each thread in a session of its own."""
    receipts, stop = Receipts(), threading.Event()
    with token.open(rw=True, user_pin=pin) as session, token.open(rw=True) as other:
        private, outside = make_ec_pair(session, f"{tag}-key")
        signer = (ec_signer(private), outside, receipts, stop)
        threads = [
            threading.Thread(target=create_forever, args=(other, tag, receipts, stop)),
            threading.Thread(target=sign_forever, args=signer),
        ]
        for thread in threads:
            thread.start()
        sys.stdin.read()
        stop.set()
        for thread in threads:
            thread.join(60)
    receipts.write("ended")


def verify(token: Any, pin: str) -> None:
    """Check the receipts on standard input: every key is there and is the one that was made."""
    wanted = dict(line.split() for line in sys.stdin)
    with token.open(user_pin=pin) as session:
        there: dict[str, Any] = {}
        for key in session.get_objects({pkcs11.Attribute.CLASS: pkcs11.ObjectClass.SECRET_KEY}):
            there[key.label] = key
        for label, proof in wanted.items():
            if label not in there:
                sys.stdout.write(f"missing {label}\n")
            elif there[label].encrypt(ZEROS, mechanism=pkcs11.Mechanism.AES_ECB).hex() != proof:
                sys.stdout.write(f"changed {label}\n")
    sys.stdout.write(f"verified {len(wanted)} of {len(there)}\n")


def main() -> None:
    """Run as `load.py MODULE TOKEN-LABEL TAG` or `load.py MODULE TOKEN-LABEL verify`."""
    module, token_label, tag = sys.argv[1:4]
    token = pkcs11.lib(module).get_token(token_label=token_label)
    pin = os.environ["TOKEN_PIN"]
    if tag == "verify":
        verify(token, pin)
    else:
        load(token, pin, tag)


if __name__ == "__main__":
    main()
