"""What a deleted demonstration left outside of its directory goes with the next one."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from conclave.demo import leftovers
from conclave.store.postgresql import account as accounts
from conclave.store.postgresql.account import Account
from conclave.store.postgresql.server import processes_in
from tests.native.waiting import wait_until

OTHER = Account("other", os.geteuid() + 1, os.getegid())
OURS = Account("ours", os.geteuid(), os.getegid())


@pytest.fixture(autouse=True)
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = tmp_path / "system"
    monkeypatch.setattr(accounts, "SYSTEM_DIRECTORY", directory)
    return directory


def instance(state_dir: Path, *, noted: bool) -> Path:
    """Make a state directory and its data; return those."""
    state_dir.mkdir()
    data = accounts.directories(state_dir, OTHER).data
    data.mkdir(parents=True)
    (data / "PG_VERSION").write_text("15\n")
    if noted:
        leftovers.note(state_dir, OTHER)
    return data


def test_only_the_data_of_a_demonstration_that_is_gone_are_removed(tmp_path: Path) -> None:
    gone, there, foreign = (tmp_path / name for name in ("gone", "there", "foreign"))
    lost = instance(gone, noted=True)
    kept = [instance(there, noted=True), instance(foreign, noted=False)]
    gone.rmdir()
    foreign.rmdir()
    assert leftovers.sweep(OTHER) == [gone]
    assert not lost.parent.exists()
    assert all(data.exists() for data in kept)
    assert leftovers.sweep(OTHER) == []


def test_the_account_may_pass_the_directory_whatever_the_umask_is(
    tmp_path: Path, system: Path
) -> None:
    (tmp_path / "there").mkdir()
    before = os.umask(0o077)
    try:
        leftovers.note(tmp_path / "there", OTHER)
    finally:
        os.umask(before)
    assert system.stat().st_mode & 0o777 == 0o755


def test_data_that_a_server_works_on_stay_until_it_has_ended(tmp_path: Path) -> None:
    state_dir = tmp_path / "running"
    data = instance(state_dir, noted=True)
    state_dir.rmdir()
    program = tmp_path / "postgres"
    shutil.copy("/bin/sleep", program)
    with subprocess.Popen([program, "300"], cwd=data) as process:
        try:
            # The kernel lets go of whoever starts it before it gives it its name.
            assert wait_until(lambda: processes_in(data) == [process.pid])
            assert leftovers.sweep(OTHER) == []
            assert data.exists()
        finally:
            process.kill()
    assert leftovers.sweep(OTHER) == [state_dir]
    assert not data.exists()


def test_nothing_is_left_when_the_last_one_is_gone(tmp_path: Path, system: Path) -> None:
    state_dir = tmp_path / "only"
    instance(state_dir, noted=True)
    state_dir.rmdir()
    leftovers.sweep(OTHER)
    assert list(system.iterdir()) == []


def test_data_in_the_state_directory_need_no_note(tmp_path: Path, system: Path) -> None:
    leftovers.note(tmp_path, OURS)
    assert not system.exists()
    assert leftovers.sweep(OURS) == []
