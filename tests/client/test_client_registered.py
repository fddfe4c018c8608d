"""Further clusters on a client: the script's -m, --list, --remove and --renew."""

from __future__ import annotations

import datetime
import json
import stat
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from cryptography import x509

from conclave.client.clusters import MAX_CLUSTERS, registered_clusters
from conclave.client.configuration import read_document
from tests.support.authority import Authority
from tests.support.registering import (
    CLUSTER_ID,
    PASSWORD,
    Member,
    at_terminal,
    files_below,
    register,
    run_script,
    serve,
    stand_in,
)


def add(
    member: Member, tmp_path: Path, *options: str, **more: Any
) -> subprocess.CompletedProcess[str]:
    """Register with a cluster of another id each time."""
    member.cluster_id = str(uuid4())
    fingerprint = ("--fingerprint", member.authority.fingerprint)
    cluster = ("-c", member.cluster_id)
    return register(member, tmp_path, *fingerprint, *cluster, *options, **more)


def configured(tmp_path: Path) -> dict[int, str]:
    """Return the cluster's id at each index, as its certificate's place has it."""
    document = read_document(tmp_path / "etc" / "Chrystoki.conf")
    return {
        entry.index: entry.certificate_file.parent.name for entry in registered_clusters(document)
    }


def test_section_8_rule_13_ten_clusters_find_their_indexes_and_an_eleventh_none(
    member: Member, tmp_path: Path
) -> None:
    expected = {}
    for index in (0, 3):
        options = ("-m", f"{index:02}") if index else ()
        assert add(member, tmp_path, *options).returncode == 0
        expected[index] = member.cluster_id
    for index in (1, 2, *range(4, MAX_CLUSTERS)):
        assert add(member, tmp_path, "-m").returncode == 0
        expected[index] = member.cluster_id
        assert configured(tmp_path) == expected
    refused = add(member, tmp_path, "-m")
    assert refused.returncode != 0
    assert "all ten indexes" in refused.stderr
    assert configured(tmp_path) == expected


@pytest.mark.parametrize("options", [("-m",), ("-m", "01")])
def test_two_registrations_at_once_do_not_share_an_index(
    member: Member, tmp_path: Path, options: tuple[str, ...]
) -> None:
    (tmp_path / "second").mkdir()
    for other in serve(tmp_path / "second", Member(authority := Authority(), authority)):
        member.meeting = other.meeting = threading.Barrier(2)
        with ThreadPoolExecutor(2) as both:
            runs = [both.submit(add, each, tmp_path, *options) for each in (member, other)]
        outcomes = [run.result() for run in runs]
        registered = [
            each.cluster_id
            for each, outcome in zip((member, other), outcomes, strict=True)
            if outcome.returncode == 0
        ]
        assert sorted(configured(tmp_path)) == ([1, 2] if options == ("-m",) else [1])
        assert sorted(configured(tmp_path).values()) == sorted(registered)
        refused = "".join(outcome.stderr for outcome in outcomes)
        assert ("index 01 was taken meanwhile" in refused) is (options != ("-m",))
    files = files_below(tmp_path / "client")
    assert len(files) == 3 * len(registered), "whoever is refused leaves nothing behind"
    assert files_below(tmp_path / "etc") == {"Chrystoki.conf"}


def test_a_lock_that_stays_is_told(member: Member, tmp_path: Path) -> None:
    lock = tmp_path / "etc" / ".Chrystoki.conf.lock"
    lock.mkdir(parents=True)
    environment = stand_in(tmp_path / "bin", "sleep", "exit 0")
    environment["CONCLAVE_ADMIN_PASSWORD"] = PASSWORD
    refused = add(member, tmp_path, environment=environment)
    assert refused.returncode != 0
    assert f"{lock} stands for another run; if there is none, remove it" in refused.stderr
    assert files_below(tmp_path / "client") == files_below(tmp_path / "etc") == set()
    lock.rmdir()
    assert add(member, tmp_path).returncode == 0


def test_an_index_that_is_taken_is_replaced_with_force_only(member: Member, tmp_path: Path) -> None:
    assert add(member, tmp_path, "-m", "5").returncode == 0
    before = configured(tmp_path)
    refused = add(member, tmp_path, "-m", "05")
    assert refused.returncode != 0
    assert "index 05 holds the cluster" in refused.stderr
    assert configured(tmp_path) == before
    assert add(member, tmp_path, "-m", "05", "--force").returncode == 0
    assert configured(tmp_path) == {5: member.cluster_id}


def test_a_cluster_stands_at_one_index(member: Member, tmp_path: Path) -> None:
    assert add(member, tmp_path).returncode == 0
    fingerprint = ("--fingerprint", member.authority.fingerprint)
    options = (*fingerprint, "-c", member.cluster_id, "-n", "other", "-m")
    refused = register(member, tmp_path, *options)
    assert refused.returncode != 0
    assert f"cluster {member.cluster_id} is at index 00 already" in refused.stderr


@pytest.mark.parametrize("index", ["10", "99", "x"])
def test_an_index_out_of_range_is_named(member: Member, tmp_path: Path, index: str) -> None:
    outcome = run_script(tmp_path, "--remove", index)
    assert outcome.returncode != 0
    assert f"it is '{index}'" in outcome.stderr
    assert member.seen == []


def test_what_is_registered_is_listed(member: Member, tmp_path: Path) -> None:
    nothing = run_script(tmp_path, "--list")
    assert nothing.returncode == 1
    assert "no cluster is registered" in nothing.stderr
    assert add(member, tmp_path, "-m", "7").returncode == 0
    shown = run_script(tmp_path, "--list")
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.splitlines()[0] == "07  127.0.0.1:50055"
    assert f"cluster      {member.cluster_id}" in shown.stdout
    assert "client       client (id " in shown.stdout
    assert "valid until  " in shown.stdout


def test_a_removed_cluster_leaves_every_other_byte(member: Member, tmp_path: Path) -> None:
    path = tmp_path / "etc" / "Chrystoki.conf"
    path.parent.mkdir()
    path.write_bytes(
        b"# mine\nLunaSA Client = {\n  NetClient = 1;\n  LNHServer02 = h:1; # a note\n"
        b"  LNHServerCN02 = x;\n}\nMisc = {\n  a = b;\n}"
    )
    before = path.read_bytes()
    assert add(member, tmp_path, "-m", "01").returncode == 0
    files = files_below(tmp_path / "client")
    refused = run_script(tmp_path, "--remove", "01")
    assert refused.returncode != 0
    assert "--force" in refused.stderr
    removed = run_script(tmp_path, "--remove", "1", "--force")
    assert removed.returncode == 0, removed.stderr
    assert path.read_bytes() == before
    assert files_below(tmp_path / "client") == files
    again = run_script(tmp_path, "--remove", "01", "--force")
    assert again.returncode != 0
    assert "index 01 holds no cluster" in again.stderr
    assert run_script(tmp_path, "--remove", "02", "--force").returncode == 0
    assert path.read_bytes() == before.replace(
        b"  LNHServer02 = h:1; # a note\n  LNHServerCN02 = x;\n", b" # a note\n"
    )


def test_the_socket_of_another_cluster_goes_with_its_entries(
    member: Member, tmp_path: Path
) -> None:
    path = tmp_path / "etc" / "Chrystoki.conf"
    assert add(member, tmp_path).returncode == 0
    plain = path.read_text()
    said = plain.replace("\n}", "\n    LNHServerSocket00 = /run/a.sock; # near\n}")
    other = said.replace("\n}", "\n    LNHServerSocket01 = /run/b.sock;\n}")
    path.write_text(other)
    removed = run_script(tmp_path, "--remove", "00", "--force")
    assert removed.returncode == 0, removed.stderr
    text = path.read_text()
    assert "LNHServerSocket01" in text
    assert "LNHServerSocket00" not in text


def test_files_go_on_request_and_none_that_lie_elsewhere(member: Member, tmp_path: Path) -> None:
    assert add(member, tmp_path).returncode == 0
    kept = tmp_path / "elsewhere.pem"
    kept.write_text("mine")
    path = tmp_path / "etc" / "Chrystoki.conf"
    text = path.read_text()
    document = read_document(path)
    key = document.get("LunaSA Client", "LNHServerClientKey00")
    assert key is not None
    path.write_text(text.replace(key, str(kept)))
    removed = run_script(tmp_path, "--remove", "00", "--force", "--delete-files")
    assert removed.returncode == 0, removed.stderr
    assert kept.read_text() == "mine"
    assert f"{kept} is not below" in removed.stdout
    assert files_below(tmp_path / "client") == {
        str(Path(key).relative_to((tmp_path / "client").resolve())),
        f"cert/server/{member.cluster_id}/lnh_ca.pem",
    }


def test_a_person_is_asked_before_a_cluster_is_removed(member: Member, tmp_path: Path) -> None:
    assert add(member, tmp_path).returncode == 0
    for answer, left in (("no\n", True), ("proceed\n", False)):
        with at_terminal(member, tmp_path, "--remove", "00") as terminal:
            terminal.wait_for("Type 'proceed' to remove it")
            terminal.send(answer)
            assert (terminal.status() != 0) is left
        assert (configured(tmp_path) != {}) is left


# ---------------------------------------------------------------- renewal


def certificate_of(tmp_path: Path) -> tuple[Path, x509.Certificate]:
    (entry,) = registered_clusters(read_document(tmp_path / "etc" / "Chrystoki.conf"))
    path = entry.certificate_file
    return path, x509.load_pem_x509_certificate(path.read_bytes())


def test_a_certificate_is_renewed_when_it_is_due_and_without_a_secret(
    member: Member, tmp_path: Path
) -> None:
    member.life = datetime.timedelta(days=20)
    assert add(member, tmp_path).returncode == 0
    path, before = certificate_of(tmp_path)
    path.chmod(0o640)
    asked = len(member.seen)
    early = run_script(tmp_path, "--renew", "all", "--renew-before", "10", member=member)
    assert early.returncode == 0, early.stderr
    assert "not due" in early.stdout
    assert len(member.seen) == asked
    member.life = datetime.timedelta(days=1000)
    renewed = run_script(tmp_path, "--renew", "all", member=member)
    assert renewed.returncode == 0, renewed.stderr
    line, authorization, body = member.seen[-1]
    assert line == f"POST /api/clusters/{member.cluster_id}/clients/actions/renew"
    assert authorization == ""
    assert json.loads(body).keys() == {"csr"}
    _, after = certificate_of(tmp_path)
    assert after.not_valid_after_utc > before.not_valid_after_utc
    assert after.public_key() == before.public_key()
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert not [name for name in files_below(tmp_path / "client") if ".registration" in name]


@pytest.mark.parametrize("fault", ["refuse", "certify_other_key"])
def test_a_renewal_that_fails_leaves_all_as_it_was(
    member: Member, tmp_path: Path, fault: str
) -> None:
    member.life = datetime.timedelta(days=20)
    assert add(member, tmp_path).returncode == 0
    path, before = certificate_of(tmp_path)
    setattr(member, fault, True)
    failed = run_script(tmp_path, "--renew", "00", member=member)
    assert failed.returncode == 1
    assert "index 00" in failed.stderr
    assert certificate_of(tmp_path) == (path, before)
    assert CLUSTER_ID not in failed.stderr
