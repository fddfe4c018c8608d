"""A tour on which every declared operation succeeds at least once."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric import rsa

from conclave.rest.openapi import OPERATIONS
from tests.rest.test_rest_certificate_login import challenge, response_to
from tests.rest.test_rest_guide import (
    CO,
    CO_FIRST,
    PO,
    SO,
    chapter_2_partition,
    chapter_2_service,
    chapter_3,
    chapter_4,
    chapter_5,
    co,
    expect,
)
from tests.rest.test_rest_user_keys import certificate_pem, ssh_line
from tests.support.rest_house import AUDITOR, VENDOR, Client, House

ELSEWHERE = {"package.list", "package.use", "package.remove"}
"""Operations that need a release: they succeed in test_rest_packages."""
NEVER = {"firmware.act"}
"""Operations that are always refused: this appliance has no second firmware."""
SEVERAL_APPLIANCES = {"cluster.join", "group.list", "member.delete", "member.leave"}
"""Operations that succeed among several members only."""


def look_at_the_appliance(client: Client) -> None:
    for path in (
        "/api/lunasa",
        "/api/lunasa/cluster",
        "/api/lunasa/hsms",
        "/api/lunasa/time",
        "/api/lunasa/time/zones",
        "/api/lunasa/services",
        "/api/lunasa/services/cluster/actions",
        "/api/lunasa/cpu",
        "/api/lunasa/memory",
        "/api/lunasa/disk",
        "/api/lunasa/disk/partitions",
        "/api/lunasa/sensors",
        "/api/lunasa/network",
        "/api/lunasa/network/devices",
        "/api/lunasa/network/devices/eth0",
        "/api/lunasa/network/devices/eth0/stats",
        "/api/lunasa/ntp",
        "/api/lunasa/ntp/status",
        "/api/lunasa/ntp/servers",
        "/api/lunasa/syslog",
        "/api/lunasa/syslog/logs",
        "/api/lunasa/syslog/remoteHosts",
        "/api/lunasa/webServer",
        "/api/lunasa/webServer/blocklist",
        "/api/lunasa/webServer/blacklist",
        "/api/cluster/config",
        "/api/openapi.json",
        "/roles",
        "/users",
        "/tasks",
    ):
        expect(client.get(path), 200)


def look_at_the_metrics(client: Client) -> None:
    expect(client.get("/metrics", headers={"Content-Type": None, "Accept": "text/plain"}), 200)


def look_at_the_hsm(client: Client, house: House, partition: str) -> None:
    hsm = house.hsm_url
    (listed,) = client.get("/api/lunasa/hsms").json()["hsms"]
    assert listed == {"id": hsm.rpartition("/")[2], "url": hsm}
    assert client.get(hsm).json()["soLoginsLeft"] == 3
    hsm_parts = ("policies", "policies/21", "roles", "roles/so", "storageSpace", "firmware")
    for path in (*hsm_parts, "firmware/actions", "time", "information", "metrics", "licenses"):
        expect(client.get(f"{hsm}/{path}"), 200)
    expect(client.post(f"{hsm}/time/actions/synchronize"), 204)
    found = client.get(f"{hsm}/partitions").json()["partitions"]
    assert [each["url"] for each in found] == [partition]
    shown = client.get(partition).json()
    assert (shown["name"], shown["version"], shown["state"]) == ("clusterpar", 1, "initialized")
    for path in ("policies", "policies/40", "roles", "roles/co"):
        expect(client.get(f"{partition}/{path}"), 200)
    roles = {each["id"]: each for each in client.get(f"{partition}/roles").json()["roles"]}
    assert sorted(roles) == ["co", "cu", "so"]
    assert (roles["co"]["initialized"], roles["co"]["pinToBeChanged"]) == (True, False)
    assert roles["cu"]["initialized"] is False


def change_the_hsm(client: Client, house: House, partition: str) -> None:
    hsm = house.hsm_url
    so = {"password": SO, "role": "so"}
    expect(client.put(f"{hsm}/policies/21", {"value": 1}), 204, 202)
    change = {"oldPassword": SO, "newPassword": "new-so-password"}
    expect(client.patch(f"{hsm}/roles/so", change), 202)
    expect(client.post(f"{hsm}/login", so | {"password": "new-so-password"}), 204)
    new = {"name": "other", "hasPso": True, "allStorageSpace": False}
    other = expect(client.post(f"{hsm}/partitions", new), 204).headers["Location"]
    expect(client.delete(other), 204)
    back = {"oldPassword": "new-so-password", "newPassword": SO}
    expect(client.patch(f"{hsm}/roles/so", back), 202)
    password = {"oldPassword": CO, "newPassword": CO_FIRST, "ped": "0"}
    expect(client.put(f"{partition}/roles/co/password", password), 204)
    back = {"oldPassword": CO_FIRST, "newPassword": CO}
    expect(client.put(f"{partition}/roles/co/password", back), 204)
    expect(client.post(f"{partition}/login", {"password": PO, "role": "so"}), 204)
    expect(client.post(f"{partition}/roles/co/actions/reset"), 204)
    expect(client.post(f"{partition}/login", {"password": CO, "role": "co"}), 204)
    expect(client.post(f"{partition}/logout", {"role": "co"}), 204)
    expect(client.post(f"{partition}/logout"), 204)
    expect(client.post(f"{hsm}/logout"), 204)


def change_the_appliance(client: Client) -> None:
    expect(client.put("/api/lunasa/time", {"time": "15:00:00", "date": "2031-05-27"}), 204)
    shown = client.get("/api/lunasa/time").json()
    assert (shown["date"], shown["time"][:5]) == ("2031-05-27", "15:00")
    expect(client.patch("/api/lunasa/time", {"timeZone": "EST"}), 204)
    assert client.get("/api/lunasa/time").json()["timeZone"] == "EST"
    expect(client.post("/api/lunasa/ntp/actions/synchronize"), 204)
    assert client.get("/api/lunasa/time").json()["date"] != "2031-05-27"
    expect(client.post("/api/lunasa/ntp/servers", {"server": "192.0.2.7"}), 204)
    expect(client.delete("/api/lunasa/ntp/servers/192.0.2.7"), 204)
    expect(client.patch("/api/lunasa/ntp", {"enabled": False}), 204)


def set_services_back(client: Client) -> None:
    made = client.post("/api/lunasa/actions/regenerateCertificate")
    expect(client.post(f"{made.headers['Location']}/actions/start"), 202)


def use_the_logs(client: Client) -> None:
    syslog = "/api/lunasa/syslog"
    (lunalogs, *_) = [each["url"] for each in client.get(f"{syslog}/logs").json()["logs"]]
    expect(client.post(lunalogs, {"entries": 3, "search": "e"}), 200)
    for action, status in (("export", 201), ("tarlogs", 201), ("rotate", 204), ("cleanup", 204)):
        expect(client.post(f"{syslog}/actions/{action}"), status)
    expect(client.post(f"{syslog}/remoteHosts", {"host": "127.0.0.1", "port": 9}), 204)
    expect(client.delete(f"{syslog}/remoteHosts/127.0.0.1:9"), 204)


def change_users(client: Client) -> None:
    new = {"userId": "joe", "password": "First-Password-1", "role": "monitor"}
    expect(client.post("/users", new), 204)
    expect(client.get("/users/joe"), 200)
    expect(client.patch("/users/joe", {"fullName": "Joe"}), 204)
    expect(client.put("/users/joe", {"email": "joe@x"}), 204)
    password = {"password": "Second-Password-2"}
    expect(client.post("/users/joe/actions/changePassword", password), 204)
    for action in ("disable", "enable", "roleClear"):
        expect(client.post(f"/users/joe/actions/{action}"), 204)
    expect(client.delete("/users/joe"), 204)


def change_roles_and_keys(client: Client, nobody: Client) -> None:
    text = {"headers": {"Content-Type": VENDOR.replace("json", "octet-stream")}}
    expect(client.post("/roles", {"roleId": "reader"}), 204)
    expect(client.put("/roles/reader/resources", content=b"GET:/users\n", **text), 204)
    expect(client.put("/acl", content=b"reader,GET,/users\n", **text), 204)
    for path in ("/roles/reader/resources", "/acl"):
        expect(client.get(path, **text), 200)
    expect(client.get("/roles/reader"), 200)
    expect(client.delete("/roles/reader"), 204)
    key = rsa.generate_private_key(65537, 2048)
    pem = certificate_pem(key)
    for kind, sent in (("publicKeys", {"key": ssh_line()}), ("certificates", {"certificate": pem})):
        added = expect(client.post(f"/users/operator/{kind}", sent), 204)
        expect(client.get(f"/users/operator/{kind}"), 200)
        expect(client.delete(added.headers["Location"]), 204)
    expect(client.delete("/users/operator/publicKeys"), 204)
    expect(client.post("/users/operator/certificate", {"certificate": pem}), 204)
    expect(
        nobody.post("/auth/login/basic", response_to(challenge(nobody, "operator", pem), key)), 204
    )
    expect(nobody.delete("/auth/session"), 204)


def move_files(client: Client, house: House) -> None:
    expect(client.patch("/api/lunasa/webServer", {"maxFileSize": 1 << 20}), 204)
    expect(client.post(f"{house.hsm_url}/supportInfo"), 201)
    form = {"headers": {"Content-Type": None}, "files": {"file": ("notes.txt", b"Hello")}}
    url = expect(client.post("/users/admin/files", **form), 204).headers["Location"]
    for path in ("/users/admin/files", url, f"{url}/download"):
        expect(client.get(path), 200)
    expect(client.delete(url), 204)
    expect(client.delete("/users/admin/files"), 204)


def read_the_audit_log(auditor: Client) -> None:
    for path in ("", "/records", "/export"):
        expect(auditor.get(f"/api/lunasa/audit{path}"), 200)
    expect(auditor.post("/api/lunasa/audit/actions/verify"), 200)
    expect(auditor.post("/api/lunasa/audit/actions/rotate"), 204)
    expect(auditor.post("/api/lunasa/audit/actions/export"), 201)


def use_a_task(client: Client) -> None:
    waiting = expect(client.post("/api/lunasa/services/cluster/actions/factoryreset"), 202)
    url = waiting.headers["Location"]
    expect(client.get(url), 200)
    expect(client.get(f"{url}/actions"), 200)
    expect(client.post(f"{url}/actions/cancel"), 204)


def test_every_operation_succeeds(house: House) -> None:
    client, nobody = house.client().open_session(), house.client(None)
    look_at_the_appliance(client)
    look_at_the_metrics(client)
    partition = chapter_2_partition(client, house)
    look_at_the_hsm(client, house, partition)
    change_the_hsm(client, house, partition)
    use_the_logs(client)
    set_services_back(client)
    change_the_appliance(client)
    change_users(client)
    change_roles_and_keys(client, nobody)
    move_files(client, house)
    identity = {"service": "identity", "mode": "dual"}
    expect(client.put("/api/cluster/config", identity), 204)
    expect(client.put("/api/cluster/config", {"service": "crypto", "port": 50055}), 204)
    expect(client.put("/api/cluster/config", {"service": "crypto", "port": 50052}), 204)
    chapter_2_service(client, house)
    cluster = chapter_3(client)
    assert expect(client.get(cluster), 200).json()["identityMode"] == "dual"
    refused = expect(client.put("/api/cluster/config", identity | {"mode": "single"}), 409)
    assert refused.json()["id"] == "CLUSTERPLUGIN_CONFIG_FIXED"
    chapter_5(client)
    chapter_4(client, nobody, cluster)
    use_a_task(client)
    auditor = house.client(AUDITOR)
    read_the_audit_log(auditor)
    expect(client.delete("/auth/session"), 204)
    answers = client.answered + nobody.answered + auditor.answered
    succeeded = {name for name, status in answers if status < 400}
    assert {each.name for each in OPERATIONS} - succeeded == SEVERAL_APPLIANCES | NEVER | ELSEWHERE


def test_ports_outside_the_ranges_are_refused_naming_both(house: House) -> None:
    client = house.client()
    refused = client.put(
        "/api/cluster/config", {"service": "crypto", "interface": "eth0", "port": 50075}
    )
    assert refused.status_code == 400
    assert "50055" in refused.json()["details"]
    assert "50059" in refused.json()["details"]


def test_the_core_address_has_two_spellings_and_one_value(house: House) -> None:
    client = house.client()
    (address,) = house.appliance.config.interfaces.values()
    both = {"service": "core", "IpAddress": address, "ipAddress": "127.9.9.9"}
    assert client.put("/api/cluster/config", both).status_code == 400
    assert client.put("/api/cluster/config", {"service": "core"}).status_code == 400
    foreign = {"service": "core", "ipAddress": "192.0.2.200"}
    assert client.put("/api/cluster/config", foreign).status_code == 400
    small = {"service": "core", "ipAddress": address}
    assert client.put("/api/cluster/config", small).status_code == 204
    assert client.get("/api/cluster/config").json()["data"][0] == {
        "service": "core",
        "IpAddress": address,
    }


def test_a_wrong_co_password_creates_nothing_and_is_counted(house: House) -> None:
    client = house.client().open_session()
    partition = chapter_2_partition(client, house)
    chapter_2_service(client, house)
    cluster = chapter_3(client)
    (member,) = client.get(f"{cluster}/members").json()["data"]
    authorize = {"action": "authorize", "authentication": co(password="wrong-password")}
    refused = client.put(f"{cluster}/members/{member['memberUUID']}", authorize)
    assert (refused.status_code, refused.json()["id"]) == (401, "HSMPLUGIN_CREDENTIAL_INCORRECT")
    left = client.get(f"{partition}/roles/co").json()["loginAttemptsLeft"]
    assert left == 9
    other = "00000000-0000-0000-0000-000000000000"
    assert client.get(f"/api/clusters/{other}").status_code == 404
    assert client.get(f"{cluster}/members/{other}").status_code == 404
    assert client.get(f"{cluster}/clients/{other}").status_code == 404
