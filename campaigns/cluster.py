"""Random faults in a cluster of real processes under load, and what is held of its promises."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from campaigns.cluster_faults import (
    ISOLATED,
    PASSING,
    TABLE,
    Faults,
    HouseWithVolumes,
    is_isolated,
    kinds,
    prepare_network,
)
from campaigns.cluster_history import History, longest_stalls, verdict
from campaigns.cluster_load import (
    Load,
    ObjectClient,
    PasswordClient,
    look,
    moment,
    watch_primaries,
)
from conclave.ids import ClientId
from tests.support.cluster_bench import PASSWORD, ClusterBench
from tests.support.several import ended, until

MEMBERS: Final = 3
KEYRINGS: Final = 2
CLIENTS_PER_KEYRING: Final = 2
PASSWORD_CLIENTS: Final = 2
HEAL_SECONDS: Final = 90.0
TWO_AT_ONCE: Final = 0.2
CALM_SECONDS: Final = 1.0
END_SECONDS: Final = 60.0
THREADS: Final = 32


@dataclass
class Outcome:
    """What a campaign found."""

    seed: int
    seconds: float
    history: History
    broken: list[str]
    stalls: dict[str, float]
    slowest_heal: float

    @property
    def clean(self) -> bool:
        """Tell whether every promise was kept."""
        return not self.broken and self.history.counts["creates"] > 0


class Campaign:
    """One run."""

    def __init__(
        self,
        house: HouseWithVolumes,
        *,
        seed: int,
        seconds: float,
        only: list[str],
        say: Callable[[str], None],
    ) -> None:
        self._house = house
        self._seed = seed
        self._seconds = seconds
        self._kinds = only or kinds(isolated=is_isolated())
        self._say = say
        self.history = History()
        self._load = Load(house, self.history, random.Random(seed))
        self._faults = Faults(house, self._load, random.Random(seed + 1), say)
        self._chance = self._faults.chance
        self._keyrings: list[bytes] = []
        self._password_clients: list[PasswordClient] = []
        self.slowest_heal = 0.0

    async def run(self) -> Outcome:
        """Make the cluster, load it, break it, and look."""
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(THREADS))
        if is_isolated():
            await prepare_network()
        tasks = await self._begin()
        started = time.monotonic()
        try:
            await self._strike_until(started + self._seconds)
        finally:
            self._load.stopping.set()
            await asyncio.wait(tasks, timeout=END_SECONDS)
        for task in tasks:
            task.result()
        await self._look_everywhere("at the end")
        for client in self._password_clients:
            await until(client.log_in_rightly)
        seconds = time.monotonic() - started
        moments = [answer.at for answer in self.history.acknowledged]
        stalls = longest_stalls(moments, self.history.fault_times)
        broken = verdict(self.history)
        return Outcome(self._seed, seconds, self.history, broken, stalls, self.slowest_heal)

    async def _begin(self) -> list[asyncio.Task[None]]:
        first = await self._house.first()
        registered = await first.register()
        first.client_id = ClientId(bytes.fromhex(registered.client.client_id.replace("-", "")))
        for number in range(KEYRINGS):
            keyring, _ = await first.ready_keyring(f"objects-{number}")
            self._keyrings.append(keyring)
        for number in range(PASSWORD_CLIENTS):
            keyring, _ = await first.ready_keyring(f"password-{number}")
            self._password_clients.append(PasswordClient(self._load, keyring, PASSWORD))
        for _ in range(1, MEMBERS):
            bench = await self._house.join(first)
            bench.client_id = first.client_id
        await self._house.all_read_write()
        clients = [
            ObjectClient(self._load, keyring, PASSWORD).run()
            for keyring in self._keyrings
            for _ in range(CLIENTS_PER_KEYRING)
        ]
        clients += [client.run() for client in self._password_clients]
        loop = asyncio.get_running_loop()
        return [loop.create_task(work) for work in (*clients, watch_primaries(self._load))]

    # ------------------------------------------------------------------ faults

    async def _strike_until(self, end: float) -> None:
        number, told = 0, 0
        while time.monotonic() < end:
            await asyncio.sleep(self._chance.random() * CALM_SECONDS)
            number += 1
            await self._strike(number)
            if not await self._heal():
                return
            await self._look_everywhere("after a fault")
            for sentence in self.history.broken[told:]:
                self._say(f"BROKEN {sentence}")
            told = len(self.history.broken)
            if number % 10 == 0:
                counts = self.history.counts
                self._say(
                    f"{moment()} {number} faults, {counts['creates']} creates,"
                    f" {counts['deletes']} deletes, {len(self.history.broken)} broken promises"
                )

    async def _strike(self, number: int) -> None:
        kind = self._chance.choice(self._kinds)
        chosen = [kind]
        passing = [other for other in PASSING if other in self._kinds]
        if kind in passing and self._chance.random() < TWO_AT_ONCE:
            chosen.append(self._chance.choice(passing))
        benches = self._chance.sample(self._house.members, len(chosen))
        self._say(
            f"{moment()} {number}: "
            + " and ".join(
                f"{kind} at {bench.directory.name}{' (primary)' * self._leads(bench)}"
                for kind, bench in zip(chosen, benches, strict=True)
            )
        )
        self.history.faults.update(chosen)
        pairs = zip(chosen, benches, strict=True)
        await asyncio.gather(*(self._make(kind, bench) for kind, bench in pairs))

    async def _make(self, kind: str, bench: ClusterBench) -> None:
        begin = time.monotonic()
        try:
            await TABLE[kind](self._faults, bench)
        except TimeoutError:
            self.history.complain("fault", f"{kind} at {bench.directory.name} did not end")
        self.history.fault_times.append((begin, time.monotonic(), kind))

    def _leads(self, bench: ClusterBench) -> bool:
        return bench.page.lease_end_ms() > 1 << 62

    async def _heal(self) -> bool:
        """Wait until every member is Read-Write; it is a broken promise when that fails."""
        begin = time.monotonic()
        try:
            await until(self._is_whole, HEAL_SECONDS)
        except TimeoutError:
            self.history.complain("heal", f"no whole cluster in {HEAL_SECONDS:.0f} s, {moment()}")
            return False
        took = time.monotonic() - begin
        self.slowest_heal = max(self.slowest_heal, took)
        self._load.absent.clear()
        self._load.cut_off.clear()
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

    async def _look_everywhere(self, why: str) -> None:
        for bench in self._house.members:
            for keyring in self._keyrings:
                await look(self._load, bench, keyring, why)


async def _run(
    directory: Path, *, seed: int, seconds: float, only: list[str], say: Callable[[str], None]
) -> Outcome:
    async with ended(HouseWithVolumes(directory)) as house:
        try:
            return await Campaign(house, seed=seed, seconds=seconds, only=only, say=say).run()
        finally:
            for bench in list(house.members):
                await house.forget(bench)


def run(
    directory: Path, *, seed: int, seconds: float, only: list[str], say: Callable[[str], None]
) -> Outcome:
    """Run a campaign below a directory, whose logs stay when a promise was broken."""
    return asyncio.run(_run(directory, seed=seed, seconds=seconds, only=only, say=say))


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


def report(outcome: Outcome, commit: str) -> list[str]:
    """Return the lines of the report."""
    history = outcome.history
    counts = history.counts
    looks = sum(number for name, number in counts.items() if name.startswith("looks "))
    stalls = sorted(outcome.stalls.items())
    return [
        "# Campaign: cluster",
        "",
        f"Random faults in a cluster of {MEMBERS} members, each with its own PostgreSQL, under",
        "creates, deletes, password changes and logins at random members. After each",
        "acknowledgement and after each fault the visible members are compared with what was",
        "acknowledged.",
        "",
        f"- commit {commit}, seed {outcome.seed}, {outcome.seconds:.0f} s",
        f"- faults: {sum(history.faults.values())} {dict(sorted(history.faults.items()))}",
        f"- acknowledged: {counts['creates']} creates, {counts['deletes']} deletes,"
        f" {counts['password changes']} password changes, {counts['logins']} logins;"
        f" {counts['repeated']} answered from the record of an earlier attempt",
        f"- checked: {looks} looks at a member's store, {counts['objects compared']} objects",
        f"- missing: {counts['missing']}, deleted but present: {counts['undead']},"
        f" changed: {counts['changed']}, wrong passwords: {counts['password']},"
        f" written twice: {counts['idempotency']}",
        "- longest time without an acknowledged write, s: "
        + ", ".join(f"{kind} {seconds:.1f}" for kind, seconds in stalls),
        f"- slowest return of a whole cluster after a fault: {outcome.slowest_heal:.1f} s",
        f"- broken promises: {len(outcome.broken)}",
        *(f"  - {sentence}" for sentence in outcome.broken[:20]),
        "",
    ]
