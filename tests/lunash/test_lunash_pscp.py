"""PuTTY's pscp, by which the guide's Windows users move packages and backups, by both protocols."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.ssh_house import PASSWORDS, Answer, SshHouse, open_ssh_house

pytestmark = pytest.mark.system
BOTH = pytest.mark.parametrize("protocol", ["-sftp", "-scp"])


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshHouse]:
    with open_ssh_house(tmp_path_factory.mktemp("pscp") / "house") as opened:
        yield opened


def pscp(house: SshHouse, tmp_path: Path, protocol: str, *paths: str, password: str = "") -> Answer:
    """Run pscp as admin; `{}` in a path stands for the appliance."""
    secret = tmp_path / "secret"
    secret.write_text((password or PASSWORDS["admin"]) + "\n")
    listed = subprocess.run(
        ["ssh-keygen", "-l", "-f", str(house.target.host_key)],
        check=True,
        capture_output=True,
        text=True,
    )
    arguments = [
        *("pscp", "-batch", protocol, "-P", str(house.port), "-pwfile", str(secret)),
        *("-hostkey", listed.stdout.split()[1]),
        *(path.format(f"admin@{house.address}") for path in paths),
    ]
    return house.program(arguments, "admin", None, "")


@BOTH
def test_pscp_uploads_and_downloads(house: SshHouse, tmp_path: Path, protocol: str) -> None:
    content = os.urandom(300_000)
    (tmp_path / "up.txt").write_bytes(content)
    up = pscp(house, tmp_path, protocol, str(tmp_path / "up.txt"), "{}:pscp.txt")
    assert up.status == 0, up
    down = pscp(house, tmp_path, protocol, "{}:pscp.txt", str(tmp_path / "down.txt"))
    assert down.status == 0, down
    assert (tmp_path / "down.txt").read_bytes() == content
    assert "pscp.txt" in house.ssh("my", "file", "list").out


@BOTH
def test_pscp_stays_inside_the_users_files(house: SshHouse, tmp_path: Path, protocol: str) -> None:
    (tmp_path / "up.txt").write_text("x")
    outside = ("{}:/etc/passwd", "{}:../../hsm/state")
    for remote in outside:
        got = pscp(house, tmp_path, protocol, remote, str(tmp_path / "got"))
        assert got.status != 0, (remote, got)
        assert not (tmp_path / "got").exists()
    pscp(house, tmp_path, protocol, str(tmp_path / "up.txt"), "{}:../escaped.txt")
    area = house.appliance.paths.files
    assert all(path.is_relative_to(area) for path in house.directory.rglob("escaped.txt"))


@BOTH
def test_pscp_with_a_wrong_password_is_refused(
    house: SshHouse, tmp_path: Path, protocol: str
) -> None:
    (tmp_path / "up.txt").write_text("x")
    up = pscp(house, tmp_path, protocol, str(tmp_path / "up.txt"), "{}:", password="Wrong-1-word")
    assert up.status != 0
