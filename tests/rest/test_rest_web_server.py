"""The webserver's settings and blocklist, and the file for support."""

from __future__ import annotations

from pathlib import Path

from tests.rest.test_rest_guide import CO, SO, chapter_2_partition
from tests.support.rest_house import ADMIN, MONITOR, OPERATOR, House, open_house, settle_users

WEB = "/api/lunasa/webServer"
MIB = 1 << 20


def test_the_limit_of_uploads_changes_at_once_and_stays(tmp_path: Path) -> None:
    with open_house(tmp_path / "appliance") as house:
        settle_users(house)
        client = house.client(OPERATOR)
        assert client.get(WEB).json()["maxFileSize"] == house.appliance.config.files.max_file_bytes
        assert client.patch(WEB, {"maxFileSize": MIB}).status_code == 204
        form = {"headers": {"Content-Type": None}, "files": {"file": ("a.txt", bytes(MIB + 1))}}
        assert client.post("/users/operator/files", **form).status_code == 413
    with open_house(tmp_path / "appliance") as again:
        assert again.client(OPERATOR).get(WEB).json()["maxFileSize"] == MIB


def test_what_the_configuration_fixes_is_refused_by_name(house: House) -> None:
    client = house.client()
    shown = client.get(WEB).json()
    same = {name: shown[name] for name in ("cipherList", "netDevice", "port")}
    assert client.patch(WEB, same).status_code == 204
    for field, value in (("cipherList", "RC4"), ("netDevice", "eth7"), ("port", 9443)):
        refused = client.patch(WEB, {"maxFileSize": MIB, field: value})
        assert refused.status_code == 400
        assert field in refused.json()["details"]
    assert client.patch(WEB, {"netDevice": "eth0"}).status_code == 204
    assert client.get(WEB).json() == shown | {"netDevice": "eth0"}
    assert client.patch(WEB, {"netDevice": "all"}).status_code == 204
    assert client.get(WEB).json() == shown
    assert client.patch(WEB, {"maxFileSize": 10}).status_code == 400


def test_the_blocklist_names_who_has_to_wait(house: House) -> None:
    stranger = house.client(("nobody", "Wrong-Password-1"), source="192.0.2.77")
    admin = house.client()
    assert admin.get(f"{WEB}/blocklist").json() == {"blocklist": []}
    for number in range(25):
        house.client((f"nobody{number}", "Wrong-Password-1"), source="192.0.2.77").get(WEB)
    assert stranger.get(WEB).status_code == 429
    for name in ("blocklist", "blacklist"):
        (blocked,) = admin.get(f"{WEB}/{name}").json()[name]
        assert blocked["id"] == "192.0.2.77"
        assert 1 <= blocked["waitSeconds"] <= 30
        assert house.client(MONITOR).get(f"{WEB}/{name}").status_code == 403


def test_support_info_names_versions_and_holds_no_secret(house: House) -> None:
    client = house.client().open_session()
    chapter_2_partition(client, house)
    written = client.post(f"{house.hsm_url}/supportInfo")
    url = "/users/admin/files/supportInfo.txt"
    assert (written.status_code, written.headers["Location"]) == (201, url)
    text = client.get(f"{url}/download?raw=true").text
    assert "\ncluster_service-" in text
    assert f"Serial number: {house.hsm_url.rpartition('/')[2]}" in text
    for secret in (SO, CO, ADMIN[1]):
        assert secret not in text
