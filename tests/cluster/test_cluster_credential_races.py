"""A password that is replaced while it is being checked: whoever brought the old one gets nothing.

The login process is stopped in the middle of an attempt, and the row is exchanged under it.
"""

from __future__ import annotations

import asyncio
import os
import signal
import uuid
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import pytest
from sqlalchemy import delete, insert, select, update

from conclave import faults
from conclave.clock import boot_time_ms
from conclave.errors import ConclaveError, CredentialRefused
from conclave.service.client_messages import NamedClient
from conclave.service.quiet import Nothing
from conclave.service.wire import Role
from conclave.store import mapping, schema
from conclave.store.engine import open_writer_engine
from conclave.store.rows import KeyringRow
from tests.support.cluster_bench import (
    FIRST,
    PASSWORD,
    ClusterBench,
    cluster_bench,
    id_of,
    with_failures,
)

pytestmark = pytest.mark.system

T = TypeVar("T")


def put_row(bench: ClusterBench, row: KeyringRow) -> None:
    """Store a row as it is, as a restore or a change by another hand would."""
    engine = open_writer_engine(bench.database)
    table = schema.keyrings
    with engine.begin() as connection:
        statement = update(table).where(table.c.keyring_id == row.keyring_id)
        connection.execute(statement.values(mapping.keyring_values(row)))
    engine.dispose()


def take_records(bench: ClusterBench) -> list[dict[str, object]]:
    """Take every record of an idempotency key out of the store."""
    engine = open_writer_engine(bench.database)
    with engine.begin() as connection:
        rows = [dict(row) for row in connection.execute(select(schema.idempotency)).mappings()]
        connection.execute(delete(schema.idempotency))
    engine.dispose()
    return rows


def put_records(bench: ClusterBench, rows: list[dict[str, object]]) -> None:
    """Put records into the store."""
    engine = open_writer_engine(bench.database)
    with engine.begin() as connection:
        connection.execute(insert(schema.idempotency), rows)
    engine.dispose()


@asynccontextmanager
async def being_checked(bench: ClusterBench, attempt: Awaitable[T]) -> AsyncIterator[Awaitable[T]]:
    """Hold an attempt in the login process, its row read, while the body runs."""
    login = bench.processes["login"]
    login.send_signal(signal.SIGSTOP)
    try:
        task = asyncio.ensure_future(attempt)
        await asyncio.sleep(0)
        for _ in range(4):
            # Each goes through the thread that reads the store, behind the attempt's own reads.
            await bench.worker.call("worker_keys", Nothing())
            await bench.daemon.call("status", Nothing())
        yield task
    finally:
        login.send_signal(signal.SIGCONT)


def test_an_old_password_being_checked_gives_no_ticket_after_the_change(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with cluster_bench(tmp_path) as bench:
            keyring, _ = await bench.ready_keyring()
            before = with_failures(bench.row(keyring), 1)
            await bench.change(keyring, PASSWORD, b"another-password")
            after = bench.row(keyring)
            put_row(bench, before)
            async with being_checked(bench, bench.login(keyring, PASSWORD)) as attempt:
                put_row(bench, after)
            with pytest.raises(CredentialRefused) as refusal:
                await attempt
            assert refusal.value.fault is faults.PIN_INCORRECT
            assert bench.row(keyring) == after

    asyncio.run(scenario())


def test_a_change_that_was_made_while_its_repetition_was_checked_is_not_refused(
    tmp_path: Path,
) -> None:
    async def scenario() -> None:
        async with cluster_bench(tmp_path) as bench:
            keyring, _ = await bench.ready_keyring()
            key, deadline_ms = os.urandom(16), bench.deadline()
            take_records(bench)

            def change() -> Awaitable[bytes]:
                new = b"another-password"
                return bench.change(keyring, PASSWORD, new, key=key, deadline_ms=deadline_ms)

            await change()
            after, records = bench.row(keyring), take_records(bench)
            # The first attempt commits after the repetition has looked for it.
            async with being_checked(bench, change()) as repetition:
                put_records(bench, records)
            assert await repetition == b""
            assert bench.row(keyring).authorization_version == after.authorization_version

    asyncio.run(scenario())


@pytest.mark.parametrize("first", [False, True], ids=["password", "first password"])
def test_an_old_password_being_checked_changes_nothing_after_the_change(
    tmp_path: Path, *, first: bool
) -> None:
    """The holder of the first password must not make a second key over the first one (C1)."""

    async def scenario() -> None:
        async with cluster_bench(tmp_path) as bench:
            if first:
                keyring, old = id_of((await bench.make_keyrings("ring"))[0]), FIRST
            else:
                keyring, old = (await bench.ready_keyring())[0], PASSWORD
            before = with_failures(bench.row(keyring), 1)
            await bench.change(keyring, old, b"another-password")
            after = bench.row(keyring)
            put_row(bench, before)
            change = bench.change(keyring, old, b"a-third-password", key=os.urandom(16))
            async with being_checked(bench, change) as attempt:
                put_row(bench, after)
            with pytest.raises(CredentialRefused) as refusal:
                await attempt
            assert refusal.value.fault is faults.PIN_INCORRECT
            assert bench.row(keyring) == after
            await bench.login(keyring, b"another-password", Role.KRSO)

    asyncio.run(scenario())


def test_c21_a_change_whose_deadline_passes_while_it_is_checked_is_dropped(tmp_path: Path) -> None:
    """The module has given up by then, and its user may have been told of a failure."""

    async def scenario() -> None:
        async with cluster_bench(tmp_path) as bench:
            keyring, _ = await bench.ready_keyring()
            before = bench.row(keyring)
            change = bench.change(keyring, PASSWORD, b"another-password")
            async with being_checked(bench, change) as attempt:
                offset_ms = bench.page.cluster_time_ms() - boot_time_ms()
                bench.page.set_cluster_time_offset(offset_ms + 60_000)
            with pytest.raises(ConclaveError) as refusal:
                await attempt
            assert refusal.value.fault is faults.DEADLINE_PASSED
            assert bench.row(keyring) == before
            await bench.login(keyring, PASSWORD)

    asyncio.run(scenario())


def test_c20_a_client_revoked_while_its_change_is_checked_changes_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with cluster_bench(tmp_path) as bench:
            keyring, _ = await bench.ready_keyring()
            before = bench.row(keyring)
            change = bench.change(keyring, PASSWORD, b"another-password")
            async with being_checked(bench, change) as attempt:
                name = str(uuid.UUID(bytes=bytes(bench.client_id)))
                await bench.daemon.call("revoke_client", NamedClient(client_id=name))
            with pytest.raises(ConclaveError) as refusal:
                await attempt
            assert refusal.value.fault is faults.CLIENT_NOT_FOUND
            assert bench.row(keyring) == before

    asyncio.run(scenario())
