"""What a worker does when things end: processes, authorization, clients, certificates, tickets."""

from __future__ import annotations

import asyncio
import os
import signal
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from conclave.clock import boot_time_ms
from conclave.cluster.ca import CertificateAuthority, read_client_request
from conclave.cluster.master_keys import derive_master_keys, new_ticket_key, seal_cluster_keys
from conclave.crypto.standard import Cka, Ckm, Cko
from conclave.errors import Ckr
from conclave.ids import ClientId, ClusterId
from conclave.keyring.attributes import TRUE, ulong
from conclave.service import wire
from conclave.service.client_messages import NamedClient
from conclave.service.messages import TicketKey
from conclave.service.page import NO_LEASE_END
from conclave.service.tickets import DAY_MS, Bearer, issue, open_ticket
from conclave.service.wire import BUSY, Operation
from conclave.store.engine import open_writer_engine
from conclave.store.repository import ClusterWriter
from tests.service.conftest import Member, Tenant, make_tenant, signing_tenant
from tests.support.cluster_bench import FIRST, client_request, id_of
from tests.support.worker_bench import NIL, Identity, WireClient, WorkerBench, worker_bench

DATA = [
    (int(Cka.CLASS), ulong(Cko.DATA)),
    (int(Cka.TOKEN), TRUE),
    (int(Cka.VALUE), b"content"),
]


def run(tmp_path: Path, scenario: Callable[[WorkerBench], Awaitable[None]], **options: Any) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(240), worker_bench(tmp_path, **options) as bench:
            await scenario(bench)

    asyncio.run(bounded())


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(60):
        while not await condition():  # noqa: ASYNC110 - the condition lies in another process
            await asyncio.sleep(0.02)


def create_arguments(tenant: Tenant, label: bytes) -> wire.CreateObject:
    template = [*DATA, (int(Cka.LABEL), label)]
    return wire.CreateObject(tenant.keyring, template, tenant.bench.write_arguments())


# ------------------------------------------------------------------ authorization


def test_rule_s4_an_unauthorized_member_lists_and_works_once_it_is_authorized(
    tmp_path: Path,
) -> None:
    async def scenario(bench: WorkerBench) -> None:
        tenant, sign = await signing_tenant(bench)
        assert await tenant.client.ok(Operation.SIGN, sign)
        bench.kill("cluster")
        bench.start_cluster()
        await bench.ready()
        refusals: list[tuple[Operation, Any]] = [
            (Operation.SIGN, sign),
            (Operation.TOKEN_INFO, wire.TokenInfo(tenant.keyring)),
            (Operation.FIND, wire.Find(tenant.keyring, [], 0)),
            (Operation.CREATE_OBJECT, create_arguments(tenant, b"new")),
            (Operation.LOGIN, wire.Login(tenant.keyring, 1, b"a-password", os.urandom(16))),
            (Operation.LOGOUT, []),
        ]
        for operation, args in refusals:
            reply = await tenant.client.call(operation, args)
            assert reply.value == Ckr.KEYRING_NOT_AUTHORIZED, operation
        listed = await tenant.client.ok(Operation.LIST_TOKENS, wire.ListTokens(0, 0))
        assert [token[1] for token in listed] == [tenant.keyring]
        late = await bench.connect(tenant.identity)
        assert not late.greeting.authorized
        await bench.authorize()
        # The same connection, the same ticket: no new C_Initialize, no new login.
        assert await tenant.client.ok(Operation.SIGN, sign)

    run(tmp_path, scenario)


# ------------------------------------------------------------------ dying processes


def test_rule_s4_signatures_go_on_while_the_cluster_process_is_dead(tmp_path: Path) -> None:
    async def scenario(bench: WorkerBench) -> None:
        tenant, sign = await signing_tenant(bench)
        bench.kill("cluster")
        assert await tenant.client.ok(Operation.SIGN, sign)
        create = create_arguments(tenant, b"waits")
        waiting = asyncio.create_task(tenant.client.call(Operation.CREATE_OBJECT, create))
        assert await tenant.client.ok(Operation.SIGN, sign)
        assert (await waiting).value == BUSY
        bench.start_cluster(with_smk=True)
        await bench.ready()
        assert (await tenant.client.call(Operation.CREATE_OBJECT, create)).value == 0
        assert len(await tenant.find(b"waits")) == 1
        assert await tenant.client.ok(Operation.SIGN, sign)

    run(tmp_path, scenario)


def test_rule_s4_no_signature_is_refused_over_a_crash_and_its_respawn(tmp_path: Path) -> None:
    async def scenario(bench: WorkerBench) -> None:
        tenant, sign = await signing_tenant(bench)
        assert await tenant.client.ok(Operation.SIGN, sign)
        bench.kill("cluster")
        bench.start_cluster(with_smk=True)
        ready = asyncio.create_task(bench.ready())
        signed = 0
        while not ready.done() or signed < 10:
            assert await tenant.client.ok(Operation.SIGN, sign)
            signed += 1
        await ready

    run(tmp_path, scenario)


def test_creates_repeated_with_their_keys_over_a_crash_are_made_once(tmp_path: Path) -> None:
    async def scenario(bench: WorkerBench) -> None:
        tenant = await make_tenant(bench)
        client = tenant.client
        requests = [create_arguments(tenant, b"%d" % number) for number in range(100)]
        sent = [
            client.send(Operation.CREATE_OBJECT, args, ticket=client.ticket) for args in requests
        ]
        await asyncio.sleep(0.02)
        bench.kill("cluster")
        bench.start_cluster(with_smk=True)
        first = [await future for future in sent]
        assert {reply.value for reply in first} <= {0, BUSY}
        await bench.ready()
        for args, earlier in zip(requests, first, strict=True):
            reply = await client.call(Operation.CREATE_OBJECT, args)
            assert reply.value == 0
            if earlier.value == 0:
                assert reply.result == earlier.result
        found = await client.ok(Operation.FIND, wire.Find(tenant.keyring, [], 0))
        assert len(found) == len(requests)

    run(tmp_path, scenario)


def test_a_killed_worker_takes_only_its_own_connections(tmp_path: Path) -> None:
    async def scenario(bench: WorkerBench) -> None:
        tenant, sign = await signing_tenant(bench)
        clients: dict[int, WireClient] = {tenant.client.greeting.worker_index: tenant.client}
        while len(clients) < 2:
            client = await bench.connect(tenant.identity)
            client.ticket = tenant.client.ticket
            clients[client.greeting.worker_index] = client
        assert all([await client.ok(Operation.SIGN, sign) for client in clients.values()])
        bench.kill("worker-0")
        assert await clients[0].closed()
        assert await clients[1].ok(Operation.SIGN, sign)
        bench.start_worker(0)

        async def back() -> bool:
            client = await bench.connect(tenant.identity)
            assert await client.ok(Operation.SIGN, sign, ticket=tenant.client.ticket)
            return bool(client.greeting.worker_index == 0)

        await until(back)

    run(tmp_path, scenario, workers=2)


def test_rule_c16_without_its_lease_a_member_reads_and_signs_and_changes_nothing(
    tmp_path: Path,
) -> None:
    async def scenario(bench: WorkerBench) -> None:
        tenant = await make_tenant(bench)
        _, private = await tenant.ec_key()
        bench.page.set_lease_end(boot_time_ms())
        assert await tenant.client.ok(Operation.SIGN, tenant.sign_arguments(private))
        create = create_arguments(tenant, b"new")
        write = bench.write_arguments()
        for operation, args in (
            (Operation.CREATE_OBJECT, create),
            (Operation.DESTROY_OBJECT, wire.DestroyObject(tenant.keyring, private, write)),
            (Operation.SET_PIN, wire.SetPin(tenant.keyring, 1, b"a-password", b"b-word", write)),
        ):
            reply = await tenant.client.call(operation, args)
            assert reply.value == Ckr.TOKEN_WRITE_PROTECTED, operation
        bench.page.set_lease_end(NO_LEASE_END)
        assert (await tenant.client.call(Operation.CREATE_OBJECT, create)).value == 0

    run(tmp_path, scenario)


# ------------------------------------------------------------------ clients and certificates


def test_rule_c11_a_revoked_client_gets_nothing_from_the_next_batch_on(tmp_path: Path) -> None:
    async def scenario(bench: WorkerBench) -> None:
        tenant = await make_tenant(bench)
        other = await make_tenant(bench)
        _, private = await tenant.ec_key()
        assert await tenant.client.ok(Operation.SIGN, tenant.sign_arguments(private))
        await bench.daemon.call("revoke_client", NamedClient(tenant.identity.client_id.hex()))
        with pytest.raises(ConnectionResetError):
            await tenant.client.call(Operation.SIGN, tenant.sign_arguments(private))
        again = await bench.open(tenant.identity)
        with pytest.raises((asyncio.IncompleteReadError, OSError)):
            await again.begin()
        assert (await other.client.call(Operation.PING)).value == 0

    run(tmp_path, scenario)


def revoke_in_the_store(bench: WorkerBench, client_id: ClientId) -> None:
    """Commit and bump, as the cluster process does."""
    engine = open_writer_engine(bench.database)
    with engine.begin() as connection:
        ClusterWriter(connection).revoke_client(client_id)
    engine.dispose()
    bench.page.bump_clients()


def test_c11_a_client_revoked_while_its_request_waits_gets_nothing(tmp_path: Path) -> None:
    async def scenario(bench: WorkerBench) -> None:
        tenant = await make_tenant(bench)
        _, private = await tenant.ec_key()
        ticket = tenant.client.ticket
        bench.kill("worker-0")
        cluster = bench.processes["cluster"]
        cluster.send_signal(signal.SIGSTOP)  # a new worker has no keys, and its requests wait
        try:
            bench.start_worker()
            client = await bench.connect(tenant.identity)
            waiting = client.send(Operation.SIGN, tenant.sign_arguments(private), ticket=ticket)
            await client.ok(Operation.PING)
            revoke_in_the_store(bench, tenant.identity.client_id)
        finally:
            cluster.send_signal(signal.SIGCONT)
        try:
            assert (await waiting).value == BUSY  # the wait for the keys was over just before
        except ConnectionResetError:
            assert await client.closed()

    run(tmp_path, scenario)


def test_c11_a_stolen_ticket_is_refused_where_its_key_is_ready(tmp_path: Path) -> None:
    async def scenario(bench: WorkerBench) -> None:
        tenant, thief = await make_tenant(bench), await make_tenant(bench)
        sign = await tenant.signing()
        for _ in range(3):
            await tenant.client.ok(Operation.SIGN, sign)
        reply = await thief.client.call(Operation.SIGN, sign, ticket=tenant.client.ticket)
        assert reply.value == Ckr.USER_NOT_LOGGED_IN
        await tenant.client.ok(Operation.SIGN, sign)

    run(tmp_path, scenario)


def certified(authority: CertificateAuthority, ca_pem: str) -> Identity:
    key = ec.generate_private_key(ec.SECP256R1())
    request = read_client_request(client_request("unlisted", key))
    certificate = authority.certify_client(request, ClientId(os.urandom(16)), datetime.now(UTC))
    return Identity(
        client_id=ClientId(b""),
        key_pem=key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        certificate_pem=certificate.public_bytes(Encoding.PEM),
        ca_pem=ca_pem,
    )


async def refused_at_the_door(bench: WorkerBench, identity: Identity) -> None:
    with pytest.raises((asyncio.IncompleteReadError, OSError)):
        client = await bench.open(identity)
        await asyncio.wait_for(client.begin(), 20)


def test_rule_c3_a_certificate_of_the_ca_accepts_nobody_by_itself(member: Member) -> None:
    async def scenario(tenant: Tenant) -> None:
        ca_pem = tenant.identity.ca_pem
        ca = x509.load_pem_x509_certificate(ca_pem.encode()).public_bytes(Encoding.DER)
        ours = CertificateAuthority.load(tenant.bench.cluster_keys().ca_key_pkcs8, ca)
        await refused_at_the_door(tenant.bench, certified(ours, ca_pem))
        theirs = CertificateAuthority.create(ClusterId("other"), "lab", datetime.now(UTC))
        await refused_at_the_door(tenant.bench, certified(theirs, ca_pem))
        assert await tenant.bench.connect(tenant.identity)

    member.run(scenario)


def test_no_certificate_and_no_older_tls_are_refused(member: Member) -> None:
    async def scenario(tenant: Tenant) -> None:
        with pytest.raises((asyncio.IncompleteReadError, OSError)):
            client = await tenant.bench.open(None, tenant.identity.ca_pem)
            await client.begin()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        port = tenant.bench.listener.getsockname()[1]
        with pytest.raises(OSError):
            await asyncio.open_connection("127.0.0.1", port, ssl=context)

    member.run(scenario)


def test_c11_no_session_of_tls_is_resumed(member: Member) -> None:
    """A resumed session would bring back a client that was checked once, long ago."""

    async def scenario(tenant: Tenant) -> None:
        for client in (tenant.client, await tenant.another(role=None)):
            await client.ok(Operation.PING)
            tls = client.writer.get_extra_info("ssl_object")
            assert not tls.session_reused
            assert not tls.session.has_ticket

    member.run(scenario)


def test_rule_t1_the_appliance_clock_decides_on_certificates(tmp_path: Path) -> None:
    async def scenario(bench: WorkerBench) -> None:
        tenant = await make_tenant(bench)
        ten_years_ms = 3650 * DAY_MS
        for offset in (ten_years_ms, -ten_years_ms):
            client = await bench.connect(tenant.identity)
            bench.page.set_appliance_offset(offset)
            assert await client.closed()
            await refused_at_the_door(bench, tenant.identity)
            bench.page.set_appliance_offset(0)
        assert (await (await bench.connect(tenant.identity)).call(Operation.PING)).value == 0

    run(tmp_path, scenario)


# ------------------------------------------------------------------ tickets


def forged(tenant: Tenant, **changes: Any) -> bytes:
    """Return a ticket made with the real ticket key, as a holder of the SMK could."""
    bench = tenant.bench
    newest = bench.cluster_keys().ticket_keys[0]
    bearer = Bearer(
        ClusterId(bench.cluster_id),
        tenant.identity.client_id,
        bench.page.cluster_time_ms(),
    )
    assert tenant.client.ticket is not None
    good = open_ticket(tenant.client.ticket, {newest.version: newest.key}, bearer)
    return issue(msgspec.structs.replace(good, **changes), newest.version, newest.key)


def test_rule_c10_a_ticket_forged_with_the_ticket_key_opens_and_destroys_nothing(
    member: Member,
) -> None:
    async def scenario(tenant: Tenant) -> None:
        _, private = await tenant.ec_key()
        made = await tenant.client.ok(Operation.CREATE_OBJECT, create_arguments(tenant, b"mine"))
        client = await tenant.another(role=None)
        for changes in ({"key": os.urandom(32)}, {"key": b""}, {"key": b"", "key_generation": 0}):
            ticket = forged(tenant, login_id=os.urandom(16), **changes)
            destroy = wire.DestroyObject(tenant.keyring, made[0], tenant.bench.write_arguments())
            for operation, args in (
                (Operation.SIGN, tenant.sign_arguments(private)),
                (Operation.FIND, wire.Find(tenant.keyring, [], 0)),
                (Operation.DESTROY_OBJECT, destroy),
                (Operation.CREATE_OBJECT, create_arguments(tenant, b"theirs")),
            ):
                reply = await client.call(operation, args, ticket=ticket)
                assert reply.value == Ckr.USER_NOT_LOGGED_IN, operation
        assert len(await tenant.find(b"mine")) == 1
        assert await tenant.find(b"theirs") == []

    member.run(scenario)


def test_c11_an_expired_ticket_is_void_and_a_used_one_is_renewed(member: Member) -> None:
    async def scenario(tenant: Tenant) -> None:
        _, private = await tenant.ec_key()
        _, passing = await tenant.ec_key(token=False)
        sign = tenant.sign_arguments(private)
        now = tenant.bench.page.cluster_time_ms()
        client = await tenant.another(role=None)
        expired = forged(tenant, issued_ms=now - 7 * DAY_MS, expires_ms=now - 1)
        reply = await client.call(Operation.SIGN, sign, ticket=expired)
        assert reply.value == Ckr.USER_NOT_LOGGED_IN
        used = forged(tenant, issued_ms=now - DAY_MS, expires_ms=now + 6 * DAY_MS)
        reply = await client.call(Operation.SIGN, sign, ticket=used)
        assert reply.value == 0
        assert reply.ticket not in (None, used)
        renewed = reply.ticket
        # Once per minute is enough, and the login goes on: so do its session objects.
        reply = await client.call(Operation.SIGN, sign, ticket=used)
        assert (reply.value, reply.ticket) == (0, None)
        reply = await client.call(Operation.SIGN, tenant.sign_arguments(passing), ticket=renewed)
        assert (reply.value, reply.ticket) == (0, None)

    member.run(scenario)


def with_newer_ticket_key(bench: WorkerBench) -> TicketKey:
    """Put a ticket key into the store, as the replication does before the process hears of it."""
    keys, master = bench.cluster_keys(), derive_master_keys(bench.smk)
    newer = new_ticket_key(keys.ticket_keys[0].version + 1)
    keys = msgspec.structs.replace(keys, ticket_keys=[newer, *keys.ticket_keys])
    engine = open_writer_engine(bench.database)
    with engine.begin() as connection:
        writer = ClusterWriter(connection)
        row = writer.cluster_state()
        assert row is not None
        sealed = seal_cluster_keys(keys, master, row.cluster_id)
        writer.put_cluster_state(replace(row, sealed_keys=sealed))
    engine.dispose()
    return newer


def test_c3_a_ticket_of_a_key_that_the_member_has_not_heard_of_is_no_ended_login(
    tmp_path: Path,
) -> None:
    """A client that was given it by the primary shows it here before the keys were read again."""

    async def scenario(bench: WorkerBench) -> None:
        tenant, sign = await signing_tenant(bench)
        good = forged(tenant)
        # The row moves on at the very time at which tickets of its new key are shown.
        old = bench.cluster_keys().ticket_keys[0]
        newer = with_newer_ticket_key(bench)
        bearer = Bearer(
            ClusterId(bench.cluster_id), tenant.identity.client_id, bench.page.cluster_time_ms()
        )
        ticket = open_ticket(good, {old.version: old.key}, bearer)
        renewed = issue(ticket, newer.version, newer.key)
        client = await tenant.another(role=None)
        arguments = create_arguments(tenant, b"made under a newer key")
        reply = await client.call(Operation.CREATE_OBJECT, arguments, ticket=renewed)
        assert reply.value == 0
        assert (await client.call(Operation.SIGN, sign, ticket=renewed)).value == 0
        unknown = issue(ticket, newer.version + 1, os.urandom(32))
        reply = await client.call(Operation.SIGN, sign, ticket=unknown)
        assert reply.value == Ckr.USER_NOT_LOGGED_IN
        newest = with_newer_ticket_key(bench)
        last = issue(ticket, newest.version, newest.key)
        assert (await client.call(Operation.LOGOUT, ticket=last)).value == 0
        reply = await client.call(Operation.SIGN, sign, ticket=renewed)
        assert reply.value == Ckr.USER_NOT_LOGGED_IN

    run(tmp_path, scenario)


def test_c3_a_ticket_of_a_newer_key_is_not_judged_while_the_store_cannot_be_read(
    tmp_path: Path,
) -> None:
    async def scenario(bench: WorkerBench) -> None:
        tenant, sign = await signing_tenant(bench)
        assert await tenant.client.ok(Operation.SIGN, sign)
        bench.kill("cluster")
        assert tenant.client.ticket is not None
        unknown = (99).to_bytes(4, "big") + tenant.client.ticket[4:]
        reply = await tenant.client.call(Operation.SIGN, sign, ticket=unknown)
        assert reply.value == BUSY

    run(tmp_path, scenario)


def test_c13_a_logout_ends_the_login_here_while_the_cluster_process_is_dead(
    tmp_path: Path,
) -> None:
    async def scenario(bench: WorkerBench) -> None:
        tenant, sign = await signing_tenant(bench)
        assert await tenant.client.ok(Operation.SIGN, sign)
        bench.kill("cluster")
        assert await tenant.client.ok(Operation.SIGN, sign)
        await tenant.client.ok(Operation.LOGOUT)
        reply = await tenant.client.call(Operation.SIGN, sign)
        assert reply.value == Ckr.USER_NOT_LOGGED_IN

    run(tmp_path, scenario)


def test_a_ticket_that_ends_meanwhile_ends_in_a_warm_cache_too(member: Member) -> None:
    async def scenario(tenant: Tenant) -> None:
        _, private = await tenant.ec_key()
        now = tenant.bench.page.cluster_time_ms()
        soon = forged(tenant, issued_ms=now, expires_ms=now + 500)
        sign = tenant.sign_arguments(private)
        client = await tenant.another(role=None)
        assert (await client.call(Operation.SIGN, sign, ticket=soon)).value == 0

        async def over() -> bool:
            reply = await client.call(Operation.SIGN, sign, ticket=soon)
            return reply.value == Ckr.USER_NOT_LOGGED_IN

        await until(over)

    member.run(scenario)


def test_a_first_password_allows_its_change_and_nothing_else(member: Member) -> None:
    async def scenario(tenant: Tenant) -> None:
        bench, client = tenant.bench, await tenant.another(role=None)
        (summary,) = await bench.make_keyrings(f"first-{os.urandom(4).hex()}", password=FIRST)
        keyring = id_of(summary)
        login = wire.Login(keyring, 0, FIRST, os.urandom(16))
        assert (await client.call(Operation.LOGIN, login, ticket=None)).value == 0
        use = wire.UseKey(keyring, os.urandom(16), int(Ckm.ECDSA), NIL, b"")
        for operation, args in (
            (Operation.FIND, wire.Find(keyring, [], 0)),
            (Operation.SIGN, use),
            (Operation.INIT_PIN, wire.InitPin(keyring, b"new-password", bench.write_arguments())),
            (Operation.CREATE_OBJECT, wire.CreateObject(keyring, DATA, bench.write_arguments())),
        ):
            assert (await client.call(operation, args)).value == Ckr.PIN_EXPIRED, operation
        change = wire.SetPin(keyring, 0, FIRST, b"a-password", bench.write_arguments())
        assert (await client.call(Operation.SET_PIN, change)).value == 0
        assert await client.ok(Operation.FIND, wire.Find(keyring, [], 0)) == []

    member.run(scenario)


# ------------------------------------------------------------------ stopped workers


def test_c15_a_stopped_worker_blocks_nobody_and_shows_the_change_at_once(tmp_path: Path) -> None:
    """Workers acknowledge nothing: the page alone tells them that what they hold is old."""

    async def scenario(bench: WorkerBench) -> None:
        tenant = await make_tenant(bench)
        clients = {tenant.client.greeting.worker_index: tenant.client}
        while len(clients) < 2:
            client = await tenant.another(role=None)
            client.ticket = tenant.client.ticket
            clients.setdefault(client.greeting.worker_index, client)
        find = wire.Find(tenant.keyring, [(int(Cka.LABEL), b"new")], 0)
        for client in clients.values():
            assert await client.ok(Operation.FIND, find) == []
        stopped = bench.processes["worker-0"]
        stopped.send_signal(signal.SIGSTOP)
        try:
            made = await clients[1].ok(Operation.CREATE_OBJECT, create_arguments(tenant, b"new"))
        finally:
            stopped.send_signal(signal.SIGCONT)
        assert await clients[0].ok(Operation.FIND, find) == [made[0]]

    run(tmp_path, scenario, workers=2)
