"""Memory of an idle appliance with an authorized cluster of one: `python -m bench.idle_memory`.

SQLite, two workers, the default cost of passwords.  The daemon runs as `conclave appliance run`
starts it; the member is authorized through LunaSH, so that everything an administrator needs has
been loaded once.  Printed is the proportional set size of each process, and their sum; the status
is 1 when the sum is above the limit.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
from pathlib import Path

import asyncssh

from bench.process_memory import alone_mb, command_of, tree_pss_mb
from conclave.appliance.appliance import open_appliance
from conclave.appliance.paths import StatePaths
from conclave.appliance.users import DEFAULT_PASSWORD
from conclave.settings import ApplianceConfig, write_config
from tests.support.appliance_bench import make_authorized_cluster, make_config, until
from tests.support.hsm_bench import CO

LIMIT_MB = 200.0
PASSWORD = "Administrator-1"
IDLE_SECONDS = 10.0
"""What a start leaves behind is given time to go."""


async def prepare(config: ApplianceConfig) -> None:
    """Make a cluster that starts with the appliance."""
    async with open_appliance(config) as appliance:
        await make_authorized_cluster(appliance)
        await appliance.cluster.set_on_boot(True)
        await appliance.users.change_own_password(
            "admin", DEFAULT_PASSWORD, PASSWORD, source="192.0.2.1"
        )
    write_config(config, StatePaths(config.state_dir).config)


async def authorize(config: ApplianceConfig) -> None:
    """Authorize the member in a session of LunaSH; wait until its service runs."""
    (address,) = config.interfaces.values()
    async with (
        asyncio.timeout(120),
        asyncssh.connect(
            address,
            config.ssh.port,
            username="admin",
            password=PASSWORD,
            known_hosts=None,
            config=None,
            client_keys=None,
        ) as connection,
    ):
        line = f"cluster member authorize -partition par -copassword {CO.decode()}"
        while (answer := await connection.run(line)).exit_status != 0:
            print("waiting: " + " ".join(str(answer.stdout).split()), flush=True)
            await asyncio.sleep(1)


async def settle(config: ApplianceConfig, ready: Path) -> None:
    """Bring the daemon that has just been started to rest."""
    await until(ready.exists, "the daemon serves")
    await authorize(config)
    await asyncio.sleep(IDLE_SECONDS)


def measure(config: ApplianceConfig) -> float:
    """Run the daemon, print what each process has, and return the sum in MB."""
    paths = StatePaths(config.state_dir)
    command = [sys.executable, "-m", "conclave.cli", "appliance", "run", "--state", str(paths.root)]
    with subprocess.Popen(command) as daemon:
        try:
            asyncio.run(settle(config, paths.ready))
            sizes = tree_pss_mb(daemon.pid)
            alone = alone_mb(sizes)
            for pid, size in sizes.items():
                print(f"{size:7.1f} MB  {command_of(pid)}")
        finally:
            daemon.terminate()
    total = sum(sizes.values())
    print(f"{total:7.1f} MB  proportional set size of all")
    print(f"{alone:7.1f} MB  with what is shared with programs outside the appliance counted whole")
    return total


def main() -> None:
    """Measure in a temporary directory."""
    with tempfile.TemporaryDirectory(prefix="conclave-idle-") as name:
        config = make_config(Path(name) / "state", low_cost_for_tests=False)
        asyncio.run(prepare(config))
        sys.exit(0 if measure(config) < LIMIT_MB else 1)


if __name__ == "__main__":
    main()
