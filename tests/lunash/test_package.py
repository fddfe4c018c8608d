"""The package family over ssh and scp, as chapter 2 of the guide has it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from conclave.settings import PackageSettings
from tests.support.release import release, trust
from tests.support.ssh_house import SshHouse, open_ssh_house

pytestmark = pytest.mark.system
SO = "Sophie-Officer-1"
PACKAGE = "lnh_cluster-1.0.4-1.spkg"
CODE = release().authorization_code


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshHouse]:
    directory = tmp_path_factory.mktemp("package")
    settings = PackageSettings(cluster_service="package")
    with open_ssh_house(directory, packages=settings) as opened:
        trust(opened.appliance.paths.release_keys, directory)
        yield opened


def test_d2_a_package_is_sent_verified_installed_listed_and_removed(
    house: SshHouse, tmp_path: Path
) -> None:
    assert "cluster" not in house.ssh("help").out
    absent = house.ssh("cluster list")
    assert (absent.status, "once the package lnh_cluster is installed" in absent.out) == (1, True)
    assert "There are no package files." in house.ssh("package listfile").lines
    (tmp_path / PACKAGE).write_bytes(release().content)
    assert house.scp(str(tmp_path / PACKAGE), "{}:").status == 0
    assert PACKAGE in house.ssh("package listfile").lines
    verified = house.ssh(f"package verify {PACKAGE} -authcode {CODE}")
    assert verified.status == 0, verified
    assert "Command succeeded:  verify package signature" in verified.lines
    # The HSM SO is not logged in to a session of one command.
    refused = house.ssh(f"package update {PACKAGE} -authcode {CODE} -force")
    assert (refused.status, "SO" in refused.out) == (1, True)
    assert "cluster_service" not in house.ssh("package list").out
    updated = house.ssh(f"package update {PACKAGE} -useevp", stdin=f"{CODE}\nproceed\n")
    assert updated.status == 0, updated
    assert "SOFTWARE UPDATE COMPLETED!" in updated.lines
    assert CODE not in updated.out
    assert "cluster_service-1.0.4-1.x86_64" in house.ssh("package list").lines
    again = house.ssh(f"package update {PACKAGE} -authcode {CODE} -useevp -force")
    assert (again.status, "is installed already" in again.out) == (1, True)
    assert f"Command failed: RPM update for original filename ({PACKAGE})" in again.lines
    # Sessions that open now have the family.
    assert "cluster_service" in house.ssh("package list -json").out
    assert "member" in house.ssh("help cluster").out
    assert house.ssh("package remove lnh_cluster -force").status == 0
    assert "cluster" not in house.ssh("help").out


def test_a_wrong_code_and_a_missing_file_are_named(house: SshHouse) -> None:
    missing = house.ssh(f"package verify other.spkg -authcode {CODE}")
    assert (missing.status, "no file 'other.spkg'" in missing.out) == (1, True)
    shape = house.ssh("package verify other.spkg -authcode short")
    assert (shape.status, "16" in shape.out) == (1, True)
