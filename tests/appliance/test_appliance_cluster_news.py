"""What the daemon does with the cluster's news, and what it tells its processes, on real ones."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives import serialization

from conclave import faults
from conclave.appliance import cluster_processes
from conclave.appliance.appliance import Appliance
from conclave.appliance.supervisor import ChildSpec
from conclave.errors import Conflict, NotAllowed
from conclave.service.bootstrap import ClusterBootstrap
from conclave.service.frames import HEADER_BYTES
from conclave.service.messages import ClusterList, MemberList, Notice, RefusedJoin, ServiceStatus
from conclave.service.quiet import Nothing
from tests.support.appliance_bench import (
    authorize,
    make_authorized_cluster,
    make_config,
    prepare_partition,
    until,
    with_appliance,
)
from tests.support.hsm_bench import CO, DOMAIN, SO
from tests.support.told_process import notice

pytestmark = pytest.mark.system


async def news_of(appliance: Appliance, number: int = 1, **fields: object) -> Notice:
    """Return a notice that names the member's own cluster."""
    members: MemberList = await appliance.cluster.call("list_members", Nothing())
    clusters: ClusterList = await appliance.cluster.call("list_clusters", Nothing())
    named = {
        "cluster_id": clusters.clusters[0].cluster_id,
        "member_id": members.members[0].member_id,
    }
    return notice(number, **(named | fields))


def empty_store(path: Path) -> None:
    """Remove the cluster from its store."""
    with contextlib.closing(sqlite3.connect(path, timeout=10)) as connection:
        connection.execute("DELETE FROM members")
        connection.execute("DELETE FROM cluster_state")
        connection.commit()


def specifications(monkeypatch: pytest.MonkeyPatch) -> list[ChildSpec]:
    """Return a list that every child's specification is added to."""
    made: list[ChildSpec] = []

    def make(
        name: str,
        module: str,
        bootstrap: Callable[[], bytes],
        inherited: tuple[int, ...],
        source_directory: str,
        *,
        announces: bool = False,
    ) -> ChildSpec:
        made.append(
            ChildSpec(name, module, bootstrap, inherited, source_directory, announces=announces)
        )
        return made[-1]

    monkeypatch.setattr(cluster_processes, "ChildSpec", make)
    return made


def bootstrap_of(made: list[ChildSpec]) -> ClusterBootstrap:
    """Return what the newest cluster process would be told if it started now."""
    (*_, newest) = (spec for spec in made if spec.name == "cluster")
    return msgspec.msgpack.decode(newest.bootstrap()[HEADER_BYTES:], type=ClusterBootstrap)


def test_the_cluster_process_gets_what_its_link_needs_and_the_domain_with_the_smk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = specifications(monkeypatch)

    async def scene(appliance: Appliance) -> None:
        await prepare_partition(appliance)
        await appliance.cluster.start()
        first = bootstrap_of(made)
        assert (first.smk, first.domain) == (None, b"")
        assert first.core_address == appliance.cluster.config().core_address
        assert first.state_dir == str(tmp_path)
        assert first.cluster_settings == appliance.config.cluster
        key = serialization.load_pem_private_key(first.member_key_pem, None)
        assert first.member_key_spki_der == key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        await appliance.cluster.create_cluster("cluster", SO)
        await authorize(appliance)
        authorized = bootstrap_of(made)
        assert authorized.smk == await appliance.hsm.unlock_smk("par", CO)
        assert authorized.domain == DOMAIN
        assert authorized.member_key_pem == first.member_key_pem
        await appliance.cluster.stop()
        assert (bootstrap_of(made).smk, bootstrap_of(made).domain) == (None, b"")

    with_appliance(make_config(tmp_path), scene)


def test_b1_an_smk_from_a_live_member_survives_the_death_of_the_cluster_process(
    tmp_path: Path,
) -> None:
    async def scene(appliance: Appliance) -> None:
        await make_authorized_cluster(appliance)
        await appliance.cluster.restart()
        assert not appliance.cluster.status().authorized
        smk = await appliance.hsm.unlock_smk("par", CO)
        await appliance.cluster.apply_notice(await news_of(appliance, smk=smk, domain=DOMAIN))
        assert appliance.cluster.status().authorized
        killed = appliance.pids()["cluster"]
        os.kill(killed, signal.SIGKILL)
        await until(lambda: appliance.pids().get("cluster", killed) != killed, "a new one")
        status: ServiceStatus = await appliance.cluster.call("status", Nothing())
        assert status.authorized
        await appliance.cluster.stop()
        assert not appliance.cluster.status().authorized

    with_appliance(make_config(tmp_path), scene)


def test_b2_a_member_that_left_serves_nobody_and_may_create_a_cluster_at_once(
    tmp_path: Path,
) -> None:
    async def scene(appliance: Appliance) -> None:
        await make_authorized_cluster(appliance)
        former = await news_of(appliance, 7, removed="left", member_id="of another time")
        await appliance.cluster.apply_notice(former)
        assert "worker-0" in appliance.pids()
        smk = await appliance.hsm.unlock_smk("par", CO)
        await appliance.cluster.apply_notice(await news_of(appliance, 8, removed="left"))
        status = appliance.cluster.status()
        assert (status.state, status.authorized) == ("running", False)
        assert list(status.pids) == ["cluster"]
        assert await appliance.hsm.unlock_smk("par", CO) == smk
        # What a cluster process clears when it leaves by itself.
        empty_store(appliance.paths.cluster_store)
        killed = appliance.pids()["cluster"]
        os.kill(killed, signal.SIGKILL)
        await until(lambda: appliance.pids().get("cluster", killed) != killed, "a new one")
        await appliance.cluster.set_identity("dual")
        await appliance.cluster.create_cluster("second", SO)
        await authorize(appliance)
        assert "worker-0" in appliance.pids()
        assert status.restart_required == ()

    with_appliance(make_config(tmp_path), scene)


def test_b2_who_is_told_so_while_the_cluster_is_gone_left_it(tmp_path: Path) -> None:
    async def scene(appliance: Appliance) -> None:
        await make_authorized_cluster(appliance)
        empty_store(appliance.paths.cluster_store)
        await appliance.cluster.apply_notice(notice(7, removed="left"))
        assert list(appliance.cluster.status().pids) == ["cluster"]

    with_appliance(make_config(tmp_path), scene)


def test_b3_a_deleted_member_refuses_everything_until_its_factory_reset(tmp_path: Path) -> None:
    async def scene(appliance: Appliance) -> None:
        await make_authorized_cluster(appliance)
        cluster = appliance.cluster
        await cluster.apply_notice(await news_of(appliance, removed="deleted"))
        assert appliance.service("cluster").state == "removed"
        assert (cluster.status().authorized, list(cluster.status().pids)) == (False, ["cluster"])
        for refused in (
            cluster.call("list_clusters", Nothing()),
            cluster.create_cluster("another", SO),
            cluster.authorize("member", "par", CO),
            cluster.leave("member", "par", CO),
            cluster.delete_member("member", CO),
        ):
            with pytest.raises(NotAllowed, match="factory-reset the cluster service") as caught:
                await refused
            assert caught.value.fault is faults.MEMBER_REMOVED
        with pytest.raises(NotAllowed, match="factory-reset"):
            cluster.check_join("127.0.0.9")
        await cluster.factory_reset()
        (address,) = appliance.config.interfaces.values()
        await cluster.set_core_address(address)
        await cluster.start()
        await cluster.create_cluster("another", SO)
        await authorize(appliance)

    with_appliance(make_config(tmp_path), scene)


def test_whoever_mirrors_the_users_is_told_of_every_other_version(tmp_path: Path) -> None:
    async def scene(appliance: Appliance) -> None:
        told: list[int] = []
        await make_authorized_cluster(appliance)
        # The cluster process's own news would come in between.
        watch = appliance.cluster._watch
        assert watch is not None
        await watch.stop()
        appliance.cluster.on_users_change.add(lambda: told.append(1))
        for number, version in enumerate((4, 4, 5), start=1):
            news = await news_of(appliance, number, users_version=version)
            await appliance.cluster.apply_notice(news)
        assert len(told) == 2

    with_appliance(make_config(tmp_path), scene)


def test_t2_the_certificate_is_checked_without_the_store(tmp_path: Path) -> None:
    async def scene(appliance: Appliance) -> None:
        await make_authorized_cluster(appliance)
        await appliance.cluster.stop()
        appliance.paths.cluster_store.rename(tmp_path / "elsewhere.db")
        await appliance.time.synchronize(-2 * 3600_000)
        with pytest.raises(Conflict, match=r"cluster CA's certificate begins 5\d min") as caught:
            await appliance.cluster.start()
        assert caught.value.fault is faults.CERTIFICATE_VALIDITY

    with_appliance(make_config(tmp_path), scene)


def test_a_certificate_of_no_cluster_is_forgotten_at_the_start(tmp_path: Path) -> None:
    """A join that was cut off by the daemon's death leaves a certificate and no cluster."""

    async def scene(appliance: Appliance) -> None:
        await make_authorized_cluster(appliance)
        await appliance.cluster.stop()
        appliance.paths.cluster_store.unlink()
        await appliance.cluster.start()
        assert list(appliance.cluster.status().pids) == ["cluster"]
        await appliance.cluster.create_cluster("another", SO)
        await authorize(appliance)
        assert "worker-0" in appliance.pids()

    with_appliance(make_config(tmp_path), scene)


def test_s5_a_package_installed_meanwhile_asks_for_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    newer = tmp_path / "site" / "conclave-99.0.dist-info"
    newer.mkdir(parents=True)
    (newer / "METADATA").write_text("Metadata-Version: 2.1\nName: conclave\nVersion: 99.0\n")

    async def scene(appliance: Appliance) -> None:
        await make_authorized_cluster(appliance)
        assert appliance.cluster.status().restart_required == ()
        monkeypatch.syspath_prepend(newer.parent)
        await appliance.cluster.set_listener("crypto", port=50052)
        await until(
            lambda: appliance.cluster.status().restart_required == ("package version",), "noticed"
        )
        await appliance.cluster.restart()
        assert appliance.cluster.status().restart_required == ()

    with_appliance(make_config(tmp_path / "appliance"), scene)


def test_a_join_that_guessed_wrong_is_recorded_once(tmp_path: Path) -> None:
    async def scene(appliance: Appliance) -> None:
        await make_authorized_cluster(appliance)
        fault = faults.JOIN_REFUSED.rest_id
        joins = [
            RefusedJoin(1, "192.0.2.7", "admin", fault),
            RefusedJoin(2, "192.0.2.8", "a-password", fault),
        ]
        for number, told in ((7, joins[:1]), (8, joins), (9, joins)):
            await appliance.cluster.apply_notice(
                await news_of(appliance, number, refused_joins=told)
            )
        lines, _ = await appliance.audit.page(0, 50)
        records = [msgspec.json.decode(line) for line in reversed(lines)]
        found = [
            (each["user"], each["source"], each["outcome"], each["fault"])
            for each in records
            if each["door"] == "join"
        ]
        assert found == [
            ("admin", "192.0.2.7", "refused", fault),
            ("", "192.0.2.8", "refused", fault),
        ]

    with_appliance(make_config(tmp_path), scene)
