"""Enrolment tokens at the cluster processes: spent once over all members, and by their time."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from conclave import faults
from conclave.cluster.enrolment import KEPT_MS, MAX_TOKENS, add_token, secret_sha256
from conclave.errors import ConclaveError, Conflict, NotAllowed, NotFound
from conclave.service.client_messages import (
    CheckEnrolment,
    ClientList,
    CreateEnrolmentToken,
    EnrolClient,
    EnrolmentTokenList,
    EnrolmentTokenSummary,
    NamedClient,
    NamedEnrolmentToken,
    RegisteredClient,
    RenewClient,
)
from conclave.service.messages import PromoteMember
from conclave.service.quiet import Nothing
from conclave.store.engine import open_writer_engine
from conclave.store.enrolment_tokens import all_tokens
from conclave.store.migrations import migrate
from conclave.store.repository import ClusterWriter
from tests.store.test_store_contract import new_token
from tests.support.authority import Authority
from tests.support.cluster_bench import ClusterBench, client_request, cluster_bench
from tests.support.several import WAIT_SECONDS, several, until

SECRET = os.urandom(32)


async def make(bench: ClusterBench, **changes: Any) -> bytes:
    wanted: dict[str, Any] = {
        "token_id": os.urandom(16),
        "secret_sha256": secret_sha256(SECRET),
        "common_name": "",
        "label": "",
        "monitor_user": "",
        "created_by": "admin",
        "life_ms": 600_000,
    }
    params = CreateEnrolmentToken(**(wanted | changes))
    await bench.daemon.call("create_enrolment_token", params, timeout_seconds=60)
    return params.token_id


async def enrol(
    bench: ClusterBench, token_id: bytes, pem: str, secret: bytes = SECRET
) -> RegisteredClient:
    params = EnrolClient(token_id=token_id, secret=secret, request_pem=pem, label="")
    result: RegisteredClient = await bench.daemon.call("enrol_client", params, timeout_seconds=60)
    return result


async def listed(bench: ClusterBench) -> list[EnrolmentTokenSummary]:
    result: EnrolmentTokenList = await bench.daemon.call("list_enrolment_tokens", Nothing())
    return result.tokens


def new_request(name: str = "host") -> str:
    return client_request(name, ec.generate_private_key(ec.SECP256R1()))


@pytest.mark.system
def test_a_token_is_spent_once_whichever_members_are_asked_at_once(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with several(tmp_path) as house:
            first = await house.first()
            second = await house.join(first)
            await house.all_read_write()
            token = await make(second)
            check = CheckEnrolment(token_id=token, secret=SECRET)
            # Acknowledged, so every visible member knows of it.
            for bench in house.members:
                await bench.daemon.call("check_enrolment", check)
            asked = [(bench, new_request()) for bench in (first, second) * 3]
            answers = await asyncio.gather(
                *(enrol(bench, token, pem) for bench, pem in asked), return_exceptions=True
            )
            (won,) = [at for at, each in enumerate(answers) if isinstance(each, RegisteredClient)]
            refused = [each for each in answers if isinstance(each, NotAllowed)]
            assert len(refused) == len(asked) - 1
            assert {each.fault for each in refused} == {faults.ENROLMENT_REFUSED}
            clients: ClientList = await first.daemon.call("list_clients", Nothing())
            (client,) = [each for each in clients.clients if each.common_name == "host"]
            # Its answer was lost: asked again, elsewhere.
            other = second if asked[won][0] is first else first
            assert (await enrol(other, token, asked[won][1])).client == client

    asyncio.run(scenario())


@pytest.mark.system
def test_a_spent_token_stays_spent_under_another_primary(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with several(tmp_path) as house:
            first = await house.first()
            second = await house.join(first)
            await house.all_read_write()
            spent, still_open, revoked = [await make(first) for _ in range(3)]
            await enrol(second, spent, new_request())
            name = NamedEnrolmentToken(token_id=str(UUID(bytes=revoked)))
            await second.daemon.call("revoke_enrolment_token", name, timeout_seconds=60)
            promote = PromoteMember(member_id=second.member_id)
            await first.daemon.call("promote", promote, timeout_seconds=WAIT_SECONDS)
            await house.all_read_write()
            for bench in house.members:
                for token, why in ((spent, "was used already"), (revoked, "was revoked already")):
                    with pytest.raises(NotAllowed, match=why):
                        await enrol(bench, token, new_request())
            await enrol(first, still_open, new_request())
            states = {each.token_id: each.state for each in await listed(first)}
            assert states == {each.token_id: each.state for each in await listed(second)}
            assert sorted(states.values()) == ["revoked", "used", "used"]

    asyncio.run(scenario())


@pytest.mark.system
def test_a_key_is_one_client_however_often_it_asks_at_once(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with cluster_bench(tmp_path) as bench:
            tokens, pem = [await make(bench) for _ in range(2)], new_request()
            answers = await asyncio.gather(
                *(enrol(bench, token, pem) for token in tokens * 4), return_exceptions=True
            )
            made = [each for each in answers if isinstance(each, RegisteredClient)]
            refused = [each for each in answers if isinstance(each, Conflict)]
            assert (len(made), len(refused)) == (4, 4)
            assert len({each.client.client_id for each in made}) == 1
            assert [each.changed for each in made].count(True) == 1
            assert {each.fault for each in refused} == {faults.CLIENT_EXISTS}
            assert sorted(each.state for each in await listed(bench)) == ["open", "used"]

    asyncio.run(scenario())


@pytest.mark.system
def test_a_token_is_either_used_or_revoked(tmp_path: Path) -> None:
    """Whoever comes first: who is told that it was revoked need not look for a client."""

    async def scenario() -> None:
        async with cluster_bench(tmp_path) as bench:
            for number in range(12):
                token = await make(bench)
                name = NamedEnrolmentToken(token_id=str(UUID(bytes=token)))
                calls = [
                    enrol(bench, token, new_request()),
                    bench.daemon.call("revoke_enrolment_token", name),
                ]
                ordered = asyncio.gather(*calls[:: -1 if number % 2 else 1], return_exceptions=True)
                outcomes = await ordered
                (told,) = [each for each in outcomes if isinstance(each, ConclaveError)]
                (state,) = [
                    each.state for each in await listed(bench) if each.token_id == name.token_id
                ]
                expected = "used" if told.fault is faults.ENROLMENT_USED else "revoked"
                assert state == expected
                assert told.fault in (faults.ENROLMENT_USED, faults.ENROLMENT_REFUSED)

    asyncio.run(scenario())


@pytest.mark.system
def test_a_renewal_beside_a_revocation_brings_no_client_back(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with cluster_bench(tmp_path) as bench:
            pem = new_request()
            made = await bench.register(pem=pem)
            name = NamedClient(client_id=made.client.client_id)
            with closing(sqlite3.connect(bench.database)) as store:
                # Of another CA, so it is due.
                foreign = Authority().certificate.public_bytes(Encoding.DER)
                store.execute("UPDATE clients SET certificate_der = ?", (foreign,))
                store.commit()
            renewals = [
                bench.daemon.call("renew_client", RenewClient(request_pem=pem)) for _ in range(6)
            ]
            revoke = bench.daemon.call("revoke_client", name)
            outcomes = await asyncio.gather(
                *renewals[:3], revoke, *renewals[3:], return_exceptions=True
            )
            assert isinstance(outcomes[3], Nothing)
            for each in outcomes:
                assert not isinstance(each, BaseException) or isinstance(each, Conflict)
            with pytest.raises(Conflict, match="was revoked"):
                await bench.daemon.call("renew_client", RenewClient(request_pem=pem))
            clients: ClientList = await bench.daemon.call("list_clients", Nothing())
            (client,) = [each for each in clients.clients if each.client_id == name.client_id]
            assert client.revoked

    asyncio.run(scenario())


@pytest.mark.system
def test_a_token_ends_with_its_time_and_a_revoked_client_does_not_come_back(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with cluster_bench(tmp_path) as bench:
            brief = await make(bench, life_ms=1)

            async def expired() -> bool:
                (token,) = await listed(bench)
                return token.state == "expired"

            await until(expired)
            with pytest.raises(NotAllowed, match="has expired"):
                await enrol(bench, brief, new_request())
            token, pem = await make(bench), new_request()
            client = (await enrol(bench, token, pem)).client
            await bench.daemon.call("revoke_client", NamedClient(client_id=client.client_id))
            with pytest.raises(Conflict):
                await enrol(bench, token, pem)
            other = await make(bench)
            with pytest.raises(Conflict):
                await enrol(bench, other, pem)
            states = [each.state for each in await listed(bench)]
            assert states == ["expired", "used", "open"]

    asyncio.run(scenario())


@pytest.mark.system
def test_a_token_lives_by_the_clusters_clock_and_no_appliances(tmp_path: Path) -> None:
    """Members differ in their clocks, and who sets one must neither revive tokens nor end them."""

    async def scenario() -> None:
        async with cluster_bench(tmp_path) as bench:
            token, late = await make(bench), await make(bench)
            for offset_ms in (900_000, -900_000):
                bench.page.set_appliance_offset(offset_ms)
                assert {each.state for each in await listed(bench)} == {"open"}
            spent_before_ms = bench.page.cluster_time_ms()
            await enrol(bench, token, new_request())
            by_id = {UUID(each.token_id).bytes: each for each in await listed(bench)}
            assert by_id[token].used_ms >= spent_before_ms
            boot_ms = bench.page.boot_time_ms()
            bench.page.set_cluster_time_offset(by_id[late].expires_ms - boot_ms)
            with pytest.raises(NotAllowed, match="has expired"):
                await enrol(bench, late, new_request())
            assert sorted(each.state for each in await listed(bench)) == ["expired", "used"]

    asyncio.run(scenario())


@pytest.mark.system
def test_a_key_that_is_registered_spends_no_token(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with cluster_bench(tmp_path) as bench:
            pem = new_request()
            present = (await bench.register(pem=pem)).client
            before: ClientList = await bench.daemon.call("list_clients", Nothing())
            token = await make(bench, label="another", monitor_user="another")
            with pytest.raises(Conflict, match=present.client_id) as refused:
                await enrol(bench, token, pem)
            assert refused.value.fault is faults.CLIENT_EXISTS
            assert [each.state for each in await listed(bench)] == ["open"]
            assert await bench.daemon.call("list_clients", Nothing()) == before

    asyncio.run(scenario())


def test_tokens_are_bounded_until_their_time_is_long_over(tmp_path: Path) -> None:
    engine = open_writer_engine(tmp_path / "cluster.db")
    migrate(engine)
    with engine.connect() as connection, connection.begin():
        writer = ClusterWriter(connection)
        for _ in range(MAX_TOKENS):
            add_token(writer, new_token())
        with pytest.raises(Conflict) as full:
            add_token(writer, new_token())
        assert full.value.fault is faults.ENROLMENT_LIMIT
        ended = new_token().expires_ms + KEPT_MS
        later = [new_token(created_ms=ended + more, expires_ms=ended + 9) for more in (0, 1)]
        with pytest.raises(Conflict):
            add_token(writer, later[0])
        add_token(writer, later[1])
        assert all_tokens(writer) == [later[1]]


@pytest.mark.system
def test_an_unauthorized_member_enrols_nobody(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with cluster_bench(tmp_path) as bench:
            token = await make(bench)
            unknown = NamedEnrolmentToken(token_id="00000000-0000-0000-0000-000000000000")
            with pytest.raises(NotFound):
                await bench.daemon.call("revoke_enrolment_token", unknown)
            bench.kill("cluster")
            bench.start_cluster()
            await bench.ready()
            check = CheckEnrolment(token_id=token, secret=SECRET)
            for call in (
                enrol(bench, token, new_request()),
                bench.daemon.call("check_enrolment", check),
            ):
                with pytest.raises(NotAllowed) as refused:
                    await call
                assert refused.value.fault is faults.MEMBER_NOT_AUTHORIZED

    asyncio.run(scenario())
