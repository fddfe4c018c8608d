"""The cluster process by itself: creation, authorization, restarts."""

from __future__ import annotations

import asyncio
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from conclave import faults
from conclave.errors import ConclaveError, Conflict, NotAllowed, NotFound
from conclave.service.messages import (
    ClusterList,
    MemberList,
    Notice,
    ServiceStatus,
    UserRecord,
    UserRecords,
    UsersVersion,
    Watch,
    WorkerKeys,
)
from conclave.service.quiet import Nothing
from conclave.service.wire import Role
from tests.support.cluster_bench import (
    FIRST,
    PASSWORD,
    ClusterBench,
    cluster_bench,
    new_object,
)

pytestmark = pytest.mark.system


def test_a_cluster_is_created_once(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with cluster_bench(tmp_path, authorized=False) as bench:
            empty: ClusterList = await bench.daemon.call("list_clusters", Nothing())
            assert empty.clusters == []
            with pytest.raises(NotFound):
                await bench.authorize()
            await bench.create()
            with pytest.raises(Conflict) as refused:
                await bench.create()
            assert refused.value.fault is faults.CLUSTER_EXISTS
            listed: ClusterList = await bench.daemon.call("list_clusters", Nothing())
            assert [item.label for item in listed.clusters] == ["lab"]
            members: MemberList = await bench.daemon.call("list_members", Nothing())
            assert [(item.primary, item.authorized) for item in members.members] == [(True, False)]
            assert bench.page.epoch() == (1, bench.member_id)

    asyncio.run(scenario())


def test_a_stop_answers_who_waits_for_news_instead_of_waiting_for_them(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with cluster_bench(tmp_path) as bench:
            newest: Notice = await bench.daemon.call("watch", Watch(seen=0, seconds=1))
            waiting = Watch(seen=newest.number, seconds=50)
            watching = asyncio.create_task(bench.daemon.call("watch", waiting, timeout_seconds=50))
            status: ServiceStatus = await bench.daemon.call("status", Nothing())
            assert status.ready
            bench.processes["cluster"].terminate()
            assert await watching == newest

    asyncio.run(scenario())


def test_nothing_that_needs_a_key_works_before_the_authorization(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with cluster_bench(tmp_path, authorized=False) as bench:
            await bench.create()
            keys: WorkerKeys = await bench.worker.call("worker_keys", Nothing())
            assert not keys.authorized
            assert keys.ticket_keys == []
            assert not bench.page.authorized()
            for call in (bench.make_keyrings("a"), bench.register()):
                with pytest.raises(NotAllowed) as refused:
                    await call
                assert refused.value.fault is faults.MEMBER_NOT_AUTHORIZED

    asyncio.run(scenario())


def test_the_first_authorization_makes_keys_and_later_ones_find_them(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with cluster_bench(tmp_path) as bench:
            first = await bench.authorize()
            again = await bench.authorize()
            assert first == again
            assert bench.page.authorized()
            keys: WorkerKeys = await bench.worker.call("worker_keys", Nothing())
            assert keys.authorized
            assert len(keys.ticket_keys) == 1
            with pytest.raises(NotAllowed) as refused:
                await bench.authorize(os.urandom(32))
            assert refused.value.fault is faults.WRONG_MASTER_KEY
            certificate = x509.load_pem_x509_certificate(first.member_certificate_pem.encode())
            authority = x509.load_pem_x509_certificate(first.ca_certificate_pem.encode())
            certificate.verify_directly_issued_by(authority)
            (name,) = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
            assert name.value == "lnh.test"

    asyncio.run(scenario())


def test_certificates_are_back_dated_one_hour_and_the_ca_lives_ten_years(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with cluster_bench(tmp_path) as bench:
            result = await bench.authorize()
            now = datetime.now(UTC)
            authority = x509.load_pem_x509_certificate(result.ca_certificate_pem.encode())
            member = x509.load_pem_x509_certificate(result.member_certificate_pem.encode())
            for certificate in (authority, member):
                age = now - certificate.not_valid_before_utc
                assert timedelta(hours=1) <= age < timedelta(hours=1, minutes=5)
            assert authority.not_valid_after_utc - now > timedelta(days=3650)

    asyncio.run(scenario())


def test_rule_t2_a_clock_outside_the_certificates_refuses_the_start(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with cluster_bench(tmp_path) as bench:
            bench.kill("cluster")
            bench.clock_offset_ms = -90_000_000
            bench.start_cluster()
            status = await asyncio.to_thread(bench.processes["cluster"].wait, 20)
            assert status == 78
            assert "begins" in (tmp_path / "cluster.log").read_text()

    asyncio.run(scenario())


def damage(database: Path) -> None:
    for path in database.parent.glob("cluster.db*"):
        path.unlink()
    database.write_bytes(b"no database" * 1000)


def test_a_store_that_cannot_be_opened_is_said_in_the_log(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with cluster_bench(tmp_path, authorized=False) as bench:
            bench.kill("cluster")
            damage(bench.database)
            bench.start_cluster()
            status = await asyncio.to_thread(bench.processes["cluster"].wait, 20)
            assert status == 74
            (line,) = (tmp_path / "cluster.log").read_text().splitlines()[-1:]
            assert "cannot open its store: file is not a database." in line

    asyncio.run(scenario())


def test_rule_s4_a_crash_is_not_a_stop_and_voids_all_caches(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with cluster_bench(tmp_path) as bench:
            keyring, ticket = await bench.ready_keyring()
            written = await bench.write(keyring, ticket, writes=[new_object()])
            before = bench.page.global_generation()
            bench.kill("cluster")
            bench.start_cluster(with_smk=True)
            await bench.ready()
            assert bench.page.global_generation() > before
            assert bench.page.authorized()
            assert bench.page.log_position() >= written.revision
            assert (await bench.show("ring")).object_count == 1
            await bench.login(keyring, PASSWORD)
            await bench.write(keyring, ticket, writes=[new_object()])

    asyncio.run(scenario())


def test_a_start_without_the_smk_is_not_authorized(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with cluster_bench(tmp_path) as bench:
            bench.kill("cluster")
            bench.start_cluster()
            await bench.ready()
            assert not bench.page.authorized()
            status: ServiceStatus = await bench.daemon.call("status", Nothing())
            assert not status.authorized
            await bench.authorize()
            assert bench.page.authorized()

    asyncio.run(scenario())


def test_a_dead_login_process_is_answered_busy_and_counts_for_nobody(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with cluster_bench(tmp_path) as bench:
            (summary,) = await bench.make_keyrings("ring")
            bench.kill("login")
            keyring = bytes.fromhex(summary.keyring_id.replace("-", ""))
            attempt = asyncio.create_task(bench.login(keyring, FIRST, Role.KRSO))
            bench.start_login()
            assert await attempt
            assert (await bench.show("ring")).failed_attempts == 0

    asyncio.run(scenario())


def test_the_end_of_standard_input_ends_both_processes(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with cluster_bench(tmp_path, authorized=False) as bench:
            await _end_by_closing(bench, "cluster")
            await _end_by_closing(bench, "login")

    asyncio.run(scenario())


async def _end_by_closing(bench: ClusterBench, name: str) -> None:
    process = bench.processes[name]
    assert process.stdin is not None
    process.stdin.close()
    await asyncio.to_thread(process.wait, 10)


def listing(names: list[str], version: int) -> UserRecords:
    users = [UserRecord(name, "admin", "", "", b"v", True, 1) for name in names]
    return UserRecords(users=users, version=version)


def test_a_list_of_users_replaces_the_one_it_was_made_from_and_no_other(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with cluster_bench(tmp_path, authorized=False) as bench:
            for version, names in enumerate((["admin", "eve"], ["admin"])):
                put: UsersVersion = await bench.daemon.call("put_users", listing(names, version))
                assert put.version == version + 1
            with pytest.raises(ConclaveError) as refusal:
                await bench.daemon.call("put_users", listing(["eve"], 1))
            assert refusal.value.fault is faults.WRITE_CONFLICT
            listed: UserRecords = await bench.daemon.call("list_users", Nothing())
            assert listed.version == 2
            assert [user.user_id for user in listed.users] == ["admin"]

    asyncio.run(scenario())
