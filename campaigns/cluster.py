"""Random faults in a cluster of real processes under load, and what is held of its promises."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from campaigns.cluster_applications import Application, write_client
from campaigns.cluster_faults import PASSING, TABLE, Faults, kinds
from campaigns.cluster_history import History, longest_stalls, moment, verdict
from campaigns.cluster_house import (
    ISOLATED,
    HouseWithVolumes,
    ServingBench,
    is_isolated,
    prepare_network,
)
from campaigns.cluster_keys import Door, KeyClient, context_of
from campaigns.cluster_load import (
    Load,
    ObjectClient,
    PasswordClient,
    epoch_led_by,
    look,
    watch_primaries,
)
from campaigns.cluster_plan import Blow, Strike, chance_of, strikes
from campaigns.cluster_report import Outcome
from tests.support.cluster_bench import PASSWORD, ClusterBench
from tests.support.several import ended, until

MEMBERS: Final = 3
KEYRINGS: Final = 2
CLIENTS_PER_KEYRING: Final = 2
PASSWORD_CLIENTS: Final = 2
KEY_CLIENTS: Final = 2
APPLICATIONS: Final = (
    ("direct", "one", True),
    ("through one entry", "one", False),
    ("process per signature", "each", True),
)
"""Name, what a process is for, and `LNHDirect`."""
REPORT_EVERY: Final = 10
HEAL_SECONDS: Final = 90.0
CALM_SECONDS: Final = 1.0
END_SECONDS: Final = 60.0
THREADS: Final = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What is wanted: `only` empty means all kinds, `faults` 0 means until the time is over."""

    seed: int
    seconds: float
    faults: int = 0
    only: tuple[str, ...] = ()


class Campaign:
    """One run."""

    def __init__(
        self,
        house: HouseWithVolumes,
        order: Order,
        *,
        say: Callable[[str], None],
        keep: Callable[[Outcome], None],
    ) -> None:
        self._house = house
        self._order = order
        self._kinds = order.only or tuple(kinds(isolated=is_isolated()))
        self._say = say
        self._keep = keep
        self.history = History()
        self._load = Load(house, self.history, chance_of(order.seed, "load"))
        self._faults = Faults(house, self._load, chance_of(order.seed, "faults"), say)
        self._keyrings: list[bytes] = []
        self._password_clients: list[PasswordClient] = []
        self._key_clients: list[KeyClient] = []
        self._applications: list[Application] = []
        self._started = 0.0
        self.slowest_heal = 0.0

    async def run(self) -> Outcome:
        """Make the cluster, load it, break it, and look."""
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(THREADS))
        if is_isolated():
            await prepare_network()
        tasks = await self._begin()
        self._started = time.monotonic()
        try:
            await self._strike_until(self._started + self._order.seconds)
        finally:
            self._load.stopping.set()
            await asyncio.wait(tasks, timeout=END_SECONDS)
            await asyncio.gather(*(one.stop() for one in self._applications))
            for death in self._house.deaths:
                self._say(f"a cluster process ended by itself: {death}")
                self.history.complain("process", f"a cluster process ended by itself: {death}")
        for task in tasks:
            task.result()
        await self._look_everywhere("at the end")
        for client in self._password_clients:
            await until(client.log_in_rightly)
        for keys in self._key_clients:
            await keys.close()
        self._say(f"{dict(sorted(self.history.counts.items()))}")
        for at, epoch, primary, where in self.history.led:
            self._say(f"{at - self._started:.3f} s: epoch {epoch}, primary {primary}, {where}")
        return self._outcome()

    def _outcome(self) -> Outcome:
        signed = {one.name: one.signed for one in self._applications}
        signed["workers"] = [moment for one in self._key_clients for moment in one.signed]
        faults = self.history.fault_times
        ends = {name: [end for _, end in spans] for name, spans in signed.items()}
        return Outcome(
            seed=self._order.seed,
            seconds=time.monotonic() - self._started,
            members=MEMBERS,
            history=self.history,
            broken=verdict(self.history),
            write_stalls=longest_stalls([one.at for one in self.history.acknowledged], faults),
            sign_stalls={name: longest_stalls(made, faults) for name, made in ends.items()},
            slowest_signatures={one.name: one.longest_seconds() for one in self._applications},
            slowest_heal=self.slowest_heal,
        )

    # ------------------------------------------------------------------ the beginning

    async def _begin(self) -> list[asyncio.Task[None]]:
        first = await self._house.first()
        serving = self._house.serving[first.directory]
        identity = await serving.identity()
        first.client_id = identity.client_id
        seed = self._order.seed
        works = []
        for number in range(KEYRINGS):
            keyring, _ = await first.ready_keyring(f"objects-{number}")
            self._keyrings.append(keyring)
            for client in range(CLIENTS_PER_KEYRING):
                chance = chance_of(seed, f"objects {number} {client}")
                works.append(ObjectClient(self._load, keyring, PASSWORD, chance).run)
        for number in range(PASSWORD_CLIENTS):
            keyring, _ = await first.ready_keyring(f"password-{number}")
            chance = chance_of(seed, f"passwords {number}")
            self._password_clients.append(PasswordClient(self._load, keyring, PASSWORD, chance))
        context = context_of(identity, self._house.directory)
        for number in range(KEY_CLIENTS):
            keyring, _ = await first.ready_keyring(f"keys-{number}")
            door, chance = Door(self._house, context), chance_of(seed, f"keys {number}")
            self._key_clients.append(KeyClient(self._load, door, keyring, PASSWORD, chance))
        for number in range(len(APPLICATIONS)):
            await first.ready_keyring(f"application-{number}")
        for _ in range(1, MEMBERS):
            bench = await self._house.join(first)
            bench.client_id = first.client_id
        await self._house.all_read_write()
        await self._start_applications(serving)
        works += [client.run for client in self._password_clients]
        works += [client.run for client in self._key_clients]
        loop = asyncio.get_running_loop()
        tasks = [loop.create_task(work()) for work in works]
        return [*tasks, loop.create_task(watch_primaries(self._load))]

    async def _start_applications(self, first: ServingBench) -> None:
        """Start them one after another, each with another entry member."""
        await until(self._is_whole, HEAL_SECONDS)
        identity = await first.identity("application")
        for number, (name, way, direct) in enumerate(APPLICATIONS):
            directory = self._house.directory / f"application-{number}"
            entry = self._house.members[number % MEMBERS].address
            write_client(directory, identity, entry, direct=direct)
            application = Application(name, directory, self.history, way)
            self._applications.append(application)
            await application.start(f"application-{number}", PASSWORD.decode())

    # ------------------------------------------------------------------ faults

    async def _strike_until(self, end: float) -> None:
        plan = strikes(self._order.seed, self._kinds, passing=self._passing(), members=MEMBERS)
        told = 0
        for strike in plan:
            await asyncio.sleep(strike.calm * CALM_SECONDS)
            await self._strike(strike)
            if not await self._heal():
                return
            await self._look_everywhere("after a fault")
            for sentence in self.history.broken[told:]:
                self._say(f"BROKEN {sentence}")
            told = len(self.history.broken)
            if strike.number % REPORT_EVERY == 0:
                self._tell()
            enough = 0 < self._order.faults <= sum(self.history.faults.values())
            if enough or time.monotonic() >= end:
                return

    def _tell(self) -> None:
        counts = self.history.counts
        self._say(
            f"{moment()} {sum(self.history.faults.values())} faults in"
            f" {time.monotonic() - self._started:.0f} s, {counts['creates']} creates,"
            f" {counts['deletes']} deletes, {len(self.history.broken)} broken promises"
        )
        self._keep(self._outcome())

    def _passing(self) -> list[str]:
        return [kind for kind in PASSING if kind in self._kinds]

    async def _strike(self, strike: Strike) -> None:
        # Members are numbered in the order in which they joined, as the plan counts them.
        pairs = [(blow, self._house.members[blow.member]) for blow in strike.blows]
        self._say(
            f"{moment()} {strike.number}: "
            + " and ".join(
                f"{blow.kind} at {bench.directory.name}"
                f"{' (primary)' * (epoch_led_by(bench) is not None)}"
                for blow, bench in pairs
            )
        )
        self.history.faults.update(blow.kind for blow in strike.blows)
        await asyncio.gather(*(self._make(blow, bench) for blow, bench in pairs))

    async def _make(self, blow: Blow, bench: ClusterBench) -> None:
        begin = time.monotonic()
        try:
            await TABLE[blow.kind](replace(self._faults, chance=blow.chance()), bench)
        except TimeoutError:
            self.history.complain("fault", f"{blow.kind} at {bench.directory.name} did not end")
        self.history.fault_times.append((begin, time.monotonic(), blow.kind))

    async def _heal(self) -> bool:
        """Wait until every member is Read-Write; it is a broken promise when that fails."""
        begin = time.monotonic()
        try:
            await until(self._is_whole, HEAL_SECONDS)
            self._load.absent.clear()
            self._load.cut_off.clear()
            await until(self._is_serving, HEAL_SECONDS)
        except TimeoutError:
            self.history.complain("heal", f"no whole cluster in {HEAL_SECONDS:.0f} s, {moment()}")
            return False
        self.slowest_heal = max(self.slowest_heal, time.monotonic() - begin)
        return True

    async def _is_whole(self) -> bool:
        views = [await self._house.seen_by(bench) for bench in self._house.members]
        if not any(view[b.member_id].authorized for view in views for b in self._house.members):
            # All were down at once: somebody authorizes one of them, and it the others.
            await self._house.members[0].authorize()
        return all(
            len(view) == len(self._house.members)
            and all(member.read_write and member.authorized for member in view.values())
            for view in views
        )

    async def _is_serving(self) -> bool:
        keys = self._key_clients[0]
        return all([await keys.signs_at(bench) for bench in self._house.members])

    async def _look_everywhere(self, why: str) -> None:
        for bench in self._house.members:
            for keyring in self._keyrings:
                await look(self._load, bench, keyring, why)
            for keys in self._key_clients:
                await keys.look(bench)


async def _run(
    directory: Path, order: Order, say: Callable[[str], None], keep: Callable[[Outcome], None]
) -> Outcome:
    async with ended(HouseWithVolumes(directory)) as house:
        try:
            return await Campaign(house, order, say=say, keep=keep).run()
        finally:
            for bench in list(house.members):
                await house.forget(bench)


def run(
    directory: Path,
    order: Order,
    *,
    say: Callable[[str], None],
    keep: Callable[[Outcome], None],
) -> Outcome:
    """Run a campaign below a directory, whose logs stay when a promise was broken.

    `keep` gets what was found so far again and again, so that a run that is ended keeps it.
    """
    return asyncio.run(_run(directory, order, say, keep))


def enter_own_network(say: Callable[[str], None]) -> None:
    """Go on with a network and mounts of one's own; stay if that is refused."""
    tool = shutil.which("unshare")
    if is_isolated() or tool is None or os.geteuid() != 0 or shutil.which("ip") is None:
        return
    if subprocess.run(
        [tool, "--net", "--mount", "true"], check=False, capture_output=True
    ).returncode:
        say("No own network can be made here: no link is cut, and no disk filled.")
        return
    command = [tool, "--net", "--mount", sys.executable, "-m", "campaigns", *sys.argv[1:]]
    os.execve(tool, command, {**os.environ, ISOLATED: "1"})  # noqa: S606 - found above
