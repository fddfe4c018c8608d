"""Use one keyring from a pool of threads: thread_pool.py KEYRING THREADS; PIN from $PIN."""

import os
import sys
from concurrent.futures import ThreadPoolExecutor

from conclave.client import Client


def main() -> None:
    """Share the client, the login and the key; each thread gets a connection while it needs one."""
    keyring_label, threads = sys.argv[1], int(sys.argv[2])
    texts = [f"invoice {number}".encode() for number in range(10 * threads)]
    with (
        Client.from_environment() as client,
        client.keyring(keyring_label, os.environ["PIN"]) as keyring,
        ThreadPoolExecutor(threads) as pool,
    ):
        pair = keyring.generate_key_pair("RSA-2048", token=False)
        signatures = list(pool.map(pair.private.sign, texts))
        list(pool.map(pair.public.verify, signatures, texts))
    print(f"{len(signatures)} signatures by {threads} threads, all right")


main()
