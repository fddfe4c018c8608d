"""Rules D2 and D3: the secure package brings the cluster service and takes it away again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from conclave.settings import PackageSettings
from conclave.versions import Versions
from tests.rest.test_rest_guide import (
    PO,
    SO,
    chapter_2_partition,
    chapter_2_service,
    chapter_3,
    expect,
    follow_task,
)
from tests.support.release import release, trust
from tests.support.rest_house import ADMIN, OPERATOR, Client, House, open_house, settle_users

FILES = "/api/lunasa/packageFiles"
PACKAGE = "lnh_cluster-1.0.4-1.spkg"


@pytest.fixture
def bare(tmp_path: Path) -> Iterator[House]:
    """Open an appliance without the cluster's package, which has the package file uploaded."""
    settings = PackageSettings(cluster_service="package")
    with open_house(tmp_path / "appliance", packages=settings) as opened:
        settle_users(opened)
        trust(opened.appliance.paths.release_keys, tmp_path)
        upload(opened, PACKAGE, release().content)
        yield opened


def upload(house: House, name: str, content: bytes) -> None:
    house.appliance.files.store(ADMIN[0], name, [content])


def use(client: Client, code: str, **more: object) -> httpx.Response:
    return use_file(client, code, more, "?VerifyOnly=false")


def use_file(client: Client, code: str, more: dict[str, object], query: str) -> httpx.Response:
    body = {"authCode": code, "fileName": PACKAGE} | more
    answer = client.post(f"{FILES}{query}", body)
    return follow_task(client, answer.headers["Location"]) if answer.status_code == 202 else answer


def install(client: Client) -> None:
    done = expect(use(client, release().authorization_code, useEvp=True), 202, 200).json()
    assert (done["name"], done["version"], done["installed"]) == ("lnh_cluster", "1.0.4", True)


def test_d2_without_the_package_there_is_nothing_of_a_cluster(bare: House) -> None:
    client = bare.client()
    assert client.get("/api/lunasa/packages").json() == {"packages": []}
    for path in ("/api/cluster/config", "/api/clusters", "/api/keyrings", "/api/cluster/ca"):
        refused = client.get(path)
        assert (refused.status_code, refused.json()["id"]) == (404, "APPLIANCE_PACKAGE_NOT_FOUND")
        assert "lnh_cluster is not installed" in refused.json()["details"]
    services = {each["id"] for each in client.get("/api/lunasa/services").json()["services"]}
    assert services.isdisjoint({"cluster", "clusteradmin"})
    assert client.post("/api/lunasa/services/cluster/actions/start").status_code == 404


def test_the_package_is_verified_installed_runs_and_is_removed(bare: House) -> None:
    client = bare.client().open_session()
    checked = use_file(client, release().authorization_code, {}, "?VerifyOnly=true").json()
    assert (checked["version"], checked["installed"]) == ("1.0.4", False)
    assert client.get("/api/lunasa/packages").json() == {"packages": []}
    # As the guide has it, the HSM SO is logged in for the installation.
    refused = use(client, release().authorization_code)
    assert (refused.status_code, refused.json()["id"]) == (401, "HSMPLUGIN_SO_NOT_AUTHENTICATED")
    chapter_2_partition(client, bare)
    expect(use(client, release().authorization_code), 202, 200)
    (listed,) = client.get("/api/lunasa/packages").json()["packages"]
    assert listed["id"] == "cluster_service-1.0.4-1.x86_64"
    chapter_2_service(client, bare)
    chapter_3(client)
    pids = bare.appliance.pids()
    assert {"cluster", "worker-0"} <= set(pids)
    directory = bare.appliance.paths.packages / "lnh_cluster-1.0.4-1"
    for name in ("cluster", "worker-0"):
        environment = Path(f"/proc/{pids[name]}/environ").read_bytes().split(b"\0")
        assert f"PYTHONPATH={directory}".encode() in environment
    refused = client.delete("/api/lunasa/packages/lnh_cluster")
    assert (refused.status_code, refused.json()["id"]) == (409, "APPLIANCE_PACKAGE_IN_USE")
    stopped = expect(client.post("/api/lunasa/services/cluster/actions/stop"), 204)
    expect(follow_task(client, stopped.headers["Location"]), 204)
    expect(client.delete("/api/lunasa/packages/lnh_cluster"), 204)
    assert client.get("/api/clusters").status_code == 404


def test_s5_a_newer_package_asks_for_a_restart(bare: House) -> None:
    client = bare.client().open_session()
    install(client)
    chapter_2_partition(client, bare)
    chapter_2_service(client, bare)
    cluster = chapter_3(client)
    (member,) = client.get(f"{cluster}/members").json()["data"]
    assert member["restartService"] is False
    newer = release("1.0.5", 2)
    upload(bare, PACKAGE, newer.content)
    expect(use(client, newer.authorization_code, useEvp=True), 202, 200)
    (member,) = client.get(f"{cluster}/members").json()["data"]
    assert member["restartService"] is True


@pytest.mark.parametrize(("enforced", "status"), [(True, 409), (False, 204)])
def test_d6_below_the_least_versions_the_service_does_not_start(
    enforced: bool, status: int, tmp_path: Path
) -> None:
    old = Versions(appliance="7.8.4", firmware="7.8.4")
    settings = PackageSettings(cluster_service="preinstalled", minimum_versions=enforced)
    with open_house(tmp_path / "appliance", packages=settings, emulated=old) as opened:
        settle_users(opened)
        client = opened.client().open_session()
        chapter_2_partition(client, opened)
        (address,) = opened.appliance.config.interfaces.values()
        core = {"service": "core", "IpAddress": address}
        expect(client.put("/api/cluster/config", core), 204)
        answer = client.post("/api/lunasa/services/cluster/actions/start")
        assert answer.status_code == status
        if enforced:
            assert "appliance is 7.8.4, at least 7.8.5 is needed" in answer.json()["details"]


@pytest.mark.parametrize(
    ("change", "status", "fault"),
    [
        ({"authCode": "0123456789abcdef"}, 403, "APPLIANCE_PACKAGE_AUTHCODE_INVALID"),
        ({"authCode": "short"}, 400, "FRAMEWORK_BAD_REQUEST"),
        ({"fileName": "other.spkg"}, 404, "SERVERPLUGIN_FILEID_DOES_NOT_EXIST"),
        ({"fileName": "../admin/x.spkg"}, 400, "FRAMEWORK_BAD_REQUEST"),
        ({"useDes3": True}, 400, "FRAMEWORK_BAD_REQUEST"),
    ],
)
def test_what_is_wrong_is_named_and_changes_nothing(
    change: dict[str, object], status: int, fault: str, bare: House
) -> None:
    client = bare.client()
    given = {"useEvp": True} | change
    refused = use(client, str(given.pop("authCode", release().authorization_code)), **given)
    assert (refused.status_code, refused.json()["id"]) == (status, fault)
    assert release().authorization_code not in refused.text
    assert client.get("/api/lunasa/packages").json() == {"packages": []}


def test_a_forged_or_cut_off_package_is_refused(bare: House) -> None:
    client = bare.client()
    content = release().content
    forged = bytearray(content)
    forged[200] ^= 1
    for bad, fault in [
        (bytes(forged), "APPLIANCE_PACKAGE_SIGNATURE_INVALID"),
        (content[:-1], "APPLIANCE_PACKAGE_DAMAGED"),
        (b"", "APPLIANCE_PACKAGE_DAMAGED"),
    ]:
        upload(bare, PACKAGE, bad)
        assert use(client, release().authorization_code, useEvp=True).json()["id"] == fault
    assert client.get("/api/lunasa/packages").json() == {"packages": []}


def test_only_an_admin_installs(bare: House) -> None:
    assert use(bare.client(OPERATOR), "0123456789abcdef").status_code == 403


def test_d3_v0_partitions_are_closed_while_the_package_is_there_and_unharmed(bare: House) -> None:
    client = bare.client().open_session()
    hsm = bare.hsm_url
    expect(client.put(hsm, {"label": "hsm", "password": SO, "domain": "domain"}), 204)
    expect(client.post(f"{hsm}/login", {"password": SO}), 204)
    made = expect(client.post(f"{hsm}/partitions", {"name": "old", "hasPso": True}), 204)
    partition = made.headers["Location"]
    expect(client.put(partition, {"password": PO, "domain": "domain"}), 204)
    login = {"password": PO, "role": "so"}
    expect(client.post(f"{partition}/login", login), 204)
    before = [client.get(f"{partition}{part}").json() for part in ("", "/roles", "/policies")]
    install(client)
    refused = client.post(f"{partition}/login", login)
    assert (refused.status_code, refused.json()["id"]) == (
        403,
        "HSMPLUGIN_PARTITION_ACCESS_DISABLED",
    )
    assert "comes back when that is removed" in refused.json()["details"]
    assert client.put(f"{partition}/roles/co", {"password": "co-password"}).status_code == 403
    expect(client.delete("/api/lunasa/packages/lnh_cluster"), 204)
    assert [
        client.get(f"{partition}{part}").json() for part in ("", "/roles", "/policies")
    ] == before
    expect(client.post(f"{partition}/login", login), 204)
