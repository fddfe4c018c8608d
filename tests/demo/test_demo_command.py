"""`conclave demo` as people and scripts use it: complete, private, stoppable, startable again."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from conclave.demo.daemon import running_pid
from conclave.demo.options import free_loopback_address, new_password
from tests.support.demo import Demo, run_demo, start_demo, stop_demo

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    demo = start_demo(tmp_path_factory.mktemp("demo") / "state", "--keyrings", "2", "--low-cost")
    yield demo
    stop_demo(demo)


def alive(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


def test_the_description_has_all_that_a_script_needs(running: Demo) -> None:
    document = running.document
    for name in ("clusterId", "partitionLabel", "hsmSoPassword", "poPassword", "coPassword"):
        assert document[name], name
    assert Path(document["caFile"]).read_text().startswith("-----BEGIN CERTIFICATE")
    member = running.member
    assert re.fullmatch(r"127\.\d+\.\d+\.\d+", member["address"])
    assert (member["restPort"], member["adminPort"], member["cryptoPort"]) == (8443, 50070, 50052)
    assert set(member) >= {"memberId", "name", "sshPort", "hsmSerial", "pids"}
    assert member["name"] == f"LNH-{member['hsmSerial']}"
    assert {"daemon", "login", "cluster", "worker-0"} <= set(member["pids"])
    assert all(alive(pid) for pid in member["pids"].values())
    assert Path(running.module).is_file()
    assert [keyring["label"] for keyring in document["keyrings"]] == ["demo1", "demo2"]
    for keyring in document["keyrings"]:
        assert keyring["soPin"] == keyring["pin"]
        assert isinstance(keyring["slot"], int)
    secrets = [value for name, value in document.items() if name.endswith("Password")]
    assert len(set(secrets)) == len(secrets) == 4


def test_nothing_of_it_is_for_others(running: Demo) -> None:
    assert running.directory.stat().st_mode & 0o777 == 0o700
    for path in running.directory.rglob("*"):
        if path.name in {"demo.json", "curl.conf", "settings.toml", "demo-clientKey.pem"}:
            assert path.stat().st_mode & 0o777 == 0o600, path
    secrets = [value for name, value in running.document.items() if name.endswith("Password")]
    secrets += [keyring["pin"] for keyring in running.document["keyrings"]]
    for log in [*running.directory.rglob("*.log")]:
        text = log.read_text()
        assert not any(secret in text for secret in secrets), log


def test_the_page_ends_with_commands_that_work(tmp_path: Path) -> None:
    state = tmp_path / "page"
    outcome = run_demo(str(state), "--detach", "--low-cost")
    try:
        assert outcome.returncode == 0, outcome.stderr
        assert outcome.stdout.count("Verified OK") == 2
        for chapter in ("2", "3", "4", "5"):
            assert f"(guide chapter {chapter})" in outcome.stdout
        page = outcome.stdout[outcome.stdout.index("Tell programs") :]
        commands = [line.strip() for line in page.splitlines() if line.startswith("    ")]
        # LunaSH asks for its password at a terminal; tests/lunash logs in to it.
        tried_lines = (line for line in commands if line != "lunacm" and line.split()[0] != "ssh")
        script = "\n".join(("set -e", *tried_lines))
        (ssh,) = (line for line in commands if line.split()[0] == "ssh")
        # The host key is known; without a terminal nobody can be asked for the password.
        refused = subprocess.run(
            [*shlex.split(ssh), "-oBatchMode=yes"],
            check=False, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert "Permission denied" in refused.stderr
        assert "--stop" in script
        tried = subprocess.run(
            ["sh", "-c", script],
            check=False,
            capture_output=True,
            text=True,
            cwd=tmp_path,
            timeout=60,
        )
        assert tried.returncode == 0, tried.stdout + tried.stderr
        assert '"keyRingLabel"' in tried.stdout
        assert "Number of objects" in tried.stdout
        assert "is stopped" in tried.stdout
    finally:
        run_demo("--stop", str(state))


def test_a_second_start_says_that_it_runs(running: Demo) -> None:
    outcome = run_demo(str(running.directory), "--detach")
    assert outcome.returncode != 0
    assert "running already" in outcome.stderr
    assert alive(running.member["pids"]["daemon"])


def test_a_stopped_installation_starts_again_with_its_keys(tmp_path: Path) -> None:
    first = start_demo(tmp_path / "state", "--identity", "dual", "--low-cost")
    stop_demo(first)
    assert not any(alive(pid) for pid in first.member["pids"].values())
    again = run_demo("--stop", str(first.directory))
    assert (again.returncode, "was not running" in again.stdout) == (0, True)
    # Without a terminal and --detach it shows its signatures and is stopped at the end.
    outcome = run_demo(str(first.directory))
    assert outcome.returncode == 0, outcome.stderr
    assert "started again" in outcome.stdout
    assert outcome.stdout.count("Verified OK") == 2
    assert "--detach" in outcome.stdout
    assert running_pid(first.directory / "member-1") is None


def test_a_lone_member_that_was_killed_is_authorized_again_when_it_is_resumed(
    tmp_path: Path,
) -> None:
    demo = start_demo(tmp_path / "state")
    where = ("--dir", str(demo.directory))
    try:
        killed = run_demo("fault", "kill", "1", *where)
        assert killed.returncode == 0, killed.stderr
        assert "There is no other member: calls of applications fail" in killed.stdout
        resumed = run_demo("fault", "resume", "1", *where)
        assert resumed.returncode == 0, resumed.stderr
        assert "started member-1, and authorized it" in resumed.stdout
        assert "It was Read-Write" in resumed.stdout
    finally:
        stop_demo(demo)


def test_a_directory_with_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("mine")
    outcome = run_demo(str(tmp_path))
    assert outcome.returncode != 0
    assert "choose another directory" in outcome.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["precious"]
    nowhere = run_demo(str(tmp_path / "new"), "--json", str(tmp_path / "no" / "file.json"))
    assert nowhere.returncode != 0
    assert "there is no directory" in nowhere.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["precious"]
    missing = run_demo("--stop", str(tmp_path / "nowhere"))
    assert missing.returncode != 0
    assert "no complete demonstration" in missing.stderr


def test_a_limit_without_room_for_its_own_keys_is_refused_before_anything_is_made(
    tmp_path: Path,
) -> None:
    outcome = run_demo(str(tmp_path / "state"), "--max-objects", "3", "--detach")
    assert outcome.returncode == 2
    assert "--max-objects: 3 is too few for the demonstration's 4 keys" in outcome.stderr
    assert not (tmp_path / "state").exists()


def test_a_failed_step_says_what_to_do_and_leaves_no_process(tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    for tool in ("sh", "openssl", "curl", "awk", "sed", "grep", "tr", "mkdir", "cat", "mv", "cp"):
        (tools / tool).symlink_to(subprocess.check_output(["which", tool], text=True).strip())
    for tool in ("rm", "ln", "chmod", "dirname", "cmp", "tail", "wc", "readlink", "stty", "rmdir"):
        (tools / tool).symlink_to(subprocess.check_output(["which", tool], text=True).strip())
    state = tmp_path / "state"
    outcome = subprocess.run(
        [sys.executable, "-m", "conclave.cli", "demo", str(state), "--detach", "--low-cost"],
        check=False,
        capture_output=True,
        text=True,
        timeout=90,
        env={**os.environ, "PATH": str(tools)},
    )
    assert outcome.returncode != 0
    assert "pkcs11-tool was not found" in outcome.stderr
    assert "To begin anew: rm -r" in outcome.stdout
    assert running_pid(state / "member-1") is None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_signal_stops_everything(tmp_path: Path, number: signal.Signals) -> None:
    state = tmp_path / "state"
    # A script's background jobs, of which this may be one, ignore SIGINT and so would it.
    command = ["env", "--default-signal=INT", sys.executable, "-u", "-m", "conclave.cli"]
    command += ["demo", str(state), "--low-cost"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("[ 3]"):
                break
        process.send_signal(number)
        process.stdout.read()
    assert process.returncode == (130 if number is not signal.SIGKILL else -signal.SIGKILL)
    deadline = time.monotonic() + 90
    ready = (
        json.loads((state / "member-1" / "run" / "ready.json").read_text())
        if (number is signal.SIGKILL)
        else {"pid": 0}
    )
    while running_pid(state / "member-1") is not None or alive(ready["pid"]):
        assert time.monotonic() < deadline
        os.sched_yield()


def test_chosen_passwords_and_addresses_differ() -> None:
    passwords = {new_password(16) for _ in range(50)}
    assert len(passwords) == 50
    assert all(re.fullmatch(r"(?=.*[a-z])(?=.*[A-Z])(?=.*\d).{16}", word) for word in passwords)
    assert len({free_loopback_address() for _ in range(5)}) == 5
