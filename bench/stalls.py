"""How long writers stand still while something fails: `python -m bench.stalls [REPEATS [FAULT]]`.

Three members on one machine; a client of each of several members changes a keyring again and again,
and tries a change that is refused anew until it is done.  A stall is the longest time from the
first attempt of a change to its answer.  Nothing else should run meanwhile.
"""

from __future__ import annotations

import asyncio
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from conclave import faults
from conclave.demo import isolation, processes
from conclave.errors import ConclaveError, Unavailable
from conclave.service.messages import PromoteMember
from tests.support.cluster_bench import ClusterBench
from tests.support.several import Several, several

REPEATS = 3
BEFORE_SECONDS = 0.5
WATCH_SECONDS = 4.0
KEYRING = "written"
PAUSE_SECONDS = 0.005


@dataclass
class Writer:
    """A client of one member that writes without a break."""

    bench: ClusterBench
    _begun: float = 0.0
    _longest: float = 0.0

    def start_measuring(self) -> None:
        """Forget what was before; a write under way counts from now on."""
        self._longest, self._begun = 0.0, time.monotonic()

    @property
    def longest(self) -> float:
        """Return the longest time of a write, one under way included, in seconds."""
        return max(self._longest, time.monotonic() - self._begun)

    async def run(self) -> None:
        """Write for ever."""
        while True:
            self._begun = time.monotonic()
            while not await self._is_written():  # noqa: ASYNC110
                await asyncio.sleep(PAUSE_SECONDS)  # refused: it is tried again
            self._longest = self.longest

    async def _is_written(self) -> bool:
        try:
            await self.bench.unlock(KEYRING)
        except ConclaveError as error:
            if not isinstance(error, Unavailable) and error.fault is not faults.MEMBER_READ_ONLY:
                raise
            return False
        return True


@dataclass
class Scene:
    """Three members, of which the first is primary and a fault meets the last or the first."""

    house: Several
    seconds: dict[str, list[float]] = field(default_factory=dict)

    @property
    def primary(self) -> ClusterBench:
        """Return who is primary between two measurements."""
        return self.house.members[0]

    @property
    def other(self) -> ClusterBench:
        """Return the member that faults meet."""
        return self.house.members[2]

    def note(self, what: str, seconds: float) -> None:
        """Keep a measured time."""
        self.seconds.setdefault(what, []).append(seconds)
        print(f"{what}: {seconds:.2f} s", flush=True)

    @asynccontextmanager
    async def writers(self, what: str, *members: ClusterBench) -> AsyncIterator[None]:
        """Write through these members meanwhile, and note the longest stall."""
        writers = [Writer(bench) for bench in members]
        tasks = [asyncio.create_task(writer.run()) for writer in writers]
        await asyncio.sleep(BEFORE_SECONDS)
        for writer in writers:
            writer.start_measuring()
        yield
        await asyncio.sleep(WATCH_SECONDS)
        self.note(what, max(writer.longest for writer in writers))
        for task in tasks:
            task.cancel()
        for outcome in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(outcome, ConclaveError):
                raise outcome


def _processes(bench: ClusterBench) -> list[int]:
    return processes.family(bench.processes["cluster"].pid)


def _postgresql(bench: ClusterBench) -> list[int]:
    return processes.named(bench.processes["cluster"].pid, "postgres")


async def kill(scene: Scene) -> None:
    """Kill a member and start it again at once."""
    other = scene.other
    async with scene.writers("a member killed", *scene.house.members[:2]):
        other.kill("cluster")
    begin = time.monotonic()
    other.start_cluster()
    await scene.house.all_read_write()
    scene.note("a killed member Read-Write again, from its start", time.monotonic() - begin)


async def hang(scene: Scene) -> None:
    """Let all processes of a member stand still."""
    held = _processes(scene.other)
    async with scene.writers("a member hung", *scene.house.members[:2]):
        processes.send(held, signal.SIGSTOP)
    processes.send(held[::-1], signal.SIGCONT)
    await scene.house.all_read_write()


async def isolate(scene: Scene) -> None:
    """Cut a member off at its core port, without a word to anybody; needs root."""
    address, *others = (bench.address for bench in (scene.other, *scene.house.members[:2]))
    try:
        async with scene.writers("a member cut off", *scene.house.members[:2]):
            await asyncio.to_thread(isolation.isolate, address, others, scene.other.core_port)
    finally:
        await asyncio.to_thread(isolation.heal, [address])
    await scene.house.all_read_write()


async def hang_copy(scene: Scene) -> None:
    """Let the PostgreSQL of a member that is not primary stand still."""
    async with scene.writers("PostgreSQL hung, of another member", *scene.house.members[:2]):
        processes.send(_postgresql(scene.other), signal.SIGSTOP)
    await scene.house.all_read_write()


async def hang_primary(scene: Scene) -> None:
    """Let the PostgreSQL of the primary stand still."""
    async with scene.writers("PostgreSQL hung, of the primary", *scene.house.members[:2]):
        processes.send(_postgresql(scene.primary), signal.SIGSTOP)
    await scene.house.all_read_write()


async def promote(scene: Scene) -> None:
    """Hand the primary's role on under load, and back."""
    second = scene.house.members[1]
    for target in (second, scene.primary):
        async with scene.writers("promotion", *scene.house.members):
            request = PromoteMember(member_id=target.member_id)
            await scene.other.daemon.call("promote", request, timeout_seconds=20)
        await scene.house.all_read_write()


FAULTS: dict[str, Callable[[Scene], Awaitable[None]]] = {
    each.__name__: each for each in (kill, hang, isolate, hang_copy, hang_primary, promote)
}


async def run(repeats: int, names: list[str]) -> None:
    """Measure, and print a table at the end."""
    with tempfile.TemporaryDirectory(prefix="conclave-stalls-") as directory:
        async with several(Path(directory)) as house:
            first = await house.first()
            await first.make_keyrings(KEYRING)
            await house.join(first)
            await house.join(first)
            await house.all_read_write()
            scene = Scene(house)
            for _ in range(repeats):
                for name in names:
                    await FAULTS[name](scene)
    print("\n| what | median, s | longest, s | runs |\n|---|---|---|---|")
    for what, seconds in scene.seconds.items():
        middle = statistics.median(seconds)
        print(f"| {what} | {middle:.2f} | {max(seconds):.2f} | {len(seconds)} |")


if __name__ == "__main__":
    count, *chosen = sys.argv[1:] or [str(REPEATS)]
    asyncio.run(run(int(count), chosen or list(FAULTS)))
