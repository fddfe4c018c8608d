"""The client's link against a scripted worker: names, retries, deadlines, broken peers."""

from __future__ import annotations

import contextlib
import datetime
import re
import socket
from collections.abc import Iterator
from dataclasses import replace

import msgspec
import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID

from conclave import faults
from conclave.client.async_session import AsyncKeyringSession
from conclave.client.dialogue import Interrupted
from conclave.client.link import Link
from conclave.client.session import Client, KeyringSession
from conclave.client.ways import Waiting
from conclave.errors import (
    BadInput,
    Ckr,
    CredentialRefused,
    InternalFault,
    NotAllowed,
    NotFound,
    Unavailable,
)
from conclave.service import wire
from tests.support.authority import Authority
from tests.support.scripted_worker import (
    CLUSTER_TIME_MS,
    DROP,
    GREETING,
    KEYRING,
    SERVER_NAME,
    SILENCE,
    Start,
    Step,
    Worker,
    pair_of_members,
)


@contextlib.contextmanager
def link_to(
    worker: Worker, *, timeout_seconds: float = 5.0, name: str = SERVER_NAME
) -> Iterator[Link]:
    link = Link(
        worker.entry(name),
        timeout_seconds=timeout_seconds,
        waiting=Waiting(jitter=lambda: 0.0),
    )
    try:
        yield link
    finally:
        link.close()


def session(link: Link) -> KeyringSession:
    return KeyringSession(AsyncKeyringSession(link.core, KEYRING))


def test_a_lost_connection_is_replaced_and_the_same_write_is_sent_again(start: Start) -> None:
    worker = start(DROP, DROP, (0, None))
    with link_to(worker) as link:
        session(link).destroy_object(b"o" * 16)
    assert worker.connections == 3
    assert len(set(worker.bodies)) == 1
    write = msgspec.msgpack.decode(worker.bodies[0], type=wire.DestroyObject).write
    assert len(write.idempotency_key) == 16
    assert CLUSTER_TIME_MS < write.deadline_ms <= CLUSTER_TIME_MS + 60_000


def test_c21_a_login_is_tried_once_and_repeated_with_its_attempt_id_only(start: Start) -> None:
    worker = start((Ckr.PIN_INCORRECT,), DROP, (0, None, b"ticket"))
    with link_to(worker) as link:
        with pytest.raises(CredentialRefused) as refused:
            session(link).login(wire.Role.KRCO, b"wrong")
        assert refused.value.fault.ckr is Ckr.PIN_INCORRECT
        assert len(worker.requests) == 1
        session(link).login(wire.Role.KRCO, b"right")
    attempts = [msgspec.msgpack.decode(body, type=wire.Login).attempt_id for body in worker.bodies]
    assert attempts[1] == attempts[2] != attempts[0]


def test_busy_is_waited_for_until_the_deadline(start: Start) -> None:
    worker = start((wire.BUSY,), (wire.BUSY,), (0, None))
    with link_to(worker) as link:
        Client(link).ping()
    assert len(worker.requests) == 3
    assert worker.connections == 1
    always = start(*[(wire.BUSY,)] * 100)
    with link_to(always, timeout_seconds=0.3) as link, pytest.raises(Unavailable) as late:
        Client(link).ping()
    assert late.value.fault is faults.UNABLE_TO_CONNECT


def test_an_unanswered_request_has_an_unknown_outcome(start: Start) -> None:
    worker = start(SILENCE)
    with link_to(worker, timeout_seconds=0.5) as link, pytest.raises(Unavailable) as late:
        session(link).destroy_object(b"o" * 16)
    assert late.value.fault is faults.OUTCOME_UNKNOWN
    assert late.value.fault.ckr is Ckr.DEVICE_ERROR


def test_a_busy_answer_after_a_lost_one_leaves_the_outcome_unknown(start: Start) -> None:
    worker = start(DROP, *[(wire.BUSY,)] * 100)
    with link_to(worker, timeout_seconds=0.5) as link, pytest.raises(Unavailable) as late:
        session(link).destroy_object(b"o" * 16)
    assert late.value.fault is faults.OUTCOME_UNKNOWN


def test_a_cluster_that_cannot_be_reached_is_told_so_in_time(start: Start) -> None:
    worker = start()
    entry = worker.entry()
    worker.stop()
    link = Link(entry, timeout_seconds=0.3)
    with pytest.raises(Unavailable) as refused:
        Client(link).ping()
    assert refused.value.fault is faults.UNABLE_TO_CONNECT
    assert f"127.0.0.1:{entry.port}: connection refused." in refused.value.message


def test_the_reason_is_told_without_names_of_calls_and_lines(start: Start) -> None:
    worker = start()
    entry = worker.entry()
    entry.ca_file.write_text(Authority().pem)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        away = replace(entry, port=silent.getsockname()[1])
        for cluster, reason in (
            (away, "TLS with .* failed: no answer in time"),
            (entry, "failed: certificate verify failed: [a-z -]+"),
            (replace(entry, host="no.host.invalid"), "No connection to .*: [a-z ]+ not known"),
        ):
            with pytest.raises(Unavailable, match=reason) as refused:
                Client(Link(cluster, timeout_seconds=0.3)).ping()
            assert not re.search(r"_ssl|Errno|\[", refused.value.message)


def test_a_name_that_no_host_can_have_is_out_of_reach(start: Start) -> None:
    entry = replace(start().entry(), host="two..dots")
    with pytest.raises(Unavailable, match=r"entry member two\.\.dots"):
        Client(Link(entry, timeout_seconds=0.3)).ping()


def test_only_the_fixed_server_name_is_a_member(start: Start) -> None:
    worker = start(name="another.example")
    with link_to(worker) as link, pytest.raises(NotAllowed, match=r"another\.example"):
        Client(link).ping()
    assert worker.requests == []


def test_a_clients_certificate_is_no_members(start: Start) -> None:
    worker = start(usage=ExtendedKeyUsageOID.CLIENT_AUTH)
    with link_to(worker, timeout_seconds=0.3) as link, pytest.raises(Unavailable, match="TLS"):
        Client(link).ping()


def test_another_authoritys_member_is_refused(start: Start) -> None:
    worker = start()
    entry = worker.entry()
    entry.ca_file.write_text(Authority().pem)
    with pytest.raises(Unavailable, match="TLS"):
        Client(Link(entry, timeout_seconds=0.3)).ping()


def test_t1_the_hosts_clock_does_not_judge_certificates(start: Start) -> None:
    past = datetime.datetime(2001, 1, 1, tzinfo=datetime.UTC)
    worker = start(begins=past, ends=past + datetime.timedelta(days=1))
    # The worker verifies with the host's clock; the client's certificate is valid there.
    with link_to(worker) as link:
        Client(link).ping()
    assert len(worker.requests) == 1


@pytest.mark.parametrize(
    ("step", "words"),
    [
        (b"\xff\xff\xff\xff", "frame of 4294967295 bytes"),
        (b"\0\0\0\0", "frame of 0 bytes"),
        (b"\0\0\0\x01\xc1", "another shape"),
        (b"\0\0\0\x03\x92\x63\0", "another request"),
        (b"\0\0\0\x01\x05", "another shape"),
    ],
)
def test_a_peer_that_breaks_the_protocol_is_dropped(start: Start, step: bytes, words: str) -> None:
    worker = start(step, (0, None))
    with link_to(worker) as link:
        with pytest.raises(InternalFault, match=words):
            Client(link).ping()
        Client(link).ping()
    assert worker.connections == 2


@pytest.mark.parametrize(
    "greeting", [(0, "http", 1, 0, 1, "c", "m", 1, True), (*GREETING[:2], 99, *GREETING[3:]), "x"]
)
def test_another_greeting_is_refused(start: Start, greeting: object) -> None:
    worker = start(greeting=greeting)
    with link_to(worker) as link, pytest.raises(InternalFault, match="protocol"):
        Client(link).ping()


def test_a_revoked_client_learns_why(start: Start) -> None:
    worker = start(hello=Ckr.TOKEN_NOT_PRESENT)
    with link_to(worker) as link, pytest.raises(NotFound) as refused:
        Client(link).ping()
    assert refused.value.fault.ckr is Ckr.TOKEN_NOT_PRESENT


def test_a_newer_ticket_replaces_the_old_one_and_a_void_one_is_forgotten(start: Start) -> None:
    worker = start((0, None, b"one"), (0, [], b"two"), (0, []), (Ckr.USER_NOT_LOGGED_IN,), (0, []))
    with link_to(worker) as link:
        keyring = session(link)
        keyring.login(wire.Role.KRCO, b"password")
        with pytest.raises(NotAllowed, match="logged in already"):
            keyring.login(wire.Role.KRCO, b"password")
        assert keyring.find() == keyring.find() == []
        with pytest.raises(CredentialRefused):
            keyring.find()
        assert keyring.role is None
        keyring.find()
    assert [request.ticket for request in worker.requests] == [None, b"one", b"two", b"two", None]


def test_logout_forgets_the_ticket_even_when_nobody_hears(start: Start) -> None:
    worker = start((0, None, b"one"), SILENCE)
    with link_to(worker, timeout_seconds=0.5) as link:
        keyring = session(link)
        keyring.login(wire.Role.KRSO, b"password")
        with pytest.raises(Unavailable):
            keyring.logout()
        assert keyring.role is None


def test_what_ends_a_block_is_told_even_if_the_logout_is_not_heard(start: Start) -> None:
    row = (1, KEYRING, "ring", "s", 0, 8, 255)
    worker = start((0, [row]), (0, None, b"ticket"), SILENCE)
    with (
        link_to(worker) as link,
        pytest.raises(ZeroDivisionError),
        Client(link).keyring("ring", "password"),
    ):
        raise ZeroDivisionError
    assert len(worker.requests) == 3


def test_slots_are_read_page_by_page(start: Start) -> None:
    rows = [(slot, KEYRING, f"ring{slot}", "s", 0, 8, 255) for slot in range(500)]
    last = [(700, KEYRING, "last", "s", 0, 8, 255)]
    worker = start((0, rows), (0, last), (0, rows), (0, rows), (0, last), (0, []))
    with link_to(worker) as link:
        client = Client(link)
        assert [token.slot for token in client.tokens()] == [*range(500), 700]
        assert client.token("ring7").slot == 7
        assert client.token(700).label == "last"
        with pytest.raises(NotFound, match="'nobody'"):
            client.token("nobody")
    pages = [msgspec.msgpack.decode(body, type=wire.ListTokens) for body in worker.bodies]
    assert [page.first_slot for page in pages][:2] == [0, 500]


def test_an_answer_of_another_shape_is_our_fault_not_the_callers(start: Start) -> None:
    worker = start((0, "text"))
    with link_to(worker) as link, pytest.raises(InternalFault, match="FIND"):
        session(link).find()


def test_too_long_a_request_is_refused_before_it_is_sent(start: Start) -> None:
    worker = start((0, b""))
    with link_to(worker) as link:
        with pytest.raises(BadInput, match="longer than"):
            session(link).sign(b"o" * 16, 1, b"x" * wire.MAX_FRAME_BYTES)
        session(link).sign(b"o" * 16, 1, b"x")
    assert len(worker.requests) == 1


def test_bad_certificate_files_are_named(start: Start) -> None:
    worker = start()
    entry = worker.entry()
    entry.key_file.unlink()
    with pytest.raises(BadInput, match=r"The file \S+k\.pem of cluster 00 cannot be read: No such"):
        Link(entry)
    entry.key_file.write_text(entry.ca_file.read_text())
    with pytest.raises(BadInput, match=r"k\.pem is no key .* or not that of \S+c\.pem"):
        Link(entry)
    entry.ca_file.write_text("no certificate")
    with pytest.raises(BadInput, match="ca holds no certificate of a CA"):
        Link(entry)
    assert issubclass(Interrupted, Unavailable)


def test_no_repr_of_a_message_shows_a_password() -> None:
    login = wire.Login(KEYRING, wire.Role.KRCO, b"hunter2", b"a" * 16)
    assert "hunter2" not in repr(login)
    assert "password" in repr(login)


# ------------------------------------------------------------------ several members


def test_another_member_is_tried_when_the_first_is_away(start: Start) -> None:
    one, other = pair_of_members(start, (0, None))
    with link_to(one) as link:
        Client(link).ping()
        assert other.connections == 0
        one.stop()
        session(link).destroy_object(b"o" * 16)
        Client(link).ping()
    assert len(one.requests) == 1
    assert (len(other.requests), other.connections) == (2, 1)


@pytest.mark.parametrize("failure", [DROP, (wire.BUSY,)])
def test_a_list_of_members_that_did_not_come_is_asked_for_again(
    start: Start, failure: Step
) -> None:
    one, other = pair_of_members(start, second=((0, None),))
    one.before_members.append(failure)
    with link_to(one) as link:
        Client(link).ping()
        Client(link).ping()
        one.stop()
        Client(link).ping()
    assert len(other.requests) == 1


@pytest.mark.parametrize("bytes_before", [b"", b"\xff\0member\nmember a 127.0.0.1 99999 0 g\n"])
def test_c25_the_hints_name_a_member_while_the_entry_is_away(
    start: Start, bytes_before: bytes
) -> None:
    one, other = pair_of_members(start, second=((0, None),))
    hints = one.directory / "c.pem.members"
    hints.write_bytes(bytes_before + b"member other 127.0.0.1 %d 0 the group\n" % other.port)
    with link_to(one) as link:
        one.stop()
        Client(link).ping()
    assert len(other.requests) == 1


def test_c17_a_member_that_is_behind_is_left_and_no_earlier_position_is_demanded(
    start: Start,
) -> None:
    one, other = pair_of_members(start, (0, None, None, (3, "m", 12, 1, True)), (wire.BEHIND,))
    with link_to(one) as link:
        Client(link).ping()
        Client(link).ping()
    assert [request.min_position for request in one.requests] == [10, 12]
    assert [request.min_position for request in other.requests] == [12]


def test_c19_a_member_of_an_earlier_epoch_is_not_asked(start: Start) -> None:
    one, other = pair_of_members(start, (0, None, None, (4, "m", 5, 1, True)), DROP)
    with link_to(one) as link:
        Client(link).ping()
        one.state = (4, "m", 5, 1, True)
        Client(link).ping()
    assert [request.min_position for request in one.requests] == [10, 5, 5]
    assert other.connections >= 1
    assert other.requests == []
