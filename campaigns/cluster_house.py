"""The members of a cluster campaign: with workers, as a daemon has them, and with small volumes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from campaigns.cluster_history import moment
from conclave.demo.options import free_loopback_address
from conclave.errors import ConclaveError
from conclave.service.channel import ChannelClient
from conclave.service.messages import AuthorizeResult, Notice, Watch
from conclave.service.page import SharedPage
from conclave.settings import Limits
from conclave.store.postgresql import account as accounts
from tests.support.cluster_bench import ClusterBench
from tests.support.several import Several
from tests.support.worker_bench import WorkerBench, listening

CRYPTO_PORT: Final = 50052
WORKER: Final = "worker-0"
FORMER_WORKER: Final = "former worker-0"
"""One that serves until its successor does."""
WATCH_SECONDS: Final = 0.5
ANSWER_SECONDS: Final = 3.0
PAUSE_SECONDS: Final = 0.1
ISOLATED: Final = "CONCLAVE_CAMPAIGN_ISOLATED"
"""Set in a campaign that has a network and mounts of its own, where it may cut and fill."""
VOLUME_BYTES: Final = 900 << 20
BALLOON_STEP_BYTES: Final = 64 << 10


@dataclass
class ServingBench(WorkerBench):
    """One member with a worker, which follows what the cluster process tells its daemon."""

    core_port: int = 50051
    deaths: list[str] = field(default_factory=list)
    """How cluster processes ended that nobody had ended: shared by the members of a house."""
    _seen: int = 0
    _task: asyncio.Task[None] | None = None

    def follow(self) -> None:
        """Begin to start, replace and stop the worker as a daemon does."""
        self._task = asyncio.get_running_loop().create_task(self._follow())

    async def _follow(self) -> None:
        channel = ChannelClient(self.socket("cluster"), self.secrets["daemon"])
        try:
            while True:
                wanted = Watch(seen=self._seen, seconds=WATCH_SECONDS)
                try:
                    notice: Notice = await channel.call(
                        "watch", wanted, timeout_seconds=ANSWER_SECONDS
                    )
                except ConclaveError:
                    await asyncio.sleep(PAUSE_SECONDS)
                else:
                    self._apply(notice)
                    self._seen = notice.number
                self._respawn()
                self._look_after_cluster_process()
        finally:
            await channel.close()

    def _apply(self, notice: Notice) -> None:
        if notice.removed or not notice.member_certificate_pem:
            self._stop_worker()
            return
        if not notice.smk:
            return  # nobody has authorized it since it started: its worker, if any, stays
        before = self.certificate
        self.certificate = AuthorizeResult(notice.member_certificate_pem, notice.ca_certificate_pem)
        self.member_id = notice.member_id
        if WORKER not in self.processes:
            self.listener.close()
            self.listener = listening(self.address, CRYPTO_PORT)
            self.start_worker()
        elif before != self.certificate:
            self._replace_worker()

    def _replace_worker(self) -> None:
        """Start another one with the new certificate, while the former one still serves.

        A daemon has several and replaces one after another, so that its port is always answered.
        """
        if FORMER_WORKER in self.processes:
            self.kill(WORKER)  # the former one serves for longer, then
        else:
            self.processes[FORMER_WORKER] = self.processes.pop(WORKER)
        self.start_worker()

    def _end_former(self) -> None:
        former = self.processes.get(FORMER_WORKER)
        if former is None:
            return
        if former.poll() is not None:
            self.kill(FORMER_WORKER)
        elif self.processes[WORKER].poll() is None and self._serves(WORKER):
            former.terminate()

    def _serves(self, name: str) -> bool:
        stream = self.processes[name].stdout
        assert stream is not None
        # It says one thing, once, which is left to be read.
        return bool(select.select([stream], [], [], 0)[0])

    def _respawn(self) -> None:
        self._end_former()
        worker = self.processes.get(WORKER)
        if worker is not None and worker.poll() is not None:
            self.kill(WORKER)
            self.start_worker()

    def _look_after_cluster_process(self) -> None:
        """Start one again that ended by itself, as a daemon does, and remember how it ended."""
        process = self.processes.get("cluster")
        if process is not None and (status := process.poll()) is not None:
            self.deaths.append(f"{moment()} {self.directory.name}, pid {process.pid}: {status}")
            self.kill("cluster")
            self.start_cluster(with_smk=True)

    def _stop_worker(self) -> None:
        self.certificate = None
        for name in (WORKER, FORMER_WORKER):
            if name in self.processes:
                self.kill(name)
        # A listening socket would go on taking connections that nobody answers.
        self.listener.close()

    async def close(self) -> None:
        """End all; a process that is stopped, or a connection to it, holds nothing up."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        for name in list(self.processes):
            self.kill(name)
        await super().close()


@dataclass
class HouseWithVolumes(Several):
    """Members each of which has its store on a small volume, if this process may make volumes."""

    serving: dict[Path, ServingBench] = field(default_factory=dict)
    """By directory, the same members."""
    deaths: list[str] = field(default_factory=list)

    def prepare(self, directory: Path) -> None:
        """Make the volume."""
        if not is_isolated():
            return
        volume = volume_of(directory)
        volume.mkdir(mode=0o755, parents=True)
        options = f"size={VOLUME_BYTES},mode=0755"
        command("mount", "-t", "tmpfs", "-o", options, "conclave", str(volume))

    def make(self, directory: Path) -> ClusterBench:
        """Make an appliance whose worker listens where the cluster lists it."""
        address = free_loopback_address()
        listener = listening(address, CRYPTO_PORT)
        bench = ServingBench(
            directory,
            SharedPage.create(),
            postgresql_directory=self.postgresql_directory,
            address=address,
            listener=listener,
            # What writes of unknown outcome leave stays: an hour of them fills a keyring.
            limits=Limits(max_objects=0),
            deaths=self.deaths,
        )
        self.serving[directory] = bench
        bench.follow()
        return bench

    async def forget(self, bench: ClusterBench) -> None:
        """End a member and remove what it had."""
        self.members.remove(bench)
        del self.serving[bench.directory]
        await bench.close()
        await asyncio.to_thread(accounts.remove, bench.directory, accounts.find())
        volume = volume_of(bench.directory)
        if volume.is_mount():
            await asyncio.to_thread(command, "umount", "--lazy", str(volume))
            volume.rmdir()


# ------------------------------------------------------------------ volumes


def command(*words: str) -> None:
    """Run a tool that must succeed."""
    subprocess.run(words, check=True)


def volume_of(directory: Path) -> Path:
    """Return the directory below which a member's PostgreSQL is."""
    return accounts.directories(directory, accounts.find()).data.parent


def fill(balloon: Path) -> None:
    """Take all the space of a volume."""
    with balloon.open("wb") as stream, contextlib.suppress(OSError):
        size = 0
        while True:
            os.posix_fallocate(stream.fileno(), size, BALLOON_STEP_BYTES)
            size += BALLOON_STEP_BYTES


# ------------------------------------------------------------------ network


def is_isolated() -> bool:
    """Tell whether this process may cut links."""
    return bool(os.environ.get(ISOLATED))


async def prepare_network() -> None:
    """Let rules come before the table of local addresses, so that they can cut links."""
    await ip("link", "set", "lo", "up")
    await ip("rule", "add", "pref", "100", "lookup", "local")
    await ip("rule", "del", "pref", "0")


async def ip(*words: str) -> None:
    """Run the network's tool; CalledProcessError with what it said."""
    process = await asyncio.create_subprocess_exec(
        "ip", *words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    _, complaint = await process.communicate()
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, ["ip", *words], stderr=complaint)
