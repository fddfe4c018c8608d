"""Users: how they prove who they are, and what guessing costs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import pytest

from conclave.appliance import login_delays
from conclave.appliance.login_delays import DelayRule, LoginDelays
from conclave.appliance.store import ApplianceStore
from conclave.appliance.user_list import find
from conclave.appliance.user_rules import UserRole, check_new_password
from conclave.appliance.users import DEFAULT_PASSWORD, REMEMBER_MS, Users
from conclave.crypto.password_hash import LOW_COST_FOR_TESTS, Argon2Cost, hash_password, salt_cost
from conclave.errors import (
    BadInput,
    Conflict,
    CredentialRefused,
    LimitReached,
    NotAllowed,
    NotFound,
    Unavailable,
)
from tests.support.hsm_bench import Moment

T = TypeVar("T")
GOOD = "Correct-Horse-9"
SOURCE = "192.0.2.1"


@dataclass
class CountingHasher:
    """The real function, with a count and the most that ever ran at once."""

    calls: int = 0
    running: int = 0
    most: int = 0
    seen: list[tuple[bytes, str]] = field(default_factory=list)

    async def __call__(self, password: bytes, salt: bytes, source: str) -> bytes:
        self.calls += 1
        self.running += 1
        self.most = max(self.most, self.running)
        await asyncio.sleep(0)
        self.running -= 1
        self.seen.append((salt, source))
        return hash_password(password, salt, allow_low_cost=True)


@dataclass
class Bench:
    users: Users
    hasher: CountingHasher
    clock: Moment


@asynccontextmanager
async def opened(path: Path, cost: Argon2Cost = LOW_COST_FOR_TESTS) -> AsyncIterator[Bench]:
    store = await ApplianceStore.open(path)
    hasher, clock = CountingHasher(), Moment()
    try:
        users = await Users.open(store, hasher, cost=cost, now_ms=clock)
        yield Bench(users, hasher, clock)
    finally:
        await store.close()


def play(
    path: Path,
    scene: Callable[[Bench], Awaitable[T]],
    *,
    cost: Argon2Cost = LOW_COST_FOR_TESTS,
) -> T:
    async def run() -> T:
        async with opened(path / "appliance.db", cost) as bench:
            return await scene(bench)

    return asyncio.run(run())


async def settle(bench: Bench) -> None:
    await bench.users.change_own_password("admin", DEFAULT_PASSWORD, GOOD, source=SOURCE)
    bench.hasher.calls = 0


def test_the_factory_users(tmp_path: Path) -> None:
    async def scene(bench: Bench) -> None:
        found = {user.user_id: user for user in bench.users.all()}
        assert sorted(found) == ["admin", "audit", "monitor", "operator"]
        assert [user.user_id for user in found.values() if user.enabled] == ["admin"]
        assert all(user.must_change and user.builtin for user in found.values())
        assert found["operator"].role is UserRole.OPERATOR

    play(tmp_path, scene)


def test_users_survive_a_restart(tmp_path: Path) -> None:
    async def first(bench: Bench) -> None:
        await settle(bench)
        await bench.users.create("joe", GOOD, role=UserRole.MONITOR, email="j@x", source=SOURCE)

    async def second(bench: Bench) -> None:
        assert bench.hasher.calls == 0, "the built-in users are made once"
        assert bench.users.get("joe").email == "j@x"
        await bench.users.authenticate("admin", GOOD, source=SOURCE)

    play(tmp_path, first)
    play(tmp_path, second)


def test_an_unknown_name_costs_what_a_wrong_password_costs(tmp_path: Path) -> None:
    async def scene(bench: Bench) -> None:
        await settle(bench)
        for user_id in ("admin", "nobody", "operator"):
            before = bench.hasher.calls
            with pytest.raises(CredentialRefused) as refusal:
                await bench.users.authenticate(user_id, "Wrong-password-1", source=SOURCE)
            assert bench.hasher.calls == before + 1
            assert user_id not in refusal.value.message

    play(tmp_path, scene)


def test_another_configured_cost_voids_no_password_and_is_of_what_is_set_next(
    tmp_path: Path,
) -> None:
    other = Argon2Cost(memory_kib=128, iterations=2, lanes=1)

    async def costs(bench: Bench) -> set[Argon2Cost]:
        return {salt_cost(salt, allow_low_cost=True) for salt, _source in bench.hasher.seen}

    async def before(bench: Bench) -> None:
        await settle(bench)

    async def after(bench: Bench) -> None:
        await bench.users.authenticate("admin", GOOD, source=SOURCE)
        assert await costs(bench) == {LOW_COST_FOR_TESTS}
        await bench.users.create("alice", GOOD, role=UserRole.ADMIN, source=SOURCE)
        await bench.users.change_own_password("admin", GOOD, "New-Password-1", source=SOURCE)
        bench.hasher.seen.clear()
        for user_id, password in (("admin", "New-Password-1"), ("alice", GOOD)):
            await bench.users.authenticate(user_id, password, source=SOURCE)
        assert await costs(bench) == {other}
        # Of five users three have the former cost: names of nobody are spread over both as well.
        bench.hasher.seen.clear()
        for number in range(40):
            with pytest.raises(CredentialRefused):
                await bench.users.authenticate(f"nobody{number}", GOOD, source=f"source{number}")
        assert await costs(bench) == {LOW_COST_FOR_TESTS, other}

    play(tmp_path, before)
    play(tmp_path, after, cost=other)


def test_what_cannot_be_right_is_never_hashed_but_counts(tmp_path: Path) -> None:
    async def scene(bench: Bench) -> None:
        await settle(bench)
        for attempt in ("", "short", "x" * 300):
            with pytest.raises(CredentialRefused):
                await bench.users.authenticate("admin", attempt, source=SOURCE)
        assert bench.hasher.calls == 0
        for _ in range(2):
            with pytest.raises(CredentialRefused):
                await bench.users.authenticate("admin", "short", source=SOURCE)
        with pytest.raises(Unavailable):
            await bench.users.authenticate("admin", GOOD, source=SOURCE)

    play(tmp_path, scene)


def test_an_attempt_that_comes_too_early_costs_nothing(tmp_path: Path) -> None:
    async def scene(bench: Bench) -> None:
        await settle(bench)
        for _ in range(5):
            with pytest.raises(CredentialRefused):
                await bench.users.authenticate("admin", "Wrong-password-1", source="203.0.113.1")
        hashed = bench.hasher.calls
        with pytest.raises(Unavailable) as refusal:
            await bench.users.authenticate("admin", GOOD, source="203.0.113.2")
        assert refusal.value.fault.rest_id == "SERVER_LOGIN_DELAYED"
        assert bench.hasher.calls == hashed
        # From where it was proven before, nobody's guesses hold it up.
        await bench.users.authenticate("admin", GOOD, source=SOURCE)
        bench.clock.ms += 1000
        await bench.users.authenticate("admin", GOOD, source="203.0.113.2")

    play(tmp_path, scene)


@pytest.mark.parametrize("source", [SOURCE, "2001:db8::{:x}"])
def test_one_attempt_is_in_flight_for_each_source(tmp_path: Path, source: str) -> None:
    """A host of IPv6 has a /64 of addresses, and is one source with all of them."""

    async def scene(bench: Bench) -> None:
        await settle(bench)
        bench.hasher.most = 0
        bench.hasher.seen.clear()
        attempts = (
            bench.users.authenticate(
                f"name{number}", "Wrong-password-1", source=source.format(number + 1)
            )
            for number in range(8)
        )
        refused = await asyncio.gather(*attempts, return_exceptions=True)
        assert all(isinstance(each, CredentialRefused) for each in refused)
        assert bench.hasher.most == 1
        # The login process has one in flight for each source, too.
        assert len({network for _, network in bench.hasher.seen}) == 1

    play(tmp_path, scene)


def test_a_full_queue_answers_busy_without_counting(tmp_path: Path) -> None:
    async def scene(bench: Bench) -> None:
        await settle(bench)
        attempts = (
            bench.users.authenticate(f"name{number}", "Wrong-password-1", source=SOURCE)
            for number in range(100)
        )
        outcomes = await asyncio.gather(*attempts, return_exceptions=True)
        busy = [
            each
            for each in outcomes
            if isinstance(each, Unavailable) and each.fault.rest_id == "SERVER_BUSY"
        ]
        assert busy
        assert all(each.fault.retry_is_safe for each in busy)

    play(tmp_path, scene)


def test_many_calls_with_one_good_password_hash_it_once(tmp_path: Path) -> None:
    async def scene(bench: Bench) -> None:
        await settle(bench)
        attempts = (bench.users.authenticate("admin", GOOD, source=SOURCE) for _ in range(20))
        logins = await asyncio.gather(*attempts)
        assert bench.hasher.calls == 1
        assert len({login.version for login in logins}) == 1
        bench.clock.ms += REMEMBER_MS + 1
        await bench.users.authenticate("admin", GOOD, source=SOURCE)
        assert bench.hasher.calls == 2

    play(tmp_path, scene)


def test_a_password_remembered_for_one_source_spares_no_other_the_delays(tmp_path: Path) -> None:
    async def scene(bench: Bench) -> None:
        await settle(bench)
        await bench.users.authenticate("admin", GOOD, source=SOURCE)
        for _ in range(6):
            with pytest.raises((CredentialRefused, Unavailable)):
                await bench.users.authenticate("admin", "Wrong-password-1", source="203.0.113.9")
        with pytest.raises(Unavailable):
            await bench.users.authenticate("admin", GOOD, source="203.0.113.9")
        # Whoever proved it before goes on meanwhile.
        await bench.users.authenticate("admin", GOOD, source=SOURCE)

    play(tmp_path, scene)


def test_a_source_that_must_wait_is_told_nothing_of_what_it_proved_before(tmp_path: Path) -> None:
    async def scene(bench: Bench) -> None:
        await settle(bench)
        await bench.users.authenticate("admin", GOOD, source=SOURCE)
        for number in range(25):
            with pytest.raises((CredentialRefused, Unavailable)):
                await bench.users.authenticate(f"n{number}", "Wrong-password-1", source=SOURCE)
        with pytest.raises(Unavailable):
            await bench.users.authenticate("admin", GOOD, source=SOURCE)

    play(tmp_path, scene)


def test_each_opening_of_a_session_is_told_of(tmp_path: Path) -> None:
    async def scene(bench: Bench) -> None:
        await settle(bench)
        told: list[str] = []
        bench.users.on_attempt(lambda attempt: told.append(attempt.door))
        for _ in range(3):
            await bench.users.authenticate("admin", GOOD, source=SOURCE, door="lunash", opens=True)
        await bench.users.authenticate("admin", GOOD, source=SOURCE, door="rest")
        assert told == ["lunash"] * 3

    play(tmp_path, scene)


def test_a_changed_password_voids_logins_and_what_was_remembered(tmp_path: Path) -> None:
    async def scene(bench: Bench) -> None:
        await settle(bench)
        login = await bench.users.authenticate("admin", GOOD, source=SOURCE)
        changed = await bench.users.change_own_password("admin", GOOD, GOOD + "x", source=SOURCE)
        assert bench.users.current(login) is None
        assert bench.users.current(changed) is not None
        with pytest.raises(CredentialRefused):
            await bench.users.authenticate("admin", GOOD, source=SOURCE)

    play(tmp_path, scene)


def test_roles_and_states_void_logins_too(tmp_path: Path) -> None:
    async def scene(bench: Bench) -> None:
        await settle(bench)
        users = bench.users
        await users.create("joe", GOOD, role=UserRole.MONITOR, source=SOURCE)
        login = await users.authenticate("joe", GOOD, source=SOURCE)
        await users.update("joe", full_name="Joe")
        assert users.current(login) is not None
        await users.update("joe", role=UserRole.OPERATOR)
        assert users.current(login) is None
        login = await users.authenticate("joe", GOOD, source=SOURCE)
        await users.set_enabled("joe", enabled=False)
        await users.set_enabled("joe", enabled=True)
        assert users.current(login) is None
        login = await users.authenticate("joe", GOOD, source=SOURCE)
        await users.delete("joe")
        assert users.current(login) is None

    play(tmp_path, scene)


def test_builtin_users_and_the_last_administrator_stay(tmp_path: Path) -> None:
    async def scene(bench: Bench) -> None:
        users = bench.users
        for refused in (
            users.delete("operator"),
            users.update("operator", role=UserRole.ADMIN),
            users.set_enabled("admin", enabled=False),
        ):
            with pytest.raises(NotAllowed):
                await refused
        await users.create("root2", GOOD, role=UserRole.ADMIN, source=SOURCE)
        await users.set_enabled("admin", enabled=False)
        with pytest.raises(NotAllowed):
            await users.delete("root2")

    play(tmp_path, scene)


def test_names_are_unique_and_follow_the_rule(tmp_path: Path) -> None:
    async def scene(bench: Bench) -> None:
        users = bench.users
        await users.create("_a.b-9", GOOD, role=UserRole.NONE, source=SOURCE)
        with pytest.raises(Conflict):
            await users.create("_a.b-9", GOOD, role=UserRole.NONE, source=SOURCE)
        for name in ("", "9a", "-a", ".a", "a b", "ä", "a" * 33):
            with pytest.raises(BadInput):
                await users.create(name, GOOD, role=UserRole.NONE, source=SOURCE)
        with pytest.raises(NotFound):
            users.get("nobody")

    play(tmp_path, scene)


def test_two_who_create_the_same_user_at_once(tmp_path: Path) -> None:
    async def scene(bench: Bench) -> None:
        both = (
            bench.users.create("joe", GOOD, role=UserRole.MONITOR, source=SOURCE) for _ in range(2)
        )
        outcomes = await asyncio.gather(*both, return_exceptions=True)
        assert sorted(type(each).__name__ for each in outcomes) == ["Conflict", "NoneType"]

    play(tmp_path, scene)


def test_there_is_a_limit_to_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("conclave.appliance.user_list.MAX_USERS", 5)

    async def scene(bench: Bench) -> None:
        await bench.users.create("one", GOOD, role=UserRole.NONE, source=SOURCE)
        with pytest.raises(LimitReached):
            await bench.users.create("two", GOOD, role=UserRole.NONE, source=SOURCE)

    play(tmp_path, scene)


@pytest.mark.parametrize("password", ["Aa1aaaaa", "aa 11 bbb", "AAAA-1111", "äöüÄÖÜ12"])
def test_passwords_of_three_classes(password: str) -> None:
    check_new_password(password)


@pytest.mark.parametrize(
    "password", ["Aa1-aaa", "aaaaaaaaaa", "aaaaaaaa1", "PASSWORD", "Aa1" * 86, "ä1A" * 70]
)
def test_passwords_that_are_refused_are_not_repeated(password: str) -> None:
    with pytest.raises(BadInput) as refusal:
        check_new_password(password)
    assert password not in refusal.value.message


def test_no_password_is_in_a_repr(tmp_path: Path) -> None:
    async def scene(bench: Bench) -> None:
        await settle(bench)
        stored = find(bench.users.table, "admin")
        assert stored.verifier.hex() not in repr(stored)
        assert str(stored.verifier) not in repr(stored)

    play(tmp_path, scene)


def test_delays_grow_are_bounded_and_are_forgotten() -> None:
    rule = DelayRule(free_failures=2, first_ms=100, longest_ms=1000)
    assert [rule.delay_ms(failures) for failures in range(8)] == [
        *(0, 0, 0, 100),
        *(200, 400, 800, 1000),
    ]
    clock = Moment()
    delays = LoginDelays(now_ms=clock, user_rule=rule, source_rule=rule)
    for _ in range(3):
        delays.failed("joe", SOURCE)
    for user_id, source in (("joe", "other"), ("other", SOURCE)):
        with pytest.raises(Unavailable):
            delays.check(user_id, source)
    delays.check("other", "other")
    clock.ms += 100
    delays.check("joe", SOURCE)
    delays.forget("joe")
    delays.failed("joe", "other")
    delays.check("joe", "other")
    delays.failed("x", SOURCE)
    with pytest.raises(Unavailable):
        delays.check("y", SOURCE)
    clock.ms += login_delays.FORGET_AFTER_MS + 1
    delays.failed("x", SOURCE)
    delays.check("y", SOURCE)


def test_strangers_guesses_do_not_hold_up_who_proved_the_password_before() -> None:
    rule = DelayRule(free_failures=2, first_ms=100, longest_ms=200)
    delays = LoginDelays(now_ms=Moment(), user_rule=rule)
    delays.proven("joe", "desk")
    for number in range(5):
        delays.failed("joe", f"stranger{number}")
    with pytest.raises(Unavailable):
        delays.check("joe", "elsewhere")
    delays.check("joe", "desk")
    # Its login gives strangers no new guesses.
    delays.proven("joe", "desk")
    with pytest.raises(Unavailable):
        delays.check("joe", "elsewhere")
    # Whoever else sits there is held up as anywhere, and so is one who makes a name of both.
    for _ in range(5):
        delays.failed("joe desk", "stranger")
    delays.check("joe", "desk")
    for _ in range(3):
        delays.failed("joe", "desk")
    with pytest.raises(Unavailable):
        delays.check("joe", "desk")
    delays.proven("joe", "desk")
    delays.check("joe", "desk")


def test_the_memory_of_failures_is_bounded() -> None:
    delays = LoginDelays(now_ms=Moment())
    for number in range(login_delays.MAX_ENTRIES + 100):
        delays.proven("joe", f"desk{number}")
    assert len(delays._proven) == login_delays.MAX_ENTRIES
    for number in range(login_delays.MAX_ENTRIES + 100):
        delays.failed(f"name{number}", f"source{number}")
    assert len(delays._users._entries) == login_delays.MAX_ENTRIES
