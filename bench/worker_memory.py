"""Memory of a worker that reads every object of a full cluster: `python -m bench.worker_memory`.

The store is filled directly with 3500 keyrings of 256 public objects of about 1 kB, 896,000 in
all, which a worker opens without a login.  Then one connection has each keyring searched, so that
each is read, decrypted and kept until the bound drops it.  Memory is the worker's proportional set
size.  What is found is counted, and one object of each keyring is found by its label.

    python -m bench.worker_memory [KEYRINGS [OBJECTS [CACHE_MIB]]]
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from pathlib import Path

from sqlalchemy import insert, update

from bench.full_size import FIRST_REVISION, KEYRINGS, OBJECTS, keyring
from bench.process_memory import tree_pss_mb
from conclave.cluster.master_keys import derive_master_keys
from conclave.crypto.standard import Cka, Cko
from conclave.ids import KeyGeneration, KeyringId, ObjectId, RowRevision
from conclave.keyring.attributes import encode_attributes
from conclave.keyring.templates import build_object
from conclave.service import wire
from conclave.service.object_seal import ObjectName, PublicSeal
from conclave.service.wire import Operation
from conclave.store import mapping, schema
from conclave.store.engine import open_writer_engine
from conclave.store.rows import ObjectRow
from tests.support.worker_bench import WireClient, WorkerBench, worker_bench

CACHE_MIB = 64
"""The default of the setting `cache_mib`."""
VALUE_BYTES = 700
LOOK_EVERY = 250


def public_object(
    seal: PublicSeal, keyring_id: KeyringId, label: bytes, revision: int
) -> ObjectRow:
    """Return a data object that anybody may read, as a worker would have sealed it."""
    object_id = ObjectId(os.urandom(16))
    template = [
        (int(Cka.CLASS), int(Cko.DATA).to_bytes(8, "little")),
        (int(Cka.TOKEN), b"\1"),
        (int(Cka.PRIVATE), b"\0"),
        (int(Cka.LABEL), label),
        (int(Cka.VALUE), os.urandom(VALUE_BYTES)),
    ]
    plain = encode_attributes(build_object(template))
    return ObjectRow(
        keyring_id=keyring_id,
        object_id=object_id,
        private=False,
        version=1,
        key_generation=KeyGeneration(1),
        revision=RowRevision(revision),
        blob=seal.seal(ObjectName(keyring_id, object_id, 1), plain),
        mac=os.urandom(32),
    )


def fill(bench: WorkerBench, keyrings: int, objects: int) -> list[KeyringId]:
    """Fill the member's store; return the ids of the keyrings."""
    seal = PublicSeal.of(derive_master_keys(bench.smk).public)
    engine = open_writer_engine(bench.database)
    revision = FIRST_REVISION + keyrings
    ids = []
    for number in range(keyrings):
        row = keyring(number)
        ids.append(row.keyring_id)
        rows = [
            public_object(seal, row.keyring_id, f"object{each}".encode(), revision + each)
            for each in range(objects)
        ]
        revision += objects
        with engine.begin() as connection:
            connection.execute(insert(schema.keyrings), mapping.keyring_values(row))
            connection.execute(insert(schema.objects), [mapping.object_values(r) for r in rows])
            counters = schema.counters
            newest = update(counters).where(counters.c.name == schema.REVISION_COUNTER)
            connection.execute(newest.values(value=revision))
        if number % LOOK_EVERY == 0:
            print(f"{number} of {keyrings} keyrings filled", flush=True)
    engine.dispose()
    return ids


async def read_all(client: WireClient, keyring_id: KeyringId, objects: int) -> None:
    """Have a keyring's objects found, and one of them read back by its label."""
    everything = wire.Find(keyring_id, [], objects + 1)
    found = await client.ok(Operation.FIND, everything)
    assert len(found) == objects, len(found)
    last = (int(Cka.LABEL), f"object{objects - 1}".encode())
    found = await client.ok(Operation.FIND, wire.Find(keyring_id, [last], 2))
    assert len(found) == 1, found


async def run(keyrings: int, objects: int, cache_mib: int) -> None:
    """Fill, read everything, and print the worker's memory on the way."""
    with tempfile.TemporaryDirectory(prefix="conclave-memory-") as name:
        async with worker_bench(Path(name), cache_mib=cache_mib) as bench:
            client = await bench.connect(await bench.identity())
            ids = await asyncio.to_thread(fill, bench, keyrings, objects)
            pid = bench.processes["worker-0"].pid
            first = most = tree_pss_mb(pid)[pid]
            print(f"before: {first:.0f} MB", flush=True)
            for number, keyring_id in enumerate(ids, 1):
                await read_all(client, keyring_id, objects)
                if number % LOOK_EVERY == 0 or number == keyrings:
                    now = tree_pss_mb(pid)[pid]
                    most = max(most, now)
                    print(f"{number * objects} objects read: {now:.0f} MB", flush=True)
            print(f"the most: {most - first:.0f} MB more; cache_mib is {cache_mib}")


if __name__ == "__main__":
    defaults = [KEYRINGS, OBJECTS, CACHE_MIB]
    given = [int(argument) for argument in sys.argv[1:]]
    asyncio.run(run(*given, *defaults[len(given) :]))
