"""A demonstration of three members: complete, startable again, and its members can fail."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from conclave.crypto.standard import Cka, Ckm
from conclave.demo.daemon import running_pid
from conclave.demo.isolation import CUT
from conclave.demo.members import administrator, members_seen
from conclave.store.postgresql import account as accounts
from tests.support.cryptoki import Cryptoki, Session, mechanism
from tests.support.demo import Demo, run_demo
from tests.support.processes import alive

pytestmark = pytest.mark.system
WAIT_SECONDS = 90.0


@dataclass(frozen=True)
class Trio:
    """Three members below one directory, and what was printed when they were made."""

    directory: Path
    printed: str

    @property
    def demo(self) -> Demo:
        """Return the installation as it is described now."""
        return Demo(self.directory, json.loads((self.directory / "demo.json").read_text()))

    def state_dir(self, number: int) -> Path:
        return self.directory / f"member-{number}"

    def fault(self, *words: str) -> str:
        """Let a member fail, and return what was said."""
        outcome = run_demo("fault", *words, "--dir", str(self.directory))
        assert outcome.returncode == 0, outcome.stdout + outcome.stderr
        assert "Watch:\n    curl --config" in outcome.stdout
        return outcome.stdout

    def seen_by(self, number: int) -> list[dict[str, Any]]:
        """Return the members in the order of their making, as one of them sees them."""
        document = self.demo.document
        row = document["members"][number - 1]
        where = (Path(row["stateDir"]), row["address"], document["adminPassword"])
        with administrator(*where) as rest:
            members = {
                member["memberUUID"]: member for member in members_seen(rest, document["clusterId"])
            }
        return [members[each["memberId"]] for each in document["members"]] if members else []


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < deadline
        pause.wait(0.02)


@pytest.fixture(scope="module")
def trio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trio]:
    state = tmp_path_factory.mktemp("trio") / uuid.uuid4().hex
    outcome = run_demo(str(state), "--members", "3", "--low-cost", "--detach")
    try:
        assert outcome.returncode == 0, outcome.stdout + outcome.stderr
        yield Trio(state, outcome.stdout)
    finally:
        run_demo("--stop", str(state))
        account = accounts.find()
        for number in (1, 2, 3):
            accounts.remove(state / f"member-{number}", account)


@dataclass
class Signer:
    """An application that signs without a pause, until it is told to end or a call fails."""

    session: Session
    key: int
    made: int = 0
    failure: BaseException | None = None
    _end: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread = field(init=False)

    def __post_init__(self) -> None:
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            while not self._end.is_set():
                signature = self.session.whole("Sign", mechanism(Ckm.ECDSA), self.key, bytes(32))
                assert len(signature) == 64
                self.made += 1
        except AssertionError as failure:
            self.failure = failure

    def signs_on(self, times: int = 30) -> None:
        """Wait for so many signatures more."""
        goal = self.made + times
        wait_until(lambda: self.made >= goal or self.failure is not None)
        assert self.failure is None

    def end(self) -> None:
        self._end.set()
        self._thread.join(WAIT_SECONDS)


def test_the_document_and_the_page_show_every_member(trio: Trio) -> None:
    members = trio.demo.document["members"]
    addresses = [member["address"] for member in members]
    last = [int(address.rpartition(".")[2]) for address in addresses]
    assert last == [last[0], last[0] + 1, last[0] + 2]
    for number, member in enumerate(members, start=1):
        ports = [member[f"{name}Port"] for name in ("rest", "admin", "crypto", "core")]
        assert ports == [8443, 50070, 50052, 50051]
        assert member["stateDir"] == str(trio.state_dir(number))
        assert {"daemon", "login", "cluster", "postgres", "worker-0"} <= set(member["pids"])
        assert alive(member["pids"]["daemon"])
        assert f"member-{number}  {member['name']}" in trio.printed
    assert len({member["memberId"] for member in members}) == 3
    assert trio.printed.count("Verified OK") == 2
    assert f"A cluster of three members serves 1 keyring(s) at {', '.join(addresses)}." in (
        trio.printed
    )
    assert "demo fault kill 2 --dir" in trio.printed


def test_the_curl_file_trusts_the_door_of_every_member(trio: Trio) -> None:
    wait_until(lambda: doors_are_trusted(trio))


def doors_are_trusted(trio: Trio) -> bool:
    """Tell whether curl, with what the demonstration wrote for it, reaches every member."""
    curl = ["curl", "--config", str(trio.directory / "curl.conf"), "--fail"]
    doors = [
        f"https://{member['address']}:{member['restPort']}/api/clusters"
        for member in trio.demo.document["members"]
    ]
    answers = [
        subprocess.run([*curl, door], check=False, capture_output=True, timeout=30)
        for door in doors
    ]
    return all(trio.demo.document["clusterId"].encode() in answer.stdout for answer in answers)


def test_an_application_signs_on_while_the_primary_is_killed_and_comes_back(
    trio: Trio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in trio.demo.document["client"]["environment"].items():
        monkeypatch.setenv(name, value)
    keyring = trio.demo.keyring(0)
    library = Cryptoki(trio.demo.module, tmp_path)
    library.do("C_Initialize", None)
    session = library.open(keyring["slot"])
    session.login(keyring["pin"])
    (key,) = session.find({Cka.LABEL: b"demo-ec", Cka.SIGN: True})
    signer = Signer(session, key)
    try:
        signer.signs_on()
        before = trio.demo.document["members"][0]["pids"]
        assert "killed member-1: daemon and " in trio.fault("kill", "1")
        assert not any(alive(pid) for pid in before.values())
        signer.signs_on()
        assert "started member-1.\nIt was Read-Write" in trio.fault("resume", "member-1")
        now = trio.demo.document["members"][0]["pids"]
        assert now["daemon"] == running_pid(trio.state_dir(1))
        assert set(now) == set(before)
        signer.signs_on()
    finally:
        signer.end()
        library.do("C_Finalize", None)
    assert signer.failure is None


def test_a_killed_process_is_replaced_by_its_daemon(trio: Trio) -> None:
    daemon = running_pid(trio.state_dir(2))
    told = trio.fault("kill", "2", "--what", "worker")
    assert "killed worker-0 (" in told
    assert "of member-2 with SIGKILL; it is replaced by itself." in told
    assert running_pid(trio.state_dir(2)) == daemon
    wait_until(lambda: trio.seen_by(2)[1]["mode"] == "Read-Write")


def test_a_hung_member_is_dropped_and_goes_on_when_it_is_resumed(trio: Trio) -> None:
    name = trio.demo.document["members"][2]["name"]
    assert "processes of member-3 with SIGSTOP" in trio.fault("hang", name)
    wait_until(lambda: not trio.seen_by(1)[2]["visibleToServicingNode"])
    told = trio.fault("resume", "3")
    assert "processes of member-3 go on.\nIt was Read-Write" in told
    assert "there was nothing to do" in trio.fault("resume", "3")


def test_an_isolated_member_turns_read_only_until_it_is_healed(trio: Trio) -> None:
    words = ("fault", "isolate", "3", "--dir", str(trio.directory))
    if os.geteuid() != 0:
        refused = run_demo(*words)
        assert refused.returncode != 0
        assert "that needs root and the program `ip`" in refused.stderr
        return
    trio.fault("isolate", "3")
    wait_until(lambda: trio.seen_by(3)[2]["mode"] == "Read-Only")
    wait_until(lambda: not trio.seen_by(1)[2]["visibleToServicingNode"])
    told = trio.fault("heal", "3")
    assert "joined member-3 with the other members again and set the clock" in told
    assert "It was Read-Write" in told
    assert not cuts(trio)


def cuts(trio: Trio) -> list[str]:
    """Return the routing rules that cut members of this demonstration off."""
    addresses = [member["address"] for member in trio.demo.document["members"]]
    rules = subprocess.check_output(["ip", "rule", "show"], text=True, timeout=30).splitlines()
    return [
        rule
        for rule in rules
        if rule.startswith(f"{CUT}:") and any(f" {address} " in rule for address in addresses)
    ]


def test_a_skewed_clock_is_off_by_what_was_asked_until_it_is_healed(trio: Trio) -> None:
    def today() -> str:
        row = trio.demo.document["members"][1]
        password = trio.demo.document["adminPassword"]
        with administrator(Path(row["stateDir"]), row["address"], password) as rest:
            return str(rest.get("/api/lunasa/time")["date"])

    right = today()
    assert "clock of member-2 864000 s behind" in trio.fault("skew", "2", "--seconds", "-864000")
    wait_until(lambda: doors_are_trusted(trio))
    assert today() < right
    assert "set the clock of member-2 right" in trio.fault("heal", "2")
    assert today() >= right


def test_a_fault_ends_by_itself_after_its_time(trio: Trio) -> None:
    told = trio.fault("hang", "2", "--seconds", "1")
    assert "It ends in 1 s, or with Ctrl-C." in told
    assert "processes of member-2 go on." in told


def test_all_are_stopped_whatever_fails_and_all_start_again(trio: Trio) -> None:
    trio.fault("hang", "2")
    if os.geteuid() == 0:
        trio.fault("isolate", "3")
    before = [member["pids"] for member in trio.demo.document["members"]]
    stopped = run_demo("--stop", str(trio.directory))
    assert (stopped.returncode, "is stopped" in stopped.stdout) == (0, True)
    assert not any(alive(pid) for pids in before for pid in pids.values())
    if os.geteuid() == 0:
        assert not cuts(trio)
    refused = run_demo("fault", "kill", "1", "--dir", str(trio.directory))
    assert refused.returncode != 0
    assert "member-1 does not run; `resume` starts it." in refused.stderr
    other = run_demo(str(trio.directory), "--members", "2", "--detach")
    assert other.returncode != 0
    assert "holds a demonstration of 3 member(s)" in other.stderr
    started = run_demo(str(trio.directory), "--detach")
    assert started.returncode == 0, started.stdout + started.stderr
    assert started.stdout.count("Verified OK") == 2
    assert all(member["mode"] == "Read-Write" for member in trio.seen_by(3))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("explode", "1"), "'explode' is not one of"),
        (("kill", "4"), "MEMBER must be one of member-1, member-2, member-3; it is '4'."),
        (("kill", "1", "--what", "login"), "'login' is not one of"),
        (("hang", "1", "--what", "worker"), "--what: goes with kill only, not with hang"),
        (("hang", "1", "--seconds", "0"), "--seconds: must lie between 1 and 86400 for hang"),
        (("skew", "1", "--seconds", "99999999"), "must lie between -31622400 and 31622400"),
        (("resume", "1", "--seconds", "3"), "goes with a fault that lasts; resume does not"),
        (("kill", "1", "--what", "worker", "--seconds", "3"), "kill worker does not"),
    ],
)
def test_wrong_words_are_refused_and_nothing_fails(
    trio: Trio, words: tuple[str, ...], said: str
) -> None:
    outcome = run_demo("fault", *words, "--dir", str(trio.directory))
    assert outcome.returncode != 0
    assert said in outcome.stderr
    assert running_pid(trio.state_dir(1)) is not None


@pytest.mark.parametrize("count", ["0", "5", "two"])
def test_a_wrong_number_of_members_is_refused_before_anything_is_made(
    tmp_path: Path, count: str
) -> None:
    outcome = run_demo(str(tmp_path / "state"), "--members", count)
    assert outcome.returncode == 2
    assert "--members" in outcome.stderr
    assert not (tmp_path / "state").exists()


def test_a_fault_without_a_demonstration_says_so(tmp_path: Path) -> None:
    outcome = run_demo("fault", "kill", "1", "--dir", str(tmp_path))
    assert outcome.returncode != 0
    assert "holds no complete demonstration" in outcome.stderr
