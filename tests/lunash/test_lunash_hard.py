"""LunaSH under hardship: keys, uploads that must not be, a crowd, clients that say nothing."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import asyncssh
import pytest

from conclave import faults
from conclave.appliance.login_delays import USER_RULE
from conclave.appliance.public_keys import parse_public_key
from conclave.lunash.files import MAX_OPEN_FILES
from conclave.settings import FileSettings, SshSettings
from tests.support.rest_house import ADMIN, MONITOR
from tests.support.ssh_house import PASSWORDS, TRAILER, Answer, SshHouse, open_ssh_house

pytestmark = pytest.mark.system
LIMIT_BYTES = 1 << 20
CROWD = 100


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshHouse]:
    files = FileSettings(max_file_bytes=LIMIT_BYTES)
    with open_ssh_house(tmp_path_factory.mktemp("hard"), files=files) as opened:
        yield opened


# ---------------------------------------------------------------- keys


@pytest.fixture
def key(tmp_path: Path) -> Path:
    """Return the file of a new key; `.pub` beside it is its public half."""
    return new_key(tmp_path / "id")


def new_key(path: Path) -> Path:
    """Make a key and return its file."""
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)]
    subprocess.run(command, check=True, timeout=60)
    return path


def by_key(house: SshHouse, key: Path, user: str, *command: str) -> Answer:
    options = ["-i", str(key), "-oPreferredAuthentications=publickey"]
    return house.ssh(*command, user=user, password="", options=options)


def test_a_key_opens_lunash_to_its_user_until_it_is_removed(house: SshHouse, key: Path) -> None:
    public_keys = house.appliance.public_keys
    line = key.with_suffix(".pub").read_text()
    assert by_key(house, key, "monitor", "hsm show").status == 255
    house.loop.run(public_keys.add("monitor", parse_public_key(line)))
    answer = by_key(house, key, "monitor", "hsm show")
    assert (answer.status, TRAILER in answer.out) == (0, True), answer
    # The rights are the user's, and the key is nobody else's.
    assert "no rule" in by_key(house, key, "monitor", "hsm init").out
    assert by_key(house, key, "admin", "hsm show").status == 255
    (kept,) = public_keys.of("monitor")
    house.loop.run(public_keys.delete("monitor", kept.fingerprint))
    assert by_key(house, key, "monitor", "hsm show").status == 255
    lines, _ = house.loop.run(house.appliance.audit.page(0, 1))
    assert all(word in lines[0] for word in (b'"login"', b'"refused"', b'"monitor"')), lines


def test_junk_keys_delay_keys_of_their_source_and_no_password(key: Path, tmp_path: Path) -> None:
    # An appliance of its own: what is counted here would delay the other tests' keys.
    with open_ssh_house(tmp_path / "house") as house:
        offer_junk_keys(house, key, tmp_path)


def offer_junk_keys(house: SshHouse, key: Path, tmp_path: Path) -> None:
    users, public_keys = house.appliance.users, house.appliance.public_keys
    house.loop.run(
        public_keys.add("monitor", parse_public_key(key.with_suffix(".pub").read_text()))
    )
    junk = [new_key(tmp_path / f"junk{number}") for number in range(3)]
    agent = [word for each in junk for word in ("-i", str(each))]
    only_keys = ["-oPreferredAuthentications=publickey"]
    # A connection counts once, however many keys it offers: the right one after others is fine.
    for _ in range(USER_RULE.free_failures):
        refuse_keys(house, [*agent, *only_keys])
    offered = [*agent, "-i", str(key), *only_keys]
    assert house.ssh("help", user="monitor", password="", options=offered).status == 0
    assert house.ssh("help", user="monitor", options=agent).status == 0
    refuse_keys(house, [*agent, *only_keys])
    for _ in range(USER_RULE.free_failures - 1):
        users.key_delays.failed("monitor", "127.0.0.1")
    assert not users.key_delays.waits("monitor", "127.0.0.1")
    users.key_delays.failed("monitor", "127.0.0.1")
    # It waits, so the refused connection was counted.
    assert users.key_delays.waits("monitor", "127.0.0.1")
    for _ in range(8):
        users.key_delays.failed("monitor", "127.0.0.1")
    # Now even the right key must wait, the password need not.
    refuse_keys(house, ["-i", str(key), *only_keys])
    lines, _ = house.loop.run(house.appliance.audit.page(0, 1))
    assert faults.LOGIN_DELAYED.rest_id.encode() in lines[0]
    assert house.ssh("help", user="monitor").status == 0
    users.key_delays.succeeded("monitor", "127.0.0.1")
    assert by_key(house, key, "monitor", "help").status == 0
    house.loop.run(public_keys.clear("monitor"))


class OtherName(asyncssh.SSHClient):
    """Offers a key in one user's name and goes on in another's."""

    connection: asyncssh.SSHClientConnection

    def connection_made(self, conn: asyncssh.SSHClientConnection) -> None:
        self.connection = conn

    def password_auth_requested(self) -> str:
        self.connection._username, password = MONITOR
        return password


def test_keys_in_anothers_name_are_seen_and_counted_whoever_logs_in_after_them(
    key: Path, tmp_path: Path
) -> None:
    async def offer(house: SshHouse) -> None:
        with pytest.raises(asyncssh.PermissionDenied, match="must not change"):
            await asyncssh.create_connection(
                OtherName,
                house.address,
                house.port,
                username="admin",
                client_keys=[str(key)],
                agent_path=None,
                known_hosts=None,
                config=None,
            )

    with open_ssh_house(tmp_path / "house") as house:
        house.loop.run(offer(house))
        count_until(house, 1)
        lines, _ = house.loop.run(house.appliance.audit.page(0, 1))
        assert b'"user":"admin"' in lines[0]
        delays = house.appliance.users.key_delays
        for _ in range(USER_RULE.free_failures):
            assert not delays.waits("admin", "127.0.0.1")
            delays.failed("admin", "127.0.0.1")
        # One more than these were counted.
        assert delays.waits("admin", "127.0.0.1")


def refuse_keys(house: SshHouse, options: list[str]) -> None:
    """Be refused with keys alone, and wait until the server has counted it."""

    before = refused_logins(house)
    assert house.ssh("help", user="monitor", password="", options=options).status == 255
    count_until(house, before + 1)


def refused_logins(house: SshHouse) -> int:
    lines, _ = house.loop.run(house.appliance.audit.page(0, 1000))
    return sum(b'"login"' in line and b'"refused"' in line for line in lines)


def count_until(house: SshHouse, wanted: int) -> None:
    """Wait until so many refused logins were recorded."""

    async def tick() -> None:
        await asyncio.sleep(0.02)

    deadline = time.monotonic() + 60
    while refused_logins(house) < wanted:
        assert time.monotonic() < deadline, "the refused login was not recorded"
        house.loop.run(tick())


def test_a_key_of_a_disabled_user_opens_nothing(house: SshHouse, key: Path) -> None:
    appliance = house.appliance
    line = key.with_suffix(".pub").read_text()
    house.loop.run(appliance.public_keys.add("operator", parse_public_key(line)))
    assert by_key(house, key, "operator", "help").status == 0
    house.loop.run(appliance.users.set_enabled("operator", enabled=False))
    try:
        assert by_key(house, key, "operator", "help").status == 255
    finally:
        house.loop.run(appliance.users.set_enabled("operator", enabled=True))
    house.loop.run(appliance.public_keys.clear("operator"))


# ---------------------------------------------------------------- uploads


def stored(house: SshHouse) -> set[str]:
    """Return the names of all files in the file areas, finished and unfinished."""
    return {path.name for path in house.appliance.paths.files.rglob("*") if path.is_file()}


@pytest.mark.parametrize("protocol", [["-s"], ["-O"]])
def test_an_upload_over_the_limit_leaves_nothing(
    house: SshHouse, tmp_path: Path, protocol: list[str]
) -> None:
    (tmp_path / "large.bin").write_bytes(os.urandom(LIMIT_BYTES + 1))
    (tmp_path / "fits.bin").write_bytes(os.urandom(LIMIT_BYTES))
    before = stored(house)
    refused = house.scp(str(tmp_path / "large.bin"), "{}:", options=protocol)
    assert refused.status != 0
    # OpenSSH repeats the reason over the older protocol only.
    assert (str(LIMIT_BYTES) if protocol == ["-O"] else "large") in refused.err
    assert stored(house) == before
    assert house.scp(str(tmp_path / "fits.bin"), "{}:", options=protocol).status == 0
    assert stored(house) == before | {"fits.bin"}
    assert house.sftp("rm fits.bin\n").status == 0


def test_an_upload_that_breaks_off_leaves_nothing_and_keeps_what_there_was(
    house: SshHouse, tmp_path: Path
) -> None:
    (tmp_path / "kept.bin").write_bytes(b"before")
    assert house.scp(str(tmp_path / "kept.bin"), "{}:").status == 0

    async def break_off() -> None:
        connection = await connect(house)
        sftp = await connection.start_sftp_client()
        upload = await sftp.open("kept.bin", "wb")
        await upload.write(b"half of what was to come")
        # Both files are there now: the old one, and what has no name yet.
        assert len(unfinished(house)) == 1
        connection.abort()
        async with asyncio.timeout(60):
            while unfinished(house):  # noqa: ASYNC110 - it looks at a directory
                await asyncio.sleep(0.02)

    house.loop.run(break_off())
    assert (house.appliance.files.directory("admin") / "kept.bin").read_bytes() == b"before"
    assert house.sftp("rm kept.bin\n").status == 0


def unfinished(house: SshHouse) -> set[str]:
    listed = {each.name for each in house.appliance.files.list("admin")}
    return stored(house) - listed


# ---------------------------------------------------------------- crowds


async def connect(house: SshHouse, user: tuple[str, str] = ADMIN) -> asyncssh.SSHClientConnection:
    """Open a connection of asyncssh's own client, which costs less than a program of its own."""
    name, password = user
    return await asyncssh.connect(
        house.address,
        house.port,
        username=name,
        password=password,
        client_keys=None,
        agent_path=None,
        known_hosts=None,
        config=None,
        connect_timeout=80,
        login_timeout=80,
    )


async def one_of_many(house: SshHouse) -> str:
    try:
        async with await connect(house, MONITOR) as connection:
            answer = await connection.run("hsm show")
            assert TRAILER in str(answer.stdout)
    except (asyncssh.ConnectionLost, ConnectionError):
        return "refused"
    return f"status {answer.exit_status}"


def test_a_hundred_logins_at_once_are_all_served(house: SshHouse) -> None:
    async def crowd() -> list[str]:
        return await asyncio.gather(*(one_of_many(house) for _ in range(CROWD)))

    assert Counter(house.loop.run(crowd())) == {"status 0": CROWD}


def test_beyond_the_limit_connections_are_closed_and_the_others_served(tmp_path: Path) -> None:
    settings = SshSettings(max_connections=8, login_seconds=1)
    with open_ssh_house(tmp_path / "small", ssh=settings) as small:

        async def crowd() -> list[str]:
            return await asyncio.gather(*(one_of_many(small) for _ in range(20)))

        ends = Counter(small.loop.run(crowd()))
        assert ends["status 0"] + ends["refused"] == 20
        assert ends["status 0"] >= 4
        # One that says nothing is shown out when its time to log in is over.
        with socket.create_connection((small.address, small.port), timeout=60) as silent:

            def until_closed() -> bytes:
                said = b""
                while part := silent.recv(4096):
                    said += part
                return said

            assert small.loop.run(asyncio.to_thread(until_closed)).startswith(b"SSH-2.0-Conclave")


# ---------------------------------------------------------------- lines


def test_long_lines_and_control_characters_arrive_and_are_refused(house: SshHouse) -> None:
    long = "partition show -partition " + "x" * 60_000
    answer = house.ssh(stdin=f"{long}\nhsm \x07show\nhsm show\n")
    assert answer.status == 1
    assert "This HSM has no partition 'xxx" in answer.out
    assert "U+0007, at 5" in answer.out
    assert answer.out.count(TRAILER) == 1
    assert len(answer.out) < 10_000
    over = house.ssh(stdin="x" * 70_000 + "\n")
    assert (over.status, "65536 bytes at most" in over.out) == (1, True)


def test_a_files_session_is_bounded_and_ends_with_its_login(house: SshHouse) -> None:
    house.appliance.files.store("operator", "one.txt", [b"1"])

    async def scene() -> None:
        connection = await asyncssh.connect(
            house.address,
            house.port,
            username="operator",
            password=PASSWORDS["operator"],
            known_hosts=None,
            config=None,
        )
        async with connection, connection.start_sftp_client() as sftp:
            opened = [await sftp.open("one.txt", "rb") for _ in range(MAX_OPEN_FILES)]
            with pytest.raises(asyncssh.SFTPFailure):
                await sftp.open("one.txt", "rb")
            await opened.pop().close()
            opened.append(await sftp.open("one.txt", "rb"))
            await house.appliance.users.set_enabled("operator", enabled=False)
            for refused in (opened[0].read(), sftp.listdir("."), sftp.remove("one.txt")):
                with pytest.raises(asyncssh.SFTPPermissionDenied):
                    await refused
            for each in opened:
                await each.close()

    try:
        house.loop.run(scene())
    finally:
        house.loop.run(house.appliance.users.set_enabled("operator", enabled=True))
        house.appliance.files.clear("operator")
