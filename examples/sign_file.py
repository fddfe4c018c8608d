"""Sign a file: sign_file.py KEYRING KEY FILE writes FILE.sig; the PIN comes from $PIN."""

import hashlib
import os
import sys
from pathlib import Path

from conclave.client import Ckm, Client


def main() -> None:
    """Hash the file here, and send no more than its digest."""
    keyring_label, key_label, file = sys.argv[1:]
    with Path(file).open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").digest()
    with (
        Client.from_environment() as client,
        client.keyring(keyring_label, os.environ["PIN"]) as keyring,
    ):
        key = keyring.private_key(key_label)
        signature = key.sign_digest(digest, Ckm.ECDSA_SHA256)
    Path(f"{file}.sig").write_bytes(signature)
    print(f"{file}.sig: {len(signature)} bytes")


main()
