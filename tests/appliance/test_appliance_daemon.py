"""The daemon as a process: hardened, alone on its directory, and the end of all its children."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from conclave.appliance.appliance import Appliance
from conclave.appliance.daemon import only_daemon
from conclave.appliance.initialize import initialize_appliance
from conclave.appliance.paths import StatePaths
from conclave.errors import Conflict
from conclave.service.messages import ServiceStatus
from conclave.service.quiet import Nothing
from conclave.settings import ApplianceConfig
from tests.support.appliance_bench import (
    authorize,
    is_alive,
    make_config,
    until,
    with_appliance,
)

pytestmark = pytest.mark.system

ROOT = Path(__file__).parents[2]


@contextmanager
def running_daemon(config: ApplianceConfig) -> Iterator[dict[str, int]]:
    """Run a daemon with an authorized cluster; yield its processes' ids."""
    initialize_appliance(config)
    command = [sys.executable, "-m", "tests.support.appliance_daemon", str(config.state_dir)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as daemon:
        assert daemon.stdout is not None
        try:
            yield json.loads(daemon.stdout.readline())
        finally:
            daemon.kill()


def test_c7_killing_the_daemon_ends_its_children_and_the_authorization(tmp_path: Path) -> None:
    config = make_config(tmp_path / "state")
    with running_daemon(config) as pids:
        assert {"daemon", "login", "cluster"} <= pids.keys()
        os.kill(pids["daemon"], signal.SIGKILL)
        children = [pid for name, pid in pids.items() if name != "daemon"]
        asyncio.run(until(lambda: not any(map(is_alive, children)), "the children are gone"))

    async def after(appliance: Appliance) -> None:
        await appliance.cluster.start()
        status: ServiceStatus = await appliance.cluster.call("status", Nothing())
        assert not status.authorized
        assert status.cluster_id
        await authorize(appliance)

    with_appliance(config, after)


def test_no_process_dumps_core_or_is_given_secrets_as_arguments(tmp_path: Path) -> None:
    with running_daemon(make_config(tmp_path / "state")) as pids:
        for name, pid in pids.items():
            limits = Path(f"/proc/{pid}/limits").read_text()
            (core,) = [line for line in limits.splitlines() if line.startswith("Max core")]
            assert core.split()[4:6] == ["0", "0"], name
            arguments = Path(f"/proc/{pid}/cmdline").read_bytes()
            assert b"password" not in arguments, name


def test_the_daemon_forbids_tracing_before_it_holds_a_secret() -> None:
    """A core that is piped to a handler ignores the limit; a process not dumpable has none."""
    script = (
        "import ctypes; from conclave.appliance.daemon import harden_daemon; harden_daemon();"
        "print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))"
    )
    outcome = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True, timeout=60
    )
    assert outcome.stdout.strip() == "0"


def test_a_directory_has_one_daemon(tmp_path: Path) -> None:
    paths = StatePaths(tmp_path / "state")
    paths.make()
    with only_daemon(paths), pytest.raises(Conflict, match="stop it first"), only_daemon(paths):
        pass
    with only_daemon(paths):
        pass


def test_initialising_twice_is_refused_and_half_a_directory_is_completed(tmp_path: Path) -> None:
    config = make_config(tmp_path / "state")
    serial = initialize_appliance(config)
    with pytest.raises(Conflict, match="another directory"):
        initialize_appliance(config)
    StatePaths(config.state_dir).config.unlink()
    assert initialize_appliance(config) == serial
    modes = {path: path.stat().st_mode & 0o077 for path in (tmp_path / "state").rglob("*")}
    assert set(modes.values()) == {0}, modes
