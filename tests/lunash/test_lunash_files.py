"""Changes of a user's files over scp and sftp: all recorded, one rule of names, one quota."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from conclave.appliance.users import Login
from conclave.audit.events import AuditEvent, EventKind, Outcome
from conclave.audit.log import AuditLog
from conclave.errors import InternalFault
from conclave.lunash.file_records import FileChange, FileRecords
from conclave.lunash.files import MAX_READ_BYTES
from conclave.settings import FileSettings
from tests.support.rest_house import ADMIN, OPERATOR
from tests.support.ssh_house import SshHouse, open_ssh_house

pytestmark = pytest.mark.system
MIB = 1 << 20
LIMITS = FileSettings(max_file_bytes=2 * MIB, max_user_bytes=2 * MIB)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[SshHouse]:
    with open_ssh_house(tmp_path / "house", files=LIMITS) as opened:
        yield opened


def put(directory: Path, name: str, size: int = 1) -> str:
    path = directory / name
    path.write_bytes(bytes(size))
    return str(path)


def records(house: SshHouse) -> list[dict[str, Any]]:
    """Return the records about files, the oldest first."""
    lines, _ = house.loop.run(house.appliance.audit.page(0, 1000))
    found = [json.loads(line) for line in lines]
    return [each for each in reversed(found) if each["operation"].startswith("file.")]


def words(house: SshHouse) -> list[tuple[str, str, str]]:
    return [
        (each["operation"], each["outcome"], each["target"].rsplit("/", 1)[-1])
        for each in records(house)
    ]


@pytest.mark.parametrize("protocol", ["sftp", "scp"])
def test_every_change_is_recorded_with_who_whence_what_and_how_it_ended(
    house: SshHouse, tmp_path: Path, protocol: str
) -> None:
    flag = "-s" if protocol == "sftp" else "-O"
    assert house.scp(put(tmp_path, "a.txt", 5), "{}:", options=[flag]).status == 0
    (uploaded,) = records(house)
    assert uploaded["target"] == "/users/admin/files/a.txt"
    assert uploaded["arguments"] == {"protocol": protocol, "size": 5}
    assert (uploaded["user"], uploaded["role"]) == ("admin", "admin")
    assert (uploaded["door"], uploaded["source"]) == ("lunash", "127.0.0.1")
    assert house.sftp("rename a.txt b.txt\n").status == 0
    renamed = records(house)[-1]
    assert renamed["arguments"] == {"protocol": "sftp", "newName": "b.txt"}
    assert house.sftp("rm b.txt\n").status == 0
    assert house.sftp("rm b.txt\n").status != 0
    assert house.scp(put(tmp_path, "c.txt"), "{}:", options=[flag]).status == 0
    assert house.ssh("my file delete c.txt").status == 0
    assert words(house) == [
        ("file.upload", "done", "a.txt"),
        ("file.rename", "done", "a.txt"),
        ("file.delete", "done", "b.txt"),
        ("file.delete", "refused", "b.txt"),
        ("file.upload", "done", "c.txt"),
        ("file.delete", "done", "c.txt"),
    ]


@pytest.mark.parametrize("protocol", [["-s"], ["-O"]])
def test_the_rule_of_names_holds_for_uploads_and_renames(
    house: SshHouse, tmp_path: Path, protocol: list[str]
) -> None:
    for name in ("server.pem", "a.exe"):
        assert house.scp(put(tmp_path, name), "{}:", options=protocol).status != 0
    assert house.scp(put(tmp_path, "a.txt"), "{}:", options=protocol).status == 0
    assert house.sftp("rename a.txt a.exe\n").status != 0
    assert house.sftp("rename -l a.txt server.pem\n").status != 0
    assert [each.name for each in house.appliance.files.list("admin")] == ["a.txt"]
    assert words(house) == [
        ("file.upload", "refused", "server.pem"),
        ("file.upload", "refused", "a.exe"),
        ("file.upload", "done", "a.txt"),
        ("file.rename", "refused", "a.txt"),
        ("file.rename", "refused", "a.txt"),
    ]
    assert {each["fault"] for each in records(house) if each["outcome"] == "refused"} == {
        "SERVERPLUGIN_INVALID_PATTERN_DETECTED"
    }


def test_a_name_is_bounded_and_escaped_in_its_record(house: SshHouse) -> None:
    async def offer() -> None:
        async with (
            await connect(house) as connection,
            connection.start_sftp_client() as sftp,
        ):
            for name in (b"\x1b[2J\n\xff.txt", b"n" * 3000 + b".txt"):
                with pytest.raises(asyncssh.SFTPError):
                    await sftp.open(name, "wb")

    house.loop.run(offer())
    targets = [each["target"].removeprefix("/users/admin/files/") for each in records(house)]
    assert len(targets) == 2
    assert targets[0].startswith("\\x1b[2J\\n")
    assert all(target.isprintable() and len(target) <= 80 for target in targets)


@pytest.mark.parametrize("protocol", [["-s"], ["-O"]])
def test_the_bytes_of_a_user_are_bounded(
    house: SshHouse, tmp_path: Path, protocol: list[str]
) -> None:
    assert house.scp(put(tmp_path, "a.bin", MIB), "{}:", options=protocol).status == 0
    refused = house.scp(put(tmp_path, "b.bin", MIB + 1), "{}:", options=protocol)
    assert refused.status != 0
    if protocol == ["-O"]:
        assert f"{2 * MIB} bytes together (files.max_user_bytes)" in refused.err
    assert [each.name for each in house.appliance.files.list("admin")] == ["a.bin"]
    assert words(house)[-1] == ("file.upload", "refused", "b.bin")
    assert house.scp(put(tmp_path, "b.bin", MIB), "{}:", options=protocol).status == 0


def test_an_upload_that_breaks_off_is_recorded_and_leaves_nothing(house: SshHouse) -> None:
    async def break_off() -> None:
        connection = await connect(house)
        sftp = await connection.start_sftp_client()
        upload = await sftp.open("half.bin", "wb")
        await upload.write(b"half of what was to come")
        connection.abort()
        async with asyncio.timeout(60):
            while any(house.appliance.paths.files.rglob(".part-*")):  # noqa: ASYNC110 - a directory
                await asyncio.sleep(0.02)

    house.loop.run(break_off())
    assert words(house) == [("file.upload", "failed", "half.bin")]
    assert house.appliance.files.list("admin") == ()


@pytest.mark.parametrize("protocol", ["sftp", "scp"])
def test_downloads_are_recorded_as_over_rest(
    house: SshHouse, tmp_path: Path, protocol: str
) -> None:
    house.appliance.files.store("admin", "a.txt", [b"content"])
    flag = "-s" if protocol == "sftp" else "-O"
    target = tmp_path / "a.txt"
    assert house.scp("{}:a.txt", str(target), options=[flag]).status == 0
    assert target.read_bytes() == b"content"
    assert house.sftp("get b.txt\n").status != 0
    (downloaded,) = records(house)
    assert words(house) == [("file.download", "done", "a.txt")]
    assert downloaded["arguments"] == {"protocol": protocol}
    assert (downloaded["user"], downloaded["source"]) == ("admin", "127.0.0.1")


def test_one_answer_has_a_bounded_part_of_a_file(tmp_path: Path) -> None:
    async def read(house: SshHouse) -> None:
        async with (
            await connect(house) as connection,
            connection.start_sftp_client() as sftp,
            # The size is asked for as it is, by one request.
            sftp.open("a.bin", "rb", block_size=0) as opened,
        ):
            part = await opened.read((1 << 32) - 1, 0)
            assert len(part) == MAX_READ_BYTES
            assert len(await opened.read((1 << 32) - 1, len(part))) == 1000
            assert not await opened.read(1000, (1 << 64) - 1)

    with open_ssh_house(tmp_path / "house") as house:
        house.appliance.files.store("admin", "a.bin", [bytes(MAX_READ_BYTES + 1000)])
        house.loop.run(read(house))


def test_bytes_beyond_the_quota_are_refused_before_they_are_written(house: SshHouse) -> None:
    house.appliance.files.store("admin", "a.bin", [bytes(2 * MIB - 1000)])

    async def write_on() -> None:
        async with (
            await connect(house) as connection,
            connection.start_sftp_client() as sftp,
        ):
            upload = await sftp.open("b.bin", "wb")
            await upload.write(bytes(1000))
            for offset in (1000, 2 * MIB - 1, 1 << 40):
                with pytest.raises(asyncssh.SFTPFailure, match=r"at most|together"):
                    await upload.write(b"x", offset)
            (unfinished,) = house.appliance.paths.files.rglob(".part-*")
            assert unfinished.stat().st_size == 1000
            with pytest.raises(asyncssh.SFTPFailure):
                await upload.close()

    house.loop.run(write_on())
    assert words(house) == [("file.upload", "refused", "b.bin")]
    assert [each.name for each in house.appliance.files.list("admin")] == ["a.bin"]


def test_an_upload_of_a_login_that_ended_meanwhile_is_not_kept(house: SshHouse) -> None:
    async def end_login() -> None:
        async with (
            await connect(house, OPERATOR) as connection,
            connection.start_sftp_client() as sftp,
        ):
            upload = await sftp.open("a.txt", "wb")
            await upload.write(b"whole")
            await house.appliance.users.set_enabled("operator", enabled=False)
            with pytest.raises(asyncssh.SFTPError):
                await upload.close()

    house.loop.run(end_login())
    assert words(house) == [("file.upload", "failed", "a.txt")]
    assert house.appliance.files.list("operator") == ()


def test_nothing_is_changed_while_nothing_can_be_recorded(house: SshHouse) -> None:
    house.appliance.files.store("admin", "kept.txt", [b"kept"])
    audit = house.appliance.audit

    async def refused() -> None:
        async with (
            await connect(house) as connection,
            connection.start_sftp_client() as sftp,
        ):
            with unwritable(audit):
                with pytest.raises(InternalFault):
                    await audit.write(AuditEvent(kind=EventKind.LOG, outcome=Outcome.DONE))
                for change in (
                    sftp.open("kept.txt", "rb"),
                    sftp.open("new.txt", "wb"),
                    sftp.remove("kept.txt"),
                    sftp.rename("kept.txt", "other.txt"),
                    sftp.posix_rename("kept.txt", "other.txt"),
                ):
                    with pytest.raises(asyncssh.SFTPFailure, match="audit log cannot be written"):
                        await change
            await audit.write(AuditEvent(kind=EventKind.LOG, outcome=Outcome.DONE))
            await sftp.remove("kept.txt")

    house.loop.run(refused())
    assert words(house) == [("file.delete", "done", "kept.txt")]


@contextlib.contextmanager
def unwritable(audit: AuditLog) -> Iterator[None]:
    """Have a pipe in place of the log's file, which takes nothing."""
    current = audit._files._current
    kept = os.dup(current)
    reader, writer = os.pipe()
    os.close(reader)
    os.dup2(writer, current)
    try:
        yield
    finally:
        os.dup2(kept, current)
        os.close(kept)
        os.close(writer)


@pytest.mark.parametrize("end", [OSError("broken"), asyncio.CancelledError("stopped")])
def test_a_change_that_the_disk_or_a_stop_breaks_is_recorded(
    house: SshHouse, end: BaseException
) -> None:
    async def login() -> Login:
        user, password = ADMIN
        return await house.appliance.users.authenticate(user, password, source="192.0.2.1")

    appliance = house.appliance
    kept = FileRecords(
        appliance.audit,
        appliance.users,
        house.loop.run(login()),
        source="192.0.2.1",
        protocol="sftp",
    )
    with pytest.raises(type(end)), kept.refusals(FileChange("file.delete", b"a.txt")):
        raise end
    assert words(house) == [("file.delete", "failed", "a.txt")]


async def connect(house: SshHouse, login: tuple[str, str] = ADMIN) -> asyncssh.SSHClientConnection:
    user, password = login
    return await asyncssh.connect(
        house.address, house.port, username=user, password=password, known_hosts=None
    )
