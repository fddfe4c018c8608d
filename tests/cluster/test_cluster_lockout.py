"""Lockout through the real channel (rules C8 and C22)."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from conclave import faults
from conclave.errors import ConclaveError, CredentialRefused, Unavailable
from conclave.ids import KeyringId
from conclave.service.wire import Role
from conclave.settings import Limits
from tests.support.cluster_bench import (
    FIRST,
    LONG_PASSWORD,
    PASSWORD,
    WRONG,
    ClusterBench,
    cluster_bench,
    gathered,
    id_of,
    new_object,
)

pytestmark = pytest.mark.system


async def fail(bench: ClusterBench, keyring: bytes, times: int, password: bytes = WRONG) -> None:
    for _ in range(times):
        with pytest.raises(CredentialRefused) as error:
            await bench.login(keyring, password)
        assert error.value.fault is faults.PIN_INCORRECT


def test_c22_ten_failures_lock_until_an_unlock_and_live_tickets_go_on(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with cluster_bench(tmp_path) as bench:
            keyring, ticket = await bench.ready_keyring()
            await fail(bench, keyring, 10)
            shown = await bench.show("ring")
            assert (shown.locked, shown.failed_attempts) == (True, 10)
            for role in Role:
                with pytest.raises(CredentialRefused) as error:
                    await bench.login(keyring, PASSWORD, role)
                assert error.value.fault is faults.PIN_LOCKED
            await bench.write(keyring, ticket, writes=[new_object()])
            await bench.unlock("ring")
            await bench.login(keyring, PASSWORD)

    asyncio.run(scenario())


def test_c22_a_good_login_resets_the_counter_and_writes_only_then(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with cluster_bench(tmp_path) as bench:
            keyring, _ = await bench.ready_keyring()
            await fail(bench, keyring, 9)
            await bench.login(keyring, PASSWORD)
            assert bench.row(keyring).krso.failures == 0
            revision = bench.row(keyring).revision
            await bench.login(keyring, PASSWORD)
            assert bench.row(keyring).revision == revision
            await fail(bench, keyring, 9)
            assert not (await bench.show("ring")).locked

    asyncio.run(scenario())


def test_c8_attempts_of_six_characters_never_count_and_of_seven_do(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with cluster_bench(tmp_path) as bench:
            keyring, _ = await bench.ready_keyring()
            await fail(bench, keyring, 12, b"123456")
            await fail(bench, keyring, 3, b"")
            assert bench.row(keyring).krso.failures == 0
            await fail(bench, keyring, 1, b"1234567")
            assert bench.row(keyring).krso.failures == 1

    asyncio.run(scenario())


def test_c22_a_password_of_17_characters_never_locks_but_slows_its_client_down(
    tmp_path: Path,
) -> None:
    async def scenario() -> None:
        async with cluster_bench(tmp_path) as bench:
            keyring, _ = await bench.ready_keyring(password=LONG_PASSWORD)
            revision = bench.row(keyring).revision
            wrong = busy = 0
            while wrong < 3:
                try:
                    await bench.login(keyring, WRONG)
                except Unavailable as error:
                    assert error.fault is faults.BUSY
                    busy += 1
                    await asyncio.sleep(0.02)
                except CredentialRefused:
                    wrong += 1
            assert busy
            assert bench.row(keyring).revision == revision
            with pytest.raises(Unavailable):
                await bench.login(keyring, LONG_PASSWORD)
            await bench.unlock("ring")
            await bench.login(keyring, LONG_PASSWORD)

    asyncio.run(scenario())


def test_c22_guesses_at_once_are_no_more_than_those_one_after_the_other(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with cluster_bench(tmp_path) as bench:
            keyring, _ = await bench.ready_keyring()
            checked = 0
            for _ in range(4):
                answers = await gathered(*(bench.login(keyring, WRONG) for _ in range(12)))
                faults_seen = [answer.fault for answer in answers]
                checked += faults_seen.count(faults.PIN_INCORRECT)
                assert set(faults_seen) <= {
                    faults.PIN_INCORRECT,
                    faults.PIN_LOCKED,
                    faults.BUSY,
                }
            assert checked == 10
            assert (await bench.show("ring")).locked

    asyncio.run(scenario())


def test_rule_c21_an_attempt_is_counted_once_and_stays_wrong(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with cluster_bench(tmp_path) as bench:
            keyring, _ = await bench.ready_keyring()
            attempt = os.urandom(16)
            for password in (WRONG, WRONG, PASSWORD):
                with pytest.raises(CredentialRefused):
                    await bench.login(keyring, password, attempt=attempt)
            assert bench.row(keyring).krso.failures == 1
            bench.kill("cluster")
            bench.start_cluster(with_smk=True)
            await bench.ready()
            with pytest.raises(CredentialRefused):
                await bench.login(keyring, PASSWORD, attempt=attempt)
            assert bench.row(keyring).krso.failures == 1

    asyncio.run(scenario())


def test_c22_a_failure_survives_the_process_that_answered_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with cluster_bench(tmp_path) as bench:
            keyring, _ = await bench.ready_keyring()
            for expected in (1, 2, 3):
                await fail(bench, keyring, 1)
                bench.kill("cluster")
                assert bench.row(keyring).krso.failures == expected
                bench.start_cluster(with_smk=True)
                await bench.ready()

    asyncio.run(scenario())


def test_wrong_old_passwords_count_in_every_change(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with cluster_bench(tmp_path, limits=Limits(lock_after=3)) as bench:
            keyring, _ = await bench.ready_keyring()
            for call in (
                bench.change(keyring, WRONG, b"new-password"),
                bench.initialize_token(keyring, WRONG, "ring"),
                bench.change(keyring, WRONG, b"new-password", Role.KRCO),
            ):
                with pytest.raises(ConclaveError) as error:
                    await call
                assert error.value.fault is faults.PIN_INCORRECT
            with pytest.raises(ConclaveError) as error:
                await bench.initialize_token(keyring, PASSWORD, "ring")
            assert error.value.fault is faults.PIN_LOCKED

    asyncio.run(scenario())


def test_c22_the_length_class_goes_with_the_password(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with cluster_bench(tmp_path) as bench:
            sixteen, seventeen = b"x" * 16, b"x" * 17
            (summary,) = await bench.make_keyrings("ring")
            keyring = KeyringId(id_of(summary))
            await bench.change(keyring, FIRST, seventeen)
            assert bench.row(keyring).krso.never_locks
            await bench.change(keyring, seventeen, sixteen)
            assert not bench.row(keyring).krso.never_locks

    asyncio.run(scenario())
