"""Run a daemon without REST as a process of its own: `python -m tests.support.appliance_daemon`.

It makes an authorized cluster on the state directory that is named, says so in one line of JSON on
standard output, and serves until it is ended.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

import msgspec

from conclave.appliance.daemon import harden_daemon, only_daemon, serve
from conclave.appliance.paths import StatePaths
from conclave.settings import ApplianceConfig, load_config
from tests.support.appliance_bench import make_authorized_cluster, silent_doors


async def _serve(config: ApplianceConfig) -> None:
    async with serve(config, silent_doors) as appliance:
        await make_authorized_cluster(appliance)
        line = {"daemon": os.getpid(), **appliance.pids()}
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()
        await asyncio.get_running_loop().create_future()


def main() -> None:
    root = Path(sys.argv[1])
    paths = StatePaths(root)
    harden_daemon()
    with only_daemon(paths):
        asyncio.run(_serve(msgspec.structs.replace(load_config(paths.config), state_dir=root)))


if __name__ == "__main__":
    main()
