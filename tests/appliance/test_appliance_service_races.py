"""What is decided about the cluster service holds while others change it, and after a crash."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import threading
import uuid
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

import pytest

from conclave import faults
from conclave.appliance.appliance import Appliance
from conclave.appliance.cluster_join import JoinRequest
from conclave.appliance.cluster_processes import ClusterProcesses
from conclave.appliance.member_steps import MemberSteps
from conclave.appliance.paths import StatePaths
from conclave.appliance.supervisor import Child, ChildSpec
from conclave.errors import Conflict, NotAllowed
from conclave.packages.manifest import AUTHORIZATION_CODE_CHARACTERS, CLUSTER_PACKAGE
from conclave.service.messages import ClusterList
from conclave.service.quiet import Nothing
from tests.support.appliance_bench import (
    authorize,
    make_authorized_cluster,
    make_config,
    prepare_partition,
    random_loopback,
    until,
    with_appliance,
)
from tests.support.hsm_bench import CO, SO

pytestmark = pytest.mark.system


async def is_dual(appliance: Appliance) -> bool:
    found: ClusterList = await appliance.cluster.call("list_clusters", Nothing())
    return found.clusters[0].dual_identity


def test_k1_the_mode_is_not_changed_while_a_cluster_is_made(tmp_path: Path) -> None:
    async def scene(appliance: Appliance) -> None:
        await prepare_partition(appliance)
        await appliance.cluster.start()
        making = asyncio.create_task(appliance.cluster.create_cluster("cluster", SO))
        await asyncio.sleep(0)
        with pytest.raises(Conflict) as caught:
            await appliance.cluster.set_identity("dual")
        assert caught.value.fault is faults.CLUSTER_CONFIG_FIXED
        await making
        assert appliance.cluster.config().identity == "single"
        assert not await is_dual(appliance)

    with_appliance(make_config(tmp_path), scene)


def test_k1_a_mode_changed_after_a_crash_gives_way_to_the_clusters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A daemon killed right after the cluster was made does not know of it before the start."""

    async def never(_steps: object, _processes: object) -> None:
        return

    async def first(appliance: Appliance) -> None:
        await prepare_partition(appliance)
        await appliance.cluster.start()
        with monkeypatch.context() as crash:
            crash.setattr(MemberSteps, "remember_cluster", never)
            await appliance.cluster.create_cluster("cluster", SO)

    async def second(appliance: Appliance) -> None:
        await appliance.cluster.set_identity("dual")
        await appliance.cluster.start()
        assert appliance.cluster.config().identity == "single"
        assert not await is_dual(appliance)
        with pytest.raises(Conflict):
            await appliance.cluster.set_identity("dual")

    config = make_config(tmp_path)
    with_appliance(config, first)
    with_appliance(config, second)


def test_a_start_that_cannot_even_begin_leaves_the_service_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_self: ClusterProcesses, **_given: object) -> None:
        raise OSError(24, "Too many open files")

    async def scene(appliance: Appliance) -> None:
        await prepare_partition(appliance)
        with monkeypatch.context() as short:
            short.setattr(ClusterProcesses, "__init__", refuse)
            with pytest.raises(OSError, match="Too many"):
                await appliance.cluster.start()
        assert appliance.cluster.status().state == "stopped"
        await appliance.cluster.start()
        assert appliance.cluster.status().state == "running"

    with_appliance(make_config(tmp_path), scene)


def test_workers_that_could_not_start_are_started_by_the_next_authorization(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(_self: Child) -> None:
        raise OSError(11, "Resource temporarily unavailable")

    async def scene(appliance: Appliance) -> None:
        await prepare_partition(appliance)
        await appliance.cluster.start()
        await appliance.cluster.create_cluster("cluster", SO)
        with monkeypatch.context() as short:
            short.setattr(Child, "start", refuse)
            with pytest.raises(OSError, match="temporarily"):
                await authorize(appliance)
        assert "worker-0" not in appliance.pids()
        await authorize(appliance)
        await until(lambda: "worker-1" in appliance.pids(), "the workers are there")

    with_appliance(make_config(tmp_path), scene)


def test_a_child_that_is_replaced_while_it_starts_comes_back_with_the_newest_frame() -> None:
    """Its frame was made before what it is replaced for, and it cannot be told to end yet."""
    frames = 0

    def frame() -> bytes:
        nonlocal frames
        frames += 1
        if frames == 1:
            child.replace()
        return b""

    # A process that lives as long as its standard input.
    child = Child(ChildSpec("child", "code", frame))

    async def scene() -> None:
        await child.start()
        try:
            await until(lambda: frames == 2 and child.pid is not None, "the child came back")
        finally:
            await child.stop()

    asyncio.run(scene())


def moments_of_serving(log: Path) -> list[float]:
    """Return when a worker's processes began to serve, from its log; none when there is none."""
    text = log.read_text() if log.exists() else ""
    entries = [json.loads(line) for line in text.splitlines()]
    return [
        datetime.fromisoformat(entry["time"]).timestamp()
        for entry in entries
        if " serves;" in entry["message"]
    ]


def test_workers_get_a_new_certificate_one_after_another_and_the_port_is_always_answered(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A new CA reaches all members at once: clients would find nobody on any of them."""
    config = make_config(tmp_path)

    async def scene(appliance: Appliance) -> None:
        await make_authorized_cluster(appliance)
        logs = [StatePaths(tmp_path).log(f"worker-{index}") for index in range(2)]
        await until(lambda: all(len(moments_of_serving(log)) == 1 for log in logs), "both serve")
        processes = appliance.cluster.processes
        assert processes is not None
        caplog.clear()
        with caplog.at_level(logging.INFO, logger="conclave.appliance.supervisor"):
            await processes.start_workers()
            await until(lambda: all(len(moments_of_serving(log)) == 2 for log in logs), "replaced")
        ended = {
            record.getMessage().split()[1]: record.created
            for record in caplog.records
            if "ended" in record.getMessage()
        }
        assert ended.keys() == {"worker-0", "worker-1"}
        assert ended["worker-0"] < moments_of_serving(logs[0])[1] <= ended["worker-1"]

    with_appliance(config, scene)


def test_the_next_worker_is_replaced_although_the_former_says_nothing() -> None:
    # It lives as long as its standard input, and never says that it serves.
    child = Child(ChildSpec("child", "code", lambda: b"", announces=True))

    async def scene() -> None:
        await child.start()
        try:
            assert not await child.hand_over(0.1)
        finally:
            await child.stop()

    asyncio.run(scene())


def test_d3_a_removal_that_waits_for_a_start_finds_the_service_running(tmp_path: Path) -> None:
    async def scene(appliance: Appliance) -> None:
        await prepare_partition(appliance)
        cluster, packages = appliance.cluster, appliance.packages

        def running() -> bool:
            return cluster.status().state != "stopped"

        async with packages.cluster.held():
            starting = asyncio.create_task(cluster.start())
            removing = asyncio.create_task(packages.remove(CLUSTER_PACKAGE, running=running))
            # Both have begun, and neither goes on while another change does.
            await asyncio.sleep(0)
            assert not running()
        await starting
        with pytest.raises(Conflict) as caught:
            await removing
        assert caught.value.fault is faults.PACKAGE_IN_USE

    with_appliance(make_config(tmp_path), scene)


def test_a_package_change_whose_caller_is_gone_keeps_the_next_one_out(tmp_path: Path) -> None:
    order: list[str] = []
    begun, goes_on = threading.Event(), threading.Event()

    def broken_file() -> BinaryIO:
        begun.set()
        goes_on.wait(60)
        order.append("first")
        return io.BytesIO(b"no package")

    def running() -> bool:
        order.append("second")
        return True

    async def scene(appliance: Appliance) -> None:
        packages = appliance.packages
        first = asyncio.create_task(
            packages.install(broken_file, "A" * AUTHORIZATION_CODE_CHARACTERS)
        )
        await asyncio.to_thread(begun.wait, 60)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        second = asyncio.create_task(packages.remove(CLUSTER_PACKAGE, running=running))
        # More turns than it needs to get in, if nothing keeps it out.
        for _ in range(100):
            await asyncio.sleep(0)
        goes_on.set()
        with pytest.raises(Conflict):
            await second
        assert order == ["first", "second"]

    with_appliance(make_config(tmp_path), scene)


def test_a_restart_is_refused_while_the_appliance_joins_and_a_stop_ends_the_join(
    tmp_path: Path,
) -> None:
    config = make_config(tmp_path)

    async def scene(appliance: Appliance) -> None:
        await prepare_partition(appliance)
        service = appliance.cluster
        await service.start()
        asked = asyncio.Event()

        async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            asked.set()
            await reader.read()
            writer.close()

        other = random_loopback()
        async with await asyncio.start_server(say_nothing, other, config.cluster.core_port):
            joining = asyncio.create_task(service.join(a_join_of(other), lambda _how_far: None))
            await asked.wait()
            before = service.status().pids
            with pytest.raises(Conflict, match="wait until its task has ended") as refused:
                await service.restart()
            assert refused.value.fault is faults.JOIN_IN_PROGRESS
            assert service.status().pids == before
            assert not joining.done()
            await service.stop()
            with pytest.raises(NotAllowed, match="nothing joined") as ended:
                await joining
            assert ended.value.fault is faults.SERVICE_STOPPED

    with_appliance(config, scene)


def a_join_of(address: str) -> JoinRequest:
    return JoinRequest(
        cluster_id=str(uuid.uuid4()),
        remote_address=address,
        remote_admin_password=b"admin-password",
        remote_fingerprint="",
        partition_label="par",
        co_password=CO,
    )
