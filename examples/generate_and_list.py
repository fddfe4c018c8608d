"""Generate keys and list all: generate_and_list.py KEYRING LABEL; the PIN comes from $PIN."""

import os
import sys

from conclave.client import Client, Key


def main() -> None:
    """Make a key pair and a secret key of this label, then show what there is."""
    keyring_label, label = sys.argv[1:]
    with (
        Client.from_environment() as client,
        client.keyring(keyring_label, os.environ["PIN"]) as keyring,
    ):
        keyring.generate_key_pair("P-256", label=label, key_id=label.encode())
        keyring.generate_key("AES-256", label=label)
        for found in keyring.search():
            kind = found.key_type.name if isinstance(found, Key) else ""
            print(f"{type(found).__name__:12} {kind:8} {found.label!r:24} {found.id.hex()}")


main()
