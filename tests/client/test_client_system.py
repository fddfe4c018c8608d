"""The library and LunaCM against a running cluster with dual identity and small limits."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils

from conclave.client import Client, KeyringSession, Role, template
from conclave.client.clusters import registered_clusters
from conclave.client.configuration import configuration_path, read_document
from conclave.client.connection import Connection
from conclave.client.dialogue import client_tls_context
from conclave.client.templates import Value, ulong
from conclave.client.tools.statuses import Status
from conclave.client.ways import finish
from conclave.crypto.standard import Cka, Ckm, Cko
from conclave.demo.rest import RestClient
from conclave.errors import Ckr, ConclaveError, CredentialRefused, LimitReached, NotFound
from conclave.service import wire
from tests.support.demo import Demo, start_demo, stop_demo
from tests.support.terminal import Terminal

pytestmark = pytest.mark.system

MAX_OBJECTS = 6
P256 = bytes.fromhex("06082a8648ce3d030107")
FIRST, SECOND, THIRD, FOURTH, FIFTH = range(5)


@pytest.fixture(scope="module")
def dual(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """Run an installation whose keyrings each belong to one test."""
    options = ("--keyrings", "5", "--identity", "dual", "--max-objects", str(MAX_OBJECTS))
    running = start_demo(
        tmp_path_factory.mktemp("dual") / "state", *options, "--min-password", "9", "--low-cost"
    )
    yield running
    stop_demo(running)


@pytest.fixture
def client(dual: Demo) -> Iterator[Client]:
    with Client.from_environment(dual.environment) as client:
        yield client


def log_in(client: Client, keyring: dict[str, Any]) -> KeyringSession:
    session = client.open(client.token(keyring["label"]))
    session.login(Role.KRCO, keyring["pin"].encode())
    return session


def new_pair(session: KeyringSession, label: str) -> tuple[bytes, bytes]:
    common: dict[int, Value] = {Cka.TOKEN: True, Cka.LABEL: label, Cka.ID: label}
    public, private = session.generate_key_pair(
        Ckm.EC_KEY_PAIR_GEN,
        template({**common, Cka.EC_PARAMS: P256, Cka.VERIFY: True}),
        template({**common, Cka.PRIVATE: True, Cka.SIGN: True}),
    )
    return public.reference, private.reference


def point_of(session: KeyringSession, public: bytes) -> ec.EllipticCurvePublicKey:
    encoded = session.attributes(public, [Cka.EC_POINT])[Cka.EC_POINT]
    assert encoded is not None
    return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), encoded[2:])


def check(key: ec.EllipticCurvePublicKey, signature: bytes, data: bytes) -> None:
    half = len(signature) // 2
    r, s = (int.from_bytes(part, "big") for part in (signature[:half], signature[half:]))
    key.verify(utils.encode_dss_signature(r, s), data, ec.ECDSA(hashes.SHA256()))


def test_keys_are_made_found_used_and_destroyed(dual: Demo, client: Client) -> None:
    session = log_in(client, dual.keyring(FIRST))
    public, private = new_pair(session, "first")
    signature = session.sign(private, Ckm.ECDSA_SHA256, b"data")
    check(point_of(session, public), signature, b"data")
    session.verify(public, Ckm.ECDSA_SHA256, b"data", signature)
    with pytest.raises(ConclaveError) as refused:
        session.verify(public, Ckm.ECDSA_SHA256, b"other", signature)
    assert refused.value.fault.ckr is Ckr.SIGNATURE_INVALID
    assert session.find(template({Cka.LABEL: "first", Cka.CLASS: Cko.PRIVATE_KEY})) == [private]
    values = session.attributes(private, [Cka.CLASS, Cka.VALUE, Cka.LABEL])
    assert (ulong(values[Cka.CLASS]), values[Cka.VALUE]) == (Cko.PRIVATE_KEY, None)
    assert session.key_info(private).size_bits == 256
    assert session.object_size(private) > 0
    session.set_attributes(private, template({Cka.LABEL: "renamed"}))
    assert session.attributes(private, [Cka.LABEL]) == {Cka.LABEL: b"renamed"}
    for reference in (public, private):
        session.destroy_object(reference)
    with pytest.raises(NotFound):
        session.sign(private, Ckm.ECDSA_SHA256, b"data")
    session.logout()


def test_secret_keys_and_session_objects_serve_too(dual: Demo, client: Client) -> None:
    session = log_in(client, dual.keyring(SECOND))
    usage: dict[int, Value] = {
        Cka.ENCRYPT: True,
        Cka.DECRYPT: True,
        Cka.VALUE_LEN: 32,
        Cka.TOKEN: False,
    }
    key = session.generate_key(Ckm.AES_KEY_GEN, template(usage))
    assert len(key.reference) > wire.OBJECT_ID_BYTES
    parameter = wire.GcmParameter(b"n" * 12, b"more", 128)
    sealed = session.encrypt(key.reference, Ckm.AES_GCM, b"text", parameter=parameter)
    assert session.decrypt(key.reference, Ckm.AES_GCM, sealed, parameter=parameter) == b"text"
    data = session.create_object(
        template({Cka.CLASS: Cko.DATA, Cka.TOKEN: True, Cka.VALUE: b"kept", Cka.LABEL: "note"})
    )
    copied = session.copy_object(data.reference, template({Cka.LABEL: "copy"}))
    assert session.attributes(copied.reference, [Cka.VALUE]) == {Cka.VALUE: b"kept"}
    assert len(client.random(40)) == 40
    assert Ckm.AES_GCM in {row.mechanism for row in client.mechanisms()}


def test_a_full_keyring_says_so_and_holds_what_it_holds(dual: Demo, client: Client) -> None:
    session = log_in(client, dual.keyring(THIRD))
    for number in range(MAX_OBJECTS):
        session.create_object(
            template({Cka.CLASS: Cko.DATA, Cka.TOKEN: True, Cka.LABEL: str(number)})
        )
    with pytest.raises(LimitReached) as refused:
        session.create_object(template({Cka.CLASS: Cko.DATA, Cka.TOKEN: True}))
    assert refused.value.fault.ckr is Ckr.MAX_OBJECT_COUNT_EXCEEDED
    assert session.info().object_count == len(session.find()) == MAX_OBJECTS


def test_s4_a_killed_worker_is_not_noticed(dual: Demo, client: Client) -> None:
    session = log_in(client, dual.keyring(FOURTH))
    public, private = new_pair(session, "survivor")
    key = point_of(session, public)
    for name in ("worker-0", "worker-1", "cluster"):
        pid = pids(dual).get(name)
        if pid is not None:
            os.kill(pid, signal.SIGKILL)
        check(key, session.sign(private, Ckm.ECDSA_SHA256, name.encode()), name.encode())
    made = session.create_object(
        template({Cka.CLASS: Cko.DATA, Cka.TOKEN: True, Cka.LABEL: "after"})
    )
    assert session.find(template({Cka.LABEL: "after"})) == [made.reference]


def pids(dual: Demo) -> dict[str, int]:
    """Return the daemon's children as they are now."""
    from conclave.demo.daemon import process_ids

    return process_ids(int(dual.member["pids"]["daemon"]))


def test_c21_a_write_that_is_sent_twice_is_done_once(dual: Demo, client: Client) -> None:
    session = log_in(client, dual.keyring(FIRST))
    write = finish(client.link.core.new_write())
    attributes = template({Cka.CLASS: Cko.DATA, Cka.TOKEN: True, Cka.LABEL: "once"})

    def create(attributes: wire.Template) -> wire.ObjectResult:
        arguments = wire.CreateObject(session.keyring_id, attributes, write)
        work = session.core.ask(wire.Operation.CREATE_OBJECT, arguments, wire.ObjectResult)
        return finish(work)

    first, again = create(attributes), create(attributes)
    assert first.reference == again.reference
    assert session.find(template({Cka.LABEL: "once"})) == [first.reference]
    with pytest.raises(ConclaveError):
        create(attributes[:2])
    session.destroy_object(first.reference)


def test_frames_of_the_greatest_length_are_carried(dual: Demo, client: Client) -> None:
    entry = registered_clusters(read_document(configuration_path(dual.environment)))[0]
    opening = Connection.open(
        entry, client_tls_context(entry), uuid.uuid4().bytes, deadline=time.monotonic() + 10
    )
    connection = finish(opening)
    assert connection.dialogue.greeting.authorized
    assert connection.dialogue.greeting.cluster_id == dual.document["clusterId"]
    connection.close()
    assert len(client.random(1 << 16)) == 1 << 16


def lunacm(
    dual: Demo, *words: str, lines: str | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "conclave.client.lunacm.main", *words],
        check=False,
        input=lines or "",
        capture_output=True,
        text=True,
        timeout=60,
        env={**dual.environment, **environment},
    )


def test_lunacm_lists_slots_and_ends_with_a_status(dual: Demo) -> None:
    keyring = dual.keyring(FIRST)
    listed = lunacm(dual, "-q", "slot", "list")
    assert listed.returncode == 0
    assert "lunacm (Conclave)" not in listed.stdout
    assert f"    Label ->                {keyring['label']}\n" in listed.stdout
    assert "Conclave Keyring" in listed.stdout
    assert listed.stdout.endswith("Command Result : No Error\n\n")
    assert lunacm(dual, lines="").stdout.startswith("lunacm (Conclave)")
    missing = lunacm(dual, "-q", "slot", "set", "-slot", "999")
    assert missing.returncode == Status.NOT_FOUND
    assert "Error in execution: CKR_SLOT_ID_INVALID." in missing.stdout
    unknown = lunacm(dual, "-q", "login")
    assert (unknown.returncode, "not found" in unknown.stdout) == (Status.MISUSED, True)
    nowhere = lunacm(dual, "-q", "slot", "list", ChrystokiConfigurationPath="/nonexistent")
    assert nowhere.returncode == Status.NOT_CONFIGURED
    assert "Traceback" not in nowhere.stderr


def test_lunacm_shows_a_keyring_to_its_owner_in_one_batch(dual: Demo, client: Client) -> None:
    keyring = dual.keyring(SECOND)
    session = log_in(client, keyring)
    session.create_object(
        template({Cka.CLASS: Cko.DATA, Cka.TOKEN: True, Cka.PRIVATE: True, Cka.LABEL: "shown"})
    )
    choose = ("-q", "slot", "set", "-slot", str(keyring["slot"]), "--")
    public = lunacm(dual, *choose, "partition", "contents")
    assert "shown" not in public.stdout
    login = ("role", "login", "-name", "co", "-passwordenv", "PIN", "--")
    words = (*choose, *login, "par", "con", "--", "par", "si", "--", "role", "show", "-n", "co")
    shown = lunacm(dual, *words, PIN=keyring["pin"])
    assert shown.returncode == 0, shown.stdout
    for line in ("Label:         shown", "Object Type:   Data", "of 6", "CKF_USER_PIN_INITIALIZED"):
        assert line in shown.stdout
    assert "Logged in here ->           yes" in shown.stdout
    stopped = lunacm(dual, *choose, *login, "partition", "contents", PIN="not the pin")
    assert stopped.returncode == Status.CREDENTIAL
    assert "Error in execution: CKR_PIN_INCORRECT." in stopped.stdout
    assert "Object list" not in stopped.stdout


def fresh_keyring(dual: Demo, label: str, password: str) -> int:
    """Create a keyring whose KRSO's first password is unchanged; return its slot."""
    member, document = dual.member, dual.document
    rest = RestClient(
        member["address"], member["restPort"], Path(document["caFile"]), told=lambda _line: None
    )
    rest.use_password("admin", document["adminPassword"])
    co = {"type": "CO", "password": document["coPassword"], "partitionLabel": "clusterpar"}
    body = {"authentication": [co], "keyRingLabel": label, "keyRingPassword": password}
    rest.call("POST", "/api/keyrings", body)
    slot = int(rest.get(f"/api/keyrings/{label}")["slot"])
    rest.close()
    return slot


def test_section_8_rule_16_lunacm_takes_a_keyring_from_its_first_password_to_its_krco(
    dual: Demo,
) -> None:
    first, second, krco = "First-Secret_1", "Second Secret#2", "Crypto_Officer:3"
    slot = fresh_keyring(dual, "fresh", first)
    early = f"slot set -slot {slot}\nrole login -name po -p {first}\nrole init -n co -p {krco}\n"
    refused = lunacm(dual, "-q", lines=early)
    assert refused.returncode == Status.CREDENTIAL
    assert "This password must be changed: role changepw -name po" in refused.stdout
    assert "Error in execution: CKR_PIN_EXPIRED." in refused.stdout
    lines = f"""
# the answers to prompts stand below their commands
slot set -slot {slot}
role login -name po
{first}
role changepw -name po
{first}
{second}
{second}
role init -name co -password {krco}
role logout
role login -name co -password {krco}
role changepw -name co -oldpw {krco} -newpw {krco}x -force
exit
slot dance
"""
    outcome = lunacm(dual, "-q", lines=lines)
    assert outcome.returncode == 0, outcome.stdout
    assert outcome.stdout.count("Command Result : No Error") == 7
    with Client.from_environment(dual.environment) as client:
        session = client.open(client.token("fresh"))
        with pytest.raises(CredentialRefused):
            session.login(Role.KRSO, first.encode())
        session.login(Role.KRCO, f"{krco}x".encode())
        session.logout()
        session.login(Role.KRSO, second.encode())


def test_lunacm_cancels_when_nobody_answers(dual: Demo) -> None:
    begun = f"slot set -slot {dual.keyring(FIFTH)['slot']}\nrole login -name co\n"
    cancelled = lunacm(dual, "-q", lines=begun)
    assert cancelled.returncode == Status.CANCELLED
    assert "0xb (User Cancelled Operation)" in cancelled.stdout
    useless = lunacm(dual, "-q", "role", "init", "-name", "po", "-password", "whatever it is")
    assert "gets its password when the keyring is created" in useless.stdout


def test_lunacm_edits_completes_hides_and_remembers_at_a_terminal(
    dual: Demo, tmp_path: Path
) -> None:
    keyring = dual.keyring(FIFTH)
    with Terminal(
        [sys.executable, "-m", "conclave.client.lunacm.main"],
        {**dual.environment, "HOME": str(tmp_path), "PROMPT_TOOLKIT_NO_CPR": "1", "TERM": "vt100"},
    ) as terminal:
        terminal.wait_for("lunacm:>")
        terminal.send(f"slot set -slot {keyring['slot']}\r")
        terminal.wait_for("No Error")
        terminal.send("role logi\t -name co\r")
        terminal.wait_for("enter password:")
        terminal.send(f"{keyring['pin']}\r")
        terminal.wait_for("No Error")
        terminal.send(f"role login -name co -password {keyring['pin']}\x15")
        terminal.send("role changepw -name co\r")
        terminal.wait_for("existing password:")
        terminal.send("\x03")
        terminal.wait_for("User Cancelled Operation")
        terminal.send("exit\r")
        assert terminal.status() == 0
    shown = terminal.seen.replace(f"-password {keyring['pin']}", "")
    assert keyring["pin"] not in shown
    history = (tmp_path / ".lunacm_history").read_text()
    assert "slot set" in history
    assert keyring["pin"] not in history


def test_section_8_rule_15_dual_identity_has_two_passwords(dual: Demo, client: Client) -> None:
    keyring = dual.keyring(FIRST)
    assert keyring["soPin"] != keyring["pin"]
    session = client.open(client.token(keyring["label"]))
    assert session.info().dual_identity
    with pytest.raises(CredentialRefused):
        session.login(Role.KRCO, keyring["soPin"].encode())
    session.login(Role.KRSO, keyring["soPin"].encode())
    with pytest.raises(ConclaveError):
        session.generate_key(Ckm.AES_KEY_GEN, template({Cka.TOKEN: True, Cka.VALUE_LEN: 32}))


def test_the_description_is_private_to_its_owner(dual: Demo) -> None:
    for name in ("demo.json", "curl.conf"):
        assert Path(dual.directory / name).stat().st_mode & 0o777 == 0o600
