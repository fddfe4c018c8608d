"""Which engine serves a cluster's store: chosen at its creation, kept, and never an old one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from conclave import faults
from conclave.cluster.engine_choice import EngineChoice
from conclave.cluster.member_state import FILE_NAME
from conclave.cluster.process import REFUSED_STATUS
from conclave.errors import NotFound
from conclave.service.messages import ClusterList, PromoteMember, ServiceStatus
from conclave.service.quiet import Nothing
from conclave.settings import PostgresqlSettings
from conclave.store.location import ENGINE_FILE, StoreLocation
from conclave.store.postgresql import account, binaries
from tests.cluster.test_cluster_members import has_all, make, refusal, with_none
from tests.support.cluster_bench import ClusterBench
from tests.support.postgresql import distribution
from tests.support.several import WAIT_SECONDS, Several

pytestmark = [pytest.mark.system, pytest.mark.spread]


def engine_of(bench: ClusterBench) -> str:
    return StoreLocation(bench.directory).choice().engine


def log_of(bench: ClusterBench) -> str:
    return (bench.directory / "cluster.log").read_text()


async def authorized(bench: ClusterBench) -> bool:
    status: ServiceStatus = await bench.daemon.call("status", Nothing())
    return status.authorized


async def start_again(bench: ClusterBench, *, with_smk: bool) -> None:
    bench.kill("cluster")
    bench.start_cluster(with_smk=with_smk)
    await bench.ready()


@with_none
async def test_a_cluster_of_one_on_postgresql_survives_what_one_on_sqlite_does(
    house: Several,
) -> None:
    first = await house.first(engine="postgresql")
    assert engine_of(first) == "postgresql"
    await make(first, "made")
    await start_again(first, with_smk=True)
    assert await authorized(first)
    await has_all(first, ["made"])
    await start_again(first, with_smk=False)
    assert not await authorized(first)
    await house.authorize(first)
    await make(first, "later")
    await has_all(first, ["made", "later"])
    data = account.directories(first.directory, account.find()).data
    made = data.stat().st_ino
    # Who joins now finds the store where it has to be.
    second = await house.join(first)
    await house.all_read_write()
    await has_all(second, ["made", "later"])
    assert data.stat().st_ino == made


@with_none
async def test_a_choice_of_postgresql_outlives_a_crash_before_the_authorization(
    house: Several,
) -> None:
    bench = await house.alone()
    await bench.create(engine="postgresql")
    assert engine_of(bench) == "sqlite"
    await start_again(bench, with_smk=False)
    # Something is in the way: the member is not authorized on the other engine instead.
    data = account.directories(bench.directory, account.find()).data
    data.parent.mkdir(parents=True, exist_ok=True)
    data.write_text("in the way")
    failure = await refusal(house.authorize(bench))
    assert failure.fault is faults.POSTGRESQL_FAILED
    assert not await authorized(bench)
    assert engine_of(bench) == "sqlite"
    data.unlink()
    await house.authorize(bench)
    assert engine_of(bench) == "postgresql"
    await make(bench, "made")


@with_none
async def test_the_distributions_postgresql_joins_promotes_and_survives_a_kill(
    house: Several,
) -> None:
    house.postgresql_directory = distribution()
    first = await house.first()
    await make(first, "made")
    second = await house.join(first)
    await house.all_read_write()
    version = account.directories(second.directory, account.find()).data / "PG_VERSION"
    assert version.read_text().strip() == Path(house.postgresql_directory).parent.name
    request = PromoteMember(member_id=second.member_id)
    await first.daemon.call("promote", request, timeout_seconds=WAIT_SECONDS)
    await house.all_read_write()
    await make(first, "forwarded")
    second.kill("cluster")
    second.start_cluster()
    await house.all_read_write()
    await make(second, "after")
    await has_all(first, ["made", "forwarded", "after"])
    await has_all(second, ["made", "forwarded", "after"])


@with_none
async def test_without_its_programs_postgresql_is_refused_before_anything_changes(
    house: Several,
) -> None:
    house.postgresql_directory = "/nowhere"
    bench = await house.alone()
    failure = await refusal(bench.create(engine="postgresql"))
    assert failure.fault is faults.BAD_REQUEST
    assert "postgresql.directory" in failure.message
    found: ClusterList = await bench.daemon.call("list_clusters", Nothing())
    assert found.clusters == []
    assert not (bench.directory / ENGINE_FILE).exists()
    await bench.create()
    # Nor does a refused creation touch the choice of the cluster that there is.
    again = await refusal(bench.create(engine="sqlite"))
    assert again.fault is faults.CLUSTER_EXISTS


def test_without_any_postgresql_the_ways_out_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(binaries, "WHEEL", "no_such_wheel")
    monkeypatch.setattr(binaries, "DISTRIBUTION", Path("/nowhere"))

    async def move(_progress: object, _cancelled: object) -> None:
        raise AssertionError("nothing may be moved")

    choice = EngineChoice(StoreLocation(tmp_path), PostgresqlSettings(), move)

    async def work() -> None:
        await choice.require("sqlite")
        with pytest.raises(NotFound) as caught:
            await choice.require("postgresql")
        assert caught.value.fault is faults.POSTGRESQL_MISSING

    asyncio.run(work())


def lost(name: str) -> Callable[[Path], None]:
    """Return a test in which the primary of two loses a file that says where its store is."""

    @with_none
    async def scenario(house: Several) -> None:
        first = await house.first()
        await make(first, "old")
        second = await house.join(first)
        await house.all_read_write()
        await make(first, "new")
        first.kill("cluster")
        path = first.directory / name
        kept = path.read_bytes()
        path.unlink()
        first.start_cluster(with_smk=True)
        process = first.processes["cluster"]
        assert await asyncio.to_thread(process.wait, WAIT_SECONDS) == REFUSED_STATUS
        assert f"{path} is lost or wrong" in log_of(first)
        path.write_bytes(kept)
        first.kill("cluster")
        first.start_cluster(with_smk=True)
        await first.ready()
        await house.all_read_write()
        await has_all(first, ["old", "new"])
        await has_all(second, ["old", "new"])

    return scenario


test_a_lost_memory_of_the_member_opens_no_old_store = lost(FILE_NAME)
test_a_lost_choice_of_the_engine_opens_no_old_store = lost(ENGINE_FILE)
