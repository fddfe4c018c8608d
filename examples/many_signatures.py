"""Sign many texts at once with asyncio: many_signatures.py KEYRING COUNT; PIN from $PIN."""

import asyncio
import os
import sys
import time

from conclave.client import AsyncClient


async def main() -> None:
    """Keep 128 requests under way; the client waits with the rest."""
    keyring_label, count = sys.argv[1], int(sys.argv[2])
    async with (
        AsyncClient.from_environment() as client,
        client.keyring(keyring_label, os.environ["PIN"]) as keyring,
    ):
        pair = await keyring.generate_key_pair("Ed25519", token=False)
        texts = [f"order {number}".encode() for number in range(count)]
        begun = time.perf_counter()
        signatures = await asyncio.gather(*(pair.private.sign(text) for text in texts))
        seconds = time.perf_counter() - begun
        await pair.public.verify(signatures[-1], texts[-1])
    print(f"{len(set(signatures))} signatures in {seconds:.2f} s")


asyncio.run(main())
