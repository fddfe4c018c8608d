"""The syslog family over ssh and scp; remote hosts are real receivers."""

from __future__ import annotations

import asyncio
import datetime
import json
import logging
import re
import socket
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from conclave.appliance import remote_logs
from conclave.appliance.log_files import LogFiles
from conclave.appliance.remote_logs import MAX_QUEUED
from conclave.appliance.system_log import LUSH_LOGGER
from conclave.appliance.tls import ensure_webserver_certificate
from conclave.settings import LogSettings
from tests.support.appliance_bench import random_loopback, until
from tests.support.log_host import LogHost
from tests.support.ssh_house import Answer, SshHouse, open_ssh_house

pytestmark = pytest.mark.system
LUSH_LINE = re.compile(
    r"\d{4} [A-Z][a-z]{2} \d\d \d\d:\d\d:\d\d conclave local5 info lunash \[\d+\]: info : "
    r"(?P<result>\d+) : Command: (?P<words>.+)  : (?P<user>\w+) : [0-9.]+"
)
SECRET = "Sesame-Secret-77"


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshHouse]:
    with open_ssh_house(tmp_path_factory.mktemp("syslog")) as opened:
        yield opened


@pytest.fixture(autouse=True)
def reset(house: SshHouse) -> Iterator[None]:
    yield
    for host in house.appliance.syslog.remote_hosts:
        house.loop.run(house.appliance.syslog.remove_remote(host.host_id))


def done(answer: Answer) -> str:
    assert answer.status == 0, answer
    return answer.out


def tail(house: SshHouse, log: str, entries: int = 1000) -> list[str]:
    answer = house.ssh(f"syslog tail -logname {log} -entries {entries} -json")
    lines: list[str] = json.loads(done(answer))["entries"]
    return lines


def test_each_command_and_login_is_in_lunalogs_as_the_product_writes_it(house: SshHouse) -> None:
    done(house.ssh("status time", user="monitor"))
    house.ssh("partition show -partition nowhere")
    found = [found for line in tail(house, "lunalogs") if (found := LUSH_LINE.fullmatch(line))]
    rows = {(each["result"], each["words"], each["user"]) for each in found}
    assert ("0", "status time", "monitor") in rows
    assert ("65535", "partition show", "admin") in rows
    logins = [line for line in tail(house, "lunalogs") if "Lush user login : monitor" in line]
    assert logins


def test_no_log_holds_a_secret(house: SshHouse) -> None:
    house.ssh("hsm show", password=SECRET)
    house.ssh(f"hsm init -label lab -defaultdomain -password {SECRET}", stdin="quit\n")
    house.ssh(f"{SECRET} {SECRET}")
    house.ssh(f"hsm login -password {SECRET}")
    done(house.ssh("syslog tarlogs"))
    for path in house.appliance.paths.logs.iterdir():
        assert SECRET.encode() not in path.read_bytes(), path
    assert any("hsm init" in line for line in tail(house, "lunalogs"))


def test_a_message_stays_on_its_line(house: SshHouse) -> None:
    logging.getLogger("conclave.test").warning("one\ntwo\x1b[31m")
    (line,) = [each for each in tail(house, "messages") if "one" in each]
    assert line.endswith("daemon warning conclave.test: one\\x0atwo\\x1b[31m")


def test_tail_counts_searches_and_refuses(house: SshHouse) -> None:
    for number in range(5):
        logging.getLogger("conclave.test").info("needle %d", number)
    assert len(tail(house, "messages", 2)) == 2
    shown = done(house.ssh("syslog tail -l messages -e 3 -s needle")).splitlines()
    assert [line[-8:] for line in shown if "needle" in line] == ["needle 2", "needle 3", "needle 4"]
    refused = house.ssh("syslog tail -logname ../appliance -entries 3")
    assert (refused.status, "There is no log" in refused.out) == (1, True)
    assert house.ssh("syslog tail -logname messages -entries 200001").status == 1
    assert "lunalogs" in done(house.ssh("syslog list", user="monitor"))


def test_logs_are_turned_over_exported_and_cleaned_up(house: SshHouse, tmp_path: Path) -> None:
    logging.getLogger("conclave.test").info("before the turn")
    done(house.ssh("syslog rotate"))
    logging.getLogger("conclave.test").info("after the turn")
    assert (house.appliance.paths.logs / "messages.1").exists()
    done(house.ssh("syslog export"))
    done(house.scp_down("messages.log", tmp_path))
    exported = (tmp_path / "messages.log").read_text()
    assert exported.index("before the turn") < exported.index("after the turn")
    done(house.ssh("syslog tarlogs"))
    done(house.scp_down("logs.tgz", tmp_path))
    with tarfile.open(tmp_path / "logs.tgz") as archive:
        names = archive.getnames()
    assert {"logs/messages", "logs/messages.1", "logs/lunalogs", "logs/lunalogs.1"} <= set(names)
    assert house.ssh("syslog cleanup", stdin="quit\n").status == 1
    assert "Deleting log files ..." in done(house.ssh("syslog cleanup -force"))
    assert not (house.appliance.paths.logs / "messages.1").exists()
    assert house.ssh("syslog rotate", user="monitor").status == 1


def test_logs_have_a_bound(tmp_path: Path) -> None:
    bounds = LogSettings(max_file_bytes=4096, max_files=3)
    with open_ssh_house(tmp_path / "bounded", logs=bounds) as small:
        logger = logging.getLogger("conclave.test")
        for number in range(400):
            logger.info("line %d %s", number, "x" * 60)
        files = sorted(small.appliance.paths.logs.glob("messages*"))
        assert [each.name for each in files] == ["messages", "messages.1", "messages.2"]
        assert all(each.stat().st_size < 4096 + 200 for each in files)
        assert all(each.stat().st_mode & 0o777 == 0o600 for each in files)
        assert "line 399 " in files[0].read_text() + files[1].read_text()


def test_another_process_goes_on_in_a_new_file(tmp_path: Path) -> None:
    files = LogFiles(tmp_path, 4096, 3)
    program = (
        "import logging, sys; from conclave.service.bootstrap import configure_logging\n"
        "configure_logging(sys.argv[1])\n"
        "for line in sys.stdin: logging.getLogger('p').info(line.strip()); print(flush=True)"
    )
    command = [sys.executable, "-c", program, str(files.path("worker-0"))]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for word in ("before", "after"):
            process.stdin.write(f"{word} the turn\n")
            process.stdin.flush()
            process.stdout.readline()
            if word == "before":
                assert files.rotate() == 1
        process.stdin.close()
    assert "before the turn" in (tmp_path / "worker-0.log.1").read_text()
    assert "after the turn" in (tmp_path / "worker-0.log").read_text()


@pytest.mark.parametrize("protocol", ["udp", "tcp"])
def test_lines_are_sent_to_a_remote_host(house: SshHouse, protocol: str) -> None:
    address = random_loopback()
    with LogHost(address, protocol) as remote:
        add = f"syslog remotehost add {address} -port {remote.port} -protocol {protocol}"
        done(house.ssh(add))
        assert house.ssh(add).status == 1
        listed = done(house.ssh("syslog remotehost list"))
        assert "Remote logging server(s):" in listed
        assert f"  {address}:{remote.port}, {protocol}" in listed.splitlines()
        done(house.ssh("status zone"))
        house.loop.run(
            until(lambda: any("status zone" in each for each in remote.texts), "it was sent")
        )
        done(house.ssh(f"syslog remotehost delete {address}"))
        assert house.ssh(f"syslog remotehost delete {address}").status == 1
    first = remote.messages[0]
    assert first.startswith(b"<174>1 ")


def test_a_host_that_comes_late_gets_what_waited(house: SshHouse) -> None:
    address = random_loopback()
    with LogHost(address, "tcp") as probe:
        port = probe.port
    done(house.ssh(f"syslog remotehost add {address} -port {port} -protocol tcp"))
    done(house.ssh("status cpu"))
    with LogHost(address, "tcp", port) as remote:
        house.loop.run(
            until(lambda: any("status cpu" in each for each in remote.texts), "it was sent")
        )


def test_a_dead_remote_host_holds_nobody_up_and_what_it_missed_is_counted(
    house: SshHouse,
) -> None:
    address = random_loopback()
    with LogHost(address, "tcp") as probe:
        port = probe.port
    done(house.ssh(f"syslog remotehost add {address} -port {port} -protocol tcp"))
    for number in range(MAX_QUEUED + 50):
        logging.getLogger(LUSH_LOGGER).info("flood %d", number)
    done(house.ssh("status mem"))
    with LogHost(address, "tcp", port) as remote:

        def counted() -> Any:
            return any("lines could not be sent" in each for each in remote.texts)

        house.loop.run(until(counted, "the loss was told"))
        assert "flood 0" in remote.texts


def test_a_host_that_reads_nothing_holds_no_connection(
    house: SshHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_logs, "SEND_SECONDS", 0.2)
    address = random_loopback()

    def connections() -> int:
        """Count established connections to the host; one that was closed with lines is one."""
        wanted = socket.inet_aton(address)[::-1].hex().upper()
        rows = [row.split() for row in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        return sum(row[2].startswith(wanted) and row[3] == "01" for row in rows)

    async def flood() -> None:
        while connections():
            for _ in range(50):
                logging.getLogger(LUSH_LOGGER).info("flood %s", 8000 * "x")
            await asyncio.sleep(0.01)

    with socket.create_server((address, 0)) as listener:
        port = listener.getsockname()[1]
        done(house.ssh(f"syslog remotehost add {address} -port {port} -protocol tcp"))
        house.loop.run(until(lambda: connections() == 1, "the host was connected to"))
        house.loop.run(flood())
        done(house.ssh(f"syslog remotehost delete {address}"))


@pytest.mark.parametrize("name", ["a..b", f"{64 * 'a'}.org", "-a", "[::1", "a_"])
def test_names_of_remote_hosts_have_a_rule(house: SshHouse, name: str) -> None:
    refused = house.ssh(f"syslog remotehost add {name}")
    assert (refused.status, house.appliance.syslog.remote_hosts) == (1, ()), refused
    done(house.ssh("syslog remotehost add [::1] -port 5140"))
    assert "  [::1]:5140, udp" in done(house.ssh("syslog remotehost list"))
    done(house.ssh("syslog remotehost delete [::1]"))


def test_lines_over_tls_go_to_a_host_that_proves_itself_only(tmp_path: Path) -> None:
    address, other = random_loopback(), random_loopback()
    now = datetime.datetime.now(datetime.UTC)
    ensure_webserver_certificate(tmp_path, "loghost", [address], now)
    logs = LogSettings(remote_ca_file=str(tmp_path / "server.pem"))
    with (
        open_ssh_house(tmp_path / "house", logs=logs) as house,
        LogHost(address, "tls", tls_directory=tmp_path) as right,
        LogHost(other, "tls", tls_directory=tmp_path) as misnamed,
    ):
        for each, host in ((right, address), (misnamed, other)):
            done(house.ssh(f"syslog remotehost add {host} -port {each.port} -protocol tls"))
        done(house.ssh("status zone"))
        house.loop.run(
            until(lambda: any("status zone" in each for each in right.texts), "it was sent")
        )
        syslog = house.appliance.syslog
        house.loop.run(until(lambda: errors(house)[other] != "", "the name was refused"))
        assert "IP address mismatch" in errors(house)[other]
        assert (errors(house)[address], misnamed.messages) == ("", [])
        done(house.ssh(f"syslog remotehost delete {address}"))
        # By the appliance's clock the certificate holds no more (rule T1).
        house.loop.run(house.appliance.time.set(date="2190-01-01"))
        done(house.ssh(f"syslog remotehost add {address} -port {right.port} -protocol tls"))
        house.loop.run(until(lambda: errors(house)[address] != "", "the dates were refused"))
        assert "holds from" in errors(house)[address]
        done(house.ssh("syslog remotehost add loghost.test -protocol tls"))
        assert [each.port for each in syslog.remote_hosts if each.port < 10_000] == [6514]


def errors(house: SshHouse) -> dict[str, str]:
    syslog = house.appliance.syslog
    return {each.address: syslog.last_error(each.host_id) for each in syslog.remote_hosts}
