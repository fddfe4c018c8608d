"""Carry a key out of a keyring and in again, enciphered: wrap_and_unwrap.py KEYRING."""

import os
import sys

from conclave.client import Cka, Client


def main() -> None:
    """Wrap an AES key by RFC 5649; what may leave, and under what, the attributes say."""
    pin = os.environ["PIN"]
    with Client.from_environment() as client, client.keyring(sys.argv[1], pin) as keyring:
        wrapping = keyring.generate_key(
            "AES-256", token=False, attributes={Cka.WRAP: True, Cka.UNWRAP: True}
        )
        key = keyring.generate_key("AES-128", token=False, attributes={Cka.EXTRACTABLE: True})
        sealed = key.seal(b"a secret")
        wrapped = wrapping.wrap(key)
        again = wrapping.unwrap(wrapped, "AES-128", token=False)
        print(f"{len(wrapped)} bytes wrapped; it still opens {again.unseal(sealed).decode()!r}")


main()
