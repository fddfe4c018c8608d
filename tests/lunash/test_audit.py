"""The audit family over ssh and scp, for the role audit alone."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from conclave.appliance.users import DEFAULT_PASSWORD
from tests.support.ssh_house import Answer, SshHouse, open_ssh_house

pytestmark = pytest.mark.system
AUDITOR, PASSWORD = "audit", "Auditor-Aud-1"


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshHouse]:
    with open_ssh_house(tmp_path_factory.mktemp("audit")) as opened:
        users = opened.appliance.users

        async def settle() -> None:
            await users.set_enabled(AUDITOR, enabled=True)
            await users.change_own_password(AUDITOR, DEFAULT_PASSWORD, PASSWORD, source="192.0.2.1")

        opened.loop.run(settle())
        yield opened


def audit(house: SshHouse, command: str) -> Answer:
    return house.ssh(f"audit log {command}", user=AUDITOR, password=PASSWORD)


def test_the_auditor_lists_reads_verifies_and_rotates(house: SshHouse) -> None:
    assert house.ssh("hsm login", user="monitor").status == 1
    listed = audit(house, "list")
    assert listed.status == 0, listed
    assert "Public Key:" in listed.out
    newest = json.loads(audit(house, "tail -entries 3 -json").out)["records"]
    assert len(newest) == 3
    shown = audit(house, "tail")
    assert any("hsm.login" in line and "refused" in line for line in shown.lines), shown.out
    files = len(house.loop.run(house.appliance.audit.summary()).files)
    assert audit(house, "rotate").status == 0
    assert len(house.loop.run(house.appliance.audit.summary()).files) == files + 1
    verified = audit(house, "verify")
    assert "The audit log is whole:" in verified.out, verified


def test_the_log_is_written_to_the_own_files_and_verified_elsewhere(
    house: SshHouse, tmp_path: Path
) -> None:
    assert audit(house, "tarlogs").status == 0
    (written,) = house.appliance.files.list(AUDITOR)
    with house.appliance.files.open(AUDITOR, written.name) as stream:
        (tmp_path / "log").write_bytes(stream.read())
    conclave = Path(sys.executable).with_name("conclave")
    done = subprocess.run(
        [conclave, "audit", "verify", tmp_path / "log"],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr


def test_nobody_else_reads_it_and_numbers_are_bounded(house: SshHouse) -> None:
    refused = house.ssh("audit log tail")
    assert (refused.status, "audit may" in refused.out) == (1, True), refused
    bad = audit(house, "tail -entries 101")
    assert (bad.status, "between 1 and 100; it is 101" in bad.out) == (1, True), bad
