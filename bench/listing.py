"""Listing all keyrings of a full cluster by both doors: `python -m bench.listing`.

One appliance on SQLite with its real doors; the store is filled directly, as `bench.full_size`
does.  Measured are the pages of REST over one TLS connection, following `Link`, and one `ssh
admin@appliance keyring list` from the start of the program to its end, each the median of three.
Nothing else should run meanwhile; 2 s are allowed.
"""

from __future__ import annotations

import asyncio
import ssl
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import httpx

from bench.full_size import KEYRINGS, OBJECTS, fill
from conclave.appliance.network import bind_socket
from conclave.demo.appliance_steps import certificate_file
from conclave.rest.doors import make_apps
from conclave.rest.server import HttpsDoor
from tests.support.appliance_bench import make_authorized_cluster
from tests.support.rest_house import ADMIN, VENDOR
from tests.support.ssh_house import SshHouse, open_ssh_house

PAGE = 100
RUNS = 3
LIMIT_SECONDS = 2.0


def pages(base_url: str, certificate: Path) -> None:
    """Read all pages a few times, in a process of its own; print how many, and how long each."""
    trusted = ssl.create_default_context(cafile=str(certificate))
    with httpx.Client(base_url=base_url, auth=ADMIN, verify=trusted, timeout=60) as http:
        for _ in range(RUNS):
            begin = time.monotonic()
            found = walk(http)
            print(found, time.monotonic() - begin)


def walk(http: httpx.Client) -> int:
    """Read all pages and return how many keyrings they named."""
    url, found = f"/api/keyrings?limit={PAGE}&offset=0", 0
    while url:
        answer = http.get(url, headers={"Accept": VENDOR}).raise_for_status()
        found += len(answer.json()["data"])
        url = answer.links.get("next", {}).get("url", "")
    return found


def shell(house: SshHouse) -> int:
    """List by LunaSH and return how many keyrings were named."""
    answer = house.ssh("keyring", "list")
    assert answer.status == 0, answer.err
    return int(next(line for line in answer.lines if line.startswith("Keyrings: ")).split()[1])


def median(what: str, expected: int, runs: list[tuple[int, float]]) -> float:
    """Tell the median of a few listings, each of which must have named all keyrings."""
    assert [found for found, _ in runs] == [expected] * RUNS
    seconds = [each for _, each in runs]
    print(f"{what}: {statistics.median(seconds):.2f} s of {sorted(seconds)}", flush=True)
    return statistics.median(seconds)


def timed(work: Callable[[], int]) -> tuple[int, float]:
    """Return a result and the seconds it took."""
    begin = time.monotonic()
    return work(), time.monotonic() - begin


async def told_by(*arguments: str) -> list[tuple[int, float]]:
    """Return what `pages` prints in a process of its own, beside the doors in this one."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.listing", "pages", *arguments),
        stdout=asyncio.subprocess.PIPE,
    )
    said, _ = await process.communicate()
    rows = [line.split() for line in said.decode().splitlines()]
    return [(int(found), float(seconds)) for found, seconds in rows]


def make_keyrings(house: SshHouse, keyrings: int, objects: int) -> None:
    """Make a cluster of this size; its service stands still while the store is filled."""
    appliance = house.appliance
    house.loop.run(make_authorized_cluster(appliance))
    house.loop.run(appliance.cluster.stop())
    fill(appliance.paths.cluster, keyrings + 1, objects)
    house.loop.run(appliance.cluster.start())


def run(keyrings: int, objects: int) -> list[float]:
    """Measure both doors and return their medians, in seconds."""
    with (
        tempfile.TemporaryDirectory(prefix="conclave-listing-") as name,
        open_ssh_house(Path(name)) as house,
    ):
        make_keyrings(house, keyrings, objects)
        appliance, loop = house.appliance, house.loop
        door = HttpsDoor(make_apps(appliance)[0], max_connections=64)
        listener = bind_socket(house.address, 0, what="REST")
        listener.listen()
        url = f"https://{house.address}:{listener.getsockname()[1]}"
        loop.run(door.start([listener], appliance.rest_tls_context()))
        certificate = certificate_file(appliance.config.state_dir)
        try:
            rest = loop.run(told_by(url, str(certificate)))
            shells = [timed(lambda: shell(house)) for _ in range(RUNS)]
            return [
                median(f"REST, pages of {PAGE}", keyrings, rest),
                median("LunaSH, one command by ssh", keyrings, shells),
            ]
        finally:
            loop.run(door.stop(deadline_seconds=5))


def main() -> int:
    """Measure with as many keyrings and objects each as are named; 1 when it takes too long."""
    if sys.argv[1:2] == ["pages"]:
        pages(sys.argv[2], Path(sys.argv[3]))
        return 0
    keyrings, objects = (int(each) for each in sys.argv[1:3] or (KEYRINGS, OBJECTS))
    print(f"{keyrings} keyrings of {objects} objects", flush=True)
    return int(max(run(keyrings, objects)) > LIMIT_SECONDS)


if __name__ == "__main__":
    sys.exit(main())
