"""The registration script against a small TLS member: what it asks, sends, writes and refuses."""

from __future__ import annotations

import base64
import json
import socket
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import ExtendedKeyUsageOID

from conclave.client.clusters import registered_clusters
from conclave.client.configuration import read_document
from conclave.client.module_path import registration_script
from tests.support.authority import Authority
from tests.support.registering import (
    CLUSTER_ID,
    PASSWORD,
    SERVER_NAME,
    Member,
    at_terminal,
    files_below,
    register,
    run_script,
    serve,
)


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_a_client_is_registered_and_its_files_are_private(
    member: Member, tmp_path: Path, shell: str
) -> None:
    outcome = register(
        member,
        tmp_path,
        "--fingerprint",
        member.authority.fingerprint,
        "-l",
        'a "b\\ c',
        "-u",
        "mon",
        shell=shell,
    )
    assert outcome.returncode == 0, outcome.stderr
    (entry,) = registered_clusters(read_document(tmp_path / "etc" / "Chrystoki.conf"))
    client = (tmp_path / "client").resolve()
    assert (entry.index, entry.host, entry.port) == (0, "127.0.0.1", 50055)
    assert entry.certificate_file == client / "cert/client" / CLUSTER_ID / "192.0.2.5.pem"
    assert entry.key_file == client / "cert/client" / CLUSTER_ID / "192.0.2.5Key.pem"
    assert entry.ca_file == client / "cert/server" / CLUSTER_ID / "lnh_ca.pem"
    assert entry.common_name == SERVER_NAME
    assert stat.S_IMODE(entry.key_file.stat().st_mode) == 0o600
    assert len(files_below(client)) == 3
    key = serialization.load_pem_private_key(entry.key_file.read_bytes(), None)
    certificate = x509.load_pem_x509_certificate(entry.certificate_file.read_bytes())
    assert certificate.public_key() == key.public_key()
    _, authorization, body = member.seen[1]
    assert base64.b64decode(authorization.removeprefix("Basic ")).decode() == f"admin:{PASSWORD}"
    assert json.loads(body)["label"] == 'a "b\\ c'
    assert json.loads(body)["monitorUser"] == "mon"
    assert PASSWORD not in outcome.stdout + outcome.stderr


def listed(number: int, group: str = "local") -> dict[str, Any]:
    """Return a member as the answer has it."""
    return {
        "memberUUID": f"id-{number}",
        "ipAddress": f"192.0.2.{number}",
        "nested": {"memberUUID": "another", "list": [{"ipAddress": "x"}, 7]},
        "cryptoPort": 50050 + number,
        "group": group,
    }


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_c25_a_registration_leaves_where_the_other_members_are(
    member: Member, tmp_path: Path, shell: str
) -> None:
    member.members = [listed(1), listed(2, 'the "second" group'), listed(3, "two\nlines")]
    options = ("--fingerprint", member.authority.fingerprint)
    outcome = register(member, tmp_path, *options, shell=shell)
    assert outcome.returncode == 0, outcome.stderr
    hints = tmp_path / "client" / "cert/client" / CLUSTER_ID / "192.0.2.5.pem.members"
    assert hints.read_text().splitlines() == [
        "entry 127.0.0.1 50055 id-1 local",
        "member id-1 192.0.2.1 50051 0 local",
        'member id-2 192.0.2.2 50052 0 the "second" group',
        "member id-3 192.0.2.3 50053 0 two lines",
    ]


def test_old_hints_do_not_outlive_a_registration(member: Member, tmp_path: Path) -> None:
    directory = tmp_path / "client" / "cert/client" / CLUSTER_ID
    directory.mkdir(parents=True)
    (directory / "192.0.2.5.pem.members").write_text("member old 192.0.2.99 1 0 local\n")
    member.members = [listed(1)]
    outcome = register(member, tmp_path, "--fingerprint", member.authority.fingerprint)
    assert outcome.returncode == 0, outcome.stderr
    assert "old" not in (directory / "192.0.2.5.pem.members").read_text()


def test_rule_c24_no_password_leaves_before_the_fingerprint_is_right(
    member: Member, tmp_path: Path
) -> None:
    outcome = register(member, tmp_path, "--fingerprint", "00" * 32)
    assert outcome.returncode != 0
    assert "not the fingerprint given" in outcome.stderr
    assert [line for line, _, _ in member.seen] == ["GET /api/cluster/ca"]
    assert member.seen[0][1] == ""
    assert files_below(tmp_path / "client") == set()
    assert not (tmp_path / "etc" / "Chrystoki.conf").exists()


def test_a_member_of_another_authority_gets_no_password(tmp_path: Path) -> None:
    for impostor in serve(tmp_path, Member(Authority(), Authority())):
        outcome = register(impostor, tmp_path, "--fingerprint", impostor.authority.fingerprint)
        assert outcome.returncode != 0
        assert "nothing secret was sent" in outcome.stderr
        assert len(impostor.seen) == 1
        assert files_below(tmp_path / "client") == set()


def test_a_clients_certificate_makes_no_member(tmp_path: Path) -> None:
    authority = Authority()
    impostor = Member(authority, authority, usage=ExtendedKeyUsageOID.CLIENT_AUTH)
    for _ in serve(tmp_path, impostor):
        outcome = register(impostor, tmp_path, "--fingerprint", authority.fingerprint)
        assert outcome.returncode != 0
        assert len(impostor.seen) == 1


def test_a_member_of_another_cluster_is_named(member: Member, tmp_path: Path) -> None:
    member.cluster_id = CLUSTER_ID.replace("5", "6")
    outcome = register(member, tmp_path, "--fingerprint", member.authority.fingerprint)
    assert outcome.returncode != 0
    assert member.cluster_id in outcome.stderr
    assert len(member.seen) == 1


def test_a_refusal_leaves_nothing_behind_and_says_why(member: Member, tmp_path: Path) -> None:
    member.refuse = True
    outcome = register(member, tmp_path, "--fingerprint", member.authority.fingerprint)
    assert outcome.returncode != 0
    assert 'Wrong "password".' in outcome.stderr
    assert files_below(tmp_path / "client") == set()


def test_a_certificate_for_another_key_is_refused(member: Member, tmp_path: Path) -> None:
    member.certify_other_key = True
    outcome = register(member, tmp_path, "--fingerprint", member.authority.fingerprint)
    assert outcome.returncode != 0
    assert "for another key" in outcome.stderr
    assert files_below(tmp_path / "client") == set()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"Misc = {\n  a = b;\n}\n", None),
        (b"Misc = {\n  a = b;\n}", None),
        (b"", None),
        (
            b"LunaSA Client = {\r\n  NetClient = 1;\r\n\r\n}\r\nMisc = {\r\n}\r\n",
            b"LunaSA Client = {\r\n  NetClient = 1;\r\n\r\n  LNHServer00 = @",
        ),
        (
            b"LunaSA Client = {\n # LNHServer00 = old;\n\tNetClient = 1;\n}\n\nMisc = {\n}",
            b"LunaSA Client = {\n # LNHServer00 = old;\n\tNetClient = 1;\n\tLNHServer00 = @",
        ),
    ],
)
def test_every_other_byte_of_the_configuration_stays(
    member: Member, tmp_path: Path, before: bytes, after: bytes | None
) -> None:
    (tmp_path / "etc").mkdir()
    path = tmp_path / "etc" / "Chrystoki.conf"
    path.write_bytes(before)
    path.chmod(0o640)
    outcome = register(member, tmp_path, "--fingerprint", member.authority.fingerprint)
    assert outcome.returncode == 0, outcome.stderr
    edited = path.read_bytes()
    assert edited.startswith(before if after is None else after[:-1])
    (entry,) = registered_clusters(read_document(path))
    assert entry.host == "127.0.0.1"
    new = [
        line for line in edited.splitlines(keepends=True) if b"00 = " in line and b"#" not in line
    ]
    rest = b"".join(line for line in edited.splitlines(keepends=True) if line not in new)
    assert len(new) == 5
    added = b"LunaSA Client = {\n}\n"
    assert rest in (before, before + added, before + b"\n" + added)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_rule_l1_index_00_is_replaced_with_force_only(member: Member, tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    path = tmp_path / "etc" / "Chrystoki.conf"
    before = (
        b"LunaSA Client = {\n LNHServer00 = 192.0.2.9:50052 ; # mine\n"
        b" LNHServer01 = 192.0.2.7:50052;\n LNHServerCN00 = x;\n}\n"
    )
    path.write_bytes(before)
    refused = register(member, tmp_path, "--fingerprint", member.authority.fingerprint)
    assert refused.returncode != 0
    assert "192.0.2.9:50052" in refused.stderr
    assert path.read_bytes() == before
    assert member.seen == []
    replaced = register(member, tmp_path, "--fingerprint", member.authority.fingerprint, "--force")
    assert replaced.returncode == 0, replaced.stderr
    edited = path.read_bytes()
    assert b" LNHServer00 = 127.0.0.1:50055 ; # mine\n LNHServer01 = 192.0.2.7:50052;\n" in edited
    assert b" LNHServerCN00 = lnh.thalesgroup.com;\n" in edited


def test_a_key_that_stands_there_is_never_touched(member: Member, tmp_path: Path) -> None:
    directory = tmp_path / "client" / "cert" / "client" / CLUSTER_ID
    directory.mkdir(parents=True)
    (directory / "192.0.2.5Key.pem").write_text("mine")
    outcome = register(member, tmp_path, "--fingerprint", member.authority.fingerprint, "--force")
    assert outcome.returncode != 0
    assert (directory / "192.0.2.5Key.pem").read_text() == "mine"
    assert files_below(tmp_path / "client") == {f"cert/client/{CLUSTER_ID}/192.0.2.5Key.pem"}


def test_a_configuration_that_only_a_person_can_edit_is_left_alone(
    member: Member, tmp_path: Path
) -> None:
    (tmp_path / "etc").mkdir()
    path = tmp_path / "etc" / "Chrystoki.conf"
    for before in (
        b"LunaSA Client = { NetClient = 1; }\n",
        b"LunaSA Client = {\n NetClient = 1; LNHServer00 = a:1;\n}\n",
        b"LunaSA Client = {\n NetClient = 1;\n",
        b"LunaSA Client = {\n}\nLunaSA Client = {\n}\n",
    ):
        path.write_bytes(before)
        outcome = register(
            member, tmp_path, "--fingerprint", member.authority.fingerprint, "--force"
        )
        assert outcome.returncode != 0
        assert "only a person can edit" in outcome.stderr
        assert path.read_bytes() == before
        assert member.seen == []


def test_without_a_terminal_everything_must_be_given(member: Member, tmp_path: Path) -> None:
    outcome = register(member, tmp_path)
    assert "--fingerprint" in outcome.stderr
    outcome = register(
        member, tmp_path, "--fingerprint", member.authority.fingerprint, environment={}
    )
    assert "CONCLAVE_ADMIN_PASSWORD" in outcome.stderr
    assert member.seen == []


@pytest.mark.parametrize(
    ("option", "value", "word"),
    [
        ("-n", "../evil", "-n"),
        ("-n", "a\nb", "-n"),
        ("-c", "528B9B72", "UUID"),
        ("-i", "a b", "-i"),
        ("-l", "a\nb", "-l"),
        ("-u", "a:b", "-u"),
        ("--admin-port", "70000", "port"),
        ("--fingerprint", "12", "hexadecimal"),
        ("-m", "x", "unknown option x"),
    ],
)
def test_bad_arguments_are_named(
    member: Member, tmp_path: Path, option: str, value: str, word: str
) -> None:
    outcome = register(member, tmp_path, option, value)
    assert outcome.returncode != 0
    assert word in outcome.stderr
    assert member.seen == []


def test_without_a_word_the_usage_is_told() -> None:
    done = subprocess.run(
        ["sh", str(registration_script())], check=False, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    assert done.stderr.startswith("usage: LNHClientRegistration.sh -n <common name>")


def test_a_client_directory_that_is_none_is_named(member: Member, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    outcome = run_script(tmp_path, "--client-dir", str(tmp_path / "file"), "--renew", "all")
    assert outcome.returncode == 1
    assert outcome.stderr == (
        f"LNHClientRegistration: the directory {tmp_path}/file is not there, or you may not enter"
        " it\n"
    )
    assert member.seen == []


def test_a_member_that_does_not_listen_is_named(tmp_path: Path) -> None:
    with socket.socket() as taken:  # bound, so that nobody else comes to listen there
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        nobody = Member(authority := Authority(), authority, port=port)
        outcome = register(nobody, tmp_path, "--fingerprint", authority.fingerprint)
    assert outcome.returncode != 0
    assert f"127.0.0.1:{port}" in outcome.stderr


def test_the_script_is_portable_and_names_the_default_port() -> None:
    script = registration_script()
    assert "50070" in script.read_text()
    outcome = subprocess.run(
        ["shellcheck", "--shell=sh", str(script)], check=False, capture_output=True, text=True
    )
    assert outcome.returncode == 0, outcome.stdout


def test_rule_c24_a_person_compares_the_fingerprint_before_the_password(
    member: Member, tmp_path: Path
) -> None:
    with at_terminal(member, tmp_path) as terminal:
        terminal.wait_for("fingerprint of the cluster CA")
        printed = member.authority.certificate.fingerprint(hashes.SHA256()).hex(":").upper()
        terminal.wait_for(printed)
        terminal.wait_for("Type 'proceed'")
        assert len(member.seen) == 1
        terminal.send("proceed\n")
        terminal.wait_for("Password of appliance user admin:")
        terminal.send(PASSWORD + "\n")
        terminal.wait_for("is registered with cluster")
        assert terminal.status() == 0
    assert PASSWORD not in terminal.seen
    _, authorization, _ = member.seen[1]
    assert base64.b64decode(authorization.removeprefix("Basic ")).decode() == f"admin:{PASSWORD}"


def test_a_person_may_stop_at_each_question(member: Member, tmp_path: Path) -> None:
    with at_terminal(member, tmp_path) as terminal:
        terminal.wait_for("Type 'proceed'")
        terminal.send("no\n")
        assert terminal.status() == 1
    path = tmp_path / "etc" / "Chrystoki.conf"
    path.write_bytes(b"LunaSA Client = {\n  LNHServer00 = 192.0.2.9:50052;\n}\n")
    with at_terminal(member, tmp_path) as terminal:
        terminal.wait_for("192.0.2.9:50052")
        terminal.send("\n")
        assert terminal.status() == 1
    with at_terminal(member, tmp_path) as terminal:
        terminal.wait_for("to replace it")
        terminal.send("proceed\n")
        terminal.wait_for("if they are equal")
        terminal.send("proceed\n")
        terminal.wait_for("Password")
        terminal.send("\x04")
        assert terminal.status() == 1
    assert [line for line, _, _ in member.seen] == ["GET /api/cluster/ca"] * 2
    assert files_below(tmp_path / "client") == set()
    assert b"192.0.2.9" in path.read_bytes()
