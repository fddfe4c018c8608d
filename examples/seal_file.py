"""Encrypt with AES-GCM: seal_file.py KEYRING seal|unseal FROM TO, up to 1 MB; PIN from $PIN."""

import os
import sys
from pathlib import Path

from conclave.client import Client, NotFound


def main() -> None:
    """Use the key `files`, and make it the first time."""
    keyring_label, what, source, target = sys.argv[1:]
    content = Path(source).read_bytes()
    with (
        Client.from_environment() as client,
        client.keyring(keyring_label, os.environ["PIN"]) as keyring,
    ):
        try:
            key = keyring.secret_key("files")
        except NotFound:
            key = keyring.generate_key("AES-256", label="files")
        work = key.unseal if what == "unseal" else key.seal
        Path(target).write_bytes(work(content, additional_data=b"seal_file.py"))
    print(f"{target} is written")


main()
