"""The faults of a cluster campaign: each is made, holds for a while, and is undone.

Invariant: when a fault's coroutine has ended, whatever it stopped runs again and whatever it cut is
whole; a member that it took out of the cluster is in it again, or a new one in its place.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
import signal
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from campaigns.cluster_history import moment
from campaigns.cluster_house import WORKER, HouseWithVolumes, fill, ip, volume_of
from campaigns.cluster_load import Load
from conclave.errors import ConclaveError
from conclave.faults import MEMBERS_UNREACHABLE
from conclave.service.messages import DeleteMember, Notice, PromoteMember, Watch
from conclave.service.quiet import Nothing
from tests.support.cluster_bench import ClusterBench
from tests.support.several import until

LONGEST_SECONDS: Final = 6.0
UNFORCED_SECONDS: Final = 40.0
"""So long a deletion may be refused before an administrator would force it."""
SKEWS_MS: Final = (-3_600_000, -20_000, 20_000, 3_600_000)

Fault = Callable[["Faults", ClusterBench], Awaitable[None]]


@dataclass
class Faults:
    """What a campaign can do to a member."""

    house: HouseWithVolumes
    load: Load
    chance: random.Random
    say: Callable[[str], None]
    rules: Counter[str] = field(default_factory=Counter)

    async def hold(self, longest: float = LONGEST_SECONDS) -> None:
        """Let a fault hold for a random time: short ones as often as long ones."""
        await asyncio.sleep(
            self.chance.choice([0.3, 1.0, 2.0, 3.0, longest]) * self.chance.uniform(0.3, 1.0)
        )

    # ------------------------------------------------------------------ processes

    async def kill(self, bench: ClusterBench) -> None:
        """Kill the cluster process, and start it again, as a daemon does or as after a reboot."""
        await asyncio.to_thread(bench.kill, "cluster")
        await self.hold()
        bench.start_cluster(with_smk=self.chance.random() < 0.5)

    async def kill_worker(self, bench: ClusterBench) -> None:
        """Kill the worker; whoever looks after it starts it again."""
        signal_all(worker_of(bench), signal.SIGKILL)
        await self.hold(1.0)

    async def hang_worker(self, bench: ClusterBench) -> None:
        """Stop the worker, and let it go on."""
        await self._stopped(worker_of(bench))

    async def kill_postgresql(self, bench: ClusterBench) -> None:
        """Kill PostgreSQL, or one of its processes."""
        pids = postgresql_of(bench)
        if pids:
            pid = self.chance.choice([pids[0], self.chance.choice(pids)])
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        await self.hold(1.0)

    async def hang(self, bench: ClusterBench) -> None:
        """Stop the cluster process, and let it go on."""
        await self._stopped([bench.processes["cluster"].pid])

    async def hang_postgresql(self, bench: ClusterBench) -> None:
        """Stop PostgreSQL, and let it go on."""
        await self._stopped(postgresql_of(bench))

    async def hang_all(self, bench: ClusterBench) -> None:
        """Stop all of a member, and let it go on."""
        others = [process.pid for process in bench.processes.values()]
        await self._stopped([*others, *postgresql_of(bench)])

    async def _stopped(self, pids: list[int]) -> None:
        signal_all(pids, signal.SIGSTOP)
        try:
            await self.hold()
        finally:
            signal_all(pids, signal.SIGCONT)

    async def disk_full(self, bench: ClusterBench) -> None:
        """Take all the space of the volume with a member's store."""
        balloon = volume_of(bench.directory) / "balloon"
        await asyncio.to_thread(fill, balloon)
        try:
            await self.hold()
        finally:
            balloon.unlink()

    # ------------------------------------------------------------------ network and clock

    async def isolate(self, bench: ClusterBench) -> None:
        """Cut a member off from all others."""
        async with self._cut(bench, self._others(bench)):
            await self.hold()

    async def part(self, bench: ClusterBench) -> None:
        """Cut the link between two members."""
        async with self._cut(bench, [self.chance.choice(self._others(bench))]):
            await self.hold()

    @asynccontextmanager
    async def _cut(self, bench: ClusterBench, others: list[ClusterBench]) -> AsyncIterator[None]:
        pairs = [(bench.address, other.address) for other in others]
        pairs += [(there, here) for here, there in pairs]
        rules = [f"from {one} to {other} pref 10 blackhole" for one, other in pairs]
        # Two faults at once may cut the same link: it is whole when both are over.
        # Who begins with a rule makes it, which is told before anything is waited for.
        self.rules.update(rules)
        for rule in [rule for rule in rules if self.rules[rule] == 1]:
            await ip("rule", "add", *rule.split())
        try:
            yield
        finally:
            self.rules.subtract(rules)
            for rule in [rule for rule in rules if not self.rules[rule]]:
                await ip("rule", "del", *rule.split())

    async def skew(self, bench: ClusterBench) -> None:
        """Set a member's appliance clock wrong, and right again."""
        bench.page.set_appliance_offset(self.chance.choice(SKEWS_MS))
        bench.clock_offset_ms = bench.page.appliance_offset_ms()
        await self.hold()
        if self.chance.random() < 0.5:
            await asyncio.to_thread(bench.kill, "cluster")
            bench.start_cluster()
            await until(lambda: self._is_ready(bench))
            await self.hold()
        bench.clock_offset_ms = 0
        bench.page.set_appliance_offset(0)

    async def _is_ready(self, bench: ClusterBench) -> bool:
        await bench.ready()
        return True

    # ------------------------------------------------------------------ members

    def _others(self, bench: ClusterBench) -> list[ClusterBench]:
        return [other for other in self.house.members if other is not bench]

    async def promote(self, bench: ClusterBench) -> None:
        """Promote a member, asked at any."""
        at = self.chance.choice(self.house.members)
        request = PromoteMember(member_id=bench.member_id)
        await self._try("promote", at.daemon.call("promote", request, timeout_seconds=20))

    async def leave(self, bench: ClusterBench) -> None:
        """Let a member leave and join again."""
        self.load.absent.add(bench.directory)
        done = await self._try("leave", bench.daemon.call("leave", Nothing(), timeout_seconds=40))
        if not done:
            await until(lambda: self._answers(bench), 60)
            if (await self._notice(bench)).removed != "left":
                self.load.absent.discard(bench.directory)
                return
        bench.page.set_authorized(False)

        async def join() -> bool:
            await self.house.join_with(bench, self.chance.choice(self._others(bench)))
            return True

        await until(join, 60)

    async def delete(self, bench: ClusterBench) -> None:
        """Kill a member for good, delete it, let it come back once, and join a new one."""
        self.load.absent.add(bench.directory)
        await asyncio.to_thread(bench.kill, "cluster")
        await self._deleted_by_others(bench)
        if self.chance.random() < 0.5:
            bench.start_cluster()
            await until(lambda: self._knows_deletion(bench))
        await self._replace(bench)

    async def usurp(self, bench: ClusterBench) -> None:
        """Delete a member that is cut off but serves its clients; it must end when it returns."""
        self.load.cut_off.add(bench.directory)
        async with self._cut(bench, self._others(bench)):
            await self._deleted_by_others(bench)
            await self.hold()
        await until(lambda: self._knows_deletion(bench))
        self.load.absent.add(bench.directory)
        await self._refuses_writes(bench)
        await self._replace(bench)

    async def _deleted_by_others(self, bench: ClusterBench) -> None:
        remaining = self._others(bench)

        async def unseen() -> bool:
            views = [await self.house.seen_by(other) for other in remaining]
            return not any(view[bench.member_id].visible for view in views)

        async def deleted(force: bool) -> bool:
            at = self.chance.choice(remaining)
            if bench.member_id not in await self.house.seen_by(at):
                return True
            request = DeleteMember(member_id=bench.member_id, force=force)
            try:
                await at.daemon.call("delete_member", request, timeout_seconds=30)
            except ConclaveError as error:
                refusals.append(error)
                self.say(f"{moment()} deletion: {error.message}")
                return False
            return True

        refusals: list[ConclaveError] = []
        await until(unseen)
        try:
            await until(lambda: deleted(False), UNFORCED_SECONDS)
        except TimeoutError:
            # Only what says itself that it can be forced is: the last epoch's record has reached
            # nobody but the one that is lost, for instance.
            if not refusals or refusals[-1].fault is not MEMBERS_UNREACHABLE:
                raise
            self.load.history.counts["deletions forced"] += 1
            await until(lambda: deleted(True), 60)

    async def _refuses_writes(self, bench: ClusterBench) -> None:
        label = f"after-the-end-{self.chance.random()}"
        with contextlib.suppress(ConclaveError):
            await bench.make_keyrings(label)
            self.load.history.complain("deleted", f"member {bench.member_id} writes, {moment()}")

    async def _knows_deletion(self, bench: ClusterBench) -> bool:
        return (await self._notice(bench)).removed == "deleted"

    async def _answers(self, bench: ClusterBench) -> bool:
        await self._notice(bench)
        return True

    async def _notice(self, bench: ClusterBench) -> Notice:
        answer: Notice = await bench.daemon.call("watch", Watch(seen=0, seconds=1))
        return answer

    async def _replace(self, bench: ClusterBench) -> None:
        house = self.house
        client_id = bench.client_id
        await house.forget(bench)
        await asyncio.to_thread(keep_logs_alone, bench.directory)
        newcomer = await house.alone()
        newcomer.client_id = client_id
        self.load.absent.add(newcomer.directory)

        async def join() -> bool:
            await house.join_with(newcomer, self.chance.choice(self._others(newcomer)))
            return True

        await until(join, 60)

    async def _try(self, what: str, work: Awaitable[object]) -> bool:
        try:
            await work
        except ConclaveError as error:
            self.load.history.counts[f"{what}: {error.fault.rest_id}"] += 1
            self.say(f"{moment()} {what}: {error.message}")
            return False
        return True


TABLE: Final[dict[str, Fault]] = {
    "kill": Faults.kill,
    "kill PostgreSQL": Faults.kill_postgresql,
    "kill worker": Faults.kill_worker,
    "hang": Faults.hang,
    "hang PostgreSQL": Faults.hang_postgresql,
    "hang worker": Faults.hang_worker,
    "hang all": Faults.hang_all,
    "disk full": Faults.disk_full,
    "isolate": Faults.isolate,
    "part": Faults.part,
    "skew": Faults.skew,
    "promote": Faults.promote,
    "leave and join": Faults.leave,
    "delete and join": Faults.delete,
    "delete when cut off": Faults.usurp,
}

NEED_ROOM: Final = ("isolate", "part", "delete when cut off", "disk full")

PASSING: Final = (
    *("kill", "kill PostgreSQL", "kill worker", "hang", "hang PostgreSQL", "hang worker"),
    *("isolate", "part", "skew"),
)
"""Faults of which two may come at once, at different members."""


def kinds(*, isolated: bool) -> list[str]:
    """Return the faults that can be made here."""
    return [kind for kind in TABLE if isolated or kind not in NEED_ROOM]


# ------------------------------------------------------------------ processes


def _parents() -> Iterator[tuple[int, int, str]]:
    """Yield pid, parent and name of every process."""
    for path in Path("/proc").glob("[0-9]*"):
        try:
            text = (path / "stat").read_text()
        except OSError:
            continue
        name, _, rest = text.partition("(")[2].rpartition(")")
        yield int(path.name), int(rest.split()[1]), name


def postgresql_of(bench: ClusterBench) -> list[int]:
    """Return the pids of a member's PostgreSQL, its main process first."""
    processes = list(_parents())
    cluster = bench.processes["cluster"].pid
    found = [pid for pid, parent, name in processes if parent == cluster and name == "postgres"]
    return [*found, *(pid for pid, parent, _ in processes if parent in found)]


def worker_of(bench: ClusterBench) -> list[int]:
    """Return the pid of a member's worker, if it has one at present."""
    return [bench.processes[WORKER].pid] if WORKER in bench.processes else []


def keep_logs_alone(directory: Path) -> None:
    """Remove a member's directory, but for the logs that say what it went through."""
    for path in directory.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.suffix != ".log":
            path.unlink()


def signal_all(pids: list[int], number: signal.Signals) -> None:
    """Signal processes, those that are gone apart."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
