"""The file of failures that a member counts without the primary, and their merge (rule C22)."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conclave import faults
from conclave.cluster.context import Context
from conclave.cluster.link.messages import LocalFailure, MergeFailures
from conclave.cluster.local_failures import (
    MAX_BATCH,
    FailureBook,
    FailureFile,
    credential_digest,
    local_state,
    merge_here,
)
from conclave.errors import InternalFault
from conclave.ids import (
    AuthorizationVersion,
    ClientId,
    ClusterTimeMs,
    KeyGeneration,
    KeyringId,
    RowRevision,
    SlotNumber,
)
from conclave.keyring.roles import Decision, Pace, admit
from conclave.service.wire import Role
from conclave.settings import Limits
from conclave.store.rows import CredentialRow, KeyringRow, KeyringState
from tests.support.store_bench import store_context

CREDENTIAL = CredentialRow(b"salt", b"sealed", never_locks=False, failures=0)
RING = KeyringId(b"r" * 16)
NOW = ClusterTimeMs(1_000_000_000)
LIMITS = Limits()


def failure(attempt: bytes = b"", credential: CredentialRow = CREDENTIAL) -> LocalFailure:
    return LocalFailure(
        client_id=b"c" * 16,
        attempt_id=attempt or os.urandom(16),
        keyring_id=RING,
        role=Role.KRSO,
        credential=credential_digest(credential),
    )


def ring(failures: int) -> KeyringRow:
    return KeyringRow(
        keyring_id=RING,
        label="ring",
        serial="1",
        slot=SlotNumber(-1),
        state=KeyringState.READY,
        key_generation=KeyGeneration(1),
        authorization_version=AuthorizationVersion(b"v" * 16),
        check_value=b"",
        krso=replace(CREDENTIAL, failures=failures),
        krco=None,
        revision=RowRevision(0),
        created_ms=0,
    )


@given(stored=st.integers(0, 10), members=st.integers(1, 5))
def test_c22_a_share_is_an_equal_part_of_what_was_left_and_one_at_least(
    stored: int, members: int
) -> None:
    credential = replace(CREDENTIAL, failures=stored)
    checked = 0
    while checked <= 10:
        state = local_state(credential, checked, members, LIMITS)
        if admit(state, Pace(), 10, 0, LIMITS)[1] is not Decision.CHECK:
            break
        checked += 1
    assert checked == (0 if stored == 10 else max(1, (10 - stored) // members))


def with_file(test: Callable[[FailureFile], Awaitable[None]]) -> Callable[[Path], None]:
    def run(tmp_path: Path) -> None:
        async def scenario() -> None:
            file = FailureFile(tmp_path / "failures.db")
            try:
                await test(file)
            finally:
                file.close()

        asyncio.run(scenario())

    run.__name__ = test.__name__
    return run


def counted(book: FailureBook) -> int:
    return book.count(RING, Role.KRSO, credential_digest(CREDENTIAL))


@with_file
async def test_c22_an_attempt_counts_once_and_is_known_after_a_good_login(
    file: FailureFile,
) -> None:
    wrong = failure()
    for _ in range(2):
        await file.run(lambda book: book.add(wrong, NOW))
    assert await file.run(counted) == 1
    await file.run(lambda book: book.reset(RING, Role.KRSO))
    assert await file.run(counted) == 0
    assert await file.run(lambda book: book.knows(ClientId(wrong.client_id), wrong.attempt_id))
    assert await file.run(lambda book: book.batch()) is None
    later = ClusterTimeMs(NOW + 3_600_001)
    await file.run(lambda book: book.add(failure(), later))
    assert not await file.run(lambda book: book.knows(ClientId(wrong.client_id), wrong.attempt_id))


@with_file
async def test_c22_a_batch_stays_the_same_until_the_primary_has_it(file: FailureFile) -> None:
    await file.run(lambda book: book.add(failure(), NOW))
    first = await file.run(lambda book: book.batch())
    await file.run(lambda book: book.add(failure(), NOW))
    assert first is not None
    assert await file.run(lambda book: book.batch()) == first
    await file.run(lambda book: book.forget(first.batch_id))
    second = await file.run(lambda book: book.batch())
    assert second is not None
    assert second.batch_id != first.batch_id
    assert [len(first.failures), len(second.failures)] == [1, 1]


@with_file
async def test_a_batch_is_bounded(file: FailureFile) -> None:
    def add(book: FailureBook) -> None:
        for _ in range(MAX_BATCH + 1):
            book.add(failure(), NOW)

    await file.run(add)

    def take(book: FailureBook) -> int:
        batch = book.batch()
        if batch is None:
            return 0
        book.forget(batch.batch_id)
        return len(batch.failures)

    sizes = [await file.run(take) for _ in range(3)]
    assert sizes == [MAX_BATCH, 1, 0]


def test_a_damaged_file_is_said_and_counts_nothing_as_right(tmp_path: Path) -> None:
    path = tmp_path / "failures.db"
    path.write_bytes(b"this is no database" * 100)

    async def scenario() -> None:
        file = FailureFile(path)
        with pytest.raises(InternalFault) as refused:
            await file.run(counted)
        file.close()
        assert refused.value.fault is faults.STORAGE_FAILED

    asyncio.run(scenario())


async def failures_of(context: Context) -> int:
    row = await context.read(lambda reader: reader.keyring(RING))
    assert row is not None
    return row.krso.failures


def test_c22_a_merge_counts_once_by_batch_and_by_attempt_and_ends_at_the_lock(
    tmp_path: Path,
) -> None:
    async def scenario() -> None:
        async with store_context(tmp_path) as context:
            await context.write(lambda writer: writer.insert_keyrings([ring(4)]))
            wrong = [failure() for _ in range(3)]
            batch = MergeFailures(batch_id=b"1" * 16, failures=wrong)
            for _ in range(2):
                await merge_here(context, batch)
            assert await failures_of(context) == 7
            again = MergeFailures(batch_id=b"2" * 16, failures=[*wrong, failure()])
            await merge_here(context, again)
            assert await failures_of(context) == 8
            many = MergeFailures(batch_id=b"3" * 16, failures=[failure() for _ in range(5)])
            await merge_here(context, many)
            assert await failures_of(context) == 10

    asyncio.run(scenario())


def test_c22_a_merge_misses_another_credential_and_a_keyring_that_is_gone(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with store_context(tmp_path) as context:
            await context.write(lambda writer: writer.insert_keyrings([ring(4)]))
            resealed = replace(CREDENTIAL, sealed_outer=b"sealed anew")
            gone = LocalFailure(b"c" * 16, os.urandom(16), b"x" * 16, Role.KRCO, b"digest")
            batch = MergeFailures(batch_id=b"1" * 16, failures=[failure(b"", resealed), gone])
            await merge_here(context, batch)
            assert await failures_of(context) == 4

    asyncio.run(scenario())
