"""vtl, the slots of several clusters, and `partition clear`, on a real worker."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conclave.client import vtl
from conclave.client.clusters import registered_indexes
from conclave.client.configuration import read_document
from conclave.client.slots import Clusters, Listing, position_of, slot_number
from conclave.client.tools.prompts import LinePrompts
from conclave.client.tools.statuses import Status
from conclave.errors import BadInput, NotFound
from conclave.service import wire
from tests.client.conftest import Owner, documented

VTL = "conclave.client.vtl"
CMU = "conclave.client.cmu.main"
LUNACM = "conclave.client.lunacm.main"


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["verfy"], 'Did you mean "verify"'),
        (["createCert", "-n", "x"], "There is no such command"),
        (["verify", "-n"], "verify has no such option; it takes none"),
    ],
)
def test_a_refusal_names_what_is_near(words: list[str], complaint: str) -> None:
    with pytest.raises(BadInput, match=complaint):
        vtl.Verifier({}, LinePrompts()).parse(words)
    assert vtl.command_of("LISTSLOTS") is vtl.command_of("list")


def test_tables_have_the_known_shape() -> None:
    token = wire.Token(4, b"k" * 16, "ring one", "1682975235230", 0, 8, 255)
    assert vtl.slot_table([token]).splitlines()[2:] == [
        "Slot    Serial #            Label",
        "====    ================    =====",
        "   4       1682975235230    ring one",
    ]
    assert vtl.slot_lines([token]) == "Number of slots: 1\nSlot #4: ring one"
    assert vtl.servers([Listing(3, "10.0.0.1:50052")]).text == "Server: 03  10.0.0.1:50052"


@pytest.mark.system
def test_the_documented_commands_find_the_keyring(owner: Owner) -> None:
    text = owner.shell(documented("vtl"))
    assert "Server: 00  127.0.0.1:" in text
    assert "Slots/Keyrings were found" in text
    assert json.loads(text.splitlines()[-1])["result"]["slots"][0]["label"]


@pytest.mark.system
def test_vtl_ends_with_a_status(owner: Owner, tmp_path: Path) -> None:
    nowhere = {**owner.environment, "ChrystokiConfigurationPath": str(tmp_path)}
    stranger = Owner(nowhere, owner.directory)
    stranger.run(VTL, "verify", expect=2)
    (tmp_path / "Chrystoki.conf").write_text("LunaSA Client = {\n}\n")
    none = stranger.run(VTL, "verify", expect=Status.NOT_CONFIGURED)
    assert "names no cluster" in none.stderr
    assert "LNHClientRegistration.sh registers this client" in none.stderr
    assert none.stderr.count("ChrystokiConfigurationPath") == 1
    assert "Did you mean" in owner.run(VTL, "verifi", expect=Status.MISUSED).stderr


@pytest.mark.system
def test_lunacm_clears_a_keyring_when_it_is_told_to_proceed(owner: Owner) -> None:
    for label in ("one", "two"):
        owner.cmu("generatekey", f"-label={label}")
    refused = owner.run(LUNACM, "-q", "par", "clear", "-f", expect=Status.CREDENTIAL)
    assert "The Crypto Officer must log in first" in refused.stdout
    login = "role login -name co -passwordenv PIN\n"
    kept = owner.run(LUNACM, "-q", lines=f"{login}partition clear\nno\n", expect=Status.CANCELLED)
    assert "All 2 objects of this slot will be destroyed." in kept.stdout
    assert len(owner.cmu("list").splitlines()) == 2
    done = owner.run(LUNACM, "-q", lines=f"{login}partition clear\nproceed\n")
    assert "2 objects were destroyed." in done.stdout
    assert owner.cmu("list") == ""


@given(st.integers(0, 9), st.integers(0, 99_999_999), st.integers(1, 10))
def test_a_slot_leads_back_to_its_cluster(position: int, number: int, clusters: int) -> None:
    position %= clusters
    slot = slot_number(position, number, clusters)
    assert position_of(slot, clusters) == position
    if clusters == 1:
        assert slot == number


def test_no_two_keyrings_of_ten_clusters_share_a_slot() -> None:
    numbers = [0, 1, 9_999, 10_000, 10_001, 20_000, 99_999_999]
    slots = {slot_number(at, number, 10) for at in range(10) for number in numbers}
    assert len(slots) == 10 * len(numbers)


@pytest.fixture
def silent_port() -> Iterator[int]:
    """Give a port that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield int(listener.getsockname()[1])


def several(owner: Owner, directory: Path, silent_port: int) -> Owner:
    """Register ten indexes: 01 and 04 are the owner's cluster, the others do not work.

    Indexes 02 and 07 are gaps.
    """
    text = (owner.directory / "Chrystoki.conf").read_text()
    (live,) = (line for line in text.splitlines() if "LNHServer00" in line)
    port = live.rsplit(":", 1)[1].rstrip(";")
    lines = ["LunaSA Client = {"]
    for index, server in {
        1: f"127.0.0.1:{port}",
        3: f"127.0.0.1:{silent_port}",
        4: f"127.0.0.1:{port}",
        5: "127.0.0.1:1",
        6: "nonsense",
        8: f"127.0.0.1:{silent_port}",
        9: "127.0.0.1:1",
    }.items():
        lines += [
            f"    LNHServer{index:02} = {server};",
            f"    LNHServerClientCert{index:02} = {owner.directory / 'client.pem'};",
            f"    LNHServerClientKey{index:02} = {owner.directory / 'client.key'};",
            f"    LNHServerCN{index:02} = lnh.test;",
        ]
        authority = "missing.pem" if index == 9 else "authority.pem"
        lines.append(f"    LNHServerCAFile{index:02} = {owner.directory / authority};")
    lines += ["    LNHServer12 = 127.0.0.1:1;", "}"]
    (directory / "Chrystoki.conf").write_text("\n".join(lines) + "\n")
    environment = {**owner.environment, "ChrystokiConfigurationPath": str(directory)}
    return Owner(environment, directory)


@pytest.mark.system
def test_l2_clusters_that_do_not_work_neither_hide_nor_delay_the_others(
    owner: Owner, tmp_path: Path, silent_port: int
) -> None:
    many = several(owner, tmp_path, silent_port)
    document = read_document(tmp_path / "Chrystoki.conf")
    assert registered_indexes(document) == [1, 3, 4, 5, 6, 8, 9]
    clusters = Clusters.from_environment(many.environment)
    tokens = clusters.tokens()
    first, second = (token.slot for token in tokens)
    assert second == first + 20_000, "the second that works is the third of the file"
    assert [each.index for each in clusters.unanswered] == [3, 5, 6, 8, 9]
    assert clusters.token(second).keyring_id == clusters.token(first).keyring_id
    with pytest.raises(NotFound, match="no slot 20999"):
        clusters.token(20_999)
    with pytest.raises(NotFound):
        clusters.token(70_000)
    with pytest.raises(BadInput, match="LNHServer06 must be address:port"):
        clusters.token(40_000)
    clusters.close()
    done = many.run(VTL, "verify", "-json", expect=Status.UNREACHABLE)
    answers = {row["index"]: row for row in json.loads(done.stdout)["result"]["clusters"]}
    assert {index for index, row in answers.items() if row["ok"]} == {1, 4}
    assert [row["slot"] for row in answers[4]["slots"]] == [second]
    assert "must be address:port" in answers[6]["error"]
    assert "missing.pem" in answers[9]["error"]
    assert "registers this client" in answers[9]["next"]
    assert "Does the network let this host through" in answers[5]["next"]
    assert all(row["error"] for index, row in answers.items() if index not in {1, 4})
    listed = many.run(VTL, "listServers", expect=Status.NOT_CONFIGURED)
    assert f"Server: 03  127.0.0.1:{silent_port}" in listed.stdout
    assert "Cluster 06 (?) fails: Entry LNHServer06" in listed.stderr


@pytest.mark.system
def test_l2_the_tools_use_a_slot_of_the_second_cluster(
    owner: Owner, tmp_path: Path, silent_port: int
) -> None:
    many = several(owner, tmp_path, silent_port)
    clusters = Clusters.from_environment(many.environment)
    slot = max(token.slot for token in clusters.tokens())
    clusters.close()
    asked = many.run(CMU, "list", "-passwordenv=PIN", expect=Status.MISUSED)
    assert f"Option -slot must say which slot: {slot - 20_000}, {slot}" in asked.stderr
    assert "of cluster 03, 05, 06, 08, 09, which does not answer" in asked.stderr
    made = many.run(CMU, "-json", "genkey", f"-slot={slot}", "-label=far", "-passwordenv=PIN")
    (handle,) = (row["handle"] for row in json.loads(made.stdout)["result"]["objects"])
    batch = f"slot set -slot {slot}\nrole login -name co -passwordenv PIN\npar si -json\npar con\n"
    shown = many.run(LUNACM, "-q", lines=batch).stdout
    (facts,) = (json.loads(line) for line in shown.splitlines() if line.startswith("{"))
    assert facts["result"]["slot"] == slot
    assert f"Handle:        {handle}" in shown
    owner.cmu("delete", f"-handle={handle}", "-force")


@pytest.mark.system
def test_a_cluster_that_is_away_is_an_error_that_may_be_tried_again(
    owner: Owner, tmp_path: Path
) -> None:
    text = (owner.directory / "Chrystoki.conf").read_text()
    gone = re.sub(r"(LNHServer00 = 127.0.0.1):[0-9]+;", r"\1:1;", text)
    (tmp_path / "Chrystoki.conf").write_text(gone)
    environment = {**owner.environment, "ChrystokiConfigurationPath": str(tmp_path)}
    away = Owner(environment, tmp_path).run(CMU, "list", expect=Status.UNREACHABLE)
    assert "Nothing was changed: it may be tried again." in away.stderr


@pytest.mark.system
def test_lunacm_shows_mechanisms_and_gives_a_keyring_a_new_beginning(owner: Owner) -> None:
    lines = """
    partition login -passwordenv PIN
    partition showmechanism -m aes_gcm -json
    partition showmechanism
    partition logout
    partition init -label "new beginning" -passwordenv PIN
    proceed
    role login -name po -passwordenv PIN
    role init -name co -passwordenv PIN
    role logout
    role login -name co -passwordenv PIN
    slot list -json
    partition showmechanism -m CKM_NONE
    slot list
    """
    done = owner.run(LUNACM, "-q", lines=lines, expect=Status.FAILED)
    assert "partition login is the former name of: role login -name co" in done.stdout
    assert "0x00001087  CKM_AES_GCM" in done.stdout
    shown, listed = (json.loads(line) for line in done.stdout.splitlines() if line[:1] == "{")
    assert shown["result"]["name"] == "CKM_AES_GCM"
    assert {"CKF_ENCRYPT", "CKF_WRAP"} <= set(shown["result"]["flags"])
    assert [slot["label"] for slot in listed["result"]["slots"]] == ["new beginning"]
    assert "The Crypto Officer must log in first" not in done.stdout
    assert "The cluster has no such mechanism" in done.stdout
    assert done.stdout.rstrip().endswith("(CKR_MECHANISM_INVALID)")
