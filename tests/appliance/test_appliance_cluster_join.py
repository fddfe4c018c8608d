"""The daemon's steps of a join: their order, and that nothing stays of one that failed."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization

from conclave import faults
from conclave.appliance import cluster_join
from conclave.appliance.appliance import Appliance
from conclave.appliance.cluster_join import Join, JoinRequest
from conclave.appliance.member_identity import MemberIdentity
from conclave.errors import BadInput, Conflict, NotAllowed, Unavailable
from conclave.service.messages import (
    ClusterList,
    ClusterSummary,
    JoinPrepare,
    JoinPrepared,
    JoinProgress,
)
from conclave.service.quiet import Nothing, Quiet
from tests.support.appliance_bench import make_config, prepare_partition, until, with_appliance
from tests.support.authority import Authority, pem
from tests.support.hsm_bench import CO, DOMAIN
from tests.support.told_process import Answer, ToldProcesses, told

CLUSTER_ID = "528b9b72-c305-4dd1-bebc-a4ca24f8c28b"
IN_ORDER = ["join_prepare", "join_commit"]
CALLED_OFF = ["join_prepare", "join_abort"]


async def agree(_params: Any) -> Nothing:
    return Nothing()


async def move_on(_params: Any) -> JoinProgress:
    return JoinProgress(step="copying the store", fraction=0.25)


@dataclass
class Scene:
    """A real HSM and identity, and a cluster process that is told what to answer."""

    appliance: Appliance
    identity: MemberIdentity
    key_der: bytes
    smk: bytes = field(default_factory=lambda: os.urandom(32))
    authority: Authority = field(default_factory=Authority)
    asked: JoinPrepare | None = None
    told_of: list[str] = field(default_factory=list)

    async def prepare(self, params: JoinPrepare) -> JoinPrepared:
        self.asked = params
        key = serialization.load_der_public_key(self.key_der)
        return JoinPrepared(
            smk=self.smk,
            cluster_id=CLUSTER_ID,
            label="theirs",
            dual_identity=False,
            member_id=params.member_id,
            member_certificate_pem=pem(self.authority.issue("member", key)),
            ca_certificate_pem=self.authority.pem,
        )

    def answers(self, **changed: Answer) -> dict[str, Answer]:
        usual: dict[str, Answer] = {
            "join_prepare": self.prepare,
            "join_commit": agree,
            "join_abort": agree,
            "join_progress": move_on,
        }
        return usual | changed

    async def join(
        self,
        processes: ToldProcesses,
        *,
        co_password: bytes = CO,
        stall_seconds: float = 60.0,
    ) -> JoinPrepared:
        join = Join(
            JoinRequest(
                cluster_id=CLUSTER_ID,
                remote_address="127.0.0.2",
                remote_admin_password=b"remote-admin",
                remote_fingerprint="",
                partition_label="par",
                co_password=co_password,
            ),
            hsm=self.appliance.hsm,
            identity=self.identity,
            processes=processes,
            config=self.appliance.cluster.config(),
            tell=self.told_of.append,
            stall_seconds=stall_seconds,
        )
        return await join.run()

    async def held(self) -> tuple[bytes, str]:
        """Return the partition's SMK and the certificate that is kept."""
        smk = await self.appliance.hsm.unlock_smk("par", CO)
        return smk, self.identity.certificate_pem


def play(tmp_path: Path, scene: Callable[[Scene], Awaitable[None]]) -> None:
    async def run(appliance: Appliance) -> None:
        await prepare_partition(appliance)
        identity = await MemberIdentity.open(appliance.documents, appliance.hsm)
        await scene(Scene(appliance, identity, await identity.public_key_der()))

    with_appliance(make_config(tmp_path), run)


def refusing(error: Exception) -> Answer:
    async def refuse(_params: Any) -> Quiet:
        raise error

    return refuse


SKEW = Conflict(faults.CLOCK_SKEW, "The clocks differ by 31 s.")


def test_a_join_keeps_certificate_and_smk_and_then_asks_to_be_taken_in(tmp_path: Path) -> None:
    async def scene(at: Scene) -> None:
        seen: list[tuple[bytes, str]] = []

        async def take_in(_params: Nothing) -> Nothing:
            seen.append(await at.held())
            return Nothing()

        async with told(tmp_path, at.answers(join_commit=take_in)) as processes:
            prepared = await at.join(processes)
        assert processes.methods() == IN_ORDER
        assert seen == [(at.smk, prepared.member_certificate_pem)] == [await at.held()]
        assert processes.held == [(at.smk, DOMAIN)]
        asked = at.asked
        assert asked is not None
        assert (asked.domain, asked.default_domain) == (DOMAIN, False)
        assert (asked.remote_address, asked.cluster_id) == ("127.0.0.2", CLUSTER_ID)
        (own,) = at.appliance.config.interfaces.values()
        assert (asked.address, asked.admin_port, asked.crypto_port) == (own, 50070, 50052)

    play(tmp_path, scene)


def test_a_wrong_co_password_asks_nobody(tmp_path: Path) -> None:
    async def scene(at: Scene) -> None:
        async with told(tmp_path, at.answers()) as processes:
            with pytest.raises(NotAllowed, match="9 attempts are left"):
                await at.join(processes, co_password=b"wrong-password")
        assert processes.asked == []

    play(tmp_path, scene)


def test_a_refused_preparation_changes_nothing(tmp_path: Path) -> None:
    async def scene(at: Scene) -> None:
        before = await at.held()
        async with told(tmp_path, at.answers(join_prepare=refusing(SKEW))) as processes:
            with pytest.raises(Conflict, match="differ by 31 s"):
                await at.join(processes)
        assert processes.methods() == CALLED_OFF
        assert await at.held() == before
        assert processes.held == [None]

    play(tmp_path, scene)


def test_an_smk_that_the_hsm_refuses_calls_the_join_off(tmp_path: Path) -> None:
    async def scene(at: Scene) -> None:
        before = await at.held()
        at.smk = b"short"
        async with told(tmp_path, at.answers()) as processes:
            with pytest.raises(BadInput, match="32 bytes"):
                await at.join(processes)
        assert processes.methods() == CALLED_OFF
        assert await at.held() == before

    play(tmp_path, scene)


def test_a_refused_commit_leaves_no_certificate_and_no_smk_in_memory(tmp_path: Path) -> None:
    async def scene(at: Scene) -> None:
        async with told(tmp_path, at.answers(join_commit=refusing(SKEW))) as processes:
            with pytest.raises(Conflict, match="differ by 31 s"):
                await at.join(processes)
        assert processes.methods() == [*IN_ORDER, "join_abort"]
        assert (await at.held())[1] == ""
        assert processes.held == [(at.smk, DOMAIN), None]

    play(tmp_path, scene)


@pytest.mark.parametrize("taken_in", [True, False])
def test_a_process_that_dies_in_the_commit_is_asked_what_became_of_it(
    tmp_path: Path, taken_in: bool
) -> None:
    async def scene(at: Scene) -> None:
        lost = asyncio.Event()

        async def hang(_params: Nothing) -> Nothing:
            lost.set()
            await asyncio.Event().wait()
            return Nothing()

        async def clusters(_params: Nothing) -> ClusterList:
            theirs = ClusterSummary(CLUSTER_ID, "theirs", False, at.authority.pem)
            return ClusterList(clusters=[theirs] if taken_in else [])

        answers = at.answers(join_commit=hang, list_clusters=clusters)
        async with told(tmp_path, answers) as processes:
            joining = asyncio.create_task(at.join(processes))
            await lost.wait()
            await processes.stop()
            await processes.start()
            if taken_in:
                prepared = await joining
                assert await at.held() == (at.smk, prepared.member_certificate_pem)
                assert processes.methods() == [*IN_ORDER, "list_clusters"]
            else:
                with pytest.raises(Unavailable) as caught:
                    await joining
                assert caught.value.fault is faults.OUTCOME_UNKNOWN
                assert (await at.held())[1] == ""
                assert processes.methods() == [*IN_ORDER, "list_clusters", "join_abort"]

    play(tmp_path, scene)


def test_a_join_that_does_not_move_on_is_called_off_naming_its_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster_join, "POLL_SECONDS", 0.02)

    async def scene(at: Scene) -> None:
        async def hang(_params: JoinPrepare) -> JoinPrepared:
            await asyncio.Event().wait()
            raise AssertionError

        async with told(tmp_path, at.answers(join_prepare=hang)) as processes:
            with pytest.raises(Unavailable, match="0 s in: copying the store"):
                await at.join(processes, stall_seconds=0.1)
        assert processes.methods() == CALLED_OFF
        assert at.told_of == ["copying the store (25%)"]

    play(tmp_path, scene)


def test_whoever_stops_a_join_leaves_nothing_of_it(tmp_path: Path) -> None:
    async def scene(at: Scene) -> None:
        begun = asyncio.Event()

        async def hang(_params: Nothing) -> Nothing:
            begun.set()
            await asyncio.Event().wait()
            return Nothing()

        async with told(tmp_path, at.answers(join_commit=hang)) as processes:
            joining = asyncio.create_task(at.join(processes))
            await begun.wait()
            joining.cancel()
            with pytest.raises(asyncio.CancelledError):
                await joining
            await until(lambda: "join_abort" in processes.methods(), "it is called off")
        assert (await at.held())[1] == ""
        assert processes.held[-1] is None

    play(tmp_path, scene)
