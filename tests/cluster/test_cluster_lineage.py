"""What tells one state of a keyring from another, and who gets which keys (rules C4 and C7)."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest

from conclave import faults
from conclave.cluster.master_keys import derive_master_keys
from conclave.errors import ConclaveError
from conclave.ids import KeyringId, ObjectId
from conclave.service.messages import Authorize, NamedKeyring, ObjectDelete, WorkerKeys
from conclave.service.quiet import Nothing
from conclave.service.wire import Role
from conclave.store.repository import open_reader
from conclave.store.rows import ObjectRow
from tests.support.cluster_bench import (
    FIRST,
    PASSWORD,
    WRONG,
    ClusterBench,
    cluster_bench,
    gathered,
    id_of,
    new_object,
)

pytestmark = pytest.mark.system
OTHER = b"another-password"


def stored(bench: ClusterBench, keyring: bytes, object_id: bytes) -> ObjectRow:
    reader = open_reader(bench.database)
    try:
        (row,) = reader.objects(KeyringId(keyring), [ObjectId(object_id)])
    finally:
        reader.close()
    return row


def test_c4_the_authorization_version_is_random_and_new_at_every_change(tmp_path: Path) -> None:
    """A counter would repeat after a restore, and tickets of another history would be good."""

    async def scenario() -> None:
        async with cluster_bench(tmp_path) as bench:
            first, second = [id_of(made) for made in await bench.make_keyrings("one", "two")]
            versions = [bench.row(keyring).authorization_version for keyring in (first, second)]
            for change in (
                lambda: bench.change(first, FIRST, PASSWORD),
                lambda: bench.change(first, PASSWORD, OTHER),
                lambda: bench.change(first, OTHER, PASSWORD),
                lambda: bench.initialize_token(first, PASSWORD, "one"),
            ):
                await change()
                versions.append(bench.row(first).authorization_version)
            ticket = await bench.login(first, PASSWORD, Role.KRSO)
            await bench.initialize_krco(first, ticket, PASSWORD)
            versions.append(bench.row(first).authorization_version)
            assert len(set(versions)) == len(versions)
            assert {len(version) for version in versions} == {16}
            assert not any(version.startswith(bytes(8)) for version in versions)

    asyncio.run(scenario())


def test_c4_failures_and_an_unlock_end_no_ticket(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with cluster_bench(tmp_path) as bench:
            keyring, ticket = await bench.ready_keyring()
            before = bench.row(keyring)
            await gathered(bench.login(keyring, WRONG))
            await bench.unlock("ring")
            after = bench.row(keyring)
            assert after.authorization_version == before.authorization_version
            assert after.key_generation == before.key_generation
            assert after.revision > before.revision
            await bench.write(keyring, ticket, writes=[new_object()])

    asyncio.run(scenario())


def test_c4_objects_carry_the_key_generation_and_a_revision_that_never_repeats(
    tmp_path: Path,
) -> None:
    """The blob's own version goes with its content; the revision of the row only ever grows."""

    async def scenario() -> None:
        async with cluster_bench(tmp_path) as bench:
            keyring, ticket = await bench.ready_keyring()
            write = new_object(version=7)
            made = await bench.write(keyring, ticket, writes=[write])
            row = stored(bench, keyring, write.object_id)
            assert (row.version, row.revision) == (7, made.revision)
            assert row.key_generation == bench.row(keyring).key_generation
            delete = ObjectDelete(write.object_id, made.revision)
            gone = await bench.write(keyring, ticket, deletes=[delete])
            again = await bench.write(keyring, ticket, writes=[write])
            assert made.revision < gone.revision < again.revision
            with pytest.raises(ConclaveError) as refusal:
                await bench.write(keyring, ticket, deletes=[delete])
            assert refusal.value.fault is faults.WRITE_CONFLICT

            generation = bench.row(keyring).key_generation
            await bench.initialize_token(keyring, PASSWORD, "ring")
            assert bench.row(keyring).key_generation == generation + 1
            with pytest.raises(ConclaveError) as refusal:
                await bench.write(keyring, ticket, writes=[write])
            assert refusal.value.fault is faults.NOT_LOGGED_IN

    asyncio.run(scenario())


def test_c7_a_worker_gets_derived_keys_only(tmp_path: Path) -> None:
    """Whoever takes over a worker has neither the SMK nor what wraps keyrings or signs members."""

    async def scenario() -> None:
        async with cluster_bench(tmp_path) as bench:
            given: WorkerKeys = await bench.worker.call("worker_keys", Nothing())
            master, keys = derive_master_keys(bench.smk), bench.cluster_keys()
            seen = msgspec.msgpack.encode(given)
            assert master.public in seen
            for secret in (bench.smk, master.outer, master.seal, keys.ca_key_pkcs8):
                assert secret not in seen

    asyncio.run(scenario())


def test_c7_a_worker_may_neither_authorize_nor_administer(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with cluster_bench(tmp_path) as bench:
            await bench.make_keyrings("ring")
            authorize = Authorize(smk=bench.smk, member_key_spki_der=bench.spki)
            for method, params in (
                ("authorize", authorize),
                ("list_users", Nothing()),
                ("unlock_keyring", NamedKeyring(name="ring")),
                ("delete_keyring", NamedKeyring(name="ring")),
            ):
                with pytest.raises(ConclaveError):
                    await bench.worker.call(method, params)
            assert (await bench.show("ring")).label == "ring"

    asyncio.run(scenario())
