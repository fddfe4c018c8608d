"""New keys of the cluster after a deletion (rule C3): versions of the CA that follow each other."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from sqlalchemy import text

from conclave import faults
from conclave.cluster import ca, rotation
from conclave.cluster.ca import CertificateAuthority, der, pems, spki_der
from conclave.cluster.configuration import Configuration, MemberState, Standing
from conclave.cluster.configuration import Peer as MemberPeer
from conclave.cluster.epochs import Epoch
from conclave.cluster.judging import REASON_DELETED, REASON_UNKNOWN, judge
from conclave.cluster.link.hello import Hello, Verdict
from conclave.cluster.member_state import FILE_NAME, MemberStateFile
from conclave.cluster.rotation import KEPT_AUTHORITIES, KEPT_TICKET_KEYS, is_due, rotated
from conclave.errors import CredentialRefused, Unavailable
from conclave.ids import ClientId, ClusterId, ClusterTimeMs, MemberId
from conclave.service.client_messages import RegisterClient, RegisteredClient
from conclave.service.messages import ClusterList, DeleteMember, MemberReport, PromoteMember
from conclave.service.quiet import Nothing
from conclave.service.tickets import Bearer, Ticket, issue, open_ticket
from conclave.service.wire import Role
from conclave.store.engine import open_postgresql_writer
from conclave.store.postgresql import account as accounts
from tests.cluster.test_cluster_members import invisible, make, notice, refusal, with_three
from tests.support.ca_versions import NOW, versions, without
from tests.support.cluster_bench import ClusterBench, client_request
from tests.support.link_bench import (
    CLUSTER,
    FIRST,
    PONG,
    SECOND,
    Credentials,
    calling,
    certify,
    new_authority,
    pem_of,
    run,
    serving,
)
from tests.support.several import Several, until

GONE = MemberId("gone")


def member_certificate(authority: CertificateAuthority) -> x509.Certificate:
    key = spki_der(ec.generate_private_key(ec.SECP256R1()).public_key())
    return authority.certify_member(key, FIRST, common_name="lnh.test", other_names=[], now=NOW)


def verified(directory: Path, leaf: x509.Certificate, trusted: bytes, shown: list[bytes]) -> bool:
    """Let OpenSSL's own command follow a chain."""
    for name, chain in (("leaf", pems([der(leaf)])), ("trusted", pems([trusted]))):
        (directory / name).write_text(chain)
    (directory / "shown").write_text(pems(shown))
    untrusted = ["-untrusted", "shown"] if shown else []
    command = ["openssl", "verify", "-x509_strict", "-no_check_time", "-CAfile", "trusted"]
    done = subprocess.run(
        [*command, *untrusted, "leaf"], cwd=directory, capture_output=True, check=False
    )
    return done.returncode == 0


@pytest.mark.parametrize("count", [2, 3, KEPT_AUTHORITIES])
def test_c3_who_knows_any_former_authority_follows_the_cross_certificates(
    tmp_path: Path, count: int
) -> None:
    keys, authorities = versions(count)
    leaf = member_certificate(authorities[-1])
    shown = list(keys.cross_certificates)
    for authority in authorities:
        assert verified(tmp_path, leaf, der(authority.certificate), shown)
    assert not verified(tmp_path, leaf, der(authorities[0].certificate), [])
    assert not verified(tmp_path, leaf, der(authorities[0].certificate), shown[:-1])
    stranger = CertificateAuthority.create(ClusterId("c" * 36), "lab", NOW)
    assert not verified(tmp_path, leaf, der(stranger.certificate), shown)


def test_c3_who_knows_the_newest_authority_only_does_not_believe_a_former_one(
    tmp_path: Path,
) -> None:
    """A deleted member keeps the key that it knew: newcomers are not to be deceived with it."""
    keys, authorities = versions(2)
    forged = member_certificate(authorities[0])
    newest = der(authorities[1].certificate)
    assert not verified(tmp_path, forged, newest, list(keys.cross_certificates))
    assert authorities[0].issued(forged)
    assert not authorities[1].issued(forged)


def test_c3_former_authorities_are_kept_in_a_bounded_number_and_tickets_for_one_renewal() -> None:
    keys, authorities = versions(KEPT_AUTHORITIES + 3)
    newest_first = [der(each.certificate) for each in reversed(authorities)]
    assert list(keys.former_authorities) == newest_first[1:KEPT_AUTHORITIES]
    assert len(keys.cross_certificates) == KEPT_AUTHORITIES - 1
    newest = len(authorities)
    kept = [key.version for key in keys.ticket_keys]
    assert kept == list(range(newest, newest - KEPT_TICKET_KEYS, -1))


def test_c3_a_client_that_was_idle_through_several_deletions_shows_its_ticket_for_its_renewal() -> (
    None
):
    bearer = Bearer(ClusterId("c" * 36), ClientId(b"client"), ClusterTimeMs(1))
    ticket = Ticket(
        cluster_id=bearer.cluster_id,
        keyring_id=bytes(16),
        role=Role.KRCO,
        key=bytes(32),
        key_generation=1,
        authorization_version=bytes(16),
        client_id=bearer.client_id,
        login_id=bytes(16),
        issued_ms=0,
        expires_ms=2,
    )
    keys, (authority,) = versions(1)
    blob = issue(ticket, 1, keys.ticket_keys[0].key)

    def opened() -> Ticket:
        return open_ticket(blob, {key.version: key.key for key in keys.ticket_keys}, bearer)

    for number in range(1, KEPT_TICKET_KEYS):
        assert opened() == ticket
        gone = without(MemberId(f"gone-{number}"))
        keys, authority = rotated(keys, authority, gone, NOW)
    assert KEPT_TICKET_KEYS > 3  # two deletions shortly after another log nobody out
    assert opened() == ticket
    keys, _ = rotated(keys, authority, without(MemberId("gone")), NOW)
    with pytest.raises(CredentialRefused, match="not known here"):
        opened()


def test_c3_keys_are_due_exactly_when_a_deleted_member_knows_them() -> None:
    first, _ = versions(1)
    assert not is_due(first, without())
    left = Configuration(Epoch(1, FIRST), FIRST, (), ((GONE, Standing.LEFT),))
    assert not is_due(first, left)
    assert is_due(first, without(GONE))
    second, _ = versions(2)
    assert not is_due(second, without(MemberId("gone-1")))
    assert is_due(second, without(MemberId("gone-1"), GONE))


def test_c3_a_members_key_is_certified_again_under_its_names() -> None:
    _, (former, newest) = versions(2)
    before = member_certificate(former)
    after = newest.certify_again(before, NOW)
    assert newest.issued(after)
    assert ca.issuer_of(after) == newest.key_identifier != ca.issuer_of(before)
    assert spki_der(after.public_key()) == spki_der(before.public_key())
    assert after.subject == before.subject
    names = [
        each.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        for each in (before, after)
    ]
    assert names[0] == names[1]


def test_c3_a_member_is_behind_unless_all_that_it_shows_is_of_the_newest_authority() -> None:
    shown = {
        MemberId("new"): (b"new",),
        MemberId("none"): (),
        MemberId("old"): (b"old",),
        MemberId("mixed"): (b"new", b"old"),
        MemberId("unknown"): None,
    }
    assert rotation.behind(shown, b"new") == ("old", "mixed", "unknown")


# ------------------------------------------------------------------ at the link


def crossed(
    renewed: CertificateAuthority, former: CertificateAuthority, member_id: MemberId
) -> Credentials:
    """Return what a member shows and trusts after a rotation."""
    plain = certify(renewed, member_id)
    cross = former.certify_successor(renewed, datetime.now(UTC))
    return Credentials(
        plain.certificate_pem + pem_of(cross),
        plain.key_pem,
        plain.ca_pem + pem_of(former.certificate),
        member_id,
        plain.key_sha256,
    )


def test_c3_a_member_that_missed_the_rotation_and_one_that_did_not_speak_both_ways() -> None:
    authority = new_authority()
    ours = crossed(authority.successor(datetime.now(UTC)), authority, FIRST)
    theirs = certify(authority, SECOND)

    async def scenario() -> None:
        for server, caller in ((ours, theirs), (theirs, ours)):
            async with serving(server) as (_, port), calling(caller, port) as client:
                assert await client.call("ping", Nothing(), timeout_seconds=5.0) == PONG

    run(scenario)


def test_c3_a_deleted_members_certificate_is_refused_whatever_authority_made_it() -> None:
    """The deleted member knows the former CA's key, and may certify whatever it likes with it."""
    authority = new_authority()
    ours = crossed(authority.successor(datetime.now(UTC)), authority, FIRST)
    own, forged = certify(authority, SECOND), certify(authority, FIRST)
    peer = MemberPeer(FIRST, "127.0.0.1", 1, ours.key_sha256)
    listed = Configuration(Epoch(2, FIRST), FIRST, (peer,), ((SECOND, Standing.DELETED),))
    state = MemberState(CLUSTER, FIRST, Standing.MEMBER, listed, listed.epoch)
    verdicts: list[Verdict] = []

    def judged(hello: Hello, key: bytes | None, _address: str) -> Verdict:
        verdicts.append(judge(state, hello, key))
        return verdicts[-1]

    async def scenario() -> None:
        async with serving(ours, judge=judged) as (_, port):
            for deleted in (own, forged):
                async with calling(deleted, port) as client:
                    with pytest.raises(Unavailable):
                        await client.call("ping", Nothing(), timeout_seconds=0.5)

    run(scenario)
    assert {verdict.reason for verdict in verdicts} == {REASON_DELETED, REASON_UNKNOWN}


# ------------------------------------------------------------------ on real members


def issuer_of(chain_pem: str) -> bytes:
    """Return the key identifier of the CA that issued the first certificate of a chain."""
    leaf = x509.load_pem_x509_certificate(chain_pem.encode())
    found = leaf.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    assert found.key_identifier is not None
    return found.key_identifier


def identifier_of(ca_pem: str) -> bytes:
    """Return the key identifier of the first CA of a chain."""
    first = x509.load_pem_x509_certificate(ca_pem.encode())
    return first.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest


async def authority_at(bench: ClusterBench) -> str:
    listed: ClusterList = await bench.daemon.call("list_clusters", Nothing())
    return listed.clusters[0].ca_certificate_pem


async def shows(bench: ClusterBench, ca_pem: str, versions: int) -> None:
    """Wait until a member's daemon was given a certificate of this CA, and all versions of it."""

    async def condition() -> bool:
        told = await notice(bench)
        if not told.ca_certificate_pem:
            return False
        shown = identifier_of(told.ca_certificate_pem) == identifier_of(ca_pem)
        own = issuer_of(told.member_certificate_pem) == identifier_of(ca_pem)
        return shown and own and told.ca_certificate_pem.count("BEGIN") == versions

    await until(condition)


async def serves(bench: ClusterBench, ca_pem: str) -> None:
    """Say as a daemon does that all workers show a certificate of this CA."""
    report = MemberReport(
        restart_required=False,
        admin_port=50070,
        crypto_port=50052,
        issuers=(identifier_of(ca_pem),),
    )
    await bench.daemon.call("report", report)


async def register(at: ClusterBench, common_name: str) -> RegisteredClient:
    """Register a client, which may have to wait for members."""
    params = RegisterClient(request_pem=client_request(common_name), label="", monitor_user="")
    registered: RegisteredClient = await at.daemon.call(
        "register_client", params, timeout_seconds=60
    )
    return registered


@pytest.mark.system
@with_three
async def test_c3_a_deletion_makes_a_new_authority_that_all_members_take_up(
    house: Several,
) -> None:
    first, second, third = house.members
    key = ec.generate_private_key(ec.SECP256R1())
    former = await authority_at(first)
    before = await first.register("host", pem=client_request("host", key))
    second.kill("cluster")
    third.kill("cluster")
    for bench in (second, third):
        await invisible(house, first, bench)
    request = DeleteMember(member_id=third.member_id, force=True)
    await first.daemon.call("delete_member", request, timeout_seconds=30)
    newest = await authority_at(first)
    assert identifier_of(newest) != identifier_of(former)
    await shows(first, newest, 2)
    await serves(first, newest)
    second.start_cluster()  # it was off, knows the former CA only, and is let in (rule B3)
    house.members.remove(third)
    try:
        await house.all_read_write()
        await shows(second, newest, 2)
        await serves(second, former)
        error = await refusal(register(second, "other"))
        assert error.fault is faults.BUSY
        assert second.member_id in error.message
        assert first.member_id not in error.message
        await serves(second, newest)
        await make(second, "after")
        new: RegisteredClient = await register(second, "other")
        assert issuer_of(new.certificate_pem) == identifier_of(newest)
        again: RegisteredClient = await second.register("host", pem=client_request("host", key))
        assert again.client == before.client
        assert issuer_of(before.certificate_pem) == identifier_of(former)
        assert issuer_of(again.certificate_pem) == identifier_of(newest)
        assert again.ca_certificate_pem == newest
        third.start_cluster(with_smk=True)

        async def removed() -> bool:
            return (await notice(third)).removed == "deleted"

        await until(removed)
        joined = await house.join(second)  # it trusts both versions from the first moment
        await house.all_read_write()
        await shows(joined, newest, 2)
    finally:
        house.members.append(third)


@pytest.mark.system
@with_three
async def test_c3_a_rotation_that_was_left_undone_is_finished_by_the_next_primary(
    house: Several,
) -> None:
    """Whoever deletes without being authorized, or dies before the keys are there, makes none."""
    first, second, third = house.members
    former = await authority_at(first)
    for bench in house.members:
        bench.kill("cluster")
    for bench in (first, second):
        bench.start_cluster()
        await bench.ready()
    for bench in (first, second):
        await invisible(house, bench, third)
    request = DeleteMember(member_id=third.member_id)

    async def deleted() -> bool:
        await first.daemon.call("delete_member", request, timeout_seconds=30)
        return True

    await until(deleted)
    assert await authority_at(first) == former
    promotion = PromoteMember(member_id=second.member_id)

    async def promoted() -> bool:
        seen = await house.seen_by(second)
        if seen[second.member_id].read_write and not seen[second.member_id].primary:
            await second.daemon.call("promote", promotion, timeout_seconds=60)
        return (await house.seen_by(second))[second.member_id].primary

    await until(promoted)
    assert await authority_at(second) == former
    await second.authorize()

    async def made() -> bool:
        return await authority_at(first) != former

    await until(made)
    newest = await authority_at(second)
    for bench in (first, second):
        await shows(bench, newest, 2)
    await make(first, "after")
    assert await authority_at(first) == newest


@contextmanager
def unwritable(bench: ClusterBench) -> Iterator[None]:
    """Let every change of the cluster's own row wait; who reads does not."""
    places = accounts.directories(bench.directory, accounts.find())
    engine = open_postgresql_writer(places.run)
    connection = engine.connect()
    try:
        connection.execute(text("LOCK TABLE cluster_state IN SHARE MODE"))
        yield
    finally:
        # Its server may have ended with the process that kept it.
        connection.invalidate()
        connection.close()
        engine.dispose()


@pytest.mark.system
@with_three
async def test_c3_a_rotation_is_made_by_the_primary_that_was_killed_before_its_commit(
    house: Several,
) -> None:
    first, second, third = house.members
    former = await authority_at(first)
    third.kill("cluster")
    for bench in (first, second):
        await invisible(house, bench, third)

    async def is_listed_no_more() -> bool:
        state = MemberStateFile(first.directory / FILE_NAME).load()
        assert state is not None
        return third.member_id in state.configuration.deleted()

    with unwritable(first):
        request = DeleteMember(member_id=third.member_id)
        deletion = asyncio.create_task(
            refusal(first.daemon.call("delete_member", request, timeout_seconds=30))
        )
        await until(is_listed_no_more)
        assert await authority_at(first) == former
        first.kill("cluster")
        assert (await deletion).fault in (faults.OUTCOME_UNKNOWN, faults.BUSY)
    first.start_cluster(with_smk=True)
    house.members.remove(third)

    async def made() -> bool:
        return await authority_at(second) != former

    try:
        await house.all_read_write()
        await until(made)
        newest = await authority_at(second)
        assert identifier_of(newest) != identifier_of(former)
        for bench in (first, second):
            await shows(bench, newest, 2)
            await serves(bench, newest)
        registered = await register(second, "host")
        assert issuer_of(registered.certificate_pem) == identifier_of(newest)
    finally:
        house.members.append(third)
