"""Writes of token objects: idempotency, revisions, limits, all or nothing."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
from collections.abc import Awaitable, Iterator
from pathlib import Path
from uuid import UUID

import pytest

from conclave import faults
from conclave.errors import ConclaveError, Conflict, Fault, LimitReached, Unavailable
from conclave.ids import ClientId, KeyringId, ObjectId
from conclave.service.client_messages import (
    AssignKeyrings,
    AssignmentMode,
    NamedClient,
    TakeKeyring,
)
from conclave.service.messages import LookupWrite, NamedKeyring, ObjectDelete, WriteResult
from conclave.service.wire import Role
from conclave.settings import Limits
from conclave.store.repository import open_reader
from tests.support.cluster_bench import (
    PASSWORD,
    ClusterBench,
    cluster_bench,
    gathered,
    held_store,
    new_object,
)

pytestmark = pytest.mark.system
ID = b"the same attempt"


def ids(bench: ClusterBench, keyring: bytes) -> dict[ObjectId, int]:
    reader = open_reader(bench.database)
    try:
        return dict(reader.object_revisions(KeyringId(keyring)))
    finally:
        reader.close()


def stored_bytes(directory: Path) -> bytes:
    return b"".join(path.read_bytes() for path in directory.glob("cluster.db*"))


async def lookup(bench: ClusterBench, key: bytes, mac: bytes = b"mac") -> WriteResult:
    params = LookupWrite(client_id=bench.client_id, idempotency_key=key, request_mac=mac)
    result: WriteResult = await bench.worker.call("lookup_write", params)
    return result


def test_rule_c21_a_repeated_write_is_carried_out_once(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with cluster_bench(tmp_path) as bench:
            keyring, ticket = await bench.ready_keyring()
            key, write = os.urandom(16), new_object()
            assert not (await lookup(bench, key)).repeated
            first = await bench.write(keyring, ticket, writes=[write], key=key)
            assert not first.repeated
            for repeat in (
                bench.write(keyring, ticket, writes=[write], key=key),
                lookup(bench, key),
            ):
                generation = bench.page.keyring_generation(KeyringId(keyring))
                again = await repeat
                assert again == WriteResult(
                    repeated=True, result=b"result", revision=first.revision
                )
                assert bench.page.keyring_generation(KeyringId(keyring)) > generation
            assert len(ids(bench, keyring)) == 1
            await bench.write(
                keyring, ticket, deletes=[ObjectDelete(write.object_id, first.revision)]
            )
            again = await bench.write(keyring, ticket, writes=[write], key=key)
            assert again.repeated
            assert ids(bench, keyring) == {}

    asyncio.run(scenario())


def test_rule_c21_another_body_under_the_same_key_is_refused(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with cluster_bench(tmp_path) as bench:
            keyring, ticket = await bench.ready_keyring()
            key = os.urandom(16)
            await bench.write(keyring, ticket, writes=[new_object()], key=key)
            for call in (
                bench.write(keyring, ticket, writes=[new_object()], key=key, mac=b"other"),
                lookup(bench, key, b"other"),
            ):
                with pytest.raises(Conflict) as error:
                    await call
                assert error.value.fault is faults.IDEMPOTENCY_MISMATCH

    asyncio.run(scenario())


def test_the_store_keeps_no_idempotency_key(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with cluster_bench(tmp_path) as bench:
            keyring, ticket = await bench.ready_keyring()
            key = os.urandom(16)
            await bench.write(keyring, ticket, writes=[new_object()], key=key)
            stored = await asyncio.to_thread(stored_bytes, tmp_path)
            assert bytes(bench.client_id) in stored
            assert key not in stored

    asyncio.run(scenario())


def test_rule_c20_a_write_on_an_older_revision_is_refused_as_a_whole(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with cluster_bench(tmp_path) as bench:
            keyring, ticket = await bench.ready_keyring()
            write = new_object()
            first = await bench.write(keyring, ticket, writes=[write])
            changed = new_object(write.object_id, version=2, expected_revision=first.revision)
            second = await bench.write(keyring, ticket, writes=[changed])
            assert second.revision > first.revision
            stale_calls = (
                {"writes": [new_object(), changed]},
                {"deletes": [ObjectDelete(write.object_id, first.revision)]},
                {"writes": [new_object(write.object_id)]},
            )
            for stale in stale_calls:
                with pytest.raises(Conflict) as error:
                    await bench.write(keyring, ticket, **stale)
                assert error.value.fault is faults.WRITE_CONFLICT
            assert ids(bench, keyring) == {write.object_id: second.revision}

    asyncio.run(scenario())


async def refused(write: Awaitable[WriteResult], fault: Fault) -> None:
    with pytest.raises(ConclaveError) as caught:
        await write
    assert caught.value.fault is fault


def test_rule_c20_a_right_that_is_taken_after_a_write_is_missing_at_the_next(
    tmp_path: Path,
) -> None:
    async def scenario() -> None:
        async with cluster_bench(tmp_path) as bench:
            client = (await bench.register()).client.client_id
            bench.client_id = ClientId(UUID(client).bytes)
            keyring, ticket = await bench.ready_keyring()
            other, ticket_of_other = await bench.ready_keyring("other")
            change = bench.daemon.call
            ring = str(UUID(bytes=other))

            await bench.write(other, ticket_of_other, writes=[new_object()])
            await change("set_assignment_mode", AssignmentMode(assigned=True))
            write = bench.write(other, ticket_of_other, writes=[new_object()])
            await refused(write, faults.KEYRING_NOT_FOUND)
            await change("assign_keyrings", AssignKeyrings(client_id=client, keyrings=[ring]))
            await bench.write(other, ticket_of_other, writes=[new_object()])
            await change("take_keyring", TakeKeyring(client_id=client, keyring=ring))
            write = bench.write(other, ticket_of_other, writes=[new_object()])
            await refused(write, faults.KEYRING_NOT_FOUND)
            await change("set_assignment_mode", AssignmentMode(assigned=False))

            await bench.write(other, ticket_of_other, writes=[new_object()])
            await change("delete_keyring", NamedKeyring(name=ring))
            write = bench.write(other, ticket_of_other, writes=[new_object()])
            await refused(write, faults.KEYRING_NOT_FOUND)

            await bench.write(keyring, ticket, writes=[new_object()])
            await change("revoke_client", NamedClient(client_id=client))
            write = bench.write(keyring, ticket, writes=[new_object()])
            await refused(write, faults.CLIENT_NOT_FOUND)
            assert len(ids(bench, keyring)) == 1

    asyncio.run(scenario())


def test_writers_of_one_object_at_once_take_turns(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with cluster_bench(tmp_path) as bench:
            keyring, ticket = await bench.ready_keyring()
            write = new_object()
            first = await bench.write(keyring, ticket, writes=[write])
            changed = new_object(write.object_id, version=2, expected_revision=first.revision)
            answers = await gathered(
                *(bench.write(keyring, ticket, writes=[changed]) for _ in range(10))
            )
            assert sum(isinstance(answer, WriteResult) for answer in answers) == 1

    asyncio.run(scenario())


@pytest.mark.parametrize("limit", [3, 0])
def test_rule_k4_the_number_of_objects_is_limited_by_a_setting(tmp_path: Path, limit: int) -> None:
    async def scenario() -> None:
        async with cluster_bench(tmp_path, limits=Limits(max_objects=limit)) as bench:
            keyring, ticket = await bench.ready_keyring()
            answers = await gathered(
                *(bench.write(keyring, ticket, writes=[new_object()]) for _ in range(5))
            )
            refused = [answer for answer in answers if isinstance(answer, LimitReached)]
            assert len(refused) == (2 if limit else 0)
            assert len(ids(bench, keyring)) == (limit or 5)

    asyncio.run(scenario())


def test_the_krso_writes_no_private_objects(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with cluster_bench(tmp_path) as bench:
            keyring, ticket = await bench.ready_keyring()
            krso = await bench.login(keyring, PASSWORD, Role.KRSO)
            private = new_object()
            made = await bench.write(keyring, ticket, writes=[private])
            await bench.write(keyring, krso, writes=[new_object(private=False)])
            with pytest.raises(ConclaveError) as error:
                await bench.write(keyring, krso, writes=[new_object()])
            assert error.value.fault is faults.NOT_LOGGED_IN
            with pytest.raises(ConclaveError):
                await bench.write(
                    keyring, krso, deletes=[ObjectDelete(private.object_id, made.revision)]
                )

    asyncio.run(scenario())


def test_a_store_that_somebody_else_holds_refuses_and_goes_on_afterwards(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with cluster_bench(tmp_path) as bench:
            keyring, ticket = await bench.ready_keyring()
            async with held_store(bench):
                with pytest.raises(Unavailable) as error:
                    await bench.write(keyring, ticket, writes=[new_object()])
                assert error.value.fault is faults.BUSY
            await bench.write(keyring, ticket, writes=[new_object()])
            assert len(ids(bench, keyring)) == 1

    asyncio.run(scenario())


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Yield a directory on a disk of 3 MiB."""
    directory = tmp_path / "disk"
    directory.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=3m,mode=0700", "tmpfs", str(directory)]
    if subprocess.run(mount, check=False, capture_output=True).returncode != 0:
        pytest.skip("mounting a small disk needs root")
    yield directory
    subprocess.run(["umount", str(directory)], check=True)


def fill(path: Path) -> None:
    """Leave no room beside a file."""
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(4096)):
            pass


def test_a_full_disk_loses_nothing_and_gives_no_free_guesses(small_disk: Path) -> None:
    async def scenario() -> None:
        async with cluster_bench(small_disk, limits=Limits(max_objects=0)) as bench:
            keyring, ticket = await bench.ready_keyring()
            acknowledged: set[bytes] = set()
            for _ in range(100):
                write = new_object(blob=os.urandom(50_000))
                try:
                    await bench.write(keyring, ticket, writes=[write])
                except Unavailable as error:
                    assert error.fault is faults.STORAGE_FULL
                    break
                acknowledged.add(write.object_id)
            assert acknowledged == set(ids(bench, keyring))
            # What is too small for an object may be enough for a failed login.
            fill(small_disk / "rest")
            answers = [await gathered(bench.login(keyring, b"wrong-password")) for _ in range(12)]
            seen = [answer[0].fault for answer in answers]
            # The log of the store may have room for some of them; each counts, here or there.
            stored = bench.row(keyring).krso.failures
            assert stored < 10
            unstored = [faults.STORAGE_FULL] * (10 - stored)
            assert seen == [faults.PIN_INCORRECT] * stored + unstored + [faults.BUSY] * 2
            bench.kill("cluster")
            # Its log fills the disk until it has been copied into the store, beside it.
            remount = ["mount", "-o", "remount,size=12m", str(small_disk)]
            await asyncio.to_thread(subprocess.run, remount, check=True)
            bench.start_cluster(with_smk=True)
            await bench.ready()
            assert acknowledged == set(ids(bench, keyring))
            await bench.login(keyring, PASSWORD)

    asyncio.run(scenario())


def test_failures_are_written_once_the_disk_has_room_again(small_disk: Path) -> None:
    """Else a right password would go on being BUSY, in a keyring that is not even locked."""

    async def scenario() -> None:
        async with cluster_bench(small_disk) as bench:
            keyring, _ = await bench.ready_keyring()
            filler = small_disk / "filler"
            for wrong, fault in ((9, None), (10, faults.PIN_LOCKED)):
                fill(filler)
                for _ in range(wrong):
                    with pytest.raises(Unavailable) as full:
                        await bench.login(keyring, b"wrong-password")
                    assert full.value.fault is faults.STORAGE_FULL
                filler.unlink()
                if fault is None:
                    await bench.login(keyring, PASSWORD)
                    await gathered(*(bench.login(keyring, PASSWORD) for _ in range(4)))
                    assert bench.row(keyring).krso.failures == 0
                else:
                    with pytest.raises(ConclaveError) as refusal:
                        await bench.login(keyring, PASSWORD)
                    assert refusal.value.fault is fault
                    assert bench.row(keyring).krso.failures == 10

    asyncio.run(scenario())


def test_a_full_disk_checks_one_guess_for_one_attempt_id(small_disk: Path) -> None:
    """Many guesses under one id would be counted as one once the disk has room."""

    async def scenario() -> None:
        async with cluster_bench(small_disk) as bench:
            keyring, _ = await bench.ready_keyring()
            fill(small_disk / "filler")
            guesses = [b"wrong-password-%d" % number for number in range(3)]
            seen = [await gathered(bench.login(keyring, guess, attempt=ID)) for guess in guesses]
            faults_seen = [answer[0].fault for answer in seen]
            assert faults_seen == [faults.STORAGE_FULL, faults.BUSY, faults.BUSY]
            (small_disk / "filler").unlink()
            with pytest.raises(ConclaveError) as refusal:
                await bench.login(keyring, PASSWORD, attempt=ID)
            assert refusal.value.fault is faults.PIN_INCORRECT
            assert bench.row(keyring).krso.failures == 1

    asyncio.run(scenario())


def test_acknowledged_objects_survive_kill_9(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with cluster_bench(tmp_path) as bench:
            keyring, ticket = await bench.ready_keyring()
            acknowledged: set[bytes] = set()
            for _ in range(5):
                writers = [
                    asyncio.create_task(_write_until_broken(bench, keyring, ticket, acknowledged))
                    for _ in range(4)
                ]
                target = len(acknowledged) + 20
                async with asyncio.timeout(60):
                    while len(acknowledged) < target:  # noqa: ASYNC110
                        await asyncio.sleep(0.001)
                bench.kill("cluster")
                await asyncio.gather(*writers)
                bench.start_cluster(with_smk=True)
                await bench.ready()
            assert acknowledged <= set(ids(bench, keyring))
            assert len(acknowledged) >= 100

    asyncio.run(scenario())


async def _write_until_broken(
    bench: ClusterBench, keyring: bytes, ticket: bytes, acknowledged: set[bytes]
) -> None:
    while True:
        write = new_object()
        try:
            await bench.write(keyring, ticket, writes=[write])
        except Unavailable as error:
            assert error.fault in (faults.OUTCOME_UNKNOWN, faults.BUSY)
            return
        except LimitReached:
            return
        acknowledged.add(write.object_id)
