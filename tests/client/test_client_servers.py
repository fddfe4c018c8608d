"""vtl addServer and deleteServer: the entries of a cluster, in either form of the file."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from conclave.client import vtl
from conclave.client.clusters import ClusterEntry, registered_clusters
from conclave.client.configuration import LOCK_NAME, locked, read_document
from conclave.client.tools.grammar import Invocation, read_options
from conclave.client.tools.prompts import Cancelled
from conclave.client.tools.statuses import Status, status_of
from conclave.errors import BadInput, ConclaveError
from tests.client.conftest import Owner
from tests.support.authority import Authority, key_pem, make_key, pem

CONF, INI = "Chrystoki.conf", "crystoki.ini"


class Says:
    """Answers every question alike."""

    def __init__(self, answer: str = "yes") -> None:
        self.answer = answer
        self.asked: list[str] = []

    def question(self, text: str) -> str:
        self.asked.append(text)
        if not self.answer:
            raise Cancelled
        return self.answer

    secret = question


@pytest.fixture(scope="module")
def entry(tmp_path_factory: pytest.TempPathFactory) -> ClusterEntry:
    """Return a cluster with the files of a client that it certified."""
    directory = tmp_path_factory.mktemp("files")
    authority, key = Authority(), make_key()
    certificate = authority.issue("client", key.public_key())
    files = {"c.pem": pem(certificate), "k.pem": key_pem(key), "ca.pem": authority.pem}
    for name, text in files.items():
        (directory / name).write_text(text)
    own, private, ca = (directory / name for name in files)
    return ClusterEntry(0, "192.0.2.4", 50052, own, private, ca, "lnh.thalesgroup.com")


def command(words: list[str], directory: Path, prompts: Says | None = None) -> dict[str, object]:
    row = vtl.command_of(words[0])
    tool = vtl.Verifier({"ChrystokiConfigurationPath": str(directory)}, prompts or Says())
    return dict(tool.carry_out(Invocation(row, read_options(row, words[1:]))).data)


def add(entry: ClusterEntry, directory: Path, *more: str) -> dict[str, object]:
    words = [
        "addServer",
        f"-server={entry.host}:{entry.port}",
        f"-certificate={entry.certificate_file}",
        f"-key={entry.key_file}",
        f"-ca={entry.ca_file}",
    ]
    return command([*words, *more], directory)


@pytest.mark.parametrize(
    ("name", "before"),
    [
        (CONF, None),
        (CONF, "# mine\nLunaSA Client = {\n    NetClient = 1;\n}\n"),
        (INI, "; mine\n[LunaSA Client]\nNetClient=1\n"),
        (INI, ""),
    ],
)
def test_a_cluster_is_added_and_deleted_and_the_rest_stays(
    entry: ClusterEntry, tmp_path: Path, name: str, before: str | None
) -> None:
    path = tmp_path / name
    if before is not None:
        path.write_text(before)
        path.chmod(0o640)
    assert add(entry, tmp_path) == {"index": 0, "entry": "192.0.2.4:50052", "file": str(path)}
    other = replace(entry, host="2001:db8::1", index=1, common_name="lnh.example")
    add(replace(other, host="[2001:db8::1]"), tmp_path, "-cn=lnh.example")
    assert registered_clusters(read_document(path)) == (entry, other)
    for index in ("0", "01"):
        command(["deleteServer", f"-index={index}"], tmp_path)
    left = path.read_text()
    assert "LNHServer" not in left
    if before is not None:
        assert left.startswith(before)
        assert path.stat().st_mode & 0o777 == 0o640
    assert [each.name for each in tmp_path.iterdir()] == [name], "no lock, no other file"


def test_what_is_added_must_work_and_replaces_with_force_only(
    entry: ClusterEntry, tmp_path: Path
) -> None:
    add(entry, tmp_path)
    away = replace(entry, host="192.0.2.9")
    for cluster, more, told in (
        (away, ("-index=00",), "Index 00 holds the cluster at 192.0.2.4:50052; -force"),
        (entry, ("-index=05",), "192.0.2.4:50052 is at index 00 already"),
        (away, ("-index=10",), "-index is 00 to 09"),
        (replace(away, port=70_000), (), "-server must be address:port"),
        (replace(away, key_file=tmp_path / "none"), (), "none of cluster 01 cannot be read"),
        (replace(away, key_file=entry.ca_file), (), "or not that of"),
    ):
        with pytest.raises(BadInput, match=told):
            add(cluster, tmp_path, *more)
    assert registered_clusters(read_document(tmp_path / CONF)) == (entry,)
    add(away, tmp_path, "-index=00", "-force")
    assert registered_clusters(read_document(tmp_path / CONF)) == (away,)
    for number in range(1, 10):
        add(replace(entry, host=f"192.0.2.{10 + number}"), tmp_path)
    with pytest.raises(BadInput, match="all hold a cluster"):
        add(replace(entry, host="192.0.2.99"), tmp_path)


def test_nothing_is_deleted_that_was_not_meant(entry: ClusterEntry, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="cannot be read"):
        command(["deleteServer", "-index=00"], tmp_path)
    add(entry, tmp_path)
    with pytest.raises(BadInput, match="Index 03 holds no cluster"):
        command(["deleteServer", "-index=3"], tmp_path)
    for prompts in (Says("no"), Says("")):
        with pytest.raises(Cancelled):
            command(["deleteServer", "-index=00"], tmp_path, prompts)
        assert "192.0.2.4:50052" in prompts.asked[0]
    assert registered_clusters(read_document(tmp_path / CONF)) == (entry,)
    silent = Says("")
    command(["deleteServer", "-index=00", "-force"], tmp_path, silent)
    assert silent.asked == []


def test_a_file_that_cannot_be_written_is_told(entry: ClusterEntry, tmp_path: Path) -> None:
    nowhere = tmp_path / "none"
    with pytest.raises(ConclaveError, match=f"in {nowhere} cannot be written: No such") as refused:
        add(entry, nowhere)
    assert status_of(refused.value) is Status.MISUSED


def test_two_at_once_find_indexes_of_their_own(entry: ClusterEntry, tmp_path: Path) -> None:
    begin = threading.Barrier(4)

    def one(number: int) -> None:
        begin.wait(60)
        add(replace(entry, host=f"192.0.2.{number}"), tmp_path)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(one, range(4)))
    found = registered_clusters(read_document(tmp_path / CONF))
    assert [each.index for each in found] == [0, 1, 2, 3]
    assert len({each.host for each in found}) == 4


def test_a_lock_that_stays_is_told(tmp_path: Path) -> None:
    (tmp_path / LOCK_NAME).mkdir()
    with (
        pytest.raises(BadInput, match="stands for another run; if there is none, remove it"),
        locked(tmp_path / CONF, patience_seconds=0.05),
    ):
        raise AssertionError


@pytest.mark.system
def test_the_tools_use_a_cluster_that_was_added(owner: Owner, tmp_path: Path) -> None:
    (tmp_path / INI).touch()
    port = (owner.directory / CONF).read_text().split("127.0.0.1:")[1].split(";")[0]
    here = Owner({**owner.environment, "ChrystokiConfigurationPath": str(tmp_path)}, tmp_path)
    files = [owner.directory / name for name in ("client.pem", "client.key", "authority.pem")]
    names = (f"-certificate={files[0]}", f"-key={files[1]}", f"-ca={files[2]}", "-cn=lnh.test")
    here.run("conclave.client.vtl", "addServer", f"-server=127.0.0.1:{port}", *names)
    found = here.run("conclave.client.vtl", "verify", "-json")
    (cluster,) = json.loads(found.stdout)["result"]["clusters"]
    assert cluster["ok"]
    assert len(cluster["slots"]) == 1
    here.cmu("list")
    here.run("conclave.client.vtl", "deleteServer", "-index=00", lines="yes\n")
    here.run("conclave.client.vtl", "listServers", expect=Status.NOT_CONFIGURED)
