"""A cluster of the full size, 3500 keyrings of 256 objects: `python -m bench.full_size`.

The store of a first member is filled directly, with objects of about 2 kB; then a second member
joins: that converts the store to PostgreSQL and copies it.  Promotion, a restart and the list of
keyrings follow, then pkcs11-tool's list of slots and a signature with it.  Times are wall clock,
first calls are those of `bench.slots`, medians of fresh processes,
memory is the proportional set size of a member's processes.  Nothing else should run meanwhile.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_der_public_key
from sqlalchemy import insert, update

from bench.process_memory import tree_pss_mb
from campaigns.cluster_applications import MODULE, write_client
from campaigns.cluster_house import HouseWithVolumes
from conclave.ids import (
    AuthorizationVersion,
    KeyGeneration,
    KeyringId,
    ObjectId,
    RowRevision,
    SlotNumber,
)
from conclave.service.messages import KeyringList, ListKeyrings, PromoteMember
from conclave.store import mapping, schema
from conclave.store.location import StoreLocation, open_writer_engine
from conclave.store.rows import CredentialRow, KeyringRow, KeyringState, ObjectRow
from tests.support.cluster_bench import PASSWORD, ClusterBench
from tests.support.several import ended

KEYRINGS = 3500
OBJECTS = 256
OBJECT_BYTES = 1900
FIRST_REVISION = 1000
"""Above those of the keyring that works."""
FRESH_PROCESSES = 5
TOKEN, KEY = "works", "signer"


@dataclass
class Times:
    """Measured steps, in seconds."""

    rows: list[tuple[str, float]] = field(default_factory=list)

    async def measure(self, what: str, work: Callable[[], Awaitable[object]]) -> object:
        """Carry out a step and note how long it took."""
        begin = time.monotonic()
        result = await work()
        self.rows.append((what, time.monotonic() - begin))
        print(f"{what}: {self.rows[-1][1]:.1f} s", flush=True)
        return result


def keyring(number: int) -> KeyringRow:
    """Return a keyring that nobody can open."""
    credential = CredentialRow(os.urandom(16), os.urandom(120), never_locks=False, failures=0)
    return KeyringRow(
        keyring_id=KeyringId(os.urandom(16)),
        label=f"full{number}",
        serial=f"{number:016d}",
        slot=SlotNumber(number),
        state=KeyringState.READY,
        key_generation=KeyGeneration(1),
        authorization_version=AuthorizationVersion(os.urandom(16)),
        check_value=os.urandom(60),
        krso=credential,
        krco=None,
        revision=RowRevision(FIRST_REVISION + number),
        created_ms=0,
    )


def fill(directory: Path, keyrings: int, objects: int) -> None:
    """Fill the SQLite store of a stopped member, which has one keyring that works."""
    engine = open_writer_engine(StoreLocation(directory))
    with engine.begin() as connection:
        revision = FIRST_REVISION + keyrings
        for number in range(1, keyrings):
            row = keyring(number)
            connection.execute(insert(schema.keyrings), mapping.keyring_values(row))
            rows = []
            for _ in range(objects):
                revision += 1
                rows.append(
                    mapping.object_values(
                        ObjectRow(
                            keyring_id=row.keyring_id,
                            object_id=ObjectId(os.urandom(16)),
                            private=True,
                            version=1,
                            key_generation=KeyGeneration(1),
                            revision=RowRevision(revision),
                            blob=os.urandom(OBJECT_BYTES),
                            mac=b"",
                        )
                    )
                )
            connection.execute(insert(schema.objects), rows)
        counters = schema.counters
        for name, value in ((schema.REVISION_COUNTER, revision), (schema.SLOT_COUNTER, keyrings)):
            connection.execute(update(counters).where(counters.c.name == name).values(value=value))
    engine.dispose()


def memory_mb(bench: ClusterBench) -> float:
    """Return the proportional set size of the member's cluster process and its PostgreSQL."""
    return sum(tree_pss_mb(bench.processes["cluster"].pid).values())


async def run(keyrings: int, objects: int) -> None:
    """Measure, and print a table at the end."""
    times = Times()
    with tempfile.TemporaryDirectory(prefix="conclave-full-") as name:
        async with ended(HouseWithVolumes(Path(name))) as house:
            await _measure(house, times, keyrings, objects)
    print(msgspec.json.encode(times.rows).decode())


async def _measure(house: HouseWithVolumes, times: Times, keyrings: int, objects: int) -> None:
    first = await house.first()
    identity = await house.serving[first.directory].identity()
    first.client_id = identity.client_id
    await first.ready_keyring(TOKEN)
    client = house.directory / "client"
    write_client(client, identity, first.address)
    first.kill("cluster")
    await times.measure(
        f"fill {keyrings} x {objects}",
        lambda: asyncio.to_thread(fill, first.directory, keyrings, objects),
    )
    first.start_cluster(with_smk=True)
    await first.ready()
    print(f"memory of one member on SQLite: {memory_mb(first):.0f} MB", flush=True)
    second = await house.alone()
    await times.measure("join, with conversion", lambda: house.join_with(second, first))
    await house.all_read_write()
    for bench in house.members:
        print(f"memory of a member on PostgreSQL: {memory_mb(bench):.0f} MB", flush=True)
    request = PromoteMember(member_id=second.member_id)
    await times.measure(
        "promote", lambda: first.daemon.call("promote", request, timeout_seconds=60)
    )
    await house.all_read_write()
    answer = await times.measure(
        "list of keyrings",
        lambda: first.daemon.call("list_keyrings", ListKeyrings(), timeout_seconds=60),
    )
    assert isinstance(answer, KeyringList)
    assert len(answer.keyrings) == keyrings
    second.kill("cluster")

    async def restart() -> None:
        second.start_cluster()
        await house.all_read_write()

    await times.measure("killed primary back, all Read-Write", restart)
    await _use(times, client, keyrings)


async def _use(times: Times, client: Path, keyrings: int) -> None:
    """List the slots and sign, each by a process of its own; verify with OpenSSL."""
    await _first_calls(times, client, keyrings)
    listed = await times.measure("pkcs11-tool lists the slots", lambda: tool(client, "-L"))
    assert str(listed).count("Slot ") == keyrings
    login = ("--token-label", TOKEN, "--login", "--pin", "env:TOKEN_PIN")
    pair = ("--keypairgen", "--key-type", "EC:prime256v1", "--label", KEY)
    await times.measure("pkcs11-tool makes a key pair", lambda: tool(client, *login, *pair))
    data, signature, public = (client / name for name in ("data", "signature", "public.der"))
    data.write_bytes(os.urandom(100))
    sign = (
        *("--sign", "--mechanism", "ECDSA-SHA256", "--signature-format", "openssl"),
        *("--label", KEY, "--input-file", str(data), "--output-file", str(signature)),
    )
    await times.measure("pkcs11-tool signs", lambda: tool(client, *login, *sign))
    read = ("--read-object", "--type", "pubkey", "--label", KEY, "--output-file", str(public))
    await tool(client, *login, *read)
    key = load_der_public_key(public.read_bytes())
    assert isinstance(key, ec.EllipticCurvePublicKey)
    key.verify(signature.read_bytes(), data.read_bytes(), ec.ECDSA(hashes.SHA256()))


async def _first_calls(times: Times, client: Path, keyrings: int) -> None:
    """Note the median times of a fresh process's first calls."""
    runs = [
        msgspec.json.decode(await said(client, sys.executable, "-m", "bench.slots", str(MODULE)))
        for _ in range(FRESH_PROCESSES)
    ]
    assert {run["slots"] for run in runs} == {keyrings}
    for call in runs[0]["ms"]:
        milliseconds = statistics.median(run["ms"][call] for run in runs)
        times.rows.append((call, milliseconds / 1000))
        print(f"{call}: {milliseconds:.1f} ms", flush=True)


async def tool(client: Path, *words: str) -> str:
    """Run pkcs11-tool and return what it prints."""
    return await said(client, "pkcs11-tool", "--module", str(MODULE), *words)


async def said(client: Path, *command: str) -> str:
    """Run a program that uses the module and return what it prints."""
    environment = {"ChrystokiConfigurationPath": str(client), "TOKEN_PIN": PASSWORD.decode()}
    process = await asyncio.create_subprocess_exec(
        *command,
        stdout=asyncio.subprocess.PIPE,
        env=os.environ | environment,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output
    return output.decode()


if __name__ == "__main__":
    sizes = [int(argument) for argument in sys.argv[1:]] or [KEYRINGS, OBJECTS]
    asyncio.run(run(*sizes))
