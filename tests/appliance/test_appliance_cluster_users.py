"""Users in a cluster: the cluster's list decides, and no acknowledged change is lost."""

from __future__ import annotations

import asyncio
import os
import random
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from conclave import faults
from conclave.appliance.cluster_users import RETRIES, ClusterUsers
from conclave.appliance.store import ApplianceStore
from conclave.appliance.user_list import from_records, user_of
from conclave.appliance.user_rules import UserRole
from conclave.appliance.user_store import COMPONENT, MIGRATIONS
from conclave.appliance.users import DEFAULT_PASSWORD, Users
from conclave.cluster.user_mirror import UserMirror
from conclave.crypto.password_hash import LOW_COST_FOR_TESTS, hash_password
from conclave.errors import (
    ConclaveError,
    Conflict,
    CredentialRefused,
    InternalFault,
    NotAllowed,
    NotFound,
    Unavailable,
)
from conclave.service.messages import MemberList, MemberSummary, UserRecords
from conclave.service.quiet import Nothing, Quiet
from tests.support.appliance_bench import (
    until,
)
from tests.support.store_bench import store_context

GOOD = "Correct-Horse-9"
OTHER = "Battery-Staple-8"
SOURCE = "192.0.2.1"


async def cheap_hash(password: bytes, salt: bytes, _source: str) -> bytes:
    return hash_password(password, salt, allow_low_cost=True)


@dataclass
class Cluster:
    """The real handlers on a real store, and what its members are told about each other."""

    mirror: UserMirror
    members: list[str] = field(default_factory=list)

    async def listed(self) -> UserRecords:
        return await self.mirror.list_users(Nothing(), "daemon")


@dataclass
class Service:
    """One appliance's cluster service: runs or not, and fails when it is told to."""

    cluster: Cluster
    name: str
    stopped: bool = True
    starting: bool = False
    refusals: list[Exception] = field(default_factory=list)
    lost_answers: int = 0
    calls: list[str] = field(default_factory=list)
    before_put: Callable[[], Awaitable[None]] | None = None

    @property
    def state(self) -> str:
        if self.starting:
            return "starting"
        return "stopped" if self.stopped else "running"

    def status(self) -> Service:
        return self

    async def call(self, method: str, params: Quiet, *, timeout_seconds: float) -> Any:
        assert timeout_seconds > 0
        self.calls.append(method)
        await asyncio.sleep(0)
        if self.stopped or self.starting:
            raise NotAllowed(faults.SERVICE_STOPPED, "Stopped.")
        if method == "list_members":
            members = self.cluster.members
            if not members:
                raise NotFound(faults.CLUSTER_NOT_FOUND, "There is no cluster.")
            return MemberList([_summary(name, self.name, members[0]) for name in members])
        if method == "list_users":
            return await self.cluster.listed()
        assert isinstance(params, UserRecords)
        if self.refusals:
            raise self.refusals.pop(0)
        if self.before_put is not None:
            await self.before_put()
        answer = await self.cluster.mirror.put_users(params, "daemon")
        if self.lost_answers:
            self.lost_answers -= 1
            raise Unavailable(faults.OUTCOME_UNKNOWN, "Lost.")
        return answer


def _summary(name: str, local: str, primary: str) -> MemberSummary:
    return MemberSummary(
        member_id=name,
        name=name,
        address="127.0.0.1",
        admin_port=1,
        crypto_port=2,
        group="default",
        primary=name == primary,
        authorized=True,
        visible=True,
        read_write=True,
        local=name == local,
    )


@dataclass
class Side:
    """One appliance: its users, their way into the cluster, and its service."""

    users: Users
    following: ClusterUsers
    service: Service
    store: ApplianceStore

    async def restart(self) -> None:
        """Read everything from the disk again, as a new daemon does."""
        self.users = await Users.open(self.store, cheap_hash, cost=LOW_COST_FOR_TESTS)
        self.following = self.users.follow(self.service)

    async def create(self, user_id: str, role: UserRole = UserRole.MONITOR) -> None:
        await self.users.create(user_id, GOOD, role=role, source=SOURCE)

    def names(self) -> set[str]:
        return {user.user_id for user in self.users.all() if not user.builtin}


@asynccontextmanager
async def sides(directory: Path, count: int = 2) -> AsyncIterator[list[Side]]:
    """Yield appliances of one cluster; the first is its primary and has told its users."""
    async with AsyncExitStack() as closing:
        cluster = Cluster(UserMirror(await closing.enter_async_context(store_context(directory))))
        made = []
        for number in range(count):
            store = await ApplianceStore.open(directory / f"appliance{number}.db")
            closing.push_async_callback(store.close)
            users = await Users.open(store, cheap_hash, cost=LOW_COST_FOR_TESTS)
            service = Service(cluster, f"m{number}")
            made.append(Side(users, users.follow(service), service, store))
        await made[0].users.change_own_password("admin", DEFAULT_PASSWORD, GOOD, source=SOURCE)
        for side in made:
            cluster.members.append(side.service.name)
            side.service.stopped = False
            await side.users.pull()
        yield made


async def agree(made: list[Side]) -> None:
    """Let everybody take the newest list, and check that it is the cluster's."""
    listed = await made[0].service.cluster.listed()
    for side in made:
        await side.users.pull()
        assert side.users.records() == listed.users


def play(directory: Path, scene: Callable[[list[Side]], Awaitable[None]], count: int = 2) -> None:
    async def run() -> None:
        async with sides(directory, count) as made:
            await scene(made)

    asyncio.run(run())


def test_a_joiner_takes_the_clusters_users_and_admin_password(tmp_path: Path) -> None:
    async def scene(made: list[Side]) -> None:
        first, second = made
        assert second.users.records() == first.users.records()
        await second.users.authenticate("admin", GOOD, source=SOURCE)
        with pytest.raises(CredentialRefused):
            await second.users.authenticate("admin", DEFAULT_PASSWORD, source=SOURCE)
        await second.restart()
        assert second.users.records() == first.users.records()

    play(tmp_path, scene)


def test_a_change_is_in_the_cluster_before_it_is_acknowledged(tmp_path: Path) -> None:
    async def scene(made: list[Side]) -> None:
        first, second = made
        await second.create("joe")
        assert (await first.service.cluster.listed()).users == second.users.records()
        await first.users.set_enabled("joe", enabled=False)
        await agree(made)
        assert not second.users.get("joe").enabled

    play(tmp_path, scene)


def test_what_the_cluster_refuses_changes_nothing(tmp_path: Path) -> None:
    async def scene(made: list[Side]) -> None:
        _, second = made
        before = second.users.records()
        for fault in (faults.MEMBER_READ_ONLY, faults.PRIMARY_UNREACHABLE):
            second.service.refusals = [NotAllowed(fault, "Not now.")]
            with pytest.raises(NotAllowed) as refusal:
                await second.create("joe")
            assert refusal.value.fault is fault
            assert second.users.records() == before
        second.service.starting = True
        with pytest.raises(NotAllowed) as refusal:
            await second.create("joe")
        assert refusal.value.fault is faults.SERVICE_STOPPED
        second.service.starting = False
        await second.restart()
        assert second.users.records() == before
        assert (await second.service.cluster.listed()).users == before

    play(tmp_path, scene)


def test_a_conflict_is_tried_again_on_the_newest_list(tmp_path: Path) -> None:
    async def scene(made: list[Side]) -> None:
        first, second = made
        meddled = iter(range(RETRIES + 1))

        async def meddle() -> None:
            number = next(meddled)
            if number < RETRIES:
                await first.create(f"first{number}")

        second.service.before_put = meddle
        await second.create("joe")
        await agree(made)
        assert first.names() == {"joe", *(f"first{number}" for number in range(RETRIES))}

    play(tmp_path, scene)


def test_who_meets_a_conflict_each_time_gives_up_and_has_changed_nothing(tmp_path: Path) -> None:
    async def scene(made: list[Side]) -> None:
        first, second = made

        async def meddle() -> None:
            await first.users.update("operator", full_name=os.urandom(4).hex())

        second.service.before_put = meddle
        with pytest.raises(Conflict) as refusal:
            await second.create("joe")
        assert refusal.value.fault is faults.WRITE_CONFLICT
        assert second.service.calls.count("put_users") == RETRIES + 1
        await agree(made)
        assert second.names() == set()

    play(tmp_path, scene)


def test_rules_hold_on_the_newest_list_not_on_the_own_copy(tmp_path: Path) -> None:
    async def scene(made: list[Side]) -> None:
        first, second = made
        await first.create("root2", UserRole.ADMIN)
        await second.users.pull()
        login = await second.users.authenticate("root2", GOOD, source=SOURCE)
        await first.users.set_enabled("root2", enabled=False)
        with pytest.raises(NotAllowed, match="last enabled"):
            await second.users.set_enabled("admin", enabled=False)
        assert second.users.current(login) is not None, "it has not heard of the change yet"
        with pytest.raises(CredentialRefused, match="changed meanwhile"):
            await second.users.change_own_password("root2", GOOD, OTHER, source=SOURCE)
        await first.create("joe")
        with pytest.raises(Conflict) as refusal:
            await second.create("joe")
        assert refusal.value.fault is faults.USER_EXISTS

    play(tmp_path, scene)


def test_logins_hold_for_as_long_as_password_role_and_state_do(tmp_path: Path) -> None:
    async def scene(made: list[Side]) -> None:
        first, second = made
        for name in ("kept", "password", "role", "state", "gone"):
            await first.create(name)
        await second.users.pull()
        logins = {
            name: await second.users.authenticate(name, GOOD, source=SOURCE)
            for name in sorted(second.names())
        }
        await first.users.update("kept", full_name="K")
        await first.users.reset_password("password", OTHER, source=SOURCE)
        await first.users.update("role", role=UserRole.OPERATOR)
        await first.users.set_enabled("state", enabled=False)
        await first.users.set_enabled("state", enabled=True)
        await first.users.delete("gone")
        await second.users.pull()
        held = {name for name, login in logins.items() if second.users.current(login)}
        assert held == {"kept"}
        with pytest.raises(CredentialRefused):
            await second.users.authenticate("password", GOOD, source=SOURCE)

    play(tmp_path, scene)


def test_wrong_passwords_are_counted_by_each_appliance_for_itself(tmp_path: Path) -> None:
    async def scene(made: list[Side]) -> None:
        first, second = made
        for _ in range(5):
            with pytest.raises(CredentialRefused):
                await first.users.authenticate("admin", OTHER, source=SOURCE)
        await agree(made)
        with pytest.raises(Unavailable):
            await first.users.authenticate("admin", GOOD, source=SOURCE)
        await second.users.authenticate("admin", GOOD, source=SOURCE)

    play(tmp_path, scene)


def test_several_members_overwrite_what_one_changed_while_stopped_and_log_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scene(made: list[Side]) -> None:
        first, second = made
        await first.create("shared")
        await second.users.pull()
        second.service.stopped = True
        await second.create("local")
        await second.users.update("shared", full_name="Secret Name")
        await second.users.reset_password("admin", OTHER, source=SOURCE)
        await second.users.authenticate("admin", OTHER, source=SOURCE)
        second.service.stopped = False
        await second.restart()
        await second.users.pull()
        assert second.users.records() == first.users.records()
        await second.users.authenticate("admin", GOOD, source=SOURCE)
        (line,) = [each.getMessage() for each in caplog.records if "overwrote" in each.message]
        assert line.endswith(": admin, local, shared")
        await second.users.pull()
        assert caplog.text.count("overwrote") == 1

    play(tmp_path, scene)


def test_a_cluster_of_one_carries_over_what_was_changed_while_stopped_and_only_that(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scene(made: list[Side]) -> None:
        first, second = made
        for name in ("deleted", "changed", "untouched"):
            await first.create(name)
        await second.users.pull()
        second.service.stopped = True
        await second.create("local")
        await second.users.delete("deleted")
        await second.users.set_enabled("changed", enabled=False)
        # Meanwhile the other one makes a change, then leaves.
        await first.users.update("untouched", full_name="U")
        cluster = second.service.cluster
        cluster.members.remove("m0")
        second.service.stopped = False
        await second.restart()
        # The very first change finds what is not carried over yet.
        await second.create("later")
        assert second.names() == {"changed", "untouched", "local", "later"}
        assert not second.users.get("changed").enabled
        assert second.users.get("untouched").full_name == "U"
        assert (await cluster.listed()).users == second.users.records()
        assert "overwrote" not in caplog.text

    play(tmp_path, scene)


def test_an_appliance_without_a_cluster_changes_its_users_itself(tmp_path: Path) -> None:
    async def scene(made: list[Side]) -> None:
        (only,) = made
        cluster = only.service.cluster
        version = (await cluster.listed()).version
        cluster.members.clear()
        await only.create("joe")
        await only.users.pull()
        assert (await cluster.listed()).version == version
        cluster.members.append("m0")
        await only.users.pull()
        assert (await cluster.listed()).users == only.users.records()
        assert only.names() == {"joe"}

    play(tmp_path, scene, count=1)


def test_only_the_primary_tells_its_users_to_a_cluster_that_has_none(tmp_path: Path) -> None:
    async def scene(made: list[Side]) -> None:
        first, second = made
        cluster = first.service.cluster
        with sqlite3.connect(tmp_path / "cluster.db") as connection:
            connection.execute("DELETE FROM users")
            connection.execute("UPDATE counters SET value = 0 WHERE name = 'users'")
        connection.close()
        before = second.users.records()
        await second.users.pull()
        assert second.users.records() == before
        assert (await cluster.listed()).version == 0
        await first.users.pull()
        assert await cluster.listed() == UserRecords(first.users.records(), version=1)

    play(tmp_path, scene)


def test_an_answer_that_was_lost_says_so_and_the_list_is_fetched(tmp_path: Path) -> None:
    async def scene(made: list[Side]) -> None:
        first, second = made
        second.following.start()
        second.service.lost_answers = 1
        with pytest.raises(Unavailable) as unknown:
            await second.create("joe")
        assert unknown.value.fault is faults.OUTCOME_UNKNOWN
        await until(lambda: "joe" in second.names(), "the list is fetched")
        await second.following.stop()
        await agree(made)
        assert first.names() == {"joe"}

    play(tmp_path, scene)


def test_a_list_without_an_enabled_administrator_is_refused_and_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scene(made: list[Side]) -> None:
        first, second = made
        mine = second.users.records()
        cluster = first.service.cluster
        listed = await cluster.listed()
        for broken in (
            [user for user in listed.users if user.user_id != "admin"],
            [replace_record(user) for user in listed.users],
        ):
            version = (await cluster.listed()).version
            await cluster.mirror.put_users(UserRecords(broken, version), "daemon")
            with pytest.raises(InternalFault):
                await second.users.pull()
            with pytest.raises(ConclaveError):
                await second.users.update("operator", full_name="O")
            assert second.users.records() == mine
        second.following.start()
        second.following.wake()
        await until(lambda: "not taken over" in caplog.text, "it is logged")
        await second.following.stop()
        assert second.users.records() == mine

    play(tmp_path, scene)


def replace_record(record: Any) -> Any:
    """Return a record that this release cannot read."""
    fields = {name: getattr(record, name) for name in record.__struct_fields__}
    return type(record)(**(fields | {"verifier": b"\x01"}))


def test_what_was_refused_is_logged_and_repeated_until_it_is_done(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scene(made: list[Side]) -> None:
        (only,) = made
        service = only.service
        service.stopped = True
        await only.create("joe")
        following = ClusterUsers(only.users._local, service, first_delay_seconds=0.001)
        following.start()
        following.wake()
        await until(lambda: service.calls[-1:] == ["list_members"], "it asks")
        asked = len(service.calls)
        for _ in range(10):
            await asyncio.sleep(0)
        assert len(service.calls) == asked, "a stopped service is not asked before it wakes us"
        service.stopped = False
        busy, broken = Unavailable(faults.BUSY, "Busy."), InternalFault(faults.INTERNAL, "Broken.")
        service.refusals = [busy, broken, RuntimeError("bug")]
        following.wake()
        await until(lambda: not only.users._local.changed, "the users are taken")
        await following.stop()
        assert (await service.cluster.listed()).users == only.users.records()

    play(tmp_path, scene, count=1)
    for message in ("Busy.", "Broken.", "bug"):
        assert message in caplog.text


@pytest.mark.parametrize("seed", range(8))
def test_no_acknowledged_change_is_lost_whatever_the_order(tmp_path: Path, seed: int) -> None:
    async def scene(made: list[Side]) -> None:
        chance = random.Random(seed)
        wanted: dict[str, str | None] = {}

        async def busy(side: Side, own: int) -> None:
            for step in range(12):
                for _ in range(chance.randrange(6)):
                    await asyncio.sleep(0)
                name = f"u{own}x{chance.randrange(4)}"
                before = wanted.get(name)
                gone = before is not None and chance.random() < 0.3
                after = None if gone else f"step {step}"
                if chance.random() < 0.1:
                    side.service.lost_answers = 1
                try:
                    await act(side, name, before, after)
                    known = after
                except ConclaveError as refusal:
                    assert refusal.fault in (faults.WRITE_CONFLICT, faults.OUTCOME_UNKNOWN)
                    found = user_of(from_records((await side.service.cluster.listed()).users), name)
                    known = None if found is None else found.user.full_name
                    assert known in (before, after)
                    assert known == before or refusal.fault is faults.OUTCOME_UNKNOWN
                wanted[name] = known

        async def act(side: Side, name: str, before: str | None, after: str | None) -> None:
            if after is None:
                await side.users.delete(name)
            elif before is None:
                await side.users.create(
                    name, GOOD, role=UserRole.NONE, full_name=after, source=SOURCE
                )
            else:
                await side.users.update(name, full_name=after)

        async def pulling(side: Side) -> None:
            for _ in range(10):
                await side.users.pull()
                await asyncio.sleep(0)

        await asyncio.gather(
            *(busy(side, 2 * at + half) for at, side in enumerate(made) for half in (0, 1)),
            *(pulling(side) for side in made),
        )
        await agree(made)
        found = {user.user_id: user.full_name for user in made[0].users.all() if not user.builtin}
        assert found == {name: text for name, text in wanted.items() if text is not None}

    play(tmp_path, scene)


def test_users_of_an_earlier_release_count_as_changed_here(tmp_path: Path) -> None:
    """What that release had not told its cluster of one must survive the first start."""

    async def scene() -> None:
        store = await ApplianceStore.open(tmp_path / "appliance.db")
        try:
            await store.migrate(COMPONENT, MIGRATIONS[:1])
            await store.run(
                lambda connection: (
                    connection.exec_driver_sql(
                        "INSERT INTO users VALUES ('joe', '', '', 'admin', 0, 1, 0, x'', x'', x'')"
                    )
                    and None
                )
            )
            users = await Users.open(store, cheap_hash, cost=LOW_COST_FOR_TESTS)
            assert [user.user_id for user in users.all()] == ["joe"]
            assert users._local.changed == {"joe"}
        finally:
            await store.close()

    asyncio.run(scene())


# ---- with the real processes
