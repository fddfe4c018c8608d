"""The login process: bounded in memory, queue, time and per source (rule C8)."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from conclave import faults
from conclave.crypto.password_hash import (
    DEFAULT_COST,
    LOW_COST_FOR_TESTS,
    Argon2Cost,
    hash_password,
    new_salt,
)
from conclave.errors import InternalFault, Unavailable
from conclave.service.bootstrap import LoginBootstrap, encode_bootstrap
from conclave.service.channel import ChannelClient
from conclave.service.login_process import MEMORY_BOUND_KIB, PasswordHasher
from conclave.service.messages import DerivedKey, HashPassword
from tests.support.cluster_bench import gathered

SALT = new_salt(LOW_COST_FOR_TESTS)
CORES = os.cpu_count() or 1


class Slow:
    """A derivation that waits until it is told to go on, and counts who runs."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.lock = threading.Lock()
        self.running: list[bytes] = []
        self.most_at_once = 0
        self.order: list[bytes] = []
        self.taken_kib = 0
        self.most_kib = 0

    def __call__(self, password: bytes, _salt: bytes, cost: Argon2Cost) -> bytes:
        with self.lock:
            self.running.append(password)
            self.taken_kib += cost.memory_kib
            self.most_kib = max(self.most_kib, self.taken_kib)
            self.order.append(password)
            self.most_at_once = max(self.most_at_once, len(self.running))
            assert len({name[:1] for name in self.running}) == len(self.running)
        self.go.wait(20)
        with self.lock:
            self.running.remove(password)
            self.taken_kib -= cost.memory_kib
        return password.ljust(32)


def hasher(derive: Callable[[bytes, bytes, Argon2Cost], bytes], **options: float) -> PasswordHasher:
    return PasswordHasher(
        max_queued=int(options.get("max_queued", 8)),
        deadline_seconds=options.get("deadline_seconds", 10.0),
        low_cost_for_tests=True,
        derive=derive,
    )


def asked(
    service: PasswordHasher, name: str, cost: Argon2Cost = LOW_COST_FOR_TESTS
) -> asyncio.Task[object]:
    salt = new_salt(cost)
    request = HashPassword(password=name.encode(), salt=salt, source=name[:1])
    return asyncio.get_running_loop().create_task(service.hash_password(request, "daemon"))


def busy(answers: list[object]) -> int:
    errors = [answer for answer in answers if isinstance(answer, Unavailable)]
    assert all(error.fault is faults.BUSY for error in errors)
    return len(errors)


async def outcomes(tasks: list[asyncio.Task[object]]) -> list[object]:
    return list(await asyncio.gather(*tasks, return_exceptions=True))


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


def test_one_attempt_of_a_source_at_a_time_and_all_in_their_turn() -> None:
    async def scenario() -> None:
        slow = Slow()
        service = hasher(slow)
        tasks = [asked(service, name) for name in ("a1", "a2", "b1")]
        expected = min(2, CORES)
        await until(lambda: len(slow.running) == expected)
        slow.go.set()
        answers = await outcomes(tasks)
        assert busy(answers) == 0
        assert slow.most_at_once <= expected
        assert slow.order.index(b"a1") < slow.order.index(b"a2")
        service.close()

    asyncio.run(scenario())


def test_a_full_queue_answers_busy_and_one_source_cannot_fill_it() -> None:
    async def scenario() -> None:
        slow = Slow()
        service = hasher(slow, max_queued=8)
        tasks = [asked(service, f"a{number}") for number in range(10)]
        await asyncio.sleep(0)
        slow.go.set()
        # One runs, two wait (a quarter of eight), seven are turned away.
        assert busy(await outcomes(tasks)) == 7
        slow.go.clear()
        others = [asked(service, chr(98 + number)) for number in range(20)]
        await asyncio.sleep(0)
        slow.go.set()
        assert busy(await outcomes(others)) == 20 - 8 - CORES
        service.close()

    asyncio.run(scenario())


def test_a_few_sources_that_fill_the_queue_make_room_for_another() -> None:
    async def scenario() -> None:
        slow = Slow()
        service = hasher(slow, max_queued=8)
        flood = [asked(service, f"{source}{n}") for source in "abcd" for n in range(4)]
        await asyncio.sleep(0)
        late = [asked(service, name) for name in "xyz"]
        for _ in range(3):
            await asyncio.sleep(0)
        assert not any(task.done() for task in late)
        slow.go.set()
        answers = await gathered(*late)
        assert [type(answer) for answer in answers] == [DerivedKey] * 3
        refusals = [answer for answer in await gathered(*flood) if isinstance(answer, Exception)]
        assert refusals
        assert {getattr(answer, "fault", None) for answer in refusals} == {faults.BUSY}
        service.close()

    asyncio.run(scenario())


def test_who_waited_too_long_is_answered_busy_and_not_hashed() -> None:
    async def scenario() -> None:
        slow = Slow()
        service = hasher(slow, deadline_seconds=0.05)
        tasks = [asked(service, "a1"), asked(service, "a2")]
        await until(lambda: bool(slow.running))
        loop = asyncio.get_running_loop()
        started = loop.time()
        await until(lambda: loop.time() > started + 0.1)
        slow.go.set()
        answers = await outcomes(tasks)
        assert answers[0] == DerivedKey(key=b"a1".ljust(32))
        assert busy(answers) == 1
        assert slow.order == [b"a1"]
        service.close()

    asyncio.run(scenario())


def test_a_failure_of_the_derivation_reaches_its_caller_and_frees_the_place() -> None:
    async def scenario() -> None:
        def broken(password: bytes, _salt: bytes, _cost: Argon2Cost) -> bytes:
            if password == b"a1":
                raise Unavailable(faults.BUSY, "No memory.")
            return bytes(32)

        service = hasher(broken)
        answers = await outcomes([asked(service, "a1"), asked(service, "a2")])
        assert busy(answers) == 1
        assert isinstance(answers[1], DerivedKey)
        service.close()

    asyncio.run(scenario())


def test_what_runs_stays_within_the_memory_bound_by_the_costs_of_the_salts() -> None:
    async def scenario() -> None:
        slow = Slow()
        service = hasher(slow, max_queued=32)
        third = Argon2Cost(memory_kib=MEMORY_BOUND_KIB // 3)
        most = Argon2Cost(memory_kib=MEMORY_BOUND_KIB)
        tasks = [asked(service, "a", third), asked(service, "b", most)]
        tasks += [asked(service, name, third) for name in "cdefg"]
        await until(lambda: slow.running == [b"a"])
        slow.go.set()
        assert busy(await outcomes(tasks)) == 0
        # The dear one is not overtaken by cheaper ones that would have fitted.
        assert slow.order[:2] == [b"a", b"b"]
        assert slow.most_kib <= MEMORY_BOUND_KIB
        service.close()

    asyncio.run(scenario())


def test_a_hash_of_more_than_the_memory_bound_runs_alone() -> None:
    async def scenario() -> None:
        slow = Slow()
        slow.go.set()
        service = hasher(slow)
        costs = [DEFAULT_COST, Argon2Cost(memory_kib=2 * MEMORY_BOUND_KIB), DEFAULT_COST]
        names = zip("abc", costs, strict=True)
        assert busy(await outcomes([asked(service, *name) for name in names])) == 0
        assert slow.most_kib == 2 * MEMORY_BOUND_KIB
        service.close()

    asyncio.run(scenario())


def test_a_salt_whose_cost_is_refused_takes_no_place() -> None:
    async def scenario() -> None:
        slow = Slow()
        slow.go.set()
        service = hasher(slow)
        (refusal,) = await outcomes([asked(service, "a", Argon2Cost(memory_kib=1 << 30))])
        assert isinstance(refusal, InternalFault)
        assert refusal.fault is faults.STORED_COST
        assert busy(await outcomes([asked(service, "a")])) == 0
        assert slow.order == [b"a"]
        service.close()

    asyncio.run(scenario())


@pytest.mark.system
def test_the_process_hashes_at_low_priority(tmp_path: Path) -> None:
    async def scenario() -> None:
        secret = os.urandom(32)
        bootstrap = LoginBootstrap(
            socket_path=str(tmp_path / "login.sock"),
            secrets={"daemon": secret},
            cost=LOW_COST_FOR_TESTS,
            low_cost_for_tests=True,
            log_path=str(tmp_path / "login.log"),
        )
        process = start(bootstrap)
        client = ChannelClient(bootstrap.socket_path, secret)
        request = HashPassword(password=b"password", salt=SALT, source="test")
        answer = await client.call("hash_password", request, timeout_seconds=20)
        assert answer.key == hash_password(b"password", SALT, allow_low_cost=True)
        assert os.getpriority(os.PRIO_PROCESS, process.pid) > os.getpriority(os.PRIO_PROCESS, 0)
        await client.close()
        end(process)

    asyncio.run(scenario())


@pytest.mark.system
def test_rule_g2_the_process_refuses_a_low_cost_in_production(tmp_path: Path) -> None:
    bootstrap = LoginBootstrap(
        socket_path=str(tmp_path / "login.sock"),
        secrets={},
        cost=LOW_COST_FOR_TESTS,
        log_path=str(tmp_path / "login.log"),
    )
    process = start(bootstrap)
    assert process.wait(20) == 78
    end(process)
    assert "memory_kib" in (tmp_path / "login.log").read_text()


def start(bootstrap: LoginBootstrap) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-m", "conclave.service.login_process"], stdin=subprocess.PIPE
    )
    assert process.stdin is not None
    process.stdin.write(encode_bootstrap(bootstrap))
    process.stdin.flush()
    return process


def end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    assert process.stdin is not None
    process.stdin.close()
