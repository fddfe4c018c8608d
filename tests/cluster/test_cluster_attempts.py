"""The gate before password checks: counted once, before the check, on fresh failures."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from conclave import faults
from conclave.cluster.attempts import Attempt, AttemptGate
from conclave.errors import ConclaveError, CredentialRefused, Unavailable
from conclave.ids import ClientId, KeyringId
from conclave.keyring.roles import FIRST_DELAY_MS, LockState, Outcome
from conclave.service.wire import Role
from conclave.settings import Limits

KEYRING = KeyringId(bytes(16))
OTHER_KEYRING = KeyringId(b"other" * 3 + b"x")
CLIENT = ClientId(bytes(16))


def attempt(name: bytes = b"", client: ClientId = CLIENT) -> Attempt:
    return Attempt(client, name or os.urandom(16), (KEYRING, Role.KRSO), characters=8)


def reading(
    *failures: int, never_locks: bool = False
) -> Callable[[], Awaitable[tuple[str, LockState]]]:
    rest = list(failures)

    async def read() -> tuple[str, LockState]:
        return "row", LockState(never_locks, rest.pop(0) if len(rest) > 1 else rest[0])

    return read


async def entered(gate: AttemptGate, failures: int, number: int) -> list[Attempt]:
    """Try `number` attempts; return those that were admitted."""
    admitted = []
    for _ in range(number):
        one = attempt()
        try:
            await gate.enter(one, reading(failures))
        except ConclaveError as error:
            assert error.fault in (faults.BUSY, faults.PIN_LOCKED)
        else:
            admitted.append(one)
    return admitted


def test_no_more_are_admitted_than_may_still_fail() -> None:
    async def scenario() -> None:
        gate = AttemptGate(Limits())
        admitted = await entered(gate, 7, 20)
        assert len(admitted) == 3
        gate.leave(admitted[0], Outcome.ABANDONED, paced=False)
        assert len(await entered(gate, 7, 20)) == 1

    asyncio.run(scenario())


def test_an_outcome_in_between_makes_the_gate_read_again() -> None:
    async def scenario() -> None:
        gate = AttemptGate(Limits())
        (first,) = await entered(gate, 9, 1)
        read_before = asyncio.Event()
        go_on = asyncio.Event()
        stored = [9]

        async def slow_read() -> tuple[str, LockState]:
            failures = stored[0]
            read_before.set()
            await go_on.wait()
            return "row", LockState(False, failures)

        second = asyncio.create_task(gate.enter(attempt(), slow_read))
        await read_before.wait()
        stored[0] = 10
        gate.leave(first, Outcome.WRONG, paced=False)
        go_on.set()
        with pytest.raises(CredentialRefused) as error:
            await second
        assert error.value.fault is faults.PIN_LOCKED

    asyncio.run(scenario())


def unwritten(_writer: object) -> None:
    """Stand for a failure that the store does not take."""


def test_failures_that_could_not_be_written_go_on_counting_until_an_unlock() -> None:
    async def scenario() -> None:
        gate = AttemptGate(Limits())
        for _ in range(10):
            (one,) = await entered(gate, 0, 1)
            gate.leave(one, Outcome.WRONG, paced=False, owed=unwritten)
        assert await entered(gate, 0, 3) == []
        gate.release(KEYRING)
        assert len(await entered(gate, 0, 20)) == 10

    asyncio.run(scenario())


def test_failures_that_could_not_be_written_end_with_a_good_password_or_when_they_are() -> None:
    async def scenario() -> None:
        gate = AttemptGate(Limits())
        name = (KEYRING, Role.KRSO)
        for _ in range(9):
            (one,) = await entered(gate, 0, 1)
            gate.leave(one, Outcome.WRONG, paced=False, owed=unwritten)
        assert list(gate.owed(name).values()) == [unwritten] * 9
        (last,) = await entered(gate, 0, 3)
        gate.leave(last, Outcome.GOOD, paced=False)
        assert gate.owed(name) == {}
        (one,) = await entered(gate, 0, 1)
        gate.leave(one, Outcome.WRONG, paced=False, owed=unwritten)
        with pytest.raises(Unavailable):
            await gate.enter(replace(one, credential=(OTHER_KEYRING, Role.KRSO)), reading(0))
        gate.settled(name, gate.owed(name))
        assert gate.owed(name) == {}
        assert (gate._flights, gate._owing) == ({}, set())

    asyncio.run(scenario())


def test_an_attempt_id_is_checked_once_at_a_time_and_stays_wrong() -> None:
    async def scenario() -> None:
        gate = AttemptGate(Limits())
        one = attempt(b"x" * 16)
        await gate.enter(one, reading(0))
        with pytest.raises(Unavailable):
            await gate.enter(one, reading(0))
        gate.leave(one, Outcome.ABANDONED, paced=False)
        await gate.enter(one, reading(0))
        gate.leave(one, Outcome.WRONG, paced=False)
        with pytest.raises(CredentialRefused) as error:
            await gate.enter(one, reading(0))
        assert error.value.fault is faults.PIN_INCORRECT
        other = attempt(b"x" * 16, ClientId(b"other" * 3 + b"x"))
        await gate.enter(other, reading(0))

    asyncio.run(scenario())


def test_delays_are_kept_per_client_and_end_with_a_success() -> None:
    async def scenario() -> None:
        now = 0
        gate = AttemptGate(Limits(), now_ms=lambda: now)
        long_password = reading(0, never_locks=True)
        one = attempt()
        await gate.enter(one, long_password)
        gate.leave(one, Outcome.WRONG, paced=True)
        with pytest.raises(Unavailable):
            await gate.enter(attempt(), long_password)
        other = attempt(client=ClientId(b"other" * 3 + b"x"))
        await gate.enter(other, long_password)
        gate.leave(other, Outcome.GOOD, paced=True)
        now = FIRST_DELAY_MS
        again = attempt()
        await gate.enter(again, long_password)
        gate.leave(again, Outcome.GOOD, paced=True)
        await gate.enter(attempt(), long_password)

    asyncio.run(scenario())


def test_after_a_failure_one_guess_at_a_long_password_runs_at_a_time() -> None:
    async def scenario() -> None:
        now = 0
        gate = AttemptGate(Limits(), now_ms=lambda: now)
        long_password = reading(0, never_locks=True)
        at_first = [attempt() for _ in range(3)]
        for one in at_first:
            await gate.enter(one, long_password)
        for one in at_first:
            gate.leave(one, Outcome.WRONG, paced=True)
        for outcome in (Outcome.ABANDONED, Outcome.WRONG, Outcome.GOOD):
            now += 100 * FIRST_DELAY_MS
            only = attempt()
            await gate.enter(only, long_password)
            with pytest.raises(Unavailable):
                await gate.enter(attempt(), long_password)
            await gate.enter(attempt(client=ClientId(b"other" * 3 + b"x")), long_password)
            gate.leave(only, outcome, paced=True)
        for _ in range(3):
            await gate.enter(attempt(), long_password)
        assert len(await entered(gate, 0, 2)) == 2, "a short password has a counter instead"

    asyncio.run(scenario())


def test_nothing_is_kept_of_attempts_that_ended_well() -> None:
    async def scenario() -> None:
        gate = AttemptGate(Limits())
        for one in await entered(gate, 0, 5):
            gate.leave(one, Outcome.GOOD, paced=False)
        with pytest.raises(CredentialRefused):
            await gate.enter(attempt(), reading(10))
        assert (gate._flights, gate._paces, gate._running, gate._failed) == ({}, {}, set(), {})

    asyncio.run(scenario())
