"""The appliance daemon: it holds the HSM, serves the REST doors and keeps every process alive.

Invariant: the daemon is the parent of every process of the appliance, and none outlives it; it can
be neither traced nor dumped, since it holds the SMK while the member is authorized.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import fcntl
import json
import logging
import os
import resource
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Final, cast

from conclave import faults
from conclave.appliance.appliance import Appliance, open_appliance
from conclave.appliance.doors import Doors
from conclave.appliance.network import bind_all
from conclave.appliance.paths import StatePaths
from conclave.appliance.rest_listener import RestListener
from conclave.appliance.tls import write_private
from conclave.errors import Conflict
from conclave.service.bootstrap import configure_logging, give_memory_back
from conclave.settings import ApplianceConfig

STOP_SECONDS: Final = 30.0
DOOR_STOP_SECONDS: Final = 3.0

_PR_SET_DUMPABLE: Final = 4
_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)

MakeDoors = Callable[[Appliance], Doors]

_log = logging.getLogger(__name__)


def run_appliance(config: ApplianceConfig) -> None:
    """Run the daemon until SIGTERM or SIGINT; logs go to the state directory."""
    paths = StatePaths(config.state_dir)
    paths.make()
    harden_daemon()
    configure_logging(paths.log("daemon"))
    with only_daemon(paths):
        asyncio.run(_serve_until_signal(config))


def harden_daemon() -> None:
    """Forbid tracing and core dumps. Unlike its children, the daemon outlives who started it."""
    os.umask(0o077)
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


@contextlib.contextmanager
def only_daemon(paths: StatePaths) -> Iterator[None]:
    """Hold the state directory's lock; raise Conflict when another daemon runs on it."""
    descriptor = os.open(paths.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _lock(descriptor, paths)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, paths: StatePaths) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        message = f"Another daemon runs on {paths.root}; stop it first."
        raise Conflict(faults.SERVICE_FAILED, message) from None


@contextlib.asynccontextmanager
async def serve(
    config: ApplianceConfig, make_doors: MakeDoors | None = None
) -> AsyncIterator[Appliance]:
    """Open the appliance and its doors, and start the cluster service if it is enabled."""
    async with open_appliance(config) as appliance:
        doors = (make_doors or _load_doors())(appliance)
        appliance.cluster.attach_admin_door(doors.admin)
        addresses = sorted(set(config.interfaces.values()))
        rest = RestListener(config, appliance.webserver, doors.rest, appliance.rest_tls_context())
        sockets = rest.bind()
        shell_sockets = (
            bind_all(addresses, config.ssh.port, what="LunaSH") if doors.shell is not None else []
        )
        await rest.start(sockets)
        if doors.shell is not None:
            await doors.shell.start(shell_sockets)
        booting = asyncio.create_task(appliance.cluster.start_on_boot())
        try:
            _announce(appliance)
            yield appliance
        finally:
            appliance.paths.ready.unlink(missing_ok=True)
            booting.cancel()
            await asyncio.wait({booting})
            if doors.shell is not None:
                await doors.shell.stop(deadline_seconds=DOOR_STOP_SECONDS)
            await rest.stop()


async def _serve_until_signal(config: ApplianceConfig) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in _SIGNALS:
        loop.add_signal_handler(number, stop.set)
    async with serve(config):
        _log.info("the appliance serves")
        give_memory_back()
        await stop.wait()
        _log.info("the appliance stops")
        # Whatever hangs, a stop ends: the children die with this process.
        loop.call_later(STOP_SECONDS, os._exit, 1)


def _load_doors() -> MakeDoors:
    from conclave.doors import make_doors

    return cast(MakeDoors, make_doors)


def _announce(appliance: Appliance) -> None:
    """Say that the appliance serves; `ready.json` is for scripts that wait for it."""
    config = appliance.config
    ready: dict[str, object] = {
        "pid": os.getpid(),
        "hsmSerial": appliance.hsm.info().serial,
        "addresses": sorted(set(config.interfaces.values())),
        "restPort": config.rest_port,
        "sshPort": config.ssh.port if config.ssh.enabled else None,
    }
    write_private(Path(appliance.paths.ready), json.dumps(ready).encode())
