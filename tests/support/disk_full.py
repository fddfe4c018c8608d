"""Fill the disk of a follower, then of the primary: `python -m tests.support.disk_full DIRECTORY`.

It needs root and mounts of its own; the test runs it with `unshare --mount`.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from pathlib import Path

import psycopg

from campaigns.cluster_house import HouseWithVolumes, fill, volume_of
from conclave import faults
from conclave.errors import ConclaveError
from conclave.store.location import StoreLocation, open_reader
from tests.support.cluster_bench import ClusterBench
from tests.support.several import Several, ended, until

CLEAR = {
    faults.STORAGE_FULL,
    faults.POSTGRESQL_UNAVAILABLE,
    faults.OUTCOME_UNKNOWN,
    faults.BUSY,
    faults.PRIMARY_UNREACHABLE,
}


class Writer:
    """Creates keyrings at one member and remembers which were acknowledged."""

    def __init__(self, at: ClusterBench) -> None:
        self.at = at
        self.number = 0
        self.acknowledged: list[str] = []
        self.refused: list[ConclaveError] = []

    async def write(self) -> bool:
        """Create one more keyring, and begin a new file of the log, for which there is no room."""
        self.number += 1
        label = f"ring{self.number}"
        try:
            await self.at.make_keyrings(label)
            self.acknowledged.append(label)
            await asyncio.to_thread(switch_log, self.at)
        except ConclaveError as error:
            assert error.fault in CLEAR, error
            self.refused.append(error)
            return False
        return True

    async def all_there(self, house: Several) -> None:
        """Hold every acknowledged keyring against every member's own copy."""
        for bench in house.members:
            labels = await asyncio.to_thread(labels_of, bench)
            assert set(self.acknowledged) <= labels


def labels_of(bench: ClusterBench) -> set[str]:
    reader = open_reader(StoreLocation(bench.directory))
    try:
        return {row.label for row in reader.keyrings()}
    finally:
        reader.close()


def switch_log(bench: ClusterBench) -> None:
    run_dir = StoreLocation(bench.directory).choice().run_dir
    # A server that has no room left may be away just now.
    with (
        contextlib.suppress(psycopg.OperationalError),
        psycopg.connect(
            host=run_dir, user="conclave", dbname="postgres", autocommit=True, connect_timeout=5
        ) as connection,
    ):
        connection.execute("SELECT pg_switch_wal()")


async def follower_full(house: Several, writer: Writer, follower: ClusterBench) -> None:
    """The cluster goes on without it, and takes it back by itself."""
    balloon = volume_of(follower.directory) / "balloon"
    await asyncio.to_thread(fill, balloon)

    async def dropped() -> bool:
        await writer.write()
        return not (await house.seen_by(writer.at))[follower.member_id].read_write

    await until(dropped, 60)
    for _ in range(3):
        await until(writer.write)
    balloon.unlink()
    await until_whole(house)
    await writer.all_there(house)


async def primary_full(house: Several, writer: Writer, primary: ClusterBench) -> None:
    """Writes are refused in clear words until there is room; then all goes on by itself."""
    balloon = volume_of(primary.directory) / "balloon"
    await asyncio.to_thread(fill, balloon)
    writer.refused.clear()

    async def refused() -> bool:
        await writer.write()
        return bool(writer.refused)

    await until(refused, 60)
    balloon.unlink()
    await until(writer.write, 60)
    await until_whole(house)
    await writer.all_there(house)


async def until_whole(house: Several) -> None:
    async with asyncio.timeout(90):
        while True:
            try:
                await house.all_read_write()
            except TimeoutError:
                continue
            return


async def run(directory: Path) -> None:
    """Run both in a cluster of three."""
    async with ended(HouseWithVolumes(directory)) as house:
        try:
            first = await house.first()
            writer = Writer(first)
            await writer.write()
            await house.join(first)
            third = await house.join(first)
            await house.all_read_write()
            await follower_full(house, writer, third)
            await primary_full(house, writer, first)
        finally:
            for bench in list(house.members):
                await house.forget(bench)
    sys.stdout.write(f"{len(writer.acknowledged)} acknowledged writes are everywhere\n")


if __name__ == "__main__":
    asyncio.run(run(Path(sys.argv[1])))
