"""Sign each line of standard input while members come and go: fail_over.py KEYRING KEY."""

import os
import sys

from conclave.client import Client, Unavailable


def main() -> None:
    """Do nothing special: the client learns the members and asks another when one is away."""
    keyring_label, key_label = sys.argv[1:]
    with (
        Client.from_environment() as client,
        client.keyring(keyring_label, os.environ["PIN"]) as keyring,
    ):
        key = keyring.private_key(key_label)
        for line in sys.stdin:
            try:
                print(key.sign(line.encode()).hex(), flush=True)
            except Unavailable as error:
                # Nobody answered for 30 seconds; a signature may be asked for again.
                print(f"not signed: {error.message}", file=sys.stderr, flush=True)


main()
