#!/usr/bin/env python
"""Measure what one request costs a worker, without network and TLS: microseconds per request.

    .venv/bin/python tools/measure_worker.py [--profile NAME]

Batches of 1 and of 16 frames that arrive together; the best of several rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import os
import pstats
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec
import uvloop

sys.path.insert(0, str(Path(__file__).parent.parent))

from conclave.crypto.standard import Ckm
from conclave.service import connection as connection_module
from conclave.service.connection import Connection
from conclave.service.frames import frame
from conclave.service.wire import GcmParameter, Operation
from tests.service.conftest import Tenant, make_tenant
from tests.support.frame_fuzzer import local_connection, local_worker
from tests.support.worker_bench import worker_bench

ROUNDS = 12
REQUESTS = 1000

Case = tuple[Operation, list[Any]]


async def _cases(tenant: Tenant) -> dict[str, Case]:
    _, private = await tenant.ec_key()
    aes = await tenant.aes_key()
    ring, digest = tenant.keyring, os.urandom(32)
    gcm = GcmParameter(os.urandom(12), b"", 128)
    return {
        "echo": (Operation.PING, []),
        "p256": (Operation.SIGN, [ring, private, int(Ckm.ECDSA), None, digest]),
        "gcm-1k": (Operation.ENCRYPT, [ring, aes, int(Ckm.AES_GCM), gcm, os.urandom(1024)]),
        "find": (Operation.FIND, [ring, [[3, b"ec"]], 10]),
    }


def _frames(case: Case, ticket: bytes | None, count: int) -> bytes:
    operation, args = case
    bodies = ([number, int(operation), ticket, args] for number in range(1, count + 1))
    return b"".join(frame(msgspec.msgpack.encode(body)) for body in bodies)


def _best_us(connection: Connection, data: bytes, batch: int) -> float:
    best = float("inf")
    for _ in range(ROUNDS):
        started = time.perf_counter()
        for _ in range(REQUESTS // batch):
            connection.data_received(data)
        spent = time.perf_counter() - started
        best = min(best, spent / (REQUESTS // batch * batch))
    return best * 1e6


def _profile(connection: Connection, data: bytes) -> None:
    with cProfile.Profile() as profile:
        for _ in range(REQUESTS):
            connection.data_received(data)
    pstats.Stats(profile).sort_stats("tottime").print_stats(20)


async def _measure(profiled: str | None) -> None:
    # A turn is bounded by time in service; here it must hold whole batches.
    connection_module.TURN_SECONDS = 10.0  # type: ignore[misc]
    with tempfile.TemporaryDirectory() as directory:
        async with worker_bench(Path(directory)) as bench:
            tenant = await make_tenant(bench)
            cases = await _cases(tenant)
            worker = local_worker(bench)
            await worker.core.refresh_keys()
            connection = local_connection(worker, tenant)
            for name, case in cases.items():
                for batch in (1, 16):
                    data = _frames(case, tenant.client.ticket, batch)
                    connection.data_received(data)
                    await asyncio.sleep(0.3)  # the first one reads the store
                    spent = _best_us(connection, data, batch)
                    sys.stdout.write(f"{name:8} batch {batch:2}  {spent:7.2f} us\n")
                if name == profiled:
                    _profile(connection, data)
            await worker.core.close()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--profile", choices=["echo", "p256", "gcm-1k", "find"])
    uvloop.run(_measure(parser.parse_args().profile))


if __name__ == "__main__":
    main()
