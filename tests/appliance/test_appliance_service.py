"""The cluster service on real processes: refusals, start and stop, crashes."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import ssl
import stat
from functools import partial
from pathlib import Path

import pytest

from conclave import faults
from conclave.appliance.appliance import Appliance
from conclave.appliance.network import bind_all
from conclave.appliance.paths import StatePaths
from conclave.errors import Conflict, NotAllowed, NotFound
from conclave.service.messages import ListKeyrings, ServiceStatus
from conclave.service.quiet import Nothing
from conclave.store.postgresql import account
from tests.support.appliance_bench import (
    authorize,
    is_alive,
    local_member_id,
    make_authorized_cluster,
    make_config,
    prepare_partition,
    until,
    with_appliance,
)
from tests.support.hsm_bench import CO, DOMAIN, SO, make_cluster_partition

pytestmark = pytest.mark.system


async def process_is_authorized(appliance: Appliance) -> bool:
    status: ServiceStatus = await appliance.cluster.call("status", Nothing())
    return status.authorized


async def kill_and_wait(appliance: Appliance, name: str) -> None:
    killed = appliance.pids()[name]
    os.kill(killed, signal.SIGKILL)
    await until(lambda: appliance.pids().get(name, killed) != killed, f"{name} is respawned")


def test_calls_to_a_stopped_service_say_how_to_start_it(tmp_path: Path) -> None:
    async def scene(appliance: Appliance) -> None:
        with pytest.raises(NotAllowed, match="start it first") as caught:
            await appliance.cluster.call("list_keyrings", ListKeyrings())
        assert caught.value.fault is faults.SERVICE_STOPPED
        await appliance.cluster.stop()
        assert appliance.service("cluster").status == "stopped"
        with pytest.raises(NotFound, match="clusteradmin"):
            appliance.service("clusters")

    with_appliance(make_config(tmp_path), scene)


def test_s1_s6_start_is_refused_until_everything_is_there(tmp_path: Path) -> None:
    async def scene(appliance: Appliance) -> None:
        with pytest.raises(NotAllowed, match="initialise it"):
            await appliance.cluster.start()
        await appliance.hsm.initialize("hsm_label", SO, DOMAIN)
        with pytest.raises(NotAllowed, match="create one of version 1"):
            await appliance.cluster.start()
        await make_cluster_partition(appliance.hsm)
        with pytest.raises(NotAllowed, match="core address: set it"):
            await appliance.cluster.start()
        assert appliance.cluster.status().state == "stopped"
        assert list(appliance.pids()) == ["login"]

    with_appliance(make_config(tmp_path), scene)


def test_s2_a_starting_service_reports_stopped_with_state_starting(tmp_path: Path) -> None:
    async def scene(appliance: Appliance) -> None:
        await prepare_partition(appliance)
        starting = asyncio.create_task(appliance.cluster.start())
        await until(lambda: appliance.cluster.status().state == "starting", "it is starting")
        assert appliance.service("cluster").status == "stopped"
        assert appliance.service("cluster").state == "starting"
        with pytest.raises(NotAllowed, match="wait until it has started"):
            await appliance.cluster.call("list_keyrings", ListKeyrings())
        await starting
        assert appliance.service("cluster").status == "running"

    with_appliance(make_config(tmp_path), scene)


def test_a_process_killed_while_the_service_starts_does_not_fail_the_start(tmp_path: Path) -> None:
    async def scene(appliance: Appliance) -> None:
        await prepare_partition(appliance)
        starting = asyncio.create_task(appliance.cluster.start())
        await until(lambda: "cluster" in appliance.pids(), "the cluster process exists")
        os.kill(appliance.pids()["cluster"], signal.SIGKILL)
        await starting
        assert appliance.cluster.status().state == "running"

    with_appliance(make_config(tmp_path), scene)


def test_a_taken_crypto_port_refuses_the_start_and_leaves_nothing(tmp_path: Path) -> None:
    config = make_config(tmp_path)

    async def scene(appliance: Appliance) -> None:
        await prepare_partition(appliance)
        (taken,) = bind_all(config.interfaces.values(), config.crypto_port, what="test")
        with pytest.raises(NotAllowed, match=f"port {config.crypto_port}"):
            await appliance.cluster.start()
        assert appliance.cluster.status().state == "stopped"
        assert list(appliance.pids()) == ["login"]
        taken.close()
        await appliance.cluster.start()

    with_appliance(config, scene)


def test_a_port_that_is_taken_at_boot_only_delays_the_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = make_config(tmp_path)

    async def scene(appliance: Appliance) -> None:
        await prepare_partition(appliance)
        await appliance.cluster.set_on_boot(True)
        (taken,) = bind_all(config.interfaces.values(), config.crypto_port, what="test")
        booting = asyncio.create_task(appliance.cluster.start_on_boot())
        await until(lambda: f"port {config.crypto_port}" in caplog.text, "the refusal is logged")
        taken.close()
        await booting
        assert appliance.cluster.status().state == "running"

    with_appliance(config, scene)


def test_s3_a_stop_and_a_change_of_on_boot_call_the_start_at_boot_off(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = make_config(tmp_path)

    async def scene(appliance: Appliance) -> None:
        await prepare_partition(appliance)
        taken = bind_all(config.interfaces.values(), config.crypto_port, what="test")
        for enough in (partial(appliance.cluster.set_on_boot, False), appliance.cluster.stop):
            await appliance.cluster.set_on_boot(True)
            caplog.clear()
            booting = asyncio.create_task(appliance.cluster.start_on_boot())
            await until(lambda: "next attempt" in caplog.text, "the refusal is logged")
            await enough()
            for listener in taken:
                listener.close()
            await booting
            assert appliance.cluster.status().state == "stopped"
            taken = bind_all(config.interfaces.values(), config.crypto_port, what="test")
        for listener in taken:
            listener.close()

    with_appliance(config, scene)


def test_what_no_waiting_mends_is_refused_once_at_boot(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scene(appliance: Appliance) -> None:
        await appliance.cluster.set_on_boot(True)
        await appliance.cluster.start_on_boot()
        assert caplog.text.count("the cluster service did not start") == 1
        assert "next attempt" not in caplog.text

    with_appliance(make_config(tmp_path), scene)


def test_a_member_that_is_not_enabled_at_boot_says_why_it_does_not_serve(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scene(appliance: Appliance) -> None:
        await appliance.cluster.start_on_boot()
        assert "onBoot" not in caplog.text
        await make_authorized_cluster(appliance)
        await appliance.cluster.start_on_boot()
        assert "not enabled at boot (onBoot)" in caplog.text

    with_appliance(make_config(tmp_path), scene)


def test_s4_a_stop_and_a_restart_end_the_authorization(tmp_path: Path) -> None:
    async def scene(appliance: Appliance) -> None:
        await make_authorized_cluster(appliance)
        service = appliance.cluster
        assert service.status().authorized
        assert await process_is_authorized(appliance)
        await service.restart()
        assert not service.status().authorized
        assert not await process_is_authorized(appliance)
        await authorize(appliance)
        assert await process_is_authorized(appliance)
        children = service.status().pids
        await service.stop()
        assert not any(is_alive(pid) for pid in children.values())
        assert service.status().pids == {}

    with_appliance(make_config(tmp_path), scene)


def test_s4_c7_every_killed_child_comes_back_and_the_member_stays_authorized(
    tmp_path: Path,
) -> None:
    async def scene(appliance: Appliance) -> None:
        await make_authorized_cluster(appliance)
        for name in ("cluster", "worker-0", "worker-1", "login"):
            await kill_and_wait(appliance, name)
            assert await process_is_authorized(appliance)
            await appliance.cluster.call("list_keyrings", ListKeyrings())
        assert appliance.cluster.status().authorized

    with_appliance(make_config(tmp_path), scene)


def test_s4_the_end_of_the_daemon_ends_the_authorization(tmp_path: Path) -> None:
    config = make_config(tmp_path)

    async def first(appliance: Appliance) -> None:
        await make_authorized_cluster(appliance)
        await appliance.cluster.set_on_boot(True)

    async def second(appliance: Appliance) -> None:
        await appliance.cluster.start_on_boot()
        assert appliance.cluster.status().state == "running"
        assert not await process_is_authorized(appliance)
        # Workers run, since there is a certificate, and tell their clients why they do nothing.
        assert "worker-0" in appliance.pids()
        await authorize(appliance)

    with_appliance(config, first)
    with_appliance(config, second)


def test_one_cluster_one_member_and_the_right_names(tmp_path: Path) -> None:
    async def scene(appliance: Appliance) -> None:
        await prepare_partition(appliance)
        await appliance.cluster.start()
        with pytest.raises(NotFound, match="create one first"):
            await appliance.cluster.authorize("nobody", "par", CO)
        with pytest.raises(NotAllowed, match="2 attempts are left"):
            await appliance.cluster.create_cluster("testCluster", b"wrong-password")
        await appliance.cluster.create_cluster("testCluster", SO)
        with pytest.raises(Conflict, match="testCluster"):
            await appliance.cluster.create_cluster("other", SO)
        member_id = await local_member_id(appliance)
        with pytest.raises(NotFound, match="nobody"):
            await appliance.cluster.authorize("nobody", "par", CO)
        with pytest.raises(NotFound, match="par"):
            await appliance.cluster.authorize(member_id, "another", CO)
        with pytest.raises(NotAllowed, match="9 attempts are left"):
            await appliance.cluster.authorize(member_id, "par", b"wrong-password")
        assert not appliance.cluster.status().authorized
        with pytest.raises(Conflict, match="factory reset"):
            await appliance.cluster.set_identity("dual")

    with_appliance(make_config(tmp_path), scene)


def test_t2_start_names_the_skew_and_force_passes_over_it(tmp_path: Path) -> None:
    async def scene(appliance: Appliance) -> None:
        await make_authorized_cluster(appliance)
        await appliance.cluster.stop()
        await appliance.time.synchronize(-2 * 3600_000)
        with pytest.raises(Conflict, match=r"begins 5\d min") as caught:
            await appliance.cluster.start()
        assert caught.value.fault is faults.CERTIFICATE_VALIDITY
        await appliance.cluster.start(force=True)
        assert appliance.cluster.status().status == "running"
        await appliance.time.synchronize(0)

    with_appliance(make_config(tmp_path), scene)


def test_s8_factory_reset_keeps_hsm_and_smk(tmp_path: Path) -> None:
    async def scene(appliance: Appliance) -> None:
        first = await make_authorized_cluster(appliance)
        smk = await appliance.hsm.unlock_smk("par", CO)
        await appliance.cluster.factory_reset()
        assert appliance.cluster.config().core_address is None
        assert appliance.cluster.status().state == "stopped"
        assert await appliance.hsm.unlock_smk("par", CO) == smk
        (address,) = appliance.config.interfaces.values()
        await appliance.cluster.set_core_address(address)
        await appliance.cluster.set_identity("dual")
        await appliance.cluster.start()
        second = await appliance.cluster.create_cluster("second", SO)
        assert second.cluster_id != first.cluster_id
        assert second.dual_identity
        await authorize(appliance)

    with_appliance(make_config(tmp_path), scene)


def test_s8_factory_reset_removes_what_postgresql_kept(tmp_path: Path) -> None:
    async def scene(appliance: Appliance) -> None:
        await make_authorized_cluster(appliance)
        owner = account.find()
        places = account.directories(appliance.paths.root, owner)
        account.prepare(places, owner)
        (places.data / "PG_VERSION").write_text("15")
        await appliance.cluster.factory_reset()
        assert not places.data.exists()
        assert not places.run.exists()
        await appliance.cluster.factory_reset()

    with_appliance(make_config(tmp_path), scene)


def test_s5_a_changed_port_asks_for_a_restart(tmp_path: Path) -> None:
    async def scene(appliance: Appliance) -> None:
        await make_authorized_cluster(appliance)
        await appliance.cluster.set_listener("crypto", port=50055)
        assert appliance.cluster.status().restart_required == ("crypto port",)
        await appliance.cluster.restart()
        assert appliance.cluster.status().restart_required == ()

    with_appliance(make_config(tmp_path), scene)


@pytest.mark.parametrize("days", [0, 1])
def test_s7_the_former_crypto_port_stays_open_as_long_as_it_was_said(
    tmp_path: Path, days: int
) -> None:
    config = make_config(tmp_path, former_port_days=days)
    (address,) = config.interfaces.values()

    async def accepts(port: int) -> bool:
        try:
            _, writer = await asyncio.open_connection(address, port)
        except ConnectionRefusedError:
            return False
        writer.close()
        return True

    async def scene(appliance: Appliance) -> None:
        await make_authorized_cluster(appliance)
        assert await accepts(config.crypto_port)
        await appliance.cluster.set_listener("crypto", port=50055)
        await appliance.cluster.restart()
        assert await accepts(50055)
        assert await accepts(config.crypto_port) is (days > 0)

    with_appliance(config, scene)


async def greets_nobody(path: Path) -> bool:
    """Tell whether workers serve TLS at a Unix socket and ask for a client's certificate there."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    reader, writer = await asyncio.open_unix_connection(str(path), ssl=context, server_hostname="")
    try:
        return await reader.read(1) == b""
    except ssl.SSLError as refusal:
        return "CERTIFICATE_REQUIRED" in str(refusal)
    finally:
        writer.transport.abort()


def test_a_unix_socket_is_there_as_long_as_the_service_and_asks_for_a_certificate(
    tmp_path: Path,
) -> None:
    path = tmp_path / "crypto.sock"
    with socket.socket(socket.AF_UNIX) as left_by_an_earlier_run:
        left_by_an_earlier_run.bind(str(path))

    async def scene(appliance: Appliance) -> None:
        await make_authorized_cluster(appliance)
        assert stat.S_IMODE(path.stat().st_mode) == 0o666
        assert await greets_nobody(path)
        await appliance.cluster.stop()
        assert not path.exists()

    with_appliance(make_config(tmp_path, crypto_socket=str(path)), scene)


def test_a_file_in_the_way_of_the_unix_socket_stays_and_tcp_serves(tmp_path: Path) -> None:
    path = tmp_path / "crypto.sock"
    path.write_text("mine")
    config = make_config(tmp_path, crypto_socket=str(path))
    (address,) = config.interfaces.values()

    async def scene(appliance: Appliance) -> None:
        await make_authorized_cluster(appliance)
        _, writer = await asyncio.open_connection(address, config.crypto_port)
        writer.close()
        await appliance.cluster.stop()

    with_appliance(config, scene)
    assert path.read_text() == "mine"


def test_workers_keep_as_much_and_as_long_as_the_settings_say(tmp_path: Path) -> None:
    config = make_config(tmp_path, cache_mib=7, cache_idle_seconds=30, workers=1)
    log = StatePaths(tmp_path).log("worker-0")
    told = "it keeps objects of keyrings in 7 MiB, unused ones for 30 s"

    async def scene(appliance: Appliance) -> None:
        await make_authorized_cluster(appliance)
        await until(lambda: log.exists() and told in log.read_text(), "the worker tells")

    with_appliance(config, scene)


def test_zeroizing_the_hsm_stops_the_service(tmp_path: Path) -> None:
    async def scene(appliance: Appliance) -> None:
        await make_authorized_cluster(appliance)
        for _ in range(3):
            with pytest.raises(NotAllowed):
                await appliance.hsm.verify_so(b"wrong-password")
        await until(lambda: appliance.cluster.status().state == "stopped", "the service stops")
        assert not appliance.cluster.status().authorized
        with pytest.raises(NotAllowed, match="zeroized"):
            await appliance.cluster.start()

    with_appliance(make_config(tmp_path), scene)
