"""The registration script towards those it has no reason to trust, and on a disk that is full."""

from __future__ import annotations

import datetime
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from conclave.client.clusters import registered_clusters
from conclave.client.configuration import read_document
from tests.support.authority import Authority
from tests.support.registering import (
    CLUSTER_ID,
    PASSWORD,
    Member,
    files_below,
    register,
    run_script,
    serve,
    stand_in,
)


def confirmed(member: Member) -> tuple[str, str]:
    return ("--fingerprint", member.authority.fingerprint)


def test_curl_is_given_no_authority_but_the_clusters(member: Member, tmp_path: Path) -> None:
    log = tmp_path / "log"
    text = f"""for word; do
        if [ "$before" = --capath ]; then ls -A "$word" | wc -l >>{log}; fi
        before=$word
    done
    exec $real "$@\""""
    environment = stand_in(tmp_path / "bin", "curl", text)
    secret = {"CONCLAVE_ADMIN_PASSWORD": PASSWORD}
    outcome = register(member, tmp_path, *confirmed(member), environment=environment | secret)
    assert outcome.returncode == 0, outcome.stderr
    assert log.read_text().split() == ["0", "0"]


def test_a_host_without_cmp_registers_and_renews(member: Member, tmp_path: Path) -> None:
    # As small images are: openssl and curl are there, diffutils is not.
    environment = stand_in(tmp_path / "bin", "cmp", "exit 127")
    secret = {"CONCLAVE_ADMIN_PASSWORD": PASSWORD}
    outcome = register(member, tmp_path, *confirmed(member), environment=environment | secret)
    assert outcome.returncode == 0, outcome.stderr
    due = ("--renew", "all", "--renew-before", "9999")
    renewed = run_script(tmp_path, *due, member=member, environment=environment)
    assert (renewed.returncode, renewed.stderr) == (0, "")
    assert "renewed: valid until" in renewed.stdout


def test_no_authority_of_the_system_certifies_a_client(tmp_path: Path) -> None:
    authority, other = Authority(), Authority("other")
    (tmp_path / "system").mkdir()
    (tmp_path / "system" / "other.pem").write_text(other.pem)
    subprocess.run(["openssl", "rehash", str(tmp_path / "system")], check=True, timeout=60)
    # As on a host where that directory is the one that openssl was built with.
    text = f'export SSL_CERT_DIR={tmp_path}/system; exec $real "$@"'
    environment = stand_in(tmp_path / "bin", "openssl", text)
    environment["CONCLAVE_ADMIN_PASSWORD"] = PASSWORD
    for member in serve(tmp_path, Member(authority, authority, certified_by=other)):
        outcome = register(member, tmp_path, *confirmed(member), environment=environment)
        assert outcome.returncode != 0
        assert "not of the confirmed CA" in outcome.stderr
        assert files_below(tmp_path / "client") == set()


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_no_child_inherits_a_secret(member: Member, tmp_path: Path, shell: str) -> None:
    log = tmp_path / "log"
    environment = stand_in(tmp_path / "bin", "curl", f'env >>{log}; exec $real "$@"')
    exported = {"given_password": "x", "given_token": "x", "secret": "x"}
    secret = {"CONCLAVE_ADMIN_PASSWORD": PASSWORD, **exported, "SHELLOPTS": "allexport"}
    outcome = register(
        member, tmp_path, *confirmed(member), environment=environment | secret, shell=shell
    )
    assert outcome.returncode == 0, outcome.stderr
    assert "PATH=" in log.read_text()
    assert PASSWORD not in log.read_text()


def test_a_member_sends_the_terminal_no_commands(member: Member, tmp_path: Path) -> None:
    member.cluster_id = "one\ttwo\u00a0"
    outcome = register(member, tmp_path, *confirmed(member))
    assert outcome.returncode != 0
    assert "of cluster 'onetwo?'" in outcome.stderr


# ---------------------------------------------------------------- renewal


class Rotated:
    """A member whose cluster has another CA than when the client registered."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.old, self.new = Authority(identified=True), Authority(identified=True)
        self.member = Member(self.old, self.old, life=datetime.timedelta(days=20))

    def registered(self, *shows: x509.Certificate) -> Iterator[Member]:
        """Serve, showing these certificates, with a client whose certificate is to be renewed."""
        self.member.shows = shows
        for member in serve(self.directory, self.member):
            outcome = register(member, self.directory, *confirmed(member))
            assert outcome.returncode == 0, outcome.stderr
            member.certified_by = self.new
            member.life = datetime.timedelta(days=1000)
            yield member

    def renew(self, environment: dict[str, str] | None = None) -> tuple[int, str]:
        outcome = run_script(
            self.directory, "--renew", "00", member=self.member, environment=environment
        )
        return outcome.returncode, outcome.stderr

    def files(self) -> tuple[str, str]:
        """Return the CA and the certificate that the client has."""
        document = read_document(self.directory / "etc" / "Chrystoki.conf")
        (entry,) = registered_clusters(document)
        return entry.ca_file.read_text(), entry.certificate_file.read_text()

    def cross(self) -> x509.Certificate:
        return self.old.issue("ca", self.new.key.public_key(), ca=True)


def test_a_new_ca_is_taken_that_the_old_one_vouches_for(tmp_path: Path) -> None:
    rotated = Rotated(tmp_path)
    for _ in rotated.registered(rotated.cross()):
        _, before = rotated.files()
        assert rotated.renew() == (0, "")
        authority, certificate = rotated.files()
        assert authority == rotated.new.pem
        assert certificate != before


def test_a_new_ca_is_taken_over_several_deletions(tmp_path: Path) -> None:
    rotated, between = Rotated(tmp_path), Authority(identified=True)
    first = rotated.old.issue("ca", between.key.public_key(), ca=True)
    second = between.issue("ca", rotated.new.key.public_key(), ca=True)
    for _ in rotated.registered(second, first):
        assert rotated.renew() == (0, "")
        assert rotated.files()[0] == rotated.new.pem


@pytest.mark.parametrize("shown", ["nothing", "no CA", "self-signed", "another key"])
def test_a_new_ca_that_nothing_vouches_for_is_refused(tmp_path: Path, shown: str) -> None:
    rotated = Rotated(tmp_path)
    other = ec.generate_private_key(ec.SECP256R1()).public_key()
    shows = {
        "nothing": (),
        "no CA": (rotated.old.issue("ca", rotated.new.key.public_key()),),
        "self-signed": (rotated.new.certificate,),
        "another key": (rotated.old.issue("ca", other, ca=True),),
    }[shown]
    for _ in rotated.registered(*shows):
        before = rotated.files()
        status, complaint = rotated.renew()
        assert status == 1
        assert "does not vouch" in complaint
        assert "register again" in complaint
        assert rotated.files() == before


@pytest.mark.parametrize("target", ["lnh_ca.pem", "192.0.2.5.pem"])
def test_a_full_disk_leaves_each_file_whole(tmp_path: Path, target: str) -> None:
    rotated = Rotated(tmp_path)
    for _ in rotated.registered(rotated.cross()):
        before = rotated.files()
        source = {"lnh_ca.pem": "lnh_ca.pem", "192.0.2.5.pem": "certificate.pem"}[target]
        text = f"""case "$*" in */{source}) head -c 50 "$2"; exit 1 ;; esac
        exec $real "$@\""""
        status, complaint = rotated.renew(stand_in(tmp_path / "bin", "cat", text))
        assert status == 1
        assert f"{target} could not be replaced" in complaint
        after = rotated.files()
        assert after[1] == before[1]
        assert after[0] == (before[0] if target == "lnh_ca.pem" else rotated.new.pem)
        assert len(files_below(tmp_path / "client")) == 3
        assert CLUSTER_ID in next(iter(files_below(tmp_path / "client")))
