"""Verify a file's signature: verify_file.py KEYRING KEY FILE reads FILE.sig; needs no PIN."""

import hashlib
import sys
from pathlib import Path

from conclave.client import Ckm, Ckr, Client, ConclaveError


def main() -> None:
    """Use the public key, which everybody may who is a client of the cluster."""
    keyring_label, key_label, file = sys.argv[1:]
    with Path(file).open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").digest()
    signature = Path(f"{file}.sig").read_bytes()
    with Client.from_environment() as client, client.keyring(keyring_label) as keyring:
        try:
            keyring.public_key(key_label).verify_digest(signature, digest, Ckm.ECDSA_SHA256)
        except ConclaveError as error:
            if error.fault.ckr is not Ckr.SIGNATURE_INVALID:
                raise
            sys.exit(f"{file}: the signature is WRONG")
    print(f"{file}: the signature is right")


main()
